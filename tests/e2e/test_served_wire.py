"""What the served socket answers to octets that no well-behaved client sends."""

import os
import re
import subprocess
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.broker_process import connected, converse, status_of
from support.servers import HANG
from support.wire import Signer

from broker.runtime.launcher import endpoint_of, gunicorn_arguments, listen

LARGEST = 10_000_000
CRLF = b"\r\n"


@pytest.fixture
def signed(served) -> tuple[bytes, list[bytes], bytes]:
    """A right GetCallerIdentity: request line, header lines, body."""
    host = urllib.parse.urlsplit(served.endpoint).netloc
    wire = Signer(served.root, datetime.now(UTC)).signed(headers={"Host": host})
    lines = [f"{name}: {value}".encode() for name, value in wire.headers.items()]
    lines += [b"Content-Length: %d" % len(wire.body), b"Connection: close"]
    return b"POST / HTTP/1.1", lines, wire.body


def message(request_line: bytes, lines: list[bytes], body: bytes = b"") -> bytes:
    return CRLF.join([request_line, *lines, b"", body])


def code_of(received: bytes) -> str:
    found = re.search(rb"<Code>(\w+)</Code>", received)
    return found[1].decode() if found else ""


def test_a_signed_request_by_hand_is_answered(served, signed):
    received = converse(served.endpoint, message(*signed))
    assert status_of(received) == 200
    assert b"<GetCallerIdentityResponse" in received


def test_two_authorization_headers_are_refused_in_either_order(served, signed):
    line, lines, body = signed
    good = next(one for one in lines if one.startswith(b"Authorization"))
    other = re.sub(rb"Signature=\w+", b"Signature=" + b"0" * 64, good)
    for pair in ([good, other], [other, good], [good, good]):
        rest = [one for one in lines if one != good]
        received = converse(served.endpoint, message(line, [*rest, *pair], body))
        assert status_of(received) in (400, 403)
        assert code_of(received) in ("IncompleteSignature", "SignatureDoesNotMatch")


def test_a_body_one_byte_over_the_limit_gets_413_and_not_a_word(served):
    lines = [b"Host: x", b"Connection: close", b"Content-Length: %d" % (LARGEST + 1)]
    received = converse(served.endpoint, message(b"POST / HTTP/1.1", lines))
    head, _, body = received.partition(CRLF * 2)
    assert (status_of(received), body) == (413, b"")
    assert b"Content-Length: 0" in head


def test_a_body_one_byte_over_the_limit_in_chunks_gets_413(served):
    lines = [b"Host: x", b"Connection: close", b"Transfer-Encoding: chunked"]
    size = 1_000_000
    chunk = b"%x\r\n" % size + b"a" * size + CRLF
    body = chunk * (LARGEST // size) + b"1\r\na\r\n0\r\n\r\n"
    received = converse(served.endpoint, message(b"POST / HTTP/1.1", lines, body), timeout=HANG)
    assert status_of(received) == 413


def test_a_chunked_body_is_read_as_if_it_came_in_one_piece(served, signed):
    line, lines, body = signed
    rest = [one for one in lines if not one.startswith(b"Content-Length")]
    cut = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:], b""))
    received = converse(served.endpoint, message(line, [*rest, b"Transfer-Encoding: chunked"], chunks))
    assert status_of(received) == 200


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: +5"],
        [b"Content-Length: 5_0"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: chunked", b" folded: line"],
        [b"Bad Name: x"],
    ],
    ids=lambda lines: b" + ".join(lines).decode(),
)
def test_a_message_of_two_lengths_or_of_a_doubtful_one_is_refused_and_the_connection_closed(served, lines):
    smuggled = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    received = converse(served.endpoint, message(b"POST / HTTP/1.1", [b"Host: x", *lines], smuggled))
    assert status_of(received) in (400, 501)
    assert received.count(b"HTTP/1.") == 1


def test_a_compressed_body_is_refused(served):
    lines = [b"Host: x", b"Connection: close", b"Content-Encoding: gzip", b"Content-Length: 2"]
    received = converse(served.endpoint, message(b"POST / HTTP/1.1", lines, b"\x1f\x8b"))
    assert (status_of(received), code_of(received)) == (400, "MalformedInput")


@pytest.mark.parametrize("host", [b"evil.example", b"a b", b"x/../y", b"\xff\xfe", b"127.0.0.1:99999", b""])
def test_a_strange_host_changes_nothing_and_is_never_repeated(served, host):
    for path in (b"/", b"/healthz", b"/no-such-page"):
        lines = [b"Host: " + host, b"Connection: close"]
        received = converse(served.endpoint, message(b"GET " + path + b" HTTP/1.1", lines))
        assert status_of(received) in (200, 400, 404)
        assert b"Location:" not in received
        if host:
            assert host not in received


