"""The counter of failed sign-ins, over a real store and an arbitrary clock."""

import contextlib
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from sqlalchemy import Engine, event
from support.servers import HANG, eventually

from broker import wiring
from broker.signin.attempt_slots import AttemptSlots, PerScope, Slot
from broker.signin.throttle import PER_NAME, PER_NAME_EVERYWHERE, PER_SOURCE, WINDOW, SignInThrottle, throttle_source
from iam.errors import ServiceError, Throttling
from iam.store.store import Store
from iam.store.vault import Vault

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('s') / 'f.db'}", Vault(b"k" * 32), monotonic=time.monotonic)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def throttle(store: Store, redis_url: str) -> SignInThrottle:
    with store.write(bump_revision=False) as tx:
        tx.exec_driver_sql("DELETE FROM failed_attempt")
        tx.exec_driver_sql("DELETE FROM running_attempt")
    redis = wiring.open_redis(redis_url)
    redis.flushall()
    return over(store, redis)


def over(store: Store, redis: Redis) -> SignInThrottle:
    """Return the throttle of one more worker."""
    return SignInThrottle(store, AttemptSlots(redis, store, secrets.token_bytes))


NO_REDIS = wiring.open_redis("unix:///nowhere/redis.sock")


def fail(throttle: SignInThrottle, times: int, subject: str = "corp|a", source: str = HERE, at: datetime = NOW) -> None:
    for _ in range(times):
        throttle.record_failure(subject, source, at)


def wait(throttle: SignInThrottle, subject: str, source: str, at: datetime) -> int | None:
    """Return for how long a pair is locked, or None where it is not."""
    try:
        throttle.check_lockout(subject, source, at)
    except Throttling as locked:
        return locked.retry_after
    return None


def test_a_pair_is_admitted_until_its_fifth_failure_and_says_whether_there_are_any(throttle):
    assert throttle.check_lockout("corp|a", HERE, NOW) is False
    fail(throttle, PER_NAME - 1)
    assert throttle.check_lockout("corp|a", HERE, NOW) is True
    fail(throttle, 1)
    assert wait(throttle, "corp|a", HERE, NOW) == WINDOW


def test_a_lock_is_of_one_name_from_one_source(throttle):
    fail(throttle, PER_NAME)
    assert wait(throttle, "corp|a", THERE, NOW) is None
    assert wait(throttle, "corp|b", HERE, NOW) is None
    assert wait(throttle, "demo|a", HERE, NOW) is None


def test_the_time_to_wait_is_that_of_the_locked_name_and_not_of_another_s_later_failure(throttle):
    fail(throttle, PER_NAME)
    fail(throttle, 1, "corp|b", at=NOW + timedelta(minutes=10))
    assert wait(throttle, "corp|a", HERE, NOW + timedelta(minutes=10)) == WINDOW - 600


def test_a_lock_ends_with_its_window_and_the_count_starts_anew(throttle):
    fail(throttle, PER_NAME)
    after = NOW + timedelta(seconds=WINDOW)
    assert wait(throttle, "corp|a", HERE, after - timedelta(seconds=1)) == 1
    assert wait(throttle, "corp|a", HERE, after) is None
    fail(throttle, 1, at=after)
    assert wait(throttle, "corp|a", HERE, after) is None


def test_a_success_forgets_its_own_pair_alone(throttle):
    fail(throttle, PER_NAME)
    fail(throttle, PER_NAME, source=THERE)
    throttle.clear_failures("corp|a", HERE)
    assert wait(throttle, "corp|a", HERE, NOW) is None
    assert wait(throttle, "corp|a", THERE, NOW) == WINDOW


def test_fifty_failures_of_any_names_lock_their_source(throttle):
    for number in range(PER_SOURCE - 1):
        fail(throttle, 1, f"corp|{number}")
    assert wait(throttle, "corp|fresh", HERE, NOW) is None
    fail(throttle, 1, "corp|last")
    assert wait(throttle, "corp|fresh", HERE, NOW) == WINDOW
    assert wait(throttle, "corp|fresh", THERE, NOW) is None


