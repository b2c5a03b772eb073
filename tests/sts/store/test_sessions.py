"""The list of live sessions over a real Redis, and without one."""

import json
import secrets
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import RedisError
from support.servers import HANG, eventually, free_port, redis_server
from support.threads import ended

from sts.store import session_keys
from sts.store.last_use import LastUse
from sts.store.sealed_values import SealedValues
from sts.store.sessions import LiveSession, LiveSessions

VALUES = SealedValues(bytes(32), secrets.token_bytes)

ACCOUNT = "111122223333"


def session(
    number: int, *, expires_in: float = 900, account: str = ACCOUNT, person: str = "ldap-provider/corp|1"
) -> LiveSession:
    now = int(time.time() * 1000)
    return LiveSession(
        id=f"{number:032x}",
        account_id=account,
        arn=f"arn:aws:sts::{account}:assumed-role/R/ann",
        person=person,
        entity_id="AROAQAAAAAAAAAAAAAAAA",
        access_key_id="ASIAQAAAAAAAAAAAAAAA",
        issued_at=now,
        expires_at=now + int(expires_in * 1000),
        source_ip="127.0.0.1",
        made_by="AssumeRoleWithLDAPIdentity",
        user_agent="curl/8.5.0",
    )


@pytest.fixture(params=["unix socket", "TCP"])
def url(request):
    if request.param == "unix socket":
        with redis_server() as url:
            yield url
    else:
        port = free_port()
        with redis_server("--port", str(port), "--bind", "127.0.0.1"):
            yield f"redis://127.0.0.1:{port}/0"


def listing(url: str) -> LiveSessions:
    """Return a list that writes at once: nothing gathers, nothing runs beside."""
    client = Redis.from_url(url, decode_responses=True, socket_timeout=HANG)
    return LiveSessions(client, VALUES, monotonic=time.monotonic, pause=lambda _: None, spawn=lambda work: work())


def now_ms() -> int:
    return int(time.time() * 1000)


def test_recorded_sessions_are_listed_by_expiry_and_only_in_their_account(url):
    sessions = listing(url)
    late, soon, other = session(1, expires_in=900), session(2, expires_in=60), session(3, account="222233334444")
    for one in (late, soon, other):
        sessions.add(one)
    assert list(sessions.list_live(ACCOUNT, now_ms())) == [soon, late]


def test_an_expired_session_leaves_the_list_by_itself(url):
    sessions = listing(url)
    sessions.add(session(1, expires_in=0.05))
    time.sleep(0.1)
    assert list(sessions.list_live(ACCOUNT, now_ms())) == []


def test_a_forgotten_session_is_listed_no_more(url):
    sessions = listing(url)
    one, two = session(1), session(2)
    sessions.add(one)
    sessions.add(two)
    sessions.remove([one])
    assert list(sessions.list_live(ACCOUNT, now_ms())) == [two]


def test_what_could_not_be_listed_is_listed_when_redis_is_back(tmp_path):
    socket = tmp_path / "r.sock"
    clock = iter(range(100))
    client = Redis.from_url(f"unix://{socket}", decode_responses=True)
    sessions = LiveSessions(
        client, VALUES, monotonic=lambda: next(clock), pause=lambda _: None, spawn=lambda work: work()
    )
    sessions.add(session(1))
    with redis_server() as url:
        socket.symlink_to(url.removeprefix("unix://"))
        assert not list(listing(url).list_live(ACCOUNT, now_ms()))
        sessions.add(session(2))
        assert [one.id for one in sessions.list_live(ACCOUNT, now_ms())] == [session(1).id, session(2).id]


def test_without_redis_recording_does_not_raise_and_checking_does():
    sessions = listing("unix:///nowhere.sock")
    sessions.add(session(1))
    with pytest.raises(RedisError):
        sessions.check()


def test_all_keys_of_an_account_share_one_hash_tag(url):
    sessions = listing(url)
    for number in range(300):
        sessions.add(session(number))
    sessions.record_use((ACCOUNT, session(0).id), now_ms())
    keys = Redis.from_url(url, decode_responses=True).keys("*")
    assert len(keys) == 303  # each session's, the account's, the person's, and the uses
    assert all(f"{{{ACCOUNT}}}" in key for key in keys)


