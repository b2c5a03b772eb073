"""Inline policies of users, groups and roles: put, get, delete and list.

Source: IAM API Reference, PutUserPolicy, PutGroupPolicy, PutRolePolicy. The size quota covers all inline policies of an
entity together.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import delete, insert, select, update

from iam.call import Call, Params, Result
from iam.errors import LimitExceeded, NoSuchEntity
from iam.limits import Limits
from iam.operations.named_entities import GROUP, ROLE, USER, EntityType, find_named, paginate
from iam.policy.document import Policy, PolicyKind, size
from iam.store.schema import Entity, inline_policy

_Run = Callable[[Call, Params], Result]

_SIZE_QUOTA: Mapping[str, Callable[[Limits], int]] = {
    "user": lambda limits: limits.inline_policies_size_user,
    "group": lambda limits: limits.inline_policies_size_group,
    "role": lambda limits: limits.inline_policies_size_role,
}


def _documents(call: Call, row: Entity) -> dict[str, str]:
    query = select(inline_policy.c.name, inline_policy.c.document).where(inline_policy.c.entity_id == row.id)
    return {row.name: row.document for row in call.tx.execute(query)}


def _put(entity_type: EntityType) -> _Run:
    def put(call: Call, p: Params) -> Result:
        """Add or replace an inline policy; raise MalformedPolicyDocument, LimitExceeded."""
        row, name, text = find_named(call, entity_type, p), p["PolicyName"], p["PolicyDocument"]
        Policy.parse(text, PolicyKind.IDENTITY)
        documents = _documents(call, row)
        quota = _SIZE_QUOTA[entity_type.kind](call.limits)
        if sum(size(document) for document in (documents | {name: text}).values()) > quota:
            raise LimitExceeded(f"Maximum policy size of {quota} bytes exceeded for {entity_type.kind} {row.name}")
        matches = (inline_policy.c.entity_id == row.id, inline_policy.c.name == name)
        values = {"entity_id": row.id, "name": name, "document": text}
        call.tx.execute(
            update(inline_policy).where(*matches).values(values)
            if name in documents
            else insert(inline_policy).values(values)
        )
        return {}

    return put


def _missing(entity_type: EntityType, name: str) -> NoSuchEntity:
    return NoSuchEntity(f"The {entity_type.kind} policy with name {name} cannot be found.")


def _get(entity_type: EntityType) -> _Run:
    def get(call: Call, p: Params) -> Result:
        """Return an inline policy, byte for byte as it was submitted."""
        row, name = find_named(call, entity_type, p), p["PolicyName"]
        document = _documents(call, row).get(name)
        if document is None:
            raise _missing(entity_type, name)
        return {f"{entity_type.title}Name": row.name, "PolicyName": name, "PolicyDocument": document}

    return get


def _delete(entity_type: EntityType) -> _Run:
    def remove(call: Call, p: Params) -> Result:
        """Delete an inline policy; raise NoSuchEntity."""
        row, name = find_named(call, entity_type, p), p["PolicyName"]
        matches = (inline_policy.c.entity_id == row.id, inline_policy.c.name == name)
        if not call.tx.execute(delete(inline_policy).where(*matches)).rowcount:
            raise _missing(entity_type, name)
        return {}

    return remove


def _list(entity_type: EntityType) -> _Run:
    def list_names(call: Call, p: Params) -> Result:
        """Return a page of the names of inline policies."""
        row = find_named(call, entity_type, p)
        query = select(inline_policy.c.name).where(inline_policy.c.entity_id == row.id)
        rows, paging = paginate(call, query, inline_policy.c.name, p)
        return {"PolicyNames": [inline.name for inline in rows], **paging}

    return list_names


put_user_policy, put_group_policy, put_role_policy = _put(USER), _put(GROUP), _put(ROLE)
get_user_policy, get_group_policy, get_role_policy = _get(USER), _get(GROUP), _get(ROLE)
delete_user_policy, delete_group_policy, delete_role_policy = _delete(USER), _delete(GROUP), _delete(ROLE)
list_user_policies, list_group_policies, list_role_policies = _list(USER), _list(GROUP), _list(ROLE)
