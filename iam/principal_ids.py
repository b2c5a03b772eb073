"""The ids behind the ARNs of a trust policy: written down when it is stored, read back when it is shown.

IAM User Guide, "AWS JSON policy elements: Principal": a principal's ARN is transformed to its unique id when the policy
is saved. Whoever is deleted and made anew is somebody else; whoever is renamed stays the same.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, select

from iam.arn import ROLE, USER, Arn, iam_arn, parse_arn
from iam.errors import MalformedPolicyDocument
from iam.store.schema import role, user

_TABLES: Mapping[str, tuple[Table, str]] = {USER: (user, "user"), ROLE: (role, "role")}
_KINDS: Mapping[str, Table] = {"user": user, "role": role}


def resolve_principal_ids(tx: Connection, arns: Iterable[str]) -> dict[str, str]:
    """Return the unique id of each user, role or role session; raise MalformedPolicyDocument for an unknown one."""
    return {arn: _require_id(tx, arn) for arn in sorted(arns)}


def _require_id(tx: Connection, text: str) -> str:
    arn = parse_arn(text)
    found = _find(tx, arn) if arn else None
    if found is None:
        raise MalformedPolicyDocument(f'Invalid principal in policy: "AWS":"{text}"')
    return found


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
    """Return the present ARN of each id that still exists."""
    wanted = set(ids)
    today: dict[str, str] = {}
    for prefix, (table, kind) in _TABLES.items():
        mine = [one for one in wanted if one.startswith(prefix)]
        if mine:
            columns = table.c
            rows = tx.execute(
                select(columns.id, columns.account_id, columns.name, columns.path).where(columns.id.in_(mine))
            )
            today.update({row.id: iam_arn(row.account_id, kind, row.name, row.path) for row in rows})
    return today


def with_current_arns(text: str, bound: Mapping[str, str], today: Mapping[str, str]) -> str:
    """Return a trust policy as its reader shall see it: the bare unique id stands for a principal that was deleted."""
    changed = {arn: today.get(one, one) for arn, one in bound.items() if _is_user_or_role(arn)}
    return _replace_principals(text, {arn: now for arn, now in changed.items() if arn != now})


def _is_user_or_role(arn: str) -> bool:
    return arn.startswith("arn:aws:iam:")


def _replace_principals(text: str, changed: Mapping[str, str]) -> str:
    if not changed:
        return text
    document = json.loads(text)
    statements = document["Statement"]
    for statement in statements if isinstance(statements, list) else [statements]:
        for element in ("Principal", "NotPrincipal"):
            named = statement.get(element)
            if isinstance(named, dict) and "AWS" in named:
                named["AWS"] = _replace_arns(named["AWS"], changed)
    return json.dumps(document)


def _replace_arns(named: Any, changed: Mapping[str, str]) -> Any:  # noqa: ANN401 - a text or a list of texts
    if isinstance(named, list):
        return [changed.get(one, one) for one in named]
    return changed.get(named, named)
