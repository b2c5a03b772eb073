"""Add the guardrails of accounts; a database created later already has the table."""

from alembic import op

from iam.store import schema

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Run the migration."""
    schema.guardrail.create(op.get_bind(), checkfirst=True)
