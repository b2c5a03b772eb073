"""Fixtures that serve a broker over a real slapd and a real Redis; `tests/conftest.py` loads them for all tests."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from support.broker_process import ACCOUNT, Broker, allow, document, running_demo, trusting
from support.directories import RunningDirectory, slapd
from support.http_browser import chromium_browser
from support.pages import ServedPages, running_house
from support.servers import postgresql_database, postgresql_server, redis_server

__all__ = ["slapd"]

_DATABASES = itertools.count()
AWS_CLI_V2 = Path(__file__).parents[2] / ".testbed" / "aws-cli-v2" / "dist" / "aws"


@pytest.fixture(scope="session", autouse=True)
def nobody_elses_aws() -> Iterator[None]:
    """boto3 in this process finds no profile, key or endpoint of whoever runs the tests."""
    kept = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[str]:
    """The Redis of the shared broker: no test empties it."""
    with redis_server("--appendonly", "yes") as url:
        yield url


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, slapd: RunningDirectory) -> Broker:
    """A stopped installation whose roles trust groups of the directory; the others begin as copies of it."""
    broker = Broker(tmp_path_factory.mktemp("furnished"), slapd).make()
    try:
        furnish(broker.start())
        assert broker.stop() == 0
    finally:
        broker.close()
    return broker


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory, slapd: RunningDirectory, furnished: Broker, shared_redis: str
) -> Iterator[Broker]:
    """A broker over slapd and Redis; tests add to it and take nothing away that others need."""
    broker = Broker(tmp_path_factory.mktemp("served"), slapd, shared_redis).like(furnished)
    try:
        yield broker.start()
    finally:
        broker.close()


@pytest.fixture
def new_broker(tmp_path: Path, slapd: RunningDirectory, furnished: Broker) -> Iterator[Callable[..., Broker]]:
    """Makes brokers that a test may treat badly; the embedded Redis is theirs unless they name one."""
    with contextlib.ExitStack() as stack:

        def new(directory: RunningDirectory = slapd, **settings: object) -> Broker:
            broker = Broker(tmp_path / f"broker-{len(list(tmp_path.iterdir()))}", directory, **settings)
            broker.folder.mkdir()
            stack.callback(broker.close)
            return broker.like(furnished).start()

        yield new


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL on a unix socket; yields the folder of the socket."""
    with postgresql_server() as folder:
        yield folder


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """An empty PostgreSQL database of its own."""
    return postgresql_database(postgres, f"test_{next(_DATABASES)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def attacked(
    request: pytest.FixtureRequest, tmp_path: Path, slapd: RunningDirectory, new_broker: Callable[..., Broker]
) -> Iterator[Broker]:
    """A served broker of the test's own, over each database in turn."""
    if request.param == "sqlite":
        yield new_broker()
        return
    folder = tmp_path / "postgresql"
    folder.mkdir()
    broker = Broker(folder, slapd, database_url=request.getfixturevalue("postgres_url")).make()
    try:
        furnish(broker.start())
        yield broker
    finally:
        broker.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory):
    """`fedgate demo`, for the tests that leave it running."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium: one process, in which every test has contexts of its own."""
    with chromium_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, slapd: RunningDirectory) -> Iterator[ServedPages]:
    """A broker whose pages have something to show; tests leave it as it was."""
    with running_house(tmp_path_factory.mktemp("house"), slapd) as running:
        yield running


@pytest.fixture(scope="session")
def aws_cli_v2() -> str:
    """The program of AWS CLI version 2."""
    if not AWS_CLI_V2.exists():
        raise RuntimeError("AWS CLI version 2 is missing: python tests/deploy/install_aws_cli.py .testbed")
    return str(AWS_CLI_V2)


def furnish(broker: Broker) -> None:
    """Make the roles that the tests sign in to."""
    broker.role("Administrator", trusting("platform"), "AdministratorAccess", MaxSessionDuration=43200)
    broker.role("Reader", trusting("staff"), "IAMReadOnlyAccess", allow("sts:AssumeRole"))
    broker.role("Archive", trusting("contractors"), allow("iam:ListUsers"))
    chained = document(
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/Reader"}, "Action": "sts:AssumeRole"}
    )
    broker.role("Chained", chained, allow("iam:ListUsers"))
