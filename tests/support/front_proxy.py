"""A reverse proxy in this process: it asks the authorizer about each request, as Caddy's forward_auth does.

In place of a service it answers what a service would have seen.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.servers import HANG

_NOT_PASSED = {"connection", "content-length", "host", "transfer-encoding", "upgrade"}


@contextlib.contextmanager
def front_proxy(host: str, port: int, authorizer: str) -> Iterator[None]:
    """Serve at a host and a port of this machine; ``authorizer`` is the HOST:PORT of authz.bind."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with contextlib.closing(http.client.HTTPConnection(authorizer, timeout=HANG)) as connection:
                answer = self._ask(connection)
                body = answer.read()
            if answer.status != 200:
                self._reply(answer.status, answer.getheaders(), body)
                return
            seen = {"principal": answer.headers["X-Fedgate-Principal"], "cookie": answer.headers["Cookie"]}
            self._reply(200, [("Content-Type", "application/json")], json.dumps(seen | {"path": self.path}).encode())

        def _ask(self, connection):
            connection.putrequest("GET", "/authz/forward")
            told = {"Method": self.command, "Uri": self.path, "Host": self.headers["Host"], "Proto": "http",
                    "For": "192.0.2.7"}  # fmt: skip
            passed = [pair for pair in self.headers.items() if pair[0].lower() not in _NOT_PASSED]
            for name, value in [*passed, *((f"X-Forwarded-{name}", value) for name, value in told.items())]:
                connection.putheader(name, value)
            connection.endheaders()
            return connection.getresponse()

        def _reply(self, status, headers, body):
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in {"content-length", "connection", "date", "server", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_OPTIONS = do_DELETE = _handle  # noqa: N815 - the names of http.server

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(HANG)
