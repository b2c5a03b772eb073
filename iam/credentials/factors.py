"""MFA factors of a person: authenticator apps (TOTP), passkeys and recovery codes.

The apps of IAM users and account roots are stored as virtual MFA devices, so the IAM API lists them too. Source:
RFC 6238 5.2 (each time step is accepted once), WebAuthn Level 3 section 6.1.1 (signature counters).
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import Random
from iam.clock import SECOND, to_milliseconds
from iam.credentials import failed_attempts, totp, virtual_mfa
from iam.credentials.person_id import delete_recovery_codes, iam_person_id, iam_subject
from iam.credentials.virtual_mfa import NewVirtualMfaDevice
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.store.schema import Entity, mfa_device, recovery_code, second_factor
from iam.store.vault import Vault

TOTP, PASSKEY = "totp", "passkey"

_DEFAULT_LIMITS = Limits()
_LONGEST_NAME = 128  # characters
_ID_BYTES = 16  # random bytes
_RECOVERY_CODES, _RECOVERY_CODE_BYTES = 10, 10  # number of codes, and random bytes in each: 80 bits
# Base32 in lower case, without characters that look alike: no 0, o, 1 or l.
_ALPHABET = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "abcdefghijk9mn8pqrstuvwxyz234567")
# Separators are removed; 1 and l are read as i.
_NORMALIZE = str.maketrans({"-": "", " ": "", "\t": "", "1": "i", "l": "i"})


@dataclass(frozen=True, slots=True)
class Factor:
    """An MFA factor of a person; ``kind`` is ``totp`` or ``passkey``, times are in milliseconds.

    The ``id`` of a virtual MFA device is its serial number; its ``last_used`` is the start of the last time step used.
    """

    id: str
    person: str
    kind: str
    name: str
    created: int
    last_used: int | None


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey, as needed to verify its assertions; the public key is a COSE key (RFC 9052)."""

    id: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int


# --- factors of a person


def factors_of(tx: Connection, person: str) -> tuple[Factor, ...]:
    """Return the factors of a person, oldest first, including enabled virtual MFA devices of users and roots."""
    rows = tx.execute(select(second_factor).where(second_factor.c.person == person)).all()
    factors = [Factor(row.id, person, row.kind, row.name, row.created, row.last_used) for row in rows]
    factors += [_device_factor(person, row) for row in virtual_mfa.virtual_mfa_devices_of(tx, person)]
    return tuple(sorted(factors, key=lambda factor: (factor.created, factor.id)))


def factor_versions(tx: Connection, person: str) -> tuple[str, ...]:
    """Return a text for each factor of a person that no later factor has, also not a new device of the same name."""
    ids = tx.scalars(select(second_factor.c.id).where(second_factor.c.person == person)).all()
    devices = virtual_mfa.virtual_mfa_devices_of(tx, person)
    return (*ids, *(f"{row.serial}|{hashlib.sha256(row.seed).hexdigest()}" for row in devices))


def all_factors(tx: Connection) -> tuple[Factor, ...]:
    """Return the factors of all people, grouped by person."""
    enabled = mfa_device.c.enabled.is_not(None)
    owners = tx.execute(select(mfa_device.c.account_id, mfa_device.c.user_id).where(enabled)).all()
    people = {*tx.scalars(select(second_factor.c.person)), *(iam_person_id(*owner) for owner in owners)}
    return tuple(factor for person in sorted(people) for factor in factors_of(tx, person))


def reset_factors(tx: Connection, person: str) -> tuple[Factor, ...]:
    """Delete all factors, recovery codes and the count of wrong codes of a person; return the deleted factors.

    Pinned and recently used roles are kept: they authenticate nobody.
    """
    factors = factors_of(tx, person)
    for factor in factors:
        remove_factor(tx, person, factor.id)
    delete_recovery_codes(tx, person)
    failed_attempts.forget(tx, person, failed_attempts.MFA_CODE)
    return factors


def remove_factor(tx: Connection, person: str, factor_id: str) -> bool:
    """Delete a factor of a person; deleting the last one also deletes the recovery codes.

    A virtual MFA device is deactivated and deleted. Return False if the person has no such factor.
    """
    # The person is part of the condition, so that nobody deletes the factor of somebody else by its id.
    matches = (second_factor.c.person == person, second_factor.c.id == factor_id)
    deleted = bool(tx.execute(delete(second_factor).where(*matches)).rowcount)
    owner = virtual_mfa.owner_of(tx, person)
    if not deleted and owner is not None:
        deleted = virtual_mfa.remove(tx, owner, factor_id)
    if deleted and not factors_of(tx, person):
        delete_recovery_codes(tx, person)
    return deleted


# --- authenticator apps


