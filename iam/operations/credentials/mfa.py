"""MFA devices of users and of an account's root: virtual MFA devices, and passkeys as security keys.

Source: IAM API Reference, EnableMFADevice, ListMFADevices.

The UserName of root is its account id, in requests and responses.
"""

import base64
import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import segno
from sqlalchemy import ColumnElement, Connection, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import iam_arn, root_arn
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.credentials import failed_attempts, totp
from iam.credentials.person_id import delete_recovery_codes, iam_person_id
from iam.credentials.virtual_mfa import check_account_quota, check_device_quota, record_step
from iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    InvalidAuthenticationCode,
    NoSuchEntity,
)
from iam.operations.credentials import security_keys
from iam.operations.credentials.security_keys import SecurityKey
from iam.operations.named_entities import paginate, paginate_list
from iam.operations.required_permission import RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.operations.users import on_user_or_caller, user_or_caller, user_shape
from iam.principal import PrincipalKind
from iam.store.schema import Entity, account, mfa_device, tag, user
from iam.store.tags import delete_tags, put_tags, tags_of

ISSUER = "Fedgate"
_SEED = 20  # bytes: RFC 4226 4, R6 recommends 160 bits
_RESYNC = 20  # steps: ten minutes; a wider window would make guessing easier
_QR_SCALE = 5
_COLUMNS = mfa_device.c
_STATUS: Mapping[str, ColumnElement[bool]] = {
    "Assigned": _COLUMNS.enabled.is_not(None),
    "Unassigned": _COLUMNS.enabled.is_(None),
    "Any": _COLUMNS.serial.is_not(None),
}


# --- permissions --------------------------------------------------------------------------------------------------


