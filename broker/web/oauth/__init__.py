"""OAuth 2.0 endpoints: token exchange, and the keys of our issuers."""
