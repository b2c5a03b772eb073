"""Passwords, second factors, and who they belong to."""
