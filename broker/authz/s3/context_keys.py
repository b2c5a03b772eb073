"""The condition keys of S3 that a request carries, and those that neither it nor a proxy shows.

Pure. Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3": which action has
which key. ``s3:authType``, ``s3:signatureversion``, ``s3:signatureAge`` and ``s3:TlsVersion`` come from the signature
and the connection, and so are not here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl

from broker.authz.s3.operations import S3Operation
from iam.errors import InvalidRequest

ContextKeys = dict[str, tuple[str, ...]]

_ACL = ("x-amz-acl", "x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write")
_ACLS = (*_ACL, "x-amz-grant-write-acp")
_LOCK = ("object-lock-mode", "object-lock-retain-until-date")
_HOLD = ("object-lock-event-hold", "object-lock-event-hold-duration-days")
_ENCRYPTION = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
_NEW_OBJECT = (
    *_ACLS,
    *_ENCRYPTION,
    "x-amz-copy-source",
    "x-amz-metadata-directive",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
)
_LIST = ("delimiter", "max-keys", "prefix")
_VERSION = ("versionid",)
# The keys of each action that come from headers and parameters, without the prefix s3:.
KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "BypassGovernanceRetention": _NEW_OBJECT,
        "CreateBucket": (*_ACLS, "x-amz-bucket-namespace", "x-amz-object-ownership"),
        "DeleteObject": ("if-match",),
        "DeleteObjectAnnotation": ("x-amz-object-if-match",),
        "DeleteObjectVersion": _VERSION,
        "DeleteObjectVersionAnnotation": ("versionid", "x-amz-object-if-match"),
        "DeleteObjectVersionTagging": _VERSION,
        "GetObjectVersion": _VERSION,
        "GetObjectVersionAcl": _VERSION,
        "GetObjectVersionAnnotation": _VERSION,
        "GetObjectVersionAttributes": _VERSION,
        "GetObjectVersionTagging": _VERSION,
        "ListBucket": _LIST,
        "ListBucketVersions": _LIST,
        "ListObjectAnnotations": ("annotation-prefix", "max-annotation-results"),
        "ListObjectVersionAnnotations": ("annotation-prefix", "max-annotation-results", "versionid"),
        "PutBucketAcl": _ACLS,
        "PutObject": (
            *_NEW_OBJECT,
            *_LOCK,
            *_HOLD,
            "if-match",
            "if-none-match",
            "object-lock-legal-hold",
            "x-amz-object-annotation-directive",
        ),
        "PutObjectAcl": (*_ACLS, "x-amz-storage-class"),
        "PutObjectAnnotation": ("x-amz-object-if-match",),
        "PutObjectLegalHold": ("object-lock-legal-hold",),
        "PutObjectRetention": (*_LOCK, *_HOLD),
        "PutObjectVersionAcl": (*_ACLS, "versionid", "x-amz-storage-class"),
        "PutObjectVersionAnnotation": ("versionid", "x-amz-object-if-match"),
        "PutObjectVersionTagging": _VERSION,
        "ReplicateObject": (*_HOLD, *_ENCRYPTION, "x-amz-server-side-encryption-customer-algorithm"),
        "UpdateObjectEncryption": _ENCRYPTION,
    }
)
# Actions with s3:RequestObjectTag/KEY and s3:RequestObjectTagKeys, and the one with s3:ObjectCreationOperation.
REQUEST_TAGS = frozenset({"BypassGovernanceRetention", "PutObject", "PutObjectTagging", "PutObjectVersionTagging"})
_CREATES = "PutObject"
_UNFINISHED = frozenset({"CreateMultipartUpload", "UploadPart", "UploadPartCopy"})
# Keys whose source has another name.
_SOURCES = {
    "object-lock-event-hold": "x-amz-object-lock-event-hold",
    "object-lock-event-hold-duration-days": "x-amz-object-lock-event-hold-duration-days",
    "object-lock-legal-hold": "x-amz-object-lock-legal-hold",
    "object-lock-mode": "x-amz-object-lock-mode",
    "object-lock-retain-until-date": "x-amz-object-lock-retain-until-date",
    "versionid": "versionId",
}

# Actions with s3:ExistingObjectTag/KEY.
EXISTING_TAGS = frozenset(
    {
        "DeleteObjectAnnotation",
        "DeleteObjectTagging",
        "DeleteObjectVersionAnnotation",
        "DeleteObjectVersionTagging",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAnnotation",
        "GetObjectAttributes",
        "GetObjectTagging",
        "GetObjectVersion",
        "GetObjectVersionAcl",
        "GetObjectVersionAnnotation",
        "GetObjectVersionAttributes",
        "GetObjectVersionTagging",
        "ListObjectAnnotations",
        "ListObjectVersionAnnotations",
        "PutObjectAcl",
        "PutObjectAnnotation",
        "PutObjectTagging",
        "PutObjectVersionAcl",
        "PutObjectVersionAnnotation",
        "PutObjectVersionTagging",
        "UpdateObjectEncryption",
    }
)
# The tags of a bucket can be condition keys of every request for it or its objects (attribute-based access control).
_BUCKET_TAGS = frozenset({"aws:resourcetag/", "s3:buckettag/"})
# Over TLS there is a version, which not every proxy tells.
_OF_EVERY_REQUEST = {False: _BUCKET_TAGS, True: _BUCKET_TAGS | {"s3:tlsversion"}}
_EXISTING = frozenset({"s3:existingobjecttag/"})
_RETENTION_DAYS = "s3:object-lock-remaining-retention-days"
# Keys whose value is in the body of an operation.
_IN_BODY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "CreateBucket": frozenset({"aws:requesttag/", "aws:tagkeys", "s3:locationconstraint"}),
        "DeleteObjects": frozenset({"s3:if-match", "s3:versionid"}),
        "PutBucketInventoryConfiguration": frozenset({"s3:inventoryaccessibleoptionalfields"}),
        "PutBucketReplication": frozenset(
            {"s3:isreplicationpauserequest", *(f"s3:{name}" for name in KEYS["ReplicateObject"])}
        ),
        "PutObjectLegalHold": frozenset({"s3:object-lock-legal-hold"}),
        "PutObjectRetention": frozenset({f"s3:{name}" for name in KEYS["PutObjectRetention"]}),
        "PutObjectTagging": frozenset({"s3:requestobjecttag/", "s3:requestobjecttagkeys"}),
        "UpdateObjectEncryption": frozenset({f"s3:{name}" for name in _ENCRYPTION}),
    }
)


def context_keys(
    operation: S3Operation, action: str, parameters: Mapping[str, str], headers: Mapping[str, str]
) -> ContextKeys:
    """Return the keys of S3 that an action of a request has; the names are in lower case.

    ``parameters`` are those of the query, decoded, and ``headers`` by name in lower case.
    """
    keys: ContextKeys = {}
    in_body = _IN_BODY.get(operation.name, frozenset())
    for name in KEYS.get(action, ()):
        if f"s3:{name}" in in_body:  # a header of this name says nothing about what the body names
            continue
        source = _SOURCES.get(name, name)
        value = headers.get(source) if source in headers else parameters.get(source)
        if value is not None:
            keys[f"s3:{name}"] = (value,)
    if action in REQUEST_TAGS:
        keys.update(_request_tags(headers.get("x-amz-tagging", "")))
    if action == _CREATES:
        keys["s3:objectcreationoperation"] = ("false" if operation.name in _UNFINISHED else "true",)
    if "x-amz-content-sha256" in headers:
        keys["s3:x-amz-content-sha256"] = (headers["x-amz-content-sha256"],)
    return keys


def unknown_keys(operation: S3Operation, action: str, *, secure: bool) -> frozenset[str]:
    """Return the keys of an action that only the body or the store has; a name with a slash at its end is a prefix."""
    unknown = _OF_EVERY_REQUEST[secure] | _IN_BODY.get(operation.name, frozenset())
    if action in EXISTING_TAGS:
        unknown |= _EXISTING
    # It takes the store's clock to count the days.
    return unknown | {_RETENTION_DAYS} if action in {"PutObject", "PutObjectRetention"} else unknown


def _request_tags(tagging: str) -> ContextKeys:
    """Return the keys of a header x-amz-tagging, which is encoded as a query."""
    tags = _parse_tags(tagging)
    if not tags:
        return {}
    # Names of condition keys are compared in lower case. Of two values, one could satisfy the policies and a store keep
    # the other; Amazon S3 refuses a tag that is given twice as well.
    keys: ContextKeys = {f"s3:requestobjecttag/{name.lower()}": (value,) for name, value in tags}
    if len(keys) < len(tags):
        raise InvalidRequest("The header x-amz-tagging has a tag twice, or two whose names differ in case only.")
    return {**keys, "s3:requestobjecttagkeys": tuple(name for name, _ in tags)}


def _parse_tags(tagging: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(tagging, keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidRequest("The header x-amz-tagging has to be encoded as a query.") from None
