"""The directory that tests of sign-ins to resources share."""

from support.directories import demo_directory

__all__ = ["demo_directory"]
