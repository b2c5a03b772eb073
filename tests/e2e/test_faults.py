"""Parts die while others are served: nothing acknowledged is lost, nothing is granted unrecorded, the rest goes on."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from redis import Redis
from support.broker_process import Broker, alive, children, command_line, connected, role_arn, trusting
from support.directories import running_slapd
from support.servers import HANG, eventually, postgresql_database, postgresql_server, redis_server

FINE = {""}


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory, slapd, furnished) -> Iterator[Broker]:
    """A broker with a Redis of its own whose parts these tests kill, one after another."""
    with redis_server() as url, contextlib.closing(Broker(tmp_path_factory.mktemp("sturdy"), slapd, url)) as broker:
        yield broker.like(furnished).start()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process where it stands, as a hung machine does, and let it go on afterwards."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def unready(broker: Broker) -> set[str]:
    status, checks = broker.ready()
    failed = {name for name, result in checks.items() if result != "ok"}
    assert status == (503 if failed else 200)
    return failed


def kill_a_worker_under_load(broker: Broker, prefix: str) -> list[str]:
    """Kill a worker while four clients make users; return the users whose making was acknowledged."""
    acknowledged, stop = [], threading.Event()

    def make_users(client: int) -> None:
        iam, number = broker.client("iam"), 0
        while not stop.is_set():
            number += 1
            # What the dying worker did not answer may or may not be there.
            with contextlib.suppress(ClientError, BotoCoreError):
                iam.create_user(UserName=f"{prefix}-{client}-{number}")
                acknowledged.append(f"{prefix}-{client}-{number}")

    before = broker.workers()
    with ThreadPoolExecutor(4) as pool:
        for client in range(4):
            pool.submit(make_users, client)
        try:
            eventually(lambda: len(acknowledged) > 20)
            os.kill(before[0], signal.SIGKILL)
            at_death = len(acknowledged)
            eventually(lambda: len(acknowledged) > at_death + 20)
        finally:
            stop.set()
    after = eventually(lambda: len(now := broker.workers()) == 2 and before[0] not in now and now)
    assert before[1] in after
    return acknowledged


def stored_users(broker: Broker, prefix: str) -> set[str]:
    pages = broker.client("iam").get_paginator("list_users").paginate()
    return {user["UserName"] for page in pages for user in page["Users"] if user["UserName"].startswith(f"{prefix}-")}


def check_nothing_was_lost(broker: Broker, prefix: str, acknowledged: list[str]) -> None:
    stored = stored_users(broker, prefix)
    assert set(acknowledged) <= stored
    assert stored == {name for name in recorded(broker, "CreateUser") if name.startswith(f"{prefix}-")}
    assert broker.run("audit", "verify").returncode == 0


def test_a_worker_killed_under_load_loses_nothing_that_was_acknowledged(sturdy):
    check_nothing_was_lost(sturdy, "load", kill_a_worker_under_load(sturdy, "load"))


@pytest.mark.long
def test_forty_workers_killed_one_after_another_lose_nothing(new_broker):
    broker, acknowledged = new_broker(server={"workers": 2}), []
    for number in range(40):
        acknowledged += kill_a_worker_under_load(broker, f"soak-{number}")
    check_nothing_was_lost(broker, "soak", acknowledged)


def recorded(broker: Broker, event: str) -> set[str]:
    """Return the users that an event's records in the database name."""
    with contextlib.closing(sqlite3.connect(broker.data / "fedgate.db")) as database:
        records = [json.loads(text) for (text,) in database.execute("SELECT record FROM audit_record")]
    return {one["requestParameters"]["userName"] for one in records if one["eventName"] == event}


@pytest.mark.parametrize("fault", ["hangs", "is killed"])
def test_while_redis_is_away_credentials_verify_and_are_minted(sturdy, fault):
    with Redis.from_url(sturdy.redis_url) as client:
        server = client.info("server")["process_id"]
    before = sturdy.credentials("bob", "Reader")
    with contextlib.ExitStack() as stack:
        if fault == "hangs":
            stack.enter_context(frozen(server))
        else:
            os.kill(server, signal.SIGKILL)
        assert eventually(lambda: unready(sturdy)) == {"redis"}
        assert sturdy.codes(before) == FINE
        meanwhile = sturdy.credentials("carol", "Reader")
        assert sturdy.codes(meanwhile) == FINE
        assert sturdy.code(meanwhile) == ""
        answer = sturdy.run("sessions", "list")
        assert (answer.returncode, "Redis" in answer.stderr) == (1, True)
    if fault == "hangs":
        eventually(lambda: not unready(sturdy))
        time.sleep(1)  # a worker that was disappointed tries again a second later
        for _ in range(16):  # whichever worker it was that minted: with its next session it lists what waited
            sturdy.credentials("erin", "Reader")
        assert sturdy.session(meanwhile)["arn"].endswith(":assumed-role/Reader/carol")


def test_an_embedded_redis_that_dies_is_started_again(new_broker):
    broker = new_broker()
    (server,) = (pid for pid in children(broker.process.pid) if "redis-server" in command_line(pid))
    before = broker.credentials("bob", "Reader")
    broker.session(before)
    os.kill(server, signal.SIGKILL)
    assert broker.codes(before) == FINE
    eventually(lambda: not alive(server) and not unready(broker))
    assert broker.codes(before) == FINE
    # The append-only file gave the list back.
    broker.session(before)
    family = children(broker.process.pid)
    assert broker.stop() == 0
    assert not any(map(alive, family))


