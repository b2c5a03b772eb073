"""What SAML assertions, web identity tokens and our own tokens mean to the STS."""
