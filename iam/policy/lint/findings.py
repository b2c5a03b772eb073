"""What the checks of policies are made of: findings, their levels, and the rows of the table of checks.

Pure. The codes are those of IAM Access Analyzer where it has one ("Policy check reference").
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from iam.errors import excerpt
from iam.policy.statement import PolicyKind, Statement


class KnownServices(Protocol):
    """The known services, actions and condition keys."""

    def has_service(self, name: str) -> bool:
        """Return whether AWS has a service of this name."""

    def actions(self, service: str) -> Mapping[str, str]:
        """Return the actions of a service: names in lower case, mapped to the names as AWS writes them."""

    def key_type(self, key: str) -> str | None:
        """Return the type of a condition key, or None for a key that no service has."""

    def is_multivalued(self, key: str) -> bool | None:
        """Return whether a condition key is multivalued; None where it is not known."""


class Level(StrEnum):
    """The type of a finding; the values are those of IAM Access Analyzer."""

    ERROR = "ERROR"  # the element has no effect, or not the intended one
    SECURITY_WARNING = "SECURITY_WARNING"  # the policy may allow more than intended
    WARNING = "WARNING"
    SUGGESTION = "SUGGESTION"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; ``statement`` counts from 0, and is None where the finding is about the whole policy."""

    code: str
    level: Level
    statement: int | None
    place: str
    text: str

    @property
    def location(self) -> str:
        """Return the path in the policy, on one line.

        Unprintable characters are replaced: a key of the policy must not write lines or escape sequences to a terminal
        or a log.
        """
        place = self.place if self.statement is None else f"Statement[{self.statement}].{self.place}"
        return "".join(char if char.isprintable() else "?" for char in shorten(place))

    def __str__(self) -> str:
        return f"{self.level} {self.code} {self.location}"


class Note(NamedTuple):
    """The finding of a check at one place in a statement."""

    place: str
    text: str


_LONGEST = 160  # characters of the policy that a finding quotes


def shorten(written: str) -> str:
    """Return what a finding quotes of a policy."""
    return excerpt(written, _LONGEST)


Check = Callable[[Statement, KnownServices], Iterator[Note]]


class CheckEntry(NamedTuple):
    """One row of the table of checks."""

    level: Level
    check: Check
    what: str
    kinds: frozenset[PolicyKind] = frozenset(PolicyKind)
