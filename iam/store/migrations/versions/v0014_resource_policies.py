"""Add the policies of resources; a database created later already has the table."""

from alembic import op

from iam.store import schema

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the migration."""
    schema.resource_policy.create(op.get_bind(), checkfirst=True)
