"""The people of the demo, read from an LDIF file."""

import base64
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from iam.distinguished_names import normalize_dn

LDIF: Final = Path(__file__).with_name("people.ldif")
BASE: Final = "dc=corp,dc=example"
SERVICE: Final = f"cn=fedgate,ou=services,{BASE}"


@dataclass(frozen=True, slots=True)
class LdifEntry:
    """One entry; the names of attributes are in lower case, ``names`` maps them to their original spelling."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]] = field(repr=False)
    names: Mapping[str, str] = field(repr=False)

    def texts(self, attribute: str) -> tuple[str, ...]:
        """Return the values of an attribute as text."""
        return tuple(value.decode() for value in self.attributes.get(attribute.lower(), ()))


@dataclass(frozen=True, slots=True)
class Person:
    """A person who can sign in; ``groups`` are the normalized DNs of all groups, nested ones included."""

    name: str
    password: str = field(repr=False)
    groups: tuple[str, ...]
    dn: str


def read_ldif(text: str) -> list[LdifEntry]:
    """Return the entries of an LDIF file with entryUUID and memberOf (direct groups) filled in; raise ValueError.

    Source: RFC 2849, content records only, no URLs.
    """
    entries = [_entry(record) for record in _records(text)]
    parents = _parents(entries)
    return [_with_operational_attributes(entry, parents.get(entry.dn.casefold(), ())) for entry in entries]


def people(path: Path) -> list[Person]:
    """Return the people of an LDIF file who can sign in, in its order; raise OSError, ValueError."""
    entries = read_ldif(path.read_text(encoding="utf-8"))
    parents = _parents(entries)
    return [
        Person(entry.texts("uid")[0], entry.texts("userPassword")[0], _all_groups(entry.dn, parents), entry.dn)
        for entry in entries
        if entry.texts("uid") and entry.texts("userPassword")
    ]


def service_password(path: Path) -> str:
    """Return the password of the service account; raise OSError, ValueError."""
    for entry in read_ldif(path.read_text(encoding="utf-8")):
        if entry.dn == SERVICE and entry.texts("userPassword"):
            return entry.texts("userPassword")[0]
    raise ValueError(f"{path} has no {SERVICE} with a userPassword")


def _records(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith(" ") and lines:
            lines[-1] += line[1:]  # RFC 2849 note 2: a line that begins with a space continues the previous one
        elif line:
            lines.append(line)
        else:
            record = [written for written in lines if not written.startswith(("#", "version:"))]
            lines = []
            if record:
                yield record


def _entry(record: list[str]) -> LdifEntry:
    pairs = [_pair(line) for line in record]
    if pairs[0][0].lower() != "dn":
        raise ValueError(f"an entry begins with its dn, not with {record[0]!r}")
    attributes: dict[str, tuple[bytes, ...]] = {}
    for name, value in pairs[1:]:
        attributes[name.lower()] = (*attributes.get(name.lower(), ()), value)
    return LdifEntry(normalize_dn(pairs[0][1].decode()), attributes, {name.lower(): name for name, _ in pairs[1:]})


def _pair(line: str) -> tuple[str, bytes]:
    name, colon, value = line.partition(":")
    if not colon or not name or value.startswith("<"):
        raise ValueError(f"not a line of LDIF: {line!r}")
    if value.startswith(":"):
        return name, base64.b64decode(value[1:].strip(), validate=True)
    return name, value.strip().encode()


def _parents(entries: list[LdifEntry]) -> dict[str, tuple[str, ...]]:
    """Return the groups that list each member, by the member's case-folded DN."""
    parents: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        for member in entry.texts("member"):
            key = normalize_dn(member).casefold()
            parents[key] = (*parents.get(key, ()), entry.dn)
    return parents


def _all_groups(dn: str, parents: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    groups: set[str] = set()
    added = set(parents.get(dn.casefold(), ()))
    while added:
        groups |= added
        added = {parent for group in added for parent in parents.get(group.casefold(), ())} - groups
    return tuple(sorted(groups))


def _with_operational_attributes(entry: LdifEntry, groups: tuple[str, ...]) -> LdifEntry:
    generated = str(uuid.uuid5(uuid.NAMESPACE_X500, entry.dn)).encode()
    attributes = {"entryuuid": (generated,), **entry.attributes}
    if groups:
        attributes["memberof"] = tuple(group.encode() for group in groups)
    return LdifEntry(entry.dn, attributes, {**entry.names, "entryuuid": "entryUUID", "memberof": "memberOf"})
