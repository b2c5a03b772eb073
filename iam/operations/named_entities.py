"""Users, groups and roles: find, create, list, rename and delete entities that have a name and a path."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Select, Table, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import GROUP as GROUP_ID
from iam.arn import ROLE as ROLE_ID
from iam.arn import USER as USER_ID
from iam.arn import iam_arn, unique_id
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.operations.required_permission import RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.store.schema import Entity, group, role, user
from iam.store.tags import delete_tags, put_tags, tags_of

PAGE = 100  # AWS's default of MaxItems

T = TypeVar("T")
PermissionRule = Callable[[Call, Params], RequiredPermission]


@dataclass(frozen=True, slots=True)
class EntityType:
    """A type of entity with a name; ``title`` is its name in parameters and error messages."""

    title: str
    table: Table
    id_prefix: str
    quota: Callable[[Limits], int]

    @property
    def kind(self) -> str:
        """Return the type as in ARNs: user, group, role."""
        return self.title.lower()

    def name(self, p: Params) -> str:
        """Return the name of the entity in the parameters."""
        return str(p[f"{self.title}Name"])

    def arn(self, row: Entity) -> str:
        """Return the ARN of an entity."""
        return iam_arn(row.account_id, self.kind, row.name, row.path)


USER = EntityType("User", user, USER_ID, lambda limits: limits.users_per_account)
GROUP = EntityType("Group", group, GROUP_ID, lambda limits: limits.groups_per_account)
ROLE = EntityType("Role", role, ROLE_ID, lambda limits: limits.roles_per_account)


# --- finding ------------------------------------------------------------------------------------------------------


def find_or_none(call: Call, entity_type: EntityType, name: str) -> Entity | None:
    """Return an entity of the caller's account, or None; names are compared without regard to case."""
    table = entity_type.table
    matches = (table.c.account_id == call.account_id, table.c.name_key == name.lower())
    return call.tx.execute(select(table).where(*matches)).one_or_none()


def find(call: Call, entity_type: EntityType, name: str) -> Entity:
    """Return an entity of the caller's account; raise NoSuchEntity."""
    row = find_or_none(call, entity_type, name)
    if row is None:
        raise NoSuchEntity(f"The {entity_type.kind} with name {name} cannot be found.")
    return row


def find_named(call: Call, entity_type: EntityType, p: Params) -> Entity:
    """Return the entity that the parameters name; raise NoSuchEntity."""
    return find(call, entity_type, entity_type.name(p))


# --- permissions --------------------------------------------------------------------------------------------------


def permission_on(entity_type: EntityType) -> PermissionRule:
    """Return the rule for the entity that the parameters name: its ARN and tags, and the tags in the request."""

    def permission(call: Call, p: Params) -> RequiredPermission:
        return permission_on_entity(call, entity_type, entity_type.name(p), request_tag_keys(p))

    return permission


def permission_on_policies_of(entity_type: EntityType) -> PermissionRule:
    """Return the rule for changes of an entity's permissions: with iam:PolicyARN and iam:PermissionsBoundary.

    The boundary is that of the request, else the entity's present one: delegated administrators are often limited
    to entities that have a certain boundary.
    """

    def permission(call: Call, p: Params) -> RequiredPermission:
        row = find_or_none(call, entity_type, entity_type.name(p))
        boundary = p.get("PermissionsBoundary") or (row.boundary if row and entity_type is not GROUP else None)
        keys = {"iam:policyarn": p.get("PolicyArn"), "iam:permissionsboundary": boundary}
        return _permission_on(
            call, entity_type, entity_type.name(p), row, {key: (value,) for key, value in keys.items() if value}
        )

    return permission


def permission_on_new(entity_type: EntityType) -> PermissionRule:
    """Return the rule for an entity to be created: its future ARN, its tags and its permissions boundary."""

    def permission(call: Call, p: Params) -> RequiredPermission:
        boundary = p.get("PermissionsBoundary")
        keys = request_tag_keys(p) | ({"iam:permissionsboundary": (boundary,)} if boundary else {})
        return RequiredPermission(
            iam_arn(call.account_id, entity_type.kind, entity_type.name(p), p.get("Path", "/")), keys
        )

    return permission


def permission_on_renamed(entity_type: EntityType) -> PermissionRule:
    """Return the rule for the new name and path: renaming requires permission on the old and the new ARN."""

    def permission(call: Call, p: Params) -> RequiredPermission:
        row = find_or_none(call, entity_type, entity_type.name(p))
        name = p.get(f"New{entity_type.title}Name") or (row.name if row else entity_type.name(p))
        path = p.get("NewPath") or (row.path if row else "/")
        return RequiredPermission(iam_arn(call.account_id, entity_type.kind, name, path))

    return permission


def permission_on_all(entity_type: EntityType) -> PermissionRule:
    """Return the rule for a list: the resource is the path prefix, as in AWS's AccessDenied messages."""

    def permission(call: Call, p: Params) -> RequiredPermission:
        return RequiredPermission(iam_arn(call.account_id, entity_type.kind, "", p.get("PathPrefix", "/")))

    return permission


def permission_on_entity(
    call: Call, entity_type: EntityType, name: str, keys: Mapping[str, tuple[str, ...]]
) -> RequiredPermission:
    """Return the permission on an entity by name; one that does not exist is assumed at the path ``/``."""
    return _permission_on(call, entity_type, name, find_or_none(call, entity_type, name), keys)


def _permission_on(
    call: Call, entity_type: EntityType, name: str, row: Entity | None, keys: Mapping[str, tuple[str, ...]]
) -> RequiredPermission:
    if row is None:
        return RequiredPermission(iam_arn(call.account_id, entity_type.kind, name), keys)
    return RequiredPermission(entity_type.arn(row), {**resource_tag_keys(call.tx, row.id), **keys})


