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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from sts.store import session_keys
from sts.store.last_use import LastUse, Use

log = logging.getLogger(__name__)

_BACKLOG = 10_000
_PAUSE = (
    1.0  # seconds without a try after a failure, so that an outage costs one time-out a second and not one a request
)
_BATCH_DELAY = 0.005  # seconds in which the sessions of one round trip gather
_SWEEP = 256  # one in so many records also drops the expired from the index
_CHUNK = 500


# One round trip for entries and indexes. A person's index expires with its last session, which need not be the one that
# was listed last. Every so often the account's index loses what has expired, and the last uses with it: so many at once
# that the list is sure to shrink, and so few that Redis answers others in between.
_LIST_SCRIPT = """
local now, sweep = ARGV[1], ARGV[2]
local people = {}
for at = 3, #KEYS, 2 do
  local first = (at - 3) / 2 * 3 + 3
  local id, expires, text = unpack(ARGV, first, first + 2)
  redis.call('SET', KEYS[at], text, 'PXAT', expires)
  redis.call('ZADD', KEYS[1], expires, id)
  redis.call('ZADD', KEYS[at + 1], expires, id)
  people[KEYS[at + 1]] = true
end
for person in pairs(people) do
  redis.call('ZREMRANGEBYSCORE', person, '-inf', now)
  local last = redis.call('ZREVRANGE', person, 0, 0, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', person, last[2]) end
end
if sweep == '1' then
  local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
  if #gone > 0 then
    redis.call('ZREM', KEYS[1], unpack(gone))
    redis.call('ZREM', KEYS[2], unpack(gone))
  end
end
"""


class LiveSession(NamedTuple):
    """One line of the list: facts, no secrets. Times are milliseconds since 1970.

    ``made_by`` is the operation that minted it, ``user_agent`` the beginning of what its client said of itself. New
    fields are added at the end, with defaults: lines that another version has written still parse.
    """

    id: str
    account_id: str
    arn: str
    person: str
    entity_id: str
    access_key_id: str
    issued_at: int
    expires_at: int
    source_ip: str
    made_by: str = ""
    user_agent: str = ""


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
        self._list_script = redis.register_script(_LIST_SCRIPT)
        self._monotonic = monotonic
        self._pause = pause
        self._spawn = spawn
        self._down_until = 0.0
        self._guard = threading.Lock()
        self._waiting: list[LiveSession] = []
        self._writing = False
        self._backlog: deque[LiveSession] = deque(maxlen=_BACKLOG)
        self._count = 0
        self._last_use = LastUse(redis, pause=pause, spawn=spawn)

    def add(self, session: LiveSession) -> None:
        """List a session, a few milliseconds from now; never raises: its credentials are good all the same."""
        with self._guard:
            self._waiting.append(session)
            idle, self._writing = not self._writing, True
        if idle:
            self._start_writer()

    def record_use(self, session: Use, at_ms: int) -> None:
        """Note that a session (account id, session id) was used, within a second; never raises for Redis' sake."""
        self._last_use.note(session, at_ms)

    def flush(self) -> None:
        """List what still waits, now, and write the last uses."""
        self._flush()
        self._last_use.flush()

    def list_live(self, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of an account, those that expire first first; raise RedisError."""
        return self._read_index(session_keys.index(account_id), account_id, now_ms)

    def of_person(self, account_id: str, person: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of a person in an account, those that expire first first; raise RedisError."""
        return self._read_index(session_keys.of_person(account_id, person), account_id, now_ms)

    def find(self, account_id: str, session_id: str) -> LiveSession | None:
        """Return a live session of an account, or None; raise RedisError."""
        self._flush()
        text = self._redis.get(session_keys.entry(account_id, session_id))
        return None if text is None else _parse(text)

    def last_used(self, account_id: str, session_ids: Sequence[str]) -> dict[str, int]:
        """Return when each of these sessions was last used, in milliseconds since 1970; raise RedisError.

        Sessions that nobody has used yet, or that are not listed, are missing.
        """
        self._flush()  # only the uses of listed sessions are kept
        return self._last_use.of(account_id, session_ids)

    def remove(self, sessions: Iterable[LiveSession]) -> None:
        """Take sessions off the list, after their revocation is committed; raise RedisError."""
        by_account: dict[str, list[LiveSession]] = {}
        for session in sessions:
            by_account.setdefault(session.account_id, []).append(session)
        for account_id, gone in by_account.items():
            for at in range(0, len(gone), _CHUNK):
                self._forget(account_id, gone[at : at + _CHUNK])

    def _forget(self, account_id: str, gone: Sequence[LiveSession]) -> None:
        with self._redis.pipeline(transaction=False) as together:
            together.delete(*(session_keys.entry(account_id, one.id) for one in gone))
            for index in (session_keys.index(account_id), session_keys.used(account_id)):
                together.zrem(index, *(one.id for one in gone))
            for one in gone:
                together.zrem(session_keys.of_person(account_id, one.person), one.id)
            together.execute()

    def check(self) -> None:
        """Raise RedisError where Redis does not answer."""
        self._redis.ping()

    def _flush(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting, []
        self._write_all(batch)

    def _read_index(self, index: str, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        self._flush()  # a worker sees what it recorded itself
        ids = [str(one) for one in self._redis.zrangebyscore(index, now_ms, "+inf")]
        for at in range(0, len(ids), _CHUNK):
            for text in self._redis.mget(session_keys.entry(account_id, one) for one in ids[at : at + _CHUNK]):
                if text is not None:
                    yield _parse(text)

    def _start_writer(self) -> None:
        try:
            self._spawn(self._write_behind)
        except RuntimeError as error:
            # There are too many threads: what waits is written with the next session, or when somebody looks.
            log.warning("sessions wait to be listed: %s", error)
            self._writing = False

    def _write_behind(self) -> None:
        """Gather and write until nothing comes any more: under load many sessions share one round trip."""
        while True:
            self._pause(_BATCH_DELAY)
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
        sweep = self._count >= _SWEEP
        if sweep:
            self._count = 0
        keys = [session_keys.index(account_id), session_keys.used(account_id)]
        for one in batch:
            keys += (session_keys.entry(account_id, one.id), session_keys.of_person(account_id, one.person))
        facts = [fact for one in batch for fact in (one.id, one.expires_at, _text(one))]
        self._list_script(keys=keys, args=(min(one.issued_at for one in batch), int(sweep), *facts))


def _text(session: LiveSession) -> str:
    return json.dumps(session, separators=(",", ":"))


def _parse(text: str | bytes) -> LiveSession:
    fields: list[Any] = json.loads(text)
    return LiveSession(*fields[: len(LiveSession._fields)])
