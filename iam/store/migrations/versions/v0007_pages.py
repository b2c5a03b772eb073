"""Add the tables of the web pages, and index each role by the accounts in its trust policy."""

import json
import re
from collections.abc import Iterator
from typing import Any

from alembic import op
from sqlalchemy import delete, insert, select

from iam.store import schema

revision = "0007"
down_revision = "0006"

_ACCOUNT = re.compile(r"([0-9]{12})|arn:[^:]+:[^:]+::([0-9]{12}):.+", re.ASCII)


def upgrade() -> None:
    """Run the migration."""
    for table in (schema.root_login, schema.second_factor, schema.recovery_code, schema.role_mark):
        table.create(op.get_bind(), checkfirst=True)
    _index_roles()


def _index_roles() -> None:
    tx, index = op.get_bind(), schema.role_federated
    tx.execute(delete(index).where(index.c.provider.startswith("account/", autoescape=True)))
    for role_id, text in tx.execute(select(schema.role.c.id, schema.role.c.trust)).all():
        for party in sorted(set(_parties(text))):
            tx.execute(insert(index).values(role_id=role_id, provider=party))


# Reads policies as they were stored at this revision; the current parser may have changed since.
def _parties(text: str) -> Iterator[str]:
    """Yield the accounts that a trust policy allows; nothing if it cannot be parsed."""
    try:
        document = json.loads(text)
    except ValueError:
        return
    for statement in _as_list(document.get("Statement") if isinstance(document, dict) else None):
        if isinstance(statement, dict) and statement.get("Effect") == "Allow":
            yield from _of_statement(statement)


def _of_statement(statement: dict[str, Any]) -> Iterator[str]:
    principals = statement.get("Principal")
    if principals == "*" or "NotPrincipal" in statement:
        yield "account/*"
    for principal in _as_list(principals.get("AWS") if isinstance(principals, dict) else None):
        account_id = _account_of(principal)
        if account_id:
            yield f"account/{account_id}"


def _account_of(principal: object) -> str:
    if principal == "*":
        return "*"
    match = _ACCOUNT.fullmatch(principal) if isinstance(principal, str) else None
    return (match[1] or match[2]) if match else ""


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
