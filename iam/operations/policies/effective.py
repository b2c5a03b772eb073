"""The identity-based policies of a user, group or role, and the entity that each belongs to.

Source: IAM API Reference, SimulatePrincipalPolicy (the labels of policies) and ListPoliciesGrantingServiceAccess.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from iam.arn import ACCOUNT_ID, parse_arn
from iam.call import Call, Params
from iam.errors import InvalidInput, NoSuchEntity
from iam.operations.named_entities import (
    GROUP,
    ROLE,
    USER,
    EntityType,
    PermissionRule,
    find_or_none,
    permission_on_entity,
)
from iam.operations.required_permission import RequiredPermission
from iam.policy.document import Policy, PolicyKind
from iam.store.record_reader import DENY_ALL_POLICY, managed_document, parse_stored_policy
from iam.store.schema import Entity, attachment, group, inline_policy, membership

ENTITY_TYPES = {entity_type.kind: entity_type for entity_type in (USER, GROUP, ROLE)}


@dataclass(frozen=True, slots=True)
class PolicyHolder:
    """A user, group or role that policies are attached to or embedded in."""

    entity_type: EntityType
    row: Entity

    @property
    def arn(self) -> str:
        """Return its ARN."""
        return self.entity_type.arn(self.row)


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """A policy of an entity; ``arn`` is None for an inline policy. The policy's label is unique per simulation."""

    holder: PolicyHolder
    name: str
    arn: str | None
    policy: Policy


def split_entity_arn(arn: str) -> tuple[EntityType, str, str]:
    """Return the entity type, account id and name in an entity's ARN; raise InvalidInput."""
    parts = parse_arn(arn)
    kind, _, rest = parts.resource.partition("/") if parts else ("", "", "")
    if (
        parts is None
        or parts.service != "iam"
        or not ACCOUNT_ID.fullmatch(parts.account)
        or kind not in ENTITY_TYPES
        or not rest
    ):
        raise InvalidInput(f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
    return ENTITY_TYPES[kind], parts.account, rest.rpartition("/")[2]


def find_holder(call: Call, arn: str) -> PolicyHolder:
    """Return the entity of the caller's account that an ARN names; raise InvalidInput, NoSuchEntity."""
    entity_type, account_id, name = split_entity_arn(arn)
    row = find_or_none(call, entity_type, name) if account_id == call.account_id else None
    if row is None:
        raise NoSuchEntity(f"The {entity_type.kind} with name {name} cannot be found.")
    return PolicyHolder(entity_type, row)


def on_entity(parameter: str) -> PermissionRule:
    """Return the permission rule for the entity whose ARN is in a parameter."""

    def permission(call: Call, p: Params) -> RequiredPermission:
        entity_type, account_id, name = split_entity_arn(p[parameter])
        return (
            permission_on_entity(call, entity_type, name, {})
            if account_id == call.account_id
            else RequiredPermission(p[parameter])
        )

    return permission


def policies_of(call: Call, holder: PolicyHolder) -> Iterator[EffectivePolicy]:
    """Yield the policies of an entity; for a user also those of its groups."""
    yield from _policies_on(call, holder)
    if holder.entity_type is USER:
        groups = select(group).join(membership).where(membership.c.user_id == holder.row.id).order_by(group.c.name_key)
        for row in call.tx.execute(groups).all():
            yield from _policies_on(call, PolicyHolder(GROUP, row))


def _policies_on(call: Call, holder: PolicyHolder) -> Iterator[EffectivePolicy]:
    row = holder.row
    inline = inline_policy.c
    texts = select(inline.name, inline.document).where(inline.entity_id == row.id).order_by(inline.name)
    for name, text in call.tx.execute(texts).all():
        label = f"{holder.entity_type.kind}_{row.name}_{name}"
        yield EffectivePolicy(holder, name, None, parse_stored_policy(text, PolicyKind.IDENTITY, label))
    arns = select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id).order_by(attachment.c.policy_arn)
    for arn in call.tx.scalars(arns).all():
        text = managed_document(call.tx, arn)
        if text is not None:
            yield EffectivePolicy(holder, _name(arn), arn, parse_stored_policy(text, PolicyKind.IDENTITY, _name(arn)))


def boundary_of(call: Call, holder: PolicyHolder) -> Policy | None:
    """Return the permissions boundary of a user or role."""
    arn = None if holder.entity_type is GROUP else holder.row.boundary
    if not arn:
        return None
    text = managed_document(call.tx, arn)
    return parse_stored_policy(text, PolicyKind.BOUNDARY, _name(arn)) if text else DENY_ALL_POLICY


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]
