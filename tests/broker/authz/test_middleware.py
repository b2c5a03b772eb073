"""The middleware in real WSGI and ASGI servers, before an authorizer that answers what a test says."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import flask
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from support.servers import HANG, eventually
from werkzeug.serving import make_server

from broker.authz.middleware import Authorizer, FedgateASGI, FedgateWSGI, Principal

PASS = {
    "X-Fedgate-Principal": "arn:aws:sts::111122223333:assumed-role/Reports/j%C3%BCrgen",
    "X-Fedgate-Account": "111122223333",
    "X-Fedgate-Session": "s-1",
    "X-Fedgate-Source-Identity": "j%C3%BCrgen",
    "X-Fedgate-Tags": "department=R%26D&cost+center=4%2B2&empty=",
}
PRINCIPAL = Principal(
    "arn:aws:sts::111122223333:assumed-role/Reports/jürgen",
    "111122223333",
    "s-1",
    "jürgen",
    {"department": "R&D", "cost center": "4+2", "empty": ""},
)
DENIED = json.dumps({"message": "User is not authorized"}).encode()


@dataclass
class FakeAuthorizer:
    """Answers each question as ``status``, ``headers`` and ``body`` say; ``asked`` has the headers of each question."""

    address: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(PASS))
    body: bytes = b""
    asked: list[dict[str, str]] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)


class UnixHttpServer(ThreadingHTTPServer):
    address_family = socket.AF_UNIX
    daemon_threads = True

    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "authorizer", 0


@contextmanager
def serving(server: WSGIServer | ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(HANG)


@pytest.fixture
def authorizer(tmp_path: Path) -> Iterator[FakeAuthorizer]:
    fake = FakeAuthorizer(f"unix:{tmp_path / 'authz.sock'}")
    with authorizer_at(tmp_path / "authz.sock", fake):
        yield fake


@contextmanager
def authorizer_at(path: Path, fake: FakeAuthorizer) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            assert self.path == "/authz/middleware"
            fake.connections.append(self.connection)
            fake.names.append([name.lower() for name in self.headers])
            fake.asked.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(fake.status)
            for name, value in {**fake.headers, "Content-Length": str(len(fake.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(fake.body)

        def log_message(self, *_):
            pass

        def address_string(self):
            return "client"

    path.unlink(missing_ok=True)
    with serving(UnixHttpServer(str(path), Handler)):
        yield


def seen_by(principal: Principal, body: bytes, headers: dict[str, str]) -> dict:
    return {
        "arn": principal.arn,
        "tags": principal.tags,
        "body": body.decode(),
        "claims": [name for name in headers if name.lower().startswith("x-fedgate")],
        "cookie": {name.lower(): value for name, value in headers.items()}.get("cookie"),
    }


@contextmanager
def flask_application(authorizer: Authorizer) -> Iterator[int]:
    application = flask.Flask(__name__)

    @application.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @application.route("/<path:path>", methods=["GET", "POST"])
    def show(**_path: str):
        principal = flask.request.environ["fedgate.principal"]
        assert flask.request.remote_user == principal.arn
        return seen_by(principal, flask.request.get_data(), dict(flask.request.headers))

    application.wsgi_app = FedgateWSGI(application.wsgi_app, authorizer, max_body=1000)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    with serving(server):
        yield server.server_port


async def show(request: Request) -> JSONResponse:
    return JSONResponse(seen_by(request.scope["fedgate.principal"], await request.body(), dict(request.headers)))


@contextmanager
def starlette_application(authorizer: Authorizer) -> Iterator[int]:
    application = Starlette(routes=[Route("/{path:path}", show, methods=["GET", "POST"])])
    guarded = FedgateASGI(application, authorizer, max_body=1000)
    server = uvicorn.Server(uvicorn.Config(guarded, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(HANG)


@pytest.fixture(params=[flask_application, starlette_application], ids=["wsgi", "asgi"])
def application(request, authorizer) -> Iterator[int]:
    with (
        closing(Authorizer(authorizer.address, secret="s3cret", timeout=HANG)) as asking,
        request.param(asking) as port,
    ):
        yield port


@pytest.fixture
def asking(authorizer) -> Iterator[Authorizer]:
    with closing(Authorizer(authorizer.address, timeout=HANG)) as asking:
        yield asking


def ask(port: int, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str) -> tuple:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)
    try:
        connection.request(method, path, body, {name.replace("__", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_the_application_learns_who_sent_the_request(application):
    status, _, body = ask(application)
    assert status == 200
    expected = {"arn": PRINCIPAL.arn, "tags": PRINCIPAL.tags, "body": "", "claims": [], "cookie": None}
    assert json.loads(body) == expected


def test_the_authorizer_gets_all_cookies_and_the_application_none_of_fedgate(application, authorizer):
    sent = "theme=dark; __Host-fedgate-service=secret; fedgate-session=secret; lang=de"
    _, _, body = ask(application, Cookie=sent)
    assert json.loads(body)["cookie"] == "theme=dark; lang=de"
    assert authorizer.asked[0]["cookie"] == sent


def test_the_question_has_the_request_as_it_was_sent_and_the_hash_of_its_body(application, authorizer):
    status, _, body = ask(
        application, "POST", "/a%20b/%C3%BC?x=1%2F2&y", b"hello", Authorization="AWS4 x", Host="api.test"
    )
    assert (status, json.loads(body)["body"]) == (200, "hello")
    ((question, headers),) = zip(authorizer.asked, authorizer.names, strict=True)
    assert len(set(headers)) == len(headers)
    expected = {
        "x-original-method": "POST",
        "x-original-uri": "/a%20b/%C3%BC?x=1%2F2&y",
        "x-original-content-length": "5",
        "x-fedgate-body-sha256": sha256(b"hello").hexdigest(),
        "x-fedgate-forwarded-for": "127.0.0.1",
        "x-fedgate-forwarded-proto": "http",
        "x-fedgate-authz-secret": "s3cret",
        "authorization": "AWS4 x",
        "host": "api.test",
    }
    assert expected.items() <= question.items()
    assert "content-length" not in question


def test_claims_of_the_client_reach_neither_the_authorizer_nor_the_application(application, authorizer):
    forged = {
        "X__Fedgate__Principal": "root", "x__fedgate__body__sha256": "0" * 64, "X__Original__URI": "/public",
        "X__Original__Method": "GET", "X__Fedgate__Authz__Secret": "guess", "X_Fedgate_Tags": "a=b",
    }  # fmt: skip
    status, _, body = ask(application, "POST", "/secret", b"x", **forged)
    assert (status, json.loads(body)["claims"]) == (200, [])
    (question,) = authorizer.asked
    assert question["x-original-uri"] == "/secret"
    assert question["x-original-method"] == "POST"
    assert question["x-fedgate-authz-secret"] == "s3cret"
    assert question["x-fedgate-body-sha256"] == sha256(b"x").hexdigest()
    assert not {"x-fedgate-principal", "x-fedgate-tags", "x_fedgate_tags"} & question.keys()


def test_a_refusal_reaches_the_client(application, authorizer):
    authorizer.status, authorizer.body = 403, DENIED
    authorizer.headers = {"Content-Type": "application/json", "x-amzn-ErrorType": "AccessDeniedException"}
    status, headers, body = ask(application)
    assert (status, body) == (403, DENIED)
    assert headers.items() >= {"x-amzn-ErrorType": "AccessDeniedException"}.items() or (
        headers["x-amzn-errortype"] == "AccessDeniedException"
    )


def test_an_answer_that_is_not_an_authorizers_admits_nobody(application, authorizer):
    authorizer.headers = {}
    assert ask(application)[0] == 503


def test_nothing_passes_while_the_authorizer_is_away(application, authorizer):
    assert ask(application)[0] == 200
    path = Path(authorizer.address.removeprefix("unix:"))
    path.rename(path.with_suffix(".gone"))
    for connection in authorizer.connections:
        connection.shutdown(socket.SHUT_RDWR)
    assert ask(application)[0] == 503
    path.with_suffix(".gone").rename(path)
    assert ask(application)[0] == 200


def test_connections_are_kept(application, authorizer):
    assert [ask(application)[0] for _ in range(3)] == [200] * 3
    assert len({id(connection) for connection in authorizer.connections}) == 1


def test_a_body_beyond_the_limit_is_refused_without_a_question(application, authorizer):
    assert ask(application, "POST", "/", b"x" * 1001)[0] == 413
    assert authorizer.asked == []
    assert ask(application, "POST", "/", b"x" * 1000)[0] == 200


@pytest.mark.parametrize("address", ["", "unix:", "http://", "https://authz.test", "/run/authz.sock"])
def test_what_is_no_address_of_an_authorizer_is_refused(address):
    with pytest.raises(ValueError, match="not an address of an authorizer"):
        Authorizer(address)


def test_where_the_server_tells_no_raw_uri_the_path_is_encoded_anew(authorizer, asking):
    def application(_environ, start_response):
        start_response("204 No Content", [])
        return [b""]

    guarded = FedgateWSGI(application, asking)
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/api", "PATH_INFO": "/a b/\xc3\xbc", "QUERY_STRING": "q=%20"}
    assert guarded(environ, lambda *_: None) == [b""]
    assert authorizer.asked[0]["x-original-uri"] == "/api/a%20b/%C3%BC?q=%20"


def test_a_web_socket_is_closed_before_it_opens(authorizer, asking):
    authorizer.status = 403
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    async def application(*_):
        raise AssertionError("the application was asked")

    scope = {"type": "websocket", "path": "/feed", "headers": [(b"host", b"api.test")], "scheme": "wss"}
    asyncio.run(FedgateASGI(application, asking)(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert authorizer.asked[0]["x-fedgate-forwarded-proto"] == "https"
