"""Managed policies and their versions: AWS managed policies (read-only) and customer managed policies.

Source: IAM API Reference, CreatePolicy, CreatePolicyVersion, ListPolicies; IAM User Guide, "Versioning IAM policies".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Column, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from iam.arn import POLICY, iam_arn, parse_arn, unique_id
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    InvalidInput,
    LimitExceeded,
    MalformedPolicyDocument,
    NoSuchEntity,
)
from iam.operations.named_entities import paginate_list
from iam.operations.required_permission import RequiredPermission, request_tag_keys
from iam.operations.resource_tags import resource_tag_keys
from iam.policy.document import VERSION_WITH_VARIABLES, Policy, PolicyKind, size
from iam.policy.managed import ManagedPolicy
from iam.policy.managed import load as aws_managed
from iam.store.schema import Entity, attachment, policy, policy_version, role, user
from iam.store.tags import delete_tags, put_tags, tags_of

_VERSION = re.compile("v([1-9][0-9]{0,8})")


# --- find and permissions -----------------------------------------------------------------------------------------


def find_or_none(call: Call, arn: str) -> Entity | None:
    """Return the customer managed policy with this ARN, or None."""
    matches = (policy.c.arn == arn, policy.c.account_id == call.account_id)
    return call.tx.execute(select(policy).where(*matches)).one_or_none()


def find_own(call: Call, arn: str) -> Entity:
    """Return a customer managed policy; raise NoSuchEntity, or InvalidInput for an AWS managed one."""
    if arn in aws_managed():
        raise InvalidInput(f"Policy {arn} is managed by AWS and cannot be changed.")
    row = find_or_none(call, _require_arn(arn))
    if row is None:
        raise NoSuchEntity(f"Policy {arn} was not found.")
    return row


def exists(call: Call, arn: str) -> bool:
    """Return whether the account can attach the policy with this ARN; raise InvalidInput for an invalid ARN."""
    return _require_arn(arn) in aws_managed() or find_or_none(call, arn) is not None


def _require_arn(arn: str) -> str:
    if parse_arn(arn) is None:
        raise InvalidInput(f"ARN {arn} is not valid.")
    return arn


def check_boundary(call: Call, arn: str | None) -> None:
    """Raise NoSuchEntity if the policy of a permissions boundary does not exist."""
    if arn is not None and not exists(call, arn):
        raise NoSuchEntity(f"Scope ARN: {arn} does not exist or is not attachable.")


def on_policy(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the policy PolicyArn, with its tags and those of the request."""
    row = find_or_none(call, p["PolicyArn"])
    keys = resource_tag_keys(call.tx, row.id) if row else {}
    return RequiredPermission(p["PolicyArn"], {**keys, **request_tag_keys(p)})


def on_new_policy(call: Call, p: Params) -> RequiredPermission:
    """Require permission on the policy to be created."""
    return RequiredPermission(
        iam_arn(call.account_id, "policy", p["PolicyName"], p.get("Path", "/")), request_tag_keys(p)
    )


# --- responses ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Uses:
    """The number of entities per policy: those it is attached to, and those it is the permissions boundary of."""

    attached: Mapping[str, int]
    bounds: Mapping[str, int]

    def members(self, arn: str) -> Result:
        return {
            "AttachmentCount": self.attached.get(arn, 0),
            "PermissionsBoundaryUsageCount": self.bounds.get(arn, 0),
            "IsAttachable": True,
        }


def _uses(call: Call, arn: str | None = None) -> _Uses:
    bounds = _count_by_arn(call, user.c.boundary, user.c.account_id, arn)
    for name, count in _count_by_arn(call, role.c.boundary, role.c.account_id, arn).items():
        bounds[name] = bounds.get(name, 0) + count
    return _Uses(_count_by_arn(call, attachment.c.policy_arn, attachment.c.account_id, arn), bounds)


def _count_by_arn(call: Call, arns: Column[str], accounts: Column[str], arn: str | None) -> dict[str, int]:
    query = (
        select(arns.label("arn"), func.count().label("uses"))
        .where(accounts == call.account_id, arns.is_not(None))
        .group_by(arns)
    )
    rows = call.tx.execute(query if arn is None else query.where(arns == arn))
    return {row.arn: row.uses for row in rows}


def _own_shape(row: Entity, uses: _Uses) -> Result:
    return {
        "PolicyName": row.name,
        "PolicyId": row.id,
        "Arn": row.arn,
        "Path": row.path,
        "DefaultVersionId": f"v{row.default_version}",
        **uses.members(row.arn),
        "CreateDate": from_milliseconds(row.created),
        "UpdateDate": from_milliseconds(row.updated),
    }


