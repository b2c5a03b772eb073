"""Signing in: the sign-in pages, and the step from a proof to a session."""
