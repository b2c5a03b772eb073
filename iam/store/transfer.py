"""Copies all rows from one database to another, and compares what two databases hold.

Serves backups, restores and the move from SQLite to PostgreSQL: what is copied does not depend on the kind of database.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Insert, Table, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from iam.store.schema import audit_record, metadata, revision, running_attempt

# Not content: the number of changes to one database, and the attempts that are being judged now.
_OF_ONE_DATABASE = (revision, running_attempt)
TABLES: tuple[Table, ...] = tuple(table for table in metadata.sorted_tables if table not in _OF_ONE_DATABASE)
_BATCH = 1000  # rows that are in memory at a time
_DIGEST_BITS = 256


class TableDigest(NamedTuple):
    """The number of rows of a table, and a checksum that does not depend on their order (hexadecimal)."""

    rows: int
    checksum: str


def copy_rows(source: Connection, target: Connection, tables: Collection[Table] = TABLES) -> None:
    """Replace the rows of these tables in ``target`` by those of ``source``; parents are written before children."""
    ordered = [table for table in metadata.sorted_tables if table in tables]
    for table in reversed(ordered):
        target.execute(delete(table))
    for table in ordered:
        for batch in _batches(source, table):
            target.execute(insert(table), batch)
    if audit_record in ordered:
        _continue_sequence(target)


def copy_revision(source: Connection, target: Connection) -> None:
    """Let ``target`` go on counting changes where ``source`` is: sessions seal the number that they were minted at."""
    number = source.execute(select(revision.c.number)).scalar_one()
    target.execute(update(revision).values(number=number + 1))


def digests(tx: Connection, tables: Collection[Table] = TABLES) -> dict[str, TableDigest]:
    """Return the digest of each table by its name; equal rows have equal digests in every kind of database."""
    return {table.name: _digest(tx, table) for table in tables}


def differences(expected: Mapping[str, TableDigest], actual: Mapping[str, TableDigest]) -> list[str]:
    """Return the names of the tables that differ, or that only one side has, in order."""
    return sorted(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))


def add_rows(
    source: Connection, target: Connection, table: Table, *, unique: Collection[str], leave_out: Collection[str] = ()
) -> None:
    """Add the rows whose unique columns ``target`` does not have; the columns that are left out get new values."""
    statement = _insert_new(target, table, unique)
    for batch in _batches(source, table):
        target.execute(statement, [{name: row[name] for name in row if name not in leave_out} for row in batch])


def _insert_new(target: Connection, table: Table, unique: Collection[str]) -> Insert:
    if target.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing(index_elements=unique)
    return sqlite.insert(table).on_conflict_do_nothing(index_elements=unique)


def _digest(tx: Connection, table: Table) -> TableDigest:
    # A sum, because databases sort text by different rules.
    rows, total = 0, 0
    for batch in _batches(tx, table):
        for row in batch:
            rows += 1
            total += int.from_bytes(hashlib.sha256(_canonical(row)).digest(), "big")
    return TableDigest(rows, f"{total % 2**_DIGEST_BITS:064x}")


def _canonical(row: Mapping[str, Any]) -> bytes:
    values = {str(name): value.hex() if isinstance(value, bytes) else value for name, value in row.items()}
    return json.dumps(values, sort_keys=True).encode()


def _batches(tx: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    result = tx.execute(select(table), execution_options={"stream_results": True, "yield_per": _BATCH})
    yield from ([dict(row) for row in batch] for batch in result.mappings().partitions())


def _continue_sequence(tx: Connection) -> None:
    """Let PostgreSQL number new audit records after those that were copied; SQLite does so by itself."""
    if tx.dialect.name == "postgresql":
        tx.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('audit_record', 'seq'),"
                " (SELECT coalesce(max(seq), 0) + 1 FROM audit_record), false)"
            )
        )