# --- create, rename, delete ----------------------------------------------------------------------------------------


def create(call: Call, entity_type: EntityType, p: Params, **more: object) -> Entity:
    """Create an entity with its tags; raise LimitExceeded, EntityAlreadyExists, InvalidInput."""
    table, name = entity_type.table, entity_type.name(p)
    count = call.tx.scalar(select(func.count()).select_from(table).where(table.c.account_id == call.account_id))
    quota = entity_type.quota(call.limits)
    if (count or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for {entity_type.title}sPerAccount: {quota}")
    new_id = unique_id(entity_type.id_prefix, call.random)
    values: Params = {"id": new_id, "account_id": call.account_id, "name": name, "name_key": name.lower()}
    values |= {"path": p.get("Path", "/"), "created": to_milliseconds(call.now)}
    with _refuse_taken_name(entity_type, name):
        call.tx.execute(insert(table).values(**values, **more))
    put_tags(call.tx, new_id, p.get("Tags", ()), call.limits)
    return find(call, entity_type, name)


def rename(call: Call, entity_type: EntityType, p: Params) -> None:
    """Change the name or path of an entity; raise NoSuchEntity, EntityAlreadyExists."""
    row = find_named(call, entity_type, p)
    name, path = p.get(f"New{entity_type.title}Name", row.name), p.get("NewPath", row.path)
    query = update(entity_type.table).where(entity_type.table.c.id == row.id)
    with _refuse_taken_name(entity_type, name):
        call.tx.execute(query.values(name=name, name_key=name.lower(), path=path))


def remove(call: Call, entity_type: EntityType, row: Entity, dependents: Sequence[tuple[Column[Any], str]]) -> None:
    """Delete an entity; raise DeleteConflict with the message of a dependent that still exists."""
    for column, text in dependents:
        if call.tx.execute(select(column).where(column == row.id).limit(1)).first() is not None:
            raise DeleteConflict(text)
    delete_tags(call.tx, row.id)
    call.tx.execute(delete(entity_type.table).where(entity_type.table.c.id == row.id))


class _refuse_taken_name:  # noqa: N801 - reads as a statement
    """Raises EntityAlreadyExists if the unique index refuses a name.

    The index decides, not a query before: of two simultaneous requests for one name, one fails.
    """

    def __init__(self, entity_type: EntityType, name: str) -> None:
        self._text = f"{entity_type.title} with name {name} already exists."

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, IntegrityError):
            raise EntityAlreadyExists(self._text) from error


# --- lists --------------------------------------------------------------------------------------------------------


def list_entities(call: Call, entity_type: EntityType, p: Params) -> tuple[Sequence[Entity], Result]:
    """Return a page of the account's entities under PathPrefix, by name, with the paging members of the response."""
    columns = entity_type.table.c
    query = select(entity_type.table).where(columns.account_id == call.account_id, has_path_prefix(columns.path, p))
    return paginate(call, query, columns.name_key, p)


def has_path_prefix(path: ColumnElement[str], p: Params) -> ColumnElement[bool]:
    """Return the condition that a path begins with PathPrefix; LIKE would ignore case and treat ``_`` as a wildcard."""
    prefix: str = p.get("PathPrefix", "/")
    return func.substr(path, 1, len(prefix)) == prefix


def paginate(call: Call, query: Select[Any], column: ColumnElement[str], p: Params) -> tuple[Sequence[Entity], Result]:
    """Return a page in the order of a unique column, with IsTruncated and Marker; raise ValidationError."""
    size: int = p.get("MaxItems", PAGE)
    if "Marker" in p:
        query = query.where(column > _decode_marker(p["Marker"]))
    rows = call.tx.execute(query.order_by(column).limit(size + 1)).all()
    if len(rows) <= size:
        return rows, {"IsTruncated": False}
    last: str = getattr(rows[size - 1], str(column.key))
    return rows[:size], _truncated_after(last)


def paginate_list(rows: Sequence[T], p: Params, key: Callable[[T], str]) -> tuple[list[T], Result]:
    """Return a page of rows in memory, in the order of unique keys; like ``paginate`` for queries."""
    size: int = p.get("MaxItems", PAGE)
    last_key = _decode_marker(p["Marker"]) if "Marker" in p else ""
    remaining = sorted((row for row in rows if key(row) > last_key), key=key)
    if len(remaining) <= size:
        return remaining, {"IsTruncated": False}
    return remaining[:size], _truncated_after(key(remaining[size - 1]))


def _truncated_after(key: str) -> Result:
    return {"IsTruncated": True, "Marker": base64.urlsafe_b64encode(b"\x01" + key.encode()).decode("ascii")}


def _decode_marker(marker: str) -> str:
    try:
        raw = base64.b64decode(marker, altchars=b"-_", validate=True)
        if raw[:1] == b"\x01":
            return raw[1:].decode()
    except (binascii.Error, ValueError):
        pass
    raise ValidationError("Invalid Marker.")


# --- responses ----------------------------------------------------------------------------------------------------


def entity_members(entity_type: EntityType, row: Entity) -> Result:
    """Return the members that every response about an entity has."""
    return {
        "Path": row.path,
        f"{entity_type.title}Name": row.name,
        f"{entity_type.title}Id": row.id,
        "Arn": entity_type.arn(row),
        "CreateDate": from_milliseconds(row.created),
    }


def boundary_and_tags(call: Call, row: Entity) -> Result:
    """Return permissions boundary and tags, which lists omit (IAM API Reference, ListUsers and ListRoles)."""
    shape: Result = {}
    if row.boundary is not None:
        shape["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
            "PermissionsBoundaryArn": row.boundary,
        }
    tags = tags_of(call.tx, row.id)
    return shape | ({"Tags": tags} if tags else {})
