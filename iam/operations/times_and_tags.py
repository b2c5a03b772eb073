"""Tags: as the tables keep them, as answers show them, and as condition keys."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, select

from iam.call import Call, Params
from iam.errors import InvalidInput, LimitExceeded
from iam.operations.request_context import tag_keys
from iam.store.schema import tag


def tags_of(tx: Connection, entity_id: str) -> list[dict[str, str]]:
    """Return the tags of one thing, by key."""
    rows = tx.execute(select(tag.c.key, tag.c.value).where(tag.c.entity_id == entity_id).order_by(tag.c.key_folded))
    return [{"Key": row.key, "Value": row.value} for row in rows]


def resource_tag_keys(tx: Connection, entity_id: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys which tell the tags of a thing."""
    return tag_keys(tuple((one["Key"], one["Value"]) for one in tags_of(tx, entity_id)))


def request_tag_keys(p: Params) -> dict[str, tuple[str, ...]]:
    """Return the condition keys which tell the tags that a request brings or takes away."""
    brought: Sequence[Mapping[str, str]] = p.get("Tags", ())
    names = (*(one["Key"] for one in brought), *p.get("TagKeys", ()))
    keys: dict[str, tuple[str, ...]] = {f"aws:requesttag/{one['Key'].lower()}": (one["Value"],) for one in brought}
    return keys | {"aws:tagkeys": names} if names else keys


def put_tags(call: Call, entity_id: str, tags: Sequence[Mapping[str, str]]) -> None:
    """Add or overwrite tags; raise InvalidInput for doubles and reserved names, LimitExceeded above the quota."""
    folded = [one["Key"].lower() for one in tags]
    if len(set(folded)) != len(folded):
        raise InvalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.startswith("aws:") for key in folded):
        raise InvalidInput("System tags cannot be added/updated by the caller")
    delete_tags(call.tx, entity_id, folded)
    if len(tags_of(call.tx, entity_id)) + len(folded) > call.limits.tags_per_entity:
        raise LimitExceeded(f"The number of tags has reached the maximum limit: {call.limits.tags_per_entity}.")
    for one, key in zip(tags, folded, strict=True):
        row = {"entity_id": entity_id, "key_folded": key, "key": one["Key"], "value": one["Value"]}
        call.tx.execute(tag.insert().values(row))


def delete_tags(tx: Connection, entity_id: str, keys: Sequence[str] | None = None) -> None:
    """Remove some tags of a thing, or all of them."""
    query = delete(tag).where(tag.c.entity_id == entity_id)
    if keys is not None:
        query = query.where(tag.c.key_folded.in_([key.lower() for key in keys]))
    tx.execute(query)
