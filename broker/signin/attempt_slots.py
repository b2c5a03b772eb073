"""The sign-in attempts that run at this moment, over all workers: each holds a slot while its proof is judged.

A slot is taken before a password or code is looked at, in one atomic step with the count of those that are taken
already, so that a burst of guesses gets no more of them judged than there is room for. Redis holds the slots; while it
is down, the SQL store does. A worker that is killed leaves its slots behind: they end by themselves.
"""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, Connection, case, delete, func, insert, select

from iam.clock import SECOND
from iam.errors import ServiceError
from iam.store.schema import running_attempt
from iam.store.store import Store

log = logging.getLogger(__name__)

_LIFETIME: Final = 120  # seconds: longer than any directory may take to answer
_ID_BYTES: Final = 12
_COLUMNS: Final = running_attempt.c

# KEYS: of the pair, the name and the source. ARGV: id of the slot, milliseconds that it lives, room in each key.
# Redis's own clock dates the slots, so that the clocks of several machines do not matter.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {}
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  taken[i] = redis.call('ZCARD', key)
  if taken[i] >= tonumber(ARGV[2 + i]) then return {} end
end
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
  taken[i] = taken[i] + 1
end
return taken
"""


class PerScope(NamedTuple):
    """One number for a name from one source, for the name from everywhere, and for the source."""

    pair: int
    name: int
    source: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that was taken; ``taken`` counts it and those that others held at that moment."""

    taken: PerScope
    release: Callable[[], None]


class AttemptSlots:
    """Takes slots in Redis, or in the SQL store while Redis does not answer; ``random`` names them."""

    def __init__(self, redis: Redis, store: Store, random: Callable[[int], bytes]) -> None:
        self._redis = redis
        self._store = store
        self._random = random
        self._take_script = redis.register_script(_TAKE)

    def take(self, subject: str, source: str, room: PerScope, at: int) -> Slot | None:
        """Return a slot, or None where one of the three has no room; ``at`` is in milliseconds.

        Raise ServiceFailure where neither Redis nor the store can hold it.
        """
        try:
            return self._take_in_redis(subject, source, room)
        except RedisError as error:
            log.warning("slots of sign-in attempts are held in SQL: Redis: %s", error)
            return self._take_in_sql(subject, source, room, at)

    def _take_in_redis(self, subject: str, source: str, room: PerScope) -> Slot | None:
        slot_id = self._random(_ID_BYTES).hex()
        # Hashed: what was typed as a name may be a password, or very long.
        name = hashlib.sha256(subject.encode()).hexdigest()
        scopes = (f"attempt:pair:{name}|{source}", f"attempt:name:{name}", f"attempt:source:{source}")
        taken = self._take_script(keys=scopes, args=[slot_id, _LIFETIME * SECOND, *room])
        return Slot(PerScope(*taken), lambda: self._release_in_redis(scopes, slot_id)) if taken else None

    def _release_in_redis(self, scopes: tuple[str, ...], slot_id: str) -> None:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for key in scopes:
                    pipe.zrem(key, slot_id)
                pipe.execute()
        except RedisError as error:
            log.warning("a slot of a sign-in attempt stays until it ends by itself: Redis: %s", error)

    def _take_in_sql(self, subject: str, source: str, room: PerScope, at: int) -> Slot | None:
        with self._store.write(bump_revision=False) as tx:  # one writer at a time: counted and taken in one step
            tx.execute(delete(running_attempt).where(_COLUMNS.expires <= at))
            taken = _taken_in_sql(tx, subject, source)
            if any(count >= free for count, free in zip(taken, room, strict=True)):
                return None
            row = {"subject": subject, "source": source, "expires": at + _LIFETIME * SECOND}
            key = tx.execute(insert(running_attempt).values(**row)).inserted_primary_key
        number = key[0] if key else 0
        return Slot(PerScope(*(count + 1 for count in taken)), lambda: self._release_in_sql(number))

    def _release_in_sql(self, number: int) -> None:
        try:
            with self._store.write(bump_revision=False) as tx:
                tx.execute(delete(running_attempt).where(_COLUMNS.id == number))
        except ServiceError as error:  # what came of the attempt stands
            log.warning("a slot of a sign-in attempt stays until it ends by itself: SQL: %s", error)


def _taken_in_sql(tx: Connection, subject: str, source: str) -> PerScope:
    of_name, of_source = _COLUMNS.subject == subject, _COLUMNS.source == source
    counts = (_count(of_name & of_source), _count(of_name), _count(of_source))
    return PerScope(*tx.execute(select(*counts).where(of_name | of_source)).one())


def _count(matches: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((matches, 1)))
