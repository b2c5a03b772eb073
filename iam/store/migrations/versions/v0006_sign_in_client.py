"""Add the OAuth clients for sign-in in the browser."""

from alembic import op

from iam.store import schema

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Run the migration."""
    schema.sign_in_client.create(op.get_bind(), checkfirst=True)