def test_the_index_is_swept_of_what_expired_and_so_are_the_last_uses(url):
    sessions = listing(url)
    for number in range(2):
        sessions.add(session(number, expires_in=2 if number == 0 else 900))
        sessions.record_use((ACCOUNT, session(number).id), now_ms())
    eventually(lambda: len(list(sessions.list_live(ACCOUNT, now_ms()))) == 1)
    for number in range(2, 300):
        sessions.add(session(number))
    redis = Redis.from_url(url, decode_responses=True)
    assert redis.zcard(session_keys.index(ACCOUNT)) == 299
    assert redis.zrange(session_keys.used(ACCOUNT), 0, -1) == [session(1).id]


def test_many_threads_record_at_once_and_none_is_lost(url):
    client = Redis.from_url(url, decode_responses=True)
    spawned = []

    def spawn(work):
        spawned.append(threading.Thread(target=work))
        spawned[-1].start()

    sessions = LiveSessions(client, VALUES, monotonic=time.monotonic, pause=time.sleep, spawn=spawn)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: sessions.add(session(number)), range(500)))
    assert ended(*spawned)
    assert len(list(sessions.list_live(ACCOUNT, now_ms()))) == 500


def test_what_still_waits_is_listed_at_the_end_and_for_whoever_looks(url):
    waiting = LiveSessions(
        Redis.from_url(url, decode_responses=True),
        VALUES,
        monotonic=time.monotonic,
        pause=time.sleep,
        spawn=lambda _: None,
    )
    waiting.add(session(1))
    assert list(listing(url).list_live(ACCOUNT, now_ms())) == []
    waiting.flush()
    assert [one.id for one in listing(url).list_live(ACCOUNT, now_ms())] == [session(1).id]
    waiting.add(session(2))
    assert [one.id for one in waiting.list_live(ACCOUNT, now_ms())] == [session(1).id, session(2).id]


# --- one session, and one person's ------------------------------------------------------------------------------------

PEOPLE = ["ldap-provider/corp|1", "ldap-provider/corp|2", "oidc-provider/x|" + "long" * 300, "iam|{1}:*\n\ud800"]


def test_a_person_sees_their_own_sessions_in_this_account_by_expiry_and_no_others(url):
    sessions = listing(url)
    mine = [session(1, expires_in=900), session(2, expires_in=60), session(3, account="222233334444")]
    others = [session(10 + number, person=person) for number, person in enumerate(PEOPLE[1:])]
    for one in (*mine, *others):
        sessions.add(one)
    assert list(sessions.of_person(ACCOUNT, PEOPLE[0], now_ms())) == [mine[1], mine[0]]
    assert list(sessions.of_person("222233334444", PEOPLE[0], now_ms())) == [mine[2]]
    assert [list(sessions.of_person(ACCOUNT, person, now_ms())) for person in PEOPLE[1:]] == [[one] for one in others]


def test_no_key_says_who_somebody_is(url):
    sessions = listing(url)
    sessions.add(session(1, person="ldap-provider/corp|ann@example.com"))
    keys = Redis.from_url(url, decode_responses=True).keys("*")
    assert len(keys) == 3
    assert not any("ann" in key or "corp" in key for key in keys)


@pytest.mark.parametrize("order", [(60, 900), (900, 60), (900, 900, 60, 300)])
def test_the_index_of_a_person_ends_with_the_last_of_their_sessions_in_whatever_order_they_began(url, order):
    sessions = listing(url)
    listed = [session(number, expires_in=seconds) for number, seconds in enumerate(order)]
    for one in listed:
        sessions.add(one)
    before = now_ms()
    left = Redis.from_url(url).pttl(session_keys.of_person(ACCOUNT, PEOPLE[0]))
    assert before + left - 1000 < max(one.expires_at for one in listed) < now_ms() + left + 1000


def test_the_index_of_a_person_keeps_nothing_that_has_expired(url):
    sessions = listing(url)
    sessions.add(session(1, expires_in=0.05))
    time.sleep(0.1)
    assert not Redis.from_url(url).exists(session_keys.of_person(ACCOUNT, PEOPLE[0]))
    sessions.add(session(2, expires_in=0.05))
    sessions.add(session(3))
    time.sleep(0.1)
    sessions.add(session(4))
    assert Redis.from_url(url).zcard(session_keys.of_person(ACCOUNT, PEOPLE[0])) == 2


