"""Accounts with their numbers of users and roles."""

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
    """Return a page of accounts, oldest first; the search covers id and alias."""
    columns = account.c
    query = select(columns.id, columns.alias, columns.created).where(columns.id.in_(page_request.accounts))
    result = query_page(
        tx,
        query.order_by(columns.created, columns.id),
        page_request,
        lambda word: (columns.id.contains(word, autoescape=True), columns.alias.contains(word, autoescape=True)),
    )
    users, roles = (_counts(tx, table, [row.id for row in result.rows]) for table in (user, role))
    rows = (Account(row.id, row.alias, row.created, users.get(row.id, 0), roles.get(row.id, 0)) for row in result.rows)
    return Page(tuple(rows), result.found, result.page, result.query)


def names(tx: Connection, ids: tuple[str, ...]) -> Mapping[str, str]:
    """Return the display name of accounts, alias and id, by id."""
    rows = tx.execute(select(account.c.id, account.c.alias).where(account.c.id.in_(ids)))
    return {row.id: f"{row.alias} ({row.id})" if row.alias else row.id for row in rows}


def _counts(tx: Connection, table: Table, ids: list[str]) -> dict[Any, int]:
    account_id = table.c.account_id
    rows = tx.execute(select(account_id, func.count()).where(account_id.in_(ids)).group_by(account_id))
    return {row[0]: row[1] for row in rows}
