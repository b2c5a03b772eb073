"""Fixtures for a store behind the authorizer: Ceph's object gateway, a broker that decides, a proxy that asks it."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from support.broker_process import ACCOUNT, Broker, document, trusting
from support.ceph import CephGateway, ceph_gateway
from support.directories import RunningDirectory
from support.proxies import PROXIES, RunningProxy, running_proxy
from support.servers import HANG, free_port

ROLE = "StoreAdmin"  # may do everything in the store
_SESSION = boto3.Session(region_name="us-east-1")


@dataclass
class ProtectedStore:
    """A store that nobody reaches but through a proxy, which asks ``broker``; ``proxy`` starts the one of a name."""

    broker: Broker
    gateway: CephGateway
    proxy: Callable[[str], RunningProxy]

    @property
    def front(self) -> RunningProxy:
        return self.proxy("nginx")

    def s3(self, credentials: Credentials, proxy: str = "nginx", **config: object) -> Any:
        """Return a boto3 client for the store behind a proxy; ``config`` has options of botocore's Config."""
        front = self.proxy(proxy)
        return s3_client(front.url, credentials, verify=str(front.ca_file), **config)

    def admin(self, proxy: str = "nginx", **config: object) -> Any:
        return self.s3(self.broker.credentials("alice", ROLE), proxy, **config)

    def behind(self) -> Any:
        """Return a client of the store itself, with its own key."""
        return s3_client(f"http://{self.gateway.address}", self.gateway.key)

    def bucket(self, name: str) -> str:
        """Make an empty bucket."""
        self.admin().create_bucket(Bucket=name)
        return name

    def role(self, name: str, *statements: dict[str, object], **more: object) -> str:
        """Make a role that all staff may take, with tags, and return its name."""
        self.broker.role(name, json.dumps(_staff()), document(*statements), **more)
        return name


def allow(actions: list[str], resource: str) -> dict[str, object]:
    """Return a statement about a bucket, objects (``bucket/pattern``) or everything (``*``)."""
    arn = resource if resource == "*" else f"arn:aws:s3:::{resource}"
    return {"Effect": "Allow", "Action": actions, "Resource": arn}


def denied(call: Callable[..., object], **parameters: object) -> str:
    """Return the message of the AccessDenied that a call ends in."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    assert refused.value.response["Error"]["Code"] == "AccessDenied", refused.value.response
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(refused.value.response["Error"]["Message"])


def keys(s3: Any, bucket: str, prefix: str = "") -> set[str]:
    return {one["Key"] for one in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])}


def s3_client(endpoint: str, credentials: Credentials, *, verify: str | None = None, **config: object) -> Any:
    options = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    options |= {"signature_version": "s3v4", "retries": {"total_max_attempts": 1}, "read_timeout": HANG}
    return _SESSION.client(
        "s3",
        endpoint_url=endpoint,
        verify=verify,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        config=Config(**{**options, **config}),
    )


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephGateway]:
    """Ceph's object gateway: 13 seconds until it answers."""
    with ceph_gateway(tmp_path_factory.mktemp("ceph")) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def protected_store(
    tmp_path_factory: pytest.TempPathFactory,
    slapd: RunningDirectory,
    furnished: Broker,
    shared_redis: str,
    ceph: CephGateway,
) -> Iterator[ProtectedStore]:
    """The store behind each of the proxies; tests have buckets and roles of their own."""
    ports, bind = {name: free_port() for name in PROXIES}, f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("protected-store")
    settings = _settings(folder, bind, list(ports.values()), ceph)
    # One worker: what a test changes counts at once.
    broker = Broker(folder, slapd, shared_redis, server={"workers": 1}, more=settings).like(furnished)
    with contextlib.ExitStack() as stack:
        stack.callback(broker.close)
        broker.start()
        running: dict[str, RunningProxy] = {}

        def proxy(name: str) -> RunningProxy:
            if name not in running:
                own = tmp_path_factory.mktemp(f"{name}-store")
                started = running_proxy(name, "s3", own, authorizer=bind, upstream=ceph.address, port=ports[name])
                running[name] = stack.enter_context(started)
            return running[name]

        store = ProtectedStore(broker, ceph, proxy)
        store.role(ROLE, {"Effect": "Allow", "Action": "s3:*", "Resource": "*"})
        yield store


def _settings(folder: Path, bind: str, ports: list[int], ceph: CephGateway) -> str:
    secret = folder / "store-secret"
    secret.touch(mode=0o600)
    secret.write_text(ceph.key.secret_key)
    hosts = [host for port in ports for host in (f"localhost:{port}", f"*.localhost:{port}")]
    return f"""
[authz]
bind = "{bind}"
[resource.store]
kind = "s3"
hosts = {json.dumps(hosts)}
account = "{ACCOUNT}"
[resource.store.backend]
endpoint = "http://{ceph.address}"
access_key_id = "{ceph.key.access_key}"
secret_file = "{secret}"
"""


def _staff() -> dict[str, Any]:
    trust: dict[str, Any] = json.loads(trusting("staff", "contractors"))
    trust["Statement"][0]["Action"] = ["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"]
    return trust