def on_new_device(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the device to be created."""
    return RequiredPermission(_serial(call, p), request_tag_keys(p))


def on_device(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the device SerialNumber; only tags of the account's own devices are read."""
    serial = p["SerialNumber"]
    query = select(_COLUMNS.serial).where(_COLUMNS.serial == serial, _COLUMNS.account_id == call.account_id)
    tags = resource_tag_keys(call.tx, serial) if call.tx.execute(query).one_or_none() else {}
    return RequiredPermission(serial, tags | request_tag_keys(p))


def on_owner(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the owner of the device: the user UserName, else the caller."""
    if _is_root(call, p):
        return RequiredPermission(root_arn(call.account_id))
    return on_user_or_caller(call, p)


def on_owner_of_device(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the user UserName, else on the owner of the device."""
    if "UserName" in p:
        return on_owner(call, p)
    query = select(user.c.name).join(mfa_device, _COLUMNS.user_id == user.c.id)
    matches = (_COLUMNS.serial == p["SerialNumber"], _COLUMNS.account_id == call.account_id)
    key = security_keys.key_by_serial(call.tx, call.account_id, p["SerialNumber"])
    holder = key.user_name if key and key.user_id else call.tx.scalar(query.where(*matches))
    return on_user_or_caller(call, {"UserName": holder}) if holder else RequiredPermission(root_arn(call.account_id))


# --- create and delete --------------------------------------------------------------------------------------------


def create_virtual_mfa_device(call: Call, p: Params) -> Result:
    """Create an unassigned device; only this response contains its seed."""
    serial = _serial(call, p)
    check_account_quota(call.tx, call.account_id, call.limits)
    in_account = _COLUMNS.account_id == call.account_id
    taken = select(_COLUMNS.serial).where(in_account, func.lower(_COLUMNS.serial) == serial.lower())
    if call.tx.execute(taken).first() is not None:
        raise _already_exists()
    seed = call.random(_SEED)
    row = {
        "serial": serial,
        "account_id": call.account_id,
        "seed": call.vault.seal(seed, serial, call.random),
        "root": False,
        "created": to_milliseconds(call.now),
        "drift": 0,
    }
    try:
        call.tx.execute(mfa_device.insert().values(row))
    except IntegrityError as error:  # the primary key decides between simultaneous requests
        raise _already_exists() from error
    put_tags(call.tx, serial, p.get("Tags", ()), call.limits)
    text = base64.b32encode(seed)
    device: Result = {"SerialNumber": serial, "Base32StringSeed": text, "QRCodePNG": _qr_code(call, p, text)}
    return {"VirtualMFADevice": device | _tags(call.tx, serial)}


def _already_exists() -> EntityAlreadyExists:
    return EntityAlreadyExists("MFADevice entity at the same path and name already exists.")


def _serial(call: Call, p: Params) -> str:
    return iam_arn(call.account_id, "mfa", p["VirtualMFADeviceName"], p.get("Path", "/"))


def _qr_code(call: Call, p: Params, seed: bytes) -> bytes:
    alias = call.tx.scalar(select(account.c.alias).where(account.c.id == call.account_id))
    picture = io.BytesIO()
    text = otpauth_uri(p["VirtualMFADeviceName"], alias or call.account_id, seed)
    segno.make(text, micro=False).save(picture, kind="png", scale=_QR_SCALE)
    return picture.getvalue()


def otpauth_uri(device_name: str, account_name: str, seed: bytes) -> str:
    """Return the otpauth URI for authenticator apps; the seed is in base32 (Google Authenticator, "Key Uri Format")."""
    query = urlencode({"secret": seed.decode("ascii"), "issuer": ISSUER})
    return f"otpauth://totp/{quote(f'{ISSUER}:{device_name}@{account_name}')}?{query}"


def delete_virtual_mfa_device(call: Call, p: Params) -> Result:
    """Delete an unassigned device; raise DeleteConflict if it is in use."""
    device = _device(call, p)
    if device.enabled is not None:
        raise DeleteConflict("MFA VirtualDevice in use. Must deactivate first.")
    delete_tags(call.tx, device.serial)
    failed_attempts.forget(call.tx, device.serial, failed_attempts.MFA_CODE)
    call.tx.execute(delete(mfa_device).where(_COLUMNS.serial == device.serial))
    return {}


# --- assignment ---------------------------------------------------------------------------------------------------


def enable_mfa_device(call: Call, p: Params) -> Result:
    """Assign a device to a user or root; two consecutive codes prove possession."""
    user_id = _owner_id(call, p)
    device = _device(call, p, for_update=True)
    if device.enabled is not None:
        raise EntityAlreadyExists("MFA Device is already in use.")
    check_device_quota(_count_held(call, user_id), call.limits)
    seed, codes = _seed_and_codes(call, device, p)
    step = totp.accepted_pair(seed, codes, call.now, device.last_step)
    owner = {"user_id": user_id, "root": user_id is None, "enabled": to_milliseconds(call.now), "drift": 0}
    if step is None or not record_step(call.tx, device.serial, step, **owner):
        raise InvalidAuthenticationCode("Authentication code for device is not valid.")
    return {}


def resync_mfa_device(call: Call, p: Params) -> Result:
    """Measure the drift of a device's clock with two consecutive codes; at most ten minutes."""
    device = _find_assigned(call, p)
    seed, codes = _seed_and_codes(call, device, p)
    step = totp.accepted_pair(seed, codes, call.now, device.last_step, window=_RESYNC)
    if step is None or not record_step(call.tx, device.serial, step, drift=step - totp.step_at(call.now)):
        raise InvalidAuthenticationCode("Authentication code for device is not valid.")
    failed_attempts.forget(call.tx, device.serial, failed_attempts.MFA_CODE)
    return {}


def deactivate_mfa_device(call: Call, p: Params) -> Result:
    """Unassign a device or delete a passkey; with the last one the recovery codes are deleted.

    The last accepted step is kept, so that a used code is not accepted after the device is enabled again.
    """
    user_id = _owner_id(call, p)
    key = _key(call, p, user_id)
    if key is not None:
        security_keys.remove(call.tx, key)
    else:
        unassigned = {"user_id": None, "root": False, "enabled": None}
        call.tx.execute(update(mfa_device).where(_COLUMNS.serial == _find_assigned(call, p).serial).values(unassigned))
    if not _count_held(call, user_id):
        delete_recovery_codes(call.tx, iam_person_id(call.account_id, user_id))
    return {}


def _seed_and_codes(call: Call, device: Entity, p: Params) -> tuple[bytes, tuple[str, str]]:
    seed = call.vault.open(device.seed, device.serial)
    return seed, (p["AuthenticationCode1"], p["AuthenticationCode2"])


# --- lists --------------------------------------------------------------------------------------------------------


def list_mfa_devices(call: Call, p: Params) -> Result:
    """Return the devices and passkeys of a user, or of the caller."""
    user_id = _owner_id(call, p)
    name = call.account_id
    if user_id is not None:
        name = call.tx.scalar(select(user.c.name).where(user.c.id == user_id)) or name
    query = select(_COLUMNS.serial, _COLUMNS.enabled).where(_held_by(call, user_id), _COLUMNS.enabled.is_not(None))
    devices = [_assigned_shape(name, serial, enabled) for serial, enabled in call.tx.execute(query)]
    keys = security_keys.keys_of(call.tx, call.account_id, user_id)
    devices_and_keys = [*devices, *(_assigned_shape(name, key.serial, key.created) for key in keys)]
    shown, paging = paginate_list(devices_and_keys, p, lambda device: str(device["SerialNumber"]))
    return {"MFADevices": shown, **paging}


def _assigned_shape(user_name: str, serial: str, since: int) -> Result:
    return {"UserName": user_name, "SerialNumber": serial, "EnableDate": from_milliseconds(since)}


def list_virtual_mfa_devices(call: Call, p: Params) -> Result:
    """Return a page of the account's virtual MFA devices, without seeds and tags."""
    status = _STATUS[p.get("AssignmentStatus", "Any")]
    query = select(mfa_device).where(_COLUMNS.account_id == call.account_id, status)
    rows, paging = paginate(call, query, _COLUMNS.serial, p)
    return {"VirtualMFADevices": [_shape(call, row) for row in rows], **paging}


def get_mfa_device(call: Call, p: Params) -> Result:
    """Return a device or passkey; with UserName, only if it belongs to that user."""
    key = security_keys.key_by_serial(call.tx, call.account_id, p["SerialNumber"])
    if key is not None and ("UserName" not in p or key.user_id == _owner_id(call, p)):
        return _assigned_shape(key.user_name, key.serial, key.created)
    device = _find_assigned(call, p) if "UserName" in p else _device(call, p)
    shape: Result = {"SerialNumber": device.serial}
    if device.enabled is not None:
        name = call.tx.scalar(select(user.c.name).where(user.c.id == device.user_id)) or call.account_id
        return _assigned_shape(name, device.serial, device.enabled)
    return shape


def _shape(call: Call, row: Entity) -> Result:
    shape: Result = {"SerialNumber": row.serial}
    if row.enabled is not None:
        shape |= {"EnableDate": from_milliseconds(row.enabled), "User": _root(call)}
    if row.user_id is not None:
        shape["User"] = user_shape(call.tx.execute(select(user).where(user.c.id == row.user_id)).one())
    return shape


def _root(call: Call) -> Result:
    created = call.tx.scalar(select(account.c.created).where(account.c.id == call.account_id)) or 0
    return {"UserId": call.account_id, "Arn": root_arn(call.account_id), "CreateDate": from_milliseconds(created)}


# --- tags ---------------------------------------------------------------------------------------------------------


def tag_mfa_device(call: Call, p: Params) -> Result:
    """Add tags to a device."""
    put_tags(call.tx, _device(call, p).serial, p["Tags"], call.limits)
    return {}


def untag_mfa_device(call: Call, p: Params) -> Result:
    """Remove tags from a device."""
    delete_tags(call.tx, _device(call, p).serial, p["TagKeys"])
    return {}


def list_mfa_device_tags(call: Call, p: Params) -> Result:
    """Return a page of a device's tags."""
    query = select(tag).where(tag.c.entity_id == _device(call, p).serial)
    rows, paging = paginate(call, query, tag.c.key_folded, p)
    return {"Tags": [{"Key": row.key, "Value": row.value} for row in rows], **paging}


def _tags(tx: Connection, serial: str) -> dict[str, Any]:
    tags = tags_of(tx, serial)
    return {"Tags": tags} if tags else {}


# --- rows ---------------------------------------------------------------------------------------------------------


def _device(call: Call, p: Params, *, for_update: bool = False) -> Entity:
    query = select(mfa_device).where(_COLUMNS.serial == p["SerialNumber"], _COLUMNS.account_id == call.account_id)
    device = call.tx.execute(query.with_for_update() if for_update else query).one_or_none()
    if device is None:
        raise NoSuchEntity(f"VirtualMFADevice with serial number {p['SerialNumber']} does not exist.")
    return device


def _find_assigned(call: Call, p: Params) -> Entity:
    """Return a device assigned to the user UserName, else to the caller; raise NoSuchEntity."""
    of_user = _held_by(call, _owner_id(call, p))
    query = select(mfa_device).where(_COLUMNS.serial == p["SerialNumber"], of_user, _COLUMNS.enabled.is_not(None))
    device = call.tx.execute(query).one_or_none()
    if device is None:
        raise NoSuchEntity("MFA Device invalid for user.")
    return device


def _key(call: Call, p: Params, user_id: str | None) -> SecurityKey | None:
    key = security_keys.key_by_serial(call.tx, call.account_id, p["SerialNumber"])
    return key if key and key.user_id == user_id else None


def _count_held(call: Call, user_id: str | None) -> int:
    """Return the number of devices and passkeys of a user, or of root for None."""
    devices = select(func.count()).select_from(mfa_device).where(_held_by(call, user_id))
    return (call.tx.scalar(devices) or 0) + len(security_keys.keys_of(call.tx, call.account_id, user_id))


def _held_by(call: Call, user_id: str | None) -> ColumnElement[bool]:
    if user_id is not None:
        return _COLUMNS.user_id == user_id
    return (_COLUMNS.account_id == call.account_id) & _COLUMNS.root.is_(True)


def _is_root(call: Call, p: Params) -> bool:
    """Return whether root means itself: without UserName, or with its account id, even if a user has that name."""
    return call.principal.kind is PrincipalKind.ROOT and p.get("UserName", call.account_id) == call.account_id


def _owner_id(call: Call, p: Params) -> str | None:
    """Return the unique id of the user UserName, else of the caller; None is root. Raise NoSuchEntity."""
    owner = None if _is_root(call, p) else user_or_caller(call, p)
    return None if owner is None else str(owner.id)
