"""The groups of a person in an LDAP directory: listed in the person's entry, found by a search, nested or not."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from broker.providers.ldap.connection import BASE, Entry
from broker.providers.ldap.dn import escape_filter_value, normalise_dn
from broker.providers.ldap.pool import ConnectionPool
from sts.identity import ProviderUnavailable

_MAX_GROUPS: Final = 2000
_GROUPS_PER_SEARCH: Final = 50


class GroupResolver:
    """The groups of a person, as one directory is configured to keep them."""

    def __init__(
        self, service: ConnectionPool, *, member_of_attribute: str, base: str, filter_: str, nested: bool
    ) -> None:
        self._service = service
        self._member_of_attribute = member_of_attribute
        self._base = base
        self._filter = filter_
        self._nested = nested

    def of(self, entry: Entry, username: str) -> tuple[str, ...]:
        """Return the normalised DNs in order; raises ProviderUnavailable, also for too many to be sure of all."""
        known: dict[str, str] = {}
        fresh = _add_new(known, [*self._member_of(entry), *self._search([entry.dn], username)])
        while fresh and self._nested:
            fresh = _add_new(known, [*self._search(fresh), *self._parents(fresh)])
        return tuple(sorted(known.values()))

    def _member_of(self, entry: Entry) -> tuple[str, ...]:
        attribute = self._member_of_attribute
        return text_values(entry, attribute) if attribute else ()

    def _search(self, dns: list[str], username: str | None = None) -> list[str]:
        """Return what the group filter finds for any of these members; only the first step has a username."""
        template = self._filter
        if not self._base or (username is None and "{dn}" not in template):
            return []
        template = template.replace("{username}", escape_filter_value(username or ""))
        found: list[str] = []
        for start in range(0, len(dns), _GROUPS_PER_SEARCH):
            filters = [
                template.replace("{dn}", escape_filter_value(dn)) for dn in dns[start : start + _GROUPS_PER_SEARCH]
            ]
            found += [group.dn for group in self._entries(self._base, _or_filter(filters))]
        return found

    def _parents(self, dns: list[str]) -> list[str]:
        """Return the groups that these groups say they belong to."""
        attribute = self._member_of_attribute
        if not attribute:
            return []
        groups = [group for dn in dns for group in self._entries(dn, "(objectClass=*)", (attribute,), scope=BASE)]
        return [parent for group in groups for parent in text_values(group, attribute)]

    def _entries(
        self, base: str, filter_: str, attributes: tuple[str, ...] = (), *, scope: str | None = None
    ) -> tuple[Entry, ...]:
        options = {} if scope is None else {"scope": scope}
        found = self._service.run(
            lambda connection: connection.search(base, filter_, attributes, limit=_MAX_GROUPS, **options)
        )
        if not found.complete:
            # A group that is missing could be the one that a Deny names.
            raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups under {base!r}")
        return found.entries


def text_values(entry: Entry, attribute: str) -> tuple[str, ...]:
    """Return the values that are text; photographs and keys are not."""
    found: list[str] = []
    for value in entry.attributes.get(attribute.lower(), ()):
        with suppress(UnicodeDecodeError):
            found.append(value.decode())
    return tuple(found)


def _or_filter(filters: list[str]) -> str:
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"


def _add_new(known: dict[str, str], groups: Iterable[str]) -> list[str]:
    """Add to ``known`` the groups that it lacks and return those; directories compare names without regard to case."""
    fresh: list[str] = []
    for group in groups:
        spelling = _normalise(group)
        if spelling and spelling.casefold() not in known:
            known[spelling.casefold()] = spelling
            fresh.append(spelling)
    if len(known) > _MAX_GROUPS:
        raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups for one person")
    return fresh


def _normalise(group: str) -> str:
    try:
        return normalise_dn(group)
    except ValueError:
        return ""  # not a name: no policy can mean it
