"""Groups and their users. Source: IAM API Reference, CreateGroup, GetGroup, AddUserToGroup, ListGroupsForUser."""

from sqlalchemy import delete, func, insert, select

from iam.call import Call, Params, Result
from iam.errors import LimitExceeded, NoSuchEntity
from iam.operations.named_entities import (
    GROUP,
    USER,
    create,
    entity_members,
    find_named,
    list_entities,
    paginate,
    remove,
    rename,
)
from iam.operations.users import user_shape
from iam.store.schema import attachment, group, inline_policy, membership, user

_DEPENDENTS = (
    (attachment.c.entity_id, "Cannot delete entity, must detach all policies first."),
    (inline_policy.c.entity_id, "Cannot delete entity, must delete policies first."),
    (membership.c.group_id, "Cannot delete entity, must remove users from group first."),
)


def create_group(call: Call, p: Params) -> Result:
    """Create an empty group."""
    return {"Group": entity_members(GROUP, create(call, GROUP, p))}


def get_group(call: Call, p: Params) -> Result:
    """Return a group and a page of its users."""
    row = find_named(call, GROUP, p)
    members = select(user).join(membership, membership.c.user_id == user.c.id).where(membership.c.group_id == row.id)
    rows, paging = paginate(call, members, user.c.name_key, p)
    return {"Group": entity_members(GROUP, row), "Users": [user_shape(member) for member in rows], **paging}


def list_groups(call: Call, p: Params) -> Result:
    """Return a page of groups."""
    rows, paging = list_entities(call, GROUP, p)
    return {"Groups": [entity_members(GROUP, row) for row in rows], **paging}


def update_group(call: Call, p: Params) -> Result:
    """Change a group's name or path."""
    rename(call, GROUP, p)
    return {}


def delete_group(call: Call, p: Params) -> Result:
    """Delete a group without users and policies; raise DeleteConflict if it has any."""
    remove(call, GROUP, find_named(call, GROUP, p), _DEPENDENTS)
    return {}


def add_user_to_group(call: Call, p: Params) -> Result:
    """Add a user to a group; adding it again has no effect."""
    row, member = find_named(call, GROUP, p), find_named(call, USER, p)
    of_user = membership.c.user_id == member.id
    if call.tx.execute(select(membership).where(of_user, membership.c.group_id == row.id)).first() is not None:
        return {}
    count = call.tx.scalar(select(func.count()).select_from(membership).where(of_user)) or 0
    if count >= call.limits.groups_per_user:
        raise LimitExceeded(f"Cannot exceed quota for GroupsPerUser: {call.limits.groups_per_user}")
    call.tx.execute(insert(membership).values(group_id=row.id, user_id=member.id))
    return {}


def remove_user_from_group(call: Call, p: Params) -> Result:
    """Remove a user from a group; raise NoSuchEntity if it is not in it."""
    row, member = find_named(call, GROUP, p), find_named(call, USER, p)
    matches = (membership.c.user_id == member.id, membership.c.group_id == row.id)
    if not call.tx.execute(delete(membership).where(*matches)).rowcount:
        raise NoSuchEntity(f"The user with name {member.name} is not in the group with name {row.name}.")
    return {}


def list_groups_for_user(call: Call, p: Params) -> Result:
    """Return a page of the groups of a user."""
    row = find_named(call, USER, p)
    query = select(group).join(membership, membership.c.group_id == group.c.id).where(membership.c.user_id == row.id)
    rows, paging = paginate(call, query, group.c.name_key, p)
    return {"Groups": [entity_members(GROUP, group_row) for group_row in rows], **paging}
