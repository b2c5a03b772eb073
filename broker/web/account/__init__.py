"""A person's own password, second factors and sessions."""
