"""Add the guardrails of accounts; a database that was made after them has the table already."""

from alembic import op

from iam.store import schema

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Take the step."""
    schema.guardrail.create(op.get_bind(), checkfirst=True)
