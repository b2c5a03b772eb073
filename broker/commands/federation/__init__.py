"""Commands about identity providers, our own issuer, and credentials of other clouds."""
