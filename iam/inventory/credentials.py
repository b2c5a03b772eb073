"""Access keys of an account's users and root, without their secrets."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, select

from iam.store.schema import access_key, user

_SHOWN: Final = 4  # characters of a key's id


@dataclass(frozen=True, slots=True)
class Key:
    """A long-term access key; ``owner_id`` and ``owner`` are the user's id and name, None for the account's root.

    Times are in milliseconds.
    """

    id: str
    account_id: str
    owner_id: str | None
    owner: str | None
    active: bool
    created: int
    last_used: int | None

    @property
    def id_suffix(self) -> str:
        """Return the last characters of the id, enough to distinguish the owner's two keys."""
        return self.id[-_SHOWN:]


def keys(tx: Connection, *where: ColumnElement[bool]) -> list[Key]:
    """Return the access keys that match the conditions, by account and user, oldest first."""
    table = access_key.c
    columns = (table.id, table.account_id, table.user_id, user.c.name, table.active, table.created, table.last_used)
    query = select(*columns).select_from(access_key.outerjoin(user, user.c.id == table.user_id)).where(*where)
    return [Key(*row) for row in tx.execute(query.order_by(table.account_id, user.c.name_key, table.created, table.id))]
