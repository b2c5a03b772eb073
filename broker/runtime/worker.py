"""The gunicorn worker: gevent's, with a time limit for bodies and a stop that does not wait for idle connections.

On the first address that it serves it answers as WSGI does. On all others it asks the application's ``answer_proxy``
and nothing else, so that no request to the public address reaches the authorizer, whatever its headers are; there the
headers are those of the wire, of which WSGI would join the repeated ones.
"""

import contextlib
import socket
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original
from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

# The response to a message that cannot be parsed.
_ANSWERS = (
    (errors.LimitRequestLine, 414, "URI Too Long"),
    (errors.LimitRequestHeaders, 431, "Request Header Fields Too Large"),
    (errors.ExpectationFailed, 417, "Expectation Failed"),
    (errors.UnsupportedTransferCoding, 501, "Not Implemented"),
    (errors.ParseException, 400, "Bad Request"),
    (errors.InvalidChunkSize, 400, "Bad Request"),
    (errors.ChunkMissingTerminator, 400, "Bad Request"),
    (errors.InvalidChunkExtension, 400, "Bad Request"),
)
_FAILED = (500, "Internal Server Error")

_plain_socket = get_original("socket", "socket")


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn publishes no types
    """Closes idle connections at once on a stop; a request in progress gets ``graceful_timeout`` seconds."""

    body_within = 20.0  # seconds; gunicorn's own limits cover only the head of a request

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as gunicorn declares it
        super().__init__(*arguments, **named)
        self._connections: dict[gevent.Greenlet, socket.socket] = {}
        self._idle: set[gevent.Greenlet] = set()
        self._for_proxies: frozenset[Any] = frozenset()  # the names of their listening sockets

    def run(self) -> None:
        """Serve until the worker is stopped."""
        self._for_proxies = frozenset(listening.getsockname() for listening in self.sockets[1:])
        super().run()

    def handle(self, listener: socket.socket, client: socket.socket, addr: Any) -> None:  # noqa: ANN401 - of its family
        """Serve one connection until it ends."""
        me = gevent.getcurrent()
        self._connections[me] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._connections[me]

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:  # noqa: ANN401 - of its family
        """Answer one request; a body that does not arrive in time is cut off, and the connection closed."""
        if listener_name in self._for_proxies:
            return self._answer_proxy(req, sock)
        late = gevent.spawn_later(self.body_within, _hang_up, sock)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            late.kill(block=False)

    def _answer_proxy(self, req: Any, sock: socket.socket) -> None:  # noqa: ANN401 - of its family
        status, headers, body = self.wsgi.answer_proxy(req.method, req.uri, req.headers)
        ends = not self.alive or req.should_close()
        util.write(sock, _message(status, headers, body, ends=ends))
        if ends:
            raise StopIteration

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ANN401, ARG002 - of its family
        """Answer a request that was not parsed or failed; the log gets nothing of it, it may contain a password."""
        kind = type(exc).__name__
        status, reason = next((answer for family, *answer in _ANSWERS if isinstance(exc, family)), _FAILED)
        if status == _FAILED[0]:
            self.log.error("A request failed: %s\n%s", kind, "".join(traceback.format_tb(exc.__traceback__)))
        else:
            self.log.warning("Invalid request from %s: %s", addr[0] if addr else "", kind)
        with contextlib.suppress(Exception):  # the client may have gone
            util.write_error(client, status, reason, "")

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wait for the next request of a connection, at most ``keepalive`` seconds."""
        me = gevent.getcurrent()
        self._idle.add(me)
        try:
            if not self.alive:
                _hang_up(self._connections[me])
            with super().timeout_ctx():
                yield
        finally:
            self._idle.discard(me)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop the worker; gunicorn calls this for SIGTERM."""
        super().handle_exit(sig, frame)
        for greenlet in tuple(self._idle):
            _hang_up(self._connections[greenlet])


def _message(status: str, headers: Sequence[tuple[str, str]], body: bytes, *, ends: bool) -> bytes:
    """Return a response in one piece, which is sent at once; raise ValueError for a line break in a header."""
    lines = [f"{name}: {value}" for name, value in headers]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header with a line break")
    connection = "close" if ends else "keep-alive"
    head = [f"HTTP/1.1 {status}", f"Connection: {connection}", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def _hang_up(client: socket.socket) -> None:
    # SHUT_RD only: requests that have arrived are still answered, then the worker reads the end and closes. gevent's
    # shutdown would raise EBADF in the waiting greenlet.
    plain = _plain_socket(fileno=client.fileno())
    try:
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_RD)
    finally:
        plain.detach()
