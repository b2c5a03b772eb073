"""The Principal element: whom a statement names, and how firmly it names a caller.

Pure. Source: IAM User Guide, "AWS JSON policy elements: Principal" and "NotPrincipal".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum

from iam.arn import ACCOUNT_ID, Arn, parse_arn
from iam.principal import Principal, PrincipalKind

# Web identity providers that are principals by name and need no provider in the account ("OIDC federated principals").
CONSUMER_ISSUERS = frozenset(
    {"accounts.google.com", "graph.facebook.com", "www.amazon.com", "cognito-identity.amazonaws.com"}
)
PARTITIONS = frozenset({"aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"})
_PROVIDER = re.compile(r"(saml|oidc|ldap)-provider/[^*?\s]+")
_SERVICE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z]+", re.ASCII)
_CANONICAL_USER = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DURABLE = re.compile(r"(user|role)(/[^*?\s/]+)+")
_ROLE_SESSION = re.compile(r"assumed-role/[^*?\s/]+/[^*?\s/]+")
_FEDERATED_USER = re.compile(r"federated-user/[^*?\s/]+")


class PrincipalType(Enum):
    """What a principal in a policy stands for."""

    EVERYONE = "everyone"
    ACCOUNT = "account"
    ENTITY = "user or role"
    SESSION = "session"
    PROVIDER = "identity provider"
    SERVICE = "service"
    CANONICAL_USER = "canonical user"


class PrincipalMatch(IntEnum):
    """How firmly a statement names a caller, and so what its grant still depends on."""

    NOBODY = 0
    ACCOUNT = 1  # through its account: the caller's own policies must allow as well
    ENTITY = 2  # through everyone, or the role behind the session: its boundary and session policy still limit
    CALLER = 3  # the caller itself: nothing but an explicit deny limits


@dataclass(frozen=True, slots=True)
class PolicyPrincipal:
    """One principal of a statement: its type and text as written, and the id which its ARN had when it was stored."""

    kind: str
    text: str
    principal_type: PrincipalType
    value: str
    bound_id: str = ""


def parse_principal(kind: str, text: str) -> PolicyPrincipal | None:
    """Return what a principal stands for, or None when it is none; G03: no wildcard in an ARN, and no group."""
    reader = _READERS.get(kind)
    found = reader(text) if reader else None
    return found and PolicyPrincipal(kind, text, *found)


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
    known = arn and arn.service == "iam" and ACCOUNT_ID.fullmatch(arn.account) and _PROVIDER.fullmatch(arn.resource)
    return (PrincipalType.PROVIDER, text) if known else None


def _service(text: str) -> _Parsed:
    return (PrincipalType.SERVICE, text) if _SERVICE.fullmatch(text) else None


def _canonical_user(text: str) -> _Parsed:
    return (PrincipalType.CANONICAL_USER, text) if _CANONICAL_USER.fullmatch(text) else None


_READERS = {"AWS": _aws, "Federated": _federated, "Service": _service, "CanonicalUser": _canonical_user}


def arns_to_resolve(names: Iterable[PolicyPrincipal]) -> frozenset[str]:
    """Return the ARNs of users, roles and role sessions, whose ids are written down beside the policy."""
    return frozenset(
        one.value
        for one in names
        if one.principal_type in {PrincipalType.ENTITY, PrincipalType.SESSION} and ":federated-user/" not in one.value
    )


def bind(names: Iterable[PolicyPrincipal], ids: Mapping[str, str]) -> tuple[PolicyPrincipal, ...]:
    """Return the names, bound to the ids that their ARNs had: somebody new under an old name is somebody else (B05)."""
    return tuple(replace(one, bound_id=ids.get(one.value, one.bound_id)) for one in names)


def principal_match(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    """Return how firmly this name holds this caller."""
    return _MATCHERS[one.principal_type](one, principal)


def _everyone(_one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    # "*" grants to each caller at home without a word of its own policies, as a public bucket does; ceilings limit.
    return PrincipalMatch.ACCOUNT if principal.kind in _NOT_OF_AN_ACCOUNT else PrincipalMatch.ENTITY


def _account(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    mine = principal.account_id == one.value and principal.kind not in _NOT_OF_AN_ACCOUNT
    return PrincipalMatch.ACCOUNT if mine else PrincipalMatch.NOBODY


_NOT_OF_AN_ACCOUNT = frozenset({PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _entity(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    # Bound to an id, the ARN is only what its author wrote: a renamed principal stays the same, and whoever bears its
    # name today is somebody else.
    same = principal.entity_id == one.bound_id if one.bound_id else principal.entity_arn == one.value
    if not same:
        return PrincipalMatch.NOBODY
    # "IAM user ARN (that is not a federated user session)": only the user itself is the caller.
    return PrincipalMatch.CALLER if principal.kind is PrincipalKind.USER else PrincipalMatch.ENTITY


_SESSIONS = frozenset({PrincipalKind.ROLE_SESSION, PrincipalKind.FEDERATED_USER})


def _session(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    same = _is_session_of(one, principal) if one.bound_id else principal.arn == one.value
    mine = principal.kind in _SESSIONS and same
    return PrincipalMatch.CALLER if mine else PrincipalMatch.NOBODY


def _is_session_of(one: PolicyPrincipal, principal: Principal) -> bool:
    """Return whether this is a session, of that name, of the role that the ARN meant when it was stored."""
    return principal.entity_id == one.bound_id and principal.arn.rpartition("/")[2] == one.value.rpartition("/")[2]


def _provider(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    if principal.kind is not PrincipalKind.FEDERATED:
        return PrincipalMatch.NOBODY
    by_name = one.value in CONSUMER_ISSUERS and principal.arn.endswith(f":oidc-provider/{one.value}")
    return PrincipalMatch.CALLER if by_name or principal.arn == one.value else PrincipalMatch.NOBODY


def _same_service(one: PolicyPrincipal, principal: Principal) -> PrincipalMatch:
    mine = principal.kind is PrincipalKind.SERVICE and principal.arn == one.value
    return PrincipalMatch.CALLER if mine else PrincipalMatch.NOBODY


def _nobody(_one: PolicyPrincipal, _principal: Principal) -> PrincipalMatch:
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


def is_excluded(names: Iterable[PolicyPrincipal], principal: Principal, *, denies: bool) -> bool:
    """Return whether NotPrincipal spares this caller.

    A Deny spares it only when *each* of its ARNs is listed (session, role or user, and account), as "NotPrincipal"
    asks; an Allow leaves it out as soon as one of them is.
    """
    grips = {principal_match(one, principal) for one in names}
    return _FACETS[principal.kind] <= grips if denies else any(grips)


_FACETS: Mapping[PrincipalKind, frozenset[PrincipalMatch]] = {
    PrincipalKind.ROOT: frozenset({PrincipalMatch.ACCOUNT}),
    PrincipalKind.USER: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.CALLER}),
    PrincipalKind.ROLE_SESSION: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.ENTITY, PrincipalMatch.CALLER}),
    PrincipalKind.FEDERATED_USER: frozenset({PrincipalMatch.ACCOUNT, PrincipalMatch.CALLER}),
    PrincipalKind.FEDERATED: frozenset({PrincipalMatch.CALLER}),
    PrincipalKind.SERVICE: frozenset({PrincipalMatch.CALLER}),
}
