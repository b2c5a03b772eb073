"""The errors of the API: one class per error code. The HTTP layer chooses the status and the format."""

from typing import ClassVar, Final

MAX_MESSAGE: Final = 2048  # characters: a message repeats input, and is in the answer and in the audit record
_MAX_EXCERPT: Final = 256


def excerpt(text: str, most: int = _MAX_EXCERPT) -> str:
    """Return what a message repeats of an input: all of a short text, the beginning of a long one."""
    return text if len(text) <= most else f"{text[:most]}..."


class ServiceError(Exception):
    """An error response; ``message`` is for the caller, ``log`` has details for the operator only.

    Both are cut at ``MAX_MESSAGE`` characters, whatever they repeat of the request.
    """

    code: ClassVar[str] = "InternalFailure"

    def __init__(self, message: str, *, log: str = "") -> None:
        self.message = excerpt(message, MAX_MESSAGE)
        self.log = excerpt(log, MAX_MESSAGE) or self.message
        super().__init__(self.message)


class AccessDenied(ServiceError):
    """The caller does not have permission; ``encoded`` is the message that DecodeAuthorizationMessage decodes."""

    code = "AccessDenied"

    def __init__(self, message: str, *, log: str = "", encoded: str = "") -> None:
        super().__init__(message, log=log)
        self.encoded = encoded


class AuthorizationQueryParametersError(ServiceError):
    """The X-Amz-* parameters of a presigned request are invalid."""

    code = "AuthorizationQueryParametersError"


class ConcurrentModification(ServiceError):
    """Simultaneous requests changed the same resource."""

    code = "ConcurrentModification"


class CredentialReportNotPresent(ServiceError):
    """No credential report has been generated yet."""

    code = "ReportNotPresent"


class CredentialReportExpired(ServiceError):
    """The last credential report is older than four hours."""

    code = "ReportExpired"


class DeleteConflict(ServiceError):
    """The resource cannot be deleted because others depend on it."""

    code = "DeleteConflict"


class EntityAlreadyExists(ServiceError):
    """A resource with this name already exists."""

    code = "EntityAlreadyExists"


class EntityTemporarilyUnmodifiable(ServiceError):
    """The resource cannot be changed at this time."""

    code = "EntityTemporarilyUnmodifiable"


class ExpiredToken(ServiceError):
    """The temporary credentials have expired."""

    code = "ExpiredToken"


class ExpiredTokenException(ServiceError):
    """The token or assertion from an identity provider has expired."""

    code = "ExpiredTokenException"


class FeatureDisabled(ServiceError):
    """The feature is not enabled in the account."""

    code = "FeatureDisabled"


class FeatureEnabled(ServiceError):
    """The feature is already enabled in the account."""

    code = "FeatureEnabled"


class IDPCommunicationError(ServiceError):
    """The identity provider cannot be reached."""

    code = "IDPCommunicationError"


class OpenIdIdpCommunicationError(ServiceError):
    """The issuer of a new OpenID Connect provider cannot be reached."""

    code = "OpenIdIdpCommunicationError"


class IDPRejectedClaim(ServiceError):
    """The identity provider rejected the sign-in."""

    code = "IDPRejectedClaim"


class IncompleteSignature(ServiceError):
    """The request's signature lacks a part or is malformed."""

    code = "IncompleteSignature"


class UnsupportedAlgorithm(IncompleteSignature):
    """The request is signed in another way than AWS Signature Version 4 with HMAC-SHA256."""


class InternalFailure(ServiceError):
    """An unexpected error; search for the request id in the log."""

    code = "InternalFailure"


class InvalidAction(ServiceError):
    """The operation does not exist in this API version."""

    code = "InvalidAction"


class InvalidAuthenticationCode(ServiceError):
    """The codes of the MFA device are not valid."""

    code = "InvalidAuthenticationCode"


class InvalidAuthorizationMessage(ServiceError):
    """The encoded authorization message was not created here, or was changed."""

    code = "InvalidAuthorizationMessageException"


class InvalidClientTokenId(ServiceError):
    """The access key or its token is unknown, inactive, revoked or malformed."""

    code = "InvalidClientTokenId"


class InvalidBucketName(ServiceError):
    """The name of the bucket is not valid."""

    code = "InvalidBucketName"


