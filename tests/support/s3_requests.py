"""Requests to S3 as a proxy would describe them, and botocore's model of S3."""

import gzip
import json
from importlib import resources

import botocore

from broker.api.http import HttpRequest
from broker.authz.resource import Backend, Resource, ResourceKind

HOST = "s3.example.com"
BACKEND = Backend(
    endpoint="http://store.internal:7480",
    region="us-east-1",
    access_key_id="STOREKEY",
    secret_access_key="store-secret",
)


def s3_resource(**changes) -> Resource:
    settings = {
        "name": "store",
        "kind": ResourceKind.S3,
        "hosts": (HOST, f"*.{HOST}"),
        "account": "111122223333",
        "service": "s3",
    }
    return Resource(**(settings | changes))


def s3_request(method: str, uri: str, /, host: str = HOST, **headers: str) -> HttpRequest:
    """Return a request; in the names of headers, an underscore stands for a hyphen."""
    path, _, query = uri.partition("?")
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpRequest(method, path, query, (("host", host), *named), b"", "192.0.2.7")


def s3_model() -> dict:
    packed = resources.files(botocore).joinpath("data", "s3", "2006-03-01", "service-2.json.gz").read_bytes()
    return json.loads(gzip.decompress(packed))
