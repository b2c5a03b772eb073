"""The gunicorn worker: gevent's, which when it is told to stop does not wait for connections where nothing happens."""

import contextlib
import socket
from collections.abc import Iterator
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import get_original
from gunicorn.workers.ggevent import GeventWorker

_plain_socket = get_original("socket", "socket")


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn publishes no types
    """Ends idle connections at once; a request in progress gets the time of ``graceful_timeout``."""

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
