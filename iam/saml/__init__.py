"""SAML documents: strict parsing, signature verification and metadata. Authentication is not decided here."""
