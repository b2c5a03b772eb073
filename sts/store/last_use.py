"""When live sessions were last used, in Redis, for the list of sessions.

A request only writes to a dictionary; once a second the worker writes the collected uses to Redis. While Redis is
unavailable they wait, and are dropped above a limit: the next use of a session is recorded again.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from redis import Redis
from redis.exceptions import RedisError

from sts.store import session_keys

log = logging.getLogger(__name__)

Use = tuple[str, str]  # account id and session id

_EVERY = 1.0  # seconds between two writes of a worker
_WAITING = 20_000  # sessions whose use may wait; about 5 MB
_CHUNK = 500

# Only listed sessions: removing a session from the index also removes its last use, so nothing is left behind.
_NOTE_SCRIPT = """
for at = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[at]) then
    redis.call('ZADD', KEYS[2], 'GT', ARGV[at + 1], ARGV[at])
  end
end
"""


class LastUse:
    """Records uses of sessions, and returns when each was last used."""

    def __init__(
        self, redis: Redis, *, pause: Callable[[float], None], spawn: Callable[[Callable[[], None]], object]
    ) -> None:
        self._redis = redis
        self._note_script = redis.register_script(_NOTE_SCRIPT)
        self._pause = pause
        self._spawn = spawn
        self._guard = threading.Lock()
        self._waiting: dict[Use, int] = {}
        self._writing = False

    def note(self, session: Use, at_ms: int) -> None:
        """Record that a session was used; never raises and never waits for Redis."""
        with self._guard:
            if len(self._waiting) >= _WAITING:
                self._waiting.clear()
            if at_ms >= self._waiting.get(session, 0):  # threads may arrive in any order
                self._waiting[session] = at_ms
            idle, self._writing = not self._writing, True
        if idle:
            self._start_writer()

    def flush(self) -> None:
        """Write the waiting uses now."""
        with self._guard:
            batch, self._waiting = self._waiting, {}
        if not self._write_batch(batch):
            self._put_back(batch)

    def of(self, account_id: str, session_ids: Sequence[str]) -> dict[str, int]:
        """Return when each session was last used, in milliseconds; unused sessions are missing. Raise RedisError."""
        self.flush()  # a worker sees the uses that it recorded itself
        last_used: dict[str, int] = {}
        for at in range(0, len(session_ids), _CHUNK):
            ids = list(session_ids[at : at + _CHUNK])
            scores = self._redis.zmscore(session_keys.used(account_id), ids)
            pairs = zip(ids, scores, strict=True)
            last_used |= {session_id: int(score) for session_id, score in pairs if score is not None}
        return last_used

    def _start_writer(self) -> None:
        try:
            self._spawn(self._write_behind)
        except RuntimeError as error:
            # Too many threads: the request continues, and the next use tries again.
            log.warning("the last uses of sessions wait: %s", error)
            self._writing = False

    def _write_behind(self) -> None:
        """Write once a second, as long as sessions are used and Redis accepts the writes."""
        while True:
            self._pause(_EVERY)
            with self._guard:
                batch, self._waiting = self._waiting, {}
                self._writing = bool(batch)
            if not batch:
                return
            if not self._write_batch(batch):
                self._put_back(batch)
                self._writing = False
                return

    def _put_back(self, batch: dict[Use, int]) -> None:
        with self._guard:
            if len(batch) + len(self._waiting) <= _WAITING:
                self._waiting = batch | {use: max(at, batch.get(use, 0)) for use, at in self._waiting.items()}

    def _write_batch(self, batch: Mapping[Use, int]) -> bool:
        """Write a batch; return whether Redis accepted it."""
        accounts: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for (account_id, session_id), at_ms in batch.items():
            accounts[account_id].append((session_id, at_ms))
        try:
            for account_id, uses in accounts.items():
                self._write(account_id, uses)
        except RedisError:
            return False
        except Exception:
            # Do not stop the writer: later uses must still be written.
            log.exception("the last uses of %d sessions could not be written", len(batch))
        return True

    def _write(self, account_id: str, uses: Sequence[tuple[str, int]]) -> None:
        keys = (session_keys.index(account_id), session_keys.used(account_id))
        for at in range(0, len(uses), _CHUNK):
            self._note_script(keys=keys, args=[fact for use in uses[at : at + _CHUNK] for fact in use])
