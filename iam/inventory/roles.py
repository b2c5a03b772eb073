"""The roles of some accounts, with whom their trust policies let in."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from iam.arn import iam_arn
from iam.inventory.assumable import ExistingPrincipals, is_unassumable
from iam.inventory.pagination import Page, PageRequest, query_page
from iam.policy.document import Policy, PolicyKind
from iam.policy.lint import Finding, lint
from iam.principal_ids import current_arns, with_current_arns
from iam.service_data import ServiceData
from iam.store.records import parse_stored_policy
from iam.store.schema import account, oidc_provider, role, role_mark, saml_provider

_COLUMNS = role.c
_SERVICES = ServiceData()
_KEPT = 4096  # trust policies that are kept parsed: what a text means never changes


@dataclass(frozen=True, slots=True)
class Role:
    """A role; ``document`` is its trust policy as it reads today, ``trust`` what that means.

    ``present`` has the ARN of each user and role that it names and that there still is, by unique id. ``taken`` is when
    somebody last took it on the pages, ``created`` when it was made, in milliseconds.
    """

    id: str
    account_id: str
    name: str
    arn: str
    created: int
    description: str
    max_session: int
    document: str
    trust: Policy = field(repr=False)
    present: Mapping[str, str]
    findings: tuple[Finding, ...]
    unassumable: bool  # nobody who exists is let in
    taken: int | None = None


def roles(tx: Connection, page_request: PageRequest, directories: Collection[str]) -> Page[Role]:
    """Return a page of roles by account and name; a word may be in name, description, account or trust policy."""
    query = select(role).where(_COLUMNS.account_id.in_(page_request.accounts))
    found = query_page(tx, query.order_by(_COLUMNS.account_id, _COLUMNS.name_key), page_request, _places)
    return Page(tuple(_roles(tx, found.rows, directories)), found.found, found.page, found.query)


def all_roles(tx: Connection, accounts: tuple[str, ...], directories: Collection[str]) -> Iterator[Role]:
    """Yield every role of some accounts, by account and name."""
    query = select(role).where(_COLUMNS.account_id.in_(accounts)).order_by(_COLUMNS.account_id, _COLUMNS.name_key)
    return _roles(tx, tx.execute(query).all(), directories)


def _places(word: str) -> Sequence[ColumnElement[bool]]:
    return (
        _COLUMNS.name_key.contains(word, autoescape=True),
        func.lower(_COLUMNS.description).contains(word, autoescape=True),
        func.lower(_COLUMNS.trust).contains(word, autoescape=True),
        _COLUMNS.account_id == word,
    )


def _roles(tx: Connection, rows: Sequence[Row[Any]], directories: Collection[str]) -> Iterator[Role]:
    bound: list[dict[str, str]] = [json.loads(row.trust_ids) for row in rows]
    today = current_arns(tx, {one for ids in bound for one in ids.values()})
    existing = _existing(tx, today, directories)
    taken = _taken(tx, [row.id for row in rows])
    for row, ids in zip(rows, bound, strict=True):
        trust, findings = _read(row.trust)
        trust = trust.bind(ids) if ids else trust
        yield Role(
            row.id,
            row.account_id,
            row.name,
            iam_arn(row.account_id, "role", row.name, row.path),
            row.created,
            row.description or "",
            row.max_session,
            with_current_arns(row.trust, ids, today),
            trust,
            {one: today[one] for one in ids.values() if one in today},
            findings,
            is_unassumable(trust, row.account_id, existing),
            taken.get(row.id),
        )


@lru_cache(maxsize=_KEPT)
def _read(text: str) -> tuple[Policy, tuple[Finding, ...]]:
    trust = parse_stored_policy(text, PolicyKind.TRUST, "a trust policy")
    return trust, lint(trust, _SERVICES)


def _existing(tx: Connection, entities: Collection[str], directories: Collection[str]) -> ExistingPrincipals:
    saml = tx.execute(select(saml_provider.c.account_id, saml_provider.c.name))
    oidc = tx.execute(select(oidc_provider.c.account_id, oidc_provider.c.url))
    providers = {iam_arn(row[0], "saml-provider/", row[1], "") for row in saml}
    providers |= {iam_arn(row[0], "oidc-provider/", row[1], "") for row in oidc}
    accounts = frozenset(tx.scalars(select(account.c.id)))
    return ExistingPrincipals(accounts, frozenset(entities), frozenset(providers), frozenset(directories))


def _taken(tx: Connection, ids: Sequence[str]) -> dict[str, int]:
    mark = role_mark.c
    query = select(mark.role_id, func.max(mark.taken)).where(mark.role_id.in_(ids), mark.taken.is_not(None))
    return {row[0]: row[1] for row in tx.execute(query.group_by(mark.role_id))}
