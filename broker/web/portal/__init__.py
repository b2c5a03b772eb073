"""The roles of a person, credentials for one of them, and why a role is refused."""
