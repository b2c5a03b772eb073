"""Directories and providers for the tests of broker.providers."""

import datetime as dt
from collections.abc import Callable, Iterator

import pytest
from support.active_directory import active_directory
from support.directories import demo_directory, slapd

from broker.providers.ldap.provider import LdapConfig, LdapProvider

__all__ = ["active_directory", "demo_directory", "slapd"]

NOW = dt.datetime(2026, 11, 23, 20, 0, tzinfo=dt.UTC)


@pytest.fixture
def provider() -> Iterator[Callable[[LdapConfig], LdapProvider]]:
    opened: list[LdapProvider] = []

    def open_(config: LdapConfig) -> LdapProvider:
        opened.append(config.open(now=lambda: NOW))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()
