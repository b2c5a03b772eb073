"""The directories that prove who someone is; each returns an Identity and knows nothing of roles."""
