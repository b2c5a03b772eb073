"""Token exchange (RFC 8693) at /oauth2/token: what proves somebody becomes AWS-style credentials of a role.

A translation and nothing more: each exchange is a call of the STS operation for that kind of proof, decided, recorded
and refused as such. An app needs no AWS SDK and no secret; the answer is JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from broker.aws import edge
from broker.aws.dispatch import Gate
from broker.aws.http import HttpRequest
from broker.providers.oidc.token import read
from iam.errors import InvalidIdentityToken

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
CREDENTIALS = "urn:fedgate:params:oauth:token-type:aws-credentials"
PASSWORD = "urn:fedgate:params:oauth:token-type:password"  # noqa: S105 - the name of a type
_FORM = "application/x-www-form-urlencoded"
_SESSION_NAME = "token-exchange"
_KNOWN = {
    "grant_type", "subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope",
    "client_id", "client_secret", "actor_token", "actor_token_type", "provider", "username", "session_name",
    "duration_seconds", "policy",
}  # fmt: skip


class _Kind(NamedTuple):
    """A kind of proof: the operation of the STS that takes it, and where our parameters go."""

    operation: str
    proof: str
    parameters: Mapping[str, str]


_FOR_ALL = {"duration_seconds": "DurationSeconds", "policy": "Policy"}
_KINDS: Mapping[str, _Kind] = {
    f"{_TYPE}id_token": _Kind("AssumeRoleWithWebIdentity", "WebIdentityToken", {"session_name": "RoleSessionName"}),
    f"{_TYPE}jwt": _Kind("AssumeRoleWithWebIdentity", "WebIdentityToken", {"session_name": "RoleSessionName"}),
    f"{_TYPE}saml2": _Kind("AssumeRoleWithSAML", "SAMLAssertion", {"provider": "PrincipalArn"}),
    PASSWORD: _Kind("AssumeRoleWithLDAPIdentity", "LDAPPassword", {"username": "LDAPUsername"}),
}
# RFC 6749, section 5.2; RFC 8693, section 2.2.2.
_ERRORS = {
    "AccessDenied": "invalid_target",
    "ExpiredTokenException": "invalid_grant",
    "IDPRejectedClaim": "invalid_grant",
    "InvalidIdentityToken": "invalid_grant",
    "Throttling": "temporarily_unavailable",
    "ServiceUnavailable": "temporarily_unavailable",
    "IDPCommunicationError": "temporarily_unavailable",
}


def blueprint(gate: Gate, trusted_proxies: edge.Networks, public_url: str) -> Blueprint:
    """Return the routes."""
    made = Blueprint("token_exchange", __name__)

    @made.get("/.well-known/oauth-authorization-server")
    def about() -> Response:
        told = {
            "issuer": public_url,
            "token_endpoint": f"{public_url}/oauth2/token",
            "grant_types_supported": [GRANT],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
            "subject_token_types_supported": list(_KINDS),
            "requested_token_types_supported": [CREDENTIALS],
        }
        return _json(told, headers={"Cache-Control": "public, max-age=300"})

    @made.post("/oauth2/token")
    def exchange() -> Response:
        head = edge.head(request.environ, trusted_proxies)
        try:
            form = _parameters()
        except _Refused as refused:
            return _refused(400, refused.error, refused.told)
        return _answer(gate.handle(_call(head, form)).body, gate.now())

    return made


class _Refused(Exception):
    """A request that is none; ``error`` is OAuth's word for it."""

    def __init__(self, error: str, told: str) -> None:
        super().__init__(told)
        self.error = error
        self.told = told


