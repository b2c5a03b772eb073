"""Add SAML identity providers and the keys of the SAML service provider."""

from alembic import op

from iam.store import schema

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Run the migration."""
    for table in (schema.saml_provider, schema.saml_private_key, schema.saml_service_key):
        table.create(op.get_bind(), checkfirst=True)
