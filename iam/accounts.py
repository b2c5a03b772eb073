"""Accounts and root access keys: created by the operator, never through the API."""

import base64
import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from iam.arn import ACCOUNT_ID, LONG_TERM_KEY, Random, access_key_id
from iam.clock import to_milliseconds
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError
from iam.store import schema
from iam.store.records import AccountRecord
from iam.store.vault import Vault

# IAM API Reference, CreateAccountAlias.
_ALIAS = re.compile(r"(?=.{3,63}\Z)[a-z0-9](?:[a-z0-9]|-(?!-))*[a-z0-9]", re.ASCII)
_SECRET_BYTES = 30  # 40 characters of base64, as in AWS
_FIRST, _COUNT = 10**11, 9 * 10**11  # random account ids have twelve digits and do not begin with 0


@dataclass(frozen=True, slots=True)
class RootKey:
    """An access key of an account's root; the secret cannot be read again."""

    account_id: str
    access_key_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """A new account and its root access key; the secret cannot be read again."""

    account_id: str
    alias: str | None
    root_access_key_id: str
    root_secret: str = field(repr=False)


def create_account(
    tx: Connection,
    *,
    account_id: str | None = None,
    alias: str | None = None,
    now: datetime,
    random: Random,
    vault: Vault,
) -> NewAccount:
    """Create an account with a root access key; raise EntityAlreadyExists, ValidationError. Default id: random."""
    new_id = account_id or str(_FIRST + int.from_bytes(random(8), "big") % _COUNT)
    if not ACCOUNT_ID.fullmatch(new_id):
        raise ValidationError(f"An account id has 12 digits; {new_id!r} has not.")
    if alias is not None:
        check_alias(alias)
    created = to_milliseconds(now)
    try:
        tx.execute(insert(schema.account).values(id=new_id, alias=alias, created=created))
    except IntegrityError as error:
        names = f"the id {new_id}" + (f" or the alias {alias}" if alias else "")
        raise EntityAlreadyExists(f"An account with {names} already exists.") from error
    key = new_root_key(tx, new_id, now=now, random=random, vault=vault)
    return NewAccount(new_id, alias, key.access_key_id, key.secret)


def new_root_key(tx: Connection, account_id: str, *, now: datetime, random: Random, vault: Vault) -> RootKey:
    """Create a root access key, even above the quota; raise NoSuchEntity for an unknown account."""
    if tx.execute(select(schema.account.c.id).where(schema.account.c.id == account_id)).one_or_none() is None:
        raise NoSuchEntity(f"There is no account {account_id}.")
    key_id, secret = add_access_key(tx, account_id, None, now=now, random=random, vault=vault)
    return RootKey(account_id, key_id, secret)


def add_access_key(
    tx: Connection,
    account_id: str,
    user_id: str | None,
    *,
    now: datetime,
    random: Random,
    vault: Vault,
) -> tuple[str, str]:
    """Create an active access key of a user (None: root); return its id and its secret, which is stored sealed."""
    key_id = access_key_id(LONG_TERM_KEY, account_id, random)
    secret = base64.b64encode(random(_SECRET_BYTES)).decode("ascii")
    tx.execute(
        insert(schema.access_key).values(
            id=key_id,
            account_id=account_id,
            user_id=user_id,
            secret=vault.seal(secret.encode(), key_id, random),
            active=True,
            created=to_milliseconds(now),
        )
    )
    return key_id, secret


def list_accounts(tx: Connection) -> tuple[AccountRecord, ...]:
    """Return all accounts, oldest first."""
    table = schema.account.c
    rows = tx.execute(select(table.id, table.alias, table.created).order_by(table.created, table.id))
    return tuple(AccountRecord(*row) for row in rows)


def check_alias(alias: str) -> None:
    """Raise ValidationError for an invalid account alias, or one that people would take for an account id.

    The sign-in URL takes an alias or an id, and the console writes ids as 1111-2222-3333.
    """
    if not _ALIAS.fullmatch(alias):
        raise ValidationError(
            f"1 validation error detected: Value '{alias}' at 'accountAlias' failed to satisfy constraint: Member must"
            " satisfy regular expression pattern: ^[a-z0-9]([a-z0-9]|-(?!-)){1,61}[a-z0-9]$",
        )
    if ACCOUNT_ID.fullmatch(alias.replace("-", "")):
        raise ValidationError("The account alias must not look like an account id.")
