"""What the tests of the demonstration directory share with those of the providers."""

from support.directories import provider

__all__ = ["provider"]
