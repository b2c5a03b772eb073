"""Attacks on the authorizer as it is served: forged originals, smuggling past the proxy, replays, revoked sessions.

Its socket is spoken to with raw bytes, as a client's own bytes reach it through a proxy that passes headers on.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from support.authz import STORE_HOST, Sent, nginx, presigned, signed, signed_api
from support.broker_process import ACCOUNT, Broker, allow, role_arn
from support.servers import HANG, eventually, redis_server

SETTINGS = """
[authz]
bind = "unix:{socket}"
[resource.store]
kind = "s3"
hosts = ["store.corp"]
account = "{account}"
[resource.api]
kind = "http"
hosts = ["api.corp"]
account = "{account}"
"""


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("authz") / "authz.sock"


@pytest.fixture(scope="module")
def asked(tmp_path_factory, slapd, furnished, socket_path) -> Iterator[Broker]:
    """A broker with a store that proxies ask about; tests add to it and take nothing away that others need."""
    settings = SETTINGS.format(socket=socket_path, account=ACCOUNT)
    broker = Broker(tmp_path_factory.mktemp("asked"), slapd, more=settings).like(furnished)
    try:
        yield broker.start()
    finally:
        broker.close()


@pytest.fixture(scope="module")
def reader(asked: Broker) -> Credentials:
    return asked.role_for("bob", "StoreReader", allow("s3:GetObject", resource="arn:aws:s3:::bucket/*"))


def converse(path: Path, octets: bytes) -> bytes:
    """Send octets to the socket of the authorizer and return all that comes back."""
    received = bytearray()
    with closing(socket.socket(socket.AF_UNIX)) as wire:
        wire.settimeout(HANG)
        wire.connect(str(path))
        wire.sendall(octets)
        wire.shutdown(socket.SHUT_WR)
        while octets := wire.recv(65536):
            received += octets
    return bytes(received)


def on_the_wire(sent: Sent, *more: str, endpoint: str = "nginx") -> bytes:
    question = nginx(sent, endpoint)
    lines = [f"GET {question.target} HTTP/1.1", *(f"{name}: {value}" for name, value in question.headers), *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def status(path: Path, sent: Sent, *more: str, endpoint: str = "nginx") -> int:
    return int(converse(path, on_the_wire(sent, *more, endpoint=endpoint)).split(b" ", 2)[1])


def test_forged_originals_at_the_public_address_find_nothing(asked, reader, socket_path):
    sent = signed(reader)
    assert status(socket_path, sent) == 200
    host, port = asked.endpoint.removeprefix("http://").split(":")
    for target in ("/authz/nginx", "/authz/haproxy", "/authz/middleware", "/authz/denied", "//authz/nginx"):
        request = on_the_wire(sent).replace(b"/authz/nginx", target.encode(), 1)
        with closing(socket.create_connection((host, int(port)), HANG)) as wire:
            wire.sendall(request)
            answer = wire.recv(65536)
        assert answer.split(b" ", 2)[1] == b"404", answer[:200]
        assert b"X-Fedgate-Principal" not in answer


@pytest.mark.usefixtures("asked")
def test_the_socket_of_the_authorizer_answers_nothing_else(socket_path):
    assert (socket_path.stat().st_mode & 0o777) == 0o660
    for target in ("/", "/login", "/readyz", "/?Action=GetCallerIdentity", "/authz/", "http://store.corp/authz/nginx"):
        answer = converse(socket_path, f"GET {target} HTTP/1.1\r\nHost: store.corp\r\n\r\n".encode())
        assert answer.split(b" ", 2)[1] == b"404", (target, answer[:200])


@pytest.mark.parametrize(
    "line",
    [
        "X-Original-URI: /bucket/key",
        "x-original-uri: /bucket/key",
        "X-Original-Method: GET",
        "Host: store.corp",
        "X-Fedgate-Forwarded-For: 10.0.0.1",
        "X-Fedgate-Forwarded-Proto: https",
        "Authorization: AWS4-HMAC-SHA256 Credential=a",
        "X-Amz-Date: 20260101T000000Z",
        "X-Amz-Security-Token: other",
        "X-Amz-Content-Sha256: UNSIGNED-PAYLOAD",
        "X-Amz-Copy-Source: /secret/key",
        "X-Amz-Acl: public-read",
        "X-Original-URI : /bucket/key",
        "X-Folded: a\r\n X-Original-URI: /secret/key",
        "X-Cut: a\rX-Original-URI: /secret/key",
        "X-Null: a\0b",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ],
)
def test_a_header_smuggled_beside_those_of_the_proxy_does_not_pass(reader, socket_path, line):
    answer = converse(socket_path, on_the_wire(signed(reader), line))
    assert answer.split(b" ", 2)[1] in (b"400", b"401", b"403"), answer[:200]
    assert b"X-Fedgate-Principal" not in answer


def test_names_with_underscores_are_other_headers(reader, socket_path):
    """WSGI could not tell X_Original_URI from X-Original-URI; here neither replaces the other nor is it doubled."""
    sent = signed(reader)
    assert status(socket_path, sent, "X_Original_URI: /secret/key", "X_Fedgate_Principal: root") == 200
    assert status(socket_path, sent.at("/secret/key"), "X_Original_URI: /bucket/key") == 403


def test_a_second_question_inside_the_first_is_not_answered_for_it(reader, socket_path):
    """A body that holds another question is a body: the connection goes on behind it, or closes."""
    inner = on_the_wire(signed(reader))
    outer = on_the_wire(signed(reader).at("/secret/key"), f"Content-Length: {len(inner)}") + inner
    answers = converse(socket_path, outer)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"X-Fedgate-Principal" not in answers


@pytest.mark.parametrize(
    "host", ["STORE.CORP", "store.corp:80", "store.corp.", "store.corp:8443", "other.corp", "store.corp@x"]
)
def test_a_signature_counts_for_the_host_that_was_signed(reader, socket_path, host):
    assert status(socket_path, signed(reader).having("host", host)) in (401, 403)


def test_a_signature_for_another_host_does_not_open_this_one(reader, socket_path):
    assert status(socket_path, signed(reader, host="other.corp").having("host", STORE_HOST)) in (401, 403)
    assert status(socket_path, signed(reader, host="store.corp:443")) == 200


@pytest.mark.parametrize(
    "uri",
    [
        "/bucket/../secret/key",
        "/bucket/%2e%2e/secret/key",
        "/bucket%2fkey",
        "//bucket/key",
        "/bucket/key?acl",
        "/bucket//key",
    ],
)
def test_another_path_is_another_request(reader, socket_path, uri):
    assert status(socket_path, signed(reader).at(uri)) in (401, 403)


def test_dots_and_slashes_in_keys_do_not_leave_the_bucket(reader, socket_path):
    for uri in ("/bucket/a/../b", "/bucket//b", "/bucket/%2E%2E/b"):
        converse(socket_path, on_the_wire(signed(reader, uri)))
    assert status(socket_path, signed(reader, "/secret/../bucket/key")) in (401, 403)
    # A store that resolves such a path would look in another bucket.
    for uri in ("/bucket/../secret/key", "/bucket/a//../../secret/key"):
        assert status(socket_path, signed(reader, uri)) == 401


def test_a_second_value_of_a_tag_does_not_get_past_a_condition_on_it(asked, socket_path):
    only = {"StringEquals": {"s3:RequestObjectTag/class": "public"}}
    statement = {"Effect": "Allow", "Action": "s3:PutObject*", "Resource": "*", "Condition": only}
    tagger = asked.role_for("bob", "Tagger", json.dumps({"Version": "2012-10-17", "Statement": statement}))
    for tags, expected in (("class=public", 200), ("class=secret", 403), ("class=secret&class=public", 401)):
        sent = signed(tagger, method="PUT", **{"x-amz-tagging": tags})
        assert status(socket_path, sent) == expected, tags


def test_a_presigned_link_ends_with_its_time_and_its_session(reader, socket_path):
    link = presigned(reader, expires=1)
    assert status(socket_path, presigned(reader)) == 200
    eventually(lambda: status(socket_path, link) == 403, within=HANG)
    for change in (("Expires=1&", "Expires=604800&"), ("X-Amz-Expires=1&", "")):
        longer = link.at(link.uri.replace(*change))
        assert status(socket_path, longer) in (401, 403)


def test_a_revoked_session_is_refused_at_the_next_request(asked, reader, socket_path):
    policy = allow("s3:GetObject", resource="arn:aws:s3:::bucket/*")
    stolen = asked.role_for("bob", "Stolen", policy)
    eventually(lambda: status(socket_path, signed(stolen)) == 200, within=HANG)
    asked.fedgate("sessions", "revoke", "--role", role_arn("Stolen"))
    eventually(lambda: status(socket_path, signed(stolen)) != 200, within=HANG)
    # Every worker knows: none passes it afterwards.
    assert {status(socket_path, signed(stolen)) for _ in range(20)} <= {401, 403}
    assert status(socket_path, signed(reader)) == 200


def test_decisions_go_on_without_redis(new_broker, tmp_path):
    path = tmp_path / "authz.sock"
    with redis_server() as url:
        broker = new_broker(redis_url=url, more=SETTINGS.format(socket=path, account=ACCOUNT))
        reader = broker.role_for("bob", "StoreReader", allow("s3:GetObject", resource="arn:aws:s3:::bucket/*"))
        assert status(path, signed(reader)) == 200
    for _ in range(10):
        assert status(path, signed(reader)) == 200
        assert status(path, signed(reader, method="PUT")) == 403
    broker.close()
    with pytest.raises(OSError, match=r"refused|No such file"):
        status(path, signed(reader))


# --- an HTTP API ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def visitor(asked: Broker) -> Credentials:
    """A role that may read what is public, as people write such policies: with stars for region and account."""
    public = "arn:aws:execute-api:*:*:api/default/GET/public/*"
    return asked.role_for("bob", "Visitor", allow("execute-api:Invoke", resource=public))


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("GET", "/public/../admin"),
        ("GET", "/public/%2e%2e/admin"),
        ("GET", "/public/..%2fadmin"),
        ("GET", "/public/..%5cadmin"),
        ("GET", "/public/%252e%252e/admin"),
        ("GET", "/public/..;/admin"),
        ("GET", "/public//../admin"),
        ("GET", "//public/page"),
        ("GET", "/public/a%00b"),
        ("GET", "/public/%c0%ae%c0%ae/admin"),
        ("GET", "/admin"),
        ("GET", "/admin?x=/public/"),
        ("GET", "/Public/page"),
        ("DELETE", "/public/page"),
        ("DELETE", "/users/x:api/default/GET/public/page"),
        ("DELETE", "/users/x%3Aapi/default/GET/public/page"),
        ("get", "/public/page"),
        ("POST", "/public/page"),
        ("GET", "/public/page?_method=DELETE"),
        ("GET", "/public/page?.method=DELETE"),
        ("GET", "/public/page?%20_method%00=DELETE"),
    ],
)
def test_what_is_public_does_not_open_anything_else(visitor, socket_path, method, uri):
    assert status(socket_path, signed_api(visitor, "/public/page")) == 200
    assert status(socket_path, signed_api(visitor, uri, method=method)) in (400, 401, 403)


@pytest.mark.parametrize(
    "header",
    [
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Script-Name",
        "SCRIPT_NAME",
    ],
)
def test_a_header_that_frameworks_obey_does_not_change_the_request(visitor, socket_path, header):
    sent = signed_api(visitor, "/public/page", headers={header: "/admin"})
    assert status(socket_path, sent) in (400, 401, 403)
