"""The list of live sessions over a real Redis, and without one."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError
from servers import redis_server

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


@pytest.fixture
def url():
    with redis_server() as url:
        yield url


def listing(url: str) -> LiveSessions:
    return LiveSessions(Redis.from_url(url, decode_responses=True, socket_timeout=0.5), monotonic=time.monotonic)


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
    sessions = LiveSessions(client, monotonic=lambda: next(clock))
    sessions.record(session(1))
    with redis_server() as url:
        socket.symlink_to(url.removeprefix("unix://"))
        assert list(sessions.live(ACCOUNT, now_ms())) == []
        sessions.record(session(2))
        assert [one.id for one in sessions.live(ACCOUNT, now_ms())] == [session(1).id, session(2).id]


def test_without_redis_recording_does_not_raise_and_checking_does():
    sessions = LiveSessions(Redis.from_url("unix:///nowhere.sock"), monotonic=time.monotonic)
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


def test_many_greenlets_record_at_once_and_none_is_lost(url):
    script = f"""
import gevent.monkey; gevent.monkey.patch_all()
import sys, time, gevent
sys.path[:0] = {sys.path!r}
from test_sessions import listing, session, now_ms, ACCOUNT
sessions = listing({url!r})
gevent.joinall([gevent.spawn(sessions.record, session(number)) for number in range(200)], raise_error=True)
assert len(list(sessions.live(ACCOUNT, now_ms()))) == 200
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent, timeout=30)
