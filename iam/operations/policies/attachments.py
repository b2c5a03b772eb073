"""Managed policies on users, groups and roles, seen from either side.

Source: IAM API Reference, AttachUserPolicy and its kin, ListEntitiesForPolicy.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import delete, false, insert, select

from iam.arn import parse_arn
from iam.call import Call, Params, Result
from iam.errors import LimitExceeded, NoSuchEntity
from iam.limits import Limits
from iam.operations.named_entities import GROUP, ROLE, USER, Noun, about, about_permissions, named, page_of, under
from iam.operations.policies.managed import exists
from iam.operations.times_and_tags import milliseconds
from iam.store.schema import attachment

_Run = Callable[[Call, Params], Result]

on_group_permissions = about_permissions(GROUP)
on_user, on_group, on_role = about(USER), about(GROUP), about(ROLE)

_QUOTA: Mapping[str, Callable[[Limits], int]] = {
    "user": lambda limits: limits.attached_policies_per_user,
    "group": lambda limits: limits.attached_policies_per_group,
    "role": lambda limits: limits.attached_policies_per_role,
}


def _attach(noun: Noun) -> _Run:
    def attach(call: Call, p: Params) -> Result:
        """Attach a managed policy; doing it twice is doing it once. Raise NoSuchEntity, LimitExceeded."""
        row, arn = named(call, noun, p), p["PolicyArn"]
        if not exists(call, arn):
            raise NoSuchEntity(f"Policy {arn} does not exist or is not attachable.")
        attached = set(call.tx.scalars(select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id)))
        quota = _QUOTA[noun.kind](call.limits)
        if arn not in attached and len(attached) >= quota:
            raise LimitExceeded(f"Cannot exceed quota for PoliciesPer{noun.title}: {quota}")
        if arn not in attached:
            values = {"policy_arn": arn, "account_id": call.account_id, "attached": milliseconds(call.now)}
            call.tx.execute(insert(attachment).values(entity_id=row.id, **values))
        return {}

    return attach


def _detach(noun: Noun) -> _Run:
    def detach(call: Call, p: Params) -> Result:
        """Detach a managed policy; raise NoSuchEntity where it is not attached."""
        row = named(call, noun, p)
        mine = (attachment.c.entity_id == row.id, attachment.c.policy_arn == p["PolicyArn"])
        if not call.tx.execute(delete(attachment).where(*mine)).rowcount:
            raise NoSuchEntity(f"Policy {p['PolicyArn']} was not found.")
        return {}

    return detach


def _list_attached(noun: Noun) -> _Run:
    def listed(call: Call, p: Params) -> Result:
        """Return a page of the managed policies that are attached to an entity."""
        row = named(call, noun, p)
        prefix = p.get("PathPrefix", "/")
        arns = call.tx.scalars(select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id))
        named_arns = [(_path_and_name(arn), arn) for arn in arns]
        wanted = [(name, arn) for (path, name), arn in named_arns if path.startswith(prefix)]
        shown, paging = page_of(wanted, p, lambda one: one[1])
        return {"AttachedPolicies": [{"PolicyName": name, "PolicyArn": arn} for name, arn in shown], **paging}

    return listed


def _path_and_name(arn: str) -> tuple[str, str]:
    parts = parse_arn(arn)
    path, _, name = (parts.resource if parts else arn).removeprefix("policy").rpartition("/")
    return f"{path}/", name


attach_user_policy, attach_group_policy, attach_role_policy = _attach(USER), _attach(GROUP), _attach(ROLE)
detach_user_policy, detach_group_policy, detach_role_policy = _detach(USER), _detach(GROUP), _detach(ROLE)
list_attached_user_policies = _list_attached(USER)
list_attached_group_policies = _list_attached(GROUP)
list_attached_role_policies = _list_attached(ROLE)


def list_entities_for_policy(call: Call, p: Params) -> Result:
    """Return a page of the groups, users and roles which a policy is attached to or bounds."""
    if not exists(call, p["PolicyArn"]):
        raise NoSuchEntity(f"Policy {p['PolicyArn']} was not found.")
    wanted = p.get("EntityFilter")
    nouns = [noun for noun in (GROUP, USER, ROLE) if wanted in (None, noun.title)]
    found = [(noun, name, entity_id) for noun in nouns for name, entity_id in _entities(call, noun, p)]
    shown, paging = page_of(found, p, lambda one: f"{one[0].title} {one[1].lower()}")
    members = {
        f"Policy{noun.title}s": [
            {f"{noun.title}Name": name, f"{noun.title}Id": entity_id} for one, name, entity_id in shown if one is noun
        ]
        for noun in (GROUP, USER, ROLE)
    }
    return {**members, **paging}


def _entities(call: Call, noun: Noun, p: Params) -> list[tuple[str, str]]:
    """Return name and id of each entity that uses the policy in the way that PolicyUsageFilter asks for."""
    columns, arn, usage = noun.table.c, p["PolicyArn"], p.get("PolicyUsageFilter")
    attached = columns.id.in_(select(attachment.c.entity_id).where(attachment.c.policy_arn == arn))
    bounded = columns.boundary == arn if noun is not GROUP else false()
    uses = {"PermissionsPolicy": attached, "PermissionsBoundary": bounded}.get(usage or "", attached | bounded)
    mine = (columns.account_id == call.account_id, under(columns.path, p), uses)
    return [(row.name, row.id) for row in call.tx.execute(select(columns.name, columns.id).where(*mine))]
