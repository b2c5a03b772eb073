"""What has a name and a path in an account: users, groups and roles are found, listed, made and deleted alike."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Row, Select, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import GROUP as GROUP_ID
from iam.arn import ROLE as ROLE_ID
from iam.arn import USER as USER_ID
from iam.arn import iam_arn, unique_id
from iam.call import Call, Params, Result
from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.operations.required_permission import Ask
from iam.operations.times_and_tags import (
    drop_tags,
    milliseconds,
    moment,
    put_tags,
    request_tag_keys,
    resource_tag_keys,
    tags_of,
)
from iam.store.schema import group, role, user

PAGE = 100  # AWS's default of MaxItems

Entity = Row[Any]
T = TypeVar("T")
Asks = Callable[[Call, Params], Ask]


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of thing that has a name, as AWS's texts and ARNs call it."""

    title: str
    table: Table
    id_prefix: str
    quota: Callable[[Limits], int]

    @property
    def kind(self) -> str:
        """Return the word in ARNs: user, group, role."""
        return self.title.lower()

    def name(self, p: Params) -> str:
        """Return the parameter that names one of these."""
        return str(p[f"{self.title}Name"])

    def arn(self, row: Entity) -> str:
        """Return the ARN of one of these."""
        return iam_arn(row.account_id, self.kind, row.name, row.path)


USER = Noun("User", user, USER_ID, lambda limits: limits.users_per_account)
GROUP = Noun("Group", group, GROUP_ID, lambda limits: limits.groups_per_account)
ROLE = Noun("Role", role, ROLE_ID, lambda limits: limits.roles_per_account)


# --- finding ------------------------------------------------------------------------------------------------------


def find_or_none(call: Call, noun: Noun, name: str) -> Entity | None:
    """Return a thing of the caller's account; names are alike without regard to case."""
    table = noun.table
    mine = (table.c.account_id == call.account_id, table.c.name_key == name.lower())
    return call.tx.execute(select(table).where(*mine)).one_or_none()


def find(call: Call, noun: Noun, name: str) -> Entity:
    """Return a thing of the caller's account; raise NoSuchEntity."""
    found = find_or_none(call, noun, name)
    if found is None:
        raise NoSuchEntity(f"The {noun.kind} with name {name} cannot be found.")
    return found


def named(call: Call, noun: Noun, p: Params) -> Entity:
    """Return the thing that the parameters name; raise NoSuchEntity."""
    return find(call, noun, noun.name(p))


# --- asking -------------------------------------------------------------------------------------------------------


def about(noun: Noun) -> Asks:
    """Return what asks about the thing that the parameters name: its ARN and tags, and the tags of the request."""

    def ask(call: Call, p: Params) -> Ask:
        return ask_about(call, noun, noun.name(p), request_tag_keys(p))

    return ask


def about_permissions(noun: Noun) -> Asks:
    """Return what asks about changed permissions: with iam:PolicyARN, and iam:PermissionsBoundary as asked or had."""

    def ask(call: Call, p: Params) -> Ask:
        found = find_or_none(call, noun, noun.name(p))
        boundary = p.get("PermissionsBoundary") or (found.boundary if found and noun is not GROUP else None)
        keys = {"iam:policyarn": p.get("PolicyArn"), "iam:permissionsboundary": boundary}
        return _ask(call, noun, noun.name(p), found, {key: (value,) for key, value in keys.items() if value})

    return ask


def about_new(noun: Noun) -> Asks:
    """Return what asks about a thing that shall be: the ARN that it will have, its tags and its boundary."""

    def ask(call: Call, p: Params) -> Ask:
        boundary = p.get("PermissionsBoundary")
        keys = request_tag_keys(p) | ({"iam:permissionsboundary": (boundary,)} if boundary else {})
        return Ask(iam_arn(call.account_id, noun.kind, noun.name(p), p.get("Path", "/")), keys)

    return ask


def about_renamed(noun: Noun) -> Asks:
    """Return what asks about the thing as it will be called: to move it there takes leave for the new place as well."""

    def ask(call: Call, p: Params) -> Ask:
        found = find_or_none(call, noun, noun.name(p))
        name = p.get(f"New{noun.title}Name") or (found.name if found else noun.name(p))
        path = p.get("NewPath") or (found.path if found else "/")
        return Ask(iam_arn(call.account_id, noun.kind, name, path))

    return ask


def about_all(noun: Noun) -> Asks:
    """Return what asks about a list of these: the path that is listed stands for them, as in AWS's denials."""

    def ask(call: Call, p: Params) -> Ask:
        return Ask(iam_arn(call.account_id, noun.kind, "", p.get("PathPrefix", "/")))

    return ask


def ask_about(call: Call, noun: Noun, name: str, keys: Mapping[str, tuple[str, ...]]) -> Ask:
    """Ask about a thing by name; one that does not exist is asked for at the path ``/``."""
    return _ask(call, noun, name, find_or_none(call, noun, name), keys)


def _ask(call: Call, noun: Noun, name: str, found: Entity | None, keys: Mapping[str, tuple[str, ...]]) -> Ask:
    if found is None:
        return Ask(iam_arn(call.account_id, noun.kind, name), keys)
    return Ask(noun.arn(found), {**resource_tag_keys(call.tx, found.id), **keys})


