"""Somebody whom a directory, a SAML or a web identity provider has just proved takes a role.

Source: STS API Reference, "AssumeRoleWithSAML" and "AssumeRoleWithWebIdentity".
"""

from datetime import datetime

from iam.arn import parse_arn
from iam.errors import AccessDenied, ExpiredTokenException, InvalidIdentityToken, ValidationError
from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from iam.policy.principals import CONSUMER_ISSUERS
from iam.store.store import Store
from sts.federation.saml import (
    RequestedSession,
    name_qualifier,
    names_roles,
    requested_session,
    role_pairs,
    saml_keys,
    session_claims,
    subject_type,
)
from sts.federation.web_identity import session_claims as web_session_claims
from sts.federation.web_identity import web_keys
from sts.identity import Identity, SamlIdentity, WebIdentity
from sts.mint import Grant, SessionKind
from sts.operations.call import Outcome, PlannedSession, StsCall
from sts.operations.roles import mint_role_session, require_role, role_permissions, session_seconds
from sts.operations.session_inputs import check_tags, policy_arns, session_policy, session_request_keys, session_tags
from sts.trust import ldap_keys, session_name

Accounts = frozenset[str] | None  # whose roles are candidates; None: every account's


def roles_trusting_provider(identity: Identity, store: Store, accounts: Accounts = None) -> tuple[str, ...]:
    """Return the roles that trust a provider: a directory's in these accounts, another provider's in its own."""
    among = frozenset({identity.account_id}) if identity.account_id else accounts
    return tuple(role.arn for role in store.roles_trusting(identity.provider, among))


def _check_provider_serves(call: StsCall, role_arn: str, action: str) -> None:
    """Raise AccessDenied for a role of an account that the operator has not let use the provider."""
    if not call.provider_accounts.serves(call.proven_identity, role_arn):
        provider = call.proven_identity.provider
        raise AccessDenied(f"Not authorized to perform {action}", log=f"{provider} does not serve this account")


# --- AssumeRoleWithLDAPIdentity ---------------------------------------------------------------------------------------


def assume_role_with_ldap_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Ask the trust policy of the role that the gate has put into the parameters."""
    check_tags(p)
    _check_provider_serves(call, p["RoleArn"], "sts:AssumeRoleWithLDAPIdentity")
    identity = call.proven_identity
    keys = session_request_keys(p, session_name(identity.name, identity.person)) | ldap_keys(identity)
    return role_permissions(
        call.store,
        p["RoleArn"],
        "sts:AssumeRoleWithLDAPIdentity",
        keys,
        tags=bool(p.get("Tags")),
        source=p.get("SourceIdentity"),
    )


def assume_role_with_ldap(call: StsCall, p: Params) -> Outcome:
    """Mint a session of a role for a person whom the directory has just proved."""
    planned, identity = plan_ldap_session(call, p), call.proven_identity
    outcome = mint_role_session(call, planned)
    outcome.result["Provider"] = f"arn:aws:iam::{planned.role.account_id}:{identity.provider}"
    outcome.result["Subject"] = identity.subject
    return outcome


def plan_ldap_session(call: StsCall, p: Params) -> PlannedSession:
    """Return the session that AssumeRoleWithLDAPIdentity would mint; raise ValidationError and its kin."""
    identity = call.proven_identity
    role = require_role(call, p["RoleArn"])
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=session_name(identity.name, identity.person),
        provider=identity.provider,
        subject=identity.subject,
        policy=session_policy(p),
        policy_arns=policy_arns(call, p, role.account_id),
        mfa_at=call.session_mfa_at,
        tags=session_tags(p),
        transitive=tuple(p.get("TransitiveTagKeys", ())),
        source_identity=p.get("SourceIdentity"),
        claims=(
            ("ldap:username", identity.name),
            ("ldap:sub", identity.subject),
            ("aws:federatedprovider", f"arn:aws:iam::{role.account_id}:{identity.provider}"),
        ),
    )
    return PlannedSession(grant, role, session_seconds(p, role, chained=False))


# --- AssumeRoleWithSAML -----------------------------------------------------------------------------------------------


def assume_role_with_saml_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Ask the trust policy of the role, which the assertion must name as well; raise InvalidIdentityToken.

    Where the provider's people are mapped by trust, an assertion without Role attributes leaves it to the policy.
    """
    identity = call.identity_of(SamlIdentity)
    asked = requested_session(identity)
    if names_roles(identity) or not identity.map_by_trust:
        _check_assertion_names_role(identity, p["RoleArn"])
    _check_account(identity, p["RoleArn"], "sts:AssumeRoleWithSAML")
    _check_provider_serves(call, p["RoleArn"], "sts:AssumeRoleWithSAML")
    passed = {**p, **asked.parameters()}
    keys = session_request_keys(passed, asked.name) | saml_keys(identity)
    return role_permissions(
        call.store,
        p["RoleArn"],
        "sts:AssumeRoleWithSAML",
        keys,
        tags=bool(asked.tags),
        source=asked.source_identity,
    )


def roles_of_assertion(identity: SamlIdentity, store: Store, _accounts: Accounts = None) -> tuple[str, ...]:
    """Return the roles that an assertion names, or where it leaves that to the trust policies, those that trust it."""
    if names_roles(identity) or not identity.map_by_trust:
        return tuple(role for role, provider in role_pairs(identity) if provider == identity.provider)
    return roles_trusting_provider(identity, store)


