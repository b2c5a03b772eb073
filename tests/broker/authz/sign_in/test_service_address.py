"""Addresses of sign-ins to resources, and which texts are hosts."""

import pytest

from broker.authz.sign_in.addresses import ServiceAddresses, normal_host
from broker.authz.sign_in.starts import kept_target

SECURE = ServiceAddresses("https://fed.example.com/base")
HERE = ServiceAddresses("http://127.0.0.1:8080")
DEVELOPMENT = ServiceAddresses("http://fed.test", development=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("App.Example.com", "app.example.com"),
        ("app.example.com:443", "app.example.com"),
        ("app.example.com:80", "app.example.com"),
        ("localhost:9000", "localhost:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("evil.example/x.s3.example.com", ""),
        ("evil.example#.s3.example.com", ""),
        ("evil@app.example.com", ""),
        ("a b", ""),
        ("app.example.com:99999999", ""),
        ("", ""),
    ],
)
def test_a_host_is_a_name_with_a_port_and_nothing_else(host, expected):
    assert normal_host(host) == expected


@pytest.mark.parametrize(
    ("addresses", "host", "origin", "cookie"),
    [
        (SECURE, "app.example.com", "https://app.example.com", "__Host-fedgate-service"),
        (SECURE, "localhost:9000", "https://localhost:9000", "__Host-fedgate-service"),
        (HERE, "localhost:9000", "http://localhost:9000", "fedgate-service"),
        (HERE, "app.example.com", "https://app.example.com", "__Host-fedgate-service"),
        (DEVELOPMENT, "app.test", "http://app.test", "fedgate-service"),
    ],
)
def test_plain_http_is_for_this_machine_and_for_development(addresses, host, origin, cookie):
    assert (addresses.origin(host), addresses.cookie_name("service", host)) == (origin, cookie)


def test_addresses_of_pages_lie_below_the_public_url():
    assert SECURE.page("wiki", state="a=b") == "https://fed.example.com/base/service/wiki?state=a%3Db"
    assert (
        SECURE.callback("app.example.com", "c&", "s") == "https://app.example.com/.fedgate/callback?code=c%26&state=s"
    )


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("/a/b?c=d%20", "/a/b?c=d%20"),
        ("//evil.example", "//evil.example"),  # of the resource's own origin, which always stands before it
        ("https://evil.example/", "/"),
        ("/a b", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/\u00e9", "/"),
        ("", "/"),
        ("/" + "a" * 2000, "/"),
    ],
)
def test_a_sign_in_leads_to_a_path_of_the_host(target, kept):
    assert kept_target(target) == kept
