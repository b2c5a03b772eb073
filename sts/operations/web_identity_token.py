"""GetWebIdentityToken: a signed token with the identity of the caller, for external services.

Source: STS API Reference, "GetWebIdentityToken"; IAM User Guide, "Federating AWS identities to external services".
"""

import uuid
from typing import Any

from iam.clock import SECOND, from_milliseconds, from_seconds, iso8601, to_seconds
from iam.errors import (
    AccessDenied,
    JWTPayloadSizeExceeded,
    NotImplementedHere,
    OutboundWebIdentityFederationDisabled,
    SessionDurationEscalation,
    ValidationError,
)
from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from iam.principal import PrincipalKind
from sts.federation.jwt_issuer import ALGORITHMS, encode_claims
from sts.federation.token_origin import CLAIM, origin_of, seal_origin
from sts.mint import Session, SessionKind
from sts.operations.call import Outcome, StsCall
from sts.operations.session_inputs import check_tags

_DEFAULT = 300  # seconds
_MAX_CLAIMS = 8192  # bytes of claims
_NAMESPACE = "https://sts.amazonaws.com/"


def get_web_identity_token_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Require the permission, with the parameters as condition keys; for a scope also sts:SetWebIdentityTokenScope.

    sts:TagSession is not required, because the tags are only in the token. AWS allows a scope only with the origin
    identity, which sessions here do not have; here a scope goes with the identity of the caller.
    """
    if call.signer.principal.kind is PrincipalKind.ROOT:
        raise AccessDenied("Root of an account gets no web identity token: call as a user or a role.")
    check_tags(p)
    if p["SigningAlgorithm"] not in ALGORITHMS:
        raise ValidationError(f"SigningAlgorithm must be one of {', '.join(ALGORITHMS)}")
    keys: dict[str, tuple[str, ...]] = {
        "sts:identitytokenaudience": tuple(p["Audience"]),
        "sts:signingalgorithm": (p["SigningAlgorithm"],),
        "sts:durationseconds": (str(p.get("DurationSeconds", _DEFAULT)),),
    }
    keys |= {f"aws:requesttag/{tag['Key'].lower()}": (tag["Value"],) for tag in p.get("Tags", ())}
    if p.get("Tags"):
        keys["aws:tagkeys"] = tuple(tag["Key"] for tag in p["Tags"])
    if "Scope" not in p:
        return (RequiredPermission("*", keys),)
    scopes = tuple(p["Scope"].split(" "))
    if len(set(scopes)) < len(scopes) or len(p["Audience"]) > 1:
        raise ValidationError("Scope must not repeat a value, and goes with one audience alone.")
    keys["sts:identitytokenscope"] = scopes
    return RequiredPermission("*", keys), RequiredPermission("*", keys, action="sts:SetWebIdentityTokenScope")


def get_web_identity_token(call: StsCall, p: Params) -> Outcome:
    """Sign a token about the caller; raise OutboundWebIdentityFederationDisabled, SessionDurationEscalation."""
    if p.get("SubjectMode", "AWSIdentity") != "AWSIdentity":
        raise NotImplementedHere("SubjectMode OriginIdentity is not built yet.")
    principal, session = call.signer.principal, call.signer.session
    issuer = call.issuer.issuer(principal.account_id)
    if issuer is None:
        raise OutboundWebIdentityFederationDisabled(
            "Outbound web identity federation is not enabled for this account: call"
            " iam:EnableOutboundWebIdentityFederation first."
        )
    now = to_seconds(call.now)
    expires = now + p.get("DurationSeconds", _DEFAULT)
    # Otherwise a session could extend its life outside, where its expiry and revocation are not checked.
    if session is not None and expires * SECOND > session.expires_at:
        raise SessionDurationEscalation("The token would outlive the session that asks for it.")
    audience, token_id = list(dict.fromkeys(p["Audience"])), str(uuid.UUID(bytes=call.random(16), version=4))
    claims = {
        "iss": issuer,
        "sub": principal.entity_arn,
        "aud": audience[0] if len(audience) == 1 else audience,
        "iat": now,
        "exp": expires,
        "jti": token_id,
        **({"scope": p["Scope"]} if "Scope" in p else {}),
        _NAMESPACE: _aws_claims(call, p),
    }
    if len(encode_claims(claims)) > _MAX_CLAIMS:
        raise JWTPayloadSizeExceeded(
            f"The claims of the token would have more than {_MAX_CLAIMS} bytes: pass fewer tags or audiences."
        )
    # After the check of the size, which is about what callers choose.
    origin = seal_origin(origin_of(call.signer, call.store), issuer, token_id, call.sealer, call.random)
    token = call.issuer.sign(p["SigningAlgorithm"], claims | {CLAIM: origin})
    return Outcome({"WebIdentityToken": token, "Expiration": from_seconds(expires)})


def _aws_claims(call: StsCall, p: Params) -> dict[str, Any]:
    """Return the claims about the caller, which AWS puts under its own namespace."""
    principal, session = call.signer.principal, call.signer.session
    claims: dict[str, Any] = {"aws_account": principal.account_id, "principal_id": principal.entity_arn}
    if call.region:
        claims["source_region"] = call.region
    if session is not None:
        claims |= _session_claims(session, principal.arn)
    if call.signer.tags:
        claims["principal_tags"] = dict(call.signer.tags)
    if p.get("Tags"):
        claims["request_tags"] = {tag["Key"]: tag["Value"] for tag in p["Tags"]}
    return claims


def _session_claims(session: Session, arn: str) -> dict[str, str]:
    grant = session.grant
    claims = {"original_session_exp": iso8601(from_milliseconds(session.expires_at))}
    if grant.kind is SessionKind.ROLE:
        claims["session_arn"] = arn
    if grant.source_identity is not None:
        claims["source_identity"] = grant.source_identity
    provider = next((value for key, value in grant.claims if key == "aws:federatedprovider"), None)
    return claims | ({"federated_provider": provider} if provider is not None else {})
