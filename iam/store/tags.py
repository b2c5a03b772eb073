"""Tags of users, roles, policies, devices and providers in the database."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, select

from iam.errors import InvalidInput, LimitExceeded
from iam.limits import Limits
from iam.store.schema import tag


def tags_of(tx: Connection, entity_id: str) -> list[dict[str, str]]:
    """Return the tags of a resource, by key."""
    rows = tx.execute(select(tag.c.key, tag.c.value).where(tag.c.entity_id == entity_id).order_by(tag.c.key_folded))
    return [{"Key": row.key, "Value": row.value} for row in rows]


def put_tags(tx: Connection, entity_id: str, tags: Sequence[Mapping[str, str]], limits: Limits) -> None:
    """Add or overwrite tags; raise InvalidInput for duplicate or reserved keys, LimitExceeded above the quota."""
    folded = [item["Key"].lower() for item in tags]
    if len(set(folded)) != len(folded):
        raise InvalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.startswith("aws:") for key in folded):
        raise InvalidInput("System tags cannot be added/updated by the caller")
    delete_tags(tx, entity_id, folded)
    if len(tags_of(tx, entity_id)) + len(folded) > limits.tags_per_entity:
        raise LimitExceeded(f"The number of tags has reached the maximum limit: {limits.tags_per_entity}.")
    for new_tag, key in zip(tags, folded, strict=True):
        row = {"entity_id": entity_id, "key_folded": key, "key": new_tag["Key"], "value": new_tag["Value"]}
        tx.execute(tag.insert().values(row))


def delete_tags(tx: Connection, entity_id: str, keys: Sequence[str] | None = None) -> None:
    """Remove some or all tags of a resource."""
    query = delete(tag).where(tag.c.entity_id == entity_id)
    if keys is not None:
        query = query.where(tag.c.key_folded.in_([key.lower() for key in keys]))
    tx.execute(query)
