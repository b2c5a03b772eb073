"""The operations of Amazon S3: how a request names each of them, and the permissions that it needs.

Pure. A row has the operation's method, its parameters and its action, and matches a request exactly or not at all. The
table covers every operation of botocore's model of S3; a test fails for one that has no row.

Sources: Amazon S3 API Reference; Service Authorization Reference, "Actions, resources, and condition keys for Amazon
S3"; Amazon S3 User Guide, "Required permissions for Amazon S3 API operations".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Level(Enum):
    """What the path of a request names: nothing, a bucket, or an object."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


ANY_VALUE = "*"
COPY_SOURCE = "x-amz-copy-source"  # the one header that makes another operation of a request


@dataclass(frozen=True, slots=True)
class S3Operation:
    """One operation.

    ``names`` are the parameters that every request for it has, with their values: subresources have none, and ``*`` is
    any but the empty one. ``optional`` are its other parameters. ``action`` is the action on its bucket or object, and
    ``version_action`` the one in its place where the request names a version; ``also`` are more actions on the same
    resource. ``on_every_object`` are actions on all objects of the store that the body may name.
    """

    name: str
    level: Level
    method: str
    names: Mapping[str, str]
    optional: frozenset[str]
    action: str
    version_action: str = ""
    also: tuple[str, ...] = ()
    on_every_object: tuple[str, ...] = ()
    writes: bool = False

    @property
    def subresource(self) -> str:
        """Return the first name in its query, or an empty string."""
        return next(iter(self.names), "")


# Rows by level: name, method, what the query must have and may have, action, and action on a version.
_Row = tuple[str, str, str, str, str] | tuple[str, str, str, str, str, str]

