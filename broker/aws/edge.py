"""WSGI on one side, HttpRequest and HttpResponse on the other: no framework between a client and the gate."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from wsgiref.types import StartResponse

from broker.aws.http import HttpRequest, HttpResponse

MAX_BODY = 10_000_000
Environ = dict[str, Any]
Networks = tuple[IPv4Network | IPv6Network, ...]

_REASONS = {
    200: "200 OK",
    400: "400 Bad Request",
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


class BodyTooLarge(Exception):  # noqa: N818 - it names what happened, as the refusals do
    """The body exceeds MAX_BODY bytes."""


def is_api_call(environ: Environ) -> bool:
    """Return whether a request is for the query API: any POST to the root, and any GET with a query."""
    if environ["PATH_INFO"] not in ("/", ""):
        return False
    query: str = environ["QUERY_STRING"]
    return environ["REQUEST_METHOD"] == "POST" or (environ["REQUEST_METHOD"] == "GET" and bool(query))


def too_large(start_response: StartResponse) -> Iterable[bytes]:
    """Refuse a body that is over the limit, without reading it and without a word (THREATS A27)."""
    return write(HttpResponse(413, (("Connection", "close"),), b""), start_response)


def read(environ: Environ, trusted_proxies: Networks) -> HttpRequest:
    """Return the request as it came over the wire; raise BodyTooLarge."""
    raw: str = environ.get("RAW_URI") or environ["PATH_INFO"] + "?" + environ["QUERY_STRING"]
    path, _, query = raw.partition("?")
    headers = _headers(environ)
    source, secure = _origin(environ, trusted_proxies)
    return HttpRequest(environ["REQUEST_METHOD"], path, query, headers, _body(environ), source, secure)


def write(response: HttpResponse, start_response: StartResponse) -> Iterable[bytes]:
    """Send a response."""
    headers = [*response.headers, ("Content-Length", str(len(response.body)))]
    start_response(_REASONS[response.status], headers)
    return (response.body,)


def _headers(environ: Environ) -> tuple[tuple[str, str], ...]:
    headers = [
        (name[5:].replace("_", "-").lower(), value) for name, value in environ.items() if name.startswith("HTTP_")
    ]
    # WSGI keeps these two apart from the rest (PEP 3333).
    for name, header in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(name):
            headers.append((header, environ[name]))
    return tuple(headers)


def _body(environ: Environ) -> bytes:
    declared = environ.get("CONTENT_LENGTH") or ""
    if declared.isascii() and declared.isdigit():
        if int(declared) > MAX_BODY:
            raise BodyTooLarge
        body: bytes = environ["wsgi.input"].read(int(declared))
        return body
    if environ.get("HTTP_TRANSFER_ENCODING"):
        chunked: bytes = environ["wsgi.input"].read(MAX_BODY + 1)
        if len(chunked) > MAX_BODY:
            raise BodyTooLarge
        return chunked
    return b""


def _origin(environ: Environ, trusted: Networks) -> tuple[str, bool]:
    """Return the client's address and whether it used TLS; only a trusted proxy's word counts (THREATS B34)."""
    address: str = environ.get("REMOTE_ADDR", "")
    secure = environ.get("wsgi.url_scheme") == "https"
    if not trusted or not _within(address, trusted):
        return address, secure
    if "HTTP_X_FORWARDED_PROTO" in environ:
        secure = environ["HTTP_X_FORWARDED_PROTO"].strip().lower() == "https"
    for hop in reversed(environ.get("HTTP_X_FORWARDED_FOR", "").split(",")):
        if not hop.strip():
            break
        address = hop.strip()
        if not _within(address, trusted):
            break
    return address, secure


def _within(address: str, networks: Networks) -> bool:
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)
