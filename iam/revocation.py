"""The scopes by which sessions are revoked. Pure; iam/store/revocation.py stores their generations."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class ScopeKind(StrEnum):
    """What a generation belongs to. ``SESSION`` has none: the row alone refuses that session.

    ``CHAIN`` is every session that began with one session, by role chaining; ``ANY`` is raised by each revocation.
    """

    INSTALLATION = "installation"
    ACCOUNT = "account"
    ROLE = "role"
    PERSON = "person"
    SESSION = "session"
    CHAIN = "chain"
    ANY = "any"
    FLOOR = "floor"


def scope(kind: ScopeKind, subject: str = "") -> str:
    """Return a scope as the table has it.

    The subject is an account id, a role's unique id, ``provider|subject`` of a person, or a session id.
    """
    return f"{kind}|{subject}"


INSTALLATION: Final = scope(ScopeKind.INSTALLATION)
ANY: Final = scope(ScopeKind.ANY)
FLOOR: Final = scope(ScopeKind.FLOOR)

CHAIN_ID_LENGTH: Final = 16  # hexadecimal digits


def chain_id(session_id: str) -> str:
    """Return the first digits of a session id, which all sessions of a chain share."""
    return session_id[:CHAIN_ID_LENGTH]


class RevocationSnapshot(NamedTuple):
    """The generations of some scopes, and the revision of the database, as one transaction reads them.

    A scope without a row has no entry: it was never revoked, or every session from before has expired.
    """

    revision: int
    generations: Mapping[str, int]
