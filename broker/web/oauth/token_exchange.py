"""Token exchange (RFC 8693) at /oauth2/token: a proof of identity becomes credentials of a role, or a JSON Web Token.

A translation and nothing more: each exchange calls the STS operation for that kind of proof at the gate, which decides,
records and refuses it as such. An app needs no AWS SDK and no secret; the answer is JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from flask import Blueprint, Response, request

from broker.api import wsgi_adapter
from broker.api.dispatch import Gate
from broker.api.errors import is_sender_fault
from broker.api.forwarded import TrustedProxies
from broker.api.http import HttpRequest
from broker.audit import record as audit_record
from broker.doors.credential_formats import process_form
from broker.providers.oidc.token import parse_token
from broker.web.core.page_audit import note_recorded
from broker.web.oauth.clients import ClientAuthenticationFailed, ExchangeClients, ShownClient
from iam.errors import AccessDenied, InvalidIdentityToken, ServiceError, ValidationError
from iam.params import Result
from sts.mint import Credentials
from sts.trust import session_name

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:"
_KEPT_HEADERS = {"user-agent", "referer"}  # of which condition keys are made (broker.api.request_keys)
CREDENTIALS = "urn:fedgate:params:oauth:token-type:aws-credentials"
JWT = f"{_TYPE}jwt"
PASSWORD = "urn:fedgate:params:oauth:token-type:password"  # noqa: S105 - the name of a type
# RFC 6749, section 3.3: scope-token.
_SECONDS, _SCOPE = re.compile("[0-9]{1,6}"), re.compile(r"[\x21\x23-\x2B\x2D-\x5B\x5D-\x7E]+")
_PARAMETERS = {
    "grant_type", "subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope",
    "client_id", "client_secret", "actor_token", "actor_token_type", "provider", "username", "session_name",
    "duration_seconds", "policy", "token_seconds", "serial_number", "token_code",
}  # fmt: skip


class _SubjectTokenType(NamedTuple):
    """A kind of proof: the operation of the STS that takes it, and the operation's name for each form parameter."""

    sts_operation: str
    token_parameter: str
    parameters: Mapping[str, str]
    default_session_name: Callable[[str], str] | None = None


def _session_name_of_subject(token: str) -> str:
    """Return the session name for a token that is not verified yet, where the request gives none."""
    try:
        unverified = parse_token(token)
    except InvalidIdentityToken as error:
        raise _OAuthError("invalid_grant", error.message) from error
    subject = unverified.claims.get("sub")
    return session_name(str(subject), f"{unverified.issuer}|{subject}")


_FOR_ALL = {"duration_seconds": "DurationSeconds", "policy": "Policy"}
_WEB_IDENTITY = _SubjectTokenType(
    "AssumeRoleWithWebIdentity",
    "WebIdentityToken",
    {"session_name": "RoleSessionName"},
    _session_name_of_subject,
)
_SUBJECT_TOKEN_TYPES: Mapping[str, _SubjectTokenType] = {
    f"{_TYPE}id_token": _WEB_IDENTITY,
    f"{_TYPE}jwt": _WEB_IDENTITY,
    f"{_TYPE}saml2": _SubjectTokenType("AssumeRoleWithSAML", "SAMLAssertion", {"provider": "PrincipalArn"}),
    PASSWORD: _SubjectTokenType(
        "AssumeRoleWithLDAPIdentity",
        "LDAPPassword",
        {"username": "LDAPUsername", "serial_number": "SerialNumber", "token_code": "TokenCode"},
    ),
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
    gate: Gate, clients: ExchangeClients, trusted_proxies: TrustedProxies, public_url: str, region: str
) -> Blueprint:
    """Return the routes."""
    made = Blueprint("token_exchange", __name__)

    @made.get("/.well-known/oauth-authorization-server")
    def metadata() -> Response:
        document = {
            "issuer": public_url,
            "token_endpoint": f"{public_url}/oauth2/token",
            "grant_types_supported": [GRANT],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": clients.methods,
            "subject_token_types_supported": list(_SUBJECT_TOKEN_TYPES),
            "requested_token_types_supported": [CREDENTIALS, JWT],
        }
        return _json(document, headers={"Cache-Control": "public, max-age=300"})

    @made.post("/oauth2/token")
    def exchange() -> Response:
        head = wsgi_adapter.read_request_head(request.environ, trusted_proxies)
        try:
            asked = _parse_form(clients, head.counted_address, gate.now())
        except (_OAuthError, ClientAuthenticationFailed, ServiceError) as error:
            note_recorded()
            return _refuse(gate, head, error)
        try:
            return _exchange(gate, asked, replace(head, client=asked.client), region)
        except ServiceError as error:  # the gate has recorded it
            note_recorded()
            return _sts_error_response(error)

    return made


