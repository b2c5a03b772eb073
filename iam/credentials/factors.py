"""What a person proves possession of besides a password: authenticator apps, passkeys, codes for when these are lost.

The apps of users and of an account's root are their virtual MFA devices, so that the IAM API shows them too. Source:
RFC 6238 5.2 (each step once), WebAuthn Level 3 section 6.1.1 (signature counters).
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
from iam.credentials.person_id import delete_person_data, delete_recovery_codes, iam_person_id, iam_subject
from iam.credentials.virtual_mfa import NewVirtualMfaDevice
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.store.schema import Entity, mfa_device, recovery_code, second_factor
from iam.store.vault import Vault

TOTP, PASSKEY = "totp", "passkey"

_DEFAULT_LIMITS = Limits()
_LONGEST_NAME = 128  # characters
_ID_BYTES = 16  # bytes of chance
_RECOVERY_CODES, _RECOVERY_CODE_BYTES = 10, 10  # recovery codes, and the bytes of chance in each
# Base32 in signs that are told apart in small letters: there is no 0, o, 1 or l.
_ALPHABET = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "abcdefghijk9mn8pqrstuvwxyz234567")
# What else stands between the signs, and what people read instead of i.
_NORMALIZE = str.maketrans({"-": "", " ": "", "\t": "", "1": "i", "l": "i"})


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a person; ``kind`` is ``totp`` or ``passkey``, times are in milliseconds.

    A virtual MFA device has its serial number as ``id``, and was last used at the beginning of its newest spent step.
    """

    id: str
    person: str
    kind: str
    name: str
    created: int
    last_used: int | None


@dataclass(frozen=True, slots=True)
class Passkey:
    """What a passkey's assertion is verified with; the public key is a COSE key (RFC 9052)."""

    id: str
    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int


# --- what a person has


def factors_of(tx: Connection, person: str) -> tuple[Factor, ...]:
    """Return the factors of a person, oldest first; of users and roots with their enabled virtual MFA devices."""
    own = tx.execute(select(second_factor).where(second_factor.c.person == person)).all()
    found = [Factor(row.id, person, row.kind, row.name, row.created, row.last_used) for row in own]
    found += [_device_factor(person, row) for row in virtual_mfa.virtual_mfa_devices_of(tx, person)]
    return tuple(sorted(found, key=lambda one: (one.created, one.id)))


def all_factors(tx: Connection) -> tuple[Factor, ...]:
    """Return the factors of all people, person by person."""
    held = mfa_device.c.enabled.is_not(None)
    owners = tx.execute(select(mfa_device.c.account_id, mfa_device.c.user_id).where(held)).all()
    people = {*tx.scalars(select(second_factor.c.person)), *(iam_person_id(*owner) for owner in owners)}
    return tuple(one for person in sorted(people) for one in factors_of(tx, person))


def reset_factors(tx: Connection, person: str) -> tuple[Factor, ...]:
    """Delete all factors and recovery codes of a person, and the count of wrong codes; return the factors.

    What the person pinned and took stays: it proves nothing.
    """
    held = factors_of(tx, person)
    for one in held:
        remove_factor(tx, person, one.id)
    delete_recovery_codes(tx, person)
    failed_attempts.forget(tx, person, failed_attempts.MFA_CODE)
    return held


def remove_factor(tx: Connection, person: str, factor_id: str) -> bool:
    """Delete a factor of a person, a virtual MFA device for good; with the last one the recovery codes end.

    Return False where the person has no such factor.
    """
    mine = (second_factor.c.person == person, second_factor.c.id == factor_id)
    gone = bool(tx.execute(delete(second_factor).where(*mine)).rowcount)
    owner = virtual_mfa.owner_of(tx, person)
    if not gone and owner is not None:
        gone = virtual_mfa.remove(tx, owner, factor_id)
    if gone and not factors_of(tx, person):
        delete_recovery_codes(tx, person)
    return gone


def forget_person(tx: Connection, person: str) -> None:
    """Delete all factors, recovery codes and marks of a person, and the count of wrong codes."""
    for one in factors_of(tx, person):
        remove_factor(tx, person, one.id)
    delete_person_data(tx, person)


