"""The gunicorn worker: gevent's, which when it is told to stop does not wait for connections where nothing happens."""

import contextlib
import socket
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original
from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.ggevent import GeventWorker

# What a message that cannot be read is answered; everything else of its family gets 400.
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
    """Ends idle connections at once; a request in progress gets the time of ``graceful_timeout``."""

    body_within = 20.0  # seconds; gunicorn's own limits end with the head of a request

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - as gunicorn declares it
        super().__init__(*arguments, **named)
        self._connections: dict[gevent.Greenlet, socket.socket] = {}
        self._idle: set[gevent.Greenlet] = set()

    def handle(self, listener: socket.socket, client: socket.socket, addr: Any) -> None:  # noqa: ANN401 - of its family
        """Serve one connection until it ends."""
        me = gevent.getcurrent()
        self._connections[me] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._connections[me]

    def handle_request(self, listener_name: Any, req: Any, sock: socket.socket, addr: Any) -> Any:  # noqa: ANN401 - of its family
        """Answer one request; a body that is not there in time ends where it is, and so does the connection."""
        late = gevent.spawn_later(self.body_within, _hang_up, sock)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            late.kill(block=False)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ANN401, ARG002 - of its family
        """Answer what could not be read or answered; the log gets no word of the request, which may be a password."""
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
        """Wait for a connection's next request, ``keepalive`` seconds at most."""
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
        """Stop: gunicorn calls this for SIGTERM."""
        super().handle_exit(sig, frame)
        for one in tuple(self._idle):
            _hang_up(self._connections[one])


def _hang_up(client: socket.socket) -> None:
    # Reading alone: what has come in already is still answered, then the worker meets the end and closes. gevent's own
    # shutdown would raise EBADF in the greenlet that waits.
    plain = _plain_socket(fileno=client.fileno())
    try:
        with contextlib.suppress(OSError):
            plain.shutdown(socket.SHUT_RD)
    finally:
        plain.detach()
