"""The list of live sessions, in Redis.

Tokens carry their own session, so nothing here is needed to verify one: while Redis is away credentials are minted
and verified as before, and what could not be listed waits in the worker and is listed when Redis is back. All keys of
an account share one hash tag, so that a cluster keeps them on one node.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

_BACKLOG = 10_000
_PAUSE = (
    1.0  # seconds without a try after a failure, so that an outage costs one time-out a second and not one a request
)
_SWEEP = 256  # one in so many records also drops the expired from the index
_CHUNK = 500


# One round trip for entry and index; every so often it also drops from the index what has expired.
_LIST = """
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[3])
if ARGV[4] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[4]) end
"""


class LiveSession(NamedTuple):
    """One line of the list: facts, no secrets. Times are milliseconds since 1970."""

    id: str
    account_id: str
    arn: str
    person: str
    entity_id: str
    access_key_id: str
    issued_at: int
    expires_at: int
    source_ip: str


class LiveSessions:
    """Lists sessions when they are minted, and tells which are still live."""

    def __init__(self, redis: Redis, *, monotonic: Callable[[], float]) -> None:
        self._redis = redis
        self._listed = redis.register_script(_LIST)
        self._monotonic = monotonic
        self._down_until = 0.0
        self._backlog: deque[LiveSession] = deque(maxlen=_BACKLOG)
        self._count = 0

    def record(self, session: LiveSession) -> None:
        """List a session; never raises for Redis' sake: the session waits in the backlog instead."""
        self._backlog.append(session)
        if self._monotonic() < self._down_until:
            return
        # Taken off before it is written: another greenlet may come this way while Redis answers.
        while self._backlog:
            oldest = self._backlog.popleft()
            try:
                self._write(oldest)
            except RedisError:
                self._backlog.appendleft(oldest)
                self._down_until = self._monotonic() + _PAUSE
                return

    def live(self, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of an account, those that expire first first; raise RedisError."""
        ids = [str(one) for one in self._redis.zrangebyscore(_index(account_id), now_ms, "+inf")]
        for at in range(0, len(ids), _CHUNK):
            for text in self._redis.mget(_key(account_id, session_id) for session_id in ids[at : at + _CHUNK]):
                if text is not None:
                    yield _parse(text)

    def forget(self, sessions: Iterable[LiveSession]) -> None:
        """Take sessions off the list, after their revocation is committed; raise RedisError."""
        for session in sessions:
            self._redis.delete(_key(session.account_id, session.id))
            self._redis.zrem(_index(session.account_id), session.id)

    def check(self) -> None:
        """Raise RedisError where Redis does not answer."""
        self._redis.ping()

    def _write(self, session: LiveSession) -> None:
        account_id = session.account_id
        self._count += 1
        sweep = session.issued_at if self._count % _SWEEP == 0 else ""
        self._listed(
            keys=(_key(account_id, session.id), _index(account_id)),
            args=(_text(session), session.expires_at, session.id, sweep),
        )


def _index(account_id: str) -> str:
    return f"fedgate:{{{account_id}}}:live"


def _key(account_id: str, session_id: str) -> str:
    return f"fedgate:{{{account_id}}}:s:{session_id}"


def _text(session: LiveSession) -> str:
    return json.dumps(session, separators=(",", ":"))


def _parse(text: str | bytes) -> LiveSession:
    fields: list[Any] = json.loads(text)
    return LiveSession(*fields)
