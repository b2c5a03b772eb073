"""Token exchange (RFC 8693) at /oauth2/token: what proves somebody becomes credentials of a role, or a token of ours.

A translation and nothing more: each exchange is a call of the STS operation for that kind of proof, decided, recorded
and refused as such. An app needs no AWS SDK and no secret; the answer is JSON.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from broker.api import wsgi_adapter
from broker.api.dispatch import Gate
from broker.api.http import HttpRequest
from broker.doors.credential_formats import process_form
from broker.providers.oidc.token import parse_token
from broker.web.oauth.clients import ClientAuthenticationFailed, ExchangeClients
from iam.errors import InvalidIdentityToken
from sts.sigv4 import sign

log = logging.getLogger(__name__)

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
CREDENTIALS = "urn:fedgate:params:oauth:token-type:aws-credentials"
JWT = f"{_TYPE}jwt"
PASSWORD = "urn:fedgate:params:oauth:token-type:password"  # noqa: S105 - the name of a type
_FORM = "application/x-www-form-urlencoded"
_SECONDS, _SCOPE = re.compile("[0-9]{1,6}"), re.compile(r"[\x21\x23-\x2B\x2D-\x5B\x5D-\x7E]+")
_SESSION_NAME = "token-exchange"
_PARAMETERS = {
    "grant_type", "subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope",
    "client_id", "client_secret", "actor_token", "actor_token_type", "provider", "username", "session_name",
    "duration_seconds", "policy", "token_seconds",
}  # fmt: skip


class _SubjectTokenType(NamedTuple):
    """A kind of proof: the operation of the STS that takes it, and where our parameters go."""

    sts_operation: str
    token_parameter: str
    parameters: Mapping[str, str]


_FOR_ALL = {"duration_seconds": "DurationSeconds", "policy": "Policy"}
_SUBJECT_TOKEN_TYPES: Mapping[str, _SubjectTokenType] = {
    f"{_TYPE}id_token": _SubjectTokenType(
        "AssumeRoleWithWebIdentity", "WebIdentityToken", {"session_name": "RoleSessionName"}
    ),
    f"{_TYPE}jwt": _SubjectTokenType(
        "AssumeRoleWithWebIdentity", "WebIdentityToken", {"session_name": "RoleSessionName"}
    ),
    f"{_TYPE}saml2": _SubjectTokenType("AssumeRoleWithSAML", "SAMLAssertion", {"provider": "PrincipalArn"}),
    PASSWORD: _SubjectTokenType("AssumeRoleWithLDAPIdentity", "LDAPPassword", {"username": "LDAPUsername"}),
}
# RFC 6749, section 5.2; RFC 8693, section 2.2.2.
_ERRORS = {
    "AccessDenied": "invalid_target",
    "OutboundWebIdentityFederationDisabledException": "invalid_target",
    "ExpiredTokenException": "invalid_grant",
    "IDPRejectedClaim": "invalid_grant",
    "InvalidIdentityToken": "invalid_grant",
    "Throttling": "temporarily_unavailable",
    "ServiceUnavailable": "temporarily_unavailable",
    "IDPCommunicationError": "temporarily_unavailable",
}


def blueprint(
    gate: Gate, clients: ExchangeClients, trusted_proxies: wsgi_adapter.Networks, public_url: str, region: str
) -> Blueprint:
    """Return the routes."""
    made = Blueprint("token_exchange", __name__)

    @made.get("/.well-known/oauth-authorization-server")
    def metadata() -> Response:
        told = {
            "issuer": public_url,
            "token_endpoint": f"{public_url}/oauth2/token",
            "grant_types_supported": [GRANT],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": clients.methods,
            "subject_token_types_supported": list(_SUBJECT_TOKEN_TYPES),
            "requested_token_types_supported": [CREDENTIALS, JWT],
        }
        return _json(told, headers={"Cache-Control": "public, max-age=300"})

    @made.post("/oauth2/token")
    def exchange() -> Response:
        head = wsgi_adapter.read_request_head(request.environ, trusted_proxies)
        try:
            form = _parameters(clients)
        except _OAuthError as refused:
            return _error_response(400, refused.error, refused.told)
        except ClientAuthenticationFailed as refused:
            log.warning("token exchange from %s: the client did not prove itself: %s", head.source_ip, refused)
            challenge = {"WWW-Authenticate": 'Basic realm="fedgate"'}
            return _json({"error": "invalid_client", "error_description": str(refused)}, 401, challenge)
        head = replace(head, client=form.client)
        given, body = _credentials(gate.handle(_sts_request(head, form.call)).body)
        if given is None:
            return _sts_error_response(body)
        if form.token is None:
            return _credentials_response(given, body, gate.now())
        return _token_response(
            gate.handle(_signed_sts_request(head, form.token, given, gate.now(), region)).body, form.token, gate.now()
        )

    return made


class _OAuthError(Exception):
    """A request that is none; ``error`` is OAuth's word for it."""

    def __init__(self, error: str, told: str) -> None:
        super().__init__(told)
        self.error = error
        self.told = told


