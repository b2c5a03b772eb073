"""AssumeRole, and what all operations that begin a session of a role share.

Source: STS API Reference, "AssumeRole"; IAM User Guide, "Pass session tags in AWS STS" and "Monitor and control actions
taken with assumed roles" (source identity).
"""

from iam.arn import assumed_role_arn, parse_arn
from iam.errors import AccessDenied, NotImplementedHere, ValidationError
from iam.operations.request_context import tag_keys
from iam.operations.required_permission import RequiredPermission
from iam.params import Params, Result
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import PrincipalKind
from iam.store.store import RoleRecord, Store
from sts.callers import Caller
from sts.mint import Grant, SessionKind, Tags
from sts.operations.call import Outcome, PlannedSession, StsCall
from sts.operations.session_inputs import (
    add_packed_policy_size,
    check_tags,
    credentials_member,
    mint_session,
    policy_arns,
    session_policy,
    session_request_keys,
    session_tags,
)

ROLE_DEFAULT = 3600
CHAINED_MAX = 3600

# Stands in for the trust policy of a role that does not exist, so that nobody can tell the two apart (THREATS B09).
_NOBODY = PolicySet(
    (
        Policy.parse(
            '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"sts:*"}}',
            PolicyKind.TRUST,
            label="no such role",
        ),
    )
)


# --- AssumeRole -------------------------------------------------------------------------------------------------------


def assume_role_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Ask the role's trust policy for sts:AssumeRole, and for tags and source identity that come along."""
    caller = call.signer
    if caller.principal.kind is PrincipalKind.ROOT:
        raise AccessDenied("Roles may not be assumed by root accounts.")
    if p.get("ProvidedContexts"):
        raise NotImplementedHere("ProvidedContexts is not built yet: no context assertion is looked at.")
    check_tags(p)
    inherited = _transitive_tags(caller)
    if {key.lower() for key, _ in inherited} & {tag["Key"].lower() for tag in p.get("Tags", ())}:
        raise AccessDenied(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from"
            " the calling session.",
        )
    keys = session_request_keys(p, p["RoleSessionName"])
    if "ExternalId" in p:
        keys["sts:externalid"] = (p["ExternalId"],)
    return role_permissions(
        call.store,
        p["RoleArn"],
        "sts:AssumeRole",
        keys,
        tags=bool(p.get("Tags") or inherited),
        source=_source_identity(call, p),
    )


def assume_role(call: StsCall, p: Params) -> Outcome:
    """Mint a session of a role for a caller that its trust policy admits (STS API reference, "AssumeRole")."""
    return mint_role_session(call, plan_assume_role(call, p))


def plan_assume_role(call: StsCall, p: Params) -> PlannedSession:
    """Return the session that AssumeRole would mint; raise ValidationError, MalformedPolicyDocument."""
    caller = call.signer
    role = require_role(call, p["RoleArn"])
    session = caller.session
    chained = session is not None and session.grant.kind is SessionKind.ROLE
    seconds = session_seconds(p, role, chained=chained)
    inherited = _transitive_tags(caller)
    own = session_tags(p)
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=p["RoleSessionName"],
        provider=session.grant.provider if session else "iam",
        subject=session.grant.subject if session else caller.principal.entity_id,
        policy=session_policy(p),
        policy_arns=policy_arns(call, p, role.account_id),
        mfa_at=call.session_mfa_at,
        tags=inherited + own,
        transitive=tuple(key for key, _ in inherited) + tuple(p.get("TransitiveTagKeys", ())),
        source_identity=_source_identity(call, p),
        chained=chained,
    )
    return PlannedSession(grant, role, seconds)


# --- what they share --------------------------------------------------------------------------------------------------


def role_permissions(
    store: Store,
    role_arn: str,
    action: str,
    keys: dict[str, tuple[str, ...]],
    *,
    tags: bool,
    source: str | None,
) -> tuple[RequiredPermission, ...]:
    """Ask a role's trust policy for an action, and for tags and a source identity where they come along."""
    arn = parse_arn(role_arn)
    if arn is None:
        raise ValidationError(f"{role_arn} is invalid")
    role = store.role(role_arn)
    trust = role.trust if role else _NOBODY
    if role:
        keys |= tag_keys(role.tags)
    if source:
        keys["sts:sourceidentity"] = (source,)
    actions = [action] + ["sts:TagSession"] * tags + ["sts:SetSourceIdentity"] * bool(source)
    return tuple(RequiredPermission(role_arn, keys, name, trust, arn.account) for name in actions)


def require_role(call: StsCall, role_arn: str) -> RoleRecord:
    """Return the role that was decided about; raise AccessDenied where it has gone meanwhile."""
    role = call.store.role(role_arn)
    if role is None:
        raise AccessDenied(f"Not authorized to assume {role_arn}", log="the role went away after the decision")
    return role


def _transitive_tags(caller: Caller) -> Tags:
    """Return the transitive tags of the calling session, which its chained sessions keep."""
    if caller.session is None:
        return ()
    transitive = set(caller.session.grant.transitive)
    return tuple(pair for pair in caller.session.grant.tags if pair[0] in transitive)


def _source_identity(call: StsCall, p: Params) -> str | None:
    """Return the source identity: the one that was set first stays over all hops."""
    asked: str | None = p.get("SourceIdentity")
    session = call.signer.session
    known = session.grant.source_identity if session else None
    if known is not None and asked not in (None, known):
        raise ValidationError("The source identity is already set for this assume role session")
    return known or asked


def session_seconds(p: Params, role: RoleRecord, *, chained: bool) -> int:
    """Return how long the session shall last; raise ValidationError above the maximum of role or chain."""
    seconds: int = p.get("DurationSeconds", ROLE_DEFAULT)
    if seconds > role.max_session:
        raise ValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    if chained and seconds > CHAINED_MAX:
        raise ValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    return seconds


def mint_role_session(call: StsCall, planned: PlannedSession) -> Outcome:
    """Mint the session, and answer with its credentials."""
    grant, role = planned.grant, planned.role
    minted = mint_session(call, grant, planned.seconds)
    arn = assumed_role_arn(role.account_id, role.name, grant.name)
    result: Result = {
        "Credentials": credentials_member(minted),
        "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{grant.name}", "Arn": arn},
    }
    if grant.source_identity is not None:
        result["SourceIdentity"] = grant.source_identity
    return Outcome(add_packed_policy_size(result, minted), minted.session, arn)
