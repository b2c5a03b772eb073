"""The groups of a person in an LDAP directory, from the person's entry and from searches, nested or not.

A list that may be incomplete is an error: the missing group could be the one that a Deny names (THREATS J12).
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from broker.providers.ldap.connection import BASE, Entry
from broker.providers.ldap.dn import escape_filter_value, normalise_dn
from broker.providers.ldap.pool import ConnectionPool
from sts.identity import ProviderUnavailable

_MAX_GROUPS: Final = 2000  # of a person, and of one search; above it, the sign-in is refused as an outage
_GROUPS_PER_SEARCH: Final = 50  # one filter for so many: a round trip for each would take seconds for nested groups


class GroupResolver:
    """Resolves the groups of a person, in the ways that one directory is configured for."""

    def __init__(
        self, service: ConnectionPool, *, member_of_attribute: str, base: str, filter_: str, nested: bool
    ) -> None:
        self._service = service
        self._member_of_attribute = member_of_attribute
        self._base = base
        self._filter = filter_
        self._nested = nested

    def of(self, entry: Entry, username: str) -> tuple[str, ...]:
        """Return the normalised DNs in order; raise ProviderUnavailable, also above the maximum of groups.

        Each round asks only for the groups that the last one added, so that cycles of nested groups end (THREATS E15).
        """
        groups: dict[str, str] = {}
        added = _add_new(groups, [*self._member_of(entry), *self._search([entry.dn], username)])
        while added and self._nested:
            added = _add_new(groups, [*self._search(added), *self._parents(added)])
        return tuple(sorted(groups.values()))

    def _member_of(self, entry: Entry) -> tuple[str, ...]:
        attribute = self._member_of_attribute
        return text_values(entry, attribute) if attribute else ()

    def _search(self, dns: list[str], username: str | None = None) -> list[str]:
        """Return the groups that the group filter finds for any of these members; only people have a username."""
        template = self._filter
        if not self._base or (username is None and "{dn}" not in template):
            return []
        template = template.replace("{username}", escape_filter_value(username or ""))
        groups: list[str] = []
        for start in range(0, len(dns), _GROUPS_PER_SEARCH):
            filters = [
                template.replace("{dn}", escape_filter_value(dn)) for dn in dns[start : start + _GROUPS_PER_SEARCH]
            ]
            groups += [group.dn for group in self._entries(self._base, _or_filter(filters))]
        return groups

    def _parents(self, dns: list[str]) -> list[str]:
        """Return the groups that these groups list in their own entries."""
        attribute = self._member_of_attribute
        if not attribute:
            return []
        groups = [group for dn in dns for group in self._entries(dn, "(objectClass=*)", (attribute,), scope=BASE)]
        return [parent for group in groups for parent in text_values(group, attribute)]

    def _entries(
        self, base: str, filter_: str, attributes: tuple[str, ...] = (), *, scope: str | None = None
    ) -> tuple[Entry, ...]:
        options = {} if scope is None else {"scope": scope}
        result = self._service.run(
            lambda connection: connection.search(base, filter_, attributes, limit=_MAX_GROUPS, **options)
        )
        if not result.complete:
            raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups under {base!r}")
        return result.entries


def text_values(entry: Entry, attribute: str) -> tuple[str, ...]:
    """Return the values of an attribute that are text, without binary ones such as photographs and keys."""
    texts: list[str] = []
    for value in entry.attributes.get(attribute.lower(), ()):
        with suppress(UnicodeDecodeError):
            texts.append(value.decode())
    return tuple(texts)


def _or_filter(filters: list[str]) -> str:
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"


def _add_new(groups: dict[str, str], dns: Iterable[str]) -> list[str]:
    """Add the DNs that ``groups`` lacks, and return them; directories compare names without regard to case."""
    added: list[str] = []
    for dn in dns:
        normalised = _normalise(dn)
        if normalised and normalised.casefold() not in groups:
            groups[normalised.casefold()] = normalised
            added.append(normalised)
    if len(groups) > _MAX_GROUPS:
        raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups for one person")
    return added


def _normalise(group: str) -> str:
    try:
        return normalise_dn(group)
    except ValueError:
        return ""  # not a DN, so no policy can name it
