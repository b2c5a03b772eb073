"""Brings a database to the present schema, step by step; Alembic is imported only when there is a step to take."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

# The newest file in versions/.
HEAD = "0007"


def is_current(tx: Connection) -> bool:
    """Return whether the database already has the newest schema."""
    if not inspect(tx).has_table("alembic_version"):
        return False
    return tx.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def upgrade(tx: Connection) -> None:
    """Take all missing steps inside this transaction; raise Alembic's CommandError for a newer program's database."""
    from alembic import command  # noqa: PLC0415 - a start with a current database saves 60 ms
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config(attributes={"connection": tx})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")
