"""Failed sign-ins, counted durably.

Five for one name from one source in fifteen minutes lock that pair; fifty lock the source.

An outage of the directory is never counted, and a locked pair sends no bind (THREATS E16, H07).
"""

from datetime import datetime

from sqlalchemy import delete, func, select, update

from iam.errors import Throttling
from iam.schema import failed_attempt
from iam.store import Store

WINDOW = 15 * 60  # seconds
PER_NAME = 5
PER_SOURCE = 50


class Attempts:
    """The counter of failed sign-ins, over all workers and restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, subject: str, source: str, now: datetime) -> bool:
        """Return whether this pair has failures on record; raise Throttling while it or its source is locked."""
        since = _milliseconds(now) - WINDOW * 1000
        table = failed_attempt.c
        recent = select(
            func.coalesce(func.sum(table.failures), 0),
            func.coalesce(func.max(table.failures).filter(table.subject == subject), 0),
            func.coalesce(func.max(table.since), 0),
        ).where(table.source == source, table.since > since)
        with self._store.read() as tx:
            from_source, of_name, newest = tx.execute(recent).one()
        if of_name >= PER_NAME or from_source >= PER_SOURCE:
            wait = max(1, WINDOW - (_milliseconds(now) - newest) // 1000)
            raise Throttling("Too many failed sign-ins. Try again later.", retry_after=wait, log=f"locked: {subject}")
        return bool(of_name)

    def failed(self, subject: str, source: str, now: datetime) -> None:
        """Count one failure; a window that has passed starts anew."""
        at = _milliseconds(now)
        table = failed_attempt.c
        mine = (table.subject == subject, table.source == source)
        with self._store.write(revise=False) as tx:
            tx.execute(delete(failed_attempt).where(table.since <= at - WINDOW * 1000))
            changed = tx.execute(update(failed_attempt).where(*mine).values(failures=table.failures + 1, since=at))
            if not changed.rowcount:
                tx.execute(failed_attempt.insert().values(subject=subject, source=source, failures=1, since=at))

    def succeeded(self, subject: str, source: str) -> None:
        """Forget the failures of a pair that has now proved itself."""
        table = failed_attempt.c
        with self._store.write(revise=False) as tx:
            tx.execute(delete(failed_attempt).where(table.subject == subject, table.source == source))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
