"""Failed sign-ins, counted durably.

Five for one name from one source in fifteen minutes lock that pair; thirty for one name lock it everywhere; fifty from
one source lock the source.

Thirty everywhere bound what somebody with many addresses may guess. The price: such a person can keep a name locked out
for as long as the guesses go on, and for at most fifteen minutes longer; nobody is let in meanwhile, from wherever they
come. A right password forgets the failures of its own pair alone: if it forgot the others', the guesses of a stranger
would start anew whenever the person signs in.

An outage of the directory is never counted, and nothing that is locked sends a bind (THREATS E16, H07).

Every guess takes a slot before it is judged (``attempt_slots``): what failed and what is still being judged are
together never more than a limit, however many guesses arrive at once and at whichever workers.
"""

import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, bindparam, case, delete, func, select, update

from broker.signin.attempt_slots import AttemptSlots, PerScope, Slot
from iam.clock import SECOND, to_milliseconds
from iam.errors import ServiceError, Throttling
from iam.store.schema import failed_attempt
from iam.store.store import Store

WINDOW = 15 * 60  # seconds
PER_NAME = 5  # from one source
PER_NAME_EVERYWHERE = 30
PER_SOURCE = 50
LIMITS: Final = PerScope(PER_NAME, PER_NAME_EVERYWHERE, PER_SOURCE)
# A secret that is long and random is not guessed; a limit everywhere would only let strangers lock a program out.
LIMITS_OF_CLIENTS: Final = PerScope(PER_NAME, 10**6, PER_SOURCE)
_MAX_PARALLEL_PASSWORDS = 5  # passwords of one name that one worker tries at the same time, from different sources
_MAX_UNWRITTEN = 10_000
_MAX_WAIT = 10.0  # seconds that one guess waits for others
_MAX_WAITING: Final = 50  # guesses of one source that wait in one worker; more are refused at once
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries to take a slot
_SHARED_FOR = 20.0  # seconds in which requests with one password join the guess that holds a slot

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
    """The one password that this worker is trying for a pair, how many requests try it, and the slot they hold."""

    password: str = field(repr=False)
    began: float
    requests: int = 0
    slot: Slot | None = None

    def may_be_joined(self, password: str) -> bool:
        """Return whether another request with this password is the same guess."""
        young = time.monotonic() - self.began < _SHARED_FOR
        return self.slot is not None and self.password == password and young


@dataclass(frozen=True, slots=True)
class Attempt:
    """A guess that may be judged: say what came of it before the block ends, or nothing where nobody could judge it."""

    throttle: "SignInThrottle"
    subject: str
    source: str
    now: datetime
    failed_before: bool

    def fail(self) -> None:
        """Count a wrong password or code."""
        self.throttle.record_failure(self.subject, self.source, self.now)

    def succeed(self) -> None:
        """Forget the failures of this pair, which has now proved itself."""
        if self.failed_before:
            self.throttle.clear_failures(self.subject, self.source)


@dataclass(frozen=True, slots=True)
class _Failures:
    """How many failures are on record, and when the newest of each happened, in milliseconds."""

    counts: PerScope
    newest: PerScope