def _aws_shape(aws_policy: ManagedPolicy, uses: _Uses) -> Result:
    return {
        "PolicyName": aws_policy.name,
        "PolicyId": aws_policy.policy_id,
        "Arn": aws_policy.arn,
        "Path": aws_policy.path,
        "DefaultVersionId": aws_policy.version,
        **uses.members(aws_policy.arn),
        "CreateDate": aws_policy.created,
        "UpdateDate": aws_policy.created,
    }


# --- policies -----------------------------------------------------------------------------------------------------


def _check_document(call: Call, text: str) -> None:
    if Policy.parse(text, PolicyKind.IDENTITY).version != VERSION_WITH_VARIABLES:
        raise MalformedPolicyDocument(f"Policy document must be version {VERSION_WITH_VARIABLES} or greater.")
    if size(text) > call.limits.managed_policy_size:
        raise LimitExceeded(f"Cannot exceed quota for PolicySize: {call.limits.managed_policy_size}")


def create_policy(call: Call, p: Params) -> Result:
    """Create a policy with its first version."""
    _check_document(call, p["PolicyDocument"])
    count = call.tx.scalar(select(func.count()).select_from(policy).where(policy.c.account_id == call.account_id)) or 0
    if count >= call.limits.policies_per_account:
        raise LimitExceeded(f"Cannot exceed quota for PoliciesPerAccount: {call.limits.policies_per_account}")
    name, path, at = p["PolicyName"], p.get("Path", "/"), to_milliseconds(call.now)
    arn, new_id = iam_arn(call.account_id, "policy", name, path), unique_id(POLICY, call.random)
    row = {
        "id": new_id,
        "account_id": call.account_id,
        "arn": arn,
        "name": name,
        "name_key": name.lower(),
        "path": path,
        "description": p.get("Description"),
        "default_version": 1,
        "last_version": 1,
        "created": at,
        "updated": at,
    }
    try:
        call.tx.execute(insert(policy).values(row))
    except IntegrityError as error:
        raise EntityAlreadyExists(f"A policy called {name} already exists. Duplicate names are not allowed.") from error
    _insert_version(call, new_id, 1, p["PolicyDocument"])
    put_tags(call.tx, new_id, p.get("Tags", ()), call.limits)
    return get_policy(call, {"PolicyArn": arn})


def get_policy(call: Call, p: Params) -> Result:
    """Return a policy with its description and tags, without documents."""
    arn: str = p["PolicyArn"]
    uses = _uses(call, arn)
    if arn in aws_managed():
        aws_policy = aws_managed()[arn]
        return {"Policy": _aws_shape(aws_policy, uses) | {"Description": aws_policy.description, "Tags": []}}
    row = find_own(call, arn)
    description = {"Description": row.description} if row.description is not None else {}
    return {"Policy": _own_shape(row, uses) | description | {"Tags": tags_of(call.tx, row.id)}}


def list_policies(call: Call, p: Params) -> Result:
    """Return a page of policies without descriptions and tags: AWS managed ones, then customer managed ones."""
    scope, prefix, uses = p.get("Scope", "All"), p.get("PathPrefix", "/"), _uses(call)
    policies = [_aws_shape(aws_policy, uses) for aws_policy in aws_managed().values()] if scope != "Local" else []
    if scope != "AWS":
        rows = call.tx.execute(select(policy).where(policy.c.account_id == call.account_id))
        policies += [_own_shape(row, uses) for row in rows]
    matches = [shape for shape in policies if shape["Path"].startswith(prefix) and _matches_usage_filter(shape, p)]
    page, paging = paginate_list(
        matches, p, lambda shape: f"{shape['Arn'] not in aws_managed():d}{shape['PolicyName'].lower()}"
    )
    return {"Policies": page, **paging}


def _matches_usage_filter(shape: Result, p: Params) -> bool:
    usage = p.get("PolicyUsageFilter")
    if usage == "PermissionsBoundary":
        return bool(shape["PermissionsBoundaryUsageCount"])
    return bool(shape["AttachmentCount"]) or not (p.get("OnlyAttached") or usage)


def delete_policy(call: Call, p: Params) -> Result:
    """Delete a policy that is not used and has only its default version; raise DeleteConflict otherwise."""
    row = find_own(call, p["PolicyArn"])
    uses = _uses(call, row.arn)
    if uses.attached or uses.bounds:
        raise DeleteConflict("Cannot delete a policy attached to entities.")
    if len(_versions(call, row.id)) > 1:
        raise DeleteConflict(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions."
            " The default version is deleted with the policy."
        )
    delete_tags(call.tx, row.id)
    call.tx.execute(delete(policy_version).where(policy_version.c.policy_id == row.id))
    call.tx.execute(delete(policy).where(policy.c.id == row.id))
    return {}