# --- many addresses ---------------------------------------------------------------------------------------------------


def addresses(count: int) -> list[str]:
    return [f"198.51.100.{number}" for number in range(1, count + 1)]


def test_thirty_failures_of_one_name_from_any_sources_lock_it_everywhere_and_no_other_name(throttle):
    for source in addresses(PER_NAME_EVERYWHERE - 1):
        fail(throttle, 1, source=source)
    assert throttle.check_lockout("corp|a", HERE, NOW) is False
    fail(throttle, 1, source=THERE)
    assert wait(throttle, "corp|a", HERE, NOW) == WINDOW
    assert wait(throttle, "corp|a", THERE, NOW) == WINDOW
    assert wait(throttle, "corp|b", HERE, NOW) is None
    assert wait(throttle, "demo|a", HERE, NOW) is None


def test_a_name_is_locked_everywhere_for_at_most_the_window_after_its_newest_failure(throttle):
    for number, source in enumerate(addresses(PER_NAME_EVERYWHERE)):
        fail(throttle, 1, source=source, at=NOW + timedelta(seconds=number))
    last = NOW + timedelta(seconds=PER_NAME_EVERYWHERE - 1)
    fail(throttle, 1, "corp|b", HERE, at=last + timedelta(seconds=60))
    assert wait(throttle, "corp|a", HERE, last + timedelta(seconds=60)) == WINDOW - 60
    assert wait(throttle, "corp|a", HERE, last + timedelta(seconds=WINDOW)) is None


def test_a_success_gives_nobody_elsewhere_new_tries_of_the_name(throttle):
    fail(throttle, PER_NAME - 1)
    for source in addresses(PER_NAME_EVERYWHERE):
        fail(throttle, 1, source=source)
    throttle.clear_failures("corp|a", HERE)
    assert wait(throttle, "corp|a", HERE, NOW) == WINDOW
    throttle.clear_failures("corp|a", addresses(1)[0])
    assert wait(throttle, "corp|a", HERE, NOW) is None


def test_one_statement_answers_whether_a_sign_in_is_admitted(throttle):
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        throttle.check_lockout("corp|a", HERE, NOW)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert asked.count("SELECT") == 1
    assert set(asked) <= {"SELECT", "BEGIN", "ROLLBACK", "COMMIT"}


SOURCES = {
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "2001:db8:1:2::": "2001:db8:1:2::/64",
    "2001:db8:1:3::1": "2001:db8:1:3::/64",
    "fe80::1%eth0": "fe80::/64",
    "::ffff:192.0.2.1": "192.0.2.1",
    "192.0.2.1": "192.0.2.1",
    "": "",
    "unknown": "unknown",
}


@pytest.mark.parametrize("address", SOURCES)
def test_one_source_is_an_ipv4_address_or_an_ipv6_64(address):
    assert throttle_source(address) == SOURCES[address]


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_the_lower_half_of_an_ipv6_address_makes_no_source_of_its_own(address, lower):
    sibling = IPv6Address(int(address) >> 64 << 64 | lower)
    if not (address.ipv4_mapped or sibling.ipv4_mapped):
        assert throttle_source(str(address)) == throttle_source(str(sibling))


# --- over workers and faults ---------------------------------------------------------------------------------------


def test_another_counter_over_the_same_store_knows_the_same_failures(throttle, store):
    fail(throttle, PER_NAME)
    assert wait(over(store, NO_REDIS), "corp|a", HERE, NOW) == WINDOW


