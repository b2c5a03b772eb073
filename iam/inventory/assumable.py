"""Whether anybody at all can assume a role: whom its trust policy lets in, and who of them there still is. Pure."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from iam.arn import parse_arn
from iam.policy.document import TRUST_ACTIONS, Policy
from iam.policy.principals import CONSUMER_ISSUERS, EVERYONE, PolicyPrincipal, PrincipalType
from iam.policy.statement import Statement

_ASSUME_ROLE_ACTIONS: Final = tuple(action.lower() for action in TRUST_ACTIONS if "AssumeRole" in action)
_DIRECTORY: Final = "ldap-provider/"


@dataclass(frozen=True, slots=True)
class ExistingPrincipals:
    """What there is: ids of accounts, unique ids of users and roles, ARNs of providers, names of directories."""

    accounts: Container[str]
    entities: Container[str]
    providers: Container[str]
    directories: Container[str]


def is_unassumable(trust: Policy, account_id: str, existing: ExistingPrincipals) -> bool:
    """Return whether a role's trust policy, its principals bound to their ids, lets nobody in who exists.

    Whether somebody meets its conditions is not looked at.
    """
    return not any(_admits_somebody(trust, action, account_id, existing) for action in _ASSUME_ROLE_ACTIONS)


def _admits_somebody(trust: Policy, action: str, account_id: str, existing: ExistingPrincipals) -> bool:
    statements_about = trust.statements_about(action)
    if any(one.denies and not one.conditions and _means_everybody(one) for one in statements_about):
        return False
    return any(_exists(named, account_id, existing) for named in _allowed_principals(statements_about))


def _means_everybody(statement: Statement) -> bool:
    return any(one.principal_type is PrincipalType.EVERYONE for one in statement.principals)


def _allowed_principals(statements: Sequence[Statement]) -> Iterator[PolicyPrincipal]:
    for one in statements:
        if not one.denies:
            # NotPrincipal lets in everybody else, and somebody else there always is.
            yield from one.principals or (EVERYONE,)


def _exists(one: PolicyPrincipal, account_id: str, existing: ExistingPrincipals) -> bool:
    return _CHECKS[one.principal_type](one, account_id, existing)


def _always(_one: PolicyPrincipal, _account_id: str, _existing: ExistingPrincipals) -> bool:
    return True


def _never(_one: PolicyPrincipal, _account_id: str, _existing: ExistingPrincipals) -> bool:
    return False


def _account(one: PolicyPrincipal, _account_id: str, existing: ExistingPrincipals) -> bool:
    return one.value in existing.accounts


def _entity(one: PolicyPrincipal, _account_id: str, existing: ExistingPrincipals) -> bool:
    if one.bound_id:
        return one.bound_id in existing.entities
    arn = parse_arn(one.value)
    return bool(arn and arn.account in existing.accounts)  # a federated user: whoever asks for a session is one


def _provider(one: PolicyPrincipal, account_id: str, existing: ExistingPrincipals) -> bool:
    arn = parse_arn(one.value)
    if arn is None:
        return one.value in CONSUMER_ISSUERS
    if arn.resource.startswith(_DIRECTORY):
        # The people of a directory come as people of the provider in the role's own account.
        return arn.account == account_id and arn.resource.removeprefix(_DIRECTORY) in existing.directories
    return one.value in existing.providers


_CHECKS: Final = {
    PrincipalType.EVERYONE: _always,
    PrincipalType.ACCOUNT: _account,
    PrincipalType.ENTITY: _entity,
    PrincipalType.SESSION: _entity,
    PrincipalType.PROVIDER: _provider,
    # No service of AWS runs here, and canonical users are for buckets.
    PrincipalType.SERVICE: _never,
    PrincipalType.CANONICAL_USER: _never,
}
