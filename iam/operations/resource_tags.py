"""Condition keys for the tags of an IAM resource, found by its ARN.

An operation reads the tags of the resource that its parameters name. An explanation has only an ARN, and must find the
same tags as the operation.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from iam.arn import Arn, parse_arn
from iam.operations.request_context import tag_keys
from iam.operations.required_permission import ContextKeys
from iam.store import schema
from iam.store.tags import tags_of

# Resources whose ARN has a path and a name.
_NAMED: Mapping[str, Table] = {
    "user": schema.user,
    "role": schema.role,
    "policy": schema.policy,
    "instance-profile": schema.instance_profile,
}


def resource_tag_keys(tx: Connection, entity_id: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of the tags of a resource: aws:ResourceTag and iam:ResourceTag."""
    return tag_keys(tuple((tag["Key"], tag["Value"]) for tag in tags_of(tx, entity_id)))


def tag_keys_by_arn(tx: Connection, text: str) -> ContextKeys:
    """Return the condition keys of the tags of a resource; none if IAM has no such resource."""
    arn = parse_arn(text)
    query = _entity_id(arn) if arn is not None and arn.service == "iam" else None
    entity_id = None if query is None else tx.scalar(query)
    return {} if entity_id is None else resource_tag_keys(tx, entity_id)


def _entity_id(arn: Arn) -> Select[Any] | None:
    """Return the query for the id under which a resource's tags are stored."""
    kind, _, rest = arn.resource.partition("/")
    if kind in _NAMED:
        table = _NAMED[kind].c
        path, _, name = f"/{rest}".rpartition("/")
        return select(table.id).where(table.account_id == arn.account, table.name == name, table.path == f"{path}/")
    if kind == "saml-provider":
        saml = schema.saml_provider.c
        return select(saml.id).where(saml.account_id == arn.account, saml.name == rest)
    if kind == "oidc-provider":
        oidc = schema.oidc_provider.c
        return select(oidc.id).where(oidc.account_id == arn.account, oidc.url == rest)
    device = schema.mfa_device.c
    return select(device.serial).where(device.serial == str(arn)) if kind == "mfa" else None
