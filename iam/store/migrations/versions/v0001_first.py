"""Create every table, and the one row of the revision.

Until the first release this step follows iam.store.schema; then it is frozen and each change is a step of its own.
"""

from alembic import op
from sqlalchemy import insert

from iam.store import schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Take the step."""
    schema.metadata.create_all(op.get_bind())
    op.execute(insert(schema.revision).values(id=1, number=1))
