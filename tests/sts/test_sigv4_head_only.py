"""Signatures of requests whose body is not seen: what S3 does in another way than the query API, and HTTP services.

Each row of THREATS A that differs has its vector here; those that do not are in test_sigv4.
"""

from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from iam.errors import (
    AuthorizationQueryParametersError,
    HeadersNotSigned,
    PayloadHashRefused,
    RequestExpired,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
    UnsupportedAlgorithm,
    WrongScope,
)
from sts.sigv4 import HEAD_ONLY, S3, KeyCache, check_scope, check_signature, check_time, read

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEY = Credentials("AKIAIEIRCEIRCEIRCEIQ", SECRET)
STORE = "https://store.corp"
HASH = sha256(b"hello").hexdigest()
FORMS = (
    HASH,
    "UNSIGNED-PAYLOAD",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
)
MIN, WEEK = timedelta(minutes=1), timedelta(days=7)


class Declared(S3SigV4Auth):
    """botocore's signer for a request that declares what it likes about its body."""

    def __init__(self, form):
        super().__init__(KEY, "s3", "us-east-1")
        self.form = form

    def payload(self, _request):
        return self.form


def wire(request, body=b""):
    url = urlsplit(request.url)
    headers = tuple((name.lower(), value) for name, value in request.headers.items())
    return request.method, url.path, url.query, (("host", url.netloc), *headers), body


def signed(path="/bucket/key", form=HASH, *, method="PUT", headers=None, signer=None):
    request = AWSRequest(method, STORE + path, headers=headers or {})
    (signer or Declared(form)).add_auth(request)
    return wire(request)


def presigned(path="/bucket/key", *, expires=3600, headers=None, method="GET"):
    request = AWSRequest(method, STORE + path, headers=headers or {})
    S3SigV4QueryAuth(KEY, "s3", "us-east-1", expires=expires).add_auth(request)
    return wire(request)


def verify(request, *, rules=S3, service="s3", now=None, regions=None):
    presented = read(*request)
    check_scope(presented, service=service, regions=regions)
    check_time(presented, now or presented.amz_date, rules)
    check_signature(presented, SECRET, KeyCache(), rules)
    return rules.payload_hash(presented)


def changed(request, *, path=None, query=None, headers=None, without=()):
    method, old_path, old_query, old_headers, body = request
    kept = tuple(pair for pair in old_headers if pair[0] not in without and pair[0] not in dict(headers or {}))
    return method, path or old_path, old_query if query is None else query, (*kept, *(headers or ())), body


# --- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_s3_is_verified_from_the_head_alone(form):
    assert verify(signed(form=form)) == form


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_is_exchanged_after_signing_is_refused(form):
    for other in {*FORMS, sha256(b"other").hexdigest()} - {form}:
        with pytest.raises(SignatureDoesNotMatch):
            verify(changed(signed(form=form), headers=(("x-amz-content-sha256", other),)))


@pytest.mark.parametrize(
    "form", ["", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "unsigned-payload", HASH.upper(), "x"]
)
def test_another_form_is_refused_by_name(form):
    with pytest.raises(PayloadHashRefused, match="x-amz-content-sha256 must be"):
        verify(signed(form=form))


def test_s3_demands_the_header_of_a_request_signed_in_its_headers():
    request = signed(signer=SigV4Auth(KEY, "s3", "us-east-1"))
    with pytest.raises(PayloadHashRefused, match="Missing required header"):
        verify(request)


def test_a_presigned_request_is_unsigned_payload_unless_its_query_or_a_signed_header_says_more():
    assert verify(presigned()) == "UNSIGNED-PAYLOAD"
    assert verify(presigned_declaring(HASH)) == HASH
    assert verify(presigned_declaring("UNSIGNED-PAYLOAD")) == "UNSIGNED-PAYLOAD"


class DeclaredInQuery(SigV4QueryAuth):
    form = HASH

    def payload(self, _request):
        return self.form


def presigned_declaring(form, **more):
    request = AWSRequest("PUT", f"{STORE}/bucket/key?X-Amz-Content-Sha256={quote(form)}", **more)
    signer = DeclaredInQuery(KEY, "s3", "us-east-1", expires=60)
    signer.form = form
    signer._normalize_url_path = lambda path: path
    signer.add_auth(request)
    return wire(request)


def test_a_presigned_declaration_of_another_form_or_two_of_them_is_refused():
    for form in FORMS[2:]:
        with pytest.raises(PayloadHashRefused):
            verify(presigned_declaring(form))
    with pytest.raises(PayloadHashRefused, match="differ"):
        verify(presigned_declaring(HASH, headers={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}))
    request = presigned_declaring(HASH)
    with pytest.raises(SignatureDoesNotMatch):
        verify(changed(request, query=request[2] + "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"))


# --- the path ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/b/a//b", "/b/../c", "/b/./c", "/b/a%20b", "/b/%252F", "/b/~%27%28%29%21%2A", "/b/%C3%BC", "/b/x/"]
)
def test_the_path_is_encoded_once_and_never_normalized(path):
    verify(signed(path))
    verify(presigned(path))