_LIST = "delimiter encoding-type max-keys prefix"
_RESPONSE = (
    "response-cache-control response-content-disposition response-content-encoding response-content-language"
    " response-content-type response-expires"
)
_SERVICE_ROWS: tuple[_Row, ...] = (
    ("ListBuckets", "GET", "", "max-buckets continuation-token prefix bucket-region", "ListAllMyBuckets"),
)
_BUCKET_ROWS: tuple[_Row, ...] = (
    ("CreateBucket", "PUT", "", "", "CreateBucket"),
    ("DeleteBucket", "DELETE", "", "", "DeleteBucket"),
    ("DeleteBucketAnalyticsConfiguration", "DELETE", "analytics id=*", "", "PutAnalyticsConfiguration"),
    ("DeleteBucketCors", "DELETE", "cors", "", "PutBucketCORS"),
    ("DeleteBucketEncryption", "DELETE", "encryption", "", "PutEncryptionConfiguration"),
    (
        "DeleteBucketIntelligentTieringConfiguration",
        "DELETE",
        "intelligent-tiering id=*",
        "",
        "PutIntelligentTieringConfiguration",
    ),
    ("DeleteBucketInventoryConfiguration", "DELETE", "inventory id=*", "", "PutInventoryConfiguration"),
    ("DeleteBucketLifecycle", "DELETE", "lifecycle", "", "PutLifecycleConfiguration"),
    (
        "DeleteBucketMetadataConfiguration",
        "DELETE",
        "metadataConfiguration",
        "",
        "DeleteBucketMetadataTableConfiguration",
    ),
    (
        "DeleteBucketMetadataTableConfiguration",
        "DELETE",
        "metadataTable",
        "",
        "DeleteBucketMetadataTableConfiguration",
    ),
    ("DeleteBucketMetricsConfiguration", "DELETE", "metrics id=*", "", "PutMetricsConfiguration"),
    ("DeleteBucketOwnershipControls", "DELETE", "ownershipControls", "", "PutBucketOwnershipControls"),
    ("DeleteBucketPolicy", "DELETE", "policy", "", "DeleteBucketPolicy"),
    ("DeleteBucketReplication", "DELETE", "replication", "", "PutReplicationConfiguration"),
    ("DeleteBucketTagging", "DELETE", "tagging", "", "PutBucketTagging"),
    ("DeleteBucketWebsite", "DELETE", "website", "", "DeleteBucketWebsite"),
    ("DeletePublicAccessBlock", "DELETE", "publicAccessBlock", "", "PutBucketPublicAccessBlock"),
    ("GetBucketAbac", "GET", "abac", "", "GetBucketAbac"),
    ("GetBucketAccelerateConfiguration", "GET", "accelerate", "", "GetAccelerateConfiguration"),
    ("GetBucketAcl", "GET", "acl", "", "GetBucketAcl"),
    ("GetBucketAnalyticsConfiguration", "GET", "analytics id=*", "", "GetAnalyticsConfiguration"),
    ("GetBucketCors", "GET", "cors", "", "GetBucketCORS"),
    ("GetBucketEncryption", "GET", "encryption", "", "GetEncryptionConfiguration"),
    (
        "GetBucketIntelligentTieringConfiguration",
        "GET",
        "intelligent-tiering id=*",
        "",
        "GetIntelligentTieringConfiguration",
    ),
    ("GetBucketInventoryConfiguration", "GET", "inventory id=*", "", "GetInventoryConfiguration"),
    ("GetBucketLifecycleConfiguration", "GET", "lifecycle", "", "GetLifecycleConfiguration"),
    ("GetBucketLocation", "GET", "location", "", "GetBucketLocation"),
    ("GetBucketLogging", "GET", "logging", "", "GetBucketLogging"),
    ("GetBucketMetadataConfiguration", "GET", "metadataConfiguration", "", "GetBucketMetadataTableConfiguration"),
    ("GetBucketMetadataTableConfiguration", "GET", "metadataTable", "", "GetBucketMetadataTableConfiguration"),
    ("GetBucketMetricsConfiguration", "GET", "metrics id=*", "", "GetMetricsConfiguration"),
    ("GetBucketNotificationConfiguration", "GET", "notification", "", "GetBucketNotification"),
    ("GetBucketOwnershipControls", "GET", "ownershipControls", "", "GetBucketOwnershipControls"),
    ("GetBucketPolicy", "GET", "policy", "", "GetBucketPolicy"),
    ("GetBucketPolicyStatus", "GET", "policyStatus", "", "GetBucketPolicyStatus"),
    ("GetBucketReplication", "GET", "replication", "", "GetReplicationConfiguration"),
    ("GetBucketRequestPayment", "GET", "requestPayment", "", "GetBucketRequestPayment"),
    ("GetBucketTagging", "GET", "tagging", "", "GetBucketTagging"),
    ("GetBucketVersioning", "GET", "versioning", "", "GetBucketVersioning"),
    ("GetBucketWebsite", "GET", "website", "", "GetBucketWebsite"),
    ("GetObjectLockConfiguration", "GET", "object-lock", "", "GetBucketObjectLockConfiguration"),
    ("GetPublicAccessBlock", "GET", "publicAccessBlock", "", "GetBucketPublicAccessBlock"),
    ("HeadBucket", "HEAD", "", "", "ListBucket"),
    ("ListBucketAnalyticsConfigurations", "GET", "analytics", "continuation-token", "GetAnalyticsConfiguration"),
    (
        "ListBucketIntelligentTieringConfigurations",
        "GET",
        "intelligent-tiering",
        "continuation-token",
        "GetIntelligentTieringConfiguration",
    ),
    ("ListBucketInventoryConfigurations", "GET", "inventory", "continuation-token", "GetInventoryConfiguration"),
    ("ListBucketMetricsConfigurations", "GET", "metrics", "continuation-token", "GetMetricsConfiguration"),
    (
        "ListMultipartUploads",
        "GET",
        "uploads",
        "delimiter encoding-type key-marker max-uploads prefix upload-id-marker",
        "ListBucketMultipartUploads",
    ),
    ("ListObjectVersions", "GET", "versions", f"{_LIST} key-marker version-id-marker", "ListBucketVersions"),
    ("ListObjects", "GET", "", f"{_LIST} marker", "ListBucket"),
    ("ListObjectsV2", "GET", "list-type=2", f"{_LIST} continuation-token fetch-owner start-after", "ListBucket"),
    ("PutBucketAbac", "PUT", "abac", "", "PutBucketAbac"),
    ("PutBucketAccelerateConfiguration", "PUT", "accelerate", "", "PutAccelerateConfiguration"),
    ("PutBucketAcl", "PUT", "acl", "", "PutBucketAcl"),
    ("PutBucketAnalyticsConfiguration", "PUT", "analytics id=*", "", "PutAnalyticsConfiguration"),
    ("PutBucketCors", "PUT", "cors", "", "PutBucketCORS"),
    ("PutBucketEncryption", "PUT", "encryption", "", "PutEncryptionConfiguration"),
    (
        "PutBucketIntelligentTieringConfiguration",
        "PUT",
        "intelligent-tiering id=*",
        "",
        "PutIntelligentTieringConfiguration",
    ),
    ("PutBucketInventoryConfiguration", "PUT", "inventory id=*", "", "PutInventoryConfiguration"),
    ("PutBucketLifecycleConfiguration", "PUT", "lifecycle", "", "PutLifecycleConfiguration"),
    ("PutBucketLogging", "PUT", "logging", "", "PutBucketLogging"),
    ("PutBucketMetricsConfiguration", "PUT", "metrics id=*", "", "PutMetricsConfiguration"),
    ("PutBucketNotificationConfiguration", "PUT", "notification", "", "PutBucketNotification"),
    ("PutBucketOwnershipControls", "PUT", "ownershipControls", "", "PutBucketOwnershipControls"),
    ("PutBucketPolicy", "PUT", "policy", "", "PutBucketPolicy"),
    ("PutBucketReplication", "PUT", "replication", "", "PutReplicationConfiguration"),
    ("PutBucketRequestPayment", "PUT", "requestPayment", "", "PutBucketRequestPayment"),
    ("PutBucketTagging", "PUT", "tagging", "", "PutBucketTagging"),
    ("PutBucketVersioning", "PUT", "versioning", "", "PutBucketVersioning"),
    ("PutBucketWebsite", "PUT", "website", "", "PutBucketWebsite"),
    ("PutObjectLockConfiguration", "PUT", "object-lock", "", "PutBucketObjectLockConfiguration"),
    ("PutPublicAccessBlock", "PUT", "publicAccessBlock", "", "PutBucketPublicAccessBlock"),
    # DeleteObjects names its keys in the body: its permissions are on every key (s3/requests.py).
    ("DeleteObjects", "POST", "delete", "", ""),
)
_OBJECT_ROWS: tuple[_Row, ...] = (
    ("AbortMultipartUpload", "DELETE", "uploadId=*", "", "AbortMultipartUpload"),
    ("CompleteMultipartUpload", "POST", "uploadId=*", "", "PutObject"),
    ("CopyObject", "PUT", f"{COPY_SOURCE}=*", "", "PutObject"),
    ("CreateMultipartUpload", "POST", "uploads", "", "PutObject"),
    ("DeleteObject", "DELETE", "", "versionId", "DeleteObject", "DeleteObjectVersion"),
    (
        "DeleteObjectAnnotation",
        "DELETE",
        "annotation annotationName=*",
        "versionId",
        "DeleteObjectAnnotation",
        "DeleteObjectVersionAnnotation",
    ),
    ("DeleteObjectTagging", "DELETE", "tagging", "versionId", "DeleteObjectTagging", "DeleteObjectVersionTagging"),
    ("GetObject", "GET", "", f"versionId partNumber {_RESPONSE}", "GetObject", "GetObjectVersion"),
    ("GetObjectAcl", "GET", "acl", "versionId", "GetObjectAcl", "GetObjectVersionAcl"),
    (
        "GetObjectAnnotation",
        "GET",
        "annotation annotationName=*",
        "versionId",
        "GetObjectAnnotation",
        "GetObjectVersionAnnotation",
    ),
    ("GetObjectAttributes", "GET", "attributes", "versionId", "GetObjectAttributes", "GetObjectVersionAttributes"),
    ("GetObjectLegalHold", "GET", "legal-hold", "versionId", "GetObjectLegalHold"),
    ("GetObjectRetention", "GET", "retention", "versionId", "GetObjectRetention"),
    ("GetObjectTagging", "GET", "tagging", "versionId", "GetObjectTagging", "GetObjectVersionTagging"),
    ("GetObjectTorrent", "GET", "torrent", "", "GetObjectTorrent"),
    ("HeadObject", "HEAD", "", f"versionId partNumber {_RESPONSE}", "GetObject", "GetObjectVersion"),
    (
        "ListObjectAnnotations",
        "GET",
        "annotation",
        "versionId max-annotation-results annotation-prefix continuation-token",
        "ListObjectAnnotations",
        "ListObjectVersionAnnotations",
    ),
    ("ListParts", "GET", "uploadId=*", "max-parts part-number-marker", "ListMultipartUploadParts"),
    ("PutObject", "PUT", "", "", "PutObject"),
    ("PutObjectAcl", "PUT", "acl", "versionId", "PutObjectAcl", "PutObjectVersionAcl"),
    (
        "PutObjectAnnotation",
        "PUT",
        "annotation annotationName=*",
        "versionId",
        "PutObjectAnnotation",
        "PutObjectVersionAnnotation",
    ),
    ("PutObjectLegalHold", "PUT", "legal-hold", "versionId", "PutObjectLegalHold"),
    ("PutObjectRetention", "PUT", "retention", "versionId", "PutObjectRetention"),
    ("PutObjectTagging", "PUT", "tagging", "versionId", "PutObjectTagging", "PutObjectVersionTagging"),
    ("RestoreObject", "POST", "restore", "versionId", "RestoreObject"),
    ("SelectObjectContent", "POST", "select select-type=2", "", "GetObject"),
    ("UpdateObjectEncryption", "PUT", "encryption", "versionId", "UpdateObjectEncryption"),
    ("UploadPart", "PUT", "uploadId=* partNumber=*", "", "PutObject"),
    ("UploadPartCopy", "PUT", f"uploadId=* partNumber=* {COPY_SOURCE}=*", "", "PutObject"),
)
# More actions on the same resource. GetObjectAttributes: its page in the S3 API Reference names both.
_ALSO = {"GetObjectAttributes": ("GetObject",), "GetObjectTorrent": ("GetObject",)}
# Operations whose body may name an object or a bucket to write to, which a proxy does not show: the key of that
# bucket's objects is unknown, so only who may write all of them passes. For replication AWS asks iam:PassRole instead;
# RestoreObject of the type SELECT has an OutputLocation.
_ON_EVERY_OBJECT = {
    "PutBucketAnalyticsConfiguration": ("PutObject",),
    "PutBucketInventoryConfiguration": ("PutObject",),
    "PutBucketLogging": ("PutObject",),
    "PutBucketReplication": ("ReplicateObject", "ReplicateDelete"),
    "RestoreObject": ("PutObject",),
}
_READS_BY_POST = frozenset({"SelectObjectContent"})