# --- making, renaming, deleting -----------------------------------------------------------------------------------


def create(call: Call, noun: Noun, p: Params, **more: object) -> Entity:
    """Make a thing with its tags; raise LimitExceeded, EntityAlreadyExists, InvalidInput."""
    table, name = noun.table, noun.name(p)
    count = call.tx.scalar(select(func.count()).select_from(table).where(table.c.account_id == call.account_id))
    quota = noun.quota(call.limits)
    if (count or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for {noun.title}sPerAccount: {quota}")
    new_id = unique_id(noun.id_prefix, call.random)
    values: Params = {"id": new_id, "account_id": call.account_id, "name": name, "name_key": name.lower()}
    values |= {"path": p.get("Path", "/"), "created": milliseconds(call.now)}
    with _name_taken(noun, name):
        call.tx.execute(insert(table).values(**values, **more))
    put_tags(call, new_id, p.get("Tags", ()))
    return find(call, noun, name)


def rename(call: Call, noun: Noun, p: Params) -> None:
    """Give a thing the new name or path of the parameters; raise NoSuchEntity, EntityAlreadyExists."""
    found = named(call, noun, p)
    name, path = p.get(f"New{noun.title}Name", found.name), p.get("NewPath", found.path)
    changed = update(noun.table).where(noun.table.c.id == found.id)
    with _name_taken(noun, name):
        call.tx.execute(changed.values(name=name, name_key=name.lower(), path=path))


def remove(call: Call, noun: Noun, row: Entity, hanging: Sequence[tuple[Column[Any], str]]) -> None:
    """Delete a thing on which nothing hangs any longer; raise DeleteConflict with the text of what does."""
    for column, text in hanging:
        if call.tx.execute(select(column).where(column == row.id).limit(1)).first() is not None:
            raise DeleteConflict(text)
    drop_tags(call.tx, row.id)
    call.tx.execute(delete(noun.table).where(noun.table.c.id == row.id))


class _name_taken:  # noqa: N801 - reads as a statement
    """Turns the unique index's refusal of a name into EntityAlreadyExists."""

    def __init__(self, noun: Noun, name: str) -> None:
        self._text = f"{noun.title} with name {name} already exists."

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, IntegrityError):
            raise EntityAlreadyExists(self._text) from error


# --- listing ------------------------------------------------------------------------------------------------------


def listing(call: Call, noun: Noun, p: Params) -> tuple[Sequence[Entity], Result]:
    """Return a page of the account's things under PathPrefix, by name, and the page's members of the answer."""
    columns = noun.table.c
    query = select(noun.table).where(columns.account_id == call.account_id, under(columns.path, p))
    return page(call, query, columns.name_key, p)


def under(path: ColumnElement[str], p: Params) -> ColumnElement[bool]:
    """Return the condition that a path begins with PathPrefix; LIKE would mind neither case nor ``_``."""
    prefix: str = p.get("PathPrefix", "/")
    return func.substr(path, 1, len(prefix)) == prefix


def page(call: Call, query: Select[Any], column: ColumnElement[str], p: Params) -> tuple[Sequence[Entity], Result]:
    """Return one page in the order of a unique column, and IsTruncated and Marker; raise ValidationError."""
    size: int = p.get("MaxItems", PAGE)
    if "Marker" in p:
        query = query.where(column > _after(p["Marker"]))
    rows = call.tx.execute(query.order_by(column).limit(size + 1)).all()
    if len(rows) <= size:
        return rows, {"IsTruncated": False}
    last: str = getattr(rows[size - 1], str(column.key))
    return rows[:size], _more_after(last)


def page_of(rows: Sequence[T], p: Params, key: Callable[[T], str]) -> tuple[list[T], Result]:
    """Return one page of what is in memory, in the order of unique keys, as ``page`` does of what is not."""
    size: int = p.get("MaxItems", PAGE)
    after = _after(p["Marker"]) if "Marker" in p else ""
    rest = sorted((row for row in rows if key(row) > after), key=key)
    if len(rest) <= size:
        return rest, {"IsTruncated": False}
    return rest[:size], _more_after(key(rest[size - 1]))


def _more_after(key: str) -> Result:
    return {"IsTruncated": True, "Marker": base64.urlsafe_b64encode(b"\x01" + key.encode()).decode("ascii")}


def _after(marker: str) -> str:
    try:
        raw = base64.b64decode(marker, altchars=b"-_", validate=True)
        if raw[:1] == b"\x01":
            return raw[1:].decode()
    except (binascii.Error, ValueError):
        pass
    raise ValidationError("Invalid Marker.")


# --- showing ------------------------------------------------------------------------------------------------------


def heading(noun: Noun, row: Entity) -> Result:
    """Return the members that every answer about such a thing begins with."""
    return {
        "Path": row.path,
        f"{noun.title}Name": row.name,
        f"{noun.title}Id": row.id,
        "Arn": noun.arn(row),
        "CreateDate": moment(row.created),
    }


def extras(call: Call, row: Entity) -> Result:
    """Return boundary and tags, which lists leave out (IAM API Reference, ListUsers and ListRoles)."""
    shape: Result = {}
    if row.boundary is not None:
        shape["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
            "PermissionsBoundaryArn": row.boundary,
        }
    tags = tags_of(call.tx, row.id)
    return shape | ({"Tags": tags} if tags else {})
