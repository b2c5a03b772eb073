"""The configurations in `deploy/` for proxies in front of services, with an authorizer that says what a test wants."""

import contextlib
import json
from collections.abc import Iterator

import pytest
from support.authorizer_stub import Asked, Stub, stub_servers
from support.proxies import PROXIES, RunningProxy, running_proxy
from support.servers import free_port

REFUSAL = b"<Error><Code>AccessDenied</Code><Message>no identity-based policy allows it</Message></Error>"
PRINCIPAL = "arn:aws:sts::123456789012:assumed-role/Reader/alice"
RESIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 resigned",
    "X_Amz_Date": "20300101T000000Z",
    "X_Amz_Content_Sha256": "UNSIGNED-PAYLOAD",
}
PRESIGNED = "&".join(f"X-Amz-{name}=x" for name in ("Algorithm", "Credential", "Date", "Signature", "Security-Token"))
# Proxies that forward the URI that the authorizer answers; Caddy and Traefik forward the client's.
ANSWERED_URI = ("nginx", "haproxy", "envoy")


@pytest.fixture(scope="module")
def shared_stub() -> Iterator[Stub]:
    with stub_servers() as stub:
        yield stub


@pytest.fixture
def stub(shared_stub: Stub) -> Stub:
    shared_stub.reset()
    return shared_stub


@pytest.fixture(scope="module")
def proxies(shared_stub, tmp_path_factory):
    """Starts the proxies that tests name, each once."""
    with contextlib.ExitStack() as stack:
        started: dict[tuple[str, str], RunningProxy] = {}

        def proxy(name: str, kind: str) -> RunningProxy:
            if (name, kind) not in started:
                addresses = {
                    "authorizer": f"127.0.0.1:{shared_stub.authorizer_port}",
                    "upstream": f"127.0.0.1:{shared_stub.service_port}",
                }
                folder = tmp_path_factory.mktemp(f"{name}-{kind}")
                started[name, kind] = stack.enter_context(running_proxy(name, kind, folder, **addresses))
            shared_stub.reset()
            return started[name, kind]

        yield proxy


@pytest.fixture(params=PROXIES)
def http(request, proxies) -> RunningProxy:
    return proxies(request.param, "http")


@pytest.fixture(params=PROXIES)
def s3(request, proxies) -> RunningProxy:
    return proxies(request.param, "s3")


def pass_resigned(stub: Stub, uri: str) -> None:
    stub.answers(200, X_Fedgate_Uri=uri, **RESIGNED)


def original(proxy: RunningProxy, asked: Asked) -> tuple[str | None, ...]:
    """Return method, target and host of the client's request, as the authorizer was told them."""
    if proxy.name == "envoy":
        assert asked.target.startswith("/authz/envoy/")
        return asked.method, asked.target.removeprefix("/authz/envoy"), asked.header("Host")
    if proxy.name in ("caddy", "traefik"):
        assert asked.target.removesuffix("?") == "/authz/forward"
        return tuple(asked.header(f"X-Forwarded-{name}") for name in ("Method", "Uri", "Host"))
    assert asked.target == f"/authz/{proxy.name}"
    return asked.header("X-Original-Method"), asked.header("X-Original-URI"), asked.header("Host")


def test_who_asks_reaches_the_service_and_the_credentials_do_not(http, stub):
    stub.answers(200, X_Fedgate_Principal=PRINCIPAL, X_Fedgate_Tags="department=R%26D&cost=")
    answer = http.ask("GET", "/reports/7", ("Authorization", "AWS4-HMAC-SHA256 x"), ("X-Amz-Security-Token", "secret"))
    assert (answer.status, answer.body) == (200, b"served")
    (arrived,) = stub.requests
    assert (arrived.method, arrived.target) == ("GET", "/reports/7")
    assert arrived.header("X-Fedgate-Principal") == PRINCIPAL
    assert arrived.header("X-Fedgate-Tags") == "department=R%26D&cost="
    assert arrived.header("Authorization") is None
    assert arrived.header("X-Amz-Security-Token") is None


def test_the_authorizer_sees_all_that_the_client_signed(http, stub):
    sent = {"Authorization": "AWS4 x", "X-Amz-Security-Token": "secret", "X-Amz-Date": "now", "X-My-Own": "a,b  c"}
    http.ask("DELETE", "/a?b=c&d", *sent.items())
    assert original(http, stub.questions[0]) == ("DELETE", "/a?b=c&d", http.host)
    (asked,) = stub.questions
    assert {name: asked.header(name) for name in sent} == sent


