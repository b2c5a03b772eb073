"""The list of live sessions, in Redis.

Tokens contain their own session, so the list is not needed to verify one: while Redis is unavailable, credentials are
issued and verified as before, and sessions that could not be listed wait in the worker until Redis is back. For the
same reason no response waits for the list; it is written a few milliseconds later. The audit log, which every response
waits for, names each session as well. All keys of an account share one hash tag, so that a cluster stores them on one
node.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from iam.clock import from_seconds
from sts.store import session_keys
from sts.store.last_use import LastUse, Use
from sts.store.sealed_values import SealedValues

log = logging.getLogger(__name__)

_BACKLOG = 10_000
# Seconds without a retry after a failure: an outage then costs one timeout a second, not one for each request.
_PAUSE = 1.0
_BATCH_DELAY = 0.005  # seconds to wait for more sessions before a round trip
_SWEEP = 256  # every so many sessions, expired ones are removed from the index
_CHUNK = 500


# One round trip for entries and indexes. A person's index expires with the session that expires last, which need not be
# the one that was listed last. A sweep removes expired sessions and their last uses from the account's index: at most
# 1000, more than can be added between two sweeps, and few enough not to block Redis.
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
    """One session of the list, without secrets. Times are milliseconds since 1970.

    ``made_by`` is the operation that created it, ``user_agent`` the start of its client's User-Agent header.
    ``login_name`` is what the provider calls the person, or the name of the IAM user; empty where only the ARN has a
    name, which the caller may have chosen. Add new fields at the end, with defaults: entries written by another version
    must still parse.
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
    lineage: str = ""  # JSON of the lineage, so that the list leaves out the sessions that are revoked
    login_name: str = ""

    def shown(self) -> dict[str, Any]:
        """Return what lists show: all but the lineage."""
        fields = self._asdict()
        del fields["lineage"]
        return fields


