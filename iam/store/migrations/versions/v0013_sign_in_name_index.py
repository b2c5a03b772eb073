"""Add the index from which the sign-in page reads its SAML providers."""

from alembic import op

from iam.store import schema

revision = "0013"
down_revision = "0012"

_NAME = "ix_saml_provider_sign_in_name"


def upgrade() -> None:
    """Run the migration."""
    for index in schema.saml_provider.indexes:
        if index.name == _NAME:
            index.create(op.get_bind(), checkfirst=True)
