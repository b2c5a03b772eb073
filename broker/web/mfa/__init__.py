"""Second factors: giving one, and setting one up."""
