"""The lineage of a session: what it seals about itself and the sessions that it was made from, for their revocation.

Pure. A session made from another one (role chaining, or a role taken in the browser) keeps what its parent sealed, so
it falls with its parent, also where both requests were on their way when the revocation was committed. Where a scope
belongs to both, the parent's number stays, which is the older one.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from iam.arn import Random
from iam.revocation import (
    ANY,
    CHAIN_ID_LENGTH,
    FLOOR,
    INSTALLATION,
    RevocationSnapshot,
    ScopeKind,
    chain_id,
    scope,
)

# A token has a limited size, a chain of roles has none. Beyond these numbers a session is bound to coarser scopes: to
# its whole chain instead of each session in it, and to every revocation instead of each role.
MOST_ANCESTORS: Final = 16
MOST_SCOPES: Final = 40
_HALF_ID: Final = CHAIN_ID_LENGTH // 2  # bytes
_SESSION_ID: Final = re.compile(f"[0-9a-f]{{{2 * CHAIN_ID_LENGTH}}}", re.ASCII)
_CHAIN: Final = scope(ScopeKind.CHAIN)


@dataclass(frozen=True, slots=True)
class Lineage:
    """The revision of the database at which a session was minted, the generation of each scope, and its ancestors.

    ``ancestors`` are ids of sessions. A scope without a generation has 0.
    """

    revision: int = 0
    generations: tuple[tuple[str, int], ...] = ()
    ancestors: tuple[str, ...] = ()

    def dump(self) -> str:
        """Return the lineage as JSON."""
        return json.dumps([self.revision, self.generations, self.ancestors], separators=(",", ":"))

    @property
    def chain(self) -> str:
        """Return what the ids of the whole chain begin with; empty without ancestors."""
        if self.ancestors:
            return chain_id(self.ancestors[-1])
        return next((name.removeprefix(_CHAIN) for name, _ in self.generations if name.startswith(_CHAIN)), "")

    def with_scopes(self, scopes: Iterable[str]) -> "Lineage":
        """Return the lineage with generation 0 for those scopes that it does not have."""
        known = dict.fromkeys(scopes, 0) | dict(self.generations)
        return replace(self, generations=tuple(sorted(known.items())))


def load(text: str) -> Lineage:
    """Return a lineage from its JSON; an empty text is that of an entry from before; raise ValueError, TypeError."""
    if not text:
        return Lineage()
    revision, generations, ancestors = json.loads(text)
    return Lineage(revision, tuple((name, number) for name, number in generations), tuple(ancestors))


@dataclass(frozen=True, slots=True)
class Parent:
    """What a session is made from; ``session_id`` is empty for what is not revoked by an id, as a browser session."""

    lineage: Lineage
    session_id: str = ""


def session_scopes(account_id: str, role_id: str | None, person: str) -> tuple[str, ...]:
    """Return the scopes that a session belongs to by itself; ``role_id`` is None for sessions without a role."""
    role = () if role_id is None else (scope(ScopeKind.ROLE, role_id),)
    account = (scope(ScopeKind.ACCOUNT, account_id),) if account_id else ()
    return (INSTALLATION, *account, *role, scope(ScopeKind.PERSON, person))


def watched(lineage: Lineage, session_id: str = "") -> tuple[str, ...]:
    """Return the scopes to look up at each use of a session."""
    ids = (*lineage.ancestors, session_id) if session_id else lineage.ancestors
    sessions = tuple(scope(ScopeKind.SESSION, one) for one in ids)
    return (FLOOR, *sessions, *(name for name, _ in lineage.generations))


def refusal(lineage: Lineage, session_id: str, current: Mapping[str, int]) -> str:
    """Return which revocation refuses a session, or an empty text; ``current`` has the scopes that are ``watched``."""
    if not current:
        return ""
    if lineage.revision < current.get(FLOOR, 0):
        return FLOOR
    ids = (scope(ScopeKind.SESSION, one) for one in (*lineage.ancestors, session_id) if one)
    revoked = (name for name in ids if name in current)
    # A scope without a row refuses nothing: FLOOR refuses what is older than the rows that were deleted.
    raised = (name for name, sealed in lineage.generations if current.get(name, sealed) != sealed)
    return next(chain(revoked, raised), "")


def scopes_to_read(scopes: tuple[str, ...], parent: Parent | None) -> tuple[str, ...]:
    """Return the scopes to read when a session of these scopes begins."""
    if parent is None:
        return (*scopes, FLOOR)
    whole_chain = scope(ScopeKind.CHAIN, chain_id(parent.session_id))
    return tuple(dict.fromkeys((*scopes, whole_chain, ANY, *watched(parent.lineage, parent.session_id))))


def begin(scopes: tuple[str, ...], parent: Parent | None, now: RevocationSnapshot) -> Lineage:
    """Return the lineage of a session that begins; ``now`` has the ``scopes_to_read``, the parent is not revoked."""
    own = {name: now.generations.get(name, 0) for name in scopes}
    # The floor is higher where rows were copied into a database that has counted fewer changes.
    begun = Lineage(max(now.revision, now.generations.get(FLOOR, 0)), tuple(sorted(own.items())))
    return begun if parent is None else _with_parent(begun, parent, now)


def _with_parent(begun: Lineage, parent: Parent, now: RevocationSnapshot) -> Lineage:
    """Return the lineage of a session with all that its parent sealed, as far as a token has room for it."""
    generations = dict(begun.generations) | dict(parent.lineage.generations)
    ancestors = (*parent.lineage.ancestors, *([parent.session_id] if parent.session_id else ()))
    whole_chain = scope(ScopeKind.CHAIN, chain_id(parent.session_id))
    if whole_chain in generations or len(ancestors) > MOST_ANCESTORS:
        generations.setdefault(whole_chain, now.generations.get(whole_chain, 0))
        ancestors = ()
    if len(generations) > MOST_SCOPES:
        # The parent is not revoked now, so that its numbers are those of today, and each later revocation changes ANY.
        kept = (*(name for name, _ in begun.generations), whole_chain, ANY)
        generations = {ANY: now.generations.get(ANY, 0)} | {
            name: generations[name] for name in kept if name in generations
        }
    return Lineage(begun.revision, tuple(sorted(generations.items())), ancestors)


def is_session_id(text: str) -> bool:
    """Return whether a text can be the id of a session."""
    return _SESSION_ID.fullmatch(text) is not None


def new_session_id(lineage: Lineage, random: Random) -> str:
    """Return the id of a new session, 32 hexadecimal digits: in the chain of its ancestors, or in a new one."""
    return (lineage.chain or random(_HALF_ID).hex()) + random(_HALF_ID).hex()
