"""Instance profiles: containers that pass a role to a host. Source: IAM API Reference."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import INSTANCE_PROFILE, iam_arn, unique_id
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity
from iam.operations.named_entities import ROLE, find_named, has_path_prefix, paginate, permission_on
from iam.operations.required_permission import RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.operations.roles import role_shapes
from iam.store.schema import Entity, instance_profile, role, tag
from iam.store.tags import delete_tags, put_tags, tags_of

on_role = permission_on(ROLE)

_KIND = "instance-profile"
_COLUMNS = instance_profile.c


# --- permissions --------------------------------------------------------------------------------------------------


def on_instance_profile(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the named instance profile; one that does not exist is assumed at the path ``/``."""
    row = _find_or_none(call, p["InstanceProfileName"])
    if row is None:
        return RequiredPermission(iam_arn(call.account_id, _KIND, p["InstanceProfileName"]), request_tag_keys(p))
    return RequiredPermission(_arn(row), resource_tag_keys(call.tx, row.id) | request_tag_keys(p))


def on_new_instance_profile(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the instance profile to be created."""
    return RequiredPermission(
        iam_arn(call.account_id, _KIND, p["InstanceProfileName"], p.get("Path", "/")), request_tag_keys(p)
    )


def on_instance_profiles(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the instance profiles under a path."""
    return RequiredPermission(iam_arn(call.account_id, _KIND, "*", p.get("PathPrefix", "/")))


def on_passed_role(call: Call, p: Params) -> RequiredPermission:
    """Require iam:PassRole on the role, which AddRoleToInstanceProfile needs too (Service Authorization Reference)."""
    permission = on_role(call, p)
    keys = {**permission.keys, "iam:passedtoservice": ("ec2.amazonaws.com",)}
    return RequiredPermission(permission.resource, keys, action="iam:PassRole")


# --- operations ---------------------------------------------------------------------------------------------------


def create_instance_profile(call: Call, p: Params) -> Result:
    """Create an instance profile without a role."""
    name, quota = p["InstanceProfileName"], call.limits.instance_profiles_per_account
    count = select(func.count()).select_from(instance_profile).where(_COLUMNS.account_id == call.account_id)
    if (call.tx.scalar(count) or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for InstanceProfilesPerAccount: {quota}")
    row = {
        "id": unique_id(INSTANCE_PROFILE, call.random),
        "account_id": call.account_id,
        "name": name,
        "name_key": name.lower(),
        "path": p.get("Path", "/"),
        "created": to_milliseconds(call.now),
    }
    try:
        call.tx.execute(instance_profile.insert().values(row))
    except IntegrityError as error:
        raise EntityAlreadyExists(f"Instance Profile {name} already exists.") from error
    put_tags(call.tx, row["id"], p.get("Tags", ()), call.limits)
    return {"InstanceProfile": _full(call, _find(call, p))}


def get_instance_profile(call: Call, p: Params) -> Result:
    """Return an instance profile with its role and tags."""
    return {"InstanceProfile": _full(call, _find(call, p))}


def list_instance_profiles(call: Call, p: Params) -> Result:
    """Return a page of instance profiles under PathPrefix, without tags."""
    return _list_page(call, p, has_path_prefix(_COLUMNS.path, p))


def list_instance_profiles_for_role(call: Call, p: Params) -> Result:
    """Return a page of the instance profiles that contain a role."""
    return _list_page(call, p, _COLUMNS.role_id == find_named(call, ROLE, p).id)


def delete_instance_profile(call: Call, p: Params) -> Result:
    """Delete an instance profile that holds no role."""
    profile = _find(call, p)
    if profile.role_id is not None:
        raise DeleteConflict("Cannot delete entity, must remove roles from instance profile first.")
    delete_tags(call.tx, profile.id)
    call.tx.execute(delete(instance_profile).where(_COLUMNS.id == profile.id))
    return {}


def add_role_to_instance_profile(call: Call, p: Params) -> Result:
    """Add a role to an instance profile, which can contain one role."""
    profile, role_row = _find(call, p), find_named(call, ROLE, p)
    # A conditional update: of two simultaneous requests, one succeeds.
    query = update(instance_profile).where(_COLUMNS.id == profile.id, _COLUMNS.role_id.is_(None))
    if not call.tx.execute(query.values(role_id=role_row.id)).rowcount:
        raise LimitExceeded("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
    return {}


def remove_role_from_instance_profile(call: Call, p: Params) -> Result:
    """Remove a role from an instance profile; raise NoSuchEntity if it is not in it."""
    profile, role_row = _find(call, p), find_named(call, ROLE, p)
    if profile.role_id != role_row.id:
        raise NoSuchEntity(f"Role with name {role_row.name} is not in the instance profile {profile.name}.")
    call.tx.execute(update(instance_profile).where(_COLUMNS.id == profile.id).values(role_id=None))
    return {}


def tag_instance_profile(call: Call, p: Params) -> Result:
    """Add tags to an instance profile."""
    put_tags(call.tx, _find(call, p).id, p["Tags"], call.limits)
    return {}


def untag_instance_profile(call: Call, p: Params) -> Result:
    """Remove tags from an instance profile."""
    delete_tags(call.tx, _find(call, p).id, p["TagKeys"])
    return {}


def list_instance_profile_tags(call: Call, p: Params) -> Result:
    """Return a page of an instance profile's tags."""
    query = select(tag).where(tag.c.entity_id == _find(call, p).id)
    rows, paging = paginate(call, query, tag.c.key_folded, p)
    return {"Tags": [{"Key": row.key, "Value": row.value} for row in rows], **paging}


# --- rows and responses -------------------------------------------------------------------------------------------


def _find_or_none(call: Call, name: str) -> Entity | None:
    matches = (_COLUMNS.account_id == call.account_id, _COLUMNS.name_key == name.lower())
    return call.tx.execute(select(instance_profile).where(*matches)).one_or_none()


def _find(call: Call, p: Params) -> Entity:
    row = _find_or_none(call, p["InstanceProfileName"])
    if row is None:
        raise NoSuchEntity(f"Instance Profile {p['InstanceProfileName']} cannot be found.")
    return row


def _arn(row: Entity) -> str:
    return iam_arn(row.account_id, _KIND, row.name, row.path)


def _list_page(call: Call, p: Params, condition: ColumnElement[bool]) -> Result:
    query = select(instance_profile).where(_COLUMNS.account_id == call.account_id, condition)
    rows, paging = paginate(call, query, _COLUMNS.name_key, p)
    return {"InstanceProfiles": profile_shapes(call, rows), **paging}


def profile_shapes(call: Call, rows: Sequence[Entity]) -> list[Result]:
    """Return the members of instance profiles, with their roles, in list responses."""
    ids = {row.role_id for row in rows if row.role_id is not None}
    roles = call.tx.execute(select(role).where(role.c.id.in_(ids))).all() if ids else []
    shapes = dict(zip([row.id for row in roles], role_shapes(call, roles), strict=True))
    return [
        {
            "Path": row.path,
            "InstanceProfileName": row.name,
            "InstanceProfileId": row.id,
            "Arn": _arn(row),
            "CreateDate": from_milliseconds(row.created),
            "Roles": [shapes[row.role_id]] if row.role_id is not None else [],
        }
        for row in rows
    ]


def _full(call: Call, row: Entity) -> Result:
    tags = tags_of(call.tx, row.id)
    return profile_shapes(call, [row])[0] | ({"Tags": tags} if tags else {})
