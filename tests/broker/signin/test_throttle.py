"""The counter of failed sign-ins, over a real store and an arbitrary clock."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from broker.signin.throttle import PER_NAME, PER_NAME_EVERYWHERE, PER_SOURCE, WINDOW, Attempts, network
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
def attempts(store: Store) -> Attempts:
    with store.write(revise=False) as tx:
        tx.exec_driver_sql("DELETE FROM failed_attempt")
    return Attempts(store)


def fail(attempts: Attempts, times: int, subject: str = "corp|a", source: str = HERE, at: datetime = NOW) -> None:
    for _ in range(times):
        attempts.failed(subject, source, at)


def wait(attempts: Attempts, subject: str, source: str, at: datetime) -> int | None:
    """Return for how long a pair is locked, or None where it is not."""
    try:
        attempts.admit(subject, source, at)
    except Throttling as locked:
        return locked.retry_after
    return None


def test_a_pair_is_admitted_until_its_fifth_failure_and_says_whether_there_are_any(attempts):
    assert attempts.admit("corp|a", HERE, NOW) is False
    fail(attempts, PER_NAME - 1)
    assert attempts.admit("corp|a", HERE, NOW) is True
    fail(attempts, 1)
    assert wait(attempts, "corp|a", HERE, NOW) == WINDOW


def test_a_lock_is_of_one_name_from_one_source(attempts):
    fail(attempts, PER_NAME)
    assert wait(attempts, "corp|a", THERE, NOW) is None
    assert wait(attempts, "corp|b", HERE, NOW) is None
    assert wait(attempts, "demo|a", HERE, NOW) is None


def test_the_time_to_wait_is_that_of_the_locked_name_and_not_of_another_s_later_failure(attempts):
    fail(attempts, PER_NAME)
    fail(attempts, 1, "corp|b", at=NOW + timedelta(minutes=10))
    assert wait(attempts, "corp|a", HERE, NOW + timedelta(minutes=10)) == WINDOW - 600


def test_a_lock_ends_with_its_window_and_the_count_starts_anew(attempts):
    fail(attempts, PER_NAME)
    after = NOW + timedelta(seconds=WINDOW)
    assert wait(attempts, "corp|a", HERE, after - timedelta(seconds=1)) == 1
    assert wait(attempts, "corp|a", HERE, after) is None
    fail(attempts, 1, at=after)
    assert wait(attempts, "corp|a", HERE, after) is None


def test_a_success_forgets_its_own_pair_alone(attempts):
    fail(attempts, PER_NAME)
    fail(attempts, PER_NAME, source=THERE)
    attempts.succeeded("corp|a", HERE)
    assert wait(attempts, "corp|a", HERE, NOW) is None
    assert wait(attempts, "corp|a", THERE, NOW) == WINDOW


def test_fifty_failures_of_any_names_lock_their_source(attempts):
    for number in range(PER_SOURCE - 1):
        fail(attempts, 1, f"corp|{number}")
    assert wait(attempts, "corp|fresh", HERE, NOW) is None
    fail(attempts, 1, "corp|last")
    assert wait(attempts, "corp|fresh", HERE, NOW) == WINDOW
    assert wait(attempts, "corp|fresh", THERE, NOW) is None


# --- many addresses ---------------------------------------------------------------------------------------------------


def addresses(count: int) -> list[str]:
    return [f"198.51.100.{number}" for number in range(1, count + 1)]


def test_thirty_failures_of_one_name_from_any_sources_lock_it_everywhere_and_no_other_name(attempts):
    for source in addresses(PER_NAME_EVERYWHERE - 1):
        fail(attempts, 1, source=source)
    assert attempts.admit("corp|a", HERE, NOW) is False
    fail(attempts, 1, source=THERE)
    assert wait(attempts, "corp|a", HERE, NOW) == WINDOW
    assert wait(attempts, "corp|a", THERE, NOW) == WINDOW
    assert wait(attempts, "corp|b", HERE, NOW) is None
    assert wait(attempts, "demo|a", HERE, NOW) is None


def test_a_name_is_locked_everywhere_for_at_most_the_window_after_its_newest_failure(attempts):
    for number, source in enumerate(addresses(PER_NAME_EVERYWHERE)):
        fail(attempts, 1, source=source, at=NOW + timedelta(seconds=number))
    last = NOW + timedelta(seconds=PER_NAME_EVERYWHERE - 1)
    fail(attempts, 1, "corp|b", HERE, at=last + timedelta(seconds=60))
    assert wait(attempts, "corp|a", HERE, last + timedelta(seconds=60)) == WINDOW - 60
    assert wait(attempts, "corp|a", HERE, last + timedelta(seconds=WINDOW)) is None


def test_a_success_gives_nobody_elsewhere_new_tries_of_the_name(attempts):
    fail(attempts, PER_NAME - 1)
    for source in addresses(PER_NAME_EVERYWHERE):
        fail(attempts, 1, source=source)
    attempts.succeeded("corp|a", HERE)
    assert wait(attempts, "corp|a", HERE, NOW) == WINDOW
    attempts.succeeded("corp|a", addresses(1)[0])
    assert wait(attempts, "corp|a", HERE, NOW) is None


def test_one_statement_answers_whether_a_sign_in_is_admitted(attempts):
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement.split()[0])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        attempts.admit("corp|a", HERE, NOW)
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
    assert network(address) == SOURCES[address]


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_the_lower_half_of_an_ipv6_address_makes_no_source_of_its_own(address, lower):
    sibling = IPv6Address(int(address) >> 64 << 64 | lower)
    if not (address.ipv4_mapped or sibling.ipv4_mapped):
        assert network(str(address)) == network(str(sibling))


# --- over workers and faults ---------------------------------------------------------------------------------------


def test_another_counter_over_the_same_store_knows_the_same_failures(attempts, store):
    fail(attempts, PER_NAME)
    assert wait(Attempts(store), "corp|a", HERE, NOW) == WINDOW


def test_no_failure_is_lost_when_many_are_counted_at_once(attempts):
    threads = [threading.Thread(target=fail, args=(attempts, 5, "corp|b", THERE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with attempts._store.read() as tx:
        assert tx.exec_driver_sql("SELECT failures FROM failed_attempt").scalars().all() == [20]


def test_without_its_store_nobody_is_admitted(tmp_path: Path):
    lost = Store(f"sqlite:///{tmp_path / 'f.db'}", Vault(b"k" * 32), monotonic=time.monotonic)  # it has no tables
    with pytest.raises(ServiceError) as refused:
        Attempts(lost).admit("corp|a", HERE, NOW)
    assert refused.value.code == "ServiceUnavailable"
    lost.close()


def test_failures_that_cannot_be_written_down_count_in_this_worker(attempts, store):
    fail(attempts, 2)
    fill(store)
    for _ in range(PER_NAME - 2):
        assert wait(attempts, "corp|a", HERE, NOW) is None
        with pytest.raises(ServiceError):
            attempts.failed("corp|a", HERE, NOW)
    assert wait(attempts, "corp|a", HERE, NOW) == WINDOW
    assert wait(attempts, "corp|a", THERE, NOW) is None
    assert wait(attempts, "corp|a", HERE, NOW + timedelta(seconds=WINDOW)) is None
    empty(store)
    attempts.succeeded("corp|a", HERE)
    assert wait(attempts, "corp|a", HERE, NOW) is None


def test_failures_that_cannot_be_written_down_count_for_their_name_everywhere(attempts, store):
    *written, last = addresses(PER_NAME_EVERYWHERE)
    for source in written[:10]:
        fail(attempts, 1, source=source)
    fill(store)
    try:
        for source in (*written[10:], last):
            assert wait(attempts, "corp|a", HERE, NOW) is None
            with pytest.raises(ServiceError):
                attempts.failed("corp|a", source, NOW)
        assert wait(attempts, "corp|a", HERE, NOW) == WINDOW
        assert wait(attempts, "corp|b", HERE, NOW) is None
    finally:
        empty(store)


def test_failures_that_cannot_be_written_down_count_for_their_source(attempts, store):
    fail(attempts, PER_NAME - 1, subject="corp|written")
    fill(store)
    try:
        for number in range(PER_SOURCE - PER_NAME + 1):
            assert wait(attempts, "corp|next", HERE, NOW) is None
            with pytest.raises(ServiceError):
                attempts.failed(f"corp|{number}", HERE, NOW)
        assert wait(attempts, "corp|next", HERE, NOW) == WINDOW
        assert wait(attempts, "corp|next", THERE, NOW) is None
    finally:
        empty(store)


def fill(store: Store) -> None:
    """Let no failure be written, as on a full disk."""
    with store.write(revise=False) as tx:
        for change in ("UPDATE", "INSERT"):
            refuse = f"BEFORE {change} ON failed_attempt BEGIN SELECT RAISE(ABORT, 'full'); END"
            tx.exec_driver_sql(f"CREATE TRIGGER full_{change} {refuse}")


def empty(store: Store) -> None:
    with store.write(revise=False) as tx:
        for change in ("UPDATE", "INSERT"):
            tx.exec_driver_sql(f"DROP TRIGGER full_{change}")


# --- turns -------------------------------------------------------------------------------------------------------


def in_turn(attempts: Attempts, *tries: tuple[str, str, str]) -> int:
    """Try all at once, and return how many were in their turn at the same time."""
    inside, most, lock = 0, 0, threading.Lock()

    def one(subject: str, source: str, password: str) -> None:
        nonlocal inside, most
        with attempts.turn(subject, source, password):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=one, args=given) for given in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


def test_different_passwords_of_one_name_are_tried_one_after_another(attempts):
    assert in_turn(attempts, *(("corp|a", HERE, f"guess-{number}") for number in range(4))) == 1


def test_one_password_is_tried_by_all_at_once(attempts):
    assert in_turn(attempts, *[("corp|a", HERE, "the one")] * 4) == 4


def test_names_and_sources_do_not_wait_for_each_other(attempts):
    assert in_turn(attempts, ("corp|a", HERE, "x"), ("corp|b", HERE, "y"), ("corp|a", THERE, "z")) == 3


def test_five_passwords_of_one_name_are_tried_at_once_from_however_many_sources(attempts):
    tries = [("corp|a", source, f"guess from {source}") for source in addresses(12)]
    assert in_turn(attempts, *tries) == 5


def test_one_password_is_tried_from_all_sources_at_once(attempts):
    assert in_turn(attempts, *(("corp|a", source, "the one") for source in addresses(12))) == 12


def test_a_turn_ends_whatever_happens_in_it(attempts):
    with pytest.raises(RuntimeError), attempts.turn("corp|a", HERE, "first"):
        raise RuntimeError
    with attempts.turn("corp|a", HERE, "second"):
        pass
    assert not attempts._guesses


def test_a_password_in_its_turn_is_not_shown(attempts):
    with attempts.turn("corp|a", HERE, "in-clear"):
        assert "in-clear" not in repr(attempts._guesses)


# --- a law ---------------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["fail", "succeed", "wait"]), st.sampled_from(["corp|a", "corp|b"]), st.integers(1, 600)),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_a_pair_is_locked_exactly_while_five_failures_without_a_pause_of_a_window_or_a_success_stand(store, events):
    with store.write(revise=False) as tx:
        tx.exec_driver_sql("DELETE FROM failed_attempt")
    attempts, now = Attempts(store), NOW
    expected: dict[str, tuple[int, datetime]] = {}
    for kind, subject, amount in events:
        if kind == "wait":
            now += timedelta(seconds=amount)
        elif kind == "succeed":
            attempts.succeeded(subject, HERE)
            expected.pop(subject, None)
        else:
            attempts.failed(subject, HERE, now)
            count, newest = expected.get(subject, (0, now))
            expected[subject] = (1 if now - newest >= timedelta(seconds=WINDOW) else count + 1, now)
        for name in ("corp|a", "corp|b"):
            count, newest = expected.get(name, (0, now))
            passed = int((now - newest).total_seconds())
            locked = count >= PER_NAME and passed < WINDOW
            assert wait(attempts, name, HERE, now) == (WINDOW - passed if locked else None)