def _parameters() -> dict[str, str]:
    """Return the parameters of the call of the STS; raise _Refused."""
    given = {name: values for name, values in request.form.lists() if any(values)}
    twice = [name for name, values in given.items() if len(values) > 1]
    if twice or not given.keys() <= _KNOWN:
        raise _Refused("invalid_request", "A parameter is unknown, or comes twice.")
    form = {name: values[0] for name, values in given.items()}
    if form.get("grant_type") != GRANT:
        raise _Refused("unsupported_grant_type", f"grant_type must be {GRANT}")
    if "client_secret" in form or "Authorization" in request.headers:
        raise _Refused("invalid_client", "Clients have no secret here: the token says whose it is.")
    if "actor_token" in form or "actor_token_type" in form:
        raise _Refused("invalid_request", "Delegation with an actor_token is not built.")
    if "scope" in form:
        raise _Refused("invalid_scope", "There are no scopes: pass a session policy as policy to narrow a role.")
    if form.get("requested_token_type", CREDENTIALS) != CREDENTIALS:
        raise _Refused("invalid_request", f"requested_token_type must be {CREDENTIALS}")
    return _translated(form)


def _translated(form: Mapping[str, str]) -> dict[str, str]:
    kind = _KINDS.get(form.get("subject_token_type", ""))
    if kind is None:
        raise _Refused("invalid_request", f"subject_token_type must be one of {', '.join(_KINDS)}")
    role = form.get("audience") or form.get("resource")
    if role is None or "subject_token" not in form:
        raise _Refused("invalid_request", "subject_token and audience, the ARN of a role, must be there")
    if "audience" in form and "resource" in form:
        raise _Refused("invalid_target", "One role at a time: give audience or resource.")
    _check_client(form, kind)
    call = {"Action": kind.operation, "Version": "2011-06-15", "RoleArn": role, kind.proof: form["subject_token"]}
    if kind.operation == "AssumeRoleWithWebIdentity":
        call["RoleSessionName"] = _SESSION_NAME
    call |= {to: form[name] for name, to in kind.parameters.items() if name in form}
    call |= {
        to: form[name] for name, to in (("duration_seconds", "DurationSeconds"), ("policy", "Policy")) if name in form
    }
    return call


def _check_client(form: Mapping[str, str], kind: _Kind) -> None:
    """Raise _Refused where a client names itself and the token, not verified yet, was issued to another one."""
    client = form.get("client_id")
    if client is None:
        return
    if kind.operation != "AssumeRoleWithWebIdentity":
        raise _Refused("invalid_client", "client_id goes with tokens that name their client.")
    try:
        claims = read(form["subject_token"]).claims
    except InvalidIdentityToken as error:
        raise _Refused("invalid_grant", error.message) from error
    audience = claims.get("azp", claims.get("aud"))
    if client != audience and not (isinstance(audience, list) and client in audience):
        raise _Refused("invalid_client", "The token was issued to another client.")


def _call(head: HttpRequest, parameters: Mapping[str, str]) -> HttpRequest:
    """Return the call of the STS, from the same client."""
    kept = tuple((name, value) for name, value in head.headers if name in ("user-agent", "host", "referer"))
    headers = (*kept, ("content-type", _FORM), ("accept", "application/json"))
    body = urlencode(parameters).encode()
    return replace(head, method="POST", path="/", query="", headers=headers, body=body)


def _answer(body: bytes, now: datetime) -> Response:
    told = json.loads(body)
    if "Error" in told:
        code, message = told["Error"]["Code"], told["Error"]["Message"]
        error = _ERRORS.get(code, "invalid_request" if told["Error"]["Type"] == "Sender" else "server_error")
        status = 503 if error in ("temporarily_unavailable", "server_error") else 400
        return _refused(429 if code == "Throttling" else status, error, message)
    ((_, answer),) = told.items()
    (result,) = (value for name, value in answer.items() if name.endswith("Result"))
    found = result["Credentials"]
    expires = datetime.fromtimestamp(found["Expiration"], UTC)
    return _json(
        {
            "access_token": found["SessionToken"],
            "issued_token_type": CREDENTIALS,
            "token_type": "N_A",
            "expires_in": max(0, int((expires - now).total_seconds())),
            "aws_credentials": {
                "Version": 1,
                "AccessKeyId": found["AccessKeyId"],
                "SecretAccessKey": found["SecretAccessKey"],
                "SessionToken": found["SessionToken"],
                "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "assumed_role": result["AssumedRoleUser"]["Arn"],
        }
    )


def _refused(status: int, error: str, told: str) -> Response:
    return _json({"error": error, "error_description": told}, status)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(value, indent=2) + "\n"
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, content_type="application/json")
