"""Add the issuers of accounts and the keys that sign their tokens."""

from alembic import op

from iam.store import schema

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Take the step."""
    for table in (schema.outbound_issuer, schema.issuer_key):
        table.create(op.get_bind(), checkfirst=True)
