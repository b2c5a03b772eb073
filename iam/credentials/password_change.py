"""Changes the password of a user or an account root, after the current one was verified.

Hashing takes about 0.1 s per remembered password, so it runs outside the transaction. The write is one conditional
update that does nothing if the password was changed in the meantime.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select, update

from iam.arn import Random
from iam.clock import to_milliseconds
from iam.credentials import failed_attempts
from iam.credentials.password_hash import hash_password, verify_hash
from iam.credentials.password_policy import (
    LONGEST_PASSWORD_HISTORY,
    REUSE_MESSAGE,
    PasswordPolicy,
    policy_of,
    require_strong,
)
from iam.errors import PasswordPolicyViolation, Throttling
from iam.saslprep import is_prohibited
from iam.store.schema import account, login_profile, root_login, user

PROHIBITED_MESSAGE = "Password should not have control characters or others that cannot be typed everywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentPassword:
    """The current password and the rules for a new one; ``owner`` is the id of a user, or of a root's account."""

    owner: str
    of_root: bool
    hash: str = field(repr=False)
    previous: tuple[str, ...] = field(repr=False)
    policy: PasswordPolicy
    names: tuple[str | None, ...]


def of_user(tx: Connection, account_id: str, user_id: str, now: datetime) -> CurrentPassword | None:
    """Return the current password of a user, or None; raise Throttling if wrong passwords have locked it."""
    check_lockout(failed_attempts.seconds_locked(tx, user_id, failed_attempts.PASSWORD, now), user_id)
    return stored_of_user(tx, account_id, user_id)


def stored_of_user(tx: Connection, account_id: str, user_id: str) -> CurrentPassword | None:
    """Return the current password of a user, locked or not, or None."""
    columns = (user.c.name, login_profile.c.hash, login_profile.c.previous)
    row = tx.execute(select(*columns).join(user).where(user.c.id == user_id)).one_or_none()
    if row is None:
        return None
    return CurrentPassword(
        owner=user_id,
        of_root=False,
        hash=row.hash,
        previous=tuple(json.loads(row.previous)),
        policy=policy_of(tx, account_id),
        names=(row.name, account_id, _alias(tx, account_id)),
    )


def check_lockout(seconds: int, user_id: str) -> None:
    """Raise Throttling where wrong passwords have locked the password of a user for so many seconds."""
    if seconds:
        raise Throttling("Too many wrong passwords. Try again later.", retry_after=seconds, log=f"locked: {user_id}")


def of_root(tx: Connection, account_id: str) -> CurrentPassword | None:
    """Return the current password of an account's root, or None if it has none."""
    row = tx.execute(select(root_login).where(root_login.c.account_id == account_id)).one_or_none()
    if row is None:
        return None
    return CurrentPassword(
        owner=account_id,
        of_root=True,
        hash=row.hash,
        previous=(),
        policy=policy_of(tx, account_id),
        names=(row.email, row.email.partition("@")[0], account_id, _alias(tx, account_id)),
    )


def hash_new_password(present: CurrentPassword, password: str, random: Random) -> str:
    """Return the hash of a new password; raise PasswordPolicyViolation if the password policy does not allow it."""
    if is_prohibited(password):
        raise PasswordPolicyViolation(PROHIBITED_MESSAGE)
    require_strong(present.policy, password, present.names)
    if present.of_root and verify_hash(present.hash, password):
        raise PasswordPolicyViolation("The new password must be different from the current one")
    remembered = (present.hash, *present.previous)[: present.policy.PasswordReusePrevention or 0]
    if not present.of_root and any(verify_hash(old_hash, password) for old_hash in remembered):
        raise PasswordPolicyViolation(REUSE_MESSAGE)
    return hash_password(password, random)


def write(tx: Connection, present: CurrentPassword, new: str, now: datetime, *, reset_required: bool = False) -> bool:
    """Replace the current password; return False if it was changed in the meantime.

    The hash is part of the condition: of two simultaneous changes that verified the same password, one succeeds.
    """
    values = {"hash": new, "changed": to_milliseconds(now), "reset_required": reset_required}
    if present.of_root:
        matches = (root_login.c.account_id == present.owner, root_login.c.hash == present.hash)
        return bool(tx.execute(update(root_login).where(*matches).values(values)).rowcount)
    values["previous"] = json.dumps((present.hash, *present.previous)[:LONGEST_PASSWORD_HISTORY])
    matches = (login_profile.c.user_id == present.owner, login_profile.c.hash == present.hash)
    changed = bool(tx.execute(update(login_profile).where(*matches).values(values)).rowcount)
    if changed:
        failed_attempts.forget(tx, present.owner, failed_attempts.PASSWORD)
    return changed


def _alias(tx: Connection, account_id: str) -> str | None:
    return tx.execute(select(account.c.alias).where(account.c.id == account_id)).scalar_one_or_none()
