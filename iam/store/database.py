"""Opens the database, SQLite or PostgreSQL, with the same guarantees, and translates its errors.

SQLite: WAL with a flush at each commit, foreign keys, one writer at a time. PostgreSQL: a reader sees one snapshot.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from iam.clock import SECOND
from iam.errors import ConcurrentModification, InvalidInput, ServiceError

WAIT = 5  # seconds that a writer waits for another one

_POSTGRESQL = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5000,
    "options": f"-c lock_timeout={WAIT}s -c idle_in_transaction_session_timeout=60s",
}


def open_engine(url: str | URL) -> Engine:
    """Return an engine for a ``sqlite:///`` or ``postgresql+psycopg://`` URL; no connection is opened yet."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=True, pool_timeout=WAIT, connect_args=_POSTGRESQL)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ValueError("The database URL must begin with sqlite:/// (a file) or postgresql+psycopg://.")
    _create_private_file(parsed.database)
    engine = create_engine(parsed, pool_timeout=WAIT, connect_args={"timeout": WAIT})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def reading_engine(engine: Engine) -> Engine:
    """Return the engine for read transactions; each sees one snapshot."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writing_engine(engine: Engine) -> Engine:
    """Return the engine for write transactions; on SQLite they take the write lock when they begin.

    A transaction that reads first and takes the lock later fails with SQLITE_BUSY if another writer came in between.
    """
    return engine.execution_options(begin="BEGIN IMMEDIATE")


@contextmanager
def translate_database_errors(unavailable: type[ServiceError]) -> Iterator[None]:
    """Raise ``unavailable`` if the database is unreachable, full or read-only; its message goes to the log only."""
    try:
        yield
    except IntegrityError as error:
        raise ConcurrentModification(
            "The request was rejected because multiple requests to change this object were submitted simultaneously."
            " Wait a few minutes and submit your request again.",
            log=f"integrity: {error.orig}",
        ) from error
    except DataError as error:
        raise InvalidInput("A value cannot be stored.", log=f"data: {error.orig}") from error
    except DBAPIError as error:
        raise unavailable(
            "The data store is not available now. Try again later.", log=f"database: {error.orig}"
        ) from error
    except PoolTimeout as error:
        raise unavailable(
            "The data store is not available now. Try again later.", log="database: no free connection"
        ) from error


def is_busy(error: ServiceError) -> bool:
    """Return whether the database refused because another process holds its lock."""
    cause = error.__cause__
    orig = cause.orig if isinstance(cause, DBAPIError) else None
    locked = getattr(orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
    return locked or getattr(orig, "sqlstate", None) == _POSTGRESQL_BUSY


# Primary result codes SQLITE_BUSY and SQLITE_LOCKED; lock_not_available.
_SQLITE_BUSY, _POSTGRESQL_BUSY = (5, 6), "55P03"


def _create_private_file(path: str) -> None:
    # Only the owner can read the file; SQLite gives -wal and -shm the same mode. An existing file is not opened:
    # closing it would drop the POSIX locks that this process holds on it (sqlite.org, "How To Corrupt", section 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _configure_sqlite(connection: SqliteConnection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's listener
    # SQLAlchemy, "Serializable isolation / Savepoints / Transactional DDL": the driver must not begin transactions.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {WAIT * SECOND}")
    if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
