"""Vectors and examples of THREATS A01-A24, A28 and A30, signed by botocore's own signers."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from iam.errors import (
    AuthorizationQueryParametersError,
    IncompleteSignature,
    InvalidClientTokenId,
    MalformedQueryString,
    MissingAuthenticationToken,
    SignatureDoesNotMatch,
)
from sts.sigv4 import S3, KeyCache, canonical_path, check_scope, check_signature, check_time, read

ACCESS_KEY, SECRET = "AKIAIEIRCEIRCEIRCEIQ", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "AQAAAAI+token/with=="
BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
MIN = timedelta(minutes=1)


def wire(request):
    """Return method, path, query, headers, body as a server receives a request."""
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    headers = tuple((name.lower(), _text(value)) for name, value in prepared.headers.items())
    if "host" not in dict(headers):
        headers = (("host", url.netloc), *headers)
    return prepared.method, url.path, url.query, headers, prepared.body or b""


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def signed(url="https://broker.corp/", *, method="POST", body=BODY, headers=None, token=None, service="sts"):
    request = AWSRequest(method, url, data=body, headers={"Content-Type": FORM} | (headers or {}))
    SigV4Auth(Credentials(ACCESS_KEY, SECRET, token), service, "us-east-1").add_auth(request)
    return wire(request)


def presigned(
    query="Action=GetCallerIdentity&Version=2011-06-15", *, expires=900, method="GET", token=None, headers=None
):
    request = AWSRequest(method, f"https://broker.corp/?{query}", headers=headers or {})
    SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET, token), "sts", "us-east-1", expires=expires).add_auth(request)
    return wire(request)


def verify(request, *, now=None, secret=SECRET, service="sts", regions=None, rules=None):
    presented = read(*request)
    options = {} if rules is None else {"rules": rules}
    check_scope(presented, service=service, regions=regions)
    check_time(presented, now or presented.amz_date, **options)
    check_signature(presented, secret, KeyCache(), **options)
    return presented


def with_header(request, name, value):
    """Return the request with one header exchanged, added, or (value None) left out."""
    method, path, query, headers, body = request
    rest = tuple(pair for pair in headers if pair[0] != name)
    return method, path, query, (*rest, (name, value)) if value is not None else rest, body


def with_query(request, change):
    method, path, query, headers, body = request
    assert change(query) != query
    return method, path, change(query), headers, body


def authorization(request):
    return dict(request[3])["authorization"]


def credential(scope):
    """Return a signed request whose credential scope is exchanged afterwards, so that the signature is wrong too."""
    request = signed()
    begin, end = authorization(request).index("AKIA"), authorization(request).index(", Signed")
    text = authorization(request)[:begin] + scope + authorization(request)[end:]
    return with_header(request, "authorization", text)


def today(request):
    return dict(request[3])["x-amz-date"][:8]


# Accepted


@pytest.mark.parametrize(
    "request_",
    [
        signed(),
        signed(token=TOKEN),
        signed(body=b""),
        signed(
            method="GET", body=b"", url="https://broker.corp/?Action=ListUsers&Version=2010-05-08&PathPrefix=%2Fa+b%2F"
        ),
        signed(url="https://broker.corp/?b=2&a=~%20x&a=1&c"),
        signed(url="https://broker.corp:8443/"),
        signed(url="https://broker.corp/a%20b/c//./d/../e/"),
        signed(headers={"X-Custom": "  many   spaces  "}),
        signed(headers={"X-Amz-Content-SHA256": sha256(BODY).hexdigest()}),
        signed(body="Action=Grüße".encode()),
        presigned(),
        presigned(token=TOKEN),
        presigned(expires=60),
        presigned(headers={"x-k8s-aws-id": "cluster"}),
        presigned(method="POST"),
    ],
)
def test_what_botocore_signs_is_accepted(request_):
    verify(request_)


def test_what_a_request_presents_is_read():
    request = signed(token=TOKEN)
    presented = read(*request)
    assert (presented.access_key_id, presented.region, presented.service, presented.token) == (
        ACCESS_KEY,
        "us-east-1",
        "sts",
        TOKEN,
    )
    assert presented.amz_date.strftime("%Y%m%dT%H%M%SZ") == presented.timestamp == dict(request[3])["x-amz-date"]
    assert presented.amz_date.tzinfo == UTC
    assert read(*presigned(token=TOKEN)).token == TOKEN
    assert read(*signed()).token == ""


def test_a_presented_request_prints_neither_token_nor_body():
    text = repr(read(*signed(token=TOKEN)))
    assert TOKEN not in text
    assert "GetCallerIdentity" not in text


def test_parts_of_the_authorization_header_may_come_in_any_order():
    request = signed()
    algorithm, rest = authorization(request).split(" ", 1)
    turned = ",".join(reversed([part.strip() for part in rest.split(",")]))
    verify(with_header(request, "authorization", f"{algorithm} {turned}"))


def test_a_header_sent_twice_counts_with_both_values_in_order():
    request = AWSRequest("POST", "https://broker.corp/", data=BODY)
    request.headers["X-Twice"] = "one"
    request.headers["X-Twice"] = "two"
    SigV4Auth(Credentials(ACCESS_KEY, SECRET), "sts", "us-east-1").add_auth(request)
    method, path, query, headers, body = wire(request)
    once = tuple(pair for pair in headers if pair[0] != "x-twice")
    verify((method, path, query, (*once, ("x-twice", "one"), ("x-twice", "two")), body))
    verify((method, path, query, (*once, ("x-twice", "one,two")), body))
    with pytest.raises(SignatureDoesNotMatch):
        verify((method, path, query, (*once, ("x-twice", "two"), ("x-twice", "one")), body))


def test_headers_that_a_proxy_adds_do_not_matter():
    request = signed()
    for name in ("x-forwarded-for", "via", "x-amzn-trace-id", "x-amz-cf-id"):
        request = with_header(request, name, "added")
    verify(with_header(request, "user-agent", "changed"))


# AWS's own published examples

VANILLA = (("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"))
SUITE = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{}/aws4_request, SignedHeaders={}, Signature={}"


def test_the_example_of_the_signature_test_suite_verifies():
    text = SUITE.format(
        "service",
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    )
    verify(("GET", "/", "", (*VANILLA, ("authorization", text)), b""), service="service")


def test_the_list_users_example_of_the_aws_general_reference_verifies():
    text = SUITE.format(
        "iam",
        "content-type;host;x-amz-date",
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    )
    headers = (
        ("content-type", FORM),
        ("host", "iam.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", text),
    )
    verify(("GET", "/", "Action=ListUsers&Version=2010-05-08", headers, b""), service="iam")


def test_the_presigned_example_of_the_s3_reference_verifies():
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = ("GET", "/test.txt", query, (("host", "examplebucket.s3.amazonaws.com"),), b"")
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    day = datetime(2013, 5, 25, tzinfo=UTC)
    verify(request, secret=secret, service="s3", rules=S3, now=day)
    with pytest.raises(SignatureDoesNotMatch, match="Signature expired"):
        verify(request, secret=secret, service="s3", rules=S3, now=day + timedelta(seconds=1))


@pytest.mark.parametrize("path", ["/bucket/a%20b/../c//d~e", "/bucket/%C3%BC%2Bx", "/"])
def test_s3_rules_follow_botocores_s3_signers(path):
    credentials = Credentials(ACCESS_KEY, SECRET, TOKEN)
    request = AWSRequest("PUT", f"https://broker.corp{path}", data=b"data")
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    verify(wire(request), service="s3", rules=S3)
    with pytest.raises(SignatureDoesNotMatch):
        verify(with_header(wire(request), "x-amz-acl", "public-read"), service="s3", rules=S3)
    request = AWSRequest("GET", f"https://broker.corp{path}?versionId=1")
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=86_400).add_auth(request)
    verify(wire(request), service="s3", rules=S3)


# A01-A07: what is no signature

COMPLETE = (
    "Credential=AKIAIEIRCEIRCEIRCEIQ/20261123/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=" + "a" * 64
)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (None, MissingAuthenticationToken, "Request is missing Authentication Token"),
        ("", MissingAuthenticationToken, "Request is missing"),
        ("Bearer eyJhbGciOiJub25lIn0", MissingAuthenticationToken, "Request is missing"),
        ("Basic QTpC", MissingAuthenticationToken, "Request is missing"),
        ("AWS4-HMAC-SHA256", IncompleteSignature, "'Credential' parameter.*'Signature' parameter.*'SignedHeaders'"),
        ("AWS4-HMAC-SHA256 ", IncompleteSignature, "'Credential' parameter"),
        ("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=a", IncompleteSignature, "requires 'Credential' parameter"),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Signature=a",
            IncompleteSignature,
            "requires 'SignedHeaders' parameter",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host",
            IncompleteSignature,
            "requires 'Signature' param",
        ),
        ("AWS4-HMAC-SHA256 nonsense", IncompleteSignature, "missing equal-sign"),
        ("AWS4-HMAC-SHA256 " + COMPLETE + ", Other=1", IncompleteSignature, "unknown or given twice"),
        ("AWS4-HMAC-SHA256 " + COMPLETE + ", Signature=b", IncompleteSignature, "unknown or given twice"),
        ("AWS4-HMAC-SHA1 " + COMPLETE, IncompleteSignature, "Unsupported AWS 'algorithm'"),
        ("AWS4-ECDSA-P256-SHA256 " + COMPLETE, IncompleteSignature, "Unsupported AWS 'algorithm'"),
        ("AWS AKIAIEIRCEIRCEIRCEIQ:c2lnbmF0dXJl", IncompleteSignature, "Unsupported AWS 'algorithm'"),
        ("AWS3-HTTPS AWSAccessKeyId=a", IncompleteSignature, "Unsupported AWS 'algorithm'"),
        ("aws4-hmac-sha256 " + COMPLETE, MissingAuthenticationToken, "Request is missing"),
    ],
)
def test_what_is_no_signature_is_refused_by_name(text, error, says):
    with pytest.raises(error, match=says):
        read(*with_header(signed(), "authorization", text))


@pytest.mark.parametrize("scope", ["A/20261123/us-east-1/sts", "A/20261123/us-east-1/sts/aws4_request/x", "", "A/B"])
def test_a_credential_has_exactly_five_elements(scope):
    with pytest.raises(IncompleteSignature, match="Credential must have exactly 5 slash-delimited elements"):
        read(*credential(scope))


@pytest.mark.parametrize("key", ["*", "A" * 4096, "AKIA\r\nX-Evil: 1", "", "AKIÄ", "AKIA:1", "AKIA\x00"])
def test_an_access_key_id_that_cannot_be_one_is_refused(key):
    with pytest.raises((InvalidClientTokenId, IncompleteSignature)):
        read(*credential(f"{key}/20261123/us-east-1/sts/aws4_request"))


# A08-A09: wrong secret, malformed signature


def test_a_wrong_secret_is_refused_without_telling_the_right_signature():
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        verify(signed(), secret="wrong" * 8)
    assert refusal.value.message.startswith(
        "The request signature we calculated does not match the signature you provided."
    )
    assert not any(len(word) >= 40 for word in (refusal.value.message + " " + refusal.value.log).split())


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda signature: signature[:-1],
        lambda signature: signature + "0",
        lambda signature: signature.upper() if signature != signature.upper() else "A" * 64,
        lambda _: "é" * 64,
        lambda _: "\N{FULLWIDTH DIGIT ONE}" * 64,
        lambda _: "\udc80" * 64,
        lambda signature: signature[:-1] + "\n",
    ],
    ids=["empty", "cut", "longer", "upper case", "latin-1", "full width", "surrogate", "new line"],
)
def test_a_malformed_signature_is_a_mismatch(change):
    request = signed()
    head, signature = authorization(request).split("Signature=")
    with pytest.raises((SignatureDoesNotMatch, IncompleteSignature)) as refusal:
        verify(with_header(request, "authorization", f"{head}Signature={change(signature)}"))
    assert refusal.type is SignatureDoesNotMatch


# A10-A12, A21: time


def test_fourteen_and_fifteen_minutes_off_are_accepted_on_both_sides():
    request = signed()
    moment = read(*request).amz_date
    for minutes in (-15, -14, 14, 15):
        verify(request, now=moment + minutes * MIN)


@pytest.mark.parametrize("make", [signed, presigned])
@pytest.mark.parametrize(
    ("minutes", "says"),
    [
        (16, r"^Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(\d{8}T\d{6}Z - 15 min\.\)$"),
        (
            -16,
            r"^Signature not yet current: \d{8}T\d{6}Z is still later than \d{8}T\d{6}Z \(\d{8}T\d{6}Z \+ 15 min\.\)$",
        ),
        (-60, "^Signature not yet current"),
        (10**7, "^Signature expired"),
    ],
)
def test_sixteen_minutes_off_is_refused(make, minutes, says):
    request = make()
    with pytest.raises(SignatureDoesNotMatch, match=says):
        verify(request, now=read(*request).amz_date + minutes * MIN)


def test_the_words_about_time_name_the_three_moments():
    request = with_header(signed(), "x-amz-date", "20110909T233600Z")
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        check_time(read(*request), datetime(2011, 9, 9, 23, 52, 0, 999_999, tzinfo=UTC))
    assert refusal.value.message == (
        "Signature expired: 20110909T233600Z is now earlier than 20110909T233700Z (20110909T235200Z - 15 min.)"
    )


def test_a_presigned_request_lives_as_long_as_it_says():
    request = presigned(expires=60)
    moment = read(*request).amz_date
    verify(request, now=moment + MIN)
    with pytest.raises(SignatureDoesNotMatch, match="1 min"):
        verify(request, now=moment + MIN + timedelta(seconds=1))


def test_a_presigned_request_that_asks_for_a_week_still_ends_after_fifteen_minutes():
    request = presigned(expires=604_800)
    moment = read(*request).amz_date
    verify(request, now=moment + 15 * MIN)
    with pytest.raises(SignatureDoesNotMatch, match="Signature expired"):
        verify(request, now=moment + 20 * MIN)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2026-11-23T20:00:00Z",
        "20261123",
        "20261323T200000Z",
        "20261123T250000Z",
        "20261123T200000",
        "2026112\N{FULLWIDTH DIGIT THREE}T200000Z",
    ],
)
def test_a_date_that_is_missing_or_not_basic_is_incomplete(text):
    with pytest.raises(IncompleteSignature, match=r"[Dd]ate"):
        read(*with_header(signed(), "x-amz-date", text))


def test_a_date_header_does_not_stand_in_for_x_amz_date():
    request = with_header(with_header(signed(), "x-amz-date", None), "date", "Mon, 23 Nov 2026 20:00:00 GMT")
    with pytest.raises(IncompleteSignature):
        read(*request)


@pytest.mark.parametrize("text", ["00010101T000000Z", "99991231T235959Z"])
def test_the_ends_of_the_calendar_are_refused_and_nothing_overflows(text):
    with pytest.raises(SignatureDoesNotMatch, match="Signature"):
        check_time(read(*with_header(signed(), "x-amz-date", text)), datetime(2026, 11, 23, tzinfo=UTC))


# A13-A15: scope

REGION = "Credential should be scoped to a valid region. "
SERVICE = "Credential should be scoped to correct service: 'sts'. "
END = "Credential should be scoped with a valid terminator: 'aws4_request'. "


@pytest.mark.parametrize(
    ("region", "service", "end", "says"),
    [
        ("eu-west-9", "sts", "aws4_request", REGION),
        ("us-east-1", "iam", "aws4_request", SERVICE),
        ("us-east-1", "sts", "aws3_request", END),
        ("eu-west-9", "iam", "aws4_request", REGION + SERVICE),
        ("", "", "", REGION + SERVICE + END),
        ("US-EAST-1", "STS", "aws4_request", REGION + SERVICE),
    ],
)
def test_a_wrong_scope_is_told_in_one_text(region, service, end, says):
    request = credential(f"{ACCESS_KEY}/{today(signed())}/{region}/{service}/{end}")
    presented = read(*with_header(request, "x-amz-date", today(signed()) + "T120000Z"))
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        check_scope(presented, service="sts", regions=frozenset({"us-east-1"}))
    assert refusal.value.message == says


@pytest.mark.parametrize("date", ["20110909", "", "2", "20150831", "20150830T"])
def test_the_date_of_the_scope_must_be_the_day_of_the_request(date):
    request = with_header(
        credential(f"{ACCESS_KEY}/{date}/us-east-1/sts/aws4_request"), "x-amz-date", "20150830T123600Z"
    )
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        check_scope(read(*request), service="sts", regions=None)
    assert refusal.value.message == (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
        f" '{date}' != '20150830', from '20150830T123600Z'. "
    )


@pytest.mark.parametrize(
    ("region", "fits"),
    [
        ("us-east-1", True),
        ("mars-north-42", True),
        ("local", True),
        ("", False),
        ("a b", False),
        ("-x", False),
        ("ü", False),
    ],
)
def test_any_well_formed_region_fits_unless_regions_are_named(region, fits):
    presented = read(*credential(f"{ACCESS_KEY}/{today(signed())}/{region}/sts/aws4_request"))
    if fits:
        check_scope(presented, service="sts", regions=None)
    else:
        with pytest.raises(SignatureDoesNotMatch, match="valid region"):
            check_scope(presented, service="sts", regions=None)


def test_a_wrong_scope_wins_over_time_token_and_secret():
    request = signed(service="iam")
    with pytest.raises(SignatureDoesNotMatch, match="correct service: 'sts'"):
        verify(request, now=read(*request).amz_date + 60 * MIN, secret="wrong")


# A16-A19: headers, body, kinds


HOST = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("", HOST),
        ("x-amz-date", HOST),
        ("content-type;x-amz-date", HOST),
        ("Host;x-amz-date", HOST),
        ("host;x-amz-date;x-not-sent", "The request signature we calculated"),
        ("x-amz-date;host", "The request signature we calculated"),
        ("host;host", "The request signature we calculated"),
        ("content-type;host", "The request signature we calculated"),
    ],
)
def test_signed_headers_must_name_host_and_only_what_was_sent_in_order(names, says):
    request = signed()
    text = authorization(request)
    begin, end = text.index("SignedHeaders=") + len("SignedHeaders="), text.index(", Signature")
    with pytest.raises(SignatureDoesNotMatch) as refusal:
        verify(with_header(request, "authorization", text[:begin] + names + text[end:]))
    assert refusal.value.message.startswith(says)


@pytest.mark.parametrize("name", ["host", "content-type", "x-amz-date", "x-amz-security-token"])
def test_a_signed_header_that_is_taken_away_or_changed_is_refused(name):
    request = signed(token=TOKEN)
    for value in (None, dict(request[3])[name] + "0"):
        with pytest.raises((SignatureDoesNotMatch, IncompleteSignature)):
            verify(with_header(request, name, value))


def test_a_token_that_is_sent_and_not_signed_is_refused():
    with pytest.raises(SignatureDoesNotMatch):
        verify(with_header(signed(), "x-amz-security-token", TOKEN))
    with pytest.raises(SignatureDoesNotMatch):
        verify(with_header(presigned(), "x-amz-security-token", TOKEN))


@pytest.mark.parametrize("text", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "0" * 64, ""])
def test_a_stated_payload_hash_that_lies_is_refused_although_it_is_signed(text):
    with pytest.raises(SignatureDoesNotMatch):
        verify(signed(headers={"X-Amz-Content-SHA256": text}))


def test_a_stated_payload_hash_that_lies_is_refused_although_nobody_signed_it():
    with pytest.raises(SignatureDoesNotMatch):
        verify(with_header(signed(), "x-amz-content-sha256", "0" * 64))


def test_an_unsigned_payload_is_only_for_services_that_allow_it():
    request = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, service="s3")
    verify(request, service="s3", rules=S3)
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, service="s3")


def test_two_authorization_headers_are_refused_apart_and_joined():
    request = signed()
    other = authorization(request)
    method, path, query, headers, body = request
    for second in (other, "Bearer abc", "", "Basic QTpC"):
        for pair in ((other, second), (second, other)):
            twice = tuple(item for item in headers if item[0] != "authorization")
            apart = (*twice, *(("authorization", text) for text in pair))
            joined = (*twice, ("authorization", ",".join(pair)))
            for sent in (apart, joined):
                with pytest.raises((IncompleteSignature, MissingAuthenticationToken)):
                    read(method, path, query, sent, body)


@pytest.mark.parametrize("text", [authorization(signed()), "Bearer abc", ""])
def test_header_and_query_authentication_together_are_refused(text):
    with pytest.raises(IncompleteSignature, match="Only one auth mechanism"):
        read(*with_header(presigned(), "authorization", text))


def test_a_header_signature_beside_half_a_presigned_query_is_refused():
    for name in ("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm"):
        with pytest.raises(IncompleteSignature, match="Only one auth mechanism"):
            read(*signed(url=f"https://broker.corp/?{name}=1"))


# A20, A22-A24: presigned


@pytest.mark.parametrize("name", ["Credential", "Date", "Expires", "SignedHeaders", "Signature"])
def test_a_presigned_request_that_lacks_a_part_is_incomplete(name):
    request = with_query(presigned(), lambda query: query.replace(f"X-Amz-{name}=", f"x-{name}="))
    with pytest.raises(IncompleteSignature, match=f"must include 'X-Amz-{name}'"):
        read(*request)


def test_a_presigned_request_without_its_algorithm_has_no_authentication():
    with pytest.raises(MissingAuthenticationToken):
        read(*with_query(presigned(), lambda query: query.replace("X-Amz-Algorithm=", "x-algorithm=")))


def test_a_presigned_request_of_another_algorithm_is_incomplete():
    with pytest.raises(IncompleteSignature, match="algorithm"):
        read(*with_query(presigned(), lambda query: query.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("604801", "less than a week"),
        ("9" * 5000, "less than a week"),
        ("-1", "non-negative"),
        ("1e9", "number"),
        ("", "number"),
        ("1_0", "number"),
        ("%EF%BC%91", "number"),
        ("+5", "number"),
        ("%205", "number"),
    ],
)
def test_an_expiry_that_makes_no_sense_is_refused(text, says):
    request = with_query(presigned(), lambda query: query.replace("X-Amz-Expires=900", f"X-Amz-Expires={text}"))
    with pytest.raises(AuthorizationQueryParametersError, match=says):
        read(*request)


@pytest.mark.parametrize(
    "change",
    [
        lambda query: query + "&RoleArn=evil",
        lambda query: "Action=AssumeRole&" + query,
        lambda query: query + "&Action=GetCallerIdentity",
        lambda query: query.replace("GetCallerIdentity", "AssumeRole"),
        lambda query: query.replace("X-Amz-Expires=900", "X-Amz-Expires=901"),
        lambda query: query.replace("X-Amz-Expires=900", "X-Amz-Expires=900&X-Amz-Expires=900"),
        lambda query: query + "&X-Amz-Signature=" + "0" * 64,
        lambda query: query + "&X-Amz-%53ignature=" + "0" * 64,
        lambda query: query + "&",
    ],
    ids=["added", "before", "twice", "action", "expires", "expires twice", "signature", "escaped", "ampersand"],
)
def test_a_changed_presigned_query_is_refused(change):
    with pytest.raises(SignatureDoesNotMatch):
        verify(with_query(presigned(), change))


def test_a_presigned_signature_that_stands_there_twice_is_refused():
    request = presigned()
    again = request[2][request[2].index("X-Amz-Signature=") :]
    for change in (lambda query: f"{query}&{again}", lambda query: "X-Amz-Signature=0&" + query):
        with pytest.raises(SignatureDoesNotMatch):
            verify(with_query(request, change))


def test_a_presigned_get_is_no_presigned_post_and_carries_no_body():
    _, path, query, headers, _ = presigned()
    for method, body in (("POST", b""), ("GET", BODY), ("POST", BODY)):
        with pytest.raises(SignatureDoesNotMatch):
            verify((method, path, query, headers, body))


@pytest.mark.parametrize("text", ["a=%GG", "a=%", "a=%4", "%zz=1", "a=%%41", "a=\N{SNOWMAN}"])
def test_a_query_that_cannot_be_decoded_is_malformed(text):
    method, path, _, headers, body = signed()
    with pytest.raises(MalformedQueryString):
        read(method, path, text, headers, body)


def test_a_plus_is_neither_an_escaped_plus_nor_a_space():
    texts = ("a+b", "a%2Bb", "a%20b")
    requests = [signed(url=f"https://broker.corp/?p={text}") for text in texts]
    for request in requests:
        for text in texts:
            other = (request[0], request[1], f"p={text}", *request[3:])
            if other == request:
                verify(other)
            else:
                with pytest.raises(SignatureDoesNotMatch):
                    verify(other)


def test_two_spellings_of_one_parameter_have_one_signature():
    method, path, _, headers, body = signed(url="https://broker.corp/?p=%2Fx~")
    verify((method, path, "p=/x%7e", headers, body))


# What path is signed: A28


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/a/../", "/"),
        ("/a/../b", "/b"),
        ("/../../x", "/x"),
        ("/a/./b//c/", "/a/b/c/"),
        ("/%2e%2e/x", "/%2e%2e/x"),
        ("/a%20b", "/a%20b"),
    ],
)
def test_the_path_that_is_signed_has_no_empty_and_no_dot_segments(raw, canonical):
    assert canonical_path(raw) == canonical


# The cache


def test_a_cached_key_verifies_as_a_fresh_one_does():
    keys = KeyCache()
    presented = read(*signed())
    for _ in range(2):
        check_signature(presented, SECRET, keys)
        with pytest.raises(SignatureDoesNotMatch):
            check_signature(presented, "another secret", keys)
    assert len(keys) == 2


def test_a_changed_secret_is_not_hidden_by_the_cache():
    keys = KeyCache()
    presented = read(*signed())
    check_signature(presented, SECRET, keys)
    with pytest.raises(SignatureDoesNotMatch):
        check_signature(presented, SECRET + "x", keys)


def test_the_cache_holds_no_more_than_its_size():
    keys = KeyCache(3)
    derived = [keys.key(f"secret{n}", "20261123", "us-east-1", "sts") for n in range(10)]
    assert len(keys) == 3
    assert [keys.key(f"secret{n}", "20261123", "us-east-1", "sts") for n in range(10)] == derived


def test_the_derived_key_is_the_one_of_the_aws_general_reference():
    assert KeyCache().key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam").hex() == (
        "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
    )