class SignInThrottle:
    """The counter of failed sign-ins, over all workers and restarts."""

    def __init__(self, store: Store, slots: AttemptSlots) -> None:
        self._store = store
        self._slots = slots
        self._running_attempts: dict[str, dict[str, _PasswordAttempt]] = {}  # by subject and source
        self._unwritten: dict[Pair, list[int]] = {}  # when failures happened that could not be counted durably
        self._attempt_ended = threading.Condition()
        self._waiting: Counter[str] = Counter()  # by source

    @contextmanager
    def attempt(
        self,
        subject: str,
        source: str,
        password: str,
        now: datetime,
        limits: PerScope = LIMITS,
        *,
        wait: bool = True,
    ) -> Iterator[Attempt]:
        """Give a guess that may be judged; raise Throttling while it may not, and after ten seconds of waiting.

        Requests of one worker with the same password are one guess, so that one person's programs sign in at once.
        Other passwords of the pair wait for it, and five of one name are tried at once from different sources. Without
        ``wait`` they are refused at once instead.
        """
        running, is_first = self._enter(subject, source, password, wait=wait)
        try:
            if is_first:
                slot, failed_before = self._reserve(subject, source, now, limits, wait=wait)
                with self._attempt_ended:
                    running.slot = slot
                    self._attempt_ended.notify_all()
            else:
                failed_before = self.check_lockout(subject, source, now, limits)
            yield Attempt(self, subject, source, now, failed_before)
        finally:
            self._leave(subject, source, running)

    def _enter(self, subject: str, source: str, password: str, *, wait: bool) -> tuple[_PasswordAttempt, bool]:
        """Wait for the turn of a password; return the guess it belongs to, and whether it is the first of it."""
        with self._attempt_ended:
            if not self._may_try(subject, source, password):
                self._wait_for_turn(subject, source, password, wait=wait)
            ours = self._running_attempts.setdefault(subject, {})
            is_first = source not in ours
            running = ours.setdefault(source, _PasswordAttempt(password, time.monotonic()))
            running.requests += 1
            return running, is_first

    def _wait_for_turn(self, subject: str, source: str, password: str, *, wait: bool) -> None:
        """Wait until a password may be tried; raise Throttling. Those with the password in its turn wait in any number.

        They join that guess as soon as it holds its slot, and ask nothing until then.
        """
        running = self._running_attempts.get(subject, {}).get(source)
        joins = running is not None and running.slot is None and running.password == password
        if not wait and not joins:
            raise _busy(subject)
        with nullcontext() if joins else self._place_to_wait(subject, source):
            if not self._attempt_ended.wait_for(lambda: self._may_try(subject, source, password), _MAX_WAIT):
                raise _busy(subject)

    @contextmanager
    def _place_to_wait(self, subject: str, source: str) -> Iterator[None]:
        """Count a guess that waits; raise Throttling where as many of its source wait as may."""
        with self._attempt_ended:
            if self._waiting[source] >= _MAX_WAITING:
                raise _busy(subject)
            self._waiting[source] += 1
        try:
            yield
        finally:
            with self._attempt_ended:
                self._waiting[source] -= 1
                if not self._waiting[source]:
                    del self._waiting[source]

    def _may_try(self, subject: str, source: str, password: str) -> bool:
        guesses = self._running_attempts.get(subject, {})
        if source in guesses:
            return guesses[source].may_be_joined(password)
        tried = {guess.password for guess in guesses.values()}
        return password in tried or len(tried) < _MAX_PARALLEL_PASSWORDS

    def _leave(self, subject: str, source: str, running: _PasswordAttempt) -> None:
        """End a request's part in a guess; the last one gives the slot back, after every failure was counted."""
        with self._attempt_ended:
            running.requests -= 1
            if running.requests:
                return
            del self._running_attempts[subject][source]
            if not self._running_attempts[subject]:
                del self._running_attempts[subject]
        try:
            if running.slot is not None:
                running.slot.release()
        finally:
            with self._attempt_ended:
                self._attempt_ended.notify_all()

    # --- slots --------------------------------------------------------------------------------------------------------

    def _reserve(self, subject: str, source: str, now: datetime, limits: PerScope, *, wait: bool) -> tuple[Slot, bool]:
        """Return a slot, and whether the pair has failures on record; raise Throttling."""

        def take(failures: _Failures) -> tuple[Slot | None, _Failures]:
            return self._take(failures, subject, source, now, limits)

        slot, failures = take(self._failures(subject, source, now))
        if slot is None and wait:
            with self._place_to_wait(subject, source):
                slot, failures = _take_later(take, failures)
        if slot is None:
            raise _busy(subject)
        return slot, bool(failures.counts.pair)

    def _take(
        self, failures: _Failures, subject: str, source: str, now: datetime, limits: PerScope
    ) -> tuple[Slot | None, _Failures]:
        """Return a slot, or None while there is none, and the failures on record; raise Throttling at a limit.

        A guess that ended between our look at the failures and the slot was in neither. It counts its failure before it
        gives its slot back, so a second look finds it. While no slot is free, the failures are not looked at again.
        """
        _check(failures, limits, subject, now)
        room = PerScope(*(limit - count for limit, count in zip(limits, failures.counts, strict=True)))
        slot = self._slots.take(subject, source, room, to_milliseconds(now))
        if slot is None:
            return None, failures
        failures = self._failures(subject, source, now)
        if all(count + taken <= limit for count, taken, limit in zip(failures.counts, slot.taken, limits, strict=True)):
            return slot, failures
        slot.release()
        return None, failures

    # --- failures -----------------------------------------------------------------------------------------------------

    def check_lockout(self, subject: str, source: str, now: datetime, limits: PerScope = LIMITS) -> bool:
        """Return whether this pair has failures on record; raise Throttling while it, its name or source is locked."""
        failures = self._failures(subject, source, now)
        _check(failures, limits, subject, now)
        return bool(failures.counts.pair)

    def _failures(self, subject: str, source: str, now: datetime) -> _Failures:
        since = to_milliseconds(now) - WINDOW * SECOND
        with self._store.read() as tx:
            asked = {"mine": subject, "from": source, "after": since}
            pair, pair_newest, name, name_newest, here, here_newest = tx.execute(_RECENT, asked).one()
        of_pair, of_name, of_source = self._unwritten_failures(subject, source, since)
        return _Failures(
            PerScope(pair + len(of_pair), name + len(of_name), here + len(of_source)),
            PerScope(max(pair_newest, *of_pair, 0), max(name_newest, *of_name, 0), max(here_newest, *of_source, 0)),
        )

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


def _take_later(
    take: Callable[[_Failures], tuple[Slot | None, _Failures]], failures: _Failures
) -> tuple[Slot | None, _Failures]:
    """Try again for ten seconds, after pauses that double: every try is a query, and other workers give slots back."""
    slot, deadline, pause = None, time.monotonic() + _MAX_WAIT, _FIRST_PAUSE
    while slot is None and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        slot, failures = take(failures)
    return slot, failures


def _check(failures: _Failures, limits: PerScope, subject: str, now: datetime) -> None:
    """Raise Throttling where the failures on record reach a limit."""
    counted = zip(limits, failures.counts, failures.newest, strict=True)
    newest = [last for limit, count, last in counted if count >= limit]
    if newest:
        wait = max(1, WINDOW - (to_milliseconds(now) - max(newest)) // SECOND)
        raise Throttling("Too many failed sign-ins. Try again later.", retry_after=wait, log=f"locked: {subject}")


def _busy(subject: str) -> Throttling:
    return Throttling("Too many sign-ins at once. Try again later.", retry_after=1, log=f"busy: {subject}")
