import pytest

from broker.authz.resource import Resource, ResourceKind
from broker.authz.resource_table import ResourceTable


def resource(name, *hosts):
    return Resource(name=name, kind=ResourceKind.S3, hosts=hosts, account="1" * 12, service="s3")


STORE = resource("store", "s3.example.com", "*.s3.example.com")
API = resource("api", "api.s3.example.com", "127.0.0.1:9000", "[::1]:9000")
TABLE = ResourceTable({"store": STORE, "api": API})


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("s3.example.com", STORE),
        ("S3.Example.COM", STORE),
        ("s3.example.com:443", STORE),
        ("s3.example.com:80", STORE),
        ("bucket.s3.example.com", STORE),
        ("bucket.s3.example.com:443", STORE),
        ("api.s3.example.com", API),  # exact before the wildcard
        ("127.0.0.1:9000", API),
        ("[::1]:9000", API),
        ("s3.example.com:8443", None),
        ("s3.example.com.", None),
        ("a.b.s3.example.com", None),
        (".s3.example.com", None),
        ("*.s3.example.com", STORE),  # no label of this name exists; it is the wildcard's in any case
        ("example.com", None),
        ("127.0.0.1", None),
        ("", None),
    ],
)
def test_a_host_belongs_to_one_resource_at_most(host, found):
    assert TABLE.find(host) is found


def test_a_resource_is_found_by_its_name():
    assert TABLE.named("api") is API
    assert TABLE.named("none") is None
