"""The login profile of a user: the password for the web pages, never valid for API requests."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select, update

from iam.arn import iam_arn
from iam.clock import to_milliseconds
from iam.credentials.password_policy import policy_of
from iam.store.schema import login_profile, user


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """The stored password of a user; times are in milliseconds, ``expires`` is None if it never expires."""

    account_id: str
    user_id: str
    user_name: str
    arn: str
    hash: str = field(repr=False)
    changed: int
    reset_required: bool
    expires: int | None
    hard_expiry: bool  # after it expires, only an administrator can set a new one


def load_password(tx: Connection, account_id: str, user_name: str) -> StoredPassword | None:
    """Return the stored password of a user, or None if the user does not exist or has no password."""
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


def record_sign_in(tx: Connection, user_id: str, now: datetime) -> None:
    """Record when a password was last used, for GetUser and the credential report."""
    last_used = to_milliseconds(now)
    tx.execute(update(user).where(user.c.id == user_id).values(password_last_used=last_used))
