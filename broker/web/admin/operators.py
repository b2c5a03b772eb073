"""Who operates the installation: groups of directories and IAM principals that ``pages.operators`` names."""

from collections.abc import Iterable
from dataclasses import dataclass

from iam.arn import parse_arn
from iam.distinguished_names import normalize_dn
from sts.identity import Identity


@dataclass(frozen=True, slots=True)
class Operators:
    """The entries of the setting: groups by directory and distinguished name, and ARNs of users, roles and roots."""

    groups: frozenset[tuple[str, str]] = frozenset()
    principals: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "Operators":
        """Return the operators of a setting whose entries are valid."""
        listed = tuple(entries)
        arns = frozenset(entry for entry in listed if parse_arn(entry) is not None)
        pairs = (entry.partition("|") for entry in listed if entry not in arns)
        return cls(frozenset((directory, normalize_dn(group)) for directory, _bar, group in pairs), arns)

    def has_member(self, identity: Identity) -> bool:
        """Return whether somebody's directory lists them in one of the groups."""
        return any((identity.directory, group) in self.groups for group in identity.groups)
