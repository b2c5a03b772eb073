"""Builds request contexts: the action, resource, principal and condition keys, and the policies that apply.

Authorization, ``fedgate explain``, ``fedgate policy test``, the policy simulator and the web pages all build their
requests here. With a rule of its own for a condition key or a resource's owner, one of them could say "allowed" for a
request that is denied.

Source: IAM User Guide, "The request context" and "AWS global condition context keys".
"""

from datetime import datetime
from typing import NamedTuple, Protocol

from iam.arn import ACCOUNT_ID, parse_arn
from iam.clock import iso8601, to_seconds
from iam.operations.required_permission import ContextKeys, RequiredPermission
from iam.policy.decide import Layers, RequestContext
from iam.policy.partial import close
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.store.records import Tags


class Requester(Protocol):
    """The principal of a request, its policies, and the condition keys that describe it."""

    @property
    def principal(self) -> Principal:
        """Return the principal."""

    @property
    def layers(self) -> Layers:
        """Return the policies that apply to it, without resource-based ones."""

    @property
    def keys(self) -> ContextKeys:
        """Return the condition keys that describe it, in lower case."""


class SimulatedRequester(NamedTuple):
    """A requester of the policy simulator; it has not been authenticated."""

    principal: Principal
    layers: Layers
    keys: ContextKeys


class AuthorizationRequest(NamedTuple):
    """The two arguments of ``decide`` and ``explain``."""

    context: RequestContext
    layers: Layers


def build_request(
    requester: Requester, permission: RequiredPermission, action: str, request_keys: ContextKeys
) -> AuthorizationRequest:
    """Return the request context and policies for an action of a requester.

    Later keys win. ``request_keys`` override the requester's, because a request can carry an MFA code that its session
    does not know of. The operation's own keys come last. A Deny with a key that is unknown applies, an Allow does not.
    One that has a value after all is known.
    """
    principal, layers, requester_keys = requester.principal, requester.layers, requester.keys
    keys = {
        **requester_keys,
        **request_keys,
        "aws:resourceaccount": (permission.account_id or principal.account_id,),
        **permission.keys,
    }
    if permission.trust is not None or permission.account_id:
        layers = layers._replace(resource=permission.trust, resource_account=permission.account_id)
    if permission.unknown:
        layers = close(layers, permission.unknown.difference(keys))
    return AuthorizationRequest(RequestContext(action, permission.resource, principal, keys), layers)


def simulated_permission(resource: str, policy: PolicySet | None, owner: str, keys: ContextKeys) -> RequiredPermission:
    """Return the required permission of a simulated request; ``policy`` is the resource-based policy.

    Without it the resource is treated as one of the requester's account, as AWS's policy simulator does
    (SimulatePrincipalPolicy, ResourcePolicy); ``aws:ResourceAccount`` is the owner in either case.
    """
    known = {"aws:resourceaccount": (owner,), **keys}
    return RequiredPermission(resource, known, trust=policy, account_id=owner if policy is not None else "")


def account_in_arn(text: str) -> str:
    """Return the account id in an ARN, or an empty string: ``*`` and many resources, such as buckets, have none."""
    arn = parse_arn(text)
    return arn.account if arn and ACCOUNT_ID.fullmatch(arn.account) else ""


# --- condition keys ---------------------------------------------------------------------------------------------------


def every_request_keys(now: datetime) -> dict[str, tuple[str, ...]]:
    """Return the keys that every request has; ``now`` is timezone-aware, in UTC.

    No AWS service makes requests here, so the two keys about services are always false.
    """
    return {
        "aws:currenttime": (iso8601(now),),
        "aws:epochtime": (str(to_seconds(now)),),
        "aws:viaawsservice": ("false",),
        "aws:principalisawsservice": ("false",),
    }


# IAM User Guide, "AWS global condition context keys", aws:PrincipalType.
_PRINCIPAL_TYPES = {
    PrincipalKind.ROOT: "Account",
    PrincipalKind.USER: "User",
    PrincipalKind.ROLE_SESSION: "AssumedRole",
    PrincipalKind.FEDERATED_USER: "FederatedUser",
}


def principal_keys(principal: Principal, tags: Tags = ()) -> dict[str, tuple[str, ...]]:
    """Return the keys that describe a principal of an account; none for federated people and services.

    ``tags`` are the principal and session tags in effect. ``aws:userid`` is omitted if the unique id is not known.
    """
    if principal.kind not in _PRINCIPAL_TYPES:
        return {}
    keys: dict[str, tuple[str, ...]] = {
        "aws:principalarn": (_principal_arn(principal),),
        "aws:principalaccount": (principal.account_id,),
        "aws:principaltype": (_PRINCIPAL_TYPES[principal.kind],),
    }
    if principal.user_id:
        keys["aws:userid"] = (principal.user_id,)
    if principal.kind is PrincipalKind.USER:
        keys["aws:username"] = (principal.name,)
    keys.update({f"aws:principaltag/{key.lower()}": (value,) for key, value in tags})
    return keys


def _principal_arn(principal: Principal) -> str:
    # For a role session it is the ARN of the role, with its path; for a federated user its own ARN.
    by_session = principal.kind is PrincipalKind.FEDERATED_USER or not principal.entity_arn
    return principal.arn if by_session else principal.entity_arn


def tag_keys(tags: Tags) -> dict[str, tuple[str, ...]]:
    """Return the keys for a resource's tags; IAM resources have both aws:ResourceTag and iam:ResourceTag."""
    return {f"{service}:resourcetag/{key.lower()}": (value,) for key, value in tags for service in ("aws", "iam")}
