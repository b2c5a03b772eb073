"""Directories and providers for the tests of broker.providers."""

from support.active_directory import active_directory
from support.directories import demo_directory, provider, slapd

__all__ = ["active_directory", "demo_directory", "provider", "slapd"]
