"""Proving who somebody is: one way for each kind of identity, and what all ways share."""
