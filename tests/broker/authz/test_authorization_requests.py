"""Questions of proxies: what each endpoint reads, and what it refuses."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from support.authz import ADDRESS, Sent, asked, envoy, forward, haproxy, nginx

from broker.api.forwarded import TrustedProxies
from broker.authz.original import CONVENTIONS, AuthorizationRequest, WrongAuthorizationRequest, read_original

SENT = Sent("PUT", "/b/a%20b//../c?x=1&y", (("host", "store.corp:9000"), ("x-amz-date", "20260101T000000Z")))
QUESTIONS = {"nginx": nginx, "haproxy": haproxy, "forward": forward, "envoy": envoy}


_NO_PROXIES = TrustedProxies()


def original(received: AuthorizationRequest, proxies=_NO_PROXIES):
    return read_original(received.target.split("/")[2], received, proxies)


def having(received: AuthorizationRequest, *headers: tuple[str, str]) -> AuthorizationRequest:
    return received._replace(headers=(*received.headers, *headers))


def lacking(received: AuthorizationRequest, name: str) -> AuthorizationRequest:
    return received._replace(headers=tuple(pair for pair in received.headers if pair[0] != name))


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_endpoint_reads_the_request_that_the_client_sent(name):
    request = original(QUESTIONS[name](SENT)).request
    assert (request.method, request.path, request.query) == ("PUT", "/b/a%20b//../c", "x=1&y")
    assert request.header("host") == "store.corp:9000"
    assert request.header("x-amz-date") == "20260101T000000Z"
    assert (request.source_ip, request.secure) == (ADDRESS, True)
    assert [header for header, _ in request.headers].count("host") == 1
    assert request.header("content-length") is None


@pytest.mark.parametrize(
    ("told", "version"), [("TLSv1.3", "1.3"), ("TLSv1", "1.0"), ("", ""), ("1.3", ""), ("TLSv1.2x", "")]
)
@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy"])
def test_a_proxy_can_tell_the_version_of_tls(name, told, version):
    asked_with = original(having(QUESTIONS[name](SENT), ("x-fedgate-tls-version", told)))
    assert asked_with.tls_version == version
    assert asked_with.request.header("x-fedgate-tls-version") is None
    with pytest.raises(WrongAuthorizationRequest, match="twice"):
        original(having(QUESTIONS[name](SENT), *[("x-fedgate-tls-version", "TLSv1.3")] * 2))


def test_of_proxies_that_cannot_tell_it_a_version_is_not_believed():
    assert original(having(forward(SENT), ("x-fedgate-tls-version", "TLSv1.3"))).tls_version == ""


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_header_that_is_missing_or_given_twice_is_refused(name):
    received, convention = QUESTIONS[name](SENT), CONVENTIONS[name]
    needed = {convention.method, convention.uri, convention.host, convention.proto, convention.address[-1]} - {""}
    for header in needed:
        with pytest.raises(WrongAuthorizationRequest, match="missing"):
            original(lacking(received, header))
        with pytest.raises(WrongAuthorizationRequest, match="twice"):
            original(having(received, (header, "other")))


@pytest.mark.parametrize("name", ["nginx", "haproxy", "envoy"])
def test_the_headers_of_another_proxy_are_not_read(name):
    forged = (
        ("x-forwarded-method", "GET"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-host", "other.corp"),
    )
    request = original(having(QUESTIONS[name](SENT), *forged)).request
    assert (request.method, request.path, request.header("host")) == ("PUT", "/b/a%20b//../c", "store.corp:9000")


def test_forward_reads_no_header_of_nginx():
    forged = (("x-original-method", "GET"), ("x-original-uri", "/public"), ("x-fedgate-forwarded-for", "198.51.100.1"))
    request = original(having(forward(SENT), *forged)).request
    assert (request.method, request.path, request.source_ip) == ("PUT", "/b/a%20b//../c", ADDRESS)


@pytest.mark.parametrize(
    ("header", "value"),
    [("x-original-method", "GET /"), ("x-original-method", "G\xc9T"), ("x-original-uri", "http://store.corp/b/k")],
)
def test_a_header_of_another_form_is_refused(header, value):
    with pytest.raises(WrongAuthorizationRequest):
        original(having(lacking(nginx(SENT), header), (header, value)))


def test_the_length_of_the_body_is_what_the_proxy_says():
    read = original(having(nginx(SENT), ("content-length", "0"), ("x-original-content-length", "12")))
    assert (read.request.header("content-length"), read.has_body) == ("12", True)
    assert original(having(nginx(SENT), ("x-original-content-length", "0"))).has_body is False
    assert original(nginx(SENT)).has_body is None
    assert original(having(nginx(SENT), ("x-original-transfer-encoding", "chunked"))).has_body
    with pytest.raises(WrongAuthorizationRequest):
        original(having(nginx(SENT), ("x-original-content-length", "1"), ("x-original-content-length", "2")))


def test_the_address_is_that_of_the_client_in_front_of_the_trusted_proxies():
    received = having(lacking(forward(SENT), "x-forwarded-for"), ("x-forwarded-for", "203.0.113.9, 10.0.0.1"))
    assert original(received).request.source_ip == "10.0.0.1"
    assert original(received, TrustedProxies((ip_network("10.0.0.0/8"),))).request.source_ip == "203.0.113.9"
    unreadable = having(lacking(forward(SENT), "x-forwarded-for"), ("x-forwarded-for", "unknown"))
    assert original(unreadable).request.recorded_address == "unknown"


def test_envoy_names_its_client_in_a_header_of_its_own():
    received = having(envoy(SENT), ("x-envoy-external-address", "203.0.113.9"))
    assert original(received).request.source_ip == "203.0.113.9"
    assert original(AuthorizationRequest("GET", "/authz/envoy", envoy(SENT).headers)).request.path == "/"


# --- endpoints --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["/", "/authz", "/authz/", "/authz/other", "/authz/nginx/", "/authz/nginx?x", "/authz/nginx/b/k", "/authz//nginx",
     "/AUTHZ/nginx", "/login", "/authz/middleware/x", "http://x/authz/nginx", "*"],
)  # fmt: skip
def test_nothing_else_is_answered(authorized, target):
    assert asked(authorized.endpoints, nginx(SENT)._replace(target=target)).status == 404


def test_a_question_of_the_wrong_form_is_refused_before_anything_is_decided(authorized):
    verdict = asked(authorized.endpoints, lacking(nginx(SENT), "x-original-uri"))
    assert (verdict.status, verdict.body) == (400, b"x-original-uri is missing\n")
    assert authorized.records() == []


def test_a_secret_is_demanded_where_one_is_set(authorized):
    endpoints = replace(authorized.endpoints, secret="s" * 32)
    assert "s" * 32 not in repr(endpoints)
    received = nginx(SENT)
    for shown in ((), ("",), ("t" * 32,), ("s" * 32, "s" * 32), ("\xff",)):
        given = having(received, *(("x-fedgate-authz-secret", one) for one in shown))
        assert asked(endpoints, given).status == 404
        assert asked(endpoints, given._replace(target="/authz/denied")).status == 404
    assert asked(endpoints, having(received, ("x-fedgate-authz-secret", "s" * 32))).status == 403