def test_no_failure_is_lost_when_many_are_counted_at_once(throttle):
    threads = [threading.Thread(target=fail, args=(throttle, 5, "corp|b", THERE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with throttle._store.read() as tx:
        assert tx.exec_driver_sql("SELECT failures FROM failed_attempt").scalars().all() == [20]


def test_without_its_store_nobody_is_admitted(tmp_path: Path):
    lost = Store(f"sqlite:///{tmp_path / 'f.db'}", Vault(b"k" * 32), monotonic=time.monotonic)  # it has no tables
    with pytest.raises(ServiceError) as refused:
        over(lost, NO_REDIS).check_lockout("corp|a", HERE, NOW)
    assert refused.value.code == "ServiceUnavailable"
    lost.close()


def test_failures_that_cannot_be_written_down_count_in_this_worker(throttle, store):
    fail(throttle, 2)
    fill(store)
    for _ in range(PER_NAME - 2):
        assert wait(throttle, "corp|a", HERE, NOW) is None
        with pytest.raises(ServiceError):
            throttle.record_failure("corp|a", HERE, NOW)
    assert wait(throttle, "corp|a", HERE, NOW) == WINDOW
    assert wait(throttle, "corp|a", THERE, NOW) is None
    assert wait(throttle, "corp|a", HERE, NOW + timedelta(seconds=WINDOW)) is None
    empty(store)
    throttle.clear_failures("corp|a", HERE)
    assert wait(throttle, "corp|a", HERE, NOW) is None


def test_failures_that_cannot_be_written_down_count_for_their_name_everywhere(throttle, store):
    *written, last = addresses(PER_NAME_EVERYWHERE)
    for source in written[:10]:
        fail(throttle, 1, source=source)
    fill(store)
    try:
        for source in (*written[10:], last):
            assert wait(throttle, "corp|a", HERE, NOW) is None
            with pytest.raises(ServiceError):
                throttle.record_failure("corp|a", source, NOW)
        assert wait(throttle, "corp|a", HERE, NOW) == WINDOW
        assert wait(throttle, "corp|b", HERE, NOW) is None
    finally:
        empty(store)


def test_failures_that_cannot_be_written_down_count_for_their_source(throttle, store):
    fail(throttle, PER_NAME - 1, subject="corp|written")
    fill(store)
    try:
        for number in range(PER_SOURCE - PER_NAME + 1):
            assert wait(throttle, "corp|next", HERE, NOW) is None
            with pytest.raises(ServiceError):
                throttle.record_failure(f"corp|{number}", HERE, NOW)
        assert wait(throttle, "corp|next", HERE, NOW) == WINDOW
        assert wait(throttle, "corp|next", THERE, NOW) is None
    finally:
        empty(store)


def fill(store: Store) -> None:
    """Let no failure be written, as on a full disk."""
    with store.write(bump_revision=False) as tx:
        for change in ("UPDATE", "INSERT"):
            refuse = f"BEFORE {change} ON failed_attempt BEGIN SELECT RAISE(ABORT, 'full'); END"
            tx.exec_driver_sql(f"CREATE TRIGGER full_{change} {refuse}")


def empty(store: Store) -> None:
    with store.write(bump_revision=False) as tx:
        for change in ("UPDATE", "INSERT"):
            tx.exec_driver_sql(f"DROP TRIGGER full_{change}")


# --- turns -------------------------------------------------------------------------------------------------------


def most_at_once(throttle: SignInThrottle, tries: Iterable[tuple[str, str, str]], expected: int) -> int:
    """Try all at once; return how many were let in at the same time, where nobody leaves before as many as expected."""
    inside, most, changed = 0, 0, threading.Condition()

    def attempt(subject: str, source: str, password: str) -> None:
        nonlocal inside, most
        with throttle.attempt(subject, source, password, NOW):
            with changed:
                inside += 1
                most = max(most, inside)
                changed.notify_all()
                changed.wait_for(lambda: most >= expected, HANG)
            time.sleep(0.05)  # one more than expected has time to come in
            with changed:
                inside -= 1

    threads = [threading.Thread(target=attempt, args=given) for given in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def test_different_passwords_of_one_name_are_tried_one_after_another(throttle):
    assert most_at_once(throttle, (("corp|a", HERE, f"guess-{number}") for number in range(4)), 1) == 1


def test_one_password_is_tried_by_all_at_once(throttle):
    assert most_at_once(throttle, [("corp|a", HERE, "the one")] * 4, 4) == 4


def test_names_and_sources_do_not_wait_for_each_other(throttle):
    tries = [("corp|a", HERE, "x"), ("corp|b", HERE, "y"), ("corp|a", THERE, "z")]
    assert most_at_once(throttle, tries, 3) == 3


def test_five_passwords_of_one_name_are_tried_at_once_from_however_many_sources(throttle):
    tries = [("corp|a", source, f"guess from {source}") for source in addresses(12)]
    assert most_at_once(throttle, tries, 5) == 5


def test_one_password_is_tried_from_all_sources_at_once(throttle):
    assert most_at_once(throttle, (("corp|a", source, "the one") for source in addresses(12)), 12) == 12


def test_a_turn_ends_whatever_happens_in_it(throttle):
    with pytest.raises(RuntimeError), throttle.attempt("corp|a", HERE, "first", NOW):
        raise RuntimeError
    with throttle.attempt("corp|a", HERE, "second", NOW):
        pass
    assert not throttle._running_attempts


def test_a_password_in_its_turn_is_not_shown(throttle):
    with throttle.attempt("corp|a", HERE, "in-clear", NOW):
        assert "in-clear" not in repr(throttle._running_attempts)


# --- slots -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["redis", "sql"])
def workers(request, redis_url: str, throttle: SignInThrottle) -> tuple[SignInThrottle, SignInThrottle]:
    """The throttles of two workers, whose slots are in Redis, or in SQL while Redis is down."""
    redis = wiring.open_redis(redis_url) if request.param == "redis" else NO_REDIS
    return over(throttle._store, redis), over(throttle._store, redis)


def judged(workers: tuple[SignInThrottle, ...], guesses: Iterable[tuple[str, str]]) -> int:
    """Send wrong guesses (subject, source) all at once and return how many passwords were looked at."""
    looked_at: list[str] = []

    def guess(worker: SignInThrottle, subject: str, source: str, number: int) -> None:
        with contextlib.suppress(Throttling), worker.attempt(subject, source, f"guess-{number}", NOW) as attempt:
            looked_at.append(subject)
            time.sleep(0.01)  # a directory takes a while; more of them come in meanwhile
            attempt.fail()

    with ThreadPoolExecutor(60) as pool:
        for number, (subject, source) in enumerate(guesses):
            pool.submit(guess, workers[number % len(workers)], subject, source, number)
    assert looked_at
    return len(looked_at)


def test_of_a_burst_from_one_source_no_more_guesses_are_judged_than_its_limit(workers):
    assert judged(workers, ((f"corp|{number}", HERE) for number in range(150))) <= PER_SOURCE


def test_of_a_burst_at_one_name_no_more_guesses_are_judged_than_its_limits(workers):
    assert judged(workers, [("corp|a", HERE)] * 20) <= PER_NAME
    assert judged(workers, (("corp|b", f"198.51.100.{number}") for number in range(60))) <= PER_NAME_EVERYWHERE


def test_right_passwords_give_their_slots_back_and_count_for_nothing(workers):
    for number in range(PER_SOURCE + 10):
        with workers[number % 2].attempt(f"corp|{number}", HERE, "right", NOW) as attempt:
            attempt.succeed()
    assert wait(workers[0], "corp|next", HERE, NOW) is None


def test_a_guess_that_nobody_could_judge_counts_for_nothing(workers):
    for _ in range(PER_NAME + 1):
        with pytest.raises(RuntimeError), workers[0].attempt("corp|a", HERE, "x", NOW):
            raise RuntimeError
    with workers[1].attempt("corp|a", HERE, "x", NOW) as attempt:
        assert not attempt.failed_before


class RefusingSlots(AttemptSlots):
    """Refuses so many tries, or all of them until ``refusals`` is 0."""

    def __init__(self, store: Store, refusals: float) -> None:
        super().__init__(NO_REDIS, store, secrets.token_bytes)
        self.refusals = refusals

    def take(self, subject: str, source: str, room: PerScope, at: int) -> Slot | None:
        if self.refusals > 0:
            self.refusals -= 1
            return None
        return super().take(subject, source, room, at)


def test_more_than_fifty_guesses_of_one_source_do_not_wait_in_a_worker(throttle):
    slots = RefusingSlots(throttle._store, float("inf"))
    worker = SignInThrottle(throttle._store, slots)

    def guess(number: int) -> None:
        with contextlib.suppress(ServiceError), worker.attempt(f"corp|{number}", HERE, "x", NOW):
            pass

    with ThreadPoolExecutor(50) as pool:
        pool.map(guess, range(50))
        try:
            eventually(lambda: worker._waiting[HERE] == 50)
            with pytest.raises(Throttling) as refused, worker.attempt("corp|one more", HERE, "x", NOW):
                pass
            assert refused.value.retry_after == 1
            assert worker._waiting[HERE] > 0  # it was refused while the others wait
        finally:
            slots.refusals = 0
    assert not worker._waiting
    with worker.attempt("corp|one more", HERE, "x", NOW):
        pass


def test_while_no_slot_is_free_the_failures_are_not_read_again(throttle):
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    worker = SignInThrottle(throttle._store, RefusingSlots(throttle._store, 3))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        with worker.attempt("corp|a", HERE, "x", NOW):
            pass
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sum("failed_attempt" in statement for statement in asked) == 2  # before, and when it had the slot


def test_the_slot_of_a_killed_worker_ends_by_itself(throttle):
    slots, room = AttemptSlots(NO_REDIS, throttle._store, secrets.token_bytes), PerScope(1, 1, 1)
    assert slots.take("corp|a", HERE, room, 0)
    assert slots.take("corp|a", HERE, room, 119_999) is None
    assert slots.take("corp|a", HERE, room, 120_000)


def test_a_sign_in_stands_whose_slot_cannot_be_given_back(throttle, store):
    worker = over(throttle._store, NO_REDIS)
    with contextlib.ExitStack() as refusing, worker.attempt("corp|a", HERE, "right", NOW) as attempt:
        attempt.succeed()
        with store.write(bump_revision=False) as tx:
            refuse = "BEFORE DELETE ON running_attempt BEGIN SELECT RAISE(ABORT, 'full'); END"
            tx.exec_driver_sql(f"CREATE TRIGGER refuse_release {refuse}")
        refusing.callback(_remove_trigger, store)


def _remove_trigger(store: Store) -> None:
    with store.write(bump_revision=False) as tx:
        tx.exec_driver_sql("DROP TRIGGER refuse_release")


def test_a_slot_in_redis_has_an_end_and_shows_no_name(redis_url, throttle):
    redis = wiring.open_redis(redis_url)
    with throttle.attempt("corp|a-password-typed-as-a-name", HERE, "x", NOW):
        keys = redis.keys("attempt:*")
        assert len(keys) == 3
        assert all(0 < redis.pttl(key) <= 120_000 for key in keys)
        assert not any("typed" in key for key in keys)
    assert redis.keys("attempt:*") == []


# --- a law ---------------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["fail", "succeed", "wait"]), st.sampled_from(["corp|a", "corp|b"]), st.integers(1, 600)),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_a_pair_is_locked_exactly_while_five_failures_without_a_pause_of_a_window_or_a_success_stand(store, events):
    with store.write(bump_revision=False) as tx:
        tx.exec_driver_sql("DELETE FROM failed_attempt")
    throttle, now = over(store, NO_REDIS), NOW
    expected: dict[str, tuple[int, datetime]] = {}
    for kind, subject, amount in events:
        if kind == "wait":
            now += timedelta(seconds=amount)
        elif kind == "succeed":
            throttle.clear_failures(subject, HERE)
            expected.pop(subject, None)
        else:
            throttle.record_failure(subject, HERE, now)
            count, newest = expected.get(subject, (0, now))
            expected[subject] = (1 if now - newest >= timedelta(seconds=WINDOW) else count + 1, now)
        for name in ("corp|a", "corp|b"):
            count, newest = expected.get(name, (0, now))
            passed = int((now - newest).total_seconds())
            locked = count >= PER_NAME and passed < WINDOW
            assert wait(throttle, name, HERE, now) == (WINDOW - passed if locked else None)
