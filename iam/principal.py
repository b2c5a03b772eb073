"""Who somebody is inside: the caller of an operation, as trust policies and permission policies see it."""

from dataclasses import dataclass
from enum import StrEnum


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
