"""WSGI and ASGI middleware that asks Fedgate whether a request may pass, and tells the application who sent it.

This module needs nothing but the standard library: import it from an installed Fedgate, or copy it into an application.

    application = FedgateWSGI(application, Authorizer("unix:/run/fedgate/authz.sock"))

The application finds the sender in ``environ["fedgate.principal"]`` (WSGI) or ``scope["fedgate.principal"]`` (ASGI), a
``Principal``. The middleware reads the whole body and sends its hash, so that the signature is checked over what the
application really receives. Where the authorizer cannot be asked, nothing passes: the answer is 503.
"""

import asyncio
import http.client
import io
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

Headers = tuple[tuple[str, str], ...]
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WsgiApplication = Callable[[Environ, StartResponse], Iterable[bytes]]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

PRINCIPAL: Final = "fedgate.principal"
_ENDPOINT: Final = "/authz/middleware"
_MOST_KEPT: Final = 32  # idle connections to the authorizer
_LARGEST_ANSWER: Final = 1 << 20
# Hop-by-hop headers (RFC 9110, section 7.6.1), and those that this module writes itself: a client's own copies of these
# would let it choose what is verified.
_NOT_PASSED: Final = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
     "trailer", "transfer-encoding", "upgrade", "x-original-content-length", "x-original-method",
     "x-original-transfer-encoding", "x-original-uri"}
)  # fmt: skip
_OURS: Final = "x-fedgate-"
_LENGTH: Final = "content-length"  # which some SDKs sign, and the authorization request has none
# Cookies with which people are signed in to Fedgate and to this service: the application needs none of them.
_OUR_COOKIES: Final = ("fedgate-", "__host-fedgate-")
_UNAVAILABLE: Final = json.dumps({"message": "The authorization service cannot be reached."}).encode()
_TOO_LARGE: Final = json.dumps({"message": "The body of the request is too large."}).encode()
_OK: Final = 200
_JSON: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_OF_CONNECTION: Final = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})
_TEXTS: Final = ("Account", "Session", "Source-Identity")


