"""SAML 2.0: the gate that a response passes, and what our service provider sends."""
