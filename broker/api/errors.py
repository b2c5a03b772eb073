"""The HTTP status of each error code, and whether the caller or the service is at fault.

Sources: the service models of STS and IAM; AWS API Reference, "Common Errors". A comment explains each deviation.
"""

from iam.errors import ServiceError

SERVER_SIDE = 500

STATUS = {
    "AccessDenied": 403,
    "AuthorizationQueryParametersError": 400,
    "ConcurrentModification": 409,
    "DeleteConflict": 409,
    "EntityAlreadyExists": 409,
    "EntityTemporarilyUnmodifiable": 409,
    "ExpiredToken": 403,
    "ExpiredTokenException": 400,
    "FeatureDisabled": 404,
    "FeatureEnabled": 409,
    "IDPCommunicationError": 400,  # SDKs retry by the code
    "IDPRejectedClaim": 403,
    "IncompleteSignature": 400,
    "InternalFailure": 500,
    "InvalidAction": 400,
    "InvalidAuthenticationCode": 403,
    "InvalidAuthorizationMessageException": 400,
    "InvalidBucketName": 400,
    "InvalidClientTokenId": 403,
    "InvalidIdentityToken": 400,
    "InvalidInput": 400,
    "InvalidRequest": 400,
    "InvalidURI": 400,
    "InvalidUserType": 400,
    "JWTPayloadSizeExceededException": 400,
    "LimitExceeded": 409,
    "MalformedInput": 400,
    "MalformedPolicyDocument": 400,
    "MalformedQueryString": 400,
    "MissingAction": 400,
    "MissingAuthenticationToken": 403,
    "NoSuchEntity": 404,
    "NotImplemented": 501,
    "NotSignedIn": 401,
    "OpenIdIdpCommunicationError": 400,
    "OutboundWebIdentityFederationDisabledException": 403,
    "PackedPolicyTooLarge": 400,
    "PasswordPolicyViolation": 400,
    "PolicyNotAttachable": 400,
    "ReportExpired": 410,
    "ReportNotPresent": 410,
    "RequestEntityTooLarge": 413,
    "ServiceFailure": 503,  # the model says 500: nothing was changed, and a retry will succeed (THREATS I07)
    "ServiceUnavailable": 503,
    "SessionDurationEscalationException": 403,
    "SignatureDoesNotMatch": 403,
    "Throttling": 429,  # AWS says 400: clients and proxies understand 429
    "UnmodifiableEntity": 400,
    "ValidationError": 400,
}


def status(error: ServiceError) -> int:
    """Return the HTTP status of an error; 500 for a code that is not in the table."""
    return STATUS.get(error.code, SERVER_SIDE)


def is_sender_fault(error: ServiceError) -> bool:
    """Return whether the caller is at fault: Sender in a response, otherwise Receiver."""
    return status(error) < SERVER_SIDE
