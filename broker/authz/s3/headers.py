"""The headers that a request to S3 may have, by operation.

Pure. A header ``x-amz-*`` changes what a store does, so one that the operation does not have in the S3 API Reference is
refused: a store could act on it although nothing was decided about it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from broker.api.http import HttpRequest
from broker.authz.s3.operations import S3Operation
from iam.errors import InvalidRequest, NotImplementedHere

# Every operation may have these; they belong to the signature, the transfer and the client.
_EVERYWHERE = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-security-token",
        "x-amz-te",
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
AMZ = "x-amz-"
CHECKSUM = "x-amz-checksum-"
_METADATA = "x-amz-meta-"


def _names(text: str) -> frozenset[str]:
    return frozenset(f"x-amz-{name}" for name in text.split())


_ENCRYPTION = _names(
    "server-side-encryption server-side-encryption-aws-kms-key-id server-side-encryption-context"
    " server-side-encryption-bucket-key-enabled"
)
_CUSTOMER_KEY = _names(
    "server-side-encryption-customer-algorithm server-side-encryption-customer-key"
    " server-side-encryption-customer-key-md5"
)
_OBJECT_ACL = _names("acl grant-full-control grant-read grant-read-acp grant-write-acp")
_ACL = _OBJECT_ACL | _names("grant-write")
_LOCK = _names(
    "object-lock-mode object-lock-retain-until-date object-lock-legal-hold object-lock-event-hold"
    " object-lock-event-hold-duration-days object-lock-event-hold-duration-years"
)
_NEW_OBJECT = (
    _OBJECT_ACL
    | _ENCRYPTION
    | _CUSTOMER_KEY
    | _LOCK
    | _names("storage-class website-redirect-location tagging")
    | {_METADATA}
)
_COPY = _names(
    "copy-source copy-source-if-match copy-source-if-modified-since copy-source-if-none-match"
    " copy-source-if-unmodified-since copy-source-server-side-encryption-customer-algorithm"
    " copy-source-server-side-encryption-customer-key copy-source-server-side-encryption-customer-key-md5"
    " source-expected-bucket-owner"
)
_LIST = _names("optional-object-attributes")

HEADERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "AbortMultipartUpload": _names("if-match-initiated-time"),
        "CompleteMultipartUpload": _CUSTOMER_KEY | _names("mp-object-size"),
        "CopyObject": _NEW_OBJECT | _COPY | _names("metadata-directive tagging-directive object-annotation-directive"),
        "CreateBucket": _ACL | _names("bucket-object-lock-enabled object-ownership bucket-namespace"),
        "CreateMultipartUpload": _NEW_OBJECT,
        "DeleteObject": _names("mfa bypass-governance-retention if-match-last-modified-time if-match-size"),
        "DeleteObjectAnnotation": _names("object-if-match"),
        "DeleteObjects": _names("mfa bypass-governance-retention"),
        "GetObject": _CUSTOMER_KEY,
        "GetObjectAttributes": _CUSTOMER_KEY | _names("max-parts part-number-marker object-attributes"),
        "HeadObject": _CUSTOMER_KEY,
        "ListObjectVersions": _LIST,
        "ListObjects": _LIST,
        "ListObjectsV2": _LIST,
        "ListParts": _CUSTOMER_KEY,
        "PutBucketAcl": _ACL,
        "PutBucketLifecycleConfiguration": _names("transition-default-minimum-object-size"),
        "PutBucketNotificationConfiguration": _names("skip-destination-validation"),
        "PutBucketPolicy": _names("confirm-remove-self-bucket-access"),
        "PutBucketReplication": _names("bucket-object-lock-token"),
        "PutBucketVersioning": _names("mfa"),
        "PutObject": _NEW_OBJECT | _names("write-offset-bytes"),
        "PutObjectAcl": _ACL,
        "PutObjectAnnotation": _names("object-if-match"),
        "PutObjectLockConfiguration": _names("bucket-object-lock-token"),
        "PutObjectRetention": _names("bypass-governance-retention"),
        "SelectObjectContent": _CUSTOMER_KEY,
        "UploadPart": _CUSTOMER_KEY,
        "UploadPartCopy": _CUSTOMER_KEY | _COPY | _names("copy-source-range"),
    }
)
# Headers with which a store's own extensions change what a request does: forced deletion of a bucket with its objects
# (x-minio-force-delete), replication (rgwx-*), another sign-in (Swift), another method.
_FOREIGN_PREFIXES = (
    "rgwx-",
    "seaweed-",
    "x-account-",
    "x-container-",
    "x-copy-from",
    "x-delete-",
    "x-goog-",
    "x-minio-",
    "x-object-",
    "x-rgw-",
    "x-seaweedfs-",
)
_FOREIGN = frozenset({"x-auth-token", "x-http-method", "x-http-method-override", "x-method-override"})


# Headers that mean something to a store besides x-amz-*: given twice, two programs could read them differently.
MEANINGFUL = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "range",
    }
)


def read_headers(operation: S3Operation, request: HttpRequest) -> Mapping[str, str]:
    """Return the headers of a request by name; raise InvalidRequest or NotImplemented for one that cannot pass."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        check_header_name(name)
        if name in headers and (name.startswith(AMZ) or name in MEANINGFUL):
            raise InvalidRequest(f"The header {name} is given twice.")
        if name.startswith(AMZ) and not takes_header(operation, name):
            raise NotImplementedHere(f"{operation.name} has no header {name}.")
        headers[name] = value.strip(" \t")
    return headers


def takes_header(operation: S3Operation, name: str) -> bool:
    """Return whether an operation has a header ``x-amz-*``."""
    own = HEADERS.get(operation.name, frozenset())
    is_metadata = name.startswith(_METADATA) and _METADATA in own
    return is_metadata or name in own or name in _EVERYWHERE or name.startswith(CHECKSUM)


def check_header_name(name: str) -> None:
    """Raise an error for a header that a store could take for another one, or that is none of Amazon's API."""
    # Programs with the interface of CGI, such as Ceph RGW, cannot tell x_amz_acl from x-amz-acl.
    if "_" in name:
        raise InvalidRequest("A header whose name has an underscore cannot pass.")
    if name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES):
        raise NotImplementedHere(f"The header {name} is no part of the API of Amazon S3.")
