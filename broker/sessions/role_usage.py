"""The current use of roles: how many of its sessions are live, and when one was last started or used."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sts.store.sessions import LiveSession, LiveSessions

_MOST: Final = 5_000  # sessions that are read from one account


@dataclass(frozen=True, slots=True)
class RoleUse:
    """The number of live sessions of a role, and when one was last started or used, in milliseconds."""

    running: int
    last: int


def uses(sessions: LiveSessions, accounts: Iterable[str], now_ms: int) -> dict[str, RoleUse]:
    """Return the use of each role that has live sessions, by its unique id; raise RedisError.

    Of an account with more sessions than the limit, those that expire first are counted.
    """
    by_role: dict[str, RoleUse] = {}
    for account_id in accounts:
        by_role |= _of_account(sessions, account_id, now_ms)
    return by_role


def _of_account(sessions: LiveSessions, account_id: str, now_ms: int) -> dict[str, RoleUse]:
    by_role = defaultdict[str, list[LiveSession]](list)
    for session in islice(sessions.list_live(account_id, now_ms), _MOST):
        by_role[session.entity_id].append(session)
    last_used = sessions.last_used(account_id, [session.id for live in by_role.values() for session in live])
    return {
        role_id: RoleUse(len(live), max(max(session.issued_at, last_used.get(session.id, 0)) for session in live))
        for role_id, live in by_role.items()
    }