class AuthorizerUnavailable(Exception):
    """The authorizer gave no answer, or one that is not its own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request; all texts are empty for a request that a resource policy admits without a signature."""

    arn: str
    account: str = ""
    session: str = ""
    source_identity: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as the application's server received it; ``uri`` is path and query, still percent-encoded."""

    method: str
    uri: str
    headers: Headers
    body_sha256: str
    address: str
    scheme: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer for the client of a request that may not pass."""

    status: int
    headers: Headers
    body: bytes


class Authorizer:
    """Asks Fedgate's authorizer at ``unix:/path`` or ``http://host:port``.

    ``secret`` is the text of the file that ``authz.secret_file`` names, if there is one; ``timeout`` is in seconds.
    """

    def __init__(self, address: str, *, secret: str = "", timeout: float = 5.0) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("unix", "http") or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError(f"not an address of an authorizer: {address!r}; use unix:/path or http://host:port")
        self._parts = parts
        self._secret = secret
        self._timeout = timeout
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=_MOST_KEPT)

    def ask(self, received: ReceivedRequest) -> Principal | Refusal:
        """Return who sent a request that may pass, or the refusal; raise AuthorizerUnavailable."""
        headers = self._headers(received)
        try:
            kept = self._idle.pop()
        except IndexError:
            return self._exchange(self._connect(), headers)
        try:
            return self._exchange(kept, headers)
        except AuthorizerUnavailable:
            # The authorizer closes connections that are idle for long; a new one tells whether it is away.
            return self._exchange(self._connect(), headers)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _headers(self, received: ReceivedRequest) -> Headers:
        passed = tuple((name, value) for name, value in received.headers if _passes(name))
        added = (
            ("X-Original-Method", received.method),
            ("X-Original-URI", received.uri),
            ("X-Fedgate-Body-Sha256", received.body_sha256),
            ("X-Fedgate-Forwarded-For", received.address),
            ("X-Fedgate-Forwarded-Proto", received.scheme),
            *(("X-Original-Content-Length", value) for name, value in received.headers if name.lower() == _LENGTH),
        )
        return (*passed, *added, *((("X-Fedgate-Authz-Secret", self._secret),) if self._secret else ()))

    def _connect(self) -> http.client.HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, self._timeout)
        return http.client.HTTPConnection(self._parts.hostname or "", self._parts.port or 80, timeout=self._timeout)

    def _exchange(self, connection: http.client.HTTPConnection, headers: Headers) -> Principal | Refusal:
        try:
            connection.putrequest("GET", _ENDPOINT, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders()
            response = connection.getresponse()
            body = response.read(_LARGEST_ANSWER)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise AuthorizerUnavailable(str(error)) from error
        self._keep(connection, response)
        if response.status == _OK:
            return _principal(response)
        return Refusal(response.status, _answered(response), body)

    def _keep(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        if response.isclosed() and not response.will_close:
            self._idle.append(connection)
        else:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _passes(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name not in _NOT_PASSED and not name.startswith(_OURS)


def _principal(response: http.client.HTTPResponse) -> Principal:
    arn = response.getheader("X-Fedgate-Principal")
    if arn is None:
        raise AuthorizerUnavailable("the answer is not that of an authorizer")
    text = {name: unquote(response.getheader(f"X-Fedgate-{name}") or "") for name in _TEXTS}
    tags = dict(parse_qsl(response.getheader("X-Fedgate-Tags") or "", keep_blank_values=True))
    return Principal(unquote(arn), text["Account"], text["Session"], text["Source-Identity"], tags)


def _answered(response: http.client.HTTPResponse) -> Headers:
    return tuple((name, value) for name, value in response.getheaders() if name.lower() not in _OF_CONNECTION)


# --- WSGI -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FedgateWSGI:
    """WSGI middleware; bodies above ``max_body`` bytes are answered 413."""

    application: WsgiApplication
    authorizer: Authorizer
    max_body: int = 10 << 20

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request: by the application, if it may pass."""
        body = _read_body(environ, self.max_body)
        if body is None:
            return _respond(start_response, Refusal(413, _JSON, _TOO_LARGE))
        try:
            answer = self.authorizer.ask(_wsgi_request(environ, body))
        except AuthorizerUnavailable:
            answer = Refusal(503, _JSON, _UNAVAILABLE)
        if isinstance(answer, Refusal):
            return _respond(start_response, answer)
        return self.application(_admitted(environ, answer, body), start_response)


def _read_body(environ: Environ, most: int) -> bytes | None:
    """Return the body, or None where it is larger than ``most``."""
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared.isascii() and declared.isdigit():
        length = int(declared) if len(declared) <= len(str(most)) else most + 1
    else:
        # Without a length there is no body, but for servers that say that the input ends by itself.
        length = most + 1 if environ.get("HTTP_TRANSFER_ENCODING") or environ.get("wsgi.input_terminated") else 0
    if declared and length > most:
        return None
    body: bytes = environ["wsgi.input"].read(length) if length else b""
    return body if len(body) <= most else None


def _wsgi_request(environ: Environ, body: bytes) -> ReceivedRequest:
    headers = [
        (name[5:].replace("_", "-").lower(), value) for name, value in environ.items() if name.startswith("HTTP_")
    ]
    # WSGI passes these two without the prefix HTTP_ (PEP 3333).
    named = (("content-type", environ.get("CONTENT_TYPE")), (_LENGTH, environ.get("CONTENT_LENGTH")))
    headers += [(name, value) for name, value in named if value]
    return ReceivedRequest(
        environ["REQUEST_METHOD"],
        _wsgi_uri(environ),
        tuple(headers),
        sha256(body).hexdigest(),
        environ.get("REMOTE_ADDR", ""),
        environ.get("wsgi.url_scheme", "http"),
    )


def _wsgi_uri(environ: Environ) -> str:
    """Return path and query as sent where the server tells them, else encoded anew from what the application sees."""
    raw: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if raw:
        return raw if raw.startswith("/") else _origin_form(raw)
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/-_.~")
    query = environ.get("QUERY_STRING", "")
    return (path or "/") + (f"?{query}" if query else "")


