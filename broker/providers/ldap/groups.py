"""The groups of a person in an LDAP directory, from the person's entry and from searches, nested or not.

A list that may be incomplete is an error: the missing group could be the one that a Deny names (THREATS J12).
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from broker.providers.ldap.connection import BASE, SUBTREE, Entry, SearchResult
from broker.providers.ldap.filters import escape_filter_value
from broker.providers.ldap.pool import ConnectionPool
from iam.distinguished_names import domain_dn, first_rdn_value, normalize_dn
from sts.identity import ProviderUnavailable

_MAX_GROUPS: Final = 2000  # of a person, and of one search; above it, the sign-in is refused as an outage
_GROUPS_PER_SEARCH: Final = 50  # one filter for so many: a round trip for each would take seconds for nested groups
# Partitions of a forest without groups, to which every search from a domain's root refers (MS-ADTS 3.1.1.1.5).
_PARTITIONS_WITHOUT_GROUPS: Final = ("cn=configuration,", "dc=domaindnszones,", "dc=forestdnszones,")
# MS-ADTS 3.1.1.3.1.3.3: more values than MaxValRange, 1500, come in parts named "memberOf;range=0-1499" and so on.
_RANGE: Final = re.compile(r";range=(?P<first>[0-9]{1,9})-(?P<last>[0-9]{1,9}|\*)(?=;|\Z)")
PRIMARY_GROUP_ATTRIBUTES: Final = ("primaryGroupID", "objectSid", "gidNumber")
_SID_HEADER, _SUB_AUTHORITY = 8, 4  # octets: MS-DTYP 2.4.2.2


class IncompleteGroups(Exception):
    """The groups of a person cannot all be known; the message says why, for the audit log."""


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

    @property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes of a person's entry that name groups."""
        if not self._member_of_attribute and not self._base:
            return ()
        return (self._member_of_attribute, *PRIMARY_GROUP_ATTRIBUTES)

    def of(self, entry: Entry, username: str) -> tuple[str, ...]:
        """Return the groups in order: normalized DNs, and words where the directory writes no DNs.

        Raise IncompleteGroups, and ProviderUnavailable, also above the maximum of groups. Each round asks only for the
        groups that the last one added, so that cycles of nested groups end (THREATS E15).
        """
        groups: dict[str, str] = {}
        primary = self._primary_group(entry)
        found = [*self._member_of(entry), *primary, *self._search([entry.dn], self._filter_of_person(entry, username))]
        added = _add_new(groups, [*found, *self._search(primary, self._filter_of_groups())])
        while added and self._nested:
            _require_names(added)
            added = _add_new(groups, [*self._search(added, self._filter_of_groups()), *self._parents(added)])
        return tuple(sorted(groups.values()))

    def _member_of(self, entry: Entry) -> tuple[str, ...]:
        """Return the values of the attribute that lists groups, also those that come in parts."""
        attribute = self._member_of_attribute
        if not attribute:
            return ()
        values = _values_with_options(entry, attribute)
        following = _next_range(entry, attribute)
        while following is not None:
            part = self._only_entry(entry.dn, (f"{attribute};range={following}-*",))
            values += _values_with_options(part, attribute)
            if len(values) > _MAX_GROUPS:
                raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups for one person")
            following = _next_range(part, attribute, following)
        return tuple(map(_group_text, values))

    def _primary_group(self, entry: Entry) -> list[str]:
        """Return the primary group in Active Directory, which lists it in no other way (MS-ADTS 3.1.1.4.5.19)."""
        sid = _primary_group_sid(entry) if self.attributes else None
        if sid is None:
            return []
        base = _domain(entry.dn)
        value = "".join(f"\\{octet:02x}" for octet in sid)
        found = self._run(base, f"(objectSid={value})", (), SUBTREE).entries
        if len(found) != 1:
            raise IncompleteGroups(f"the primary group of {entry.dn} cannot be read under {base!r}")
        return [found[0].dn]

    def _filter_of_groups(self) -> str:
        """Return the group filter with which to look for the groups of groups; empty where they cannot be found."""
        return self._filter.replace("{username}", "") if "{dn}" in self._filter else ""

    def _filter_of_person(self, entry: Entry, username: str) -> str:
        """Return the group filter of a person; a posixGroup does not list whose primary group it is (RFC 2307)."""
        filter_ = self._filter.replace("{username}", escape_filter_value(username))
        gid = next(iter(text_values(entry, "gidNumber")), "") if "memberuid" in filter_.lower() else ""
        if not gid:
            return filter_
        return f"(|{filter_}(&(objectClass=posixGroup)(gidNumber={escape_filter_value(gid)})))"

    def _search(self, dns: list[str], template: str) -> list[str]:
        """Return the groups that a group filter finds for any of these members."""
        if not self._base or not template:
            return []
        groups: list[str] = []
        for start in range(0, len(dns), _GROUPS_PER_SEARCH):
            filters = [
                template.replace("{dn}", escape_filter_value(dn)) for dn in dns[start : start + _GROUPS_PER_SEARCH]
            ]
            groups += [group.dn for group in self._groups_under_base(_or_filter(filters))]
        return groups

    def _groups_under_base(self, filter_: str) -> tuple[Entry, ...]:
        result = self._run(self._base, filter_, (), SUBTREE)
        elsewhere = [url for url in result.references if not _without_groups(url)]
        if elsewhere:
            raise IncompleteGroups(f"groups may be on another server, which is not asked: {elsewhere[0][:200]}")
        return result.entries

    def _parents(self, dns: list[str]) -> list[str]:
        """Return the groups that these groups list in their own entries."""
        attribute = self._member_of_attribute
        if not attribute:
            return []
        return [parent for dn in dns for parent in self._member_of(self._only_entry(dn, (attribute,)))]

    def _only_entry(self, dn: str, attributes: tuple[str, ...]) -> Entry:
        """Return the entry of a group or person; one that cannot be read may be in groups that nobody knows of."""
        entries = self._run(dn, "(objectClass=*)", attributes, BASE).entries
        if len(entries) != 1:
            raise IncompleteGroups(f"the entry {dn} cannot be read, so its own groups are not known")
        return entries[0]

    def _run(self, base: str, filter_: str, attributes: tuple[str, ...], scope: str) -> SearchResult:
        result = self._service.run(
            lambda connection: connection.search(base, filter_, attributes, limit=_MAX_GROUPS, scope=scope)
        )
        if not result.complete:
            raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups under {base!r}")
        return result


