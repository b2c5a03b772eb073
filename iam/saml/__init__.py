"""SAML documents, read strictly and verified; nothing here decides who somebody is."""
