"""One class per error code; the status and the shape of the answer are the edge's business."""

from typing import ClassVar


class ServiceError(Exception):
    """A refusal that the caller may read; ``log`` is the fuller text for the operator's eyes only."""

    code: ClassVar[str] = "InternalFailure"

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.log = log or message


class AccessDenied(ServiceError):
    """The caller is known and may not do this; ``encoded`` is the sealed text that DecodeAuthorizationMessage opens."""

    code = "AccessDenied"

    def __init__(self, message: str, *, log: str = "", encoded: str = "") -> None:
        super().__init__(message, log=log)
        self.encoded = encoded


class AuthorizationQueryParametersError(ServiceError):
    """The X-Amz-* parameters of a presigned request make no sense."""

    code = "AuthorizationQueryParametersError"


class ConcurrentModification(ServiceError):
    """Somebody else changed the same thing at the same time."""

    code = "ConcurrentModification"


class CredentialReportNotPresent(ServiceError):
    """No credential report has been generated yet."""

    code = "ReportNotPresent"


class CredentialReportExpired(ServiceError):
    """The last credential report is older than four hours."""

    code = "ReportExpired"


class DeleteConflict(ServiceError):
    """Something still hangs on the thing to be deleted."""

    code = "DeleteConflict"


class EntityAlreadyExists(ServiceError):
    """The name is taken."""

    code = "EntityAlreadyExists"


class EntityTemporarilyUnmodifiable(ServiceError):
    """The thing cannot be changed at this moment."""

    code = "EntityTemporarilyUnmodifiable"


class ExpiredToken(ServiceError):
    """The session behind these credentials has ended."""

    code = "ExpiredToken"


class ExpiredTokenException(ServiceError):
    """The token or assertion from an identity provider has expired."""

    code = "ExpiredTokenException"


class FeatureDisabled(ServiceError):
    """The feature is not enabled in the account."""

    code = "FeatureDisabled"


class FeatureEnabled(ServiceError):
    """The feature is enabled in the account already."""

    code = "FeatureEnabled"


class IDPCommunicationError(ServiceError):
    """The identity provider cannot be reached."""

    code = "IDPCommunicationError"


class IDPRejectedClaim(ServiceError):
    """The identity provider said no."""

    code = "IDPRejectedClaim"


class IncompleteSignature(ServiceError):
    """The request's signature lacks a part or is malformed."""

    code = "IncompleteSignature"


class InternalFailure(ServiceError):
    """Anything that nobody foresaw; the request id finds it in the log."""

    code = "InternalFailure"


class InvalidAction(ServiceError):
    """No such operation in that version."""

    code = "InvalidAction"


class InvalidAuthenticationCode(ServiceError):
    """The codes of an MFA device are wrong."""

    code = "InvalidAuthenticationCode"


class InvalidAuthorizationMessage(ServiceError):
    """The encoded authorization message was not made here, or was changed."""

    code = "InvalidAuthorizationMessageException"


class InvalidClientTokenId(ServiceError):
    """The access key or its token is unknown, inactive, revoked or malformed."""

    code = "InvalidClientTokenId"


class InvalidIdentityToken(ServiceError):
    """The token or assertion from an identity provider cannot be accepted."""

    code = "InvalidIdentityToken"


class InvalidInput(ServiceError):
    """A value that has the right form and yet makes no sense here."""

    code = "InvalidInput"


class InvalidUserType(ServiceError):
    """The caller is of a kind that cannot do this, such as root changing its password through the API."""

    code = "InvalidUserType"


class JWTPayloadSizeExceeded(ServiceError):
    """The claims of a token would be too many."""

    code = "JWTPayloadSizeExceededException"


class LimitExceeded(ServiceError):
    """A quota is reached."""

    code = "LimitExceeded"


class MalformedInput(ServiceError):
    """A parameter's text cannot be read as its type."""

    code = "MalformedInput"


class MalformedPolicyDocument(ServiceError):
    """The policy is not one, or has an element that does not belong there."""

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
    """The named thing does not exist."""

    code = "NoSuchEntity"


class NotImplementedHere(ServiceError):
    """The operation is in the service model and not built yet."""

    code = "NotImplemented"


class NotSignedIn(ServiceError):
    """Nobody is signed in to the pages with this browser."""

    code = "NotSignedIn"


class OutboundWebIdentityFederationDisabled(ServiceError):
    """The account has not enabled tokens of its own issuer."""

    code = "OutboundWebIdentityFederationDisabledException"


class PackedPolicyTooLarge(ServiceError):
    """Session policies and tags together exceed what a session token can carry."""

    code = "PackedPolicyTooLarge"


class PasswordPolicyViolation(ServiceError):
    """The new password is weaker than the account asks."""

    code = "PasswordPolicyViolation"


class PolicyNotAttachable(ServiceError):
    """The policy is reserved for a service and cannot be attached."""

    code = "PolicyNotAttachable"


class RequestTooLarge(ServiceError):
    """The body is larger than the limit."""

    code = "RequestEntityTooLarge"


class ServiceFailure(ServiceError):
    """The durable store cannot take the change; nothing was changed."""

    code = "ServiceFailure"


class ServiceUnavailable(ServiceError):
    """Something that the answer depends on is away; try again after ``retry_after`` seconds."""

    code = "ServiceUnavailable"
    retry_after = 5


class SessionDurationEscalation(ServiceError):
    """A token would outlive the session that asks for it."""

    code = "SessionDurationEscalationException"


class SignatureDoesNotMatch(ServiceError):
    """The signature was not made over this request with this key at about this time."""

    code = "SignatureDoesNotMatch"


class Throttling(ServiceError):
    """Too many attempts; ``retry_after`` is in seconds."""

    code = "Throttling"

    def __init__(self, message: str, *, retry_after: int, log: str = "") -> None:
        super().__init__(message, log=log)
        self.retry_after = retry_after


class UnmodifiableEntity(ServiceError):
    """The thing belongs to the service and only the service changes it."""

    code = "UnmodifiableEntity"


class ValidationError(ServiceError):
    """A parameter breaks a constraint of the service model."""

    code = "ValidationError"
