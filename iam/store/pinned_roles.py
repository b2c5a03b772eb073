"""The roles that a person has pinned or used, which the role page shows first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from iam.clock import to_milliseconds
from iam.store.schema import role_mark

_MAX_RECENT = 50  # roles per person whose last use is stored
_COLUMNS = role_mark.c


@dataclass(frozen=True, slots=True)
class RoleUsage:
    """Whether a person has pinned a role, and when it was last used (``taken``), in milliseconds or None."""

    pinned: bool
    taken: int | None


def set_pinned(tx: Connection, person: str, role_id: str, *, pinned: bool) -> None:
    """Pin a role to the top of a person's role page, or unpin it."""
    _put(tx, person, role_id, pinned=pinned)
    tx.execute(delete(role_mark).where(_COLUMNS.person == person, _COLUMNS.pinned.is_(False), _COLUMNS.taken.is_(None)))


def record_role_use(tx: Connection, person: str, role_id: str, now: datetime) -> None:
    """Record that a person used a role; only the fifty most recent roles are kept."""
    _put(tx, person, role_id, taken=to_milliseconds(now))
    taken = select(_COLUMNS.role_id).where(_COLUMNS.person == person, _COLUMNS.taken.is_not(None))
    old_ids = tx.scalars(taken.order_by(_COLUMNS.taken.desc(), _COLUMNS.role_id).offset(_MAX_RECENT)).all()
    matches = (_COLUMNS.person == person, _COLUMNS.role_id.in_(old_ids))
    tx.execute(update(role_mark).where(*matches).values(taken=None))
    tx.execute(delete(role_mark).where(*matches, _COLUMNS.pinned.is_(False)))


def role_usage_of(tx: Connection, person: str) -> Mapping[str, RoleUsage]:
    """Return how a person has used roles, by the role's unique id."""
    rows = tx.execute(select(role_mark).where(_COLUMNS.person == person))
    return {row.role_id: RoleUsage(row.pinned, row.taken) for row in rows}


def _put(tx: Connection, person: str, role_id: str, **values: object) -> None:
    changed = tx.execute(update(role_mark).where(_COLUMNS.person == person, _COLUMNS.role_id == role_id).values(values))
    if not changed.rowcount:
        row = {"person": person, "role_id": role_id, "pinned": False} | values
        tx.execute(role_mark.insert().values(row))
