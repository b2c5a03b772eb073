"""Add OpenID Connect providers."""

from alembic import op

from iam.store import schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Run the migration."""
    schema.oidc_provider.create(op.get_bind(), checkfirst=True)