class _ExchangeRequest(NamedTuple):
    """The parameters of the call that proves somebody, and of the call for a token of ours, where one is wanted."""

    client: str
    call: Mapping[str, str]
    token: Mapping[str, str] | None


def _parameters(clients: ExchangeClients) -> _ExchangeRequest:
    """Return what is asked of the STS, and by which registered client, if by any; raise _Refused or ClientRefused."""
    given = {name: values for name, values in request.form.lists() if any(values)}
    twice = [name for name, values in given.items() if len(values) > 1]
    if twice or not given.keys() <= _PARAMETERS:
        raise _OAuthError("invalid_request", "A parameter is unknown, or comes twice.")
    form = {name: values[0] for name, values in given.items()}
    if form.get("grant_type") != GRANT:
        raise _OAuthError("unsupported_grant_type", f"grant_type must be {GRANT}")
    client = clients.authenticate(
        request.headers.get("Authorization"), form.get("client_id"), form.get("client_secret")
    )
    if "actor_token" in form or "actor_token_type" in form:
        raise _OAuthError("invalid_request", "Delegation with an actor_token is not built.")
    wanted = form.get("requested_token_type", CREDENTIALS)
    if wanted not in (CREDENTIALS, JWT):
        raise _OAuthError("invalid_request", f"requested_token_type must be {CREDENTIALS} or {JWT}")
    if "scope" in form and wanted != JWT:
        raise _OAuthError(
            "invalid_scope", "Credentials have no scopes: pass a session policy as policy to narrow a role."
        )
    if client is None:
        _check_client(form)
    return _ExchangeRequest(client or "", _sts_parameters(form), _token_parameters(form) if wanted == JWT else None)


