"""Attack: whoever stole a session keeps chaining new ones from it while an administrator revokes it.

What is minted while the revocation is on its way must fall with it, and so must its children, whichever worker or
machine minted them; an honest session that begins afterwards works at once.
"""

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import ACCOUNT, Broker, allow, group, role_arn
from support.directories import RunningDirectory
from support.servers import HANG, eventually, postgresql_database

THREADS = 3
MANY = 8  # sessions in a row that the thief must have made before the revocation, by each thread
REFUSED_IN_A_ROW = 5
CHAIN = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"},
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:ldap-provider/corp"},
                "Action": "sts:AssumeRoleWithLDAPIdentity",
                "Condition": {"ForAnyValue:StringEquals": {"ldap:groups": [group("platform"), group("staff")]}},
            },
        ],
    }
)


@dataclass
class Thief:
    """Assumes a role again and again, each time with the newest session that works, over several brokers in turn."""

    brokers: tuple[Broker, ...]
    stolen: Credentials
    role: str
    made: list[Credentials] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def chain(self, number: int) -> None:
        """Chain until nothing that this thread has works any more."""
        newest, refused, turn = self.stolen, 0, number
        while refused < REFUSED_IN_A_ROW and not self.stop.is_set():
            turn += 1
            broker = self.brokers[turn % len(self.brokers)]
            try:
                newest, refused = self.assume(broker, newest), 0
                self.made.append(newest)
            except ClientError:
                refused += 1
        self.ended.release()

    def assume(self, broker: Broker, session: Credentials) -> Credentials:
        with contextlib.closing(broker.client("sts", session)) as sts:
            answer = sts.assume_role(RoleArn=role_arn(self.role), RoleSessionName="again")["Credentials"]
        return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])


def works(broker: Broker, session: Credentials) -> bool:
    return broker.code(session) == ""


def attack(brokers: tuple[Broker, ...], role: str, kind: str) -> None:
    """Revoke on the first broker while the thief is at work on all of them."""
    first = brokers[0]
    stolen = first.credentials("alice", role)
    revoked = {
        "id": (first.session(stolen)["id"],),
        "role": ("--role", role_arn(role)),
        "person": ("--person", first.session(stolen)["person"]),
        "account": ("--account", ACCOUNT),
    }[kind]
    thief = Thief(brokers, stolen, role)
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for number in range(THREADS):
                pool.submit(thief.chain, number)
            eventually(lambda: len(thief.made) >= MANY * THREADS, within=HANG)
            first.fedgate("sessions", "revoke", *revoked)
            honest = [broker.credentials("alice", role) for broker in brokers]  # at once, on each machine
            assert all(works(broker, session) for broker in brokers for session in honest)
            for _ in range(THREADS):
                assert thief.ended.acquire(timeout=HANG), "the thief is still at work"
        finally:
            thief.stop.set()
        for broker in brokers:
            living = list(pool.map(lambda session: works(broker, session), [stolen, *thief.made]))  # noqa: B023 - run here
            assert not any(living), f"{sum(living)} of {len(living)} sessions outran the revocation"
            assert all(works(broker, session) for session in honest)


@pytest.fixture(scope="module")
def looped(served: Broker) -> Broker:
    served.role("Loop", CHAIN, allow("sts:AssumeRole", "iam:ListUsers"))
    eventually(lambda: served.sign_in("alice", "Loop").status == 200)
    return served


@pytest.mark.parametrize("kind", ["id", "role", "person"])
def test_no_session_outruns_its_revocation(looped, kind):
    attack((looped,), "Loop", kind)


def test_no_session_outruns_the_revocation_of_its_account(new_broker):
    broker = new_broker()
    broker.role("Loop", CHAIN, allow("sts:AssumeRole"))
    eventually(lambda: broker.sign_in("alice", "Loop").status == 200)
    attack((broker,), "Loop", "account")


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory, slapd: RunningDirectory, postgres: str):
    """Two brokers on one PostgreSQL: neither hears the other's changes before it next reads the revision."""
    url = postgresql_database(postgres, "two_machines")
    one, two = (
        Broker(tmp_path_factory.mktemp(name), slapd, database_url=url) for name in ("machine-one", "machine-two")
    )
    one.make()
    two.like(one)
    try:
        one.start()
        two.start()
        one.role("Loop", CHAIN, allow("sts:AssumeRole"))
        for broker in (one, two):
            eventually(lambda: broker.sign_in("alice", "Loop").status == 200)  # noqa: B023 - called here
        yield one, two
    finally:
        one.close()
        two.close()


@pytest.mark.parametrize("kind", ["id", "role", "person", "role again"])
def test_no_session_outruns_its_revocation_on_two_machines(two_machines, kind):
    attack(two_machines, "Loop", kind.removesuffix(" again"))
