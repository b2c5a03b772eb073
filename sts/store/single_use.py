"""Proofs that count once: that one was used is written down before whoever brought it gets anything for it.

The table's primary key decides, over all workers and restarts, whatever happens to Redis (THREATS D19, D20). What this
worker has seen used it refuses without asking. Those who come at the same time share one commit: the first of them
writes for all, so that the disk is waited for once.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete
from sqlalchemy.dialects import postgresql, sqlite

from iam.clock import to_milliseconds
from iam.errors import ServiceError, ServiceUnavailable
from iam.store.schema import used_marker
from iam.store.store import Store

_REMEMBERED = 20_000
_SWEEP_EVERY = 600  # seconds


@dataclass(slots=True, eq=False)
class _PendingUse:
    """One use that waits to be written; ``first`` is None as long as nobody has."""

    marker: tuple[str, str]
    expires: int  # milliseconds
    now: datetime
    first: bool | None = None
    error: ServiceError | None = None
    turn: threading.Event = field(default_factory=threading.Event)


class SingleUse:
    """Marks proofs as used; ``monotonic`` is a clock in seconds, ``gather`` lets others come who use one now."""

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

    def consume(self, kind: str, proof: str, until: datetime, now: datetime) -> bool:
        """Return whether this is the first use; raise ServiceFailure where that cannot be written down.

        ``until`` is when the proof is over by itself, so that nobody need remember it longer.
        """
        marker = kind, hashlib.sha256(proof.encode()).hexdigest()
        if marker in self._known:
            return False
        use = _PendingUse(marker, to_milliseconds(until) + 1, now)
        with self._guard:
            self._waiting.append(use)
            mine, self._writing = not self._writing, True
        if not mine:
            use.turn.wait()
        if use.first is None and use.error is None:  # it is this one's turn to write, for all who wait by then
            self._write_all()
        if use.error is not None:
            raise use.error
        return bool(use.first)

    def _write_all(self) -> None:
        self._gather()
        with self._guard:
            batch, self._waiting = self._waiting, []
        try:
            with self._store.write(bump_revision=False) as tx:
                self._sweep(tx, batch[0].now)
                new = _insert_new(tx, batch)
            self._remember(batch)
            for use in batch:
                use.first = use.marker in new
                new.discard(use.marker)  # of two that came with the same, the first is
        except ServiceError as error:
            for use in batch:
                use.error = error
        finally:
            for use in batch:
                if use.first is None and use.error is None:  # nobody waits for ever, whatever happened here
                    use.error = ServiceUnavailable("The service cannot answer now. Try again later.")
                use.turn.set()
            with self._guard:
                self._writing = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].turn.set()

    def _sweep(self, tx: Connection, now: datetime) -> None:
        if self._monotonic() - self._swept > _SWEEP_EVERY:
            self._swept = self._monotonic()
            tx.execute(delete(used_marker).where(used_marker.c.expires < to_milliseconds(now)))

    def _remember(self, batch: list[_PendingUse]) -> None:
        with self._guard:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known.update(use.marker for use in batch)


def _insert_new(tx: Connection, batch: list[_PendingUse]) -> set[tuple[str, str]]:
    """Write the markers that are not there yet, and return them."""
    rows = [{"kind": use.marker[0], "marker": use.marker[1], "expires": use.expires} for use in batch]
    return {(kind, marker) for kind, marker in tx.execute(_INSERTS[tx.dialect.name], rows)}


_KEY = used_marker.c.kind, used_marker.c.marker
_INSERTS = {
    "postgresql": postgresql.insert(used_marker).on_conflict_do_nothing().returning(*_KEY),
    "sqlite": sqlite.insert(used_marker).on_conflict_do_nothing().returning(*_KEY),
}
