"""Signing people in to services behind a proxy, with a browser and without a signature."""
