"""An authorizer and a service behind a proxy that do as a test says and remember what they were asked.

The tests of the configurations in `deploy/` put a proxy between the two: what passes, and what does it look like then?
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSES = 200
REDIRECTS = (302, 303)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived: the target raw, the names of headers as they were written."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for one, value in self.headers if one.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None


@dataclass
class Stub:
    """``status`` and ``headers`` are the authorizer's verdict, and ``refusal`` the body that goes with one."""

    authorizer_port: int = 0
    service_port: int = 0
    status: int = PASSES
    headers: dict[str, str] = field(default_factory=dict)
    refusal: bytes = b""
    questions: list[Asked] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)

    def reset(self) -> None:
        self.status, self.headers, self.refusal = PASSES, {}, b""
        self.questions.clear()
        self.requests.clear()

    def answers(self, status: int, refusal: bytes = b"", **headers: str) -> None:
        self.status, self.refusal = status, refusal
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def verdict(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """Answer a proxy; to nginx, which cannot pass on a body, with a ticket for it."""
        if asked.target == "/authz/denied":
            assert asked.header("X-Fedgate-Denied") == "ticket"
            return self.status, self.headers, self.refusal
        if asked.target == "/authz/sign-in":
            return self.status, self.headers, self.refusal
        self.questions.append(asked)
        if asked.target == "/authz/nginx" and self.status in REDIRECTS:
            return 401, {"X-Fedgate-Status": "302", "X-Fedgate-Denied": "ticket"}, b""
        if asked.target == "/authz/nginx" and 400 <= self.status < 500:
            told = {"X-Fedgate-Status": str(self.status), "X-Fedgate-Denied": "ticket"}
            return 403 if self.status == 403 else 401, told, b""
        return self.status, self.headers, self.refusal

    def service(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(asked)
        return 200, {"Content-Type": "text/plain"}, b"served"


@contextlib.contextmanager
def stub_servers() -> Iterator[Stub]:
    """Run both, each on a port of its own."""
    stub = Stub()
    with _server(stub.verdict) as stub.authorizer_port, _server(stub.service) as stub.service_port:
        yield stub


@contextlib.contextmanager
def _server(answer) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            length = int(self.headers.get("Content-Length", "0"))
            asked = Asked(self.command, self.path, tuple(self.headers.items()), self.rfile.read(length))
            status, headers, body = answer(asked)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_arguments):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, _request, _address):
            pass  # a proxy that has gone

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
