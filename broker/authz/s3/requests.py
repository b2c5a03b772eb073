"""Reads a request to S3: its operation, and every permission that it needs.

Pure. What is not exactly one row of the table of operations is refused, and so is every parameter and header that the
operation does not have: behind the proxy a store with a key for everything acts on what we let pass, whatever we took
it for. Each permission is on the bucket or object that the store will act on.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from broker.api.http import HttpRequest
from broker.authz.resource import Resource
from broker.authz.s3.context_keys import context_keys, unknown_keys
from broker.authz.s3.copy_source import CopySource, read_copy_source
from broker.authz.s3.headers import read_headers
from broker.authz.s3.operations import COPY_SOURCE, KNOWN_SUBRESOURCES, PLAIN, S3Operation, find_operation
from broker.authz.s3.query import own_parameters, read_query
from broker.authz.s3.target import EVERY_OBJECT, Target, read_target
from broker.authz.service_request import ServiceRequest
from iam.errors import AccessDenied, NotImplementedHere
from iam.operations.required_permission import RequiredPermission

# Headers that need an action of their own on the target (S3 API Reference, PutObject and CopyObject, "Permissions").
_RETENTION, _LEGAL_HOLD = "PutObjectRetention", "PutObjectLegalHold"
OBJECT_HEADERS: Mapping[str, str] = {
    "x-amz-acl": "PutObjectAcl",
    "x-amz-grant-full-control": "PutObjectAcl",
    "x-amz-grant-read": "PutObjectAcl",
    "x-amz-grant-read-acp": "PutObjectAcl",
    "x-amz-grant-write": "PutObjectAcl",
    "x-amz-grant-write-acp": "PutObjectAcl",
    "x-amz-object-lock-event-hold": _RETENTION,
    "x-amz-object-lock-event-hold-duration-days": _RETENTION,
    "x-amz-object-lock-event-hold-duration-years": _RETENTION,
    "x-amz-object-lock-legal-hold": _LEGAL_HOLD,
    "x-amz-object-lock-mode": _RETENTION,
    "x-amz-object-lock-retain-until-date": _RETENTION,
    "x-amz-tagging": "PutObjectTagging",
}
BUCKET_HEADERS: Mapping[str, tuple[str, ...]] = {
    "x-amz-acl": ("PutBucketAcl",),
    "x-amz-bucket-object-lock-enabled": ("PutBucketObjectLockConfiguration", "PutBucketVersioning"),
    "x-amz-grant-full-control": ("PutBucketAcl",),
    "x-amz-grant-read": ("PutBucketAcl",),
    "x-amz-grant-read-acp": ("PutBucketAcl",),
    "x-amz-grant-write": ("PutBucketAcl",),
    "x-amz-grant-write-acp": ("PutBucketAcl",),
    "x-amz-object-ownership": ("PutBucketOwnershipControls",),
}
_BYPASS = "x-amz-bypass-governance-retention"
_TAGGING_DIRECTIVE = "x-amz-tagging-directive"
# ACLs that grant nobody anything beyond the owner of the bucket, who is the store's one user.
_PRIVATE_ACLS = frozenset({"bucket-owner-full-control", "bucket-owner-read", "private"})
_POLICY_WRITES = frozenset({"DeleteBucketPolicy", "PutBucketAcl", "PutBucketPolicy", "PutObjectAcl"})


class _Request(NamedTuple):
    """A request whose operation is known; ``parameters`` are those of the operation, ``headers`` by name."""

    resource: Resource
    operation: S3Operation
    target: Target
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    secure: bool

    def permission(self, action: str, arn: str = "", parameters: Mapping[str, str] | None = None) -> RequiredPermission:
        """Return the permission to do an action, on the target or on another ARN with parameters of its own."""
        own = self.parameters if parameters is None else parameters
        keys = context_keys(self.operation, action, own, self.headers)
        return RequiredPermission(
            arn or self.target.arn,
            {**keys, "s3:resourceaccount": (self.resource.account,)},
            action=f"s3:{action}",
            unknown=unknown_keys(self.operation, action, secure=self.secure),
        )


def read_s3_request(resource: Resource, request: HttpRequest) -> ServiceRequest:
    """Return what a request to a resource of kind s3 asks of the policies.

    Raise InvalidURI, InvalidBucketName, InvalidRequest or NotImplemented for a request that names no operation, or more
    than one could be read from; AccessDenied for what never passes.
    """
    read = _read(resource, request)
    operation = read.operation
    _check_policy_writes(read)
    return ServiceRequest(
        operation.name,
        tuple(_permissions(read)),
        every_resource=tuple(_permissions_on_every(read)),
        writes=operation.writes,
        parameters=dict(_recorded(read)),
    )


def _read(resource: Resource, request: HttpRequest) -> _Request:
    host = request.header("host") or ""
    target = read_target(resource, host, request.path)
    parameters = own_parameters(read_query(request.query))
    source = request.header(COPY_SOURCE)
    named = parameters if source is None else {**parameters, COPY_SOURCE: source}
    operation = find_operation(target.level, request.method, named)
    if operation is None:
        names = " ".join(sorted(named)) or "none"
        raise NotImplementedHere(
            f"This {request.method} request for {_ARTICLE[target.level.value]} is no operation of Amazon S3 that can"
            " pass. Browser forms (POST Object), several subresources and extensions of the store cannot.",
            log=f"no operation: {request.method} {target.level.value}, parameters: {names}",
        )
    return _Request(resource, operation, target, parameters, read_headers(operation, request), request.secure)


_ARTICLE = {"service": "the service", "bucket": "a bucket", "object": "an object"}


def _check_policy_writes(read: _Request) -> None:
    """Raise AccessDenied where a request would change who gets in at the store itself, past these policies."""
    grants = [name for name, value in read.headers.items() if name.startswith("x-amz-grant-") and value]
    acl = read.headers.get("x-amz-acl") or "private"
    changes = read.operation.name in _POLICY_WRITES or grants or acl not in _PRIVATE_ACLS
    if changes and not read.resource.policy_writes:
        raise AccessDenied(
            "Bucket policies and ACLs at the store cannot be changed with these credentials (the setting policy_writes"
            f" of the resource {read.resource.name} is false)."
        )


# --- permissions ------------------------------------------------------------------------------------------------------


def _permissions(read: _Request) -> Iterator[RequiredPermission]:
    # An operation and a header can ask for the same action.
    actions = dict.fromkeys((*_own_actions(read), *_header_actions(read), *_plain_actions(read)))
    if read.operation.name == "ListBuckets":
        yield read.permission(read.operation.action, "*")
        return
    for action in actions:
        yield read.permission(action)
    if COPY_SOURCE in read.headers:
        yield from _source_permissions(read, read_copy_source(read.headers[COPY_SOURCE]))


def _own_actions(read: _Request) -> Iterator[str]:
    operation = read.operation
    if operation.action:
        yield _on_version(operation.action, operation.version_action, read.parameters)
    for action in operation.also:
        yield _on_version(action, f"{action}Version", read.parameters)


def _on_version(action: str, version_action: str, parameters: Mapping[str, str]) -> str:
    return version_action if version_action and "versionId" in parameters else action


def _header_actions(read: _Request) -> Iterator[str]:
    """Yield the actions that headers with a value ask for on the target."""
    given = [name for name, value in read.headers.items() if value]
    if read.operation.name == "CreateBucket":
        for name in given:
            yield from BUCKET_HEADERS.get(name, ())
    elif read.operation.name not in _POLICY_WRITES:
        yield from (OBJECT_HEADERS[name] for name in given if name in OBJECT_HEADERS)
    if _BYPASS in given and not _keys_in_body(read.operation):
        yield "BypassGovernanceRetention"
    if _TAGGING_DIRECTIVE in given and read.headers[_TAGGING_DIRECTIVE] != "REPLACE":
        yield "PutObjectTagging"


def _plain_actions(read: _Request) -> Iterator[str]:
    """Yield the action of the operation that a store does which does not know the subresource."""
    backend, operation = read.resource.backend, read.operation
    plain = PLAIN.get((operation.level, operation.method))
    if backend is None or plain is None or not operation.subresource:
        return
    if operation.subresource not in KNOWN_SUBRESOURCES | backend.subresources:
        yield _on_version(plain.action, plain.version_action, read.parameters)


def _source_permissions(read: _Request, source: CopySource) -> Iterator[RequiredPermission]:
    version = {"versionId": source.version} if source.version else {}
    yield read.permission(_on_version("GetObject", "GetObjectVersion", version), source.arn, version)
    # Without the directive tags are copied too; the Service Authorization Reference asks no action for it.
    if read.headers.get(_TAGGING_DIRECTIVE, "REPLACE") != "REPLACE":
        yield read.permission(_on_version("GetObjectTagging", "GetObjectVersionTagging", version), source.arn, version)


def _permissions_on_every(read: _Request) -> Iterator[RequiredPermission]:
    """Yield the permissions on all objects that the body may name."""
    for action in read.operation.on_every_object:
        yield read.permission(action, EVERY_OBJECT)
    if _keys_in_body(read.operation):
        bypass = ("BypassGovernanceRetention",) if read.headers.get(_BYPASS) else ()
        for action in ("DeleteObject", "DeleteObjectVersion", *bypass):
            yield read.permission(action, f"{read.target.arn}/")


def _keys_in_body(operation: S3Operation) -> bool:
    return operation.name == "DeleteObjects"


def _recorded(read: _Request) -> Iterator[tuple[str, str]]:
    """Yield what the audit record shows, named as in the records of AWS CloudTrail."""
    if read.target.bucket:
        yield "bucketName", read.target.bucket
    if read.target.key:
        yield "key", read.target.key
    yield from read.parameters.items()
    if COPY_SOURCE in read.headers:
        yield COPY_SOURCE, read.headers[COPY_SOURCE]