# --- versions -----------------------------------------------------------------------------------------------------


def _insert_version(call: Call, policy_id: str, number: int, document: str) -> None:
    values = {"policy_id": policy_id, "version": number, "document": document, "created": to_milliseconds(call.now)}
    call.tx.execute(insert(policy_version).values(values))


def _versions(call: Call, policy_id: str) -> list[int]:
    query = select(policy_version.c.version).where(policy_version.c.policy_id == policy_id)
    return list(call.tx.scalars(query))


def _version(call: Call, row: Entity, version_id: str) -> Entity:
    """Return a version by its id; raise NoSuchEntity."""
    match = _VERSION.fullmatch(version_id)
    version: Row[tuple[object, ...]] | None = None
    if match is not None:
        conditions = (policy_version.c.policy_id == row.id, policy_version.c.version == int(match[1]))
        version = call.tx.execute(select(policy_version).where(*conditions)).one_or_none()
    if version is None:
        raise NoSuchEntity(f"Policy {row.arn} version {version_id} does not exist or is not attachable.")
    return version


def _version_shape(row: Entity, version: Entity) -> Result:
    return {
        "VersionId": f"v{version.version}",
        "IsDefaultVersion": version.version == row.default_version,
        "CreateDate": from_milliseconds(version.created),
    }


def create_policy_version(call: Call, p: Params) -> Result:
    """Create a version, the default one with SetAsDefault; raise LimitExceeded above five versions."""
    row = find_own(call, p["PolicyArn"])
    _check_document(call, p["PolicyDocument"])
    limit = call.limits.versions_per_policy
    if len(_versions(call, row.id)) >= limit:
        raise LimitExceeded(
            f"A managed policy can have up to {limit} versions. Before you create a new version, you must delete an"
            " existing version."
        )
    number = row.last_version + 1
    _insert_version(call, row.id, number, p["PolicyDocument"])
    values = {"last_version": number, "updated": to_milliseconds(call.now)}
    values |= {"default_version": number} if p.get("SetAsDefault") else {}
    call.tx.execute(update(policy).where(policy.c.id == row.id).values(values))
    row = find_own(call, row.arn)
    return {"PolicyVersion": _version_shape(row, _version(call, row, f"v{number}"))}


def get_policy_version(call: Call, p: Params) -> Result:
    """Return a version with its document."""
    aws_policy = aws_managed().get(p["PolicyArn"])
    if aws_policy is None:
        row = find_own(call, p["PolicyArn"])
        version = _version(call, row, p["VersionId"])
        return {"PolicyVersion": _version_shape(row, version) | {"Document": version.document}}
    if p["VersionId"] != aws_policy.version:
        raise NoSuchEntity(f"Policy {aws_policy.arn} version {p['VersionId']} does not exist or is not attachable.")
    return {"PolicyVersion": _aws_version(aws_policy) | {"Document": aws_policy.policy.text}}


def _aws_version(aws_policy: ManagedPolicy) -> Result:
    return {"VersionId": aws_policy.version, "IsDefaultVersion": True, "CreateDate": aws_policy.created}


def list_policy_versions(call: Call, p: Params) -> Result:
    """Return a page of versions, newest first, without documents."""
    aws_policy = aws_managed().get(p["PolicyArn"])
    if aws_policy is not None:
        return {"Versions": [_aws_version(aws_policy)], "IsTruncated": False}
    row = find_own(call, p["PolicyArn"])
    rows = call.tx.execute(select(policy_version).where(policy_version.c.policy_id == row.id)).all()
    # Sorted by a key that decreases with the version number: newest first.
    page, paging = paginate_list(rows, p, lambda version: f"{2**31 - version.version:010d}")
    return {"Versions": [_version_shape(row, version) for version in page], **paging}


def delete_policy_version(call: Call, p: Params) -> Result:
    """Delete a version other than the default one; its number is never reused."""
    row = find_own(call, p["PolicyArn"])
    version = _version(call, row, p["VersionId"])
    if version.version == row.default_version:
        raise DeleteConflict("Cannot delete the default version of a policy.")
    matches = (policy_version.c.policy_id == row.id, policy_version.c.version == version.version)
    call.tx.execute(delete(policy_version).where(*matches))
    return {}


def set_default_policy_version(call: Call, p: Params) -> Result:
    """Make a version the default one."""
    row = find_own(call, p["PolicyArn"])
    version = _version(call, row, p["VersionId"])
    values = {"default_version": version.version, "updated": to_milliseconds(call.now)}
    call.tx.execute(update(policy).where(policy.c.id == row.id).values(values))
    return {}