class LiveSessions:
    """Adds sessions to the list, and returns those that have not expired."""

    def __init__(
        self,
        redis: Redis,
        values: SealedValues,
        *,
        monotonic: Callable[[], float],
        pause: Callable[[float], None],
        spawn: Callable[[Callable[[], None]], object],
    ) -> None:
        self._redis = redis
        self._values = values
        self._list_script = redis.register_script(_LIST_SCRIPT)
        self._monotonic = monotonic
        self._pause = pause
        self._spawn = spawn
        self._down_until = 0.0
        self._guard = threading.Lock()
        self._write_lock = threading.Lock()  # held while a batch is on its way, so that a reader waits for it
        self._waiting: list[LiveSession] = []
        self._writing = False
        self._backlog: deque[LiveSession] = deque(maxlen=_BACKLOG)
        self._count = 0
        self._last_use = LastUse(redis, pause=pause, spawn=spawn)

    def add(self, session: LiveSession) -> None:
        """Add a session within a few milliseconds; never raises, because its credentials are valid without the list."""
        with self._guard:
            self._waiting.append(session)
            idle, self._writing = not self._writing, True
        if idle:
            self._start_writer()

    def record_use(self, session: Use, at_ms: int) -> None:
        """Record within a second that a session (account id, session id) was used; never raises RedisError."""
        self._last_use.note(session, at_ms)

    def flush(self) -> None:
        """Write the waiting sessions and last uses now."""
        self._flush()
        self._last_use.flush()

    def list_live(self, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of an account, by expiry; raise RedisError."""
        return self._read_index(session_keys.index(account_id), account_id, now_ms)

    def of_person(self, account_id: str, person: str, now_ms: int) -> Iterator[LiveSession]:
        """Yield the live sessions of a person in an account, by expiry; raise RedisError."""
        listed = self._read_index(session_keys.of_person(account_id, person), account_id, now_ms)
        return (session for session in listed if session.person == person)  # Redis alone says what an index holds

    def find(self, account_id: str, session_id: str) -> LiveSession | None:
        """Return a live session of an account, or None; raise RedisError."""
        self._flush()
        key = session_keys.entry(account_id, session_id)
        text = self._values.open(key, self._redis.get(key))
        return None if text is None else _parse(text)

    def last_used(self, account_id: str, session_ids: Sequence[str]) -> dict[str, int]:
        """Return when each of these sessions was last used, in milliseconds since 1970; raise RedisError.

        Sessions that have not been used, or are not listed, are missing.
        """
        self._flush()  # only uses of listed sessions are stored
        return self._last_use.of(account_id, session_ids)

    def remove(self, sessions: Iterable[LiveSession]) -> None:
        """Remove sessions from the list, after their revocation is committed; raise RedisError."""
        by_account: dict[str, list[LiveSession]] = {}
        for session in sessions:
            by_account.setdefault(session.account_id, []).append(session)
        for account_id, removed in by_account.items():
            for at in range(0, len(removed), _CHUNK):
                self._remove_chunk(account_id, removed[at : at + _CHUNK])

    def _remove_chunk(self, account_id: str, sessions: Sequence[LiveSession]) -> None:
        ids = [session.id for session in sessions]
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(*(session_keys.entry(account_id, session_id) for session_id in ids))
            for index in (session_keys.index(account_id), session_keys.used(account_id)):
                pipeline.zrem(index, *ids)
            for session in sessions:
                pipeline.zrem(session_keys.of_person(account_id, session.person), session.id)
            pipeline.execute()

    def check(self) -> None:
        """Raise RedisError where Redis does not answer."""
        self._redis.ping()

    def clock(self) -> datetime:
        """Return the time of the Redis server, in UTC; raise RedisError."""
        seconds, microseconds = self._redis.time()
        return from_seconds(seconds) + timedelta(microseconds=microseconds)

    def _flush(self) -> None:
        with self._write_lock:
            with self._guard:
                batch, self._waiting = self._waiting, []
            self._write_all(batch)

    def _read_index(self, index: str, account_id: str, now_ms: int) -> Iterator[LiveSession]:
        self._flush()  # a worker sees the sessions that it added itself
        ids = [str(session_id) for session_id in self._redis.zrangebyscore(index, now_ms, "+inf")]
        for at in range(0, len(ids), _CHUNK):
            keys = [session_keys.entry(account_id, session_id) for session_id in ids[at : at + _CHUNK]]
            for _, text in self._values.open_all(keys, self._redis.mget(keys)):
                yield _parse(text)

    def _start_writer(self) -> None:
        try:
            self._spawn(self._write_behind)
        except RuntimeError as error:
            # Too many threads: the waiting sessions are written with the next one, or when the list is read.
            log.warning("sessions wait to be listed: %s", error)
            self._writing = False

    def _write_behind(self) -> None:
        """Collect and write until no more sessions arrive: under load many share one round trip."""
        while True:
            self._pause(_BATCH_DELAY)
            with self._write_lock:
                with self._guard:
                    batch, self._waiting = self._waiting, []
                    if not batch:
                        self._writing = False
                        return
                try:
                    self._write_all(batch)
                except Exception:
                    # Do not stop the writer: later sessions must still be listed.
                    log.exception("%d sessions could not be listed", len(batch))

    def _write_all(self, batch: list[LiveSession]) -> None:
        """Write the backlog and a batch; sessions that cannot be written go to the backlog."""
        batch = [*self._backlog, *batch]
        self._backlog.clear()
        if self._monotonic() < self._down_until:
            self._backlog.extend(batch)
            return
        try:
            for account_id in {session.account_id for session in batch}:
                self._write(account_id, [session for session in batch if session.account_id == account_id])
        except RedisError:
            # Some may have been written already: adding a session twice changes nothing.
            self._backlog.extend(batch)
            self._down_until = self._monotonic() + _PAUSE

    def _write(self, account_id: str, batch: list[LiveSession]) -> None:
        self._count += len(batch)
        sweep = self._count >= _SWEEP
        if sweep:
            self._count = 0
        keys, facts = [session_keys.index(account_id), session_keys.used(account_id)], list[str | int]()
        for session in batch:
            entry = session_keys.entry(account_id, session.id)
            keys += (entry, session_keys.of_person(account_id, session.person))
            facts += (session.id, session.expires_at, self._values.seal(entry, _text(session)))
        self._list_script(keys=keys, args=(min(session.issued_at for session in batch), int(sweep), *facts))


def _text(session: LiveSession) -> str:
    return json.dumps(session, separators=(",", ":"))


def _parse(text: str) -> LiveSession:
    fields: list[Any] = json.loads(text)
    return LiveSession(*fields[: len(LiveSession._fields)])
