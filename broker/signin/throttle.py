"""Failed sign-ins, counted durably.

Five for one name from one source in fifteen minutes lock that pair; thirty for one name lock it everywhere; fifty from
one source lock the source.

Thirty everywhere bound what somebody with many addresses may guess. The price: such a person can keep a name locked out
for as long as the guesses go on, and for at most fifteen minutes longer; nobody is let in meanwhile, from wherever they
come. A right password forgets the failures of its own pair alone: if it forgot the others', the guesses of a stranger
would start anew whenever the person signs in.

An outage of the directory is never counted, and nothing that is locked sends a bind (THREATS E16, H07).
"""

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, case, delete, func, select, update

from iam.clock import SECOND, to_milliseconds
from iam.errors import ServiceError, Throttling
from iam.store.schema import failed_attempt
from iam.store.store import Store

WINDOW = 15 * 60  # seconds
PER_NAME = 5  # from one source
PER_NAME_EVERYWHERE = 30
PER_SOURCE = 50
_MAX_PARALLEL_PASSWORDS = 5  # passwords of one name that one worker tries at the same time, from different sources
_MAX_UNWRITTEN = 10_000
_MAX_WAIT = 10.0  # seconds that one guess waits for the guess before it

Pair = tuple[str, str]

_COLUMNS = failed_attempt.c
_OF_SUBJECT = _COLUMNS.subject == bindparam("mine")
_OF_SOURCE = _COLUMNS.source == bindparam("from")


def _failures_and_newest(of: ColumnElement[bool]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    failures = func.sum(case((of, _COLUMNS.failures)))
    return func.coalesce(failures, 0), func.coalesce(func.max(case((of, _COLUMNS.since))), 0)


# Every sign-in asks this, so it is built once: failures of the pair, the name and the source, and the newest of each.
_RECENT = select(
    *_failures_and_newest(_OF_SUBJECT & _OF_SOURCE),
    *_failures_and_newest(_OF_SUBJECT),
    *_failures_and_newest(_OF_SOURCE),
).where(_OF_SUBJECT | _OF_SOURCE, _COLUMNS.since > bindparam("after"))


def throttle_source(address: str) -> str:
    """Return what counts as one source: an IPv6 address's /64, which one customer has for itself (RFC 6177, 2).

    An IPv4 address, also one that is mapped into IPv6, and whatever is no address stand for themselves.
    """
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


@dataclass(slots=True)
class _PasswordAttempt:
    """The one password that this worker is trying for a pair, and how many requests try it."""

    password: str = field(repr=False)
    requests: int = 0


class SignInThrottle:
    """The counter of failed sign-ins, over all workers and restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running_attempts: dict[str, dict[str, _PasswordAttempt]] = {}  # by subject and source
        self._unwritten: dict[Pair, list[int]] = {}  # when failures happened that could not be counted durably
        self._attempt_ended = threading.Condition()

    @contextmanager
    def serialize_attempts(self, subject: str, source: str, password: str) -> Iterator[None]:
        """Let one guess after another be tried, each after the failure of the one before was counted.

        Without it a burst of guesses would pass ``check_lockout`` before the first one fails. Requests with the same
        password are one guess, so that one person's programs sign in at once. Five passwords of one name are tried at
        once from different sources. Each worker has its own turns: together they try at most one guess per worker
        beyond the limit of a pair, five beyond that of a name. Raises Throttling after ten seconds of waiting.
        """
        with self._attempt_ended:
            if not self._attempt_ended.wait_for(lambda: self._may_try(subject, source, password), _MAX_WAIT):
                raise Throttling("Too many sign-ins at once. Try again later.", retry_after=1, log=f"busy: {subject}")
            guess = self._running_attempts.setdefault(subject, {}).setdefault(source, _PasswordAttempt(password))
            guess.requests += 1
        try:
            yield
        finally:
            with self._attempt_ended:
                guess.requests -= 1
                if not guess.requests:
                    self._remove_attempt(subject, source)

    def _may_try(self, subject: str, source: str, password: str) -> bool:
        guesses = self._running_attempts.get(subject, {})
        if source in guesses:
            return guesses[source].password == password
        tried = {guess.password for guess in guesses.values()}
        return password in tried or len(tried) < _MAX_PARALLEL_PASSWORDS

    def _remove_attempt(self, subject: str, source: str) -> None:
        del self._running_attempts[subject][source]
        if not self._running_attempts[subject]:
            del self._running_attempts[subject]
        self._attempt_ended.notify_all()

    def check_lockout(self, subject: str, source: str, now: datetime) -> bool:
        """Return whether this pair has failures on record; raise Throttling while it, its name or source is locked."""
        at = to_milliseconds(now)
        since = at - WINDOW * SECOND
        with self._store.read() as tx:
            asked = {"mine": subject, "from": source, "after": since}
            pair, pair_newest, name, name_newest, here, here_newest = tx.execute(_RECENT, asked).one()
        of_pair, of_name, of_source = self._unwritten_failures(subject, source, since)
        counted = (
            (PER_NAME, pair + len(of_pair), max(pair_newest, *of_pair, 0)),
            (PER_NAME_EVERYWHERE, name + len(of_name), max(name_newest, *of_name, 0)),
            (PER_SOURCE, here + len(of_source), max(here_newest, *of_source, 0)),
        )
        newest = [last for limit, failures, last in counted if failures >= limit]
        if newest:
            wait = max(1, WINDOW - (at - max(newest)) // SECOND)
            raise Throttling("Too many failed sign-ins. Try again later.", retry_after=wait, log=f"locked: {subject}")
        return bool(pair or of_pair)

    def _unwritten_failures(self, subject: str, source: str, since: int) -> tuple[list[int], list[int], list[int]]:
        """Return when failures that could not be written happened: those of the pair, the name, and the source."""
        kept = [(pair, at) for pair, times in list(self._unwritten.items()) for at in times if at > since]
        return (
            [at for pair, at in kept if pair == (subject, source)],
            [at for (name, _), at in kept if name == subject],
            [at for (_, where), at in kept if where == source],
        )

    def record_failure(self, subject: str, source: str, now: datetime) -> None:
        """Count one failure; a window that has passed starts anew.

        While the store cannot be written, the failure counts in this worker: a full disk must not mean endless tries.
        """
        at = to_milliseconds(now)
        try:
            self._write_failure(subject, source, at)
        except ServiceError:
            if len(self._unwritten) >= _MAX_UNWRITTEN:
                self._unwritten.clear()
            self._unwritten.setdefault((subject, source), []).append(at)
            raise

    def _write_failure(self, subject: str, source: str, at: int) -> None:
        table = failed_attempt.c
        mine = (table.subject == subject, table.source == source)
        with self._store.write(bump_revision=False) as tx:
            tx.execute(delete(failed_attempt).where(table.since <= at - WINDOW * SECOND))
            changed = tx.execute(update(failed_attempt).where(*mine).values(failures=table.failures + 1, since=at))
            if not changed.rowcount:
                tx.execute(failed_attempt.insert().values(subject=subject, source=source, failures=1, since=at))

    def clear_failures(self, subject: str, source: str) -> None:
        """Forget the failures of a pair that has now proved itself."""
        self._unwritten.pop((subject, source), None)
        table = failed_attempt.c
        with self._store.write(bump_revision=False) as tx:
            tx.execute(delete(failed_attempt).where(table.subject == subject, table.source == source))
