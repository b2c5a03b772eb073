"""Sign-in of an account's root user to the web pages, with an e-mail address and a password set by the operator.

Source: IAM User Guide, "AWS account root user". The password policy and the hash are the same as for users.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import Random
from iam.clock import to_milliseconds
from iam.credentials.password_hash import hash_password
from iam.credentials.password_policy import policy_of, require_strong
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError
from iam.store.schema import account, root_login

_COLUMNS = root_login.c
# Finds typing errors only: a pattern cannot tell whether an address exists (RFC 5321 4.1.2, simplified).
_EMAIL = re.compile(r"(?=.{3,256}\Z)[^\s@]+@[^\s@]+")


@dataclass(frozen=True, slots=True)
class RootLogin:
    """The stored sign-in of an account's root; ``changed`` is in milliseconds."""

    account_id: str
    email: str
    hash: str = field(repr=False)
    changed: int
    reset_required: bool


def root_login_by_email(tx: Connection, email: str) -> RootLogin | None:
    """Return the root sign-in with this e-mail address, compared without regard to case, or None."""
    return _load(tx, _COLUMNS.email_key == _email_key(email))


def root_login_of(tx: Connection, account_id: str) -> RootLogin | None:
    """Return the sign-in of an account's root, or None if the operator has not set one."""
    return _load(tx, _COLUMNS.account_id == account_id)


def set_root_login(  # noqa: PLR0913 - facts, each from somewhere else
    tx: Connection,
    account_id: str,
    email: str,
    password: str,
    *,
    now: datetime,
    random: Random,
    reset_required: bool,
) -> None:
    """Set the e-mail address and password of an account's root, replacing existing ones.

    Raises NoSuchEntity for an unknown account, ValidationError for an invalid address, EntityAlreadyExists for the
    address of another account's root, PasswordPolicyViolation.
    """
    if not _EMAIL.fullmatch(email.strip()):
        raise ValidationError("The e-mail address is not valid. Use the form root@example.com.")
    _require_strong(tx, account_id, email, password)
    values = {
        "email": email.strip(),
        "email_key": _email_key(email),
        "hash": hash_password(password, random),
        "changed": to_milliseconds(now),
        "reset_required": reset_required,
    }
    try:
        changed = tx.execute(update(root_login).where(_COLUMNS.account_id == account_id).values(values))
        if not changed.rowcount:
            tx.execute(insert(root_login).values(account_id=account_id, **values))
    except IntegrityError as error:
        # The unique index on email_key decides: two roots with one address could not be told apart at sign-in.
        raise EntityAlreadyExists(
            f"The e-mail address {email.strip()} is already used by the root of another account."
        ) from error


def record_root_sign_in(tx: Connection, account_id: str, now: datetime) -> None:
    """Record when the password was last used, for the credential report."""
    tx.execute(update(root_login).where(_COLUMNS.account_id == account_id).values(last_used=to_milliseconds(now)))


def _load(tx: Connection, where: ColumnElement[bool]) -> RootLogin | None:
    row = tx.execute(select(root_login).where(where)).one_or_none()
    return RootLogin(row.account_id, row.email, row.hash, row.changed, row.reset_required) if row else None


def _require_strong(tx: Connection, account_id: str, email: str, password: str) -> None:
    row = tx.execute(select(account.c.alias).where(account.c.id == account_id)).one_or_none()
    if row is None:
        raise NoSuchEntity(f"There is no account {account_id}.")
    names = (email, email.partition("@")[0], account_id, row.alias)
    require_strong(policy_of(tx, account_id), password, names)


def _email_key(email: str) -> str:
    return email.strip().lower()