def test_another_path_is_refused_also_where_the_query_api_takes_both_for_one():
    for path, other in (("/b/a//b", "/b/a/b"), ("/b/x/../c", "/b/c"), ("/b/./c", "/b/c"), ("/b/%252F", "/b/%2F")):
        with pytest.raises(SignatureDoesNotMatch):
            verify(changed(signed(path), path=other))


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "x-amz-acl",
        "x-amz-copy-source",
        "x-amz-tagging",
        "x-amz-grant-read",
        "x-amz-bypass-governance-retention",
        "x-amz-security-token",
        "x-amz-website-redirect-location",
        "x-amz-meta-a",
        "x-amz-cf-id",
    ],
)
@pytest.mark.parametrize("request_", [signed(), presigned()])
def test_a_header_that_means_something_must_be_signed(request_, name):
    with pytest.raises(HeadersNotSigned):
        verify(changed(request_, headers=((name, "/secret/key"),)))


def test_a_signed_header_counts_with_the_value_that_was_signed():
    request = signed(headers={"x-amz-acl": "private"})
    verify(request)
    with pytest.raises(SignatureDoesNotMatch):
        verify(changed(request, headers=(("x-amz-acl", "public-read"),)))
    with pytest.raises(SignatureDoesNotMatch):
        verify(changed(request, without=("x-amz-acl",)))


def test_the_host_is_signed_with_its_port():
    for host in ("other.corp", "store.corp:444", "STORE.corp", "store.corp."):
        with pytest.raises(SignatureDoesNotMatch):
            verify(changed(signed(), headers=(("host", host),)))


# --- time, scope, algorithm -------------------------------------------------------------------------------------------


def signed_at(request):
    return read(*request).amz_date


def test_a_request_signed_in_its_headers_is_good_for_fifteen_minutes():
    request = signed()
    for age in (15 * MIN, -15 * MIN):
        verify(request, now=signed_at(request) + age)
    for age in (15 * MIN + timedelta(seconds=1), -15 * MIN - timedelta(seconds=1)):
        with pytest.raises(RequestTimeTooSkewed):
            verify(request, now=signed_at(request) + age)


def test_a_presigned_request_is_good_as_long_as_it_says_and_no_longer_than_a_week():
    request = presigned(expires=7 * 86_400)
    verify(request, now=signed_at(request) + WEEK)
    with pytest.raises(RequestExpired):
        verify(request, now=signed_at(request) + WEEK + timedelta(seconds=1))
    short = presigned(expires=60)
    with pytest.raises(RequestExpired):
        verify(short, now=signed_at(short) + timedelta(seconds=61))
    with pytest.raises(RequestTimeTooSkewed):
        verify(short, now=signed_at(short) - 16 * MIN)
    with pytest.raises(AuthorizationQueryParametersError):
        read(*changed(request, query=request[2].replace("Expires=604800", "Expires=604801")))


def test_the_scope_names_the_service_of_the_resource():
    with pytest.raises(WrongScope):
        verify(signed(), service="sts")
    with pytest.raises(WrongScope, match="valid region"):
        verify(signed(), regions=frozenset({"eu-central-1"}))


@pytest.mark.parametrize(
    "text", ["AWS AKIA:c2ln", "AWS4-ECDSA-P256-SHA256 Credential=a", "AWS4-HMAC-SHA1 Credential=a"]
)
def test_other_algorithms_are_named_as_such(text):
    with pytest.raises(UnsupportedAlgorithm):
        read(*changed(signed(), headers=(("authorization", text),)))


def test_a_presigned_request_of_another_algorithm_is_named_as_such():
    request = presigned()
    with pytest.raises(UnsupportedAlgorithm):
        read(*changed(request, query=request[2].replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")))


# --- HTTP services ----------------------------------------------------------------------------------------------------


def api(body=b"", headers=None, method="POST"):
    request = AWSRequest(method, "https://api.corp/v1/a%20b?x=1", data=body, headers=headers or {})
    SigV4Auth(KEY, "execute-api", "us-east-1").add_auth(request)
    return wire(request)


def verify_api(request):
    return verify(request, rules=HEAD_ONLY, service="execute-api")


def test_an_http_request_with_the_empty_body_needs_no_declaration():
    assert verify_api(api(method="GET")) == sha256(b"").hexdigest()


def test_an_http_request_with_a_body_needs_a_signed_hash():
    assert verify_api(api(b"hello", {"X-Amz-Content-Sha256": HASH})) == HASH
    with pytest.raises(SignatureDoesNotMatch):
        verify_api(api(b"hello"))


@pytest.mark.parametrize("form", [*FORMS[1:], HASH.upper(), ""])
def test_an_http_request_declares_a_hash_and_nothing_else(form):
    with pytest.raises(PayloadHashRefused):
        verify_api(api(b"hello", {"X-Amz-Content-Sha256": form}))


def test_an_unsigned_declaration_is_refused_even_where_the_signature_fits_it():
    with pytest.raises(PayloadHashRefused, match="signed header"):
        verify_api(changed(api(b"hello"), headers=(("x-amz-content-sha256", HASH),)))


def test_a_presigned_http_request_is_good_for_fifteen_minutes():
    request = AWSRequest("GET", "https://api.corp/v1/items")
    SigV4QueryAuth(KEY, "execute-api", "us-east-1", expires=86_400).add_auth(request)
    presented = wire(request)
    verify(presented, rules=HEAD_ONLY, service="execute-api", now=signed_at(presented) + 15 * MIN)
    with pytest.raises(RequestExpired):
        verify(presented, rules=HEAD_ONLY, service="execute-api", now=signed_at(presented) + 16 * MIN)
