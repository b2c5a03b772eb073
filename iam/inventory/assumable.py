"""Whether anybody at all can assume a role: whom its trust policy lets in, and who of them there still is. Pure."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from iam.arn import parse_arn
from iam.policy.document import TRUST_ACTIONS, Policy
from iam.policy.principals import CONSUMER_ISSUERS, EVERYONE, Means, Named
from iam.policy.statement import Statement

_TAKING: Final = tuple(action.lower() for action in TRUST_ACTIONS if "AssumeRole" in action)
_DIRECTORY: Final = "ldap-provider/"


@dataclass(frozen=True, slots=True)
class Existing:
    """What there is: ids of accounts, unique ids of users and roles, ARNs of providers, names of directories."""

    accounts: Container[str]
    entities: Container[str]
    providers: Container[str]
    directories: Container[str]


def nobody_can(trust: Policy, account_id: str, existing: Existing) -> bool:
    """Return whether a role's trust policy, its principals bound to their ids, lets nobody in who exists.

    Whether somebody meets its conditions is not looked at.
    """
    return not any(_is_open(trust, action, account_id, existing) for action in _TAKING)


def _is_open(trust: Policy, action: str, account_id: str, existing: Existing) -> bool:
    about = trust.about(action)
    if any(one.denies and not one.conditions and _means_everybody(one) for one in about):
        return False
    return any(_there_is(named, account_id, existing) for named in _let_in(about))


def _means_everybody(statement: Statement) -> bool:
    return any(one.means is Means.EVERYONE for one in statement.principals)


def _let_in(statements: Sequence[Statement]) -> Iterator[Named]:
    for one in statements:
        if not one.denies:
            # NotPrincipal lets in everybody else, and somebody else there always is.
            yield from one.principals or (EVERYONE,)


def _there_is(one: Named, account_id: str, existing: Existing) -> bool:
    return _CHECKS[one.means](one, account_id, existing)


def _always(_one: Named, _account_id: str, _existing: Existing) -> bool:
    return True


def _never(_one: Named, _account_id: str, _existing: Existing) -> bool:
    return False


def _account(one: Named, _account_id: str, existing: Existing) -> bool:
    return one.value in existing.accounts


def _entity(one: Named, _account_id: str, existing: Existing) -> bool:
    if one.bound_id:
        return one.bound_id in existing.entities
    arn = parse_arn(one.value)
    return bool(arn and arn.account in existing.accounts)  # a federated user: whoever asks for a session is one


def _provider(one: Named, account_id: str, existing: Existing) -> bool:
    arn = parse_arn(one.value)
    if arn is None:
        return one.value in CONSUMER_ISSUERS
    if arn.resource.startswith(_DIRECTORY):
        # The people of a directory come as people of the provider in the role's own account.
        return arn.account == account_id and arn.resource.removeprefix(_DIRECTORY) in existing.directories
    return one.value in existing.providers


_CHECKS: Final = {
    Means.EVERYONE: _always,
    Means.ACCOUNT: _account,
    Means.ENTITY: _entity,
    Means.SESSION: _entity,
    Means.PROVIDER: _provider,
    # No service of AWS runs here, and canonical users are for buckets.
    Means.SERVICE: _never,
    Means.CANONICAL_USER: _never,
}
