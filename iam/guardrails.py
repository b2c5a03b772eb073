"""Guardrails: limits on a whole account, set by the operator and never through the API.

A guardrail is evaluated like a service control policy (Organizations User Guide, "SCP evaluation"): it grants nothing.
If an account has guardrails, an action of its principals, root included, must be allowed by one and denied by none.
Guardrails limit the principals of the account, not principals of other accounts with access to its resources.
"""

import re
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from iam.errors import LimitExceeded, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.policy.document import Policy, PolicyKind, size
from iam.store.schema import account, guardrail

_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One guardrail; ``created`` is in milliseconds since 1970."""

    account_id: str
    name: str
    document: str
    created: int


def put(tx: Connection, new: Guardrail, limits: Limits) -> None:
    """Create a guardrail of an account, or replace the one with the same name.

    Raise NoSuchEntity, ValidationError, MalformedPolicyDocument, LimitExceeded.
    """
    if tx.execute(select(account.c.id).where(account.c.id == new.account_id)).one_or_none() is None:
        raise NoSuchEntity(f"There is no account {new.account_id}.")
    if not _NAME.fullmatch(new.name):
        raise ValidationError("The name of a guardrail has 1 to 128 characters out of A-Z a-z 0-9 _ + = , . @ -")
    Policy.parse(new.document, PolicyKind.GUARDRAIL)
    if size(new.document) > limits.guardrail_size:
        raise LimitExceeded(f"Cannot exceed quota for GuardrailSize: {limits.guardrail_size}")
    table = guardrail.c
    in_account = table.account_id == new.account_id
    values = {"document": new.document, "created": new.created}
    if tx.execute(update(guardrail).where(in_account, table.name == new.name).values(values)).rowcount:
        return
    if (tx.scalar(select(func.count()).where(in_account)) or 0) >= limits.guardrails_per_account:
        raise LimitExceeded(f"Cannot exceed quota for GuardrailsPerAccount: {limits.guardrails_per_account}")
    tx.execute(insert(guardrail).values(account_id=new.account_id, name=new.name, **values))


def remove(tx: Connection, account_id: str, name: str) -> None:
    """Remove a guardrail; raise NoSuchEntity."""
    table = guardrail.c
    if not tx.execute(delete(guardrail).where(table.account_id == account_id, table.name == name)).rowcount:
        raise NoSuchEntity(f"The account {account_id} has no guardrail {name}.")


def list_guardrails(tx: Connection, account_id: str | None) -> tuple[Guardrail, ...]:
    """Return the guardrails of an account, or of all, by account and name."""
    table = guardrail.c
    query = select(table.account_id, table.name, table.document, table.created)
    if account_id is not None:
        query = query.where(table.account_id == account_id)
    return tuple(Guardrail(*row) for row in tx.execute(query.order_by(table.account_id, table.name)))
