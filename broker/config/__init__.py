"""Settings: what there is, where values come from, and what is refused."""
