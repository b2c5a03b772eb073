"""Passkeys of users and roots, which the IAM API lists as security keys; they are registered on the web pages only.

Source: IAM User Guide, "Assign a passkey or security key in the AWS Management Console"; IAM API Reference,
ListMFADevices and DeactivateMFADevice. A serial number is ``arn:aws:iam::ACCOUNT:u2f/user/NAME/ID``, and root's
``arn:aws:iam::ACCOUNT:u2f/root-account-id/ID``; it changes when the user is renamed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from iam.arn import iam_arn, name_from_arn
from iam.credentials.person_id import IAM_PREFIX, iam_person_id, iam_subject
from iam.store.schema import second_factor, user

_COLUMNS = second_factor.c
_PASSKEY = "passkey"


@dataclass(frozen=True, slots=True)
class SecurityKey:
    """A passkey with its serial number; ``user_name`` is the account id for root, ``created`` is in milliseconds."""

    id: str
    serial: str
    user_id: str | None
    user_name: str
    created: int


def keys_of(tx: Connection, account_id: str, user_id: str | None) -> Sequence[SecurityKey]:
    """Return the passkeys of a user, or of the account's root for None."""
    matches = (_COLUMNS.person == iam_person_id(account_id, user_id), _COLUMNS.kind == _PASSKEY)
    rows = tx.execute(select(_COLUMNS.id, _COLUMNS.created).where(*matches)).all()
    name = tx.scalar(select(user.c.name).where(user.c.id == user_id)) if rows and user_id else None
    return [_key(account_id, user_id, name, row.id, row.created) for row in rows]


def key_by_serial(tx: Connection, account_id: str, serial: str) -> SecurityKey | None:
    """Return the passkey of an account with exactly this serial number, or None."""
    key_id = (name_from_arn(serial, account_id, "u2f/") or "").rpartition("/")[2]
    person = tx.scalar(select(_COLUMNS.person).where(_COLUMNS.id == key_id, _COLUMNS.kind == _PASSKEY))
    subject = iam_subject(person or "")
    user_id = None if subject == account_id else subject
    # The whole serial number is compared, so that a passkey is found only under its owner's account and name.
    keys = keys_of(tx, account_id, user_id) if subject else ()
    return next((key for key in keys if key.serial == serial), None)


def passkey_owner_ids(tx: Connection, account_id: str) -> list[str | None]:
    """Return the unique id of the owner of each passkey of an account; None is root."""
    of_users = select(user.c.id).join(second_factor, _COLUMNS.person == IAM_PREFIX + user.c.id)
    user_ids = tx.scalars(of_users.where(user.c.account_id == account_id, _COLUMNS.kind == _PASSKEY))
    return [*user_ids, *(None for _ in keys_of(tx, account_id, None))]


def remove(tx: Connection, key: SecurityKey) -> None:
    """Delete a passkey."""
    tx.execute(delete(second_factor).where(_COLUMNS.id == key.id))


def _key(account_id: str, user_id: str | None, name: str | None, key_id: str, created: int) -> SecurityKey:
    owner = "root-account-id" if user_id is None else f"user/{name}"
    serial = iam_arn(account_id, "u2f/", f"{owner}/{key_id}", "")
    return SecurityKey(key_id, serial, user_id, name or account_id, created)