def test_the_authorizer_is_told_of_the_body_that_it_does_not_see(http, stub):
    sent = (
        ("X-Amz-Content-Sha256", "x"),
        ("X-Original-Content-Length", "0"),
        ("X-Original-Transfer-Encoding", "forged"),
    )
    for body in (b"x" * 70_000, b"", None):
        stub.reset()
        http.ask("PUT", "/", *sent, body=body)
        (asked,) = stub.questions
        told = asked.header("X-Original-Content-Length")
        assert (asked.body, asked.header("X-Original-Transfer-Encoding")) == (b"", None)
        assert told == (None if body is None or http.name == "traefik" else str(len(body)))


def test_the_authorizer_is_told_of_a_body_without_a_length(http, stub):
    answer = http.ask("PUT", "/", ("Transfer-Encoding", "chunked"), body=b"3\r\nabc\r\n0\r\n\r\n")
    if http.name == "traefik":  # it cannot tell, and lets no body pass that nobody signed
        assert (answer.status, stub.questions) == (413, [])
        return
    (asked,) = stub.questions
    length = asked.header("X-Original-Content-Length")
    assert (asked.header("X-Original-Transfer-Encoding"), length) == (
        (None, "3") if http.name == "envoy" else ("chunked", None)
    )


def test_where_a_request_comes_from_is_what_the_proxy_saw(http, stub):
    forged = [
        (name, "192.0.2.1") for name in ("X-Forwarded-For", "X-Fedgate-Forwarded-For", "X-Envoy-External-Address")
    ]
    http.ask("GET", "/", *forged, ("X-Forwarded-Proto", "http"), ("X-Fedgate-Forwarded-Proto", "http"))
    (asked,) = stub.questions
    prefix = "X-Fedgate-Forwarded-" if http.name in ("nginx", "haproxy") else "X-Forwarded-"
    source = "X-Envoy-External-Address" if http.name == "envoy" else f"{prefix}For"
    assert asked.header(source) == "127.0.0.1"
    assert asked.header(f"{prefix}Proto") == "https"


@pytest.mark.parametrize("name", ["X-Original-URI", "X-Original-Method", "X-Forwarded-Uri", "X-Forwarded-Method"])
def test_a_client_cannot_say_what_it_asked_for(http, stub, name):
    http.ask("DELETE", "/mine", (name, "/forged"), (name.replace("-", "_"), "/forged"))
    assert original(http, stub.questions[0])[:2] == ("DELETE", "/mine")


@pytest.mark.parametrize(
    "spelling",
    ["X-Fedgate-Principal", "x-fedgate-principal", "X_Fedgate_Principal", "X-Fedgate_Principal", "X-Fedgate-Tags"],
)
def test_a_client_cannot_say_who_it_is(http, stub, spelling):
    stub.answers(200, X_Fedgate_Principal=PRINCIPAL)
    http.ask("GET", "/", (spelling, "forged"), (spelling, "twice"))
    (arrived,) = stub.requests
    assert [value for _, value in arrived.headers if value in ("forged", "twice", "forged, twice")] == []
    assert arrived.header("X-Fedgate-Principal") == PRINCIPAL


def test_a_client_cannot_take_away_who_it_is(http, stub):
    stub.answers(200, X_Fedgate_Principal=PRINCIPAL)
    http.ask("GET", "/", ("Connection", "close, X-Fedgate-Principal"))
    (arrived,) = stub.requests
    assert arrived.header("X-Fedgate-Principal") == PRINCIPAL
    assert "fedgate" not in ",".join(arrived.all("Connection")).lower()


@pytest.mark.parametrize("status", [302, 303])
def test_a_browser_is_sent_to_sign_in(http, stub, status):
    away = {"Location": "https://fedgate.example.com/service/wiki?state=x", "Set_Cookie": "__Host-fedgate-sign-in=x"}
    stub.answers(status, Cache_Control="no-store", **away)
    answer = http.ask("GET", "/pages?a=b", ("Cookie", "a=b"), ("Sec-Fetch-Mode", "navigate"))
    assert (answer.status, answer.headers["location"]) == (status, away["Location"])
    assert answer.headers["set-cookie"] == away["Set_Cookie"]
    assert answer.headers["cache-control"] == "no-store"
    (asked,) = stub.questions
    assert (asked.header("Cookie"), asked.header("Sec-Fetch-Mode")) == ("a=b", "navigate")
    assert stub.requests == []


