"""Failed sign-ins, counted durably.

Five for one name from one source in fifteen minutes lock that pair; fifty lock the source.

An outage of the directory is never counted, and a locked pair sends no bind (THREATS E16, H07).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import case, delete, func, select, update

from iam.errors import Throttling
from iam.schema import failed_attempt
from iam.store import Store

WINDOW = 15 * 60  # seconds
PER_NAME = 5
PER_SOURCE = 50
_PATIENCE = 10.0  # seconds that one guess waits for the guess before it

Pair = tuple[str, str]


@dataclass(slots=True)
class _Guess:
    """The one password that this worker is trying for a pair, and how many requests try it."""

    password: str = field(repr=False)
    requests: int = 0


class Attempts:
    """The counter of failed sign-ins, over all workers and restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guesses: dict[Pair, _Guess] = {}
        self._ended = threading.Condition()

    @contextmanager
    def turn(self, subject: str, source: str, password: str) -> Iterator[None]:
        """Let one guess after another be tried, each after the failure of the one before was counted.

        Without it a burst of guesses would pass ``admit`` before the first of them fails. Requests with the same
        password are one guess, so that one person's programs sign in at once. Each worker has its own turn: together
        they try at most one guess per worker beyond the limit. Raises Throttling after ten seconds of waiting.
        """
        pair = (subject, source)
        with self._ended:
            if not self._ended.wait_for(lambda: self._is_open_to(pair, password), _PATIENCE):
                raise Throttling("Too many sign-ins at once. Try again later.", retry_after=1, log=f"busy: {subject}")
            guess = self._guesses.setdefault(pair, _Guess(password))
            guess.requests += 1
        try:
            yield
        finally:
            with self._ended:
                guess.requests -= 1
                if not guess.requests:
                    del self._guesses[pair]
                    self._ended.notify_all()

    def _is_open_to(self, pair: Pair, password: str) -> bool:
        guess = self._guesses.get(pair)
        return guess is None or guess.password == password

    def admit(self, subject: str, source: str, now: datetime) -> bool:
        """Return whether this pair has failures on record; raise Throttling while it or its source is locked."""
        since = _milliseconds(now) - WINDOW * 1000
        table = failed_attempt.c
        recent = select(
            func.coalesce(func.sum(table.failures), 0),
            func.coalesce(func.max(case((table.subject == subject, table.failures))), 0),
            func.coalesce(func.max(case((table.subject == subject, table.since))), 0),
            func.coalesce(func.max(table.since), 0),
        ).where(table.source == source, table.since > since)
        with self._store.read() as tx:
            from_source, of_name, newest_of_name, newest = tx.execute(recent).one()
        if of_name >= PER_NAME or from_source >= PER_SOURCE:
            last = newest if from_source >= PER_SOURCE else newest_of_name
            wait = max(1, WINDOW - (_milliseconds(now) - last) // 1000)
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
