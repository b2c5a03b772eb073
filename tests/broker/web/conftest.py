"""The directory that the tests of pages share."""

from directories import slapd

__all__ = ["slapd"]