@pytest.mark.parametrize("kept", ["theme=dark; lang=de", ""])
def test_the_service_gets_the_cookies_that_the_authorizer_answers(http, stub, kept):
    name = "Cookie" if http.name in ("caddy", "traefik", "envoy") else "X_Fedgate_Cookie"
    stub.answers(200, **{name: kept})
    http.ask("GET", "/", ("Cookie", "__Host-fedgate-service=secret; theme=dark; lang=de"))
    http.ask("POST", "/", ("Cookie", "__Host-fedgate-service=secret"), body=b"text=mine")
    for arrived in stub.requests:
        assert (arrived.header("Cookie") or "") == kept
        assert arrived.header("X-Fedgate-Cookie") in (None, kept)
    assert [one.body for one in stub.requests] == [b"", b"text=mine"]


def test_a_cookie_lets_no_body_pass_that_a_signature_does_not_cover(proxies, stub):
    traefik = proxies("traefik", "http")
    for signed in (("Authorization", "AWS4-HMAC-SHA256 x"),), ():
        target = "/" if signed else "/?X-Amz-Signature=x"
        answer = traefik.ask("POST", target, ("Cookie", "__Host-fedgate-service=x"), *signed, body=b"forged")
        assert (answer.status, stub.requests) == (413, [])


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("status", [403, 400, 401])
def test_a_refusal_reaches_the_client_with_its_status_and_body(proxies, name, kind, stub, status):
    proxy = proxies(name, kind)
    stub.answers(status, REFUSAL, Content_Type="application/xml")
    answer = proxy.ask("GET", "/bucket/key", ("Authorization", "AWS4-HMAC-SHA256 x"))
    assert (answer.status, answer.body) == (status, REFUSAL)
    assert answer.headers["content-type"] in ("application/xml", "application/json")
    assert stub.requests == []


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
def test_a_refused_upload_does_not_reach_the_service(proxies, name, kind, stub):
    proxy = proxies(name, kind)
    stub.answers(403, REFUSAL)
    answer = proxy.ask("PUT", "/bucket/key", ("X-Amz-Content-Sha256", "x"), body=b"x" * 100_000)
    assert (answer.status, answer.body) == (403, REFUSAL)
    assert stub.requests == []
    assert [one.body for one in stub.questions] == [b""]


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in PROXIES for kind in ("http", "s3")])
def test_a_refusal_does_not_wait_for_the_body(proxies, name, kind, stub):
    if (name, kind) == ("envoy", "http"):
        return  # it keeps up to 10 MB in memory before it asks
    proxy = proxies(name, kind)
    stub.answers(403, REFUSAL)
    with contextlib.closing(proxy.connection()) as client:
        proxy.send(client, "PUT", "/bucket/key", ("X-Amz-Content-Sha256", "x"), ("Content-Length", "5000000000"))
        with contextlib.suppress(OSError):
            client.send(b"x" * 1000)
        assert client.getresponse().status == 403


def test_nginx_keeps_no_large_body_of_a_browser_that_is_sent_to_sign_in(proxies, stub):
    nginx = proxies("nginx", "http")
    stub.answers(302, Location="https://sign-in.example")
    for length in (("Content-Length", "5000000000"), ("Transfer-Encoding", "chunked")):
        with contextlib.closing(nginx.connection()) as client:
            nginx.send(client, "POST", "/form", length)
            with contextlib.suppress(OSError):
                client.send(b"8000\r\n" + b"x" * 0x8000)
            assert client.getresponse().status == 413


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
def test_a_body_that_is_not_sent_after_a_refusal_is_not_looked_for_in_the_next_request(proxies, name, kind, stub):
    if (name, kind) == ("envoy", "http"):
        return  # it reads the body before it asks
    proxy = proxies(name, kind)
    stub.answers(403, REFUSAL)
    waiting = ("X-Amz-Content-Sha256", "x"), ("Expect", "100-continue"), ("Content-Length", "5")
    with contextlib.closing(proxy.connection()) as client:
        proxy.send(client, "PUT", "/bucket/key", *waiting)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (403, REFUSAL)
        if client.sock is not None:  # it is kept
            proxy.send(client, "GET", "/next")
            assert client.getresponse().status == 403
    methods = [original(proxy, asked)[0] for asked in stub.questions]
    assert methods in (["PUT"], ["PUT", "GET"])


