"""Failed sign-ins, counted durably.

Five for one name from one source in fifteen minutes lock that pair; fifty lock the source.

An outage of the directory is never counted, and a locked pair sends no bind (THREATS E16, H07).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import bindparam, case, delete, func, select, update

from iam.errors import ServiceError, Throttling
from iam.schema import failed_attempt
from iam.store import Store

WINDOW = 15 * 60  # seconds
PER_NAME = 5
PER_SOURCE = 50
_REMEMBERED = 10_000
_PATIENCE = 10.0  # seconds that one guess waits for the guess before it

Pair = tuple[str, str]

_COLUMNS = failed_attempt.c
_MINE = _COLUMNS.subject == bindparam("mine")
# Every sign-in asks this, so it is built once: failures of the source and of the pair, and the newest of each.
_RECENT = select(
    func.coalesce(func.sum(_COLUMNS.failures), 0),
    func.coalesce(func.max(case((_MINE, _COLUMNS.failures))), 0),
    func.coalesce(func.max(case((_MINE, _COLUMNS.since))), 0),
    func.coalesce(func.max(_COLUMNS.since), 0),
).where(_COLUMNS.source == bindparam("from"), _COLUMNS.since > bindparam("after"))


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
        self._unwritten: dict[Pair, list[int]] = {}  # when failures happened that could not be counted durably
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
        with self._store.read() as tx:
            asked = {"mine": subject, "from": source, "after": since}
            from_source, of_name, newest_of_name, newest = tx.execute(_RECENT, asked).one()
        unwritten = [at for at in self._unwritten.get((subject, source), ()) if at > since]
        of_name, newest_of_name = of_name + len(unwritten), max(newest_of_name, *unwritten, 0)
        if of_name >= PER_NAME or from_source >= PER_SOURCE:
            last = newest if from_source >= PER_SOURCE else newest_of_name
            wait = max(1, WINDOW - (_milliseconds(now) - last) // 1000)
            raise Throttling("Too many failed sign-ins. Try again later.", retry_after=wait, log=f"locked: {subject}")
        return bool(of_name)

    def failed(self, subject: str, source: str, now: datetime) -> None:
        """Count one failure; a window that has passed starts anew.

        While the store cannot be written, the failure counts in this worker: a full disk must not mean endless tries.
        """
        at = _milliseconds(now)
        try:
            self._count(subject, source, at)
        except ServiceError:
            if len(self._unwritten) >= _REMEMBERED:
                self._unwritten.clear()
            self._unwritten.setdefault((subject, source), []).append(at)
            raise

    def _count(self, subject: str, source: str, at: int) -> None:
        table = failed_attempt.c
        mine = (table.subject == subject, table.source == source)
        with self._store.write(revise=False) as tx:
            tx.execute(delete(failed_attempt).where(table.since <= at - WINDOW * 1000))
            changed = tx.execute(update(failed_attempt).where(*mine).values(failures=table.failures + 1, since=at))
            if not changed.rowcount:
                tx.execute(failed_attempt.insert().values(subject=subject, source=source, failures=1, since=at))

    def succeeded(self, subject: str, source: str) -> None:
        """Forget the failures of a pair that has now proved itself."""
        self._unwritten.pop((subject, source), None)
        table = failed_attempt.c
        with self._store.write(revise=False) as tx:
            tx.execute(delete(failed_attempt).where(table.subject == subject, table.source == source))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
