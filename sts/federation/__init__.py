"""Session parameters and condition keys from SAML assertions and web identity tokens, and the issuer of our tokens."""
