"""Access keys of users and of the account's root. Source: IAM API Reference, CreateAccessKey, GetAccessKeyLastUsed."""

from sqlalchemy import ColumnElement, and_, delete, func, select, update

from iam.accounts import add_access_key
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds
from iam.errors import LimitExceeded, NoSuchEntity
from iam.operations.named_entities import USER, paginate, permission_on_entity
from iam.operations.required_permission import RequiredPermission
from iam.operations.users import user_or_caller
from iam.store.schema import Entity, access_key, user

_STATUS = {True: "Active", False: "Inactive"}


def _belongs_to(call: Call, owner: Entity | None) -> ColumnElement[bool]:
    """Return the SQL condition that a key belongs to a user, or to the account's root for None."""
    user_id = owner.id if owner else None
    return and_(access_key.c.account_id == call.account_id, access_key.c.user_id == user_id)


def _shape(owner: Entity | None, row: Entity) -> Result:
    shape = {"AccessKeyId": row.id, "Status": _STATUS[row.active], "CreateDate": from_milliseconds(row.created)}
    return ({"UserName": owner.name} if owner else {}) | shape


def _find(call: Call, owner: Entity | None, key_id: str) -> Entity:
    query = select(access_key).where(_belongs_to(call, owner), access_key.c.id == key_id)
    row = call.tx.execute(query).one_or_none()
    if row is None:
        raise NoSuchEntity(f"The Access Key with id {key_id} cannot be found.")
    return row


def create_access_key(call: Call, p: Params) -> Result:
    """Create a key; only this response contains its secret."""
    owner = user_or_caller(call, p)
    count = call.tx.scalar(select(func.count()).select_from(access_key).where(_belongs_to(call, owner))) or 0
    if count >= call.limits.access_keys_per_user:
        raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {call.limits.access_keys_per_user}")
    key_id, secret = add_access_key(
        call.tx,
        call.account_id,
        owner.id if owner else None,
        now=call.now,
        random=call.random,
        vault=call.vault,
    )
    return {"AccessKey": _shape(owner, _find(call, owner, key_id)) | {"SecretAccessKey": secret}}


def list_access_keys(call: Call, p: Params) -> Result:
    """Return a page of keys, without secrets."""
    owner = user_or_caller(call, p)
    query = select(access_key).where(_belongs_to(call, owner))
    rows, paging = paginate(call, query, access_key.c.id, p)
    return {"AccessKeyMetadata": [_shape(owner, row) for row in rows], **paging}


def update_access_key(call: Call, p: Params) -> Result:
    """Activate or deactivate a key."""
    row = _find(call, user_or_caller(call, p), p["AccessKeyId"])
    call.tx.execute(update(access_key).where(access_key.c.id == row.id).values(active=p["Status"] == "Active"))
    return {}


def delete_access_key(call: Call, p: Params) -> Result:
    """Delete a key."""
    row = _find(call, user_or_caller(call, p), p["AccessKeyId"])
    call.tx.execute(delete(access_key).where(access_key.c.id == row.id))
    return {}


def _with_owner(call: Call, key_id: str) -> Entity | None:
    query = select(access_key, user.c.name).join_from(access_key, user, access_key.c.user_id == user.c.id, isouter=True)
    matches = (access_key.c.account_id == call.account_id, access_key.c.id == key_id)
    return call.tx.execute(query.where(*matches)).one_or_none()


def on_key_owner(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the user who owns the key, or on ``*`` if there is none."""
    row = _with_owner(call, p["AccessKeyId"])
    return permission_on_entity(call, USER, row.name, {}) if row and row.name else RequiredPermission("*")


def get_access_key_last_used(call: Call, p: Params) -> Result:
    """Return when, for which service and in which region a key was last used."""
    row = _with_owner(call, p["AccessKeyId"])
    if row is None:
        raise NoSuchEntity(f"The Access Key with id {p['AccessKeyId']} cannot be found.")
    used: Result = {"ServiceName": row.last_used_service or "N/A", "Region": row.last_used_region or "N/A"}
    if row.last_used is not None:
        used["LastUsedDate"] = from_milliseconds(row.last_used)
    return ({"UserName": row.name} if row.name else {}) | {"AccessKeyLastUsed": used}
