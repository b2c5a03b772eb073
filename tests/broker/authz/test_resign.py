"""Requests signed anew for the store: verified by our own check of signatures, and compared with botocore's."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qsl, quote, unquote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from support.s3_requests import BACKEND, HOST, s3_request, s3_resource

from broker.authz.resign import endpoint_host, resign
from iam.errors import InvalidRequest, SignatureDoesNotMatch
from sts import sigv4

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
RESOURCE = s3_resource(backend=BACKEND)
TRAILERS = s3_resource(backend=replace(BACKEND, unsigned_trailers=True))
STORE_HOST = "store.internal:7480"
HEX = sha256(b"hello").hexdigest()
EMPTY = sha256(b"").hexdigest()
PRESIGNED = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260506%2Fus-east-1%2Fs3%2Faws4_request&"
    "X-Amz-Date=20260506T070809Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token=t%2Bt&X-Amz-Signature=ab"
)


def forwarded(request, resigned):
    """Return the headers of the request that the proxy sends to the store."""
    replaced = {name.lower(): value for name, value in resigned.headers}
    removed = {*map(str.lower, resigned.strip), "host", *replaced}
    kept = [(name, value) for name, value in request.headers if name not in removed]
    return (("host", STORE_HOST), *kept, *replaced.items())


def verify(request, resigned, secret=BACKEND.secret_access_key):
    path, _, query = resigned.uri.partition("?")
    headers = forwarded(request, resigned)
    presented = sigv4.read(request.method, path, query, headers, b"")
    sigv4.check_scope(presented, service="s3", regions=frozenset({"us-east-1"}))
    sigv4.check_time(presented, NOW)
    sigv4.check_signature(presented, secret, sigv4.KeyCache(), sigv4.S3)
    return presented


def header(resigned, name):
    return dict(resigned.headers)[name]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
NAMES = st.sampled_from(["prefix", "select", "select-type", "selection", "x-id"])
PARAMETERS = st.lists(st.tuples(NAMES, TEXTS), unique_by=lambda pair: pair[0])


@given(key=TEXTS, parameters=PARAMETERS, metadata=VALUES, content_type=VALUES, presigned=st.booleans())
def test_what_we_sign_verifies_with_the_stores_key_and_no_other(key, parameters, metadata, content_type, presigned):
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters)
    query = "&".join(filter(None, (query, PRESIGNED if presigned else "")))
    headers = {"x_amz_meta_a": metadata, "content_type": content_type, "x_amz_content_sha256": "UNSIGNED-PAYLOAD"}
    request = s3_request(
        "PUT", f"/b-1/{quote(key)}?{query}", authorization="theirs", x_amz_security_token="t", **headers
    )
    resigned = resign(RESOURCE, request, NOW)
    verify(request, resigned)
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, resigned, secret="another")
    path, _, rest = resigned.uri.partition("?")
    assert unquote(path, errors="strict") == f"/b-1/{key}"
    assert parse_qsl(rest, keep_blank_values=True) == parameters


@given(key=TEXTS, value=TEXTS, metadata=VALUES)
def test_it_is_the_signature_of_botocore(key, value, metadata):
    request = s3_request(
        "PUT", f"/b-1/{quote(key)}?versionId={quote(value)}&acl", x_amz_meta_a=metadata, range="bytes=0-1"
    )
    resigned = resign(RESOURCE, request, NOW)
    theirs = AWSRequest("PUT", f"http://{STORE_HOST}{resigned.uri}", dict(forwarded(request, resigned)))
    del theirs.headers["authorization"]
    theirs.context["timestamp"] = "20260506T070809Z"
    auth = S3SigV4Auth(Credentials(BACKEND.access_key_id, BACKEND.secret_access_key), "s3", "us-east-1")
    signature = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    assert header(resigned, "Authorization").endswith(f"Signature={signature}")


# --- where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "uri"), [(HOST, "/other-bucket/k"), (f"b-1.{HOST}", "/b-1/other-bucket/k"), (f"b-1.{HOST}:80", None)]
)
def test_the_store_gets_path_style_for_its_own_host_whatever_the_client_used(host, uri):
    request = s3_request("GET", "/other-bucket/k", host=host)
    resigned = resign(RESOURCE, request, NOW)
    assert resigned.uri == (uri or "/b-1/other-bucket/k")
    assert verify(request, resigned).headers["host"] == STORE_HOST


@pytest.mark.parametrize(
    ("uri", "forwarded_uri"),
    [
        ("/", "/"),
        ("/b-1", "/b-1"),
        ("/b-1/?uploads", "/b-1/?uploads"),
        ("/b-1?acl", "/b-1?acl"),
        ("/b-1?acl=&x-id=GetBucketAcl", "/b-1?acl=&x-id=GetBucketAcl"),
        ("/b-1?prefix=a+b%2bc%7e", "/b-1?prefix=a%20b%2Bc~"),
        ("/b-1/a+b%2f%7E//../", "/b-1/a%2Bb/~//../"),
        (f"/b-1/k?versionId=3&{PRESIGNED}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", "/b-1/k?versionId=3"),
        (f"/b-1/k?{PRESIGNED}", "/b-1/k"),
    ],
)
def test_the_uri_is_encoded_in_one_way_and_without_the_clients_signature(uri, forwarded_uri):
    request = s3_request("GET", uri)
    resigned = resign(RESOURCE, request, NOW)
    assert resigned.uri == forwarded_uri
    verify(request, resigned)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("http://store:80", "store"),
        ("https://Store:443", "store"),
        ("http://store:443", "store:443"),
        ("https://[::1]:9000", "[::1]:9000"),
        ("http://10.0.0.5:7480/", "10.0.0.5:7480"),
    ],
)
def test_the_host_is_that_of_the_endpoint(endpoint, host):
    assert endpoint_host(endpoint) == host


# --- what is signed ---------------------------------------------------------------------------------------------------


def test_every_header_that_means_something_is_signed_and_none_of_the_clients_proof_is_left():
    request = s3_request(
        "PUT",
        "/b-1/k",
        x_amz_date="20200101T000000Z",
        x_amz_content_sha256=HEX,
        x_amz_security_token="token",
        x_amz_copy_source="other/k",
        x_amz_acl="private",
        content_md5="XUFAKrxLKna5cZ2REBfFkg==",
        content_type="text/plain",
        range="bytes=0-4",
        if_none_match="*",
        user_agent="x",
        authorization="AWS4-HMAC-SHA256 theirs",
    )
    resigned = resign(RESOURCE, request, NOW)
    assert verify(request, resigned).signed_headers.split(";") == [
        "content-md5", "content-type", "host", "if-none-match", "range", "x-amz-acl", "x-amz-content-sha256",
        "x-amz-copy-source", "x-amz-date",
    ]  # fmt: skip
    assert header(resigned, "X-Amz-Date") == "20260506T070809Z"
    assert resigned.strip == ("X-Amz-Security-Token", "Date")
    assert BACKEND.secret_access_key not in repr(resigned)


@pytest.mark.parametrize("name", ["x_amz_copy_source", "x_amz_acl", "if_none_match", "content_md5"])
def test_a_header_changed_on_the_way_to_the_store_breaks_the_signature(name):
    request = s3_request("PUT", "/b-1/k", **{name: "one"})
    resigned = resign(RESOURCE, request, NOW)
    with pytest.raises(SignatureDoesNotMatch):
        verify(s3_request("PUT", "/b-1/k", **{name: "two"}), resigned)


def test_spaces_are_signed_as_aws_does_and_left_unsigned_where_stores_differ():
    request = s3_request("PUT", "/b-1/k", x_amz_meta_a=" a  b ", content_disposition='attachment; filename="a  b"')
    assert "content-disposition" not in verify(request, resign(RESOURCE, request, NOW)).signed_headers


def test_a_letter_in_utf_8_is_no_space():
    request = s3_request("PUT", "/b-1/k", x_amz_meta_a="Ã\xa0 la carte", content_language="\x85")
    assert "content-language" in verify(request, resign(RESOURCE, request, NOW)).signed_headers


# --- payload ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [HEX, "UNSIGNED-PAYLOAD"])
def test_the_form_of_the_payload_is_kept(form):
    assert (
        header(resign(RESOURCE, s3_request("PUT", "/b-1/k", x_amz_content_sha256=form), NOW), "X-Amz-Content-Sha256")
        == form
    )


def test_without_a_declaration_only_the_empty_body_follows_a_signature_in_headers():
    assert header(resign(RESOURCE, s3_request("GET", "/b-1/k"), NOW), "X-Amz-Content-Sha256") == EMPTY


def test_a_presigned_request_has_an_unsigned_payload_unless_it_declares_a_hash():
    plain = resign(RESOURCE, s3_request("PUT", f"/b-1/k?{PRESIGNED}"), NOW)
    hashed = resign(RESOURCE, s3_request("PUT", f"/b-1/k?{PRESIGNED}&X-Amz-Content-Sha256={HEX}"), NOW)
    assert header(plain, "X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD"
    assert header(hashed, "X-Amz-Content-Sha256") == HEX


def test_unsigned_trailers_pass_only_where_the_store_reads_them():
    request = s3_request("PUT", "/b-1/k", x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER", x_amz_trailer="x")
    with pytest.raises(InvalidRequest, match="request_checksum_calculation = when_required"):
        resign(RESOURCE, request, NOW)
    assert header(resign(TRAILERS, request, NOW), "X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize("resource", [RESOURCE, TRAILERS])
@pytest.mark.parametrize("form", ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"])
def test_chunks_that_the_client_signed_are_refused_with_the_setting_that_helps(resource, form):
    with pytest.raises(InvalidRequest, match="AWS_REQUEST_CHECKSUM_CALCULATION"):
        resign(resource, s3_request("PUT", "/b-1/k", x_amz_content_sha256=form), NOW)


@pytest.mark.parametrize(
    "form", ["", "unsigned-payload", HEX.upper(), HEX[:-1], "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"]
)
def test_another_form_is_refused(form):
    with pytest.raises(InvalidRequest):
        resign(TRAILERS, s3_request("PUT", "/b-1/k", x_amz_content_sha256=form), NOW)


def test_two_forms_are_refused():
    uri = f"/b-1/k?{PRESIGNED}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
    with pytest.raises(InvalidRequest, match="twice"):
        resign(RESOURCE, s3_request("PUT", uri, x_amz_content_sha256=HEX), NOW)


def test_a_resource_without_a_backend_signs_nothing():
    with pytest.raises(ValueError, match="no backend"):
        resign(s3_resource(), s3_request("GET", "/"), NOW)
