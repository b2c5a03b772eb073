"""What the disk, the server and other programs can do to the store."""

import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from support.servers import HANG
from support.threads import ended

from iam.errors import ServiceFailure, ServiceUnavailable
from iam.operations.credentials.access_keys import create_access_key
from iam.operations.users import create_user, list_users
from iam.store.database import open_engine
from iam.store.store import Store

ROOT = Path(__file__).parents[3]


def test_only_the_owner_may_read_the_file_and_its_log(account):
    database = Path(account.store.engine.url.database)
    for suffix in ("", "-wal", "-shm"):
        assert stat.S_IMODE(Path(f"{database}{suffix}").stat().st_mode) == 0o600


_LOOK = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select count(*) from iam_user').fetchone())"


def test_a_store_opened_beside_another_takes_no_locks_from_it(account):
    """Else another process that closes the file takes itself for the last, and deletes the log with later changes."""
    database = str(account.store.engine.url.database)

    def seen_elsewhere():
        command = [sys.executable, "-c", _LOOK, database]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    account.run(create_user, UserName="ann")
    open_engine(f"sqlite:///{database}").dispose()
    assert seen_elsewhere() == 1
    account.run(create_user, UserName="bob")
    assert seen_elsewhere() == 2


def test_sqlite_flushes_each_commit_and_keeps_references(account):
    with account.store.engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_no_secret_stands_in_the_files(account):
    secret = account.run(create_access_key)["AccessKey"]["SecretAccessKey"]
    database = Path(account.store.engine.url.database)
    everything = b"".join(path.read_bytes() for path in database.parent.iterdir())
    assert b"acme" in everything
    assert secret.encode() not in everything


def test_a_full_disk_refuses_changes_and_goes_on_reading(account):
    user_id = account.run(create_user, UserName="ann")["User"]["UserId"]
    # A limit on the size of files is a disk that is full, for this process.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = Path(f"{account.store.engine.url.database}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, limits[1]))
    try:
        with pytest.raises(ServiceFailure) as caught:
            account.run(create_user, UserName="bob")
        assert account.store.user(user_id).name == "ann"
        assert account.store.generations(["role|AROAX"]) == {}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "iam.db" not in caught.value.message
    assert [user["UserName"] for user in account.run(list_users)["Users"]] == ["ann"]
    account.run(create_user, UserName="bob")


def test_a_database_that_another_program_holds_refuses_in_time(account, tmp_path):
    holder = sqlite3.connect(tmp_path / "iam.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(ServiceFailure):
            account.run(create_user, UserName="ann")
        assert account.ask(list_users)["Users"] == []
    finally:
        holder.close()


KILLED = """
import os, signal, sys, time
from sqlalchemy import text
from iam.store.store import Store
from iam.store.vault import Vault
store = Store(sys.argv[1], Vault(bytes(32)), monotonic=time.monotonic)
with store.write() as tx:
    tx.execute(text("UPDATE account SET alias = 'half'"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_killed_inside_a_change_leaves_nothing_and_holds_up_nobody(any_account):
    url = any_account.store.engine.url.render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", KILLED, url], check=False, timeout=HANG, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    any_account.run(create_user, UserName="ann")
    assert any_account.store.account_by_alias("half") is None
    assert any_account.store.account_by_alias("acme").id == any_account.id


def test_a_read_only_server_refuses_changes_and_goes_on_reading(postgres_account, open_store):
    user_id = postgres_account.run(create_user, UserName="ann")["User"]["UserId"]
    store = postgres_account.store
    with store.engine.begin() as tx:
        tx.execute(text(f"ALTER DATABASE {store.engine.url.database} SET default_transaction_read_only = on"))
    store.engine.dispose()
    with pytest.raises(ServiceFailure):
        postgres_account.run(create_user, UserName="bob")
    assert store.user(user_id).name == "ann"
    assert open_store(str(store.engine.url)).user(user_id).name == "ann"


def test_a_database_that_is_away_is_unavailable_to_readers_and_fails_writers(vault, clock, tmp_path):
    store = Store(f"postgresql+psycopg://nobody@/none?host={tmp_path}", vault, monotonic=clock)
    with pytest.raises(ServiceUnavailable), store.read():
        pass
    with pytest.raises(ServiceFailure), store.write():
        pass
    with pytest.raises(ServiceUnavailable):
        store.generations(["role|AROAX"])
    store.refresh()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d"])
def test_other_databases_are_refused(vault, clock, url):
    with pytest.raises((ValueError, ImportError)):
        Store(url, vault, monotonic=clock)


def test_writers_that_wait_leave_connections_to_readers(any_account):
    store, ended_writing = any_account.store, threading.Event()

    def write():
        with store.write(bump_revision=False):
            ended_writing.wait(HANG)

    writers = [threading.Thread(target=write, daemon=True) for _ in range(20)]
    for writer in writers:
        writer.start()
    for _ in range(3):
        store.check()
    ended_writing.set()
    assert ended(*writers)
