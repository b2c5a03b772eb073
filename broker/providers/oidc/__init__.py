"""OpenID Connect: tokens of other issuers, verified before anybody is believed."""
