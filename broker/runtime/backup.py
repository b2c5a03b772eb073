"""Backups: a consistent copy of the database in one SQLite file, whatever database the installation uses.

The file holds every secret of the installation as the database does: encrypted under the master key, which is not in
it. A manifest, sealed under that key, says what the file must hold; a file that was changed, cut or made under another
key is refused.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import URL, Column, Connection, LargeBinary, MetaData, Table, Text, insert, select
from sqlalchemy.exc import DatabaseError, NoResultFound

from iam.arn import Random
from iam.clock import iso8601
from iam.errors import ServiceError
from iam.store import migrations
from iam.store.store import Store
from iam.store.transfer import TableDigest, copy_rows, differences, digests
from iam.store.vault import CannotUnseal, Vault

_FORMAT = 1
_OWNER = "backup"  # whose secret the sealed checksum of a manifest is
_manifest = Table("fedgate_backup", MetaData(), Column("manifest", Text), Column("sealed", LargeBinary))


class BackupError(Exception):
    """A backup cannot be written or used; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds: when and by which version it was made, its schema, and a digest for each table."""

    created: str  # ISO 8601, UTC
    version: str
    schema: str
    tables: Mapping[str, TableDigest]

    def text(self) -> str:
        """Return the manifest as JSON."""
        fields = {"format": _FORMAT, "created": self.created, "version": self.version, "schema": self.schema}
        tables = {name: [digest.rows, digest.checksum] for name, digest in self.tables.items()}
        return json.dumps({**fields, "tables": tables}, sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> "Manifest":
        """Return the manifest that was written as JSON; raise BackupError for another format."""
        fields = json.loads(text)
        if fields["format"] != _FORMAT:
            raise BackupError(f"The backup has format {fields['format']}, made by version {fields['version']}.")
        tables = {name: TableDigest(*digest) for name, digest in fields["tables"].items()}
        return cls(fields["created"], fields["version"], fields["schema"], tables)


def write_backup(store: Store, vault: Vault, file: Path, *, version: str, now: datetime, random: Random) -> Manifest:
    """Write a backup of one snapshot of the database; the service may be running. Raise BackupError, OSError.

    The file appears under its name when it is complete, readable by its owner only; an existing file is not replaced.
    """
    if file.exists():
        raise BackupError(f"{file} exists already.")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fedgate-backup-") as folder:
        partial = Path(folder) / "database"
        with closing(_open(partial, vault)) as copy, store.read() as source:
            copy.migrate()
            with copy.write() as target:
                copy_rows(source, target)
                manifest = Manifest(iso8601(now), version, migrations.HEAD, digests(source))
                _check(manifest.tables, digests(target))
                _write_manifest(target, manifest, vault, random)
        _make_single_file(partial)
        _publish(partial, file)
    return manifest


@contextmanager
def opened_backup(file: Path, vault: Vault, scratch: Path) -> Iterator[tuple[Manifest, Connection]]:
    """Give the manifest of a backup and a transaction on its data, upgraded to the current schema.

    The file is copied to a folder of its own in ``scratch`` and not changed. Raise BackupError where it is no backup,
    is damaged, was changed, or was made under another master key or by a newer version.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".fedgate-restore-") as folder:
        copied = Path(folder) / "database"
        copied.touch(mode=0o600)
        shutil.copyfile(file, copied)
        with closing(_open(copied, vault)) as copy:
            manifest = _verify(copy, vault, file)
            _upgrade(copy, manifest)
            with copy.read() as tx:
                yield manifest, tx


def _open(file: Path, vault: Vault) -> Store:
    return Store(URL.create("sqlite", database=str(file)), vault, monotonic=lambda: 0.0)


def _write_manifest(tx: Connection, manifest: Manifest, vault: Vault, random: Random) -> None:
    text = manifest.text()
    _manifest.create(tx)
    tx.execute(insert(_manifest).values(manifest=text, sealed=vault.seal(_checksum(text), _OWNER, random)))


def _checksum(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _make_single_file(file: Path) -> None:
    """Leave no write-ahead log beside the file, so that copying the file copies everything."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _publish(partial: Path, file: Path) -> None:
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    try:
        os.link(partial, file)  # unlike rename, it fails where the file exists by now
    except FileExistsError as error:
        raise BackupError(f"{file} exists already.") from error
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _verify(copy: Store, vault: Vault, file: Path) -> Manifest:
    """Return the manifest of a backup whose content it describes."""
    try:
        with copy.read() as tx:
            text, sealed = tx.execute(select(_manifest)).one()
            manifest = _authentic(text, sealed, vault)
            different = differences(manifest.tables, digests(tx, _tables_in(tx, manifest)))
            if different:
                raise BackupError(
                    f"{file} was changed after it was made (in {', '.join(different)}). Nothing is restored."
                )
    except (ServiceError, DatabaseError, NoResultFound) as error:
        raise BackupError(f"{file} is no backup, or it is damaged.") from error
    return manifest


def _authentic(text: str, sealed: bytes, vault: Vault) -> Manifest:
    try:
        genuine = vault.open(sealed, _OWNER) == _checksum(text)
    except CannotUnseal as error:
        raise BackupError(
            "The backup was made with another master key. Put the key of that installation in place first."
        ) from error
    if not genuine:
        raise BackupError("The manifest of the backup was changed.")
    return Manifest.parse(text)


def _tables_in(tx: Connection, manifest: Manifest) -> list[Table]:
    """Return the tables as the backup has them: an older schema has other columns."""
    reflected = MetaData()
    reflected.reflect(tx, only=lambda name, _: name in manifest.tables)
    return list(reflected.tables.values())


def _check(expected: Mapping[str, TableDigest], actual: Mapping[str, TableDigest]) -> None:
    different = differences(expected, actual)
    if different:
        raise BackupError(f"The copy differs from the original in these tables: {', '.join(different)}.")


def _upgrade(copy: Store, manifest: Manifest) -> None:
    from alembic.util import CommandError  # noqa: PLC0415 - slow to import, and most commands need none

    try:
        copy.migrate()
    except CommandError as error:
        raise BackupError(
            f"The backup was made by version {manifest.version}, which is newer than this one: install that version."
        ) from error
