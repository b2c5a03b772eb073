"""Finds roles that nobody can assume: no principal that the trust policy allows exists. Pure."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from iam.arn import parse_arn
from iam.inventory.known_providers import KnownProviders
from iam.policy.document import TRUST_ACTIONS, Policy
from iam.policy.principals import EVERYONE, PolicyPrincipal, PrincipalType
from iam.policy.statement import Statement

_ASSUME_ROLE_ACTIONS: Final = tuple(action.lower() for action in TRUST_ACTIONS if "AssumeRole" in action)


@dataclass(frozen=True, slots=True)
class ExistingPrincipals:
    """The existing principals: account ids, unique ids of users and roles, and identity providers."""

    accounts: Container[str]
    entities: Container[str]
    providers: KnownProviders


def is_unassumable(trust: Policy, account_id: str, existing: ExistingPrincipals) -> bool:
    """Return whether a role's trust policy, with principals bound to unique ids, allows no existing principal.

    Conditions are ignored: whether a request can satisfy them is not known here.
    """
    return not any(_admits_somebody(trust, action, account_id, existing) for action in _ASSUME_ROLE_ACTIONS)


def _admits_somebody(trust: Policy, action: str, account_id: str, existing: ExistingPrincipals) -> bool:
    statements_about = trust.statements_about(action)
    if any(
        statement.denies and not statement.conditions and _means_everybody(statement) for statement in statements_about
    ):
        return False
    return any(_exists(principal, account_id, existing) for principal in _allowed_principals(statements_about))


def _means_everybody(statement: Statement) -> bool:
    return any(principal.principal_type is PrincipalType.EVERYONE for principal in statement.principals)


def _allowed_principals(statements: Sequence[Statement]) -> Iterator[PolicyPrincipal]:
    for statement in statements:
        if not statement.denies:
            # Allow with NotPrincipal allows everybody else, and somebody else always exists.
            yield from statement.principals or (EVERYONE,)


def _exists(principal: PolicyPrincipal, account_id: str, existing: ExistingPrincipals) -> bool:
    return _CHECKS[principal.principal_type](principal, account_id, existing)


def _always(_principal: PolicyPrincipal, _account_id: str, _existing: ExistingPrincipals) -> bool:
    return True


def _never(_principal: PolicyPrincipal, _account_id: str, _existing: ExistingPrincipals) -> bool:
    return False


def _account(principal: PolicyPrincipal, _account_id: str, existing: ExistingPrincipals) -> bool:
    return principal.value in existing.accounts


def _entity(principal: PolicyPrincipal, _account_id: str, existing: ExistingPrincipals) -> bool:
    if principal.bound_id:
        return principal.bound_id in existing.entities
    arn = parse_arn(principal.value)
    # A federated user session, which any user of the account can start.
    return bool(arn and arn.account in existing.accounts)


def _provider(principal: PolicyPrincipal, account_id: str, existing: ExistingPrincipals) -> bool:
    return existing.providers.exists(principal.value, account_id)


_CHECKS: Final = {
    PrincipalType.EVERYONE: _always,
    PrincipalType.ACCOUNT: _account,
    PrincipalType.ENTITY: _entity,
    PrincipalType.SESSION: _entity,
    PrincipalType.PROVIDER: _provider,
    # No AWS service runs here, and canonical users exist only in bucket policies.
    PrincipalType.SERVICE: _never,
    PrincipalType.CANONICAL_USER: _never,
}
