"""Add to SAML providers what was parsed from their metadata, and the name on the sign-in page.

The metadata of existing providers is parsed once. None is on the sign-in page until the operator names it.
"""

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text, inspect, select, update

from iam.saml.metadata import InvalidMetadata, parse_metadata
from iam.saml.stored_metadata import metadata_columns
from iam.store import schema

revision = "0009"
down_revision = "0008"

_NEW = (
    Column("parsed", Text),
    Column("entity_id", String(1024)),
    Column("certificates", Text),
    Column("first_end", BigInteger),
    Column("metadata_size", Integer, nullable=False, server_default="0"),
    Column("sign_in_name", String(128)),
)


def upgrade() -> None:
    """Run the migration."""
    there = {column["name"] for column in inspect(op.get_bind()).get_columns("saml_provider")}
    for column in _NEW:
        if column.name not in there:  # else the first migration has created it
            op.add_column("saml_provider", column)
    if "first_end" not in there:
        op.create_index("ix_saml_provider_first_end", "saml_provider", ["first_end"])
    _parse_all()


def _parse_all() -> None:
    tx, table = op.get_bind(), schema.saml_provider
    for (provider_id,) in tx.execute(select(table.c.id)).all():
        text = tx.execute(select(table.c.metadata).where(table.c.id == provider_id)).scalar_one()
        tx.execute(update(table).where(table.c.id == provider_id).values(_columns(text)))


def _columns(text: str) -> dict[str, object]:
    """Return the new columns for a document; one that cannot be parsed has its size alone."""
    try:
        columns = metadata_columns(text, parse_metadata(text.encode()))
    except InvalidMetadata:
        return {"metadata_size": len(text)}
    return {name: value for name, value in columns.items() if name != "metadata"}
