"""Users. Source: IAM API Reference, CreateUser, GetUser, ListUsers, UpdateUser, DeleteUser."""

from sqlalchemy import select, update

from iam.arn import root_arn
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds
from iam.credentials.person_id import delete_person_data, iam_person_id
from iam.errors import DeleteConflict, NoSuchEntity, ValidationError
from iam.operations.credentials.security_keys import keys_of
from iam.operations.named_entities import (
    USER,
    boundary_and_tags,
    create,
    entity_members,
    find,
    find_named,
    list_entities,
    permission_on,
    permission_on_entity,
    remove,
    rename,
)
from iam.operations.policies.managed import check_boundary
from iam.operations.required_permission import RequiredPermission
from iam.principal import PrincipalKind
from iam.store.schema import (
    Entity,
    access_key,
    account,
    attachment,
    inline_policy,
    login_profile,
    membership,
    mfa_device,
    user,
)

on_user = permission_on(USER)

_HAS_DEVICE = "Cannot delete entity, must delete MFA device first."
_DEPENDENTS = (
    (attachment.c.entity_id, "Cannot delete entity, must detach all policies first."),
    (inline_policy.c.entity_id, "Cannot delete entity, must delete policies first."),
    (membership.c.user_id, "Cannot delete entity, must remove users from group first."),
    (access_key.c.user_id, "Cannot delete entity, must delete access keys first."),
    (login_profile.c.user_id, "Cannot delete entity, must delete login profile first."),
    (mfa_device.c.user_id, _HAS_DEVICE),
)


def user_or_caller(call: Call, p: Params) -> Entity | None:
    """Return the user named UserName, else the caller (None: root); raise NoSuchEntity, ValidationError."""
    if "UserName" in p:
        return find(call, USER, p["UserName"])
    if call.principal.kind is PrincipalKind.ROOT:
        return None
    if call.principal.kind is not PrincipalKind.USER:
        raise ValidationError("Must specify userName when calling with non-User credentials")
    caller = _caller(call)
    if caller is None:
        raise NoSuchEntity(f"The user with name {call.principal.name} cannot be found.")
    return caller


def _caller(call: Call) -> Entity | None:
    """Return the calling user by its id, because the name may have changed since the request was authenticated."""
    return call.tx.execute(select(user).where(user.c.id == call.principal.entity_id)).one_or_none()


def on_user_or_caller(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the user named UserName, else on the caller."""
    if "UserName" in p:
        return on_user(call, p)
    caller = _caller(call)
    if caller is not None:
        return permission_on_entity(call, USER, caller.name, {})
    return RequiredPermission(call.principal.entity_arn or root_arn(call.account_id))


def user_shape(row: Entity) -> Result:
    """Return the members of a user in list responses."""
    shape = entity_members(USER, row)
    if row.password_last_used is not None:
        shape["PasswordLastUsed"] = from_milliseconds(row.password_last_used)
    return shape


def create_user(call: Call, p: Params) -> Result:
    """Create a user without credentials and permissions."""
    boundary = p.get("PermissionsBoundary")
    check_boundary(call, boundary)
    row = create(call, USER, p, boundary=boundary)
    return {"User": user_shape(row) | boundary_and_tags(call, row)}


def get_user(call: Call, p: Params) -> Result:
    """Return a user, or the account's root if it is the caller."""
    row = user_or_caller(call, p)
    if row is None:
        created = call.tx.scalar(select(account.c.created).where(account.c.id == call.account_id)) or 0
        arn = root_arn(call.account_id)
        return {"User": {"UserId": call.account_id, "Arn": arn, "CreateDate": from_milliseconds(created)}}
    return {"User": user_shape(row) | boundary_and_tags(call, row)}


def list_users(call: Call, p: Params) -> Result:
    """Return a page of users, without tags and permissions boundaries."""
    rows, paging = list_entities(call, USER, p)
    return {"Users": [user_shape(row) for row in rows], **paging}


def update_user(call: Call, p: Params) -> Result:
    """Change a user's name or path; its unique id stays, and so do trust policies that name it."""
    rename(call, USER, p)
    return {}


def delete_user(call: Call, p: Params) -> Result:
    """Delete a user without credentials, policies and groups; raise DeleteConflict if it has any."""
    row = find_named(call, USER, p)
    if keys_of(call.tx, call.account_id, row.id):
        raise DeleteConflict(_HAS_DEVICE)
    remove(call, USER, row, _DEPENDENTS)
    delete_person_data(call.tx, iam_person_id(call.account_id, row.id))
    return {}


def put_user_permissions_boundary(call: Call, p: Params) -> Result:
    """Set a user's permissions boundary to a managed policy."""
    check_boundary(call, p["PermissionsBoundary"])
    row = find_named(call, USER, p)
    call.tx.execute(update(user).where(user.c.id == row.id).values(boundary=p["PermissionsBoundary"]))
    return {}


def delete_user_permissions_boundary(call: Call, p: Params) -> Result:
    """Delete a user's permissions boundary; raise NoSuchEntity if it has none."""
    row = find_named(call, USER, p)
    if row.boundary is None:
        raise NoSuchEntity(f"The user with name {row.name} does not have a permissions boundary.")
    call.tx.execute(update(user).where(user.c.id == row.id).values(boundary=None))
    return {}
