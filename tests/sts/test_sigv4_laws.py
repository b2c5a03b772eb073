"""Laws of the verifier: what botocore signs is accepted, what is changed by one byte is not."""

import contextlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote_to_bytes, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from iam.errors import ServiceError
from sts.sigv4 import KeyCache, canonical_path, check_scope, check_signature, check_time, read

ACCESS_KEY, SECRET, TOKEN = "AKIAIEIRCEIRCEIRCEIQ", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AQAAAI+tok/en=="
METHOD, PATH, QUERY, HEADERS, BODY = range(5)
OF_PRESIGNED = {
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")
}

texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
# What a header value can carry over HTTP, in the letters that a client may choose.
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
pairs = st.lists(st.tuples(texts, texts), max_size=5)


def url_of(path, query):
    return (
        "https://broker.corp"
        + path
        + ("?" + "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in query) if query else "")
    )


def wire(request):
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    headers = [
        (name.lower(), value.decode() if isinstance(value, bytes) else value)
        for name, value in prepared.headers.items()
    ]
    return [prepared.method, url.path, url.query, (("host", url.netloc), *headers), prepared.body or b""]


def sign(path="/", query=(), body=b"Action=GetCallerIdentity&Version=2011-06-15", headers=(), secret=SECRET):
    request = AWSRequest("POST", url_of(path, query), data=body, headers=dict(headers))
    SigV4Auth(Credentials(ACCESS_KEY, secret, TOKEN), "sts", "us-east-1").add_auth(request)
    return wire(request)


def presign(query=(("Action", "GetCallerIdentity"), ("Version", "2011-06-15"))):
    request = AWSRequest("GET", url_of("/", query))
    SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET, TOKEN), "sts", "us-east-1", expires=900).add_auth(request)
    return wire(request)


SIGNED = sign(
    "/a/b-c", (("Name", "v a+l/ue"), ("x", "")), headers=(("Content-Type", "application/x-www-form-urlencoded"),)
)
PRESIGNED = presign()
# The time of the signatures: however much later the tests run, they have not expired.
NOW = read(*SIGNED).amz_date


def verify(request, secret=SECRET, now=None):
    presented = read(*request)
    check_scope(presented, service="sts", regions=None)
    check_time(presented, now or presented.amz_date)
    check_signature(presented, secret, KeyCache())


def exchanged(text, at, sign_):
    at %= len(text)
    assume(text[at : at + 1] != sign_)
    return text[:at] + sign_ + text[at + 1 :]


def refused(request):
    with pytest.raises(ServiceError):
        verify(request, now=NOW)


@given(query=pairs, body=st.binary(max_size=200), header=values)
@settings(max_examples=150, deadline=None)
def test_whatever_botocore_signs_in_headers_is_accepted(query, body, header):
    assume(not OF_PRESIGNED & {name for name, _ in query})
    verify(sign("/", query, body, (("X-Custom", header),)))


@given(query=pairs)
@settings(max_examples=100, deadline=None)
def test_whatever_botocore_presigns_is_accepted(query):
    assume(not OF_PRESIGNED & {name for name, _ in query})
    assume(len({name for name, _ in query}) == len(query))  # botocore keeps the last of two
    verify(presign(query))


@given(segments=st.lists(st.sampled_from(["a", "b c", "..", ".", "", "~", "é", "%"]), max_size=6))
@settings(max_examples=100, deadline=None)
def test_whatever_path_botocore_signs_is_accepted(segments):
    verify(sign("/" + "/".join(quote(segment) for segment in segments)))


@given(path=st.text("ab./", max_size=12))
@settings(max_examples=200, deadline=None)
def test_a_canonical_path_is_its_own_canonical_path(path):
    once = canonical_path(path)
    assert canonical_path(once) == once
    assert once.startswith("/")
    assert not {"", ".", ".."} & set(once.strip("/").split("/")) or once == "/"


@pytest.mark.parametrize("original", [SIGNED, PRESIGNED], ids=["signed", "presigned"])
def test_the_unchanged_request_is_accepted(original):
    verify(original, now=NOW)


@pytest.mark.parametrize("original", [SIGNED, PRESIGNED], ids=["signed", "presigned"])
@given(at=st.integers(0), sign_=st.characters())
@settings(max_examples=60, deadline=None)
def test_a_changed_method_is_refused(original, at, sign_):
    request = list(original)
    request[METHOD] = exchanged(request[METHOD], at, sign_)
    refused(request)


@given(at=st.integers(0), sign_=st.characters(max_codepoint=0x2FF))
@settings(max_examples=150, deadline=None)
def test_a_changed_path_is_refused_unless_it_is_the_same_path(at, sign_):
    request = list(SIGNED)
    request[PATH] = exchanged(request[PATH], at, sign_)
    assume(canonical_path(request[PATH]) != SIGNED[PATH])
    refused(request)


def meaning(query):
    return sorted(
        tuple(map(unquote_to_bytes, part.partition("=")[::2])) for part in query.replace("+", "\0").split("&")
    )


@pytest.mark.parametrize("original", [SIGNED, PRESIGNED], ids=["signed", "presigned"])
@given(at=st.integers(0), sign_=st.characters(min_codepoint=0x21, max_codepoint=0xFF))
@settings(max_examples=200, deadline=None)
def test_a_changed_query_is_refused_unless_it_means_the_same(original, at, sign_):
    request = list(original)
    request[QUERY] = exchanged(request[QUERY], at, sign_)
    assume(meaning(request[QUERY]) != meaning(original[QUERY]))
    refused(request)


