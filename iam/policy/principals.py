"""The Principal element: the principals that a statement names, and how directly they match a caller.

Pure. Source: IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from iam.arn import ACCOUNT_ID, Arn, parse_arn
from iam.principal import Principal, PrincipalKind

# Identity providers that AWS accepts by domain name, without a provider in the account ("OIDC federated principals").
CONSUMER_ISSUERS = frozenset(
    {"accounts.google.com", "graph.facebook.com", "www.amazon.com", "cognito-identity.amazonaws.com"}
)
PARTITIONS = frozenset({"aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"})
# As long as the longest name of a provider, without characters that a database cannot store.
_PROVIDER = re.compile(r"(?=.{1,512}$)(saml|oidc|ldap)-provider/[^*?\s\x00-\x1f\x7f]+")
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z]+", re.ASCII)
_CANONICAL_USER = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DURABLE = re.compile(r"(user|role)(/[^*?\s/]+)+")
_ROLE_SESSION = re.compile(r"assumed-role/[^*?\s/]+/[^*?\s/]+")
_FEDERATED_USER = re.compile(r"federated-user/[^*?\s/]+")


class PrincipalType(Enum):
    """The type of a principal in a policy."""

    EVERYONE = "everyone"
    ACCOUNT = "account"
    ENTITY = "user or role"
    SESSION = "session"
    PROVIDER = "identity provider"
    SERVICE = "service"
    CANONICAL_USER = "canonical user"


class PrincipalMatch(IntEnum):
    """How directly a statement names a caller, and so which other policies still limit the grant.

    The order matters: the most direct match of a policy counts.
    """

    NOBODY = 0
    ACCOUNT = 1  # by its account: the caller's identity-based policies must allow as well
    ENTITY = 2  # by "*", or by the role of a session: permissions boundary and session policy still limit
    CALLER = 3  # the caller itself: only an explicit deny and a guardrail limit


@dataclass(frozen=True, slots=True)
class PolicyPrincipal:
    """One principal of a statement.

    ``kind`` and ``text`` are as written. ``bound_id`` is the unique ID that the ARN had when the policy was stored.
    """

    kind: str
    text: str
    principal_type: PrincipalType
    value: str
    bound_id: str = ""


def parse_principal(kind: str, text: str) -> PolicyPrincipal | None:
    """Return a parsed principal, or None where it is invalid: no wildcard in an ARN, no group (THREATS G03)."""
    parse = _READERS.get(kind)
    parsed = parse(text) if parse else None
    return parsed and PolicyPrincipal(kind, text, *parsed)


EVERYONE = PolicyPrincipal("*", "*", PrincipalType.EVERYONE, "*")

_Parsed = tuple[PrincipalType, str] | None


def _aws(text: str) -> _Parsed:
    if text == "*":
        return PrincipalType.EVERYONE, "*"
    if ACCOUNT_ID.fullmatch(text):
        return PrincipalType.ACCOUNT, text
    arn = parse_arn(text)
    return _aws_arn(text, arn) if arn and arn.partition in PARTITIONS else None


def _aws_arn(text: str, arn: Arn) -> _Parsed:
    if arn.region or not ACCOUNT_ID.fullmatch(arn.account):
        return None
    if arn.service == "iam" and arn.resource == "root":
        return PrincipalType.ACCOUNT, arn.account
    for service, shape, principal_type in _ARN_SHAPES:
        if arn.service == service and shape.fullmatch(arn.resource):
            return principal_type, text
    return None


_ARN_SHAPES = (
    ("iam", _DURABLE, PrincipalType.ENTITY),
    ("sts", _ROLE_SESSION, PrincipalType.SESSION),
    ("sts", _FEDERATED_USER, PrincipalType.SESSION),
)


def _federated(text: str) -> _Parsed:
    if text in CONSUMER_ISSUERS:
        return PrincipalType.PROVIDER, text
    arn = parse_arn(text)
    is_provider = (
        arn and arn.service == "iam" and ACCOUNT_ID.fullmatch(arn.account) and _PROVIDER.fullmatch(arn.resource)
    )
    return (PrincipalType.PROVIDER, text) if is_provider else None


def _service(text: str) -> _Parsed:
    return (PrincipalType.SERVICE, text) if _SERVICE.fullmatch(text) else None


def _canonical_user(text: str) -> _Parsed:
    return (PrincipalType.CANONICAL_USER, text) if _CANONICAL_USER.fullmatch(text) else None


_READERS = {"AWS": _aws, "Federated": _federated, "Service": _service, "CanonicalUser": _canonical_user}


def arns_to_resolve(principals: Iterable[PolicyPrincipal]) -> frozenset[str]:
    """Return the ARNs of users, roles and role sessions; their unique IDs are stored with the policy."""
    return frozenset(
        principal.value
        for principal in principals
        if principal.principal_type in {PrincipalType.ENTITY, PrincipalType.SESSION}
        and ":federated-user/" not in principal.value
    )


def bind(principals: Iterable[PolicyPrincipal], ids: Mapping[str, str]) -> tuple[PolicyPrincipal, ...]:
    """Return the principals, bound to the unique IDs that their ARNs had.

    A principal that is created later with the same name has another ID and does not match (THREATS B05).
    """
    return tuple(replace(principal, bound_id=ids.get(principal.value, principal.bound_id)) for principal in principals)


def principal_match(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    """Return how directly a principal of a policy names the caller."""
    return _MATCHERS[policy_principal.principal_type](policy_principal, principal)


def _everyone(_policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    # Within the account, "*" in a resource-based policy grants without an identity-based policy, as for a public
    # bucket; permissions boundary and session policy still limit.
    return PrincipalMatch.ACCOUNT if principal.kind in _NOT_OF_AN_ACCOUNT else PrincipalMatch.ENTITY


def _account(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    matches = principal.account_id == policy_principal.value and principal.kind not in _NOT_OF_AN_ACCOUNT
    return PrincipalMatch.ACCOUNT if matches else PrincipalMatch.NOBODY


_NOT_OF_AN_ACCOUNT = frozenset({PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _entity(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    # Once bound, only the unique ID counts, not the ARN: a renamed principal still matches, and a new principal with
    # the old name does not (THREATS B05).
    same = (
        principal.entity_id == policy_principal.bound_id
        if policy_principal.bound_id
        else principal.entity_arn == policy_principal.value
    )
    if not same:
        return PrincipalMatch.NOBODY
    # "Permissions boundaries for IAM entities": within the account, a grant to the ARN of an IAM user that is not a
    # federated user session is not limited by an implicit deny in its boundary. Sessions are named only indirectly.
    return PrincipalMatch.CALLER if principal.kind is PrincipalKind.USER else PrincipalMatch.ENTITY


_SESSIONS = frozenset({PrincipalKind.ROLE_SESSION, PrincipalKind.FEDERATED_USER})


def _session(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    same = (
        _is_session_of(policy_principal, principal)
        if policy_principal.bound_id
        else principal.arn == policy_principal.value
    )
    matches = principal.kind in _SESSIONS and same
    return PrincipalMatch.CALLER if matches else PrincipalMatch.NOBODY


def _is_session_of(policy_principal: PolicyPrincipal, principal: Principal) -> bool:
    """Return whether the caller is a session of that name, of the role that the ARN named when it was stored."""
    return (
        principal.entity_id == policy_principal.bound_id
        and principal.arn.rpartition("/")[2] == policy_principal.value.rpartition("/")[2]
    )


def _provider(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    if principal.kind is not PrincipalKind.FEDERATED:
        return PrincipalMatch.NOBODY
    by_name = policy_principal.value in CONSUMER_ISSUERS and principal.arn.endswith(
        f":oidc-provider/{policy_principal.value}"
    )
    return PrincipalMatch.CALLER if by_name or principal.arn == policy_principal.value else PrincipalMatch.NOBODY


def _same_service(policy_principal: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    matches = principal.kind is PrincipalKind.SERVICE and principal.arn == policy_principal.value
    return PrincipalMatch.CALLER if matches else PrincipalMatch.NOBODY


def _nobody(_policy_principal: PolicyPrincipal, _principal: Principal) -> PrincipalMatch:
    return PrincipalMatch.NOBODY


_MATCHERS = {
    PrincipalType.EVERYONE: _everyone,
    PrincipalType.ACCOUNT: _account,
    PrincipalType.ENTITY: _entity,
    PrincipalType.SESSION: _session,
    PrincipalType.PROVIDER: _provider,
    PrincipalType.SERVICE: _same_service,
    PrincipalType.CANONICAL_USER: _nobody,
}


def is_excluded(principals: Iterable[PolicyPrincipal], principal: Principal, *, denies: bool) -> bool:
    """Return whether NotPrincipal excludes this caller from a statement.

    A Deny excludes it only where *each* of its ARNs is listed (session, role or user, and account), as the IAM User
    Guide says under "NotPrincipal". An Allow excludes it as soon as one of them is listed. Both err towards denying.
    """
    matches = {principal_match(policy_principal, principal) for policy_principal in principals}
    return _REQUIRED_MATCHES[principal.kind] <= matches if denies else any(matches)


# The matches that NotPrincipal with Deny must list for each kind of principal.
_REQUIRED_MATCHES: Mapping[PrincipalKind, frozenset[PrincipalMatch]] = {
    PrincipalKind.ROOT: frozenset({PrincipalMatch.ACCOUNT}),
    PrincipalKind.USER: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.CALLER}),
    PrincipalKind.ROLE_SESSION: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.ENTITY, PrincipalMatch.CALLER}),
    PrincipalKind.FEDERATED_USER: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.CALLER}),
    PrincipalKind.FEDERATED: frozenset({PrincipalMatch.CALLER}),
    PrincipalKind.SERVICE: frozenset({PrincipalMatch.CALLER}),
    PrincipalKind.ANONYMOUS: frozenset({PrincipalMatch.ENTITY}),
}