def test_while_the_directory_is_away_nobody_signs_in_and_everybody_else_works(tmp_path, new_broker):
    folder = tmp_path / "slapd"
    folder.mkdir()
    with running_slapd(folder) as directory:
        broker = new_broker(directory)
        before = broker.credentials("bob", "Reader")
        server = int((folder / "pid").read_text())
        with frozen(server):
            answer = broker.sign_in("bob", "Reader")
            assert (answer.status, answer.code) == (503, "ServiceUnavailable")
            assert int(answer.headers["Retry-After"]) > 0
            assert broker.code(before) == ""
        os.kill(server, signal.SIGTERM)
        eventually(lambda: not alive(server))
        for _ in range(7):  # more than what locks a name out
            answer = broker.sign_in("bob", "Reader")
            assert (answer.status, answer.code) == (503, "ServiceUnavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert unready(broker) == {"directory corp"}
        assert broker.codes(before) == FINE
        with contextlib.closing(broker.client("sts", before)) as sts:
            sts.assume_role(RoleArn=role_arn("Chained"), RoleSessionName="still")
        assert not tried_in_vain(broker)


def tried_in_vain(broker: Broker) -> int:
    with contextlib.closing(sqlite3.connect(broker.data / "fedgate.db")) as database:
        return database.execute("SELECT count(*) FROM failed_attempt").fetchone()[0]


def test_where_the_audit_log_cannot_grow_nothing_is_minted_or_changed(sturdy):
    full = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in sturdy.workers()}
    iam = sturdy.client("iam")
    for pid, (_, hard) in full.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        answers = [sturdy.sign_in("bob", "Reader") for _ in range(8)]
        assert {(one.status, one.code) for one in answers} == {(503, "ServiceUnavailable")}
        assert {one.text("SecretAccessKey") for one in answers} == {None}
        assert "Retry-After" in answers[0].headers
        with pytest.raises(ClientError) as raised:
            iam.create_user(UserName="unrecorded")
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert "audit" in unready(sturdy)
    finally:
        for pid, limits in full.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    assert sturdy.sign_in("bob", "Reader").status == 200
    with pytest.raises(ClientError, match="NoSuchEntity"):
        iam.get_user(UserName="unrecorded")
    assert sturdy.run("audit", "verify").returncode == 0


def test_two_hundred_people_sign_in_at_once(sturdy):
    people = [("alice", "Administrator"), ("bob", "Reader"), ("carol", "Reader"), ("dave", "Archive")] * 50
    before = sturdy.trails()
    with ThreadPoolExecutor(len(people)) as pool:
        answers = list(pool.map(lambda one: sturdy.sign_in(*one), people))
    assert [one.status for one in answers] == [200] * len(people)
    assert len({one.text("AccessKeyId") for one in answers}) == len(people)
    assert all(size > before[pid] for pid, size in sturdy.trails().items())


def test_a_stop_waits_for_answers_and_not_for_idle_connections(new_broker):
    broker = new_broker()
    form = b"Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&LDAPUsername=dave&LDAPPassword=open-the-pod-bay"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(form)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(broker.endpoint)) for _ in range(8)]
        for one in idle[:4]:  # the others have not said a word
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        busy = stack.enter_context(connected(broker.endpoint))
        busy.sendall(head + form[:20])
        time.sleep(0.3)
        broker.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        busy.sendall(form[20:])
        assert b"<SecretAccessKey>" in b"".join(iter(lambda: busy.recv(65536), b""))
        assert broker.process.wait(HANG) == 0
        for one in idle:
            assert b"".join(iter(lambda one=one: one.recv(4096), b"")) in (b"", b'{\n  "status": "ok"\n}\n')
    log = broker.log.read_text()
    assert "Traceback" not in log
    # What gunicorn says when it has waited for connections in vain.
    assert "graceful timeout" not in log


def test_an_account_is_made_while_the_service_runs(sturdy):
    made = sturdy.fedgate("account", "create", "--id", "210987654321", "--alias", "second")
    assert (made["account_id"], made["alias"]) == ("210987654321", "second")
    root = sturdy.root
    try:
        sturdy.root = type(root)(made["root"]["access_key_id"], made["root"]["secret_access_key"])
        eventually(lambda: sturdy.codes(sturdy.root) == FINE)
        assert sturdy.client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::210987654321:root"
        assert sturdy.client("iam").list_users()["Users"] == []
    finally:
        sturdy.root = root
    twice = sturdy.run("account", "create", "--id", "210987654321")
    assert twice.returncode == 1
    assert "210987654321" in twice.stderr


def test_the_whole_way_works_on_postgresql(tmp_path: Path, slapd):
    with (
        postgresql_server() as folder,
        redis_server() as redis,
        contextlib.closing(
            Broker(tmp_path, slapd, redis, postgresql_database(folder, "fedgate"), {"workers": 2})
        ) as broker,
    ):
        broker.make().start()
        broker.role("Reader", trusting("staff"), "IAMReadOnlyAccess")
        revoked = eventually(lambda: broker.credentials_if_trusted("bob", "Reader"))
        kept = broker.credentials("erin", "Reader")
        with ThreadPoolExecutor(8) as pool:
            names = [f"pg-{number}" for number in range(40)]
            iam = broker.client("iam")
            list(pool.map(lambda name: iam.create_user(UserName=name), names))
        broker.session(revoked)
        broker.fedgate("sessions", "revoke", "--person", "bob")
        broker.restart()
        assert broker.codes(revoked) == {"InvalidClientTokenId"}
        assert broker.codes(kept) == FINE
        assert {user["UserName"] for user in broker.client("iam").list_users()["Users"]} == set(names)
        with psycopg.connect(host=folder, user="fedgate", dbname="fedgate") as database:
            found = database.execute("SELECT record FROM audit_record").fetchall()
        events = [json.loads(text)["eventName"] for (text,) in found]
        assert events.count("CreateUser") == len(names)
