"""Mark the records of changes that the audit log has, too; all that there are from before count as such."""

from alembic import op
from sqlalchemy import Boolean, Column, inspect, update

from iam.store import schema

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Run the migration."""
    if "logged" not in {column["name"] for column in inspect(op.get_bind()).get_columns("audit_record")}:
        op.add_column("audit_record", Column("logged", Boolean))
        op.create_index("ix_audit_record_logged", "audit_record", ["logged"])
    op.get_bind().execute(update(schema.audit_record).values(logged=True))
