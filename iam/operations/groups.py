"""Groups and who is in them. Source: IAM API Reference, CreateGroup, GetGroup, AddUserToGroup, ListGroupsForUser."""

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
    """Make an empty group."""
    return {"Group": entity_members(GROUP, create(call, GROUP, p))}


def get_group(call: Call, p: Params) -> Result:
    """Return a group and a page of its users."""
    row = find_named(call, GROUP, p)
    members = select(user).join(membership, membership.c.user_id == user.c.id).where(membership.c.group_id == row.id)
    rows, paging = paginate(call, members, user.c.name_key, p)
    return {"Group": entity_members(GROUP, row), "Users": [user_shape(one) for one in rows], **paging}


def list_groups(call: Call, p: Params) -> Result:
    """Return a page of groups."""
    rows, paging = list_entities(call, GROUP, p)
    return {"Groups": [entity_members(GROUP, row) for row in rows], **paging}


def update_group(call: Call, p: Params) -> Result:
    """Rename or move a group."""
    rename(call, GROUP, p)
    return {}


def delete_group(call: Call, p: Params) -> Result:
    """Delete a group that has neither users nor policies left."""
    remove(call, GROUP, find_named(call, GROUP, p), _DEPENDENTS)
    return {}


def add_user_to_group(call: Call, p: Params) -> Result:
    """Put a user into a group; doing it twice is doing it once."""
    in_group, member = find_named(call, GROUP, p), find_named(call, USER, p)
    mine = membership.c.user_id == member.id
    if call.tx.execute(select(membership).where(mine, membership.c.group_id == in_group.id)).first() is not None:
        return {}
    count = call.tx.scalar(select(func.count()).select_from(membership).where(mine)) or 0
    if count >= call.limits.groups_per_user:
        raise LimitExceeded(f"Cannot exceed quota for GroupsPerUser: {call.limits.groups_per_user}")
    call.tx.execute(insert(membership).values(group_id=in_group.id, user_id=member.id))
    return {}


def remove_user_from_group(call: Call, p: Params) -> Result:
    """Take a user out of a group; raise NoSuchEntity where it was not in it."""
    in_group, member = find_named(call, GROUP, p), find_named(call, USER, p)
    mine = (membership.c.user_id == member.id, membership.c.group_id == in_group.id)
    if not call.tx.execute(delete(membership).where(*mine)).rowcount:
        raise NoSuchEntity(f"The user with name {member.name} is not in the group with name {in_group.name}.")
    return {}


def list_groups_for_user(call: Call, p: Params) -> Result:
    """Return a page of the groups of a user."""
    row = find_named(call, USER, p)
    mine = select(group).join(membership, membership.c.group_id == group.c.id).where(membership.c.user_id == row.id)
    rows, paging = paginate(call, mine, group.c.name_key, p)
    return {"Groups": [entity_members(GROUP, one) for one in rows], **paging}
