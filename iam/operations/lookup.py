"""Rows by name, how they look in an answer, pages of lists, tags: what passwords, MFA devices and instance profiles share."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, Row, delete, select

from iam.arn import iam_arn, root_arn
from iam.call import Call, Params, Result
from iam.errors import InvalidInput, LimitExceeded, NoSuchEntity, ValidationError
from iam.operations.ask import Ask
from iam.principal import PrincipalKind
from iam.schema import role, tag, user

T = TypeVar("T")
_PAGE = 100  # AWS's default of MaxItems


def milliseconds(moment: datetime) -> int:
    """Return a moment as the tables keep it."""
    return int(moment.timestamp() * 1000)


def moment(stored: int) -> datetime:
    """Return a stored time as answers show it: UTC, whole seconds."""
    return datetime.fromtimestamp(stored // 1000, UTC)


# --- who ----------------------------------------------------------------------------------------------------------------------


def user_or_none(call: Call, name: str) -> Row[tuple[object, ...]] | None:
    """Return a user of the caller's account; names are alike without regard to case."""
    query = select(user).where(user.c.account_id == call.account_id, user.c.name_key == name.lower())
    return call.tx.execute(query).one_or_none()


def find_user(call: Call, name: str) -> Row[tuple[object, ...]]:
    """Return a user of the caller's account; raise NoSuchEntity."""
    found = user_or_none(call, name)
    if found is None:
        raise NoSuchEntity(f"The user with name {name} cannot be found.")
    return found


def find_role(call: Call, name: str) -> Row[tuple[object, ...]]:
    """Return a role of the caller's account; raise NoSuchEntity."""
    query = select(role).where(role.c.account_id == call.account_id, role.c.name_key == name.lower())
    found = call.tx.execute(query).one_or_none()
    if found is None:
        raise NoSuchEntity(f"The role with name {name} cannot be found.")
    return found


def own_name(call: Call, p: Params) -> str:
    """Return the UserName parameter, or else the caller's own; raise ValidationError where the caller is no user."""
    if "UserName" in p:
        return str(p["UserName"])
    if call.principal.kind is PrincipalKind.USER:
        return call.principal.name
    raise ValidationError("Must specify userName when calling with non-User credentials")


def user_shape(row: Row[tuple[object, ...]]) -> Result:
    """Return a user as lists show it: without tags and boundary."""
    shape: Result = {
        "Path": row.path,
        "UserName": row.name,
        "UserId": row.id,
        "Arn": iam_arn(row.account_id, "user", row.name, row.path),
        "CreateDate": moment(row.created),
    }
    if row.password_last_used is not None:
        shape["PasswordLastUsed"] = moment(row.password_last_used)
    return shape


def role_shape(row: Row[tuple[object, ...]]) -> Result:
    """Return a role as an instance profile shows it."""
    shape: Result = {
        "Path": row.path,
        "RoleName": row.name,
        "RoleId": row.id,
        "Arn": iam_arn(row.account_id, "role", row.name, row.path),
        "CreateDate": moment(row.created),
        "AssumeRolePolicyDocument": row.trust,
    }
    return shape | ({"Description": row.description} if row.description else {})


def on_user(call: Call, p: Params) -> Ask:
    """Ask about the named user, or about the caller where none is named."""
    name = p.get("UserName")
    if name is None:
        if call.principal.kind is not PrincipalKind.USER:
            return Ask(call.principal.entity_arn or root_arn(call.account_id))
        name = call.principal.name
    found = user_or_none(call, name)
    if found is None:
        return Ask(iam_arn(call.account_id, "user", name))
    return Ask(iam_arn(call.account_id, "user", found.name, found.path), resource_tag_keys(call.tx, found.id))


def on_role(call: Call, p: Params) -> Ask:
    """Ask about the named role."""
    name = p["RoleName"]
    query = select(role).where(role.c.account_id == call.account_id, role.c.name_key == name.lower())
    found = call.tx.execute(query).one_or_none()
    if found is None:
        return Ask(iam_arn(call.account_id, "role", name))
    return Ask(iam_arn(call.account_id, "role", found.name, found.path), resource_tag_keys(call.tx, found.id))


# --- pages --------------------------------------------------------------------------------------------------------------------


def page(rows: Sequence[T], p: Params, key: Callable[[T], str]) -> tuple[list[T], Result]:
    """Return the rows of one page in the order of their keys, and IsTruncated and Marker; raise ValidationError."""
    after = _after(p)
    size = p.get("MaxItems", _PAGE)
    rest = sorted((row for row in rows if after is None or key(row) > after), key=key)
    shown = rest[:size]
    if len(rest) <= size:
        return shown, {"IsTruncated": False}
    return shown, {"IsTruncated": True, "Marker": _marker(key(shown[-1]))}


def _marker(key: str) -> str:
    return base64.urlsafe_b64encode(b"\x01" + key.encode()).decode("ascii")


def _after(p: Params) -> str | None:
    marker = p.get("Marker")
    if marker is None:
        return None
    try:
        raw = base64.b64decode(marker, altchars=b"-_", validate=True)
        if raw[:1] == b"\x01":
            return raw[1:].decode()
    except (binascii.Error, ValueError):
        pass
    raise ValidationError("Invalid Marker.")


# --- tags ---------------------------------------------------------------------------------------------------------------------


def tags_of(tx: Connection, entity_id: str) -> list[dict[str, str]]:
    """Return the tags of one thing, by key."""
    rows = tx.execute(select(tag.c.key, tag.c.value).where(tag.c.entity_id == entity_id).order_by(tag.c.key_folded))
    return [{"Key": row.key, "Value": row.value} for row in rows]


def resource_tag_keys(tx: Connection, entity_id: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys which tell the tags of a thing."""
    return {
        f"{service}:resourcetag/{one['Key'].lower()}": (one["Value"],)
        for one in tags_of(tx, entity_id)
        for service in ("aws", "iam")
    }


def request_tag_keys(p: Params) -> dict[str, tuple[str, ...]]:
    """Return the condition keys which tell the tags that a request brings or takes away."""
    brought: Sequence[Mapping[str, str]] = p.get("Tags", ())
    names = (*(one["Key"] for one in brought), *p.get("TagKeys", ()))
    keys = {f"aws:requesttag/{one['Key'].lower()}": (one["Value"],) for one in brought}
    return keys | {"aws:tagkeys": names} if names else keys


def put_tags(call: Call, entity_id: str, tags: Sequence[Mapping[str, str]]) -> None:
    """Add or overwrite tags; raise InvalidInput for doubles and reserved names, LimitExceeded above the quota."""
    folded = [one["Key"].lower() for one in tags]
    if len(set(folded)) != len(folded):
        raise InvalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.startswith("aws:") for key in folded):
        raise InvalidInput("System tags cannot be added/updated by the caller")
    drop_tags(call.tx, entity_id, folded)
    if len(tags_of(call.tx, entity_id)) + len(folded) > call.limits.tags_per_entity:
        raise LimitExceeded(f"The number of tags has reached the maximum limit: {call.limits.tags_per_entity}.")
    for one, key in zip(tags, folded, strict=True):
        row = {"entity_id": entity_id, "key_folded": key, "key": one["Key"], "value": one["Value"]}
        call.tx.execute(tag.insert().values(row))


def drop_tags(tx: Connection, entity_id: str, keys: Sequence[str] | None = None) -> None:
    """Remove some tags of a thing, or all of them."""
    query = delete(tag).where(tag.c.entity_id == entity_id)
    if keys is not None:
        query = query.where(tag.c.key_folded.in_([key.lower() for key in keys]))
    tx.execute(query)
