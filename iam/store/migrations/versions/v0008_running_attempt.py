"""Add the table of sign-in attempts that are being judged."""

from alembic import op

from iam.store import schema

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Run the migration."""
    schema.running_attempt.create(op.get_bind(), checkfirst=True)