# --- authenticator apps


def consume_totp(tx: Connection, person: str, code: str, now: datetime, vault: Vault) -> bool:
    """Return whether a code is one of the person's apps, and use it up: each step of each app counts once.

    The transaction must commit whatever the answer: a wrong code is counted in it, and after five nothing is tried for
    a quarter of an hour (``seconds_locked``).
    """
    if failed_attempts.seconds_locked(tx, person, failed_attempts.MFA_CODE, now):
        return False
    good = any(_consume_step(tx, row, code, now, vault) for row in _totp_rows(tx, person)) or any(
        virtual_mfa.consume(tx, row, code, now, vault)
        for row in virtual_mfa.virtual_mfa_devices_of(tx, person, for_update=True)
    )
    return _record_attempt(tx, person, now, good=good)


def seconds_locked(tx: Connection, person: str, now: datetime) -> int:
    """Return for how many seconds more no code of a person is tried, 0 while one is.

    A virtual MFA device that wrong codes of API calls have locked is not tried here either.
    """
    subjects = [row.serial for row in virtual_mfa.virtual_mfa_devices_of(tx, person)]
    locked = [failed_attempts.seconds_locked(tx, one, failed_attempts.MFA_CODE, now) for one in (person, *subjects)]
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
    """Give a person an app that has this seed, proved by one code, which is spent; None where the code does not fit.

    For users and roots it is an enabled virtual MFA device, named as near to ``name`` as AWS's pattern and the other
    devices allow. Raises LimitExceeded, ValidationError for a bad name, NoSuchEntity for a user who is gone.
    """
    _require_room(tx, person, name, limits)
    step = totp.accepted_step(seed, code, now, None)
    if step is None:
        return None
    owner = virtual_mfa.owner_of(tx, person)
    if owner is not None:
        new = NewVirtualMfaDevice(name, seed, step)
        serial = virtual_mfa.add(tx, owner, new, now=now, vault=vault, random=random, limits=limits)
        return next(one for one in factors_of(tx, person) if one.id == serial)
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
    """Give a person a passkey whose registration was verified.

    Raises EntityAlreadyExists where anybody has it already, LimitExceeded, ValidationError for a bad name, NoSuchEntity
    for a user who is gone.
    """
    _require_room(tx, person, name, limits)
    row = {"kind": PASSKEY, "credential_id": credential_id, "sign_count": sign_count}
    try:
        return _insert(tx, person, name, now, row | _seal(public_key, vault, random))
    except IntegrityError as error:
        raise EntityAlreadyExists("This passkey is registered already.") from error


def passkeys_of(tx: Connection, person: str, vault: Vault) -> tuple[Passkey, ...]:
    """Return the passkeys of a person, oldest first, with what verifies them."""
    column = second_factor.c
    query = select(second_factor).where(column.person == person, column.kind == PASSKEY)
    return tuple(
        Passkey(row.id, row.credential_id, vault.open(row.sealed, row.id), row.sign_count)
        for row in tx.execute(query.order_by(column.created, column.id))
    )


def record_passkey_use(tx: Connection, passkey_id: str, sign_count: int, now: datetime) -> bool:
    """Keep the signature counter of a verified assertion; return False where it has not grown: the key was copied.

    WebAuthn Level 3, 7.2 step 22: an authenticator without a counter always says 0.
    """
    column = second_factor.c
    grown = or_(column.sign_count < sign_count, (column.sign_count == 0) & (sign_count == 0))
    query = update(second_factor).where(column.id == passkey_id, column.kind == PASSKEY, grown)
    return bool(tx.execute(query.values(sign_count=sign_count, last_used=to_milliseconds(now))).rowcount)


# --- recovery codes


def replace_recovery_codes(tx: Connection, person: str, now: datetime, random: Random) -> tuple[str, ...]:
    """Make ten recovery codes in the place of all earlier ones; they are shown this once."""
    delete_recovery_codes(tx, person)
    codes = tuple(_recovery_code(random) for _ in range(_RECOVERY_CODES))
    for code in codes:
        tx.execute(recovery_code.insert().values(person=person, hash=_hash(code), created=to_milliseconds(now)))
    return codes


