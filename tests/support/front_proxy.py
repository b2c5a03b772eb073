"""A reverse proxy in this process: it asks the authorizer about each request, as Caddy's forward_auth does.

In place of a service it answers what a service would have seen.
"""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.broker_process import ACCOUNT, Broker, allow, role_arn
from support.directories import RunningDirectory
from support.servers import HANG, free_port

# Cookies go to every port of a host: each service has a host of its own, and Fedgate another.
HOSTS = {"wiki": "127.0.0.2", "board": "127.0.0.3"}
SETTINGS = """
[authz]
bind = "127.0.0.1:{authz}"
"""
RESOURCE = """
[resource.{name}]
kind = "http"
hosts = ["{host}"]
account = "{account}"
browser = "{role}"
"""

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


@dataclass
class Services:
    """A broker, and the addresses of two services behind the proxy; both are used in the role Visitor, as bob may."""

    broker: Broker
    wiki: str
    board: str


@contextlib.contextmanager
def running_services(folder: Path, slapd: RunningDirectory, furnished: Broker, redis_url: str) -> Iterator[Services]:
    """Serve a broker and two services behind a proxy."""
    ports = {name: free_port() for name in HOSTS}
    authz, port = free_port(), free_port()
    more = SETTINGS.format(authz=authz)
    for name, host in HOSTS.items():
        more += RESOURCE.format(name=name, host=f"{host}:{ports[name]}", account=ACCOUNT, role=role_arn("Visitor"))
    server = {"bind": f"127.0.0.1:{port}", "public_url": f"http://127.0.0.1:{port}"}
    broker = Broker(folder, slapd, redis_url, server=server, more=more).like(furnished)
    with contextlib.ExitStack() as stack:
        stack.callback(broker.close)
        broker.start()
        broker.role_for("bob", "Visitor", allow("execute-api:Invoke"), MaxSessionDuration=43200)
        for name, host in HOSTS.items():
            stack.enter_context(front_proxy(host, ports[name], f"127.0.0.1:{authz}"))
        yield Services(broker, *(f"http://{host}:{ports[name]}" for name, host in HOSTS.items()))