def group_name(group: str) -> str:
    """Return the short name of a group: the value of its DN's first RDN, or the word that it is."""
    return first_rdn_value(group) if "=" in group else group


def text_values(entry: Entry, attribute: str) -> tuple[str, ...]:
    """Return the values of an attribute that are text, without binary ones such as photographs and keys."""
    texts: list[str] = []
    for value in entry.attributes.get(attribute.lower(), ()):
        with suppress(UnicodeDecodeError):
            texts.append(value.decode())
    return tuple(texts)


def _values_with_options(entry: Entry, attribute: str) -> list[bytes]:
    """Return the values of an attribute, with those under options such as ``;range=0-1499`` (RFC 4512 2.5)."""
    name = attribute.lower()
    return [
        value
        for key, values in entry.attributes.items()
        if key == name or key.startswith(f"{name};")
        for value in values
    ]


def _next_range(entry: Entry, attribute: str, asked: int = 0) -> int | None:
    """Return the number of the first value that is missing, or None; raise IncompleteGroups for no progress."""
    for key in entry.attributes:
        part = _RANGE.search(key) if key.startswith(f"{attribute.lower()};") else None
        if part is None or part["last"] == "*":
            continue
        if int(part["first"]) != asked or int(part["last"]) < asked:
            raise IncompleteGroups(f"{key} of {entry.dn} is not the part that was asked for")
        return int(part["last"]) + 1
    return None


def _primary_group_sid(entry: Entry) -> bytes | None:
    """Return the SID of the primary group: that of the person's domain, with the number of the group at its end."""
    number = next(iter(text_values(entry, "primaryGroupID")), "")
    sid = next(iter(entry.attributes.get("objectsid", ())), b"")
    if not number.isdecimal() or len(sid) < _SID_HEADER + _SUB_AUTHORITY:
        return None
    return sid[:-_SUB_AUTHORITY] + int(number).to_bytes(_SUB_AUTHORITY, "little")


def _domain(dn: str) -> str:
    """Return the root of the domain of an entry: the last RDNs of its DN that are dc."""
    return domain_dn(dn) or dn


def _without_groups(url: str) -> bool:
    try:
        dn = normalize_dn(unquote(urlsplit(url).path.removeprefix("/")))
    except ValueError:
        return False
    return dn.casefold().startswith(_PARTITIONS_WITHOUT_GROUPS)


def _group_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise IncompleteGroups(f"a group is not UTF-8: {value!r:.100}") from error


def _or_filter(filters: list[str]) -> str:
    return filters[0] if len(filters) == 1 else f"(|{''.join(filters)})"


def _add_new(groups: dict[str, str], names: Iterable[str]) -> list[str]:
    """Add the groups that ``groups`` lacks, and return them; directories compare names without regard to case."""
    added: list[str] = []
    for name in names:
        normalized = _normalize(name)
        if normalized.casefold() not in groups:
            groups[normalized.casefold()] = normalized
            added.append(normalized)
    if len(groups) > _MAX_GROUPS:
        raise ProviderUnavailable(f"more than {_MAX_GROUPS} groups for one person")
    return added


def _require_names(groups: Iterable[str]) -> None:
    """Raise IncompleteGroups for a group that is a word: its own groups cannot be looked up."""
    for group in groups:
        if "=" not in group:
            raise IncompleteGroups(
                f"nested_groups is on, and the groups of {group!r:.200}, which is no DN, are not known"
            )


def _normalize(group: str) -> str:
    """Return a DN in normal form, and a word as it is; raise IncompleteGroups for what is neither.

    Some directories list groups by name. What has ``=`` in it was meant as a DN: taken as a word, it would be another
    group than the one that policies name.
    """
    if group.strip() and "=" not in group:
        return normalize("NFC", group)
    try:
        normalized = normalize_dn(group)
    except ValueError:
        normalized = ""
    if not normalized:
        raise IncompleteGroups(f"a group is no distinguished name that can be read: {group!r:.200}")
    return normalized
