"""Roles and their trust policies. Source: IAM API Reference, CreateRole, GetRole, ListRoles, UpdateAssumeRolePolicy."""

import json
from collections.abc import Sequence

from sqlalchemy import delete, insert, update

from iam.call import Call, Params, Result
from iam.errors import LimitExceeded, NoSuchEntity
from iam.operations.named_entities import (
    ROLE,
    boundary_and_tags,
    create,
    entity_members,
    find_named,
    list_entities,
    remove,
)
from iam.operations.policies.managed import check_boundary
from iam.policy.document import Policy, PolicyKind, size
from iam.principal_ids import current_arns, resolve_principal_ids, with_current_arns
from iam.store.records import trusted_parties
from iam.store.schema import Entity, attachment, inline_policy, instance_profile, role, role_federated, role_mark

MAX_SESSION = 3600  # seconds, AWS's default of MaxSessionDuration

_DEPENDENTS = (
    (attachment.c.entity_id, "Cannot delete entity, must detach all policies first."),
    (inline_policy.c.entity_id, "Cannot delete entity, must delete policies first."),
    (instance_profile.c.role_id, "Cannot delete entity, must remove roles from instance profile first."),
)


def role_shapes(call: Call, rows: Sequence[Entity]) -> list[Result]:
    """Return the members of roles in list responses; trust policies have the current ARNs of their principals."""
    ids_by_arn: list[dict[str, str]] = [json.loads(row.trust_ids) for row in rows]
    arns = current_arns(call.tx, {unique_id for ids in ids_by_arn for unique_id in ids.values()})
    return [_shape(row, with_current_arns(row.trust, ids, arns)) for row, ids in zip(rows, ids_by_arn, strict=True)]


def _shape(row: Entity, trust: str) -> Result:
    shape = entity_members(ROLE, row) | {"AssumeRolePolicyDocument": trust, "MaxSessionDuration": row.max_session}
    return shape | ({"Description": row.description} if row.description else {})


def _full(call: Call, row: Entity) -> Result:
    return role_shapes(call, [row])[0] | boundary_and_tags(call, row)


def _trust(call: Call, text: str) -> tuple[dict[str, str], frozenset[str]]:
    """Return the columns of a trust policy and the parties it allows; raise MalformedPolicyDocument, LimitExceeded."""
    if size(text) > call.limits.trust_policy_size:
        raise LimitExceeded(f"Cannot exceed quota for ACLSizePerRole: {call.limits.trust_policy_size}")
    policy = Policy.parse(text, PolicyKind.TRUST)
    ids = resolve_principal_ids(call.tx, policy.principal_arns())
    return {"trust": text, "trust_ids": json.dumps(ids)}, trusted_parties(policy)


def _index_trusted_parties(call: Call, role_id: str, parties: frozenset[str]) -> None:
    call.tx.execute(delete(role_federated).where(role_federated.c.role_id == role_id))
    for party in sorted(parties):
        call.tx.execute(insert(role_federated).values(role_id=role_id, provider=party))


def create_role(call: Call, p: Params) -> Result:
    """Create a role; the principals of its trust policy are stored by unique id."""
    boundary = p.get("PermissionsBoundary")
    check_boundary(call, boundary)
    columns, parties = _trust(call, p["AssumeRolePolicyDocument"])
    role_columns: Params = {
        **columns,
        "boundary": boundary,
        "description": p.get("Description"),
        "max_session": p.get("MaxSessionDuration", MAX_SESSION),
    }
    row = create(call, ROLE, p, **role_columns)
    _index_trusted_parties(call, row.id, parties)
    return {"Role": _full(call, row)}


def get_role(call: Call, p: Params) -> Result:
    """Return a role with its trust policy."""
    return {"Role": _full(call, find_named(call, ROLE, p)) | {"RoleLastUsed": {}}}


def list_roles(call: Call, p: Params) -> Result:
    """Return a page of roles, without tags, permissions boundaries and last use."""
    rows, paging = list_entities(call, ROLE, p)
    return {"Roles": role_shapes(call, rows), **paging}


def update_role(call: Call, p: Params) -> Result:
    """Change a role's description or maximum session duration."""
    row = find_named(call, ROLE, p)
    columns = {"Description": "description", "MaxSessionDuration": "max_session"}
    values = {column: p[name] for name, column in columns.items() if name in p}
    if values:
        call.tx.execute(update(role).where(role.c.id == row.id).values(values))
    return {}


def update_role_description(call: Call, p: Params) -> Result:
    """Change a role's description and return the role."""
    row = find_named(call, ROLE, p)
    call.tx.execute(update(role).where(role.c.id == row.id).values(description=p["Description"]))
    return {"Role": _full(call, find_named(call, ROLE, p))}


def delete_role(call: Call, p: Params) -> Result:
    """Delete a role without policies and instance profiles; its sessions become invalid."""
    row = find_named(call, ROLE, p)
    _index_trusted_parties(call, row.id, frozenset())
    call.tx.execute(delete(role_mark).where(role_mark.c.role_id == row.id))
    remove(call, ROLE, row, _DEPENDENTS)
    return {}


def update_assume_role_policy(call: Call, p: Params) -> Result:
    """Replace a role's trust policy; existing sessions stay valid."""
    row = find_named(call, ROLE, p)
    columns, parties = _trust(call, p["PolicyDocument"])
    call.tx.execute(update(role).where(role.c.id == row.id).values(columns))
    _index_trusted_parties(call, row.id, parties)
    return {}


def put_role_permissions_boundary(call: Call, p: Params) -> Result:
    """Set a role's permissions boundary to a managed policy."""
    check_boundary(call, p["PermissionsBoundary"])
    row = find_named(call, ROLE, p)
    call.tx.execute(update(role).where(role.c.id == row.id).values(boundary=p["PermissionsBoundary"]))
    return {}


def delete_role_permissions_boundary(call: Call, p: Params) -> Result:
    """Delete a role's permissions boundary; raise NoSuchEntity if it has none."""
    row = find_named(call, ROLE, p)
    if row.boundary is None:
        raise NoSuchEntity(f"The role with name {row.name} does not have a permissions boundary.")
    call.tx.execute(update(role).where(role.c.id == row.id).values(boundary=None))
    return {}
