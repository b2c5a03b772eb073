"""Add the marks of directory passwords that were changed here."""

from alembic import op

from iam.store import schema

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Run the migration."""
    schema.password_mark.create(op.get_bind(), checkfirst=True)
