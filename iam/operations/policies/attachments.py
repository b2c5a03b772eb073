"""Attaches managed policies to users, groups and roles, and lists the attachments.

Source: IAM API Reference, AttachUserPolicy, AttachGroupPolicy, AttachRolePolicy, ListEntitiesForPolicy.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import delete, false, insert, select

from iam.arn import parse_arn
from iam.call import Call, Params, Result
from iam.clock import to_milliseconds
from iam.errors import LimitExceeded, NoSuchEntity
from iam.limits import Limits
from iam.operations.named_entities import (
    GROUP,
    ROLE,
    USER,
    EntityType,
    find_named,
    has_path_prefix,
    paginate_list,
)
from iam.operations.policies.managed import exists
from iam.store.schema import attachment

_Run = Callable[[Call, Params], Result]


_QUOTA: Mapping[str, Callable[[Limits], int]] = {
    "user": lambda limits: limits.attached_policies_per_user,
    "group": lambda limits: limits.attached_policies_per_group,
    "role": lambda limits: limits.attached_policies_per_role,
}


def _attach(entity_type: EntityType) -> _Run:
    def attach(call: Call, p: Params) -> Result:
        """Attach a managed policy; attaching it again has no effect. Raise NoSuchEntity, LimitExceeded."""
        row, arn = find_named(call, entity_type, p), p["PolicyArn"]
        if not exists(call, arn):
            raise NoSuchEntity(f"Policy {arn} does not exist or is not attachable.")
        attached = set(call.tx.scalars(select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id)))
        quota = _QUOTA[entity_type.kind](call.limits)
        if arn not in attached and len(attached) >= quota:
            raise LimitExceeded(f"Cannot exceed quota for PoliciesPer{entity_type.title}: {quota}")
        if arn not in attached:
            values = {"policy_arn": arn, "account_id": call.account_id, "attached": to_milliseconds(call.now)}
            call.tx.execute(insert(attachment).values(entity_id=row.id, **values))
        return {}

    return attach


def _detach(entity_type: EntityType) -> _Run:
    def detach(call: Call, p: Params) -> Result:
        """Detach a managed policy; raise NoSuchEntity if it is not attached."""
        row = find_named(call, entity_type, p)
        matches = (attachment.c.entity_id == row.id, attachment.c.policy_arn == p["PolicyArn"])
        if not call.tx.execute(delete(attachment).where(*matches)).rowcount:
            raise NoSuchEntity(f"Policy {p['PolicyArn']} was not found.")
        return {}

    return detach


def _list_attached(entity_type: EntityType) -> _Run:
    def list_attached(call: Call, p: Params) -> Result:
        """Return a page of the managed policies that are attached to an entity."""
        row = find_named(call, entity_type, p)
        prefix = p.get("PathPrefix", "/")
        arns = call.tx.scalars(select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id))
        policies = [(*_path_and_name(arn), arn) for arn in arns]
        under_prefix = [(name, arn) for path, name, arn in policies if path.startswith(prefix)]
        page, paging = paginate_list(under_prefix, p, lambda policy: policy[1])
        return {"AttachedPolicies": [{"PolicyName": name, "PolicyArn": arn} for name, arn in page], **paging}

    return list_attached


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
    """Return a page of the groups, users and roles that use a policy, attached or as permissions boundary."""
    if not exists(call, p["PolicyArn"]):
        raise NoSuchEntity(f"Policy {p['PolicyArn']} was not found.")
    entity_filter = p.get("EntityFilter")
    types = [entity_type for entity_type in (GROUP, USER, ROLE) if entity_filter in (None, entity_type.title)]
    entities = [
        (entity_type, name, entity_id) for entity_type in types for name, entity_id in _entities(call, entity_type, p)
    ]
    page, paging = paginate_list(entities, p, lambda entity: f"{entity[0].title} {entity[1].lower()}")
    members = {
        f"Policy{entity_type.title}s": [
            {f"{entity_type.title}Name": name, f"{entity_type.title}Id": entity_id}
            for listed_type, name, entity_id in page
            if listed_type is entity_type
        ]
        for entity_type in (GROUP, USER, ROLE)
    }
    return {**members, **paging}


def _entities(call: Call, entity_type: EntityType, p: Params) -> list[tuple[str, str]]:
    """Return name and id of each entity that uses the policy as PolicyUsageFilter says."""
    columns, arn, usage = entity_type.table.c, p["PolicyArn"], p.get("PolicyUsageFilter")
    attached = columns.id.in_(select(attachment.c.entity_id).where(attachment.c.policy_arn == arn))
    bounded = columns.boundary == arn if entity_type is not GROUP else false()
    uses = {"PermissionsPolicy": attached, "PermissionsBoundary": bounded}.get(usage or "", attached | bounded)
    matches = (columns.account_id == call.account_id, has_path_prefix(columns.path, p), uses)
    return [(row.name, row.id) for row in call.tx.execute(select(columns.name, columns.id).where(*matches))]