def consume_totp(
    tx: Connection, person: str, code: str, now: datetime, vault: Vault, *, factor_id: str | None = None
) -> bool:
    """Return whether a code is valid for one of the person's apps, or for this one of them; it is accepted once.

    Source: RFC 6238 5.2.

    Commit the transaction whatever the result: it counts wrong codes, and a rollback would allow unlimited guesses.
    After five wrong codes, codes are refused for 15 minutes (``seconds_locked``).
    """
    if failed_attempts.seconds_locked(tx, person, failed_attempts.MFA_CODE, now):
        return False
    valid = any(
        _consume_step(tx, row, code, now, vault)
        for row in _totp_rows(tx, person)
        if factor_id is None or row.id == factor_id
    ) or any(
        virtual_mfa.consume(tx, row, code, now, vault)
        for row in virtual_mfa.virtual_mfa_devices_of(tx, person, for_update=True)
        if factor_id is None or row.serial == factor_id
    )
    return _record_attempt(tx, person, now, valid=valid)


def seconds_locked(tx: Connection, person: str, now: datetime) -> int:
    """Return for how many more seconds codes of a person are refused; 0 if they are accepted.

    Virtual MFA devices that wrong codes in API calls have locked are refused here too.
    """
    serials = [row.serial for row in virtual_mfa.virtual_mfa_devices_of(tx, person)]
    locked = [
        failed_attempts.seconds_locked(tx, subject, failed_attempts.MFA_CODE, now) for subject in (person, *serials)
    ]
    return max(locked[0], min(locked[1:], default=0))


def add_totp(  # noqa: PLR0913, PLR0917 - facts, each from somewhere else
    tx: Connection,
    person: str,
    name: str,
    seed: bytes,
    code: str,
    now: datetime,
    vault: Vault,
    random: Random,
    *,
    limits: Limits = _DEFAULT_LIMITS,
) -> Factor | None:
    """Register an authenticator app with this seed; return None if the code is not valid for it.

    The code is used up. For users and roots the app is an enabled virtual MFA device; its name is adapted from ``name``
    to AWS's pattern and made unique. Raises LimitExceeded, ValidationError for an invalid name, NoSuchEntity for a
    deleted user.
    """
    _require_room(tx, person, name, limits)
    step = totp.accepted_step(seed, code, now, None)
    if step is None:
        return None
    owner = virtual_mfa.owner_of(tx, person)
    if owner is not None:
        new = NewVirtualMfaDevice(name, seed, step)
        serial = virtual_mfa.add(tx, owner, new, now=now, vault=vault, random=random, limits=limits)
        return next(factor for factor in factors_of(tx, person) if factor.id == serial)
    row = {"kind": TOTP, "last_step": step, **_seal(seed, vault, random)}
    return _insert(tx, person, name, now, row)


# --- passkeys


def add_passkey(  # noqa: PLR0913, PLR0917 - facts, each from somewhere else
    tx: Connection,
    person: str,
    name: str,
    credential_id: bytes,
    public_key: bytes,
    sign_count: int,
    now: datetime,
    vault: Vault,
    random: Random,
    *,
    limits: Limits = _DEFAULT_LIMITS,
) -> Factor:
    """Register a passkey for a person; the caller has verified its attestation.

    Raises EntityAlreadyExists if anybody has registered it before, LimitExceeded, ValidationError for an invalid name,
    NoSuchEntity for a deleted user.
    """
    _require_room(tx, person, name, limits)
    row = {"kind": PASSKEY, "credential_id": credential_id, "sign_count": sign_count}
    try:
        return _insert(tx, person, name, now, row | _seal(public_key, vault, random))
    except IntegrityError as error:
        # The unique index on credential_id decides, so two simultaneous requests cannot both register the passkey.
        raise EntityAlreadyExists("This passkey is registered already.") from error


def passkeys_of(tx: Connection, person: str, vault: Vault) -> tuple[Passkey, ...]:
    """Return the passkeys of a person, oldest first, with their public keys."""
    column = second_factor.c
    query = select(second_factor).where(column.person == person, column.kind == PASSKEY)
    return tuple(
        Passkey(row.id, row.credential_id, vault.open(row.sealed, row.id), row.sign_count)
        for row in tx.execute(query.order_by(column.created, column.id))
    )


def record_passkey_use(tx: Connection, passkey_id: str, sign_count: int, now: datetime) -> bool:
    """Store the signature counter of a verified assertion; return False if it did not increase (a clone).

    WebAuthn Level 3, 7.2 step 22. An authenticator without a counter always sends 0. The comparison is part of the
    UPDATE, so two simultaneous assertions with the same counter cannot both succeed.
    """
    column = second_factor.c
    increased = or_(column.sign_count < sign_count, (column.sign_count == 0) & (sign_count == 0))
    query = update(second_factor).where(column.id == passkey_id, column.kind == PASSKEY, increased)
    return bool(tx.execute(query.values(sign_count=sign_count, last_used=to_milliseconds(now))).rowcount)


