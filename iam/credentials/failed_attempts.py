"""Wrong passwords and codes of one user or device, counted durably: five lock it for fifteen minutes (G12, H08)."""

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from iam.clock import SECOND, to_milliseconds, to_seconds
from iam.store.schema import failed_attempt

TRIES = 5
WINDOW = 15 * 60  # seconds since the newest failure

# What stands in the place of a network address: these failures count wherever they come from.
PASSWORD, MFA_CODE = "password", "mfa-code"


def seconds_locked(tx: Connection, subject: str, source: str, now: datetime) -> int:
    """Return for how many seconds more nothing is tried for a subject; 0 while it is not locked."""
    column = failed_attempt.c
    query = select(column.failures, column.since).where(column.subject == subject, column.source == source)
    found = tx.execute(query).one_or_none()
    if found is None or found.failures < TRIES:
        return 0
    passed = to_seconds(now) - int(found.since) // SECOND
    return max(0, WINDOW - passed)


def count(tx: Connection, subject: str, source: str, now: datetime) -> None:
    """Add one failure; a window that has passed starts anew."""
    at = to_milliseconds(now)
    column = failed_attempt.c
    mine = (column.subject == subject, column.source == source)
    tx.execute(delete(failed_attempt).where(*mine, column.since <= at - WINDOW * SECOND))
    changed = tx.execute(update(failed_attempt).where(*mine).values(failures=column.failures + 1, since=at))
    if not changed.rowcount:
        tx.execute(failed_attempt.insert().values(subject=subject, source=source, failures=1, since=at))


def forget(tx: Connection, subject: str, source: str) -> None:
    """Drop the failures of a subject that has now proved itself."""
    column = failed_attempt.c
    tx.execute(delete(failed_attempt).where(column.subject == subject, column.source == source))
