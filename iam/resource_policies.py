"""Policies of resources and buckets, set by the operator: whom of which account the owner lets in.

They are evaluated as resource-based policies ("Policy evaluation logic"). The principals in a document are bound to the
unique ids that they had when it was set, as in role trust policies.
"""

import json
import re
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from iam.errors import LimitExceeded, MalformedPolicyDocument, NoSuchEntity, ValidationError
from iam.limits import Limits
from iam.policy.document import Policy, PolicyKind, size
from iam.policy.statement import Statement
from iam.principal_ids import current_arns, resolve_principal_ids, with_current_arns
from iam.store.schema import resource_policy

# Amazon S3 User Guide, "Bucket naming rules", with the upper case and underscores that other stores allow.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """The policy of a resource, or of one of its buckets; ``created`` is in milliseconds since 1970."""

    resource: str
    bucket: str  # "" for the resource itself
    document: str
    created: int

    def __str__(self) -> str:
        return f"{self.resource}/{self.bucket}" if self.bucket else self.resource


def put(tx: Connection, new: ResourcePolicy, limits: Limits) -> Policy:
    """Set a policy, or replace the one that is there; return it.

    Raise ValidationError, MalformedPolicyDocument (also for a principal that does not exist), LimitExceeded.
    """
    if new.bucket and not _BUCKET.fullmatch(new.bucket):
        raise ValidationError("A bucket's name has 3 to 255 letters, digits, periods, hyphens and underscores.")
    policy = Policy.parse(new.document, PolicyKind.RESOURCE, label=str(new))
    if new.bucket and not all(_is_about(statement, new.bucket) for statement in policy.statements):
        raise MalformedPolicyDocument(f"Policy has invalid resource: name arn:aws:s3:::{new.bucket} and what is in it.")
    if size(new.document) > limits.resource_policy_size:
        raise LimitExceeded(f"Cannot exceed quota for ResourcePolicySize: {limits.resource_policy_size}")
    ids = resolve_principal_ids(tx, policy.principal_arns())
    values = {"document": new.document, "principal_ids": json.dumps(ids), "created": new.created}
    key = (resource_policy.c.resource == new.resource, resource_policy.c.bucket == new.bucket)
    if not tx.execute(update(resource_policy).where(*key).values(values)).rowcount:
        tx.execute(insert(resource_policy).values(resource=new.resource, bucket=new.bucket, **values))
    return policy


def _is_about(statement: Statement, bucket: str) -> bool:
    """Return whether every resource of a statement is the bucket or in it, as Amazon S3 demands of a bucket policy."""
    arn = f"arn:aws:s3:::{bucket}"
    named = (*statement.resources, *statement.not_resources)
    return bool(named) and all(one == arn or one.startswith((f"{arn}/", f"{arn}*")) for one in named)


def get(tx: Connection, resource: str, bucket: str) -> ResourcePolicy:
    """Return a policy with the current ARNs of its principals; raise NoSuchEntity."""
    table = resource_policy.c
    row = tx.execute(select(resource_policy).where(table.resource == resource, table.bucket == bucket)).one_or_none()
    if row is None:
        raise NoSuchEntity(_missing(resource, bucket))
    ids = json.loads(row.principal_ids)
    document = with_current_arns(row.document, ids, current_arns(tx, ids.values()))
    return ResourcePolicy(row.resource, row.bucket, document, row.created)


def remove(tx: Connection, resource: str, bucket: str) -> None:
    """Remove a policy; raise NoSuchEntity."""
    table = resource_policy.c
    found = tx.execute(delete(resource_policy).where(table.resource == resource, table.bucket == bucket)).rowcount
    if not found:
        raise NoSuchEntity(_missing(resource, bucket))


def _missing(resource: str, bucket: str) -> str:
    return f"The bucket {bucket} of {resource} has no policy." if bucket else f"{resource} has no policy of its own."


def list_policies(tx: Connection, resource: str) -> tuple[tuple[str, int], ...]:
    """Return the bucket ("" for the resource itself) and the time of each policy of a resource, by bucket."""
    table = resource_policy.c
    query = select(table.bucket, table.created).where(table.resource == resource).order_by(table.bucket)
    return tuple((row.bucket, row.created) for row in tx.execute(query))
