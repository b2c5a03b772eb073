"""Unique ids of the principals in trust policies: resolved when a policy is saved, replaced by ARNs when it is read.

IAM User Guide, "AWS JSON policy elements: Principal": a principal's ARN is transformed to its unique id when the policy
is saved. An entity created again under the name of a deleted one is a different principal and
is not trusted; a renamed entity is still the same principal.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, select

from iam.arn import ROLE, USER, Arn, iam_arn, parse_arn
from iam.errors import MalformedPolicyDocument, excerpt
from iam.store.schema import role, user

_TABLES: Mapping[str, tuple[Table, str]] = {USER: (user, "user"), ROLE: (role, "role")}
_KINDS: Mapping[str, Table] = {"user": user, "role": role}


def resolve_principal_ids(tx: Connection, arns: Iterable[str]) -> dict[str, str]:
    """Return the unique id for each user, role or session ARN; raise MalformedPolicyDocument for unknown."""
    return {arn: _require_id(tx, arn) for arn in sorted(arns)}


def _require_id(tx: Connection, text: str) -> str:
    arn = parse_arn(text)
    unique_id = _find(tx, arn) if arn else None
    if unique_id is None:
        raise MalformedPolicyDocument(f'Invalid principal in policy: "AWS":"{excerpt(text)}"')
    return unique_id


def _find(tx: Connection, arn: Arn) -> str | None:
    kind, _, rest = arn.resource.partition("/")
    if kind == "assumed-role":  # its ARN has the role's name, without path
        row = _row(tx, role, arn.account, rest.partition("/")[0])
        return row[0] if row else None
    row = _row(tx, _KINDS[kind], arn.account, rest.rpartition("/")[2]) if kind in _KINDS else None
    return row[0] if row and iam_arn(arn.account, kind, *row[1:]) == str(arn) else None


def _row(tx: Connection, table: Table, account_id: str, name: str) -> tuple[str, str, str] | None:
    columns = table.c
    query = select(columns.id, columns.name, columns.path)
    row = tx.execute(query.where(columns.account_id == account_id, columns.name_key == name.lower())).one_or_none()
    return (row[0], row[1], row[2]) if row else None


def current_arns(tx: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Return the current ARN of each unique id that still exists."""
    unique_ids = set(ids)
    arns: dict[str, str] = {}
    for prefix, (table, kind) in _TABLES.items():
        matches = [unique_id for unique_id in unique_ids if unique_id.startswith(prefix)]
        if matches:
            columns = table.c
            rows = tx.execute(
                select(columns.id, columns.account_id, columns.name, columns.path).where(columns.id.in_(matches))
            )
            arns.update({row.id: iam_arn(row.account_id, kind, row.name, row.path) for row in rows})
    return arns


def with_current_arns(text: str, ids_by_arn: Mapping[str, str], arns: Mapping[str, str]) -> str:
    """Return a trust policy with current ARNs; as in AWS, a deleted principal is shown by its unique id."""
    current = {arn: arns.get(unique_id, unique_id) for arn, unique_id in ids_by_arn.items() if _is_user_or_role(arn)}
    return _replace_principals(text, {arn: new for arn, new in current.items() if arn != new})


def _is_user_or_role(arn: str) -> bool:
    return arn.startswith("arn:aws:iam:")


def _replace_principals(text: str, changed: Mapping[str, str]) -> str:
    if not changed:
        return text
    document = json.loads(text)
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        for element in ("Principal", "NotPrincipal"):
            principals = statement.get(element)
            if isinstance(principals, dict) and "AWS" in principals:
                principals["AWS"] = _replace_arns(principals["AWS"], changed)
    return json.dumps(document)


def _replace_arns(value: Any, changed: Mapping[str, str]) -> Any:  # noqa: ANN401 - a string or a list of strings
    if isinstance(value, list):
        return [changed.get(arn, arn) for arn in value]
    return changed.get(value, value)