def consume_recovery_code(tx: Connection, person: str, code: str, now: datetime) -> bool:
    """Return whether this is one of the person's recovery codes, and use it up; a wrong one counts as a wrong code.

    Case, spaces and hyphens do not matter. The transaction must commit whatever the answer.
    """
    if failed_attempts.seconds_locked(tx, person, failed_attempts.MFA_CODE, now):
        return False
    mine = (recovery_code.c.person == person, recovery_code.c.hash == _hash(code))
    return _record_attempt(tx, person, now, good=bool(tx.execute(delete(recovery_code).where(*mine)).rowcount))


def recovery_codes_left(tx: Connection, person: str) -> int:
    """Return how many recovery codes of a person are not spent."""
    query = select(func.count()).select_from(recovery_code).where(recovery_code.c.person == person)
    return tx.scalar(query) or 0


def _recovery_code(random: Random) -> str:
    signs = base64.b32encode(random(_RECOVERY_CODE_BYTES)).decode("ascii").translate(_ALPHABET)
    return "-".join(signs[at : at + 4] for at in range(0, len(signs), 4))


def _hash(code: str) -> str:
    return hashlib.sha256(code.lower().translate(_NORMALIZE).encode()).hexdigest()


def _record_attempt(tx: Connection, person: str, now: datetime, *, good: bool) -> bool:
    """Count a wrong code of a person, or forget those before a right one; return which it was."""
    if good:
        failed_attempts.forget(tx, person, failed_attempts.MFA_CODE)
    else:
        failed_attempts.count(tx, person, failed_attempts.MFA_CODE, now)
    return good


# --- rows of our own


def _totp_rows(tx: Connection, person: str) -> Sequence[Entity]:
    mine = (second_factor.c.person == person, second_factor.c.kind == TOTP)
    return tx.execute(select(second_factor).where(*mine).with_for_update()).all()


def _consume_step(tx: Connection, row: Entity, code: str, now: datetime, vault: Vault) -> bool:
    step = totp.accepted_step(vault.open(row.sealed, row.id), code, now, row.last_step)
    if step is None:
        return False
    unspent = or_(second_factor.c.last_step.is_(None), second_factor.c.last_step < step)
    query = update(second_factor).where(second_factor.c.id == row.id, unspent)
    return bool(tx.execute(query.values(last_step=step, last_used=to_milliseconds(now))).rowcount)


def _device_factor(person: str, row: Entity) -> Factor:
    # The step that proved the device when it was enabled is no use of it.
    used = ((row.last_step or 0) - row.drift) * totp.STEP * SECOND
    later = used > row.enabled + totp.WINDOW * totp.STEP * SECOND
    return Factor(row.serial, person, TOTP, row.serial.rpartition("/")[2], row.enabled, used if later else None)


def _require_room(tx: Connection, person: str, name: str, limits: Limits) -> None:
    if not 0 < len(name.strip()) <= _LONGEST_NAME:
        raise ValidationError(f"A name has 1 to {_LONGEST_NAME} characters.")
    if iam_subject(person) is not None and virtual_mfa.owner_of(tx, person) is None:
        raise NoSuchEntity("There is no such user any longer.")
    virtual_mfa.check_device_quota(len(factors_of(tx, person)), limits)


def _seal(secret: bytes, vault: Vault, random: Random) -> dict[str, object]:
    factor_id = base64.b32encode(random(_ID_BYTES)).decode("ascii").rstrip("=")
    return {"id": factor_id, "sealed": vault.seal(secret, factor_id, random)}


def _insert(tx: Connection, person: str, name: str, now: datetime, row: dict[str, object]) -> Factor:
    at = to_milliseconds(now)
    tx.execute(second_factor.insert().values(person=person, name=name.strip(), created=at, **row))
    return Factor(str(row["id"]), person, str(row["kind"]), name.strip(), at, None)
