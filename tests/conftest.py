"""What most tests start from: one Redis for the run, and a fresh installation with one account for each test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from hypothesis import settings
from redis import Redis
from support.installation import Clock, Installation, environment
from support.servers import SERVERS, redis_server

# Fixtures that start an installed program; a test that uses one, or names one in a parameter, has the mark ``server``.
SERVER_FIXTURES = frozenset({"slapd", "active_directory", "postgres"})
# Folders in which every test starts whole services and other programs.
SERVER_FOLDERS = frozenset({"attacks", "e2e", "deploy"})
pytest_plugins = ["support.served_fixtures", "support.store_fixtures"]

# An example may take any time: the machine may be busy. The examples of a law are the same in each run, so that no
# change is blamed for what another run would have found as well; `make laws` searches with new ones.
settings.register_profile("fedgate", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, derandomize=False)
settings.load_profile("search" if "FEDGATE_EXAMPLES" in os.environ else "fedgate")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start servers, before the expression of ``-m`` selects."""
    for item in items:
        if _starts_servers(item):
            item.add_marker(pytest.mark.server)


def _starts_servers(item: pytest.Item) -> bool:
    if SERVER_FOLDERS & set(item.path.relative_to(item.config.rootpath).parts):
        return True
    arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {argument.partition(" ")[0] for argument in arguments if isinstance(argument, str)}
    return bool(SERVER_FIXTURES & (names | set(getattr(item, "fixturenames", ()))))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let only marked tests start servers."""
    SERVERS.granted = item.get_closest_marker("server") is not None


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
