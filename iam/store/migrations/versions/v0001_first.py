"""Create all tables and the row of the revision.

Until the first release this migration uses iam.store.schema; from then on it is frozen and each change is a migration
of its own.
"""

from alembic import op
from sqlalchemy import insert

from iam.store import schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Run the migration."""
    schema.metadata.create_all(op.get_bind())
    op.execute(insert(schema.revision).values(id=1, number=1))