def _refuse(gate: Gate, head: HttpRequest, error: Exception) -> Response:
    """Return the answer to a request that the STS does not see, after its audit record."""
    try:
        state = gate.new_request_state(head)
        gate.audit.append(audit_record.console_event_record(state, "TokenExchange", None, None, error=_recorded(error)))
    except ServiceError as unrecorded:
        error = unrecorded
    if isinstance(error, ClientAuthenticationFailed):
        challenge = {"WWW-Authenticate": 'Basic realm="fedgate"'}
        return _json({"error": "invalid_client", "error_description": str(error)}, 401, challenge)
    if isinstance(error, _OAuthError):
        return _error_response(400, error.error, error.description)
    return _sts_error_response(_recorded(error))


def _recorded(error: Exception) -> ServiceError:
    """Return the error under which a refusal of the form is recorded."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, _OAuthError):
        return ValidationError(error.description, log=error.error)
    return AccessDenied(str(error), log="invalid_client")


class _OAuthError(Exception):
    """A request that is invalid before the STS sees it; ``error`` is a code of RFC 6749 or RFC 8693."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class _ExchangeRequest(NamedTuple):
    """A request read from its form.

    ``parameters`` are those of ``operation``, which takes the proof; ``token`` are those of GetWebIdentityToken, or
    None where the client wants credentials. ``client`` is the registered client, or empty.
    """

    client: str
    operation: str
    parameters: Mapping[str, str]
    token: Mapping[str, str] | None


def _exchange(gate: Gate, asked: _ExchangeRequest, head: HttpRequest, region: str) -> Response:
    """Call the STS for what is asked; raise ServiceError."""
    seen, wanted = _sts_request(head), asked.token

    def check_token(result: Result) -> None:
        # Before the proof is used up: whoever can get no token may use the proof again, for something else.
        if wanted is not None:
            gate.check(seen, "GetWebIdentityToken", wanted, credentials=_credentials(result), region=region)

    result = gate.call(seen, asked.operation, asked.parameters, region=region, before_consuming=check_token)
    if wanted is None:
        return _credentials_response(result, gate.now())
    # As the session just begun: its policies, a revocation of the person and the audit record hold as for any caller.
    token = gate.call(seen, "GetWebIdentityToken", wanted, credentials=_credentials(result), region=region)
    return _token_response(token, wanted.get("Scope"), gate.now())


def _sts_request(head: HttpRequest) -> HttpRequest:
    """Return the request as the STS sees it: from the same client, and nothing of the OAuth form or its query.

    Both calls of an exchange see this one: a condition that denies one of them holds for the other.
    """
    kept = tuple((name, value) for name, value in head.headers if name in _KEPT_HEADERS)
    return replace(head, path="/", query="", headers=kept)


# --- reading the form -------------------------------------------------------------------------------------------------


def _parse_form(clients: ExchangeClients, source: str, now: datetime) -> _ExchangeRequest:
    """Return what the request asks for; raise _OAuthError, ClientAuthenticationFailed, Throttling."""
    form = _form()
    if form.get("grant_type") != GRANT:
        raise _OAuthError("unsupported_grant_type", f"grant_type must be {GRANT}")
    shown = ShownClient(request.headers.get("Authorization"), form.get("client_id"), form.get("client_secret"))
    client = clients.authenticate(shown, source, now)
    wanted = _requested_token_type(form)
    if client is None:
        _check_client_id(form)
    operation, parameters = _sts_parameters(form)
    return _ExchangeRequest(client or "", operation, parameters, _token_parameters(form) if wanted == JWT else None)


def _form() -> dict[str, str]:
    """Return the form, each parameter once (RFC 6749, section 3.2); one without a value counts as left out."""
    given = {name: values for name, values in request.form.lists() if any(values)}
    if any(len(values) > 1 for values in given.values()) or not given.keys() <= _PARAMETERS:
        raise _OAuthError("invalid_request", "A parameter is unknown, or comes twice.")
    return {name: values[0] for name, values in given.items()}


def _requested_token_type(form: Mapping[str, str]) -> str:
    if "actor_token" in form or "actor_token_type" in form:
        raise _OAuthError("invalid_request", "Delegation with an actor_token is not built.")
    wanted = form.get("requested_token_type", CREDENTIALS)
    if wanted not in (CREDENTIALS, JWT):
        raise _OAuthError("invalid_request", f"requested_token_type must be {CREDENTIALS} or {JWT}")
    if "scope" in form and wanted != JWT:
        raise _OAuthError(
            "invalid_scope", "Credentials have no scopes: pass a session policy as policy to narrow a role."
        )
    return wanted