def _origin_form(uri: str) -> str:
    """Return path and query of a request line in absolute form (RFC 9112, section 3.2.2)."""
    parts = urlsplit(uri)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _admitted(environ: Environ, principal: Principal, body: bytes) -> Environ:
    """Return the environ for the application: with principal and body, without our cookies and claims to be ours."""
    kept = {name: value for name, value in environ.items() if not name.upper().startswith("HTTP_X_FEDGATE_")}
    if "HTTP_COOKIE" in kept:
        kept["HTTP_COOKIE"] = _foreign_cookies(kept["HTTP_COOKIE"])
    return kept | {
        PRINCIPAL: principal,
        "REMOTE_USER": principal.arn,
        "wsgi.input": io.BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
    }


def _foreign_cookies(header: str) -> str:
    return "; ".join(one for one in map(str.strip, header.split(";")) if not one.lower().startswith(_OUR_COOKIES))


def _respond(start_response: StartResponse, refusal: Refusal) -> Iterable[bytes]:
    phrase = http.client.responses.get(refusal.status, "Refused")
    start_response(f"{refusal.status} {phrase}", [*refusal.headers, ("Content-Length", str(len(refusal.body)))])
    return (refusal.body,)


# --- ASGI -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FedgateASGI:
    """ASGI middleware for HTTP and WebSocket; bodies above ``max_body`` bytes are answered 413."""

    application: AsgiApplication
    authorizer: Authorizer
    max_body: int = 10 << 20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection: by the application, if it may pass."""
        if scope["type"] not in ("http", "websocket"):
            await self.application(scope, receive, send)  # such as the start and the end of the application
            return
        body = b"" if scope["type"] == "websocket" else await _receive_body(receive, self.max_body)
        answer = Refusal(413, _JSON, _TOO_LARGE) if body is None else await self._ask(scope, body)
        if isinstance(answer, Refusal):
            await _send_refusal(scope, receive, send, answer)
        else:
            await self.application(_admitted_scope(scope, answer), _replay(scope, body or b"", receive), send)

    async def _ask(self, scope: Scope, body: bytes) -> Principal | Refusal:
        try:
            return await asyncio.to_thread(self.authorizer.ask, _asgi_request(scope, body))
        except AuthorizerUnavailable:
            return Refusal(503, _JSON, _UNAVAILABLE)


async def _receive_body(receive: Receive, most: int) -> bytes | None:
    """Return the body, or None where it is larger than ``most`` or the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            return bytes(body)


def _asgi_request(scope: Scope, body: bytes) -> ReceivedRequest:
    raw: bytes = scope.get("raw_path") or quote(scope["path"], safe="/-_.~").encode()
    # Some servers give the query with the raw path.
    path = raw.partition(b"?")[0].decode("latin-1")
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    client = scope.get("client") or ("", 0)
    headers = tuple((bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in scope["headers"])
    return ReceivedRequest(
        scope.get("method", "GET"),
        path + (f"?{query}" if query else ""),
        headers,
        sha256(body).hexdigest(),
        str(client[0]),
        _SCHEMES.get(scope.get("scheme", "http"), "http"),
    )


_SCHEMES: Final = {"http": "http", "ws": "http", "https": "https", "wss": "https"}


def _admitted_scope(scope: Scope, principal: Principal) -> Scope:
    headers = [_without_our_cookies(*pair) for pair in scope["headers"] if not _claims_to_be_ours(bytes(pair[0]))]
    return {**scope, "headers": headers, PRINCIPAL: principal}


def _without_our_cookies(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if name.lower() != b"cookie":
        return name, value
    return name, _foreign_cookies(value.decode("latin-1")).encode("latin-1")


def _claims_to_be_ours(name: bytes) -> bool:
    return name.lower().replace(b"_", b"-").startswith(_OURS.encode())


def _replay(scope: Scope, body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read already, and then what follows."""
    if scope["type"] == "websocket":
        return receive
    unread = [body]

    async def replay() -> MutableMapping[str, Any]:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay


async def _send_refusal(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await receive()  # the client's connect
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP 403
        return
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers]
    headers.append((b"content-length", str(len(refusal.body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
