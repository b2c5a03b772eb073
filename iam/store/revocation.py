"""Session revocation in the database: generations, which a revocation raises and each session seals.

A session seals the generation of every scope that it belongs to, as the database had them when it was minted, and those
of the sessions that it was made from. Revoking a scope raises its generation: to a random number, which no session can
have sealed, whatever backup the database was restored from. A session whose numbers differ is refused. No clock is
compared.

Rows are deleted when every session from before them has expired. Each session also seals the revision of the database
that it was minted at; deleting a row raises ``FLOOR`` to the revision at which that row was written, and what was
minted at an older revision is refused from then on. So a deletion never makes a revoked session valid again, whatever
the clock said at that moment.
"""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, literal, select, union_all, update

from iam.arn import Random
from iam.clock import HOUR
from iam.revocation import ANY, FLOOR, INSTALLATION, RevocationSnapshot, ScopeKind, chain_id, scope
from iam.store.schema import revision, revocation_generation

# A row is kept for the longest session, which is one of GetSessionToken (36 hours), and an hour for clocks that differ.
KEPT: Final = (36 + 1) * HOUR
# Expired rows that one revocation deletes: more than it writes, few enough not to hold up the writers that wait.
_MOST_DELETED: Final = 1000
_QUERY_SIZE: Final = 500  # scopes per query: databases limit the number of bound parameters
_GENERATION_BYTES: Final = 8
_NEVER_DELETED: Final = frozenset({INSTALLATION, ANY, FLOOR})


def raise_generation(tx: Connection, of: str, *, now_ms: int, random: Random) -> None:
    """Refuse all sessions of a scope that were minted until this transaction commits, and whatever they lead to.

    ``tx`` is a write transaction that changes the revision; raising ``INSTALLATION`` refuses every session.
    """
    _write(tx, of, _new_generation(random), now_ms)
    _write(tx, ANY, _new_generation(random), now_ms)
    delete_expired(tx, now_ms)


def revoke_session(tx: Connection, session_id: str, *, now_ms: int, random: Random) -> None:
    """Refuse one session, and the sessions that were made from it, whenever they were minted."""
    _write(tx, scope(ScopeKind.SESSION, session_id), 1, now_ms)
    raise_generation(tx, scope(ScopeKind.CHAIN, chain_id(session_id)), now_ms=now_ms, random=random)


def revoke(tx: Connection, kind: str, subject: str, *, now_ms: int, random: Random) -> None:
    """Revoke the sessions of a subject: session | person | role | account | installation (with an empty subject)."""
    if kind == ScopeKind.SESSION:
        revoke_session(tx, subject, now_ms=now_ms, random=random)
    else:
        raise_generation(tx, scope(ScopeKind(kind), subject), now_ms=now_ms, random=random)


def read_generations(tx: Connection, scopes: Iterable[str]) -> RevocationSnapshot:
    """Return the generations of these scopes, looked up by key, and the revision of the database."""
    asked = tuple(scopes)
    number, found = 0, dict[str, int]()
    for at in range(0, max(len(asked), 1), _QUERY_SIZE):
        rows = tx.execute(_BY_KEY, {"scopes": asked[at : at + _QUERY_SIZE]}).all()
        found |= {row.scope: row.generation for row in rows if row.scope}
        number = next(row.generation for row in rows if not row.scope)
    return RevocationSnapshot(number, found)


def delete_expired(tx: Connection, now_ms: int) -> None:
    """Delete rows that every session from before has outlived, and raise the floor to the newest of them."""
    table = revocation_generation.c
    query = select(table.scope, table.revision).where(table.expires <= now_ms).order_by(table.expires)
    expired = tx.execute(query.limit(_MOST_DELETED)).all()
    if not expired:
        return
    _raise_floor(tx, max(row.revision for row in expired), now_ms)
    for at in range(0, len(expired), _QUERY_SIZE):
        scopes = [row.scope for row in expired[at : at + _QUERY_SIZE]]
        tx.execute(delete(revocation_generation).where(table.scope.in_(scopes)))


def _raise_floor(tx: Connection, at_revision: int, now_ms: int) -> None:
    current = read_generations(tx, (FLOOR,)).generations.get(FLOOR, 0)
    _write(tx, FLOOR, max(current, at_revision), now_ms)


def _write(tx: Connection, of: str, generation: int, now_ms: int) -> None:
    number = tx.execute(select(revision.c.number)).scalar_one()
    values = {
        "generation": generation,
        "revision": number,
        "expires": None if of in _NEVER_DELETED else now_ms + KEPT,
    }
    changed = tx.execute(update(revocation_generation).where(revocation_generation.c.scope == of).values(**values))
    if not changed.rowcount:
        tx.execute(insert(revocation_generation).values(scope=of, **values))


def _new_generation(random: Random) -> int:
    """Return a number that was never used: 63 random bits, and not 0, which stands for a scope without a row."""
    return (int.from_bytes(random(_GENERATION_BYTES)) >> 1) or 1


# The row without a scope is the revision: one statement, so that each mint costs one round trip.
_BY_KEY: Final = union_all(
    select(literal("").label("scope"), revision.c.number.label("generation")),
    select(revocation_generation.c.scope, revocation_generation.c.generation).where(
        revocation_generation.c.scope.in_(bindparam("scopes", expanding=True))
    ),
)
