"""What botocore sends for each operation of S3 is read as the operation that was called."""

import warnings
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from support.s3_requests import BACKEND, HOST, s3_resource

from broker.api.http import HttpRequest
from broker.authz.resign import resign
from broker.authz.s3.operations import OPERATIONS, REFUSED, SAME_REQUEST
from broker.authz.s3.requests import read_s3_request
from iam.errors import ServiceError

NOW = datetime(2026, 5, 6, tzinfo=UTC)
RESOURCE = s3_resource(policy_writes=True, backend=replace(BACKEND, unsigned_trailers=True))
GIVEN = {"Bucket": "b-1", "Key": "a b/ü+", "CopySource": "b-2/ü +", "AccountId": "111122223333", "VersionId": "3"}
SCALARS = {
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "boolean": True,
    "timestamp": NOW,
    "blob": b"x",
    "string": "x",
}


def client(style="path"):
    session = botocore.session.Session()
    config = Config(signature_version="s3v4", s3={"addressing_style": style}, parameter_validation=False)
    return session.create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"http://{HOST}",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
        aws_session_token="token",
        config=config,
    )


CLIENTS = {style: client(style) for style in ("path", "virtual")}
MODEL = CLIENTS["path"].meta.service_model
NAMES = sorted(MODEL.operation_names)


def example(shape, name=""):
    """Return a value of a shape with what is required of it alone."""
    if name in GIVEN:
        return GIVEN[name]
    if shape.type_name == "structure":
        return {key: example(shape.members[key], key) for key in shape.required_members}
    if shape.type_name == "list":
        return [example(shape.member)]
    if shape.type_name == "map":
        return {"a": "b"}
    return shape.enum[0] if getattr(shape, "enum", None) else SCALARS[shape.type_name]


def sent(style, name, parameters):
    """Return the request that a client sends, as a proxy would describe it."""
    one, caught = CLIENTS[style], []

    def keep(request, **_):
        caught.append(request)
        return AWSResponse(request.url, 200, {}, None)

    event = f"before-send.s3.{name}"
    one.meta.events.register(event, keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one._make_api_call(name, parameters)
    except AttributeError:  # there is no answer to read
        pass
    finally:
        one.meta.events.unregister(event, keep)
    return described(caught[0])


def described(request):
    parts = urlsplit(request.url)
    headers = [
        (name.lower(), value.decode() if isinstance(value, bytes) else value) for name, value in request.headers.items()
    ]
    return http_request(request.method, parts, *headers)


def http_request(method, url, *headers):
    return HttpRequest(method, url.path or "/", url.query, (("host", url.netloc), *headers), b"", "192.0.2.7")


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_what_botocore_sends_is_read_as_the_operation_that_was_called(name, style):
    shape = MODEL.operation_model(name).input_shape
    request = sent(style, name, example(shape) if shape else {})
    found = read_s3_request(RESOURCE, request)
    assert found.operation == SAME_REQUEST.get(name, name)
    row = OPERATIONS[found.operation]
    bucket = {"bucketName": "b-1"} if row.level.value != "service" else {}
    key = {"key": GIVEN["Key"]} if row.level.value == "object" else {}
    assert bucket | key == {name: value for name, value in found.parameters.items() if name in {"bucketName", "key"}}
    assert resign(RESOURCE, request, NOW).uri.startswith("/b-1" if bucket else "/")


@pytest.mark.parametrize("name", [name for name in NAMES if name in REFUSED and name != "ListDirectoryBuckets"])
def test_what_never_passes_is_refused_as_botocore_sends_it(name):
    shape = MODEL.operation_model(name).input_shape
    with pytest.raises(ServiceError):
        read_s3_request(RESOURCE, sent("path", name, example(shape)))


METHODS = {
    "DeleteObject": "delete_object",
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "ListObjectsV2": "list_objects_v2",
    "PutObject": "put_object",
    "UploadPart": "upload_part",
}


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("name", METHODS)
def test_presigned_requests_are_read_as_well(name, style):
    operation = MODEL.operation_model(name)
    url = CLIENTS[style].generate_presigned_url(METHODS[name], Params=example(operation.input_shape))
    request = http_request(operation.http["method"], urlsplit(url))
    assert read_s3_request(RESOURCE, request).operation == name
    assert "X-Amz-" not in resign(RESOURCE, request, NOW).uri
