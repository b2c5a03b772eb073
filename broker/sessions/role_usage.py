"""Who uses a role just now: how many of its sessions are live, and when the last one began or was used."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sts.store.sessions import LiveSession, LiveSessions

_MOST: Final = 5_000  # sessions of one account that are looked at


@dataclass(frozen=True, slots=True)
class RoleUse:
    """How many sessions of a role are live, and when the last was begun or used, in milliseconds."""

    running: int
    last: int


def uses(sessions: LiveSessions, accounts: Iterable[str], now_ms: int) -> dict[str, RoleUse]:
    """Return the use of each role that has live sessions, by its unique id; raise RedisError.

    Of an account with very many sessions, those that expire first are looked at.
    """
    found: dict[str, RoleUse] = {}
    for account_id in accounts:
        found |= _of_account(sessions, account_id, now_ms)
    return found


def _of_account(sessions: LiveSessions, account_id: str, now_ms: int) -> dict[str, RoleUse]:
    by_role = defaultdict[str, list[LiveSession]](list)
    for one in islice(sessions.list_live(account_id, now_ms), _MOST):
        by_role[one.entity_id].append(one)
    last = sessions.last_used(account_id, [one.id for held in by_role.values() for one in held])
    return {
        role_id: RoleUse(len(held), max(max(one.issued_at, last.get(one.id, 0)) for one in held))
        for role_id, held in by_role.items()
    }
