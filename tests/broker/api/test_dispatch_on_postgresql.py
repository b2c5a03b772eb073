"""The gate over PostgreSQL, whose connections are few and whose writers wait for each other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.installation import Clock, Installation, environment
from support.servers import postgresql_database, postgresql_server

from broker import wiring
from iam.store.vault import Vault
from sts.store import sealing_keys

pytestmark = pytest.mark.server


@pytest.fixture
def installation(tmp_path: Path, redis_url: str):
    with postgresql_server() as server:
        url = postgresql_database(server, "gate")
        made = Installation(tmp_path, environment(tmp_path, redis_url, FEDGATE_DATABASE_URL=url), Clock())
        yield made
        made.close()


def test_many_denials_at_once_after_a_change_of_keys_wait_for_nobody(installation):
    """Each used to hold a connection of the pool while it asked the pool for a second one."""
    account_id, root = installation.account()
    installation.call("CreateUser", root, UserName="nobody")
    made = installation.call("CreateAccessKey", root, UserName="nobody")
    key = made.credentials
    vault = Vault(installation.settings.master_key)
    with installation.store.write() as tx:
        sealing_keys.rotate(tx, vault, now=wiring.now(), random=wiring.random)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: installation.call("CreateUser", key, UserName=f"u{n}"), range(120)))
    assert {answer.code for answer in answers} == {"AccessDenied"}
    assert installation.call("GetCallerIdentity", root).text("Account") == account_id


def test_many_changes_at_once_are_all_made(installation):
    _, root = installation.account()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: installation.call("CreateUser", root, UserName=f"u{n}"), range(60)))
    assert {answer.status for answer in answers} == {200}
