"""The users of several accounts, with groups, access keys, MFA factors and last activity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from iam.arn import iam_arn
from iam.credentials.factors import Factor, factors_of
from iam.credentials.person_id import iam_person_id
from iam.inventory.credentials import Key, keys
from iam.inventory.pagination import Page, PageRequest, query_page
from iam.store.schema import access_key, group, login_profile, membership, user

_COLUMNS = user.c


@dataclass(frozen=True, slots=True)
class User:
    """A user; times are in milliseconds, None for never."""

    id: str
    account_id: str
    name: str
    arn: str
    created: int
    has_password: bool
    password_last_used: int | None
    groups: tuple[str, ...]
    keys: tuple[Key, ...]
    factors: tuple[Factor, ...]

    @property
    def last_activity(self) -> int | None:
        """Return when the user last authenticated in any way."""
        keys, factors = ([item.last_used for item in items] for items in (self.keys, self.factors))
        used = (self.password_last_used, *keys, *factors)
        return max((at for at in used if at is not None), default=None)


def users(tx: Connection, page_request: PageRequest) -> Page[User]:
    """Return a page of users by account and name; the search covers name, path, account, groups, key ids."""
    columns = (_COLUMNS.id, _COLUMNS.account_id, _COLUMNS.name, _COLUMNS.path, _COLUMNS.created)
    query = select(*columns, _COLUMNS.password_last_used, login_profile.c.user_id.is_not(None).label("password"))
    query = query.select_from(user.outerjoin(login_profile)).where(_COLUMNS.account_id.in_(page_request.accounts))
    result = query_page(tx, query.order_by(_COLUMNS.account_id, _COLUMNS.name_key), page_request, _matches_word)
    groups, user_keys = _groups(tx, result.rows), _keys(tx, result.rows)
    rows = (_user(tx, row, groups.get(row.id, ()), user_keys.get(row.id, ())) for row in result.rows)
    return Page(tuple(rows), result.found, result.page, result.query)


def _user(tx: Connection, row: Row[Any], groups: tuple[str, ...], user_keys: tuple[Key, ...]) -> User:
    arn = iam_arn(row.account_id, "user", row.name, row.path)
    factors = factors_of(tx, iam_person_id(row.account_id, row.id))
    return User(
        row.id,
        row.account_id,
        row.name,
        arn,
        row.created,
        bool(row.password),
        row.password_last_used,
        groups,
        user_keys,
        factors,
    )


def _matches_word(word: str) -> Sequence[ColumnElement[bool]]:
    in_group = exists().where(
        membership.c.user_id == _COLUMNS.id,
        membership.c.group_id == group.c.id,
        group.c.name_key.contains(word, autoescape=True),
    )
    has_key = exists().where(
        access_key.c.user_id == _COLUMNS.id, access_key.c.id.endswith(word.upper(), autoescape=True)
    )
    return (
        _COLUMNS.name_key.contains(word, autoescape=True),
        func.lower(_COLUMNS.path).contains(word, autoescape=True),
        _COLUMNS.account_id == word,
        in_group,
        has_key,
    )


def _groups(tx: Connection, rows: Sequence[Row[Any]]) -> dict[str, tuple[str, ...]]:
    ids = [row.id for row in rows]
    query = select(membership.c.user_id, group.c.name).join(group).where(membership.c.user_id.in_(ids))
    names: dict[str, tuple[str, ...]] = {}
    for user_id, name in tx.execute(query.order_by(group.c.name_key)):
        names[user_id] = (*names.get(user_id, ()), name)
    return names


def _keys(tx: Connection, rows: Sequence[Row[Any]]) -> dict[str, tuple[Key, ...]]:
    by_user: dict[str, tuple[Key, ...]] = {}
    for key in keys(tx, access_key.c.user_id.in_([row.id for row in rows])):
        by_user[key.owner_id or ""] = (*by_user.get(key.owner_id or "", ()), key)
    return by_user
