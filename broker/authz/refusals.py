"""How a refusal is told to the client: with the codes, statuses and body of the service that it called.

Pure. Sources: Amazon S3 API reference, "Error responses"; API Gateway Developer Guide, "Gateway response types" and the
exceptions that SDKs know of every service ("Common Errors").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final, NamedTuple

from broker.api.errors import status
from broker.authz.resource import ResourceKind
from broker.authz.service_state import ServiceState
from iam import errors
from iam.errors import ServiceError

_SIGV4_ONLY: Final = (
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256: in boto3"
    " Config(signature_version='s3v4'), which presigned URLs need as well; no multi-Region access points."
)


class Form(NamedTuple):
    """Status and code of an error; the message, in which {message} is the error's own."""

    status: int
    code: str
    message: str = "{message}"


_SIGNATURE: Final = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
_S3: Final[Mapping[type[ServiceError], Form]] = {
    errors.AccessDenied: Form(403, "AccessDenied"),
    errors.AuthorizationQueryParametersError: Form(400, "AuthorizationQueryParametersError"),
    errors.ExpiredToken: Form(400, "ExpiredToken", "The provided token has expired."),
    errors.HeadersNotSigned: Form(
        403, "AccessDenied", "There were headers present in the request which were not signed"
    ),
    errors.IncompleteSignature: Form(
        400, "AuthorizationHeaderMalformed", "The authorization header is malformed; {message}"
    ),
    errors.InternalFailure: Form(500, "InternalError", "We encountered an internal error. Please try again."),
    errors.InvalidClientTokenId: Form(
        403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
    ),
    errors.MalformedQueryString: Form(400, "InvalidURI"),
    errors.MissingAuthenticationToken: Form(403, "AccessDenied", "Access Denied"),
    errors.NotImplementedHere: Form(501, "NotImplemented"),
    errors.PayloadHashRefused: Form(400, "InvalidRequest"),
    errors.RequestExpired: Form(403, "AccessDenied", "Request has expired"),
    errors.RequestTimeTooSkewed: Form(
        403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
    ),
    errors.SignatureDoesNotMatch: Form(403, "SignatureDoesNotMatch", _SIGNATURE),
    errors.Throttling: Form(503, "SlowDown", "Please reduce your request rate."),
    errors.UnsupportedAlgorithm: Form(400, "InvalidRequest", _SIGV4_ONLY),
    errors.WrongScope: Form(400, "AuthorizationHeaderMalformed", "The authorization header is malformed; {message}"),
}
_INVALID_TOKEN: Final = Form(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
_HTTP: Final[Mapping[type[ServiceError], Form]] = {
    errors.AccessDenied: Form(403, "AccessDeniedException"),
    errors.AuthorizationQueryParametersError: Form(403, "IncompleteSignatureException"),
    errors.ExpiredToken: Form(403, "ExpiredTokenException", "The security token included in the request is expired"),
    errors.IncompleteSignature: Form(403, "IncompleteSignatureException"),
    errors.InternalFailure: Form(500, "InternalServerErrorException", "Internal server error"),
    errors.InvalidClientTokenId: Form(
        403, "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
    errors.InvalidRequest: Form(400, "BadRequestException"),
    errors.InvalidURI: Form(400, "BadRequestException"),
    errors.MalformedQueryString: Form(400, "BadRequestException"),
    errors.MissingAuthenticationToken: Form(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
    errors.NotImplementedHere: Form(501, "UnsupportedOperationException"),
    errors.ServiceUnavailable: Form(503, "ServiceUnavailableException"),
    errors.SignatureDoesNotMatch: Form(403, "InvalidSignatureException"),
    errors.Throttling: Form(429, "TooManyRequestsException", "Too Many Requests"),
    errors.ValidationError: Form(400, "BadRequestException"),
}
_FORMS: Final = {ResourceKind.S3: _S3, ResourceKind.HTTP: _HTTP}
_CONTENT_TYPES: Final = {ResourceKind.S3: "application/xml", ResourceKind.HTTP: "application/json"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the client of a request is told; ``path`` is the raw path of the request."""

    kind: ResourceKind
    status: int
    code: str
    message: str
    path: str
    request_id: str
    retry_after: int = 0

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers of the answer."""
        id_header = ("x-amz-request-id" if self.kind is ResourceKind.S3 else "x-amzn-RequestId", self.request_id)
        more = [("Retry-After", str(self.retry_after))] if self.retry_after else []
        more += [("x-amzn-ErrorType", self.code)] if self.kind is ResourceKind.HTTP else []
        return (("Content-Type", _CONTENT_TYPES[self.kind]), id_header, ("Cache-Control", "no-store"), *more)

    def body(self) -> bytes:
        """Return the body of the answer, as SDKs read it."""
        return _BODIES[self.kind](self)


def refusal_of(state: ServiceState, error: ServiceError) -> Refusal:
    """Return what the client of a refused request is told."""
    kind = state.resource.kind if state.resource else ResourceKind.HTTP
    form = _form(kind, state, error)
    return Refusal(
        kind,
        form.status,
        form.code,
        form.message.format(message=_message(kind, state, error)) if "{" in form.message else form.message,
        state.request.path,
        state.id,
        error.retry_after if isinstance(error, errors.Throttling | errors.ServiceUnavailable) else 0,
    )


def _form(kind: ResourceKind, state: ServiceState, error: ServiceError) -> Form:
    if kind is ResourceKind.S3 and type(error) is errors.InvalidClientTokenId and _has_token(state):
        return _INVALID_TOKEN
    forms = _FORMS[kind]
    found = next((forms[family] for family in type(error).__mro__ if family in forms), None)
    return found or Form(status(error), error.code)


def _has_token(state: ServiceState) -> bool:
    return state.presented is not None and bool(state.presented.token)


def _message(kind: ResourceKind, state: ServiceState, error: ServiceError) -> str:
    """Return the message of an error; S3 writes the ARN of a denial in quotation marks, other services do not."""
    if kind is not ResourceKind.S3 or state.denial is None:
        return error.message
    arn = state.denial.context.resource
    return error.message.replace(f"on resource: {arn}", f'on resource: "{arn}"', 1)


def _xml(refusal: Refusal) -> bytes:
    members = {
        "Code": refusal.code,
        "Message": refusal.message,
        "Resource": refusal.path,
        "RequestId": refusal.request_id,
        "HostId": refusal.request_id,
    }
    inner = "".join(f"<{name}>{_text(value)}</{name}>" for name, value in members.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()


def _text(value: str) -> str:
    """Return a text escaped for XML, in which control characters are not allowed even so (XML 1.0, section 2.2)."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value), quote=False)


def _json(refusal: Refusal) -> bytes:
    return json.dumps({"message": refusal.message}).encode()


_BODIES: Final = {ResourceKind.S3: _xml, ResourceKind.HTTP: _json}
