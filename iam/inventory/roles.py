"""The roles of several accounts, with their trust policies."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from iam.arn import iam_arn
from iam.inventory.assumable import ExistingPrincipals, is_unassumable
from iam.inventory.known_providers import DirectoryAccounts, KnownProviders
from iam.inventory.pagination import Page, PageRequest, query_page
from iam.policy.document import Policy, PolicyKind
from iam.policy.lint.findings import Finding
from iam.policy.lint.policies import lint, unknown_provider_findings
from iam.principal_ids import current_arns, with_current_arns
from iam.service_data import ServiceData
from iam.store.record_reader import parse_stored_policy
from iam.store.schema import account, oidc_provider, role, role_mark, saml_provider

_COLUMNS = role.c
_SERVICES = ServiceData()
_KEPT = 4096  # parsed trust policies in the cache; the same text always parses to the same result


@dataclass(frozen=True, slots=True)
class Role:
    """A role; ``document`` is the text of its trust policy with current ARNs, ``trust`` the parsed policy.

    ``present`` maps the unique ids of existing users and roles in the trust policy to their ARNs. ``taken`` is when the
    role was last used on the web pages; ``created`` and ``taken`` are in milliseconds.
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
    unassumable: bool  # no existing principal is allowed
    taken: int | None = None


def roles(tx: Connection, page_request: PageRequest, directories: DirectoryAccounts) -> Page[Role]:
    """Return a page of roles by account and name; the search covers name, description, account and trust policy."""
    query = select(role).where(_COLUMNS.account_id.in_(page_request.accounts))
    result = query_page(tx, query.order_by(_COLUMNS.account_id, _COLUMNS.name_key), page_request, _matches_word)
    return Page(tuple(_roles(tx, result.rows, directories)), result.found, result.page, result.query)


def all_roles(tx: Connection, accounts: tuple[str, ...], directories: DirectoryAccounts) -> Iterator[Role]:
    """Yield all roles of several accounts, by account and name."""
    query = select(role).where(_COLUMNS.account_id.in_(accounts)).order_by(_COLUMNS.account_id, _COLUMNS.name_key)
    return _roles(tx, tx.execute(query).all(), directories)


def _matches_word(word: str) -> Sequence[ColumnElement[bool]]:
    return (
        _COLUMNS.name_key.contains(word, autoescape=True),
        func.lower(_COLUMNS.description).contains(word, autoescape=True),
        func.lower(_COLUMNS.trust).contains(word, autoescape=True),
        _COLUMNS.account_id == word,
    )


def _roles(tx: Connection, rows: Sequence[Row[Any]], directories: DirectoryAccounts) -> Iterator[Role]:
    ids_by_arn: list[dict[str, str]] = [json.loads(row.trust_ids) for row in rows]
    arns = current_arns(tx, {unique_id for ids in ids_by_arn for unique_id in ids.values()})
    existing = _existing(tx, arns, directories)
    taken = _taken(tx, [row.id for row in rows])
    for row, ids in zip(rows, ids_by_arn, strict=True):
        trust, findings = _read(row.trust)
        trust = trust.bind(ids) if ids else trust
        unassumable = is_unassumable(trust, row.account_id, existing)
        if not unassumable:  # which says the same of a role whose providers are all unknown
            known = partial(existing.providers.exists, account_id=row.account_id)
            findings = (*findings, *unknown_provider_findings(trust, known))
        yield Role(
            row.id,
            row.account_id,
            row.name,
            iam_arn(row.account_id, "role", row.name, row.path),
            row.created,
            row.description or "",
            row.max_session,
            with_current_arns(row.trust, ids, arns),
            trust,
            {unique_id: arns[unique_id] for unique_id in ids.values() if unique_id in arns},
            findings,
            unassumable,
            taken.get(row.id),
        )


@lru_cache(maxsize=_KEPT)
def _read(text: str) -> tuple[Policy, tuple[Finding, ...]]:
    trust = parse_stored_policy(text, PolicyKind.TRUST, "a trust policy")
    return trust, lint(trust, _SERVICES)


def _existing(tx: Connection, entities: Collection[str], directories: DirectoryAccounts) -> ExistingPrincipals:
    saml = tx.execute(select(saml_provider.c.account_id, saml_provider.c.name))
    oidc = tx.execute(select(oidc_provider.c.account_id, oidc_provider.c.url))
    providers = {iam_arn(row[0], "saml-provider/", row[1], "") for row in saml}
    providers |= {iam_arn(row[0], "oidc-provider/", row[1], "") for row in oidc}
    accounts = frozenset(tx.scalars(select(account.c.id)))
    known = KnownProviders(directories, frozenset(providers).__contains__)
    return ExistingPrincipals(accounts, frozenset(entities), known)


def _taken(tx: Connection, ids: Sequence[str]) -> dict[str, int]:
    mark = role_mark.c
    query = select(mark.role_id, func.max(mark.taken)).where(mark.role_id.in_(ids), mark.taken.is_not(None))
    return {row[0]: row[1] for row in tx.execute(query.group_by(mark.role_id))}