@pytest.mark.parametrize("original", [SIGNED, PRESIGNED], ids=["signed", "presigned"])
@given(which=st.integers(0), at=st.integers(0), sign_=st.characters())
@settings(max_examples=200, deadline=None)
def test_a_changed_header_is_refused(original, which, at, sign_):
    request = list(original)
    signed = [pair for pair in request[HEADERS] if pair[0] != "content-length"]
    name, value = signed[which % len(signed)]
    # Where all it does is to lengthen white space, the header is the same header.
    changed = exchanged(value, at, sign_)
    assume(" ".join(changed.replace("\t", " ").split(" ")) != value and changed.strip(" \t") != value)
    assume(not (name == "authorization" and changed.replace(" ", "") == value.replace(" ", "")))
    # The access key id chooses the secret and is itself not signed.
    assume(name != "authorization" or ACCESS_KEY in changed)
    request[HEADERS] = tuple((key, changed if key == name else text) for key, text in request[HEADERS])
    refused(request)


@given(at=st.integers(0), byte=st.binary(min_size=1, max_size=1))
@settings(max_examples=100, deadline=None)
def test_a_changed_body_is_refused(at, byte):
    request = list(SIGNED)
    request[BODY] = exchanged(request[BODY], at, byte)
    refused(request)


@given(extra=st.binary(min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_longer_body_is_refused(extra):
    for original in (SIGNED, PRESIGNED):
        request = list(original)
        request[BODY] += extra
        refused(request)


@given(secret=st.text(st.characters(blacklist_categories=("Cs",)), max_size=60))
@settings(max_examples=50, deadline=None)
def test_only_the_secret_that_signed_verifies(secret):
    assume(secret != SECRET)
    with pytest.raises(ServiceError):
        verify(SIGNED, secret)


@given(seconds=st.integers(-3600, 3600))
@settings(max_examples=100, deadline=None)
def test_a_request_is_accepted_exactly_within_fifteen_minutes_on_both_sides(seconds):
    for request in (SIGNED, PRESIGNED):
        now = read(*request).amz_date + timedelta(seconds=seconds)
        if abs(seconds) <= 900:
            verify(request, now=now)
        else:
            with pytest.raises(ServiceError, match="Signature"):
                verify(request, now=now)


# Nothing but refusals

anything = st.text(max_size=60)
fragments = st.sampled_from(
    [
        *"=,;/ &%+",
        "AWS4-HMAC-SHA256",
        "Credential=",
        "SignedHeaders=",
        "Signature=",
        f"{ACCESS_KEY}/20261123/us-east-1/sts/aws4_request",
        "host;x-amz-date",
        "0" * 64,
        "é",
        "\udc80",
    ]
)
authorizations = anything | st.lists(fragments, max_size=12).map("".join)
names = (
    st.sampled_from(["host", "authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"]) | anything
)
dates = st.sampled_from(["20261123T200000Z", "99991231T235959Z", "00010101T000000Z", "00000000T000000Z"]) | anything
parameters = st.lists(
    st.tuples(
        st.sampled_from(sorted(OF_PRESIGNED)),
        st.sampled_from(
            [
                "AWS4-HMAC-SHA256",
                f"{ACCESS_KEY}/20261123/us-east-1/sts/aws4_request",
                "20261123T200000Z",
                "900",
                "host",
                "0" * 64,
            ]
        )
        | anything,
    ),
    max_size=9,
).map(lambda items: "&".join(f"{name}={value}" for name, value in items))


requests = st.builds(
    lambda method, path, query, headers, body: (method, path, query, tuple(headers), body),
    anything,
    anything,
    anything | parameters,
    st.lists(
        st.tuples(names, anything)
        | st.tuples(st.just("authorization"), authorizations)
        | st.tuples(st.just("x-amz-date"), dates),
        max_size=6,
    ),
    st.binary(max_size=40),
)
BEYOND_LATIN = (
    f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20261123/\ud800/sts/aws4_request,"
    f"SignedHeaders=host;x-amz-date,Signature={'0' * 64}"
)
BEYOND_LATIN_HEADERS = (
    ("host", "\ud800"),
    ("x-amz-date", "20261123T200000Z"),
    ("authorization", BEYOND_LATIN),
)


@given(request=requests)
@example(request=("POST", "/", "", BEYOND_LATIN_HEADERS, b""))
@example(request=("POST", "/", "", (("host", "h"), *BEYOND_LATIN_HEADERS[1:]), b""))
@settings(max_examples=200, deadline=None)
def test_arbitrary_text_is_refused_and_raises_nothing_else(request):
    presented = None
    with contextlib.suppress(ServiceError):
        presented = read(*request)
    if presented is None:
        return
    with contextlib.suppress(ServiceError):
        check_scope(presented, service="sts", regions=None)
    with contextlib.suppress(ServiceError):
        check_time(presented, datetime(2026, 11, 23, 20, tzinfo=UTC))
    with pytest.raises(ServiceError):
        check_signature(presented, SECRET, KeyCache())


def replaced(text, changes):
    for at, sign_ in changes:
        text = text[: at % len(text)] + sign_ + text[at % len(text) + 1 :]
    return text


@given(changes=st.lists(st.tuples(st.integers(0), st.characters()), min_size=1, max_size=4), in_query=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_request_that_is_nearly_right_raises_nothing_but_refusals(changes, in_query):
    for original in (SIGNED, PRESIGNED):
        request = list(original)
        if in_query:
            request[QUERY] = replaced(request[QUERY], changes)
        else:
            request[HEADERS] = tuple((name, replaced(value, changes)) for name, value in request[HEADERS])
        with contextlib.suppress(ServiceError):
            verify(request, now=NOW)