def _token_parameters(form: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of GetWebIdentityToken: ``resource`` is the audience of the token.

    What can be seen to be wrong is refused here, before the first call uses up a proof that counts once.
    """
    if "resource" not in form or "audience" not in form:
        raise _OAuthError(
            "invalid_target", "A token needs audience, the ARN of a role, and resource, who shall read it."
        )
    token_seconds, session_seconds = form.get("token_seconds", "300"), form.get("duration_seconds", "3600")
    if not _SECONDS.fullmatch(token_seconds) or not 60 <= int(token_seconds) <= 3600:  # noqa: PLR2004 - in the message
        raise _OAuthError("invalid_request", "token_seconds must be 60 to 3600")
    if _SECONDS.fullmatch(session_seconds) and int(session_seconds) < int(token_seconds):
        raise _OAuthError("invalid_request", "token_seconds must not be more than duration_seconds")
    scopes = form.get("scope", "x").split(" ")
    if len(set(scopes)) < len(scopes) or not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise _OAuthError("invalid_scope", "scope must be values with one space between them, none of them twice")
    scope = {"Scope": form["scope"]} if "scope" in form else {}
    return {
        "Audience.member.1": form["resource"],
        "SigningAlgorithm": "RS256",
        "DurationSeconds": token_seconds,
        **scope,
    }


def _sts_parameters(form: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the operation that takes the proof, and its parameters in the spelling of the query protocol."""
    kind = _SUBJECT_TOKEN_TYPES.get(form.get("subject_token_type", ""))
    if kind is None:
        raise _OAuthError("invalid_request", f"subject_token_type must be one of {', '.join(_SUBJECT_TOKEN_TYPES)}")
    role = form.get("audience")
    if role is None or "subject_token" not in form:
        raise _OAuthError("invalid_request", "subject_token and audience, the ARN of a role, must be there")
    if "resource" in form and form.get("requested_token_type") != JWT:
        raise _OAuthError("invalid_target", "resource is for tokens: credentials are for the role in audience alone.")
    names = {**kind.parameters, **_FOR_ALL}
    given = {parameter: form[name] for name, parameter in names.items() if name in form}
    if kind.default_session_name is not None and "RoleSessionName" not in given:
        given["RoleSessionName"] = kind.default_session_name(form["subject_token"])
    return kind.sts_operation, {
        "RoleArn": role,
        kind.token_parameter: form["subject_token"],
        **given,
    }


def _check_client_id(form: Mapping[str, str]) -> None:
    """Raise _OAuthError where an unregistered client names itself and the token was issued to another client.

    The token is not verified yet: this protects a client from its own mix-up (RFC 8693, section 2.1), nothing else.
    """
    client_id = form.get("client_id")
    if client_id is None:
        return
    kind = _SUBJECT_TOKEN_TYPES.get(form.get("subject_token_type", ""))
    if kind is not _WEB_IDENTITY:
        raise _OAuthError("invalid_client", "client_id goes with tokens that name their client.")
    try:
        unverified_claims = parse_token(form.get("subject_token", "")).claims
    except InvalidIdentityToken as error:
        raise _OAuthError("invalid_grant", error.message) from error
    audience = unverified_claims.get("azp", unverified_claims.get("aud"))
    if client_id != audience and not (isinstance(audience, list) and client_id in audience):
        raise _OAuthError("invalid_client", "The token was issued to another client.")


# --- answers ----------------------------------------------------------------------------------------------------------


def _credentials(result: Result) -> Credentials:
    given = result["Credentials"]
    return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], given["Expiration"])


def _sts_error_response(error: ServiceError) -> Response:
    name = _ERRORS.get(error.code, "invalid_request" if is_sender_fault(error) else "server_error")
    status = 503 if name in ("temporarily_unavailable", "server_error") else 400
    return _error_response(429 if error.code == "Throttling" else status, name, error.message)


def _credentials_response(result: Result, now: datetime) -> Response:
    credentials = result["Credentials"]
    return _json(
        {
            "access_token": credentials["SessionToken"],
            "issued_token_type": CREDENTIALS,
            "token_type": "N_A",
            "expires_in": _seconds_until(credentials["Expiration"], now),
            "aws_credentials": process_form(credentials),
            "assumed_role": result["AssumedRoleUser"]["Arn"],
        }
    )


def _token_response(result: Result, scope: str | None, now: datetime) -> Response:
    answer = {
        "access_token": result["WebIdentityToken"],
        "issued_token_type": JWT,
        "token_type": "Bearer",
        "expires_in": _seconds_until(result["Expiration"], now),
    }
    return _json(answer | ({"scope": scope} if scope is not None else {}))


def _seconds_until(moment: datetime, now: datetime) -> int:
    return max(0, int((moment - now).total_seconds()))


def _error_response(status: int, error: str, description: str) -> Response:
    return _json({"error": error, "error_description": description}, status)


def _json(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(value, indent=2) + "\n"
    return Response(text, status, {"Cache-Control": "no-store", **(headers or {})}, content_type="application/json")
