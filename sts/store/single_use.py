"""Replay protection: the use of a proof is committed before it is exchanged for anything.

The table's primary key decides, for all workers and across restarts, independent of Redis (THREATS D19, D20). A worker
remembers proofs that it has seen, and refuses them without a query. Concurrent uses share one commit: the first one
writes for all, so that the disk is waited for once.

A restored database has forgotten the proofs that were used after its backup was made. ``refuse_issued_before``
therefore sets a time: proofs that were issued before it count as used.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from iam.clock import to_milliseconds
from iam.errors import ServiceError, ServiceUnavailable
from iam.store.schema import used_marker
from iam.store.store import Store

_MAX_KNOWN = 20_000  # markers; the table decides, so forgetting them is safe and bounds memory
_SWEEP_EVERY = 600  # seconds
# The marker of this kind is a time in milliseconds, padded so that text sorts as numbers do.
_FLOOR, _FLOOR_DIGITS = "issued-before", 16
_LONGEST_PROOF = timedelta(days=31)  # far above the life of an assertion or ID token; then the floor is dropped


@dataclass(slots=True, eq=False)
class _PendingUse:
    """One use that waits to be written; ``first`` is None until then."""

    marker: tuple[str, str]
    expires: int  # milliseconds
    now: datetime
    issued: int | None = None  # milliseconds
    first: bool | None = None
    error: ServiceError | None = None
    turn: threading.Event = field(default_factory=threading.Event)


class SingleUse:
    """Marks proofs as used; ``monotonic`` is a clock in seconds, ``gather`` waits for concurrent uses."""

    def __init__(
        self, store: Store, *, monotonic: Callable[[], float], gather: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._gather = gather
        self._swept = monotonic()
        self._known: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        self._waiting: list[_PendingUse] = []
        self._writing = False

    def consume(self, kind: str, proof: str, until: datetime, now: datetime, *, issued: datetime | None = None) -> bool:
        """Return whether this is the first use; raise ServiceFailure where it cannot be stored.

        ``until`` is when the proof expires; its marker is kept until then. ``issued`` is when the proof was made; it is
        left out for what does no harm when it is used again after a restore, such as a form.
        """
        marker = _marker(kind, proof)
        if marker in self._known:
            return False
        use = _PendingUse(
            marker, to_milliseconds(until) + 1, now, to_milliseconds(issued) if issued is not None else None
        )
        with self._guard:
            self._waiting.append(use)
            is_writer, self._writing = not self._writing, True
        if not is_writer:
            use.turn.wait()
        if use.first is None and use.error is None:  # this use is the writer for all that wait now
            self._write_all()
        if use.error is not None:
            raise use.error
        return bool(use.first)

    def mark_used(self, kind: str, proofs: Sequence[str], until: datetime, now: datetime) -> None:
        """Mark several as used in one commit, whether or not they were; raise ServiceFailure."""
        batch = [_PendingUse(_marker(kind, proof), to_milliseconds(until) + 1, now) for proof in proofs]
        if batch:
            with self._store.write(bump_revision=False) as tx:
                _insert_new(tx, batch)
            self._add_known(batch)

    def is_used(self, kind: str, proof: str) -> bool:
        """Return whether a proof was used, by any worker; raise ServiceUnavailable."""
        marker = _marker(kind, proof)
        if marker in self._known:
            return True
        with self._store.read() as tx:
            return tx.scalar(_IS_USED, {"of": marker[0], "one": marker[1]}) is not None

    def _write_all(self) -> None:
        self._gather()
        with self._guard:
            batch, self._waiting = self._waiting, []
        try:
            with self._store.write(bump_revision=False) as tx:
                self._sweep(tx, batch[0].now)
                new = _insert_new(tx, _issued_since_restore(tx, batch))
            self._add_known(batch)
            for use in batch:
                use.first = use.marker in new
                new.discard(use.marker)  # of two uses of the same proof in a batch, one is the first
        except ServiceError as error:
            for use in batch:
                use.error = error
        finally:
            for use in batch:
                if use.first is None and use.error is None:  # after an unexpected exception, no use may wait forever
                    use.error = ServiceUnavailable("The service is not available now. Try again later.")
                use.turn.set()
            with self._guard:
                self._writing = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].turn.set()

    def _sweep(self, tx: Connection, now: datetime) -> None:
        if self._monotonic() - self._swept > _SWEEP_EVERY:
            self._swept = self._monotonic()
            tx.execute(delete(used_marker).where(used_marker.c.expires < to_milliseconds(now)))

    def _add_known(self, batch: list[_PendingUse]) -> None:
        with self._guard:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known.update(use.marker for use in batch)


def refuse_issued_before(tx: Connection, time: datetime) -> None:
    """Let proofs that were issued before this time count as used."""
    marker = f"{to_milliseconds(time):0{_FLOOR_DIGITS}}"
    row = {"kind": _FLOOR, "marker": marker, "expires": to_milliseconds(time + _LONGEST_PROOF)}
    tx.execute(delete(used_marker).where(used_marker.c.kind == _FLOOR, used_marker.c.marker == marker))
    tx.execute(insert(used_marker).values(row))


def _issued_since_restore(tx: Connection, batch: list[_PendingUse]) -> list[_PendingUse]:
    if all(use.issued is None for use in batch):
        return batch
    floor = int(tx.execute(select(func.max(used_marker.c.marker)).where(used_marker.c.kind == _FLOOR)).scalar() or 0)
    return [use for use in batch if use.issued is None or use.issued > floor]


def _marker(kind: str, proof: str) -> tuple[str, str]:
    return kind, hashlib.sha256(proof.encode()).hexdigest()


def _insert_new(tx: Connection, batch: list[_PendingUse]) -> set[tuple[str, str]]:
    """Insert the markers that do not exist yet, and return them."""
    if not batch:
        return set()
    rows = [{"kind": use.marker[0], "marker": use.marker[1], "expires": use.expires} for use in batch]
    return {(kind, marker) for kind, marker in tx.execute(_INSERTS[tx.dialect.name], rows)}


_KEY = used_marker.c.kind, used_marker.c.marker
_IS_USED = select(used_marker.c.expires).where(_KEY[0] == bindparam("of"), _KEY[1] == bindparam("one"))
_INSERTS = {
    "postgresql": postgresql.insert(used_marker).on_conflict_do_nothing().returning(*_KEY),
    "sqlite": sqlite.insert(used_marker).on_conflict_do_nothing().returning(*_KEY),
}
