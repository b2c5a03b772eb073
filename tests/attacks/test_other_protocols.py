"""Attacks on the proxies of `deploy/` with another protocol, in which requests or bodies pass that nobody asks about.

A connection that a service agrees to upgrade is a tunnel: whatever follows reaches the service unread (h2c smuggling).
In HTTP/2 a body needs no length, so that a proxy cannot say by headers whether there is one.
"""

import contextlib
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from support.authorizer_stub import Stub, stub_servers
from support.proxies import PROXIES, RunningProxy, running_proxy
from support.servers import HANG, program

RESIGNED = {"X_Fedgate_Uri": "/bucket/key", "Authorization": "x", "X_Amz_Date": "x", "X_Amz_Content_Sha256": "x"}
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
UPGRADES = {
    "h2c": H2C,
    "h2c, not in Connection": ("Connection: upgrade", *H2C[1:]),
    "TLS": ("Connection: Upgrade", "Upgrade: TLS/1.0"),
    "two at once": ("Connection: Upgrade", "Upgrade: websocket, h2c", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    "two headers": ("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
}


class AgreeingService(socketserver.BaseRequestHandler):
    """Goes on in whatever protocol a request asks for, and then echoes what it gets."""

    def handle(self) -> None:
        self.request.settimeout(HANG)
        with contextlib.suppress(OSError):
            head = self._head()
            wanted = [line for line in head.split("\r\n") if line.lower().startswith("upgrade:")]
            if not wanted:
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nserved")
                return
            agreed = "\r\n".join(("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", *wanted, "", ""))
            self.request.sendall(agreed.encode())
            while octets := self.request.recv(65536):
                self.request.sendall(b"unasked: " + octets)

    def _head(self) -> str:
        received = b""
        while b"\r\n\r\n" not in received and (octets := self.request.recv(65536)):
            received += octets
        return received.decode("latin-1")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture(scope="module")
def agreeing() -> Iterator[str]:
    with Server(("127.0.0.1", 0), AgreeingService) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with stub_servers() as stub:
        yield stub


def converse(proxy: RunningProxy, upgrade: tuple[str, ...]) -> bytes:
    """Return all that comes back for a request to upgrade, and for what is sent after a yes."""
    trusting, received = ssl.create_default_context(cafile=proxy.ca_file), b""
    plain = socket.create_connection(("localhost", proxy.port), HANG)
    with closing(trusting.wrap_socket(plain, server_hostname="localhost")) as wire:
        wire.sendall("\r\n".join((f"GET / HTTP/1.1\r\nHost: {proxy.host}", *upgrade, "", "")).encode())
        while octets := wire.recv(65536):
            received += octets
            if not received.startswith(b"HTTP/1.1 101") or b"unasked" in received:
                break
            wire.sendall(b"GET /secret HTTP/1.1\r\n\r\n")
    return received


@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("name", PROXIES)
def test_no_connection_becomes_a_tunnel(name, kind, stub, agreeing, tmp_path):
    asks = f"127.0.0.1:{stub.authorizer_port}"
    with running_proxy(name, kind, tmp_path, authorizer=asks, upstream=agreeing) as proxy:
        for which, upgrade in UPGRADES.items():
            stub.reset()
            stub.answers(200, **(RESIGNED if kind == "s3" else {}))
            answer = converse(proxy, upgrade)
            assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 4")), (which, answer)
            assert b"unasked" not in answer, which


@pytest.mark.parametrize("version", ["--http2", "--http2-prior-knowledge"])
@pytest.mark.parametrize("name", PROXIES)
def test_no_body_passes_of_which_the_authorizer_is_not_told(name, version, stub, tmp_path):
    """curl sends standard input without a length: in chunks in HTTP/1.1, in HTTP/2 as it comes."""
    addresses = {"authorizer": f"127.0.0.1:{stub.authorizer_port}", "upstream": f"127.0.0.1:{stub.service_port}"}
    with running_proxy(name, "http", tmp_path, **addresses) as proxy:
        stub.reset()  # of the request with which it was awaited
        command = [program("curl", "curl"), "--silent", version, "--cacert", str(proxy.ca_file), "--upload-file", "-"]
        subprocess.run([*command, proxy.url], input=b"unsigned", capture_output=True, timeout=HANG, check=False)
    told = ("X-Original-Content-Length", "X-Original-Transfer-Encoding")
    assert all(any(asked.header(one) for one in told) for asked in stub.questions)
    assert len(stub.requests) == len(stub.questions)
