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


class Means(Enum):
    """What a principal in a policy stands for."""

    EVERYONE = "everyone"
    ACCOUNT = "account"
    ENTITY = "user or role"
    SESSION = "session"
    PROVIDER = "identity provider"
    SERVICE = "service"
    CANONICAL_USER = "canonical user"


class Grip(IntEnum):
    """How firmly a statement names a caller, and so what its grant still depends on."""

    NOBODY = 0
    ACCOUNT = 1  # through its account: the caller's own policies must allow as well
    ENTITY = 2  # through everyone, or the role behind the session: its boundary and session policy still limit
    CALLER = 3  # the caller itself: nothing but an explicit deny limits


@dataclass(frozen=True, slots=True)
class Named:
    """One principal of a statement: its type and text as written, and the id which its ARN had when it was stored."""

    kind: str
    text: str
    means: Means
    value: str
    bound_id: str = ""


def named(kind: str, text: str) -> Named | None:
    """Return what a principal stands for, or None when it is none; G03: no wildcard in an ARN, and no group."""
    reader = _READERS.get(kind)
    found = reader(text) if reader else None
    return found and Named(kind, text, *found)


EVERYONE = Named("*", "*", Means.EVERYONE, "*")

_Read = tuple[Means, str] | None


def _aws(text: str) -> _Read:
    if text == "*":
        return Means.EVERYONE, "*"
    if ACCOUNT_ID.fullmatch(text):
        return Means.ACCOUNT, text
    arn = parse_arn(text)
    return _aws_arn(text, arn) if arn and arn.partition in PARTITIONS else None


def _aws_arn(text: str, arn: Arn) -> _Read:
    if arn.region or not ACCOUNT_ID.fullmatch(arn.account):
        return None
    if arn.service == "iam" and arn.resource == "root":
        return Means.ACCOUNT, arn.account
    for service, shape, means in _ARN_SHAPES:
        if arn.service == service and shape.fullmatch(arn.resource):
            return means, text
    return None


_ARN_SHAPES = (
    ("iam", _DURABLE, Means.ENTITY),
    ("sts", _ROLE_SESSION, Means.SESSION),
    ("sts", _FEDERATED_USER, Means.SESSION),
)


def _federated(text: str) -> _Read:
    if text in CONSUMER_ISSUERS:
        return Means.PROVIDER, text
    arn = parse_arn(text)
    known = arn and arn.service == "iam" and ACCOUNT_ID.fullmatch(arn.account) and _PROVIDER.fullmatch(arn.resource)
    return (Means.PROVIDER, text) if known else None


def _service(text: str) -> _Read:
    return (Means.SERVICE, text) if _SERVICE.fullmatch(text) else None


def _canonical_user(text: str) -> _Read:
    return (Means.CANONICAL_USER, text) if _CANONICAL_USER.fullmatch(text) else None


_READERS = {"AWS": _aws, "Federated": _federated, "Service": _service, "CanonicalUser": _canonical_user}


def to_resolve(names: Iterable[Named]) -> frozenset[str]:
    """Return the ARNs of users, roles and role sessions, whose ids are written down beside the policy."""
    return frozenset(
        one.value for one in names if one.means in {Means.ENTITY, Means.SESSION} and ":federated-user/" not in one.value
    )


def bind(names: Iterable[Named], ids: Mapping[str, str]) -> tuple[Named, ...]:
    """Return the names, bound to the ids that their ARNs had: somebody new under an old name is somebody else (B05)."""
    return tuple(replace(one, bound_id=ids.get(one.value, one.bound_id)) for one in names)


def grip(one: Named, principal: Principal) -> Grip:
    """Return how firmly this name holds this caller."""
    return _GRIPS[one.means](one, principal)


def _everyone(_one: Named, principal: Principal) -> Grip:
    # "*" grants to each caller at home without a word of its own policies, as a public bucket does; ceilings limit.
    return Grip.ACCOUNT if principal.kind in _NOT_OF_AN_ACCOUNT else Grip.ENTITY


def _account(one: Named, principal: Principal) -> Grip:
    mine = principal.account_id == one.value and principal.kind not in _NOT_OF_AN_ACCOUNT
    return Grip.ACCOUNT if mine else Grip.NOBODY


_NOT_OF_AN_ACCOUNT = frozenset({PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _entity(one: Named, principal: Principal) -> Grip:
    # Bound to an id, the ARN is only what its author wrote: a renamed principal stays the same, and whoever bears its
    # name today is somebody else.
    same = principal.entity_id == one.bound_id if one.bound_id else principal.entity_arn == one.value
    if not same:
        return Grip.NOBODY
    # "IAM user ARN (that is not a federated user session)": only the user itself is the caller.
    return Grip.CALLER if principal.kind is PrincipalKind.USER else Grip.ENTITY


_SESSIONS = frozenset({PrincipalKind.ROLE_SESSION, PrincipalKind.FEDERATED_USER})


def _session(one: Named, principal: Principal) -> Grip:
    same = _is_session_of(one, principal) if one.bound_id else principal.arn == one.value
    mine = principal.kind in _SESSIONS and same
    return Grip.CALLER if mine else Grip.NOBODY


def _is_session_of(one: Named, principal: Principal) -> bool:
    """Return whether this is a session, of that name, of the role that the ARN meant when it was stored."""
    return principal.entity_id == one.bound_id and principal.arn.rpartition("/")[2] == one.value.rpartition("/")[2]


def _provider(one: Named, principal: Principal) -> Grip:
    if principal.kind is not PrincipalKind.FEDERATED:
        return Grip.NOBODY
    by_name = one.value in CONSUMER_ISSUERS and principal.arn.endswith(f":oidc-provider/{one.value}")
    return Grip.CALLER if by_name or principal.arn == one.value else Grip.NOBODY


def _service_itself(one: Named, principal: Principal) -> Grip:
    mine = principal.kind is PrincipalKind.SERVICE and principal.arn == one.value
    return Grip.CALLER if mine else Grip.NOBODY


def _nobody(_one: Named, _principal: Principal) -> Grip:
    return Grip.NOBODY


_GRIPS = {
    Means.EVERYONE: _everyone,
    Means.ACCOUNT: _account,
    Means.ENTITY: _entity,
    Means.SESSION: _session,
    Means.PROVIDER: _provider,
    Means.SERVICE: _service_itself,
    Means.CANONICAL_USER: _nobody,
}


def is_left_out(names: Iterable[Named], principal: Principal, *, denies: bool) -> bool:
    """Return whether NotPrincipal spares this caller.

    A Deny spares it only when *each* of its ARNs is listed (session, role or user, and account), as "NotPrincipal"
    asks; an Allow leaves it out as soon as one of them is.
    """
    grips = {grip(one, principal) for one in names}
    return _FACETS[principal.kind] <= grips if denies else any(grips)


_FACETS: Mapping[PrincipalKind, frozenset[Grip]] = {
    PrincipalKind.ROOT: frozenset({Grip.ACCOUNT}),
    PrincipalKind.USER: frozenset({Grip.ACCOUNT, Grip.CALLER}),
    PrincipalKind.ROLE_SESSION: frozenset({Grip.ACCOUNT, Grip.ENTITY, Grip.CALLER}),
    PrincipalKind.FEDERATED_USER: frozenset({Grip.ACCOUNT, Grip.CALLER}),
    PrincipalKind.FEDERATED: frozenset({Grip.CALLER}),
    PrincipalKind.SERVICE: frozenset({Grip.CALLER}),
}
