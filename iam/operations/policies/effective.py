"""The policies that a user, group or role has, each with where it comes from.

Source: IAM API Reference, SimulatePrincipalPolicy, whose names of policies these are, and
ListPoliciesGrantingServiceAccess.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from iam.arn import ACCOUNT_ID, parse_arn
from iam.call import Call, Params
from iam.errors import InvalidInput, NoSuchEntity
from iam.operations.named_entities import GROUP, ROLE, USER, Asks, Entity, Noun, ask_about, find_or_none
from iam.operations.required_permission import Ask
from iam.policy.document import Policy, PolicyKind
from iam.store.records import NOTHING, managed_document, parsed
from iam.store.schema import attachment, group, inline_policy, membership

NOUNS = {noun.kind: noun for noun in (USER, GROUP, ROLE)}


@dataclass(frozen=True, slots=True)
class Holder:
    """A user, group or role: what it is, and its row."""

    noun: Noun
    row: Entity

    @property
    def arn(self) -> str:
        """Return its ARN."""
        return self.noun.arn(self.row)


@dataclass(frozen=True, slots=True)
class Granted:
    """One policy of a holder; ``arn`` is None for an inline policy. The policy's label is unique among all of them."""

    holder: Holder
    name: str
    arn: str | None
    policy: Policy


def split(arn: str) -> tuple[Noun, str, str]:
    """Return what an entity's ARN names: the noun, the account, the name; raise InvalidInput."""
    parts = parse_arn(arn)
    kind, _, rest = parts.resource.partition("/") if parts else ("", "", "")
    if (
        parts is None
        or parts.service != "iam"
        or not ACCOUNT_ID.fullmatch(parts.account)
        or kind not in NOUNS
        or not rest
    ):
        raise InvalidInput(f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
    return NOUNS[kind], parts.account, rest.rpartition("/")[2]


def holder_of(call: Call, arn: str) -> Holder:
    """Return the entity of the caller's account that an ARN names; raise InvalidInput, NoSuchEntity."""
    noun, account_id, name = split(arn)
    row = find_or_none(call, noun, name) if account_id == call.account_id else None
    if row is None:
        raise NoSuchEntity(f"The {noun.kind} with name {name} cannot be found.")
    return Holder(noun, row)


def on_entity(parameter: str) -> Asks:
    """Return what asks about the entity whose ARN a parameter has."""

    def ask(call: Call, p: Params) -> Ask:
        noun, account_id, name = split(p[parameter])
        return ask_about(call, noun, name, {}) if account_id == call.account_id else Ask(p[parameter])

    return ask


def policies_of(call: Call, holder: Holder) -> Iterator[Granted]:
    """Yield every policy of an entity, with those of a user's groups."""
    yield from _own(call, holder)
    if holder.noun is USER:
        mine = select(group).join(membership).where(membership.c.user_id == holder.row.id).order_by(group.c.name_key)
        for row in call.tx.execute(mine).all():
            yield from _own(call, Holder(GROUP, row))


def _own(call: Call, holder: Holder) -> Iterator[Granted]:
    row = holder.row
    inline = inline_policy.c
    texts = select(inline.name, inline.document).where(inline.entity_id == row.id).order_by(inline.name)
    for name, text in call.tx.execute(texts).all():
        label = f"{holder.noun.kind}_{row.name}_{name}"
        yield Granted(holder, name, None, parsed(text, PolicyKind.IDENTITY, label))
    arns = select(attachment.c.policy_arn).where(attachment.c.entity_id == row.id).order_by(attachment.c.policy_arn)
    for arn in call.tx.scalars(arns).all():
        text = managed_document(call.tx, arn)
        if text is not None:
            yield Granted(holder, _name(arn), arn, parsed(text, PolicyKind.IDENTITY, _name(arn)))


def boundary_of(call: Call, holder: Holder) -> Policy | None:
    """Return the permissions boundary of a user or role."""
    arn = None if holder.noun is GROUP else holder.row.boundary
    if not arn:
        return None
    text = managed_document(call.tx, arn)
    return parsed(text, PolicyKind.BOUNDARY, _name(arn)) if text else NOTHING


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]
