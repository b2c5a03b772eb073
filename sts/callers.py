"""Callers: a principal, the policies that limit it, and the condition keys that describe it.

Pure. Source: IAM User Guide, "AWS global condition context keys", and "GetFederationToken" for the federated user.
"""

from dataclasses import dataclass

from iam.arn import assumed_role_arn, federated_user_arn, root_arn
from iam.clock import from_milliseconds, iso8601
from iam.operations.request_context import principal_keys
from iam.operations.required_permission import ContextKeys
from iam.policy.decide import Layers
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.store.records import RoleRecord, UserRecord
from sts.mint import Session, Tags

_EVERYTHING = PolicySet(
    [
        Policy.parse(
            '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}',
            PolicyKind.IDENTITY,
            label="root",
        )
    ]
)
_NO_POLICIES = PolicySet()
# IAM User Guide, "AWS global condition context keys": the values for anonymous requests.
ANONYMOUS = "anonymous"
_ANONYMOUS_KEYS: ContextKeys = {
    "aws:principalaccount": (ANONYMOUS,),
    "aws:principaltype": ("Anonymous",),
    "aws:userid": (ANONYMOUS,),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal that makes a request, with the policies that limit it and the condition keys that describe it.

    ``layers`` does not have the policy and account of the resource, which depend on the request. ``tags`` are the
    principal's effective tags: those of the session replace those of the role.
    """

    principal: Principal
    access_key_id: str
    layers: Layers
    tags: Tags
    keys: ContextKeys
    session: Session | None = None

    @property
    def mfa_at(self) -> int | None:
        """Return when the session's MFA happened, in milliseconds, or None."""
        return self.session.grant.mfa_at if self.session else None


@dataclass(frozen=True, slots=True)
class PermissionLimits:
    """What limits a caller besides its boundary: the guardrails of the account, and the session policies."""

    guardrails: PolicySet | None = None
    session: PolicySet | None = None


def root(account_id: str, key_id: str, session: Session | None, limits: PermissionLimits) -> Caller:
    """Return the root user of an account."""
    arn = root_arn(account_id)
    principal = Principal(PrincipalKind.ROOT, account_id, arn, account_id, arn, account_id, "root")
    layers = Layers(guardrails=limits.guardrails)
    return Caller(principal, key_id, layers, (), _keys(principal, (), session), session)


def user(record: UserRecord, key_id: str, session: Session | None, limits: PermissionLimits) -> Caller:
    """Return a user, with a long-term key or a session of GetSessionToken."""
    principal = Principal(
        PrincipalKind.USER, record.account_id, record.arn, record.id, record.arn, record.id, record.name
    )
    layers = Layers(identity=record.policies, boundary=record.boundary, guardrails=limits.guardrails)
    return Caller(principal, key_id, layers, record.tags, _keys(principal, record.tags, session), session)


def role_session(record: RoleRecord, session: Session, limits: PermissionLimits) -> Caller:
    """Return a session of a role."""
    grant = session.grant
    arn = assumed_role_arn(record.account_id, record.name, grant.name)
    tags = _merge_tags(record.tags, grant.tags)
    principal = Principal(
        PrincipalKind.ROLE_SESSION,
        record.account_id,
        arn,
        f"{record.id}:{grant.name}",
        record.arn,
        record.id,
        record.name,
    )
    layers = Layers(
        identity=record.policies,
        boundary=record.boundary,
        session=limits.session,
        guardrails=limits.guardrails,
    )
    return Caller(principal, session.access_key_id, layers, tags, _keys(principal, tags, session), session)


def federated_user(creator: UserRecord | None, session: Session, limits: PermissionLimits) -> Caller:
    """Return the caller of GetFederationToken's credentials.

    It has the policies of the user who called GetFederationToken, or all permissions if root did, limited by the
    session policies. Without session policies it may do nothing: an empty set is not the same as none.
    """
    account_id, name = session.grant.account_id, session.grant.name
    arn = federated_user_arn(account_id, name)
    entity_arn, entity_id = (creator.arn, creator.id) if creator else (root_arn(account_id), account_id)
    principal = Principal(
        PrincipalKind.FEDERATED_USER, account_id, arn, f"{account_id}:{name}", entity_arn, entity_id, name
    )
    layers = Layers(
        identity=creator.policies if creator else _EVERYTHING,
        boundary=creator.boundary if creator else None,
        session=limits.session or _NO_POLICIES,
        guardrails=limits.guardrails,
    )
    tags = session.grant.tags
    return Caller(principal, session.access_key_id, layers, tags, _keys(principal, tags, session), session)


def unsigned(principal: Principal) -> Caller:
    """Return a person verified by an identity provider, or a service: neither has a key or policies of its own.

    So only a role's trust policy can admit them, and only by naming their provider or service.
    """
    return Caller(principal, "", Layers(), (), {})


def anonymous() -> Caller:
    """Return the caller of a request without a signature, whom only a resource-based policy can admit."""
    principal = Principal(PrincipalKind.ANONYMOUS, "", ANONYMOUS, ANONYMOUS, "*")
    return Caller(principal, "", Layers(), (), _ANONYMOUS_KEYS)


def _merge_tags(role_tags: Tags, session_tags: Tags) -> Tags:
    """Return both sets of tags; session tags replace role tags with the same key, compared without regard to case."""
    tags = {key.lower(): (key, value) for key, value in role_tags}
    tags.update({key.lower(): (key, value) for key, value in session_tags})
    return tuple(tags.values())


def _keys(principal: Principal, tags: Tags, session: Session | None) -> dict[str, tuple[str, ...]]:
    keys = principal_keys(principal, tags)
    if session is not None:
        grant = session.grant
        keys["aws:tokenissuetime"] = (iso8601(from_milliseconds(session.issued_at)),)
        # Requests with long-term keys do not have this key at all, all others do (IAM User Guide,
        # aws:MultiFactorAuthPresent).
        keys["aws:multifactorauthpresent"] = ("true" if grant.mfa_at is not None else "false",)
        if grant.source_identity is not None:
            keys["aws:sourceidentity"] = (grant.source_identity,)
        keys.update({name: (value,) for name, value in grant.claims})
    return keys
