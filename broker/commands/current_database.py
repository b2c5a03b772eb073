"""The database as it is, for commands that only look: none is created, and none is migrated."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, make_url

from broker.config.settings import Settings
from iam.errors import ServiceFailure
from iam.store import migrations
from iam.store.database import open_engine, translate_database_errors


@contextmanager
def current_database(settings: Settings) -> Iterator[Connection | None]:
    """Open a connection; None for a database that does not exist yet or is of another version.

    Raise ServiceFailure where it does not answer.
    """
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        yield None
        return
    engine = open_engine(url)
    try:
        with translate_database_errors(ServiceFailure), engine.connect() as tx:
            yield tx if migrations.is_current(tx) else None
    finally:
        engine.dispose()