def assume_role_with_saml(call: StsCall, p: Params) -> Outcome:
    """Mint a role session for a person whom a SAML identity provider has just authenticated."""
    identity = call.identity_of(SamlIdentity)
    outcome = mint_role_session(call, plan_saml_session(call, p))
    outcome.result.update(
        Subject=identity.subject,
        SubjectType=subject_type(identity),
        Issuer=identity.issuer,
        Audience=identity.recipient,
        NameQualifier=name_qualifier(identity),
    )
    return outcome


def plan_saml_session(call: StsCall, p: Params) -> PlannedSession:
    """Return the session that AssumeRoleWithSAML would mint; raise ExpiredTokenException, ValidationError."""
    identity = call.identity_of(SamlIdentity)
    asked = requested_session(identity)
    role = require_role(call, p["RoleArn"])
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=asked.name,
        provider=identity.provider,
        subject=identity.subject,
        policy=session_policy(p),
        policy_arns=policy_arns(call, p, role.account_id),
        mfa_at=call.session_mfa_at,
        tags=session_tags(asked.parameters()),
        transitive=asked.transitive,
        source_identity=asked.source_identity,
        claims=(*session_claims(identity).items(), ("aws:federatedprovider", identity.provider)),
    )
    seconds = session_seconds(p, role, chained=False)
    return PlannedSession(grant, role, _limit_duration(seconds, identity, asked, call.now))


def _check_assertion_names_role(identity: SamlIdentity, role_arn: str) -> None:
    pairs = role_pairs(identity)
    if not pairs:
        raise InvalidIdentityToken("Role is required in AuthnResponse, as pairs of a role's and a provider's ARN")
    if (role_arn, identity.provider) not in pairs:
        raise AccessDenied(_NOT_BY_SAML, log=f"the assertion names {', '.join(role for role, _ in pairs)[:500]}")


def _check_account(identity: Identity, role_arn: str, action: str) -> None:
    """Refuse a role of another account: a provider is trusted in its own account only."""
    arn = parse_arn(role_arn)
    if arn is None:
        raise ValidationError(f"{role_arn} is invalid")
    if arn.account != identity.account_id:
        raise AccessDenied(f"Not authorized to perform {action}", log=f"the provider is of {identity.account_id}")


_NOT_BY_SAML = "Not authorized to perform sts:AssumeRoleWithSAML"


def _limit_duration(seconds: int, identity: SamlIdentity, asked: RequestedSession, now: datetime) -> int:
    """Return how long a session lasts: the identity provider may make it shorter, never longer."""
    left = [] if identity.session_until is None else [int((identity.session_until - now).total_seconds())]
    shortest = min([seconds, *left, *([] if asked.seconds is None else [asked.seconds])])
    if shortest < 1:
        raise ExpiredTokenException("Token has expired", log="SessionNotOnOrAfter: over, and within the clocks' skew")
    return shortest


# --- AssumeRoleWithWebIdentity ----------------------------------------------------------------------------------------


def assume_role_with_web_identity_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Ask the trust policy of the role, with the claims of the token as its keys."""
    identity = call.identity_of(WebIdentity)
    _check_account(identity, p["RoleArn"], "sts:AssumeRoleWithWebIdentity")
    _check_provider_serves(call, p["RoleArn"], "sts:AssumeRoleWithWebIdentity")
    passed = {**p, **_web_parameters(identity)}
    return role_permissions(
        call.store,
        p["RoleArn"],
        "sts:AssumeRoleWithWebIdentity",
        session_request_keys(passed, p["RoleSessionName"]) | web_keys(identity),
        tags=bool(identity.tags),
        source=identity.source_identity,
    )


def assume_role_with_web_identity(call: StsCall, p: Params) -> Outcome:
    """Mint a role session for a caller whose web identity token was just verified."""
    identity = call.identity_of(WebIdentity)
    outcome = mint_role_session(call, plan_web_identity_session(call, p))
    outcome.result.update(
        SubjectFromWebIdentityToken=identity.subject, Provider=identity.issuer, Audience=identity.audience
    )
    return outcome


def plan_web_identity_session(call: StsCall, p: Params) -> PlannedSession:
    """Return the session that AssumeRoleWithWebIdentity would mint; raise ValidationError and its kin."""
    identity = call.identity_of(WebIdentity)
    role = require_role(call, p["RoleArn"])
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=p["RoleSessionName"],
        provider=identity.provider,
        subject=identity.subject,
        policy=session_policy(p),
        policy_arns=policy_arns(call, p, role.account_id),
        mfa_at=call.session_mfa_at,
        tags=identity.tags,
        transitive=identity.transitive,
        source_identity=identity.source_identity,
        claims=(*web_session_claims(identity).items(), ("aws:federatedprovider", _principal_name(identity))),
    )
    return PlannedSession(grant, role, session_seconds(p, role, chained=False))


def _web_parameters(identity: WebIdentity) -> Params:
    tags = [{"Key": key, "Value": value} for key, value in identity.tags]
    found: Params = {"Tags": tags} if tags else {}
    return found | ({"TransitiveTagKeys": identity.transitive} if identity.transitive else {})


def _principal_name(identity: WebIdentity) -> str:
    """Return the provider as a trust policy names it: those that need no provider in the account, by their names."""
    return identity.key_prefix if identity.key_prefix in CONSUMER_ISSUERS else identity.provider
