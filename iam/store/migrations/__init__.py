"""Database migrations with Alembic, which is imported only if a migration is needed."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

# The newest revision in versions/.
HEAD = "0014"


def is_current(tx: Connection) -> bool:
    """Return whether the database has the newest schema."""
    if not inspect(tx).has_table("alembic_version"):
        return False
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def upgrade(tx: Connection) -> None:
    """Run the missing migrations in this transaction; raise Alembic's CommandError for a newer database."""
    from alembic import command  # noqa: PLC0415 - saves 60 ms if the schema is current
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config(attributes={"connection": tx})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")
