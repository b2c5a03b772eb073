"""Sessions after sign-in: browser sessions, their validity, refresh, revocation and usage."""