def test_a_signature_for_another_host_is_refused(served, signed):
    line, lines, body = signed
    moved = [b"Host: other.example" if one.startswith(b"Host:") else one for one in lines]
    received = converse(served.endpoint, message(line, moved, body))
    assert (status_of(received), code_of(received)) == (403, "SignatureDoesNotMatch")


def test_http_1_0_is_answered_and_closed(served, signed):
    _, lines, body = signed
    rest = [one for one in lines if not one.startswith(b"Connection")]
    received = converse(served.endpoint, message(b"POST / HTTP/1.0", rest, body))
    assert status_of(received) == 200


def test_head_has_no_body(served):
    received = converse(served.endpoint, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status_of(received) == 200
    assert received.endswith(CRLF * 2)


@pytest.mark.parametrize("method", [b"TRACE", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT", b"BREW"])
def test_methods_without_a_meaning_here_are_refused(served, method):
    lines = [b"Host: x", b"Connection: close", b"X-Secret: told-nobody"]
    received = converse(served.endpoint, message(method + b" / HTTP/1.1", lines))
    assert status_of(received) in ((200,) if method == b"OPTIONS" else (400, 405))
    assert b"told-nobody" not in received


def test_a_password_is_not_taken_from_a_query(served):
    query = b"Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&LDAPUsername=alice&LDAPPassword=wonderland-1865"
    for method in (b"GET", b"POST"):
        lines = [b"Host: x", b"Connection: close", b"Content-Length: 0"]
        received = converse(served.endpoint, message(method + b" /?" + query + b" HTTP/1.1", lines))
        assert status_of(received) == 400
    assert "wonderland" not in served.log.read_text()


@pytest.mark.parametrize("line", [b"GET /" + b"a" * 9000 + b" HTTP/1.1", b"GET / HTTP/9.9", b"\x00\x01", b"GET"])
def test_a_request_line_that_is_none_is_refused(served, line):
    assert status_of(converse(served.endpoint, message(line, [b"Host: x"]))) in (400, 414, 431, 505)


def test_too_many_or_too_long_headers_are_refused(served):
    many = [b"X-%d: y" % number for number in range(150)]
    assert status_of(converse(served.endpoint, message(b"GET /healthz HTTP/1.1", many))) in (400, 431)
    long = [b"Host: x", b"Cookie: " + b"a" * 20_000]
    assert status_of(converse(served.endpoint, message(b"GET /healthz HTTP/1.1", long))) in (400, 431)


def test_whoever_sends_headers_slowly_holds_up_nobody_else(served):
    slow = [connected(served.endpoint) for _ in range(40)]
    try:
        for one in slow:
            one.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le")
        assert served.codes(served.root) == {""}
    finally:
        for one in slow:
            one.close()


def test_two_requests_on_one_connection_get_two_answers_in_order(served):
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /no-such-page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = converse(served.endpoint, first + last)
    assert re.findall(rb"HTTP/1\.1 (\d{3})", received) == [b"200", b"404"]


def test_a_request_line_that_cannot_be_read_is_not_logged(served):
    for line in (
        b"POST /?LDAPPassword=wonderland-1866 pass HTTP/1.1",
        b"PO(ST /?LDAPPassword=wonderland-1866 HTTP/1.1",
    ):
        assert status_of(converse(served.endpoint, message(line, [b"Host: x"]))) == 400
    log = served.log.read_text()
    assert "wonderland-1866" not in log
    assert "InvalidRequestLine" in log


QUICK = """
from broker.runtime.worker import Worker
class Quick(Worker):
    body_within = 0.5
def application(environ, start_response):
    body = environ["wsgi.input"].read(1000)
    start_response("400 Bad Request", [("Content-Length", "3")])
    return [b"%03d" % len(body)]
"""


def test_a_body_that_comes_too_slowly_is_cut_and_the_connection_closed(tmp_path):
    (tmp_path / "quick.py").write_text(QUICK)
    with listen("127.0.0.1:0") as listening:
        command = gunicorn_arguments("quick:application", fd=listening.fileno(), workers=1)
        command += ["--worker-class", "quick.Quick", "--chdir", str(tmp_path)]
        server = subprocess.Popen(
            command,
            pass_fds=(listening.fileno(),),
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())])},
        )
        try:
            head = message(b"POST / HTTP/1.1", [b"Host: x", b"Content-Length: 1000"], b"a")
            received = converse(endpoint_of(listening), head, timeout=HANG)
        finally:
            server.terminate()
            server.wait(HANG)
    assert status_of(received) == 400
    assert received.endswith(b"001")
