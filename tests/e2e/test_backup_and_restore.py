"""Backups of a service in use, restored into a service in use, and the move to PostgreSQL."""

import threading
from dataclasses import replace
from typing import Self

from support.broker_process import Broker
from support.servers import HANG, eventually


def test_a_backup_under_load_holds_all_that_was_acknowledged_and_revives_nothing(new_broker, tmp_path):
    broker, file = new_broker(), tmp_path / "backup"
    before = broker.credentials("bob", "Reader")
    with Load(broker) as load:
        eventually(lambda: len(load.made) > 5)
        acknowledged = set(load.made)
        written = broker.fedgate("backup", str(file))
        assert (written["accounts"], file.stat().st_mode & 0o777) == (1, 0o600)
    # Another machine with the same master key, in use as well.
    elsewhere = new_broker()
    session = elsewhere.credentials("bob", "Reader")
    with Load(elsewhere, "other") as load:
        eventually(lambda: load.made)
        replaced = set(load.made)
        restored = elsewhere.fedgate("restore", str(file), "--yes")
        assert restored["rows"]["iam_user"] >= len(acknowledged)
        load.stop()
    names = users(elsewhere)
    assert acknowledged <= names
    assert not replaced & names
    for credentials in (before, session):
        assert eventually(lambda held=credentials: elsewhere.code(held)) == "InvalidClientTokenId"
    assert elsewhere.code(elsewhere.credentials("bob", "Reader")) == ""
    assert elsewhere.fedgate("audit", "verify")


def test_everything_moves_to_postgresql(new_broker, postgres_url, tmp_path):
    broker = new_broker()
    broker.client("iam").create_user(UserName="moved")
    refused = broker.run("migrate-database", postgres_url)
    assert refused.returncode == 1
    assert "Stop the service first." in refused.stderr
    assert broker.stop() == 0
    moved = broker.fedgate("migrate-database", postgres_url)
    assert moved["rows"]["iam_user"] == 1
    again = broker.run("migrate-database", postgres_url)
    assert (again.returncode, "has accounts already" in again.stderr) == (1, True)
    there = replace(broker, database_url=postgres_url, process=None)
    there.config.write_text(there._toml(), encoding="utf-8")
    try:
        there.start()
        assert "moved" in users(there)
        there.client("iam").create_user(UserName="after")
        file = tmp_path / "from-postgresql"
        there.fedgate("backup", str(file))
        there.client("iam").delete_user(UserName="after")
        there.fedgate("restore", str(file), "--yes")
        assert users(there) >= {"moved", "after"}
    finally:
        there.close()


def test_a_database_that_cannot_be_reached_is_named_with_the_reason(new_broker, tmp_path):
    broker = new_broker()
    url = f"postgresql+psycopg://fedgate@/fedgate?host={tmp_path}"
    failed = broker.run("init", FEDGATE_DATABASE_URL=url)
    assert failed.returncode == 1
    assert str(tmp_path) in failed.stderr


def users(broker: Broker) -> set[str]:
    pages = broker.client("iam").get_paginator("list_users").paginate()
    return {user["UserName"] for page in pages for user in page["Users"]}


class Load:
    """Makes users one after the other until it is stopped; ``made`` are those that were acknowledged."""

    def __init__(self, broker: Broker, prefix: str = "load") -> None:
        self.made: list[str] = []
        self._iam = broker.client("iam")
        self._prefix = prefix
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(HANG)

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            number += 1
            try:
                self._iam.create_user(UserName=f"{self._prefix}{number}")
            except self._iam.exceptions.ClientError:  # while a restore writes
                continue
            self.made.append(f"{self._prefix}{number}")
