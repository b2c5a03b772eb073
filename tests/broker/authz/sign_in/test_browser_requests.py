"""What the headers of browsers say, one table each."""

import pytest

from broker.api.http import HttpRequest
from broker.authz.sign_in.browser_requests import cookie, foreign_cookies, is_navigation, is_safe, is_same_origin

ORIGIN = "https://app.example.com"
SOCKET = {"upgrade": "websocket", "connection": "Upgrade"}


def request(method="GET", **headers):
    return HttpRequest(method, "/", "", tuple((n.replace("_", "-"), v) for n, v in headers.items()), b"", "")


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}, True),
        ("HEAD", {"sec_fetch_mode": "navigate"}, True),
        ("GET", {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, False),
        ("GET", {"sec_fetch_mode": "cors", "accept": "text/html"}, False),
        ("GET", {"accept": "text/html,application/xhtml+xml"}, True),
        ("GET", {"accept": "application/json"}, False),
        ("GET", {"accept": "*/*"}, False),
        ("GET", {}, False),
        ("POST", {"sec_fetch_mode": "navigate", "accept": "text/html"}, False),
        ("GET", {"accept": "text/html", **SOCKET}, False),
    ],
)
def test_a_navigation_is_what_may_lead_to_the_sign_in_page(method, headers, expected):
    assert is_navigation(request(method, **headers)) is expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_is_safe_and_a_websocket_is_not(method):
    assert is_safe(request(method))
    assert not is_safe(request(method, **SOCKET))
    assert not is_safe(request(method, sec_websocket_key="x"))
    assert not is_safe(request(method, sec_fetch_mode="websocket"))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "get", "PROPFIND", "X"])
def test_every_other_method_is_unsafe(method):
    assert not is_safe(request(method))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "same-origin", "origin": ORIGIN}, True),
        ({"sec_fetch_site": "same-origin", "origin": "null"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://evil.example"}, False),
        ({"sec_fetch_site": "same-site", "origin": ORIGIN}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"origin": ORIGIN}, True),
        ({"origin": "null"}, False),
        ({"origin": "http://app.example.com"}, False),
        ({"origin": f"{ORIGIN}:8443"}, False),
        ({}, False),
    ],
)
def test_the_same_origin_is_said_and_never_assumed(headers, expected):
    assert is_same_origin(request("POST", **headers), ORIGIN) is expected


def test_a_cookie_is_found_in_whichever_header_and_never_twice():
    asked = HttpRequest("GET", "/", "", (("cookie", "a=1; b=2"), ("cookie", "c = 3=4")), b"", "")
    assert [cookie(asked, name) for name in "abcd"] == ["1", "2", "3=4", ""]
    assert not cookie(request(cookie="a=1; a=2"), "a")


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        ("__Host-fedgate-service=secret", ""),
        ("theme=dark; __Host-fedgate-service=secret; lang=de", "theme=dark; lang=de"),
        ("theme=dark;fedgate-session=secret", "theme=dark"),
        ("FEDGATE-Service=x; __host-FEDGATE-sign-in=y; a", "a"),
        ("my-fedgate-cookie=1; x=fedgate-service=1", "my-fedgate-cookie=1; x=fedgate-service=1"),
        ("", ""),
    ],
)
def test_no_cookie_of_ours_reaches_the_service(sent, passed):
    assert foreign_cookies(request(cookie=sent)) == passed
