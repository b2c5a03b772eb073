"""HAProxy, Envoy, Caddy and Traefik in front of Ceph's object gateway: the core of what is tested behind nginx."""

import io
import uuid

import pytest
import urllib3
from support.proxies import RunningProxy
from support.servers import HANG
from support.store_fixtures import ProtectedStore, allow, denied, keys

# Encoded dots are left out: Traefik decodes them.
KEYS = ("a b/ü+%2F~'().txt", "a//b", "x/../y", "trailing/", "q?r&s=t", "semi;colon=,", '*!$@:[]#|<>^`{}"\\')


@pytest.fixture(scope="module")
def bucket(protected_store: ProtectedStore) -> str:
    return protected_store.bucket(f"core-{uuid.uuid4().hex[:8]}")


@pytest.fixture(params=["haproxy", "envoy", "caddy", "traefik"])
def proxy(request, protected_store: ProtectedStore) -> RunningProxy:
    return protected_store.proxy(request.param)


def test_objects_are_put_listed_read_and_deleted(protected_store, proxy, bucket):
    s3 = protected_store.admin(proxy.name)
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=f"{proxy.name}/{key}", Body=key.encode(), Metadata={"my-key": "v"})
        got = s3.get_object(Bucket=bucket, Key=f"{proxy.name}/{key}")
        # Caddy and Traefik write names of headers with capitals.
        metadata = {name.lower(): value for name, value in got["Metadata"].items()}
        assert (got["Body"].read(), metadata) == (key.encode(), {"my-key": "v"})
    assert keys(s3, bucket, f"{proxy.name}/") == {f"{proxy.name}/{key}" for key in KEYS}
    s3.copy_object(Bucket=bucket, Key=f"{proxy.name}/copy", CopySource={"Bucket": bucket, "Key": f"{proxy.name}/a//b"})
    s3.put_object_tagging(Bucket=bucket, Key=f"{proxy.name}/copy", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    named = [{"Key": key} for key in keys(s3, bucket, f"{proxy.name}/")]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": named})["Deleted"]) == len(KEYS) + 1


def test_large_objects_go_in_parts_and_come_in_ranges(protected_store, proxy, bucket):
    s3, body = protected_store.admin(proxy.name), bytes(range(256)) * (9 * 1024 * 4)
    s3.upload_fileobj(io.BytesIO(body), bucket, f"{proxy.name}-large")
    assert s3.head_object(Bucket=bucket, Key=f"{proxy.name}-large")["ETag"].endswith('-2"')
    part = s3.get_object(Bucket=bucket, Key=f"{proxy.name}-large", Range="bytes=8000000-8000009")
    assert part["Body"].read() == body[8_000_000:8_000_010]


def test_a_denial_says_why(protected_store, proxy, bucket):
    role = protected_store.role(f"Core-{proxy.name}", allow(["s3:GetObject"], f"{bucket}/*"))
    s3 = protected_store.s3(protected_store.broker.credentials("bob", role), proxy.name)
    message = denied(s3.put_object, Bucket=bucket, Key="denied", Body=b"x")
    assert message.endswith("because no identity-based policy allows the s3:PutObject action")
    denied(s3.list_objects_v2, Bucket=bucket)
    denied(s3.put_object, Bucket=bucket, Key="denied", Body=b"x" * 1_000_000)
    assert proxy.ask("GET", f"/{bucket}/denied").status == 403


def test_presigned_urls_read_and_write(protected_store, proxy, bucket):
    s3 = protected_store.admin(proxy.name)
    named = {"Bucket": bucket, "Key": f"{proxy.name}/presigned/a b+ü~'()"}
    with urllib3.PoolManager(ca_certs=str(proxy.ca_file), retries=False, timeout=HANG) as pool:
        put = pool.request("PUT", s3.generate_presigned_url("put_object", Params=named), body=b"presigned")
        if proxy.name == "traefik":
            # It cannot take the parameters out of the URL, and the store believes these rather than the headers.
            assert put.status == 403
            return
        assert put.status == 200, put.data
        read = {**named, "ResponseContentType": "text/x a"}
        got = pool.request("GET", s3.generate_presigned_url("get_object", Params=read))
        assert (got.status, got.data, got.headers["Content-Type"]) == (200, b"presigned", "text/x a")