def _token_parameters(form: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of the token of ours that is wanted: ``resource`` is who shall read it.

    What can be seen to be wrong is refused here, before a proof that counts once is spent.
    """
    if "resource" not in form or "audience" not in form:
        raise _OAuthError(
            "invalid_target", "A token needs audience, the ARN of a role, and resource, who shall read it."
        )
    seconds, whole = form.get("token_seconds", "300"), form.get("duration_seconds", "3600")
    if not _SECONDS.fullmatch(seconds) or not 60 <= int(seconds) <= 3600:  # noqa: PLR2004 - both said in the sentence
        raise _OAuthError("invalid_request", "token_seconds must be 60 to 3600")
    if _SECONDS.fullmatch(whole) and int(whole) < int(seconds):
        raise _OAuthError("invalid_request", "token_seconds must not be more than duration_seconds")
    scopes = form.get("scope", "x").split(" ")
    if len(set(scopes)) < len(scopes) or not all(_SCOPE.fullmatch(one) for one in scopes):
        raise _OAuthError("invalid_scope", "scope must be values with one space between them, none of them twice")
    call = {"Action": "GetWebIdentityToken", "Version": "2011-06-15", "Audience.member.1": form["resource"]}
    call |= {"SigningAlgorithm": "RS256", "DurationSeconds": seconds}
    return call | ({"Scope": form["scope"]} if "scope" in form else {})


def _sts_parameters(form: Mapping[str, str]) -> dict[str, str]:
    kind = _SUBJECT_TOKEN_TYPES.get(form.get("subject_token_type", ""))
    if kind is None:
        raise _OAuthError("invalid_request", f"subject_token_type must be one of {', '.join(_SUBJECT_TOKEN_TYPES)}")
    role = form.get("audience")
    if role is None or "subject_token" not in form:
        raise _OAuthError("invalid_request", "subject_token and audience, the ARN of a role, must be there")
    if "resource" in form and form.get("requested_token_type") != JWT:
        raise _OAuthError("invalid_target", "resource is for tokens: credentials are for the role in audience alone.")
    call = {
        "Action": kind.sts_operation,
        "Version": "2011-06-15",
        "RoleArn": role,
        kind.token_parameter: form["subject_token"],
    }
    if kind.sts_operation == "AssumeRoleWithWebIdentity":
        call["RoleSessionName"] = _SESSION_NAME
    call |= {to: form[name] for name, to in kind.parameters.items() if name in form}
    call |= {
        to: form[name] for name, to in (("duration_seconds", "DurationSeconds"), ("policy", "Policy")) if name in form
    }
    return call


def _check_client(form: Mapping[str, str]) -> None:
    """Raise _Refused where an unregistered client names itself and the token, not verified yet, is another one's."""
    client = form.get("client_id")
    if client is None:
        return
    kind = _SUBJECT_TOKEN_TYPES.get(form.get("subject_token_type", ""))
    if kind is None or kind.sts_operation != "AssumeRoleWithWebIdentity":
        raise _OAuthError("invalid_client", "client_id goes with tokens that name their client.")
    try:
        claims = parse_token(form.get("subject_token", "")).claims
    except InvalidIdentityToken as error:
        raise _OAuthError("invalid_grant", error.message) from error
    audience = claims.get("azp", claims.get("aud"))
    if client != audience and not (isinstance(audience, list) and client in audience):
        raise _OAuthError("invalid_client", "The token was issued to another client.")


def _sts_request(head: HttpRequest, parameters: Mapping[str, str]) -> HttpRequest:
    """Return the call of the STS, from the same client."""
    kept = tuple((name, value) for name, value in head.headers if name in ("user-agent", "host", "referer"))
    headers = (*kept, ("content-type", _FORM), ("accept", "application/json"))
    body = urlencode(parameters).encode()
    return replace(head, method="POST", path="/", query="", headers=headers, body=body)


def _signed_sts_request(
    head: HttpRequest, call: Mapping[str, str], found: Mapping[str, Any], now: datetime, region: str
) -> HttpRequest:
    """Return a call of the STS that is signed with the credentials that were just given, from the same client."""
    body = urlencode(call).encode()
    signed = sign(
        head.header("host") or "",
        body,
        key_id=found["AccessKeyId"],
        secret=found["SecretAccessKey"],
        token=found["SessionToken"],
        now=now,
        region=region,
        service="sts",
    )
    kept = tuple((name, value) for name, value in head.headers if name == "user-agent")
    headers = (*kept, *signed, ("content-type", _FORM), ("accept", "application/json"))
    return replace(head, method="POST", path="/", query="", headers=headers, body=body)


def _credentials(body: bytes) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the credentials of an answer, and its result; None and the error where it was refused."""
    told = json.loads(body)
    if "Error" in told:
        return None, told["Error"]
    result = _result(told)
    return result["Credentials"], result


def _result(told: Mapping[str, Any]) -> dict[str, Any]:
    ((_, answer),) = told.items()
    (result,) = (value for name, value in answer.items() if name.endswith("Result"))
    found: dict[str, Any] = result
    return found


def _sts_error_response(error: Mapping[str, Any]) -> Response:
    code = error["Code"]
    name = _ERRORS.get(code, "invalid_request" if error["Type"] == "Sender" else "server_error")
    status = 503 if name in ("temporarily_unavailable", "server_error") else 400
    return _error_response(429 if code == "Throttling" else status, name, error["Message"])


def _credentials_response(found: Mapping[str, Any], result: Mapping[str, Any], now: datetime) -> Response:
    expires = datetime.fromtimestamp(found["Expiration"], UTC)
    return _json(
        {
            "access_token": found["SessionToken"],
            "issued_token_type": CREDENTIALS,
            "token_type": "N_A",
            "expires_in": max(0, int((expires - now).total_seconds())),
            "aws_credentials": process_form({**found, "Expiration": expires}),
            "assumed_role": result["AssumedRoleUser"]["Arn"],
        }
    )


def _token_response(body: bytes, asked: Mapping[str, str], now: datetime) -> Response:
    told = json.loads(body)
    if "Error" in told:
        return _sts_error_response(told["Error"])
    result = _result(told)
    expires = datetime.fromtimestamp(result["Expiration"], UTC)
    answer = {
        "access_token": result["WebIdentityToken"],
        "issued_token_type": JWT,
        "token_type": "Bearer",
        "expires_in": max(0, int((expires - now).total_seconds())),
    }
    return _json(answer | ({"scope": asked["Scope"]} if "Scope" in asked else {}))


def _error_response(status: int, error: str, told: str) -> Response:
    return _json({"error": error, "error_description": told}, status)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(value, indent=2) + "\n"
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, content_type="application/json")
