"""Add what the pages for people keep, and file each role under the accounts that its trust policy names."""

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
    """Take the step."""
    for table in (schema.root_login, schema.second_factor, schema.recovery_code, schema.role_mark):
        table.create(op.get_bind(), checkfirst=True)
    _file_roles()


def _file_roles() -> None:
    tx, filed = op.get_bind(), schema.role_federated
    tx.execute(delete(filed).where(filed.c.provider.startswith("account/", autoescape=True)))
    for role_id, text in tx.execute(select(schema.role.c.id, schema.role.c.trust)).all():
        for party in sorted(set(_parties(text))):
            tx.execute(insert(filed).values(role_id=role_id, provider=party))


# Policies as they were written until this step; today's reader may know another language, so that it is not asked.
def _parties(text: str) -> Iterator[str]:
    """Yield the accounts that a trust policy lets in; nothing for what cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return
    for statement in _listed(found.get("Statement") if isinstance(found, dict) else None):
        if isinstance(statement, dict) and statement.get("Effect") == "Allow":
            yield from _of_statement(statement)


def _of_statement(statement: dict[str, Any]) -> Iterator[str]:
    named = statement.get("Principal")
    if named == "*" or "NotPrincipal" in statement:
        yield "account/*"
    for principal in _listed(named.get("AWS") if isinstance(named, dict) else None):
        account_id = _account_of(principal)
        if account_id:
            yield f"account/{account_id}"


def _account_of(principal: object) -> str:
    if principal == "*":
        return "*"
    found = _ACCOUNT.fullmatch(principal) if isinstance(principal, str) else None
    return (found[1] or found[2]) if found else ""


def _listed(found: object) -> list[Any]:
    return found if isinstance(found, list) else [found]
