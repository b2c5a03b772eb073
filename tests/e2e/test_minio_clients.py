"""The credential providers of the `minio` package, unmodified."""

from collections.abc import Iterator

import pytest
import urllib3
from botocore.credentials import Credentials
from minio.credentials import AssumeRoleProvider, LdapIdentityProvider
from support.broker_process import ACCOUNT, PASSWORDS, client, role_arn


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False) as pool:
        yield pool


def caller(endpoint: str, made) -> str:
    credentials = Credentials(made.access_key, made.secret_key, made.session_token)
    return client("sts", endpoint, credentials).get_caller_identity()["Arn"]


def test_the_demo_takes_the_password_where_minio_puts_it(demo, http):
    made = LdapIdentityProvider(demo.endpoint, "dave", PASSWORDS["dave"], http_client=http).retrieve()
    assert caller(demo.endpoint, made) == f"arn:aws:sts::{demo.facts['account_id']}:assumed-role/Archive/dave"
    assert not made.is_expired()


def test_a_query_string_with_a_password_is_in_no_log(demo, http):
    LdapIdentityProvider(demo.endpoint, "carol", PASSWORDS["carol"], http_client=http).retrieve()
    kept = [demo.folder / "demo.log", *demo.folder.glob("data/audit/*.jsonl")]
    assert len(kept) > 1
    for file in kept:
        assert PASSWORDS["carol"] not in file.read_text()
    written = "".join(file.read_text() for file in kept)
    assert '"userName":"carol"' in written


def test_elsewhere_a_password_in_the_query_is_refused(served, http):
    provider = LdapIdentityProvider(served.endpoint, "dave", PASSWORDS["dave"], http_client=http)
    with pytest.raises(ValueError, match="400"):
        provider.retrieve()
    assert PASSWORDS["dave"] not in served.log.read_text()


def test_a_wrong_password_is_refused(demo, http):
    with pytest.raises(ValueError, match="403"):
        LdapIdentityProvider(demo.endpoint, "dave", "no-such-password", http_client=http).retrieve()


def test_a_user_with_a_key_assumes_a_role(served, http):
    iam = served.client("iam")
    name = "minio-user"
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    key = iam.create_access_key(UserName=name)["AccessKey"]
    trust = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"%s"},"Action":"sts:AssumeRole"}}'
    served.role("minio-role", trust % ACCOUNT)
    provider = AssumeRoleProvider(
        sts_endpoint=served.endpoint,
        access_key=key["AccessKeyId"],
        secret_key=key["SecretAccessKey"],
        region="us-east-1",
        role_arn=role_arn("minio-role"),
        role_session_name="minio",
        http_client=http,
    )
    served.codes(Credentials(key["AccessKeyId"], key["SecretAccessKey"]))
    assert caller(served.endpoint, provider.retrieve()) == f"arn:aws:sts::{ACCOUNT}:assumed-role/minio-role/minio"
