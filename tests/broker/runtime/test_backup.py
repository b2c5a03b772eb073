"""Backups of a database in use, and what is no backup."""

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from broker.runtime.backup import BackupError, opened_backup, write_backup
from iam.accounts import create_account
from iam.store import schema
from iam.store.store import Store
from iam.store.vault import Vault

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
VAULT = Vault(bytes(32))
RANDOM = random.Random(7).randbytes


@pytest.fixture
def store(tmp_path):
    """A store with one account, all of it in the write-ahead log."""
    opened = Store(f"sqlite:///{tmp_path}/live.db", VAULT, monotonic=lambda: 0.0)
    opened.migrate()
    with opened.write() as tx:
        create_account(tx, account_id="111122223333", alias="acme", now=NOW, random=RANDOM, vault=VAULT)
    yield opened
    opened.close()


@pytest.fixture
def backup(store, tmp_path):
    file = tmp_path / "backup"
    write_backup(store, VAULT, file, version="1.2.3", now=NOW, random=RANDOM)
    return file


def opened(file, vault=VAULT):
    return opened_backup(file, vault, file.parent)


def refused(file, says, vault=VAULT):
    with pytest.raises(BackupError, match=says), opened(file, vault):
        pass


def change(file, statement):
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def test_a_backup_is_one_private_file_that_holds_what_was_committed(backup, tmp_path):
    with opened(backup) as (manifest, tx):
        assert tx.scalars(select(schema.account.c.alias)).all() == ["acme"]
    assert (manifest.created, manifest.version) == ("2026-11-30T12:00:00Z", "1.2.3")
    assert manifest.tables["access_key"].rows == 1
    assert backup.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("live.db")) == ["backup"]


def test_an_existing_file_is_not_replaced(store, backup):
    with pytest.raises(BackupError, match="exists already"):
        write_backup(store, VAULT, backup, version="1.2.3", now=NOW, random=RANDOM)


def test_a_backup_under_another_master_key_is_refused(backup):
    refused(backup, "another master key", Vault(bytes([1] * 32)))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE account SET alias = 'evil'", "was changed after it was made .in account"),
        ("DELETE FROM access_key", "access_key"),
        ("DROP TABLE tag", "tag"),
        ("UPDATE fedgate_backup SET manifest = replace(manifest, '1.2.3', '9.9.9')", "was changed"),
        ("DELETE FROM fedgate_backup", "no backup"),
        ("DROP TABLE fedgate_backup", "no backup"),
    ],
)
def test_a_changed_backup_is_refused(backup, statement, says):
    change(backup, statement)
    refused(backup, says)


def test_what_is_no_backup_is_refused(tmp_path):
    for name, content in {"empty": b"", "text": b"no database", "cut": b"SQLite format 3\0" + bytes(200)}.items():
        file = tmp_path / name
        file.write_bytes(content)
        refused(file, "no backup, or it is damaged")


def test_a_backup_of_a_newer_version_says_which_one_to_install(backup):
    change(backup, "UPDATE alembic_version SET version_num = '9999'")
    refused(backup, "made by version 1.2.3, which is newer")


def test_a_backup_that_is_opened_is_not_changed(backup):
    before = backup.read_bytes()
    with opened(backup) as (_, tx):
        assert tx.scalars(select(schema.account.c.id)).all()
    assert backup.read_bytes() == before