@pytest.mark.parametrize("name", ["haproxy", "caddy", "traefik"])
def test_a_request_that_is_no_operation_is_not_tried_again(proxies, name, stub):
    """botocore tries a 503 again."""
    proxy = proxies(name, "s3")
    stub.answers(501, REFUSAL)
    answer = proxy.ask("GET", "/bucket/key?extension")
    assert (answer.status, answer.body, stub.requests) == (501, REFUSAL, [])


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("status", [302, 404, 500, 503])
def test_what_is_no_yes_is_a_no(proxies, name, kind, stub, status):
    proxy = proxies(name, kind)
    stub.answers(status, Location="/elsewhere")
    assert proxy.ask("GET", "/bucket/key").status >= 300
    assert stub.requests == []


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
def test_nothing_passes_while_the_authorizer_is_away(name, kind, stub, tmp_path):
    addresses = {"authorizer": f"127.0.0.1:{free_port()}", "upstream": f"127.0.0.1:{stub.service_port}"}
    with running_proxy(name, kind, tmp_path, **addresses) as proxy:
        assert proxy.ask("PUT", "/bucket/key?X-Amz-Signature=x", body=b"x").status in (403, 500, 502, 503)
    assert stub.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "/bucket/a//b",
        "/bucket/a/../b/./c",
        "/bucket/a/%2e%2e/%2E/x",
        "/bucket/a%2Fb",
        "/bucket/a%20b/%C3%BC%2B%252F~'().txt",
        "/bucket//leading",
        "/bucket/trailing/",
        "/bucket/a;b=c&d?list-type=2&prefix=a%2Fb%20c&delimiter=%2F",
        "/bucket?tagging",
        "/bucket?uploads=&a=b%26c",
        "/?",
    ],
)
def test_odd_keys_pass_as_they_are(s3, stub, target):
    sent = target
    if s3.name == "traefik":  # it decodes dots, always; S3 clients do not encode them
        target = target.replace("%2e", ".").replace("%2E", ".")
    pass_resigned(stub, target)
    assert s3.ask("GET", sent).status == 200
    assert original(s3, stub.questions[0])[1] == target
    (arrived,) = stub.requests
    assert arrived.target == target


def test_the_store_gets_the_signature_of_its_own_key(s3, stub):
    pass_resigned(stub, "/bucket/key")
    sent = ("Authorization", "client's"), ("X-Amz-Date", "client's"), ("X-Amz-Content-Sha256", "client's")
    answer = s3.ask(
        "PUT",
        "/bucket/key",
        *sent,
        ("X-Amz-Security-Token", "secret"),
        ("Date", "client's"),
        ("Cookie", "a=b"),
        body=b"x" * 3_000_000,
    )
    assert answer.status == 200
    (arrived,) = stub.requests
    assert arrived.body == b"x" * 3_000_000
    for name, value in RESIGNED.items():
        assert arrived.all(name.replace("_", "-")) == [value]
    assert arrived.header("X-Amz-Security-Token") is None
    assert [name for name, _ in arrived.headers if "fedgate" in name.lower()] == []
    assert arrived.header("Host") == f"127.0.0.1:{stub.service_port}"
    assert arrived.header("Date") is None
    assert arrived.header("Cookie") is None


def test_a_presigned_url_reaches_the_store_without_its_parameters(s3, stub):
    pass_resigned(stub, "/bucket/a%20b?versionId=a%2Fb%20c")
    answer = s3.ask("GET", f"/bucket/a%20b?versionId=a%2Fb%20c&{PRESIGNED}")
    assert answer.status == 200
    if s3.name == "traefik":
        return
    (arrived,) = stub.requests
    expected = "/bucket/a%20b?versionId=a%2Fb%20c" if s3.name in ANSWERED_URI else "/bucket/a%20b?versionId=a%2Fb+c"
    assert arrived.target == expected


@pytest.mark.parametrize("name", ["X_Amz_Copy_Source", "X-Amz_Acl", "x_amz_meta_a"])
def test_the_store_gets_no_header_that_the_authorizer_does_not_see(s3, stub, name):
    pass_resigned(stub, "/bucket/key")
    s3.ask("PUT", "/bucket/key", (name, "forged"), body=b"")
    (arrived,) = stub.requests
    assert "forged" not in [value for _, value in arrived.headers]


def test_a_client_cannot_take_away_what_was_signed(s3, stub):
    pass_resigned(stub, "/bucket/key")
    s3.ask(
        "GET", "/bucket/key", ("Connection", "close, X-Amz-Date, Authorization, X-Amz-Meta-A"), ("X-Amz-Meta-A", "1")
    )
    (asked,), (arrived,) = stub.questions, stub.requests
    assert arrived.header("X-Amz-Date") == RESIGNED["X_Amz_Date"]
    assert arrived.header("Authorization") == RESIGNED["Authorization"]
    # Envoy and Traefik drop what is listed; but then before they ask.
    assert arrived.header("X-Amz-Meta-A") == asked.header("X-Amz-Meta-A")


def test_the_client_is_told_what_the_body_says(s3, stub):
    stub.answers(403, json.dumps({"message": "ü"}).encode())
    assert s3.ask("HEAD", "/bucket/key").body == b""