# Older names of operations: their requests are those of the newer one.
SAME_REQUEST = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
# Operations that never pass, and why.
_TABLES = "it writes to S3 Tables, which is another service"
_DIRECTORY_BUCKETS = "it is for directory buckets, whose permissions are those of the service s3express"
REFUSED = {
    "CreateBucketMetadataConfiguration": _TABLES,
    "CreateBucketMetadataTableConfiguration": _TABLES,
    "CreateSession": "its answer would be credentials of the store itself",
    "ListDirectoryBuckets": _DIRECTORY_BUCKETS,
    "RenameObject": _DIRECTORY_BUCKETS,
    "UpdateBucketMetadataAnnotationTableConfiguration": _TABLES,
    "UpdateBucketMetadataInventoryTableConfiguration": _TABLES,
    "UpdateBucketMetadataJournalTableConfiguration": _TABLES,
    "WriteGetObjectResponse": "it is for functions of S3 Object Lambda",
}


def _operations(level: Level, rows: tuple[_Row, ...]) -> Iterator[S3Operation]:
    for name, method, names, optional, action, *version_action in rows:
        yield S3Operation(
            name=name,
            level=level,
            method=method,
            names=MappingProxyType({key: value for key, _, value in (part.partition("=") for part in names.split())}),
            optional=frozenset(optional.split()),
            action=action,
            version_action="".join(version_action),
            also=_ALSO.get(name, ()),
            on_every_object=_ON_EVERY_OBJECT.get(name, ()),
            writes=method not in {"GET", "HEAD"} and name not in _READS_BY_POST,
        )


