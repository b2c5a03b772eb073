"""Converts WSGI requests to HttpRequest, and HttpResponse to WSGI, without a framework."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import StartResponse

from broker.api.body_budget import MAX_BODY, BodyBudget, too_large
from broker.api.forwarded import TrustedProxies
from broker.api.http import HttpRequest, HttpResponse
from iam.errors import MalformedInput, ServiceError

Environ = dict[str, Any]

_REASONS = {
    200: "200 OK",
    302: "302 Found",
    303: "303 See Other",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    409: "409 Conflict",
    410: "410 Gone",
    413: "413 Content Too Large",
    429: "429 Too Many Requests",
    500: "500 Internal Server Error",
    501: "501 Not Implemented",
    503: "503 Service Unavailable",
}
_TOO_LARGE = 413


class UnreadableRequest(Exception):
    """A request whose body is refused: the request without the body, and the error."""

    def __init__(self, request: HttpRequest, error: ServiceError) -> None:
        super().__init__(error.code)
        self.request = request
        self.error = error


def is_api_call(environ: Environ) -> bool:
    """Return whether a request is for the query API: any POST to the root, and any GET with a query."""
    if environ["PATH_INFO"] not in ("/", ""):
        return False
    query: str = environ["QUERY_STRING"]
    return environ["REQUEST_METHOD"] == "POST" or (environ["REQUEST_METHOD"] == "GET" and bool(query))


@contextmanager
def reading_request(environ: Environ, trusted_proxies: TrustedProxies, budget: BodyBudget) -> Iterator[HttpRequest]:
    """Give the request, whose body takes of the budget for the length of the block.

    Raise UnreadableRequest where the body is too large, incomplete or compressed, or where the budget is used up.
    """
    request = read_request_head(environ, trusted_proxies)
    with ExitStack() as held:
        try:
            most = held.enter_context(budget.admit(request, declared_length(environ)))
            complete = replace(request, body=_body(environ, most))
        except ServiceError as error:
            raise UnreadableRequest(request, error) from error
        yield complete


def read_request_head(environ: Environ, trusted_proxies: TrustedProxies) -> HttpRequest:
    """Return the request without its body, which is not read."""
    path, query = _path_and_query(environ)
    source = trusted_proxies.source_of(environ)
    return HttpRequest(
        environ["REQUEST_METHOD"],
        path,
        query,
        _headers(environ),
        b"",
        source.address,
        source.secure,
        peer=source.peer,
        unread_address=source.unread,
    )


def status_line(status: int) -> str:
    """Return a status with its reason phrase."""
    return _REASONS[status]


def send_response(response: HttpResponse, start_response: StartResponse) -> Iterable[bytes]:
    """Send a response."""
    # AWS answers a body that is too large with an empty response (THREATS A27).
    body = b"" if response.status == _TOO_LARGE else response.body
    headers = [*response.headers, ("Content-Length", str(len(body)))]
    start_response(_REASONS[response.status], headers)
    return (body,)


def _path_and_query(environ: Environ) -> tuple[str, str]:
    """Return path and query as sent, still percent-encoded."""
    raw: str = environ.get("RAW_URI") or environ["PATH_INFO"] + "?" + environ["QUERY_STRING"]
    path, _, query = raw.partition("?")
    if not path.startswith("/"):
        path = urlsplit(path).path or "/"  # absolute form: RFC 9112, section 3.2.2
    return path, query


def _headers(environ: Environ) -> tuple[tuple[str, str], ...]:
    headers = [
        (name[5:].replace("_", "-").lower(), value) for name, value in environ.items() if name.startswith("HTTP_")
    ]
    # WSGI passes these two without the prefix HTTP_ (PEP 3333).
    for name, header in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(name):
            headers.append((header, environ[name]))
    return tuple(headers)


def declared_length(environ: Environ) -> int | None:
    """Return the length of the body that the client announced, or None for a chunked one."""
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared.isascii() and declared.isdigit():
        # Check the number of digits first: int() raises ValueError for thousands of them.
        return int(declared) if len(declared) <= len(str(MAX_BODY)) else MAX_BODY + 1
    return None if environ.get("HTTP_TRANSFER_ENCODING") else 0


def _body(environ: Environ, most: int) -> bytes:
    """Return the body; raise RequestTooLarge or MalformedInput."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("identity", ""):
        raise MalformedInput("The body of a request must not be compressed: leave out Content-Encoding.")
    declared = declared_length(environ)
    body: bytes = environ["wsgi.input"].read(most + 1 if declared is None else declared)
    if len(body) > most:
        raise too_large(most)
    if declared is not None and len(body) < declared:
        raise MalformedInput("The body of the request is shorter than its Content-Length.")
    return body