def test_a_session_is_found_by_its_id_only_in_its_account_and_until_it_expires(url):
    sessions = listing(url)
    one = session(1)
    sessions.add(one)
    sessions.add(session(2, expires_in=0.05))
    time.sleep(0.1)
    assert sessions.find(ACCOUNT, one.id) == one
    assert sessions.find("222233334444", one.id) is None
    assert sessions.find(ACCOUNT, session(2).id) is None
    assert sessions.find(ACCOUNT, "no such id") is None


@pytest.mark.parametrize("more", [(), ("GetSessionToken", "curl/8", "[1,[],[]]", "ann", "a fact of a later version")])
def test_a_line_of_another_version_still_parses(url, more):
    one = session(1)
    fields = [*one[:9], *more]
    key = session_keys.entry(ACCOUNT, one.id)
    Redis.from_url(url).set(key, VALUES.seal(key, json.dumps(fields)))
    found = listing(url).find(ACCOUNT, one.id)
    assert found == LiveSession(*one[:9], *more[:4])


def test_a_forgotten_session_is_nowhere_any_more(url):
    sessions = listing(url)
    one = session(1)
    sessions.add(one)
    sessions.record_use((ACCOUNT, one.id), now_ms())
    sessions.remove([one])
    sessions.record_use((ACCOUNT, one.id), now_ms())
    assert sessions.find(ACCOUNT, one.id) is None
    assert list(sessions.of_person(ACCOUNT, one.person, now_ms())) == []
    assert sessions.last_used(ACCOUNT, [one.id]) == {}
    assert Redis.from_url(url).keys("*") == []


# --- last use ---------------------------------------------------------------------------------------------------------


def waiting(url: str) -> LiveSessions:
    """Return a list whose writer never comes: what is recorded and noted waits."""
    client = Redis.from_url(url, decode_responses=True, socket_timeout=HANG)
    return LiveSessions(client, VALUES, monotonic=time.monotonic, pause=time.sleep, spawn=lambda _: None)


def test_the_last_use_is_the_latest_of_all_workers_in_whatever_order_they_write(url):
    first, second, third = waiting(url), waiting(url), listing(url)
    one, other = session(1), session(2)
    for each in (one, other, session(3)):
        third.add(each)
    first.record_use((ACCOUNT, one.id), 1_000)
    first.record_use((ACCOUNT, one.id), 5_000)
    second.record_use((ACCOUNT, one.id), 3_000)
    second.record_use((ACCOUNT, other.id), 4_000)
    ids = [one.id, other.id, session(3).id]
    assert third.last_used(ACCOUNT, ids) == {}
    first.flush()
    second.flush()
    assert third.last_used(ACCOUNT, ids) == {one.id: 5_000, other.id: 4_000}
    assert third.last_used("222233334444", ids) == {}
    assert third.last_used(ACCOUNT, []) == {}


def test_a_worker_sees_the_uses_that_it_noted_itself(url):
    listing(url).add(session(1))
    sessions = waiting(url)
    sessions.record_use((ACCOUNT, session(1).id), 7_000)
    assert sessions.last_used(ACCOUNT, [session(1).id]) == {session(1).id: 7_000}


def test_more_sessions_than_fit_one_round_trip_are_told_though_none_was_listed_yet(url):
    sessions = waiting(url)
    ids = [session(number).id for number in range(1_200)]
    for number, one in enumerate(ids):
        sessions.add(session(number))
        sessions.record_use((ACCOUNT, one), number)
    assert sessions.last_used(ACCOUNT, ids) == {one: number for number, one in enumerate(ids)}


def test_the_use_of_a_session_that_is_not_listed_leaves_nothing_behind(url):
    sessions = listing(url)
    sessions.record_use((ACCOUNT, session(1).id), 1_000)
    assert sessions.last_used(ACCOUNT, [session(1).id]) == {}
    assert Redis.from_url(url).keys("*") == []


def test_a_worker_writes_at_most_once_a_second_however_often_sessions_are_used(url):
    pauses: list[float] = []
    uses = iter(range(5))

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if (number := next(uses, None)) is not None:  # requests go on while the writer waits
            last_use.note((ACCOUNT, session(1).id), number)

    client = Redis.from_url(url, decode_responses=True)
    listing(url).add(session(1))
    before = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    last_use = LastUse(client, pause=pause, spawn=lambda work: work())
    for _ in range(1_000):
        last_use.note((ACCOUNT, session(1).id), 0)
    written = client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert set(pauses) == {1.0}
    assert 6 <= written <= len(pauses)


