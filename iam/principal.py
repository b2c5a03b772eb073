"""Principals: the caller of an operation, as policies see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from iam.arn import ACCOUNT_ID, assumed_role_arn, iam_arn, parse_arn


class PrincipalKind(StrEnum):
    """The kind of a principal; the values are those of CloudTrail's userIdentity.type."""

    ROOT = "Root"
    USER = "IAMUser"
    ROLE_SESSION = "AssumedRole"
    FEDERATED_USER = "FederatedUser"
    FEDERATED = "WebIdentityUser"  # authenticated by an identity provider, not yet a principal of an account
    SERVICE = "AWSService"
    ANONYMOUS = "Anonymous"  # of a request without a signature, which only a resource-based policy can admit


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    ``arn`` is the ARN that GetCallerIdentity returns and ``user_id`` is ``aws:userid``: for a role session its
    ARN and ``AROA…:session``. ``entity_arn`` and ``entity_id`` identify the IAM entity: the user, the role, for root
    the account's root ARN and the account id. For FEDERATED, ``arn`` is the identity provider's ARN, and for SERVICE
    it is the service's name; both leave ``entity_*`` empty. For ANONYMOUS
    ``entity_arn`` is ``*``, the one name that policies have for it. ``name`` is the user, role or federated name.
    """

    kind: PrincipalKind
    account_id: str
    arn: str
    user_id: str
    entity_arn: str = ""
    entity_id: str = ""
    name: str = ""

    @property
    def identity_type(self) -> str:
        """Return the type as userIdentity in CloudTrail has it: of people of a provider, by the kind of provider."""
        if self.kind is not PrincipalKind.FEDERATED:
            return self.kind.value
        provider = self.arn.split(":", 5)[-1].partition("/")[0]
        return _TYPE_BY_PROVIDER.get(provider, self.kind.value)


_TYPE_BY_PROVIDER: Mapping[str, str] = {"ldap-provider": "DirectoryUser", "saml-provider": "SAMLUser"}
# The session name for a role given by its own ARN; simulations have no real session.
ANY_SESSION_NAME = "somebody"


def principal_from_arn(text: str) -> Principal:
    """Return the principal with an ARN, without unique ids; any other text is the name of a service.

    For a role ARN it is a role session with a placeholder name.
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
