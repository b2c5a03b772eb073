"""The accounts: how much there is in each, and how its owner gets in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select

from iam.inventory.pagination import Page, PageRequest, query_page
from iam.store.schema import account, role, user


@dataclass(frozen=True, slots=True)
class Account:
    """An account; ``created`` is in milliseconds."""

    id: str
    alias: str | None
    created: int
    users: int
    roles: int


def accounts(tx: Connection, page_request: PageRequest) -> Page[Account]:
    """Return a page of accounts, oldest first; a word may be in the id or the alias."""
    table = account.c
    query = select(table.id, table.alias, table.created).where(table.id.in_(page_request.accounts))
    found = query_page(
        tx,
        query.order_by(table.created, table.id),
        page_request,
        lambda word: (table.id.contains(word, autoescape=True), table.alias.contains(word, autoescape=True)),
    )
    users, roles = (_counts(tx, one, [row.id for row in found.rows]) for one in (user, role))
    shown = (Account(row.id, row.alias, row.created, users.get(row.id, 0), roles.get(row.id, 0)) for row in found.rows)
    return Page(tuple(shown), found.found, found.page, found.query)


def names(tx: Connection, ids: tuple[str, ...]) -> Mapping[str, str]:
    """Return the alias and id of accounts as pages write them, by id."""
    rows = tx.execute(select(account.c.id, account.c.alias).where(account.c.id.in_(ids)))
    return {row.id: f"{row.alias} ({row.id})" if row.alias else row.id for row in rows}


def _counts(tx: Connection, table: Table, ids: list[str]) -> dict[Any, int]:
    mine = table.c.account_id
    rows = tx.execute(select(mine, func.count()).where(mine.in_(ids)).group_by(mine))
    return {row[0]: row[1] for row in rows}