# --- recovery codes


def replace_recovery_codes(tx: Connection, person: str, now: datetime, random: Random) -> tuple[str, ...]:
    """Replace all recovery codes of a person with ten new ones; only their hashes are stored, so show them now."""
    delete_recovery_codes(tx, person)
    codes = tuple(_recovery_code(random) for _ in range(_RECOVERY_CODES))
    for code in codes:
        tx.execute(recovery_code.insert().values(person=person, hash=_hash(code), created=to_milliseconds(now)))
    return codes


def consume_recovery_code(tx: Connection, person: str, code: str, now: datetime) -> bool:
    """Return whether this is an unused recovery code of the person, and use it up; a wrong one counts as a wrong code.

    Case, spaces and hyphens are ignored. Commit the transaction whatever the result: it counts wrong codes. The DELETE
    decides, so two simultaneous requests cannot both use a code.
    """
    if failed_attempts.seconds_locked(tx, person, failed_attempts.MFA_CODE, now):
        return False
    matches = (recovery_code.c.person == person, recovery_code.c.hash == _hash(code))
    return _record_attempt(tx, person, now, valid=bool(tx.execute(delete(recovery_code).where(*matches)).rowcount))


def recovery_codes_left(tx: Connection, person: str) -> int:
    """Return how many unused recovery codes a person has."""
    query = select(func.count()).select_from(recovery_code).where(recovery_code.c.person == person)
    return tx.scalar(query) or 0


def _recovery_code(random: Random) -> str:
    text = base64.b32encode(random(_RECOVERY_CODE_BYTES)).decode("ascii").translate(_ALPHABET)
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def _hash(code: str) -> str:
    # A fast hash is enough: 80 random bits cannot be guessed. Equal hashes are compared by the database's index.
    return hashlib.sha256(code.lower().translate(_NORMALIZE).encode()).hexdigest()


def _record_attempt(tx: Connection, person: str, now: datetime, *, valid: bool) -> bool:
    """Count a wrong code of a person, or reset the count after a valid one; return ``valid``."""
    if valid:
        failed_attempts.forget(tx, person, failed_attempts.MFA_CODE)
    else:
        failed_attempts.count(tx, person, failed_attempts.MFA_CODE, now)
    return valid


# --- rows of second_factor


def _totp_rows(tx: Connection, person: str) -> Sequence[Entity]:
    matches = (second_factor.c.person == person, second_factor.c.kind == TOTP)
    return tx.execute(select(second_factor).where(*matches).with_for_update()).all()


def _consume_step(tx: Connection, row: Entity, code: str, now: datetime, vault: Vault) -> bool:
    step = totp.accepted_step(vault.open(row.sealed, row.id), code, now, row.last_step)
    if step is None:
        return False
    # A conditional update, so that two simultaneous requests cannot both use the step (RFC 6238 5.2).
    unused = or_(second_factor.c.last_step.is_(None), second_factor.c.last_step < step)
    query = update(second_factor).where(second_factor.c.id == row.id, unused)
    return bool(tx.execute(query.values(last_step=step, last_used=to_milliseconds(now))).rowcount)


def _device_factor(person: str, row: Entity) -> Factor:
    # The step of the code that enabled the device does not count as use.
    step_start = ((row.last_step or 0) - row.drift) * totp.STEP * SECOND
    used = step_start > row.enabled + totp.WINDOW * totp.STEP * SECOND
    name = row.serial.rpartition("/")[2]
    return Factor(row.serial, person, TOTP, name, row.enabled, step_start if used else None)


def _require_room(tx: Connection, person: str, name: str, limits: Limits) -> None:
    if not 0 < len(name.strip()) <= _LONGEST_NAME:
        raise ValidationError(f"The name must have 1 to {_LONGEST_NAME} characters.")
    if iam_subject(person) is not None and virtual_mfa.owner_of(tx, person) is None:
        raise NoSuchEntity("The user no longer exists.")
    virtual_mfa.check_device_quota(len(factors_of(tx, person)), limits)


# The factor's id is authenticated data of the seal: a sealed seed copied to another row does not open.
def _seal(secret: bytes, vault: Vault, random: Random) -> dict[str, object]:
    factor_id = base64.b32encode(random(_ID_BYTES)).decode("ascii").rstrip("=")
    return {"id": factor_id, "sealed": vault.seal(secret, factor_id, random)}


def _insert(tx: Connection, person: str, name: str, now: datetime, row: dict[str, object]) -> Factor:
    created = to_milliseconds(now)
    tx.execute(second_factor.insert().values(person=person, name=name.strip(), created=created, **row))
    return Factor(str(row["id"]), person, str(row["kind"]), name.strip(), created, None)
