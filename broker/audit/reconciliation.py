"""Appends to the audit log what was committed with a change and never reached it: its worker was killed in between.

The records of changes are in SQL (``audit_record``), written in the transaction of the change. Those that the log has,
too, are marked as ``logged``; a record that stays without the mark and is in none of this machine's files is appended.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select, update

from broker.audit.log import AuditLog, log_files
from iam.clock import SECOND, to_milliseconds
from iam.store.schema import Entity, audit_record
from iam.store.store import Store

_COLUMNS: Final = audit_record.c
_MOST: Final = 1000  # records of one pass
_CHUNK: Final = 256 * 1024  # of each file at least one is read
_EVENT_ID: Final = re.compile(rb'"eventID":"([^"\\]{1,36})"')
# A line is written after its ``at``, which is when its request began; and the clocks of machines differ.
_DISORDER: Final = 120 * SECOND
_AT: Final = re.compile(rb'"at":(\d{1,13})[,}]')
# A change may be on its way from the commit to the log. Another machine's log is not here, and only it can say that a
# record is in it: it does so within a minute.
_PATIENCE: Final = {"sqlite": 15, "postgresql": 300}  # seconds


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares the records of changes in SQL with the files in ``folder``, which a thread reads."""

    store: Store
    audit: AuditLog
    folder: Path
    now: Callable[[], datetime]
    run_in_thread_pool: Callable[[Callable[[], set[str]]], set[str]]

    def run(self) -> None:
        """Mark what the log has, and append what it lacks; nothing is done while another process does it."""
        descriptor = os.open(self.folder / "reconcile.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._reconcile()
        except BlockingIOError:
            return
        finally:
            os.close(descriptor)

    def _reconcile(self) -> None:
        rows = self._unlogged()
        wanted = {row.event_id for row in rows}
        oldest = min((row.at for row in rows), default=0) - _DISORDER
        logged = self.run_in_thread_pool(lambda: _ids_in(self.folder, wanted, oldest)) if wanted else set[str]()
        patience = _PATIENCE[self.store.engine.dialect.name] * SECOND
        for row in rows:
            if row.event_id not in logged and row.at <= to_milliseconds(self.now()) - patience:
                self.audit.append(json.loads(row.record))
                logged.add(row.event_id)
        if logged:
            with self.store.write(bump_revision=False) as tx:
                tx.execute(update(audit_record).where(_COLUMNS.event_id.in_(logged)).values(logged=True))

    def _unlogged(self) -> Sequence[Entity]:
        query = select(audit_record).where(_COLUMNS.logged.is_(None)).order_by(_COLUMNS.seq).limit(_MOST)
        with self.store.read() as tx:
            return tx.execute(query).all()

    def unlogged_lines(self) -> bytes:
        """Return the records of changes that may not be in the log, as its lines."""
        return b"\n".join(row.record.encode() for row in self._unlogged())


def _ids_in(folder: Path, wanted: set[str], oldest: int) -> set[str]:
    """Return which of these event IDs the files have, reading the newest lines first until all are found.

    A file is not read beyond ``oldest``, in milliseconds: with two machines there is always a change that is in no
    file here, and the log may be larger than what can be read in a minute. When a file was modified says nothing of
    it, since a copy of it is newer, and the clock of its lines may have been another.
    """
    found: set[str] = set()
    for path in sorted(log_files(folder), key=_modified, reverse=True):
        for chunk in _backwards(path):
            found |= wanted & {match[1].decode(errors="replace") for match in _EVENT_ID.finditer(chunk)}
            if found == wanted:
                return found
            if _newest_in(chunk, oldest) < oldest:
                break
    return found


def _newest_in(chunk: bytes, unknown: int) -> int:
    return max((int(match[1]) for match in _AT.finditer(chunk)), default=unknown)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _backwards(path: Path) -> Iterator[bytes]:
    """Yield a file in chunks from its end; they overlap, so that no ID is cut."""
    overlap = 64
    with path.open("rb") as lines:
        end = lines.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            lines.seek(start)
            yield lines.read(end - start + overlap)
            end = start
