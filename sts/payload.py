"""Which hash of the body a signature was made over: the one of the body itself, or the one that the request declares.

Pure. A service that sees the body hashes it. An authorizer in front of a service sees the head of a request only: there
the declared hash is what is signed, and whoever reads the body checks it.

Source: Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header" and "Using Query Parameters".
"""

import re
from collections.abc import Callable
from hashlib import sha256

from iam.errors import PayloadHashRefused, SignatureDoesNotMatch
from sts.presented_signature import MISMATCH, PresentedSignature

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
# The signature of the head is the seed of those of the chunks, which the store must check with the client's own key.
SIGNED_CHUNKS = ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
EMPTY_SHA256 = sha256(b"").hexdigest()
PAYLOAD_HASH_HEADER = "x-amz-content-sha256"
_PARAMETER = "X-Amz-Content-Sha256"
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_S3_FORMS = frozenset({UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, *SIGNED_CHUNKS})


def hash_of_body(presented: PresentedSignature) -> str:
    """Return the hash of the body, which was received; a header that says something else is refused.

    ``UNSIGNED-PAYLOAD`` would let anybody between client and server replace the body (THREATS A18).
    """
    return _check_declared(presented, sha256(presented.body).hexdigest())


def known_hash(actual: str) -> Callable[[PresentedSignature], str]:
    """Return ``hash_of_body`` for a body that the middleware read, of which it tells the hash (hexadecimal)."""
    return lambda presented: _check_declared(presented, actual)


def _check_declared(presented: PresentedSignature, actual: str) -> str:
    """Return the actual hash; raise SignatureDoesNotMatch where the header declares another."""
    declared = presented.headers.get(PAYLOAD_HASH_HEADER)
    if declared is not None and declared != actual:
        raise SignatureDoesNotMatch(MISMATCH, log=f"{PAYLOAD_HASH_HEADER} is not the hash of the body")
    return actual


def declared_to_s3(presented: PresentedSignature) -> str:
    """Return what an S3 request declares about its body: a hash, or the name of one of S3's other forms.

    A presigned request declares it in its query, in a signed header, or not at all, which is UNSIGNED-PAYLOAD. Chunks
    cannot be presigned. Raise PayloadHashRefused.
    """
    if presented.expires is not None:
        return _declared_in_query(presented)
    declared = presented.headers.get(PAYLOAD_HASH_HEADER)
    if declared is None:
        raise PayloadHashRefused(f"Missing required header for this request: {PAYLOAD_HASH_HEADER}")
    if declared not in _S3_FORMS and not _HEX_SHA256.fullmatch(declared):
        forms = ", ".join(sorted(_S3_FORMS))
        raise PayloadHashRefused(f"{PAYLOAD_HASH_HEADER} must be {forms}, or a valid sha256 value.")
    return declared


def _declared_in_query(presented: PresentedSignature) -> str:
    given = [value for name, value in presented.parameters if name == _PARAMETER]
    given += [presented.headers[PAYLOAD_HASH_HEADER]] if PAYLOAD_HASH_HEADER in presented.headers else []
    declared = given[0] if given else UNSIGNED_PAYLOAD
    if any(other != declared for other in given):
        raise PayloadHashRefused(f"{_PARAMETER} and {PAYLOAD_HASH_HEADER} differ.")
    if declared != UNSIGNED_PAYLOAD and not _HEX_SHA256.fullmatch(declared):
        raise PayloadHashRefused(f"{_PARAMETER} must be {UNSIGNED_PAYLOAD} or a valid sha256 value.")
    return declared


def declared_or_empty(presented: PresentedSignature) -> str:
    """Return the hash that a signed header declares; without the header, the hash of the empty body.

    So a request with a body passes only where whoever reads it can check it. Raise PayloadHashRefused.
    """
    declared = presented.headers.get(PAYLOAD_HASH_HEADER)
    if declared is None:
        return EMPTY_SHA256
    if not _HEX_SHA256.fullmatch(declared):
        raise PayloadHashRefused(f"{PAYLOAD_HASH_HEADER} must be a valid sha256 value.")
    if PAYLOAD_HASH_HEADER not in presented.signed_headers.split(";"):
        raise PayloadHashRefused(f"{PAYLOAD_HASH_HEADER} must be a signed header.")
    return declared
