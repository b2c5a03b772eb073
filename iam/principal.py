"""Who somebody is inside: the caller of an operation, as trust policies and permission policies see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from iam.arn import ACCOUNT_ID, assumed_role_arn, iam_arn, parse_arn


class PrincipalKind(StrEnum):
    """How a principal came in; the values are those of CloudTrail's userIdentity.type."""

    ROOT = "Root"
    USER = "IAMUser"
    ROLE_SESSION = "AssumedRole"
    FEDERATED_USER = "FederatedUser"
    FEDERATED = "WebIdentityUser"  # proved by an identity provider, no principal of an account yet
    SERVICE = "AWSService"


@dataclass(frozen=True, slots=True)
class Principal:
    """One caller.

    ``arn`` is what GetCallerIdentity says and ``user_id`` is ``aws:userid``: for a role session the session's ARN and
    ``AROA…:session``. ``entity_arn`` and ``entity_id`` name the durable thing behind it: the user, the role, for root
    the account's root ARN and the account id. For FEDERATED, ``arn`` is the identity provider's ARN, and for SERVICE
    it is the service's name; both leave ``entity_*`` empty. ``name`` is the user name, role name or federated name.
    """

    kind: PrincipalKind
    account_id: str
    arn: str
    user_id: str
    entity_arn: str = ""
    entity_id: str = ""
    name: str = ""


# The session of a role that is spoken of by the role's own ARN.
ANY_SESSION_NAME = "somebody"


def principal_from_arn(text: str) -> Principal:
    """Return the principal that an ARN names, without unique ids; what is no ARN is the name of a service.

    A role stands for a session of it that nobody began.
    """
    arn = parse_arn(text)
    if arn is None or not ACCOUNT_ID.fullmatch(arn.account):
        return Principal(PrincipalKind.SERVICE, "", text, text)
    kind, _, rest = arn.resource.partition("/")
    read = _federated if kind.endswith("-provider") else _BY_RESOURCE_TYPE.get(kind, _user)
    return read(arn.account, text, rest)


def _user(account: str, text: str, rest: str) -> Principal:
    return Principal(PrincipalKind.USER, account, text, "", text, name=rest.rpartition("/")[2])


def _root(account: str, text: str, _rest: str) -> Principal:
    return Principal(PrincipalKind.ROOT, account, text, account, text, account, "root")


def _session(account: str, text: str, rest: str) -> Principal:
    role = rest.partition("/")[0]
    return Principal(PrincipalKind.ROLE_SESSION, account, text, "", iam_arn(account, "role", role), name=role)


def _role(account: str, text: str, rest: str) -> Principal:
    name = rest.rpartition("/")[2]
    session = assumed_role_arn(account, name, ANY_SESSION_NAME)
    return Principal(PrincipalKind.ROLE_SESSION, account, session, "", text, name=name)


def _federated_user(account: str, text: str, rest: str) -> Principal:
    return Principal(PrincipalKind.FEDERATED_USER, account, text, f"{account}:{rest}", name=rest)


def _federated(account: str, text: str, _rest: str) -> Principal:
    return Principal(PrincipalKind.FEDERATED, account, text, text)


_BY_RESOURCE_TYPE: Mapping[str, Callable[[str, str, str], Principal]] = {
    "root": _root,
    "assumed-role": _session,
    "role": _role,
    "federated-user": _federated_user,
}
