"""The list of live sessions over a real Redis, and without one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import RedisError
from servers import free_port, redis_server

from sts.sessions import LiveSession, LiveSessions

ACCOUNT = "111122223333"


def session(number: int, *, expires_in: float = 900, account: str = ACCOUNT) -> LiveSession:
    now = int(time.time() * 1000)
    return LiveSession(
        id=f"{number:032x}",
        account_id=account,
        arn=f"arn:aws:sts::{account}:assumed-role/R/ann",
        person="ldap-provider/corp|1",
        entity_id="AROAQAAAAAAAAAAAAAAAA",
        access_key_id="ASIAQAAAAAAAAAAAAAAA",
        issued_at=now,
        expires_at=now + int(expires_in * 1000),
        source_ip="127.0.0.1",
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
    client = Redis.from_url(url, decode_responses=True, socket_timeout=0.5)
    return LiveSessions(client, monotonic=time.monotonic, pause=lambda _: None, spawn=lambda work: work())


def now_ms() -> int:
    return int(time.time() * 1000)


def test_recorded_sessions_are_listed_by_expiry_and_only_in_their_account(url):
    sessions = listing(url)
    late, soon, other = session(1, expires_in=900), session(2, expires_in=60), session(3, account="222233334444")
    for one in (late, soon, other):
        sessions.record(one)
    assert list(sessions.live(ACCOUNT, now_ms())) == [soon, late]


def test_an_expired_session_leaves_the_list_by_itself(url):
    sessions = listing(url)
    sessions.record(session(1, expires_in=0.05))
    time.sleep(0.1)
    assert list(sessions.live(ACCOUNT, now_ms())) == []


def test_a_forgotten_session_is_listed_no_more(url):
    sessions = listing(url)
    one, two = session(1), session(2)
    sessions.record(one)
    sessions.record(two)
    sessions.forget([one])
    assert list(sessions.live(ACCOUNT, now_ms())) == [two]


def test_what_could_not_be_listed_is_listed_when_redis_is_back(tmp_path):
    socket = tmp_path / "r.sock"
    clock = iter(range(100))
    client = Redis.from_url(f"unix://{socket}", decode_responses=True)
    sessions = LiveSessions(client, monotonic=lambda: next(clock), pause=lambda _: None, spawn=lambda work: work())
    sessions.record(session(1))
    with redis_server() as url:
        socket.symlink_to(url.removeprefix("unix://"))
        assert not list(listing(url).live(ACCOUNT, now_ms()))
        sessions.record(session(2))
        assert [one.id for one in sessions.live(ACCOUNT, now_ms())] == [session(1).id, session(2).id]


def test_without_redis_recording_does_not_raise_and_checking_does():
    sessions = listing("unix:///nowhere.sock")
    sessions.record(session(1))
    with pytest.raises(RedisError):
        sessions.check()


def test_all_keys_of_an_account_share_one_hash_tag(url):
    sessions = listing(url)
    for number in range(300):
        sessions.record(session(number))
    keys = Redis.from_url(url, decode_responses=True).keys("*")
    assert len(keys) == 301
    assert all(f"{{{ACCOUNT}}}" in key for key in keys)


def test_the_index_is_swept_of_what_expired(url):
    sessions = listing(url)
    sessions.record(session(0, expires_in=0.01))
    time.sleep(0.05)
    for number in range(1, 300):
        sessions.record(session(number))
    assert Redis.from_url(url).zcard(f"fedgate:{{{ACCOUNT}}}:live") == 299


def test_many_threads_record_at_once_and_none_is_lost(url):
    client = Redis.from_url(url, decode_responses=True)
    spawned = []

    def spawn(work):
        spawned.append(threading.Thread(target=work))
        spawned[-1].start()

    sessions = LiveSessions(client, monotonic=time.monotonic, pause=time.sleep, spawn=spawn)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: sessions.record(session(number)), range(500)))
    for one in spawned:
        one.join()
    assert len(list(sessions.live(ACCOUNT, now_ms()))) == 500


def test_what_still_waits_is_listed_at_the_end_and_for_whoever_looks(url):
    waiting = LiveSessions(
        Redis.from_url(url, decode_responses=True), monotonic=time.monotonic, pause=time.sleep, spawn=lambda _: None
    )
    waiting.record(session(1))
    assert list(listing(url).live(ACCOUNT, now_ms())) == []
    waiting.settle()
    assert [one.id for one in listing(url).live(ACCOUNT, now_ms())] == [session(1).id]
    waiting.record(session(2))
    assert [one.id for one in waiting.live(ACCOUNT, now_ms())] == [session(1).id, session(2).id]
