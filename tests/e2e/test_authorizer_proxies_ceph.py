"""HAProxy, Envoy, Caddy and Traefik in front of Ceph's object gateway: the core of what is tested behind nginx."""

import io
import uuid

import pytest
import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from support.proxies import PROXIES, RunningProxy
from support.servers import HANG
from support.store_fixtures import ProtectedStore, allow, denied, keys

# Encoded dots are left out: Traefik decodes them.
KEYS = ("a b/ü+%2F~'().txt", "a//b", "x/../y", "trailing/", "q?r&s=t", "semi;colon=,", '*!$@:[]#|<>^`{}"\\')
SECRET = b"the body of an object that nobody may read"


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


# --- requests that are not what was signed ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forger(protected_store: ProtectedStore, bucket: str):
    """Signs requests of somebody who may do what they like below `allowed/`, and nothing to `secret`."""
    admin = protected_store.admin()
    admin.put_object(Bucket=bucket, Key="secret", Body=SECRET)
    admin.put_object(Bucket=bucket, Key="allowed/1", Body=b"allowed")
    role = protected_store.role("Forger", allow(["s3:GetObject", "s3:PutObject"], f"{bucket}/allowed/*"))
    credentials = protected_store.broker.credentials("bob", role)

    def signed(proxy: RunningProxy, method: str, key: str, body: bytes = b"") -> list[tuple[str, str]]:
        request = AWSRequest(method, f"{proxy.url}/{bucket}/{key}", data=body, headers={"Host": proxy.host})
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
        return list(request.headers.items())

    return signed


@pytest.fixture(params=PROXIES)
def any_proxy(request, protected_store: ProtectedStore) -> RunningProxy:
    return protected_store.proxy(request.param)


def test_another_body_than_was_signed_is_refused_by_the_store(protected_store, any_proxy, bucket, forger):
    headers = forger(any_proxy, "PUT", "allowed/body", b"good")
    assert any_proxy.ask("PUT", f"/{bucket}/allowed/body", *headers, body=b"evil").status == 400
    assert keys(protected_store.admin(), bucket, "allowed/body") == set()


@pytest.mark.parametrize(
    "added",
    [
        ("x-amz-copy-source", "/{bucket}/secret"),
        ("x-amz-acl", "public-read"),
        ("x-amz-tagging", "a=b"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=x"),
        ("Host", "localhost"),
        ("x-amz-date", "20200101T000000Z"),
    ],
    ids=lambda added: added[0],
)
def test_a_header_that_means_something_and_is_not_signed_is_refused(protected_store, any_proxy, bucket, forger, added):
    name, value = added[0], added[1].format(bucket=bucket)
    headers = forger(any_proxy, "PUT", "allowed/header")
    assert any_proxy.ask("PUT", f"/{bucket}/allowed/header", *headers, (name, value), body=b"").status in (400, 403)
    assert keys(protected_store.admin(), bucket, "allowed/header") == set()


def test_a_header_that_only_a_store_would_read_as_one_never_reaches_it(any_proxy, bucket, forger):
    key = f"allowed/underscore-{any_proxy.name}"
    added = ("X_Amz_Copy_Source", f"/{bucket}/secret"), ("x_amz-copy_source", f"/{bucket}/secret")
    assert any_proxy.ask("PUT", f"/{bucket}/{key}", *forger(any_proxy, "PUT", key), *added, body=b"").status == 200
    got = any_proxy.ask("GET", f"/{bucket}/{key}", *forger(any_proxy, "GET", key))
    assert (got.status, got.body) == (200, b"")


@pytest.mark.parametrize(
    "target",
    [
        "secret",
        "allowed/../secret",
        "allowed/%2e%2e/secret",
        "allowed/1/../../secret",
        "allowed%2F..%2Fsecret",
        "/secret",
        "secret?allowed/1",
        "allowed/1?versionId=null",
        "allowed/1#/../secret",
    ],
)
def test_another_path_than_was_signed_is_refused(any_proxy, bucket, forger, target):
    told = [(name, f"/{bucket}/allowed/1") for name in ("X-Original-URI", "X-Forwarded-Uri", "X-Fedgate-Uri")]
    told += [("X-Original-Method", "GET"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", any_proxy.host)]
    answer = any_proxy.ask("GET", f"/{bucket}/{target}", *forger(any_proxy, "GET", "allowed/1"), *told)
    assert answer.status in (400, 403), answer
    assert SECRET not in answer.body


@pytest.mark.parametrize("key", ["secret", "allowed/../secret", "allowed/%2e%2e/secret", "allowed%2F..%2Fsecret"])
def test_no_spelling_of_a_path_that_is_signed_reads_another_key(any_proxy, bucket, forger, key):
    answer = any_proxy.ask("GET", f"/{bucket}/{key}", *forger(any_proxy, "GET", key))
    assert answer.status in (403, 404), answer
    assert SECRET not in answer.body


def test_a_signature_counts_for_its_host_alone(protected_store, any_proxy, bucket, forger):
    other = protected_store.proxy("haproxy" if any_proxy.name == "nginx" else "nginx")
    headers = dict(forger(other, "GET", "allowed/1"))
    assert any_proxy.ask("GET", f"/{bucket}/allowed/1", *headers.items()).status == 200  # it is a host of this resource
    for host in (any_proxy.host, "other.example.com", f"{bucket}.{other.host}"):
        answer = any_proxy.ask("GET", f"/{bucket}/allowed/1", *{**headers, "Host": host}.items())
        assert (answer.status, b"allowed" in answer.body.replace(b"allowed/1", b"")) == (403, False), host


@pytest.mark.parametrize(("name", "tells"), [("nginx", True), ("haproxy", True), ("envoy", True), ("caddy", False)])
def test_the_version_of_tls_is_a_condition_key_where_the_proxy_tells_it(protected_store, bucket, name, tells):
    recent = {"Condition": {"NumericGreaterThanEquals": {"s3:TlsVersion": "1.2"}}}
    role = protected_store.role(f"Tls-{name}", allow(["s3:ListBucket"], bucket) | recent)
    s3 = protected_store.s3(protected_store.broker.credentials("bob", role), name)
    if tells:
        assert keys(s3, bucket, "none/") == set()
    else:
        denied(s3.list_objects_v2, Bucket=bucket)


def test_a_bucket_outlives_a_subresource_that_the_store_does_not_know(protected_store):
    name = protected_store.bucket(f"kept-{uuid.uuid4().hex[:8]}")
    role = protected_store.role("Metrics", allow(["s3:PutMetricsConfiguration", "s3:ListBucket"], name))
    s3 = protected_store.s3(protected_store.broker.credentials("bob", role))
    message = denied(s3.delete_bucket_metrics_configuration, Bucket=name, Id="1")
    assert message.endswith("because no identity-based policy allows the s3:DeleteBucket action")
    s3.head_bucket(Bucket=name)
    # The gateway does not know it, and deletes the bucket.
    protected_store.behind().delete_bucket_metrics_configuration(Bucket=name, Id="1")
    assert name not in {one["Name"] for one in protected_store.behind().list_buckets()["Buckets"]}