OPERATIONS: Mapping[str, S3Operation] = MappingProxyType(
    {
        operation.name: operation
        for level, rows in (
            (Level.SERVICE, _SERVICE_ROWS),
            (Level.BUCKET, _BUCKET_ROWS),
            (Level.OBJECT, _OBJECT_ROWS),
        )
        for operation in _operations(level, rows)
    }
)
# What a store does with a request whose subresource it does not know: the operation without it.
PLAIN = MappingProxyType(
    {
        (operation.level, operation.method): operation
        for operation in OPERATIONS.values()
        if not operation.names and operation.name != "ListBuckets"
    }
)
# Subresources that Ceph RGW 16, MinIO, SeaweedFS and Garage all know, or refuse by an error of their own.
KNOWN_SUBRESOURCES = frozenset(
    {
        *("acl", "cors", "delete", "legal-hold", "lifecycle", "list-type", "location", "logging", "notification"),
        *("object-lock", "policy", "policyStatus", "replication", "requestPayment", "restore", "retention", "select"),
        *("tagging", "uploadId", "uploads", "versioning", "versions", "website", COPY_SOURCE),
    }
)

_SELECTING: Mapping[tuple[Level, str], frozenset[str]] = {
    key: frozenset(
        name
        for operation in OPERATIONS.values()
        if (operation.level, operation.method) == key
        for name in operation.names
    )
    for key in {(operation.level, operation.method) for operation in OPERATIONS.values()}
}
_BY_NAMES = {
    (operation.level, operation.method, frozenset(operation.names)): operation for operation in OPERATIONS.values()
}


def find_operation(level: Level, method: str, parameters: Mapping[str, str]) -> S3Operation | None:
    """Return the one operation whose row a request matches, or None; ``parameters`` are those of its query, decoded.

    A subresource too many, a parameter that the operation does not have, or a value that names another operation is no
    match: a store might act on the one that we did not decide about.
    """
    names = parameters.keys() & _SELECTING.get((level, method), frozenset())
    operation = _BY_NAMES.get((level, method, frozenset(names)))
    # A store takes an empty version for the current one, which another action is for.
    if operation is None or not parameters.keys() - names <= operation.optional or parameters.get("versionId") == "":
        return None
    fits = all(
        bool(parameters[name]) if value == ANY_VALUE else parameters[name] == value
        for name, value in operation.names.items()
    )
    return operation if fits else None
