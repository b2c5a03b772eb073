"""Findings about policies: what is valid, and yet not what its author can have meant."""
