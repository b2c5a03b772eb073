"""Add the token issuers of accounts and their signing keys."""

from alembic import op

from iam.store import schema

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Run the migration."""
    for table in (schema.outbound_issuer, schema.issuer_key):
        table.create(op.get_bind(), checkfirst=True)