class InvalidIdentityToken(ServiceError):
    """The token or assertion from an identity provider cannot be accepted."""

    code = "InvalidIdentityToken"


class InvalidInput(ServiceError):
    """A value has the right format but is not valid here."""

    code = "InvalidInput"


class InvalidRequest(ServiceError):
    """The request to an S3 resource has a form that cannot be forwarded."""

    code = "InvalidRequest"


class InvalidURI(ServiceError):
    """The path or the host of a request to an S3 resource cannot be read."""

    code = "InvalidURI"


class InvalidUserType(ServiceError):
    """The operation is not available to this kind of caller, such as ChangePassword for root."""

    code = "InvalidUserType"


class JWTPayloadSizeExceeded(ServiceError):
    """The claims of the token are too large."""

    code = "JWTPayloadSizeExceededException"


class LimitExceeded(ServiceError):
    """A quota is reached."""

    code = "LimitExceeded"


class MalformedInput(ServiceError):
    """A parameter cannot be parsed as its type."""

    code = "MalformedInput"


class MalformedPolicyDocument(ServiceError):
    """The policy is malformed or has an element that is not allowed in it."""

    code = "MalformedPolicyDocument"


class MalformedQueryString(ServiceError):
    """The query string or form cannot be decoded."""

    code = "MalformedQueryString"


class MissingAction(ServiceError):
    """The request names no operation."""

    code = "MissingAction"


class MissingAuthenticationToken(ServiceError):
    """The operation needs a signature and the request has none."""

    code = "MissingAuthenticationToken"


class NoSuchEntity(ServiceError):
    """The resource does not exist."""

    code = "NoSuchEntity"


class NotImplementedHere(ServiceError):
    """The operation exists in AWS and is not implemented here."""

    code = "NotImplemented"


class NotSignedIn(ServiceError):
    """The browser is not signed in to the web pages."""

    code = "NotSignedIn"


class OutboundWebIdentityFederationDisabled(ServiceError):
    """Outbound web identity federation is not enabled in the account."""

    code = "OutboundWebIdentityFederationDisabledException"


class PackedPolicyTooLarge(ServiceError):
    """The session policies and tags exceed the size limit of a session token."""

    code = "PackedPolicyTooLarge"


class PasswordPolicyViolation(ServiceError):
    """The new password does not satisfy the account's password policy."""

    code = "PasswordPolicyViolation"


class PolicyNotAttachable(ServiceError):
    """The policy is reserved for a service and cannot be attached."""

    code = "PolicyNotAttachable"


class RequestTooLarge(ServiceError):
    """The body is larger than the limit."""

    code = "RequestEntityTooLarge"


class ServiceFailure(ServiceError):
    """The database cannot store the change; nothing was changed."""

    code = "ServiceFailure"


class ServiceUnavailable(ServiceError):
    """A required service is unavailable; try again after ``retry_after`` seconds."""

    code = "ServiceUnavailable"
    retry_after = 5


class SessionDurationEscalation(ServiceError):
    """The token would be valid longer than the session that requests it."""

    code = "SessionDurationEscalationException"


class SignatureDoesNotMatch(ServiceError):
    """The signature does not match the request, the secret key or the time."""

    code = "SignatureDoesNotMatch"


class WrongScope(SignatureDoesNotMatch):
    """The credential scope names another service, region or date."""


class RequestTimeTooSkewed(SignatureDoesNotMatch):
    """The request was signed too long ago, or in the future."""


class RequestExpired(SignatureDoesNotMatch):
    """The time of a presigned request is over."""


class HeadersNotSigned(SignatureDoesNotMatch):
    """A header that must be signed is not."""


class PayloadHashRefused(SignatureDoesNotMatch):
    """What the request declares about its body is missing, or of no known form."""


class Throttling(ServiceError):
    """Too many attempts; ``retry_after`` is in seconds."""

    code = "Throttling"

    def __init__(self, message: str, *, retry_after: int, log: str = "") -> None:
        super().__init__(message, log=log)
        self.retry_after = retry_after


class UnmodifiableEntity(ServiceError):
    """The resource belongs to a service, and only the service can change it."""

    code = "UnmodifiableEntity"


class ValidationError(ServiceError):
    """A parameter breaks a constraint of the service model."""

    code = "ValidationError"
