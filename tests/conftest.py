"""What most tests start from: one Redis for the run, and a fresh installation with one account for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from redis import Redis
from support.installation import Clock, Installation, environment
from support.servers import redis_server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis that lives as long as the run."""
    with redis_server() as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    """The clock of the installation and of whoever signs requests to it."""
    return Clock()


@pytest.fixture
def installation(tmp_path: Path, redis_url: str, clock: Clock) -> Iterator[Installation]:
    """An installation in a folder of its own; it starts with an empty Redis."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = Installation(tmp_path, environment(tmp_path, redis_url), clock)
    yield made
    made.close()


@pytest.fixture
def root(installation: Installation) -> tuple[str, Credentials]:
    """The id of one account in the installation, and the credentials of its root."""
    account_id, credentials = installation.account()
    return account_id, credentials