def test_without_redis_a_use_does_not_raise_and_is_written_when_redis_is_back(tmp_path):
    socket = tmp_path / "r.sock"
    client = Redis.from_url(f"unix://{socket}", decode_responses=True)
    last_use = LastUse(client, pause=lambda _: None, spawn=lambda work: work())
    last_use.note((ACCOUNT, session(1).id), 1_000)
    last_use.note((ACCOUNT, session(2).id), 2_000)
    last_use.note((ACCOUNT, session(1).id), 3_000)
    with redis_server() as url:
        socket.symlink_to(url.removeprefix("unix://"))
        for number in range(1, 4):
            listing(url).add(session(number))
        last_use.note((ACCOUNT, session(3).id), 4_000)
        ids = [session(number).id for number in range(1, 4)]
        assert last_use.of(ACCOUNT, ids) == dict(zip(ids, (3_000, 2_000, 4_000), strict=True))


def test_while_redis_is_away_the_uses_of_however_many_sessions_take_little_memory():
    client = Redis.from_url("unix:///nowhere.sock")
    last_use = LastUse(client, pause=lambda _: None, spawn=lambda _: None)
    tracemalloc.start()
    for number in range(100_000):
        last_use.note((ACCOUNT, f"{number:032x}"), number)
        if number % 15_000 == 0:
            last_use.flush()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 8_000_000


def test_a_session_is_listed_also_where_no_thread_could_be_started(url):
    started: list[bool] = []

    def spawn(work) -> None:
        started.append(True)
        if len(started) == 1:
            raise RuntimeError("can't start new thread")
        work()

    client = Redis.from_url(url, decode_responses=True)
    sessions = LiveSessions(client, VALUES, monotonic=time.monotonic, pause=lambda _: None, spawn=spawn)
    sessions.add(session(1))
    sessions.add(session(2))
    assert len(started) == 2
    assert {one.id for one in listing(url).list_live(ACCOUNT, now_ms())} == {session(1).id, session(2).id}


def test_a_use_is_noted_also_where_no_thread_can_be_started(url):
    listing(url).add(session(1))

    def spawn(_work: object) -> None:
        raise RuntimeError("can't start new thread")

    last_use = LastUse(Redis.from_url(url, decode_responses=True), pause=time.sleep, spawn=spawn)
    last_use.note((ACCOUNT, session(1).id), 1_000)
    last_use.note((ACCOUNT, session(1).id), 2_000)
    assert last_use.of(ACCOUNT, [session(1).id]) == {session(1).id: 2_000}


def test_many_threads_use_sessions_at_once_and_every_last_use_is_told(url):
    client = Redis.from_url(url, decode_responses=True)
    spawned = []

    def spawn(work):
        spawned.append(threading.Thread(target=work))
        spawned[-1].start()

    for number in range(50):
        listing(url).add(session(number))
    last_use = LastUse(client, pause=lambda seconds: time.sleep(seconds / 50), spawn=spawn)
    ids = [session(number).id for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: last_use.note((ACCOUNT, ids[number % 50]), number // 50), range(20_000)))
    assert ended(*spawned)
    assert last_use.of(ACCOUNT, ids) == dict.fromkeys(ids, 399)


class SlowRedis:
    """A Redis whose next write waits until it may go on."""

    def __init__(self, redis):
        self._redis = redis
        self.writing, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._redis, name)

    def register_script(self, text):
        script = self._redis.register_script(text)

        def run(*args, **kwargs):
            self.writing.set()
            assert self.go_on.wait(HANG)
            return script(*args, **kwargs)

        return run


def in_a_thread(work):
    threading.Thread(target=work, daemon=True).start()


def test_a_reader_sees_a_session_whose_write_is_on_its_way(url):
    redis = SlowRedis(Redis.from_url(url, decode_responses=True))
    sessions = LiveSessions(redis, VALUES, monotonic=time.monotonic, pause=lambda _: None, spawn=in_a_thread)
    sessions.add(session(1))
    assert redis.writing.wait(HANG)
    found = []
    reader = threading.Thread(target=lambda: found.extend(sessions.list_live(ACCOUNT, now_ms())))
    reader.start()
    redis.go_on.set()
    reader.join(HANG)
    assert [one.id for one in found] == [session(1).id]
