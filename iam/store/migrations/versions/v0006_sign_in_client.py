"""Add the clients by which people sign in in the browser."""

from alembic import op

from iam.store import schema

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Take the step."""
    schema.sign_in_client.create(op.get_bind(), checkfirst=True)
