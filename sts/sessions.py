"""The list of live sessions, in Redis.

Tokens carry their own session, so nothing here is needed to verify one: while Redis is away credentials are minted
and verified as before, and what could not be listed waits in the worker and is listed when Redis is back. For the same
reason no answer waits for the list: it is written behind, within milliseconds. The audit log, which every answer does
wait for, names each session as well. All keys of an account share one hash tag, so that a cluster keeps them on one
node.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

_BACKLOG = 10_000
_PAUSE = (
    1.0  # seconds without a try after a failure, so that an outage costs one time-out a second and not one a request
)
_GATHER = 0.005  # seconds in which the sessions of one round trip gather
_SWEEP = 256  # one in so many records also drops the expired from the index
_CHUNK = 500


# One round trip for entries and index; every so often it also drops from the index what has expired.
_LIST = """
for at = 2, #KEYS do
  local id, expires, text = unpack(ARGV, at * 3 - 4, at * 3 - 2)
  redis.call('SET', KEYS[at], text, 'PXAT', expires)
  redis.call('ZADD', KEYS[1], expires, id)
end
if ARGV[1] ~= '' then redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1]) end
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

    def __init__(
        self,
        redis: Redis,
        *,
        monotonic: Callable[[], float],
        pause: Callable[[float], None],
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        self._redis = redis
        self._listed = redis.register_script(_LIST)
        self._monotonic = monotonic
        self._pause = pause
        self._spawn = spawn
        self._down_until = 0.0
        self._guard = threading.Lock()
        self._waiting: list[LiveSession] = []
        self._writing = False
        self._backlog: deque[LiveSession] = deque(maxlen=_BACKLOG)
        self._count = 0

    def record(self, session: LiveSession) -> None:
        """List a session, a few milliseconds from now; never raises for Redis' sake."""
        with self._guard:
            self._waiting.append(session)
            idle, self._writing = not self._writing, True
        if idle:
            self._spawn(self._write_behind)

    def settle(self) -> None:
        """List what still waits, now."""
        with self._guard:
            batch, self._waiting = self._waiting, []
        self._write_all(batch)

    def live(self, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of an account, those that expire first first; raise RedisError."""
        self.settle()  # a worker sees what it recorded itself
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

    def _write_behind(self) -> None:
        """Gather and write until nothing comes any more: under load many sessions share one round trip."""
        while True:
            self._pause(_GATHER)
            with self._guard:
                batch, self._waiting = self._waiting, []
                if not batch:
                    self._writing = False
                    return
            try:
                self._write_all(batch)
            except Exception:
                # Whatever it was, the next sessions are to be listed.
                log.exception("%d sessions could not be listed", len(batch))

    def _write_all(self, batch: list[LiveSession]) -> None:
        """Write a batch and what earlier batches left; what cannot be written waits in the backlog."""
        batch = [*self._backlog, *batch]
        self._backlog.clear()
        if self._monotonic() < self._down_until:
            self._backlog.extend(batch)
            return
        try:
            for account_id in {session.account_id for session in batch}:
                self._write(account_id, [session for session in batch if session.account_id == account_id])
        except RedisError:
            # Some may have been written: to list a session twice changes nothing.
            self._backlog.extend(batch)
            self._down_until = self._monotonic() + _PAUSE

    def _write(self, account_id: str, batch: list[LiveSession]) -> None:
        self._count += len(batch)
        sweep: int | str = ""
        if self._count >= _SWEEP:
            self._count, sweep = 0, min(session.issued_at for session in batch)
        keys = [_index(account_id), *(_key(account_id, session.id) for session in batch)]
        facts = [fact for session in batch for fact in (session.id, session.expires_at, _text(session))]
        self._listed(keys=keys, args=(sweep, *facts))


def _index(account_id: str) -> str:
    return f"fedgate:{{{account_id}}}:live"


def _key(account_id: str, session_id: str) -> str:
    return f"fedgate:{{{account_id}}}:s:{session_id}"


def _text(session: LiveSession) -> str:
    return json.dumps(session, separators=(",", ":"))


def _parse(text: str | bytes) -> LiveSession:
    fields: list[Any] = json.loads(text)
    return LiveSession(*fields)
