"""Counts wrong passwords and codes of a user or device in the database: five lock it for 15 minutes (G12, H08)."""

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from iam.clock import SECOND, to_milliseconds, to_seconds
from iam.store.schema import failed_attempt

# Six digits with three accepted steps: five guesses in 15 minutes at one device succeed with a chance of 1 in 67,000.
TRIES = 5
WINDOW = 15 * 60  # seconds since the last failure

# Used instead of a network address: these failures count from every address together.
PASSWORD, MFA_CODE = "password", "mfa-code"


def seconds_locked(tx: Connection, subject: str, source: str, now: datetime) -> int:
    """Return for how many more seconds a subject is locked; 0 if it is not."""
    column = failed_attempt.c
    query = select(column.failures, column.since).where(column.subject == subject, column.source == source)
    row = tx.execute(query).one_or_none()
    if row is None or row.failures < TRIES:
        return 0
    elapsed = to_seconds(now) - int(row.since) // SECOND
    return max(0, WINDOW - elapsed)


def reserve(tx: Connection, subject: str, source: str, now: datetime) -> int:
    """Count an attempt before it is judged; return for how many seconds the subject is locked, 0 if it may be judged.

    Counted first, no burst of attempts has more of them judged than the limit: writers have their turns one by one.
    Whoever turns out to be right is forgiven with ``forget``.
    """
    locked = seconds_locked(tx, subject, source, now)
    if not locked:
        count(tx, subject, source, now)
    return locked


def count(tx: Connection, subject: str, source: str, now: datetime) -> None:
    """Count a failure; the count restarts when the window has passed."""
    now_ms = to_milliseconds(now)
    column = failed_attempt.c
    matches = (column.subject == subject, column.source == source)
    tx.execute(delete(failed_attempt).where(*matches, column.since <= now_ms - WINDOW * SECOND))
    # The database adds one, so that simultaneous failures are all counted.
    changed = tx.execute(update(failed_attempt).where(*matches).values(failures=column.failures + 1, since=now_ms))
    if not changed.rowcount:
        tx.execute(failed_attempt.insert().values(subject=subject, source=source, failures=1, since=now_ms))


def forget(tx: Connection, subject: str, source: str) -> None:
    """Delete the failures of a subject that has now authenticated."""
    column = failed_attempt.c
    tx.execute(delete(failed_attempt).where(column.subject == subject, column.source == source))
