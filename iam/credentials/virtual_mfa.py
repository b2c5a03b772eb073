"""Virtual MFA devices of IAM users and account roots: the authenticator apps that the IAM API lists."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from iam.arn import ACCOUNT_ID, Random, iam_arn
from iam.clock import to_milliseconds
from iam.credentials import failed_attempts, totp
from iam.credentials.person_id import iam_subject
from iam.errors import LimitExceeded
from iam.limits import Limits
from iam.store.schema import Entity, mfa_device, user
from iam.store.tags import delete_tags
from iam.store.vault import Vault

_COLUMNS = mfa_device.c
# IAM API Reference, CreateVirtualMFADevice.
_NOT_IN_A_NAME = re.compile(r"[^\w+=,.@-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeviceOwner:
    """The user or root that owns devices; ``user_id`` is None for the account's root."""

    account_id: str
    user_id: str | None

    @property
    def owns_device(self) -> ColumnElement[bool]:
        """Return the SQL condition that a device is assigned to this owner."""
        if self.user_id is not None:
            return _COLUMNS.user_id == self.user_id
        return (_COLUMNS.account_id == self.account_id) & _COLUMNS.root.is_(True)


@dataclass(frozen=True, slots=True)
class NewVirtualMfaDevice:
    """A device to add: the requested name, the seed, and the time step of the code that proved possession."""

    name: str
    seed: bytes = field(repr=False)
    step: int


def owner_of(tx: Connection, person: str) -> DeviceOwner | None:
    """Return the user or root that a person is; None for federated people and deleted users."""
    subject = iam_subject(person)
    if subject is None:
        return None
    if ACCOUNT_ID.fullmatch(subject):
        return DeviceOwner(subject, None)
    account_id = tx.scalar(select(user.c.account_id).where(user.c.id == subject))
    return DeviceOwner(account_id, subject) if account_id else None


def virtual_mfa_devices_of(tx: Connection, person: str, *, for_update: bool = False) -> Sequence[Entity]:
    """Return the rows of a person's enabled devices."""
    owner = owner_of(tx, person)
    if owner is None:
        return ()
    query = select(mfa_device).where(owner.owns_device, _COLUMNS.enabled.is_not(None))
    return tx.execute(query.with_for_update() if for_update else query).all()


def consume(tx: Connection, device: Entity, code: str, now: datetime, vault: Vault) -> bool:
    """Return whether a code is valid for this device, and use it up; a locked device accepts no code.

    The caller counts wrong codes for the person; wrong codes in API calls are counted for the device.
    """
    if failed_attempts.seconds_locked(tx, device.serial, failed_attempts.MFA_CODE, now):
        return False
    if not consume_step(tx, device, code, now, vault):
        return False
    failed_attempts.forget(tx, device.serial, failed_attempts.MFA_CODE)
    return True


def add(  # noqa: PLR0913 - facts, each from somewhere else
    tx: Connection,
    owner: DeviceOwner,
    new: NewVirtualMfaDevice,
    *,
    now: datetime,
    vault: Vault,
    random: Random,
    limits: Limits,
) -> str:
    """Create an enabled device and return its serial number; the name is made valid and unique.

    Raises LimitExceeded if the account has too many devices.
    """
    check_account_quota(tx, owner.account_id, limits)
    serial, created = _unused_serial(tx, owner.account_id, new.name), to_milliseconds(now)
    row = {
        "serial": serial,
        "account_id": owner.account_id,
        "seed": vault.seal(new.seed, serial, random),
        "user_id": owner.user_id,
        "root": owner.user_id is None,
        "created": created,
        "enabled": created,
        "last_step": new.step,
        "drift": 0,
    }
    tx.execute(mfa_device.insert().values(row))
    return serial


def remove(tx: Connection, owner: DeviceOwner, serial: str) -> bool:
    """Deactivate and delete a device; return False if the owner has no such device."""
    deleted = tx.execute(delete(mfa_device).where(_COLUMNS.serial == serial, owner.owns_device)).rowcount
    if deleted:
        delete_tags(tx, serial)
        failed_attempts.forget(tx, serial, failed_attempts.MFA_CODE)
    return bool(deleted)


def _unused_serial(tx: Connection, account_id: str, requested: str) -> str:
    name = _NOT_IN_A_NAME.sub("-", requested).strip("-") or "app"
    first = iam_arn(account_id, "mfa", name)
    folded = func.lower(_COLUMNS.serial)
    similar = select(folded).where(_COLUMNS.account_id == account_id, folded.startswith(first.lower(), autoescape=True))
    taken = set(tx.scalars(similar))
    serials = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(2)))
    return next(serial for serial in serials if serial.lower() not in taken)


# --- codes and quotas, for the API and the web pages


def consume_code(  # noqa: PLR0913, PLR0917 - facts, each from somewhere else
    tx: Connection,
    user_id: str | None,
    account_id: str,
    serial: str,
    code: str,
    now: datetime,
    vault: Vault,
) -> bool:
    """Return whether a code is valid for an enabled device of this user (None: root), and use it up.

    Commit the transaction whatever the result: it counts wrong codes, and a rollback would allow unlimited guesses.
    After five wrong codes, codes are refused for 15 minutes.
    """
    assigned = _COLUMNS.root.is_(True) if user_id is None else _COLUMNS.user_id == user_id
    query = select(mfa_device).where(_COLUMNS.serial == serial, _COLUMNS.account_id == account_id, assigned)
    device = tx.execute(query.where(_COLUMNS.enabled.is_not(None)).with_for_update()).one_or_none()
    if device is None or failed_attempts.seconds_locked(tx, serial, failed_attempts.MFA_CODE, now):
        return False
    if not consume_step(tx, device, code, now, vault):
        failed_attempts.count(tx, serial, failed_attempts.MFA_CODE, now)
        return False
    failed_attempts.forget(tx, serial, failed_attempts.MFA_CODE)
    return True


def consume_step(tx: Connection, device: Entity, code: str, now: datetime, vault: Vault) -> bool:
    """Return whether a code is valid for an enabled device, and use up its step; the caller counts wrong codes."""
    step = totp.accepted_step(vault.open(device.seed, device.serial), code, now, device.last_step, device.drift)
    return step is not None and record_step(tx, device.serial, step)


def record_step(tx: Connection, serial: str, step: int, **more: object) -> bool:
    """Mark a step as used and set further columns; return False if it or a later step was used before.

    The update is conditional, so two simultaneous requests cannot both use a step (RFC 6238 5.2).
    """
    unused = or_(_COLUMNS.last_step.is_(None), _COLUMNS.last_step < step)
    query = update(mfa_device).where(_COLUMNS.serial == serial, unused).values(last_step=step, **more)
    return bool(tx.execute(query).rowcount)


def check_account_quota(tx: Connection, account_id: str, limits: Limits) -> None:
    """Raise LimitExceeded if an account has as many virtual MFA devices as it may have users."""
    quota = limits.users_per_account
    count = select(func.count()).select_from(mfa_device).where(_COLUMNS.account_id == account_id)
    if (tx.scalar(count) or 0) >= quota:
        raise LimitExceeded(f"Cannot exceed quota for MFADevicesPerAccount: {quota}")


def check_device_quota(device_count: int, limits: Limits) -> None:
    """Raise LimitExceeded if a user or root has the maximum number of MFA devices and passkeys."""
    if device_count >= limits.mfa_devices_per_user:
        raise LimitExceeded(f"Cannot exceed quota for MFADevicesPerUser: {limits.mfa_devices_per_user}")
