"""Replace the cut-off times of session revocation by generations.

The old rows are not kept: no session from before has generations, so all are refused.
"""

from alembic import op

from iam.store import schema

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Run the migration."""
    schema.revocation_generation.create(op.get_bind(), checkfirst=True)
    op.execute("DROP TABLE IF EXISTS revocation")
