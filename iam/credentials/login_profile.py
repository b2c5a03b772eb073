"""The login profile of a user: the password that signs in on the pages, and never at the API."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select, update

from iam.arn import iam_arn
from iam.clock import to_milliseconds
from iam.credentials import failed_attempts
from iam.credentials.password_hash import verify_hash
from iam.credentials.password_policy import policy_of
from iam.store.schema import login_profile, user


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """A user's password as it is kept; times in milliseconds, ``expires`` None: never."""

    account_id: str
    user_id: str
    user_name: str
    arn: str
    hash: str = field(repr=False)
    changed: int
    reset_required: bool
    expires: int | None
    hard_expiry: bool  # once expired, only an administrator sets a new one


def load_password(tx: Connection, account_id: str, user_name: str) -> StoredPassword | None:
    """Return the password record of a user who signs in to the page, or None for an unknown name or one without."""
    query = (
        select(user.c.id, user.c.name, user.c.path, login_profile)
        .join(login_profile, login_profile.c.user_id == user.c.id)
        .where(user.c.account_id == account_id, user.c.name_key == user_name.lower())
    )
    row = tx.execute(query).one_or_none()
    if row is None:
        return None
    policy = policy_of(tx, account_id)
    return StoredPassword(
        account_id=account_id,
        user_id=row.id,
        user_name=row.name,
        arn=iam_arn(account_id, "user", row.name, row.path),
        hash=row.hash,
        changed=row.changed,
        reset_required=row.reset_required,
        expires=policy.expires(row.changed),
        hard_expiry=bool(policy.HardExpiry),
    )


def verify_password(stored: StoredPassword | None, password: str) -> bool:
    """Return whether this is the password; takes as long for a user who does not exist (ASVS 6.3.8)."""
    return verify_hash(stored.hash if stored else None, password)


def record_sign_in(tx: Connection, user_id: str, now: datetime) -> None:
    """Keep when a password was last used, for GetUser and the credential report."""
    used = to_milliseconds(now)
    tx.execute(update(user).where(user.c.id == user_id).values(password_last_used=used))


def record_wrong_password(tx: Connection, user_id: str, now: datetime) -> None:
    """Count one WrongPassword, in a transaction of its own that commits."""
    failed_attempts.count(tx, user_id, failed_attempts.PASSWORD, now)
