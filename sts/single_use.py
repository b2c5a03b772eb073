"""Proofs that count once: that one was used is written down before whoever brought it gets anything for it.

The table's primary key decides, over all workers and restarts, whatever happens to Redis (THREATS D19, D20). What this
worker has seen used it refuses without asking.
"""

import hashlib
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite

from iam.schema import used_marker
from iam.store import Store

_REMEMBERED = 20_000
_SWEEP_EVERY = 600  # seconds


class SingleUse:
    """Marks proofs as used; ``monotonic`` is a clock in seconds."""

    def __init__(self, store: Store, *, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._swept = monotonic()
        self._known: set[tuple[str, str]] = set()
        self._guard = threading.Lock()

    def spend(self, kind: str, proof: str, until: datetime, now: datetime) -> bool:
        """Return whether this is the first use; raise ServiceFailure where that cannot be written down.

        ``until`` is when the proof is over by itself, so that nobody need remember it longer.
        """
        marker = kind, hashlib.sha256(proof.encode()).hexdigest()
        if marker in self._known:
            return False
        with self._store.write(revise=False) as tx:
            if self._monotonic() - self._swept > _SWEEP_EVERY:
                self._swept = self._monotonic()
                tx.execute(delete(used_marker).where(used_marker.c.expires < int(now.timestamp() * 1000)))
            row = {"kind": kind, "marker": marker[1], "expires": int(until.timestamp() * 1000) + 1}
            dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
            insert = dialect.insert(used_marker).values(row).on_conflict_do_nothing()
            first = bool(tx.execute(insert).rowcount)
        with self._guard:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known.add(marker)
        return first
