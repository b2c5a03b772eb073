"""Reads the request that a proxy asks about, from the headers in which this kind of proxy describes it.

Pure. Each endpoint reads its own set of headers and no other; what is missing, given twice or malformed is refused, so
that a proxy that is set up in another way lets nothing pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, NamedTuple

from broker.api.forwarded import Source, TrustedProxies
from broker.api.http import HttpRequest

Headers = tuple[tuple[str, str], ...]

PREFIX: Final = "/authz/"
SECRET_HEADER: Final = "x-fedgate-authz-secret"  # noqa: S105 - the name of a header
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, section 5.6.2
_HEX_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# An authorization request has no body and lacks its length, which some SDKs sign (aws-sdk-go, JavaScript, CRT).
_LENGTH: Final = "x-original-content-length"
_CODING: Final = "x-original-transfer-encoding"
# Which version the client's connection has, as OpenSSL writes it; without TLS there is none.
_TLS: Final = "x-fedgate-tls-version"
_TLS_VERSION: Final = re.compile(r"TLSv([0-9])(\.[0-9])?")
_KEPT_SOURCES: Final = 4096  # addresses of clients, read once
_Line = tuple[str, str]


class AuthorizationRequest(NamedTuple):
    """What was sent to the authorizer: ``target`` is raw, names of headers are in lower case, in order of arrival."""

    method: str
    target: str
    headers: Headers


class WrongAuthorizationRequest(Exception):
    """The proxy asks in a way that this endpoint does not know: its configuration is wrong."""


@dataclass(frozen=True, slots=True)
class Convention:
    """The headers in which one kind of proxy describes a request.

    ``method`` and ``uri`` are empty where the authorization request itself has the original method, and the original
    URI behind the endpoint. Of several names of ``address``, the first that is there counts. ``body_hash`` is the
    header of a sender that read the body. ``ticket``: the proxy gives the client no body of ours, and fetches it with a
    ticket. ``tls`` is the header in which the proxy tells the version of TLS, where it can and overwrites the client's
    own. ``cookies`` is the header of the answer with the cookies that may reach the service: proxies that copy headers
    under their own names replace the client's with it.
    """

    method: str
    uri: str
    host: str
    address: tuple[str, ...]
    proto: str
    body_hash: str = ""
    ticket: bool = False
    tls: str = ""
    cookies: str = "X-Fedgate-Cookie"


_FEDGATE: Final = Convention(
    "x-original-method", "x-original-uri", "host", ("x-fedgate-forwarded-for",), "x-fedgate-forwarded-proto", tls=_TLS
)
CONVENTIONS: Final[Mapping[str, Convention]] = {
    "nginx": replace(_FEDGATE, ticket=True),
    "haproxy": _FEDGATE,
    "middleware": replace(_FEDGATE, body_hash="x-fedgate-body-sha256", tls=""),
    "forward": Convention(
        "x-forwarded-method",
        "x-forwarded-uri",
        "x-forwarded-host",
        ("x-forwarded-for",),
        "x-forwarded-proto",
        cookies="Cookie",
    ),
    "envoy": Convention(
        "", "", "host", ("x-envoy-external-address", "x-forwarded-for"), "x-forwarded-proto", tls=_TLS, cookies="Cookie"
    ),
}
# By endpoint: the headers in which the proxy describes a request, each of which may be there once, and those that are
# not the client's. A proxy that sends its request to another host has that one's name as Host.
_DESCRIBING: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(
        {one.method, one.uri, one.host, one.proto, one.body_hash, one.tls, _LENGTH, _CODING, *one.address} - {""}
    )
    for name, one in CONVENTIONS.items()
}
_NOT_OF_CLIENT: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(
        {one.method, one.uri, one.host, one.body_hash, _TLS, _LENGTH, _CODING, SECRET_HEADER, "host", "content-length"}
    )
    for name, one in CONVENTIONS.items()
}


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A request that a proxy asks about.

    ``body_hash`` is of its body where the sender read it, else empty. ``has_body`` is what the proxy says of it; None
    where it says nothing. ``tls_version`` is such as 1.3, and empty where it is not told.
    """

    request: HttpRequest
    body_hash: str = ""
    has_body: bool | None = None
    tls_version: str = ""


def read_original(name: str, received: AuthorizationRequest, trusted_proxies: TrustedProxies) -> OriginalRequest:
    """Return the client's request that a proxy asks about at the endpoint ``name``; raise WrongAuthorizationRequest."""
    convention, said = CONVENTIONS[name], _described(name, received.headers)
    method, uri = _method_and_uri(convention, said, received, f"{PREFIX}{name}")
    path, _, query = uri.partition("?")
    source = _source(trusted_proxies, _first_of(said, convention.address), _one(said, convention.proto))
    request = HttpRequest(
        method,
        path,
        query,
        _clients_headers(name, said, received.headers),
        b"",
        source.address,
        source.secure,
        unread_address=source.unread,
    )
    return OriginalRequest(request, _body_hash(convention, said), _has_body(said), _tls_version(convention, said))


def _described(name: str, headers: Headers) -> Mapping[str, str]:
    """Return the headers in which the proxy describes the request; each may be given once.

    Two would let a client add its own to the proxy's.
    """
    ours = _DESCRIBING[name]
    pairs = [pair for pair in headers if pair[0] in ours]
    said = dict(pairs)
    if len(said) < len(pairs):
        twice = next(header for header in said if sum(other == header for other, _ in pairs) > 1)
        raise WrongAuthorizationRequest(f"{twice} is given twice")
    return said


@lru_cache(maxsize=_KEPT_SOURCES)
def _source(trusted_proxies: TrustedProxies, forwarded_for: str, proto: str) -> Source:
    return trusted_proxies.told_by_proxy(forwarded_for, proto)


def _method_and_uri(
    convention: Convention, said: Mapping[str, str], received: AuthorizationRequest, endpoint: str
) -> _Line:
    if convention.method:
        method, uri = _one(said, convention.method), _one(said, convention.uri)
    else:
        method, uri = received.method, received.target.removeprefix(endpoint) or "/"
    if not _METHOD.fullmatch(method):
        raise WrongAuthorizationRequest(f"{convention.method or 'its method'} is not a method")
    if not uri.startswith("/"):
        raise WrongAuthorizationRequest(
            f"{convention.uri or 'the URI behind the endpoint'} does not begin with a slash"
        )
    return method, uri


def _clients_headers(name: str, said: Mapping[str, str], headers: Headers) -> Headers:
    """Return the headers as the client sent them, without what the proxy added for us."""
    host, length, ours = _one(said, CONVENTIONS[name].host), said.get(_LENGTH), _NOT_OF_CLIENT[name]
    kept = [pair for pair in headers if pair[0] not in ours]
    return (("host", host), *kept) if length is None else (("host", host), ("content-length", length), *kept)


def _body_hash(convention: Convention, said: Mapping[str, str]) -> str:
    if not convention.body_hash:
        return ""
    body_hash = _one(said, convention.body_hash)
    if not _HEX_SHA256.fullmatch(body_hash):
        raise WrongAuthorizationRequest(f"{convention.body_hash} is not the hexadecimal SHA-256 of the body")
    return body_hash


def _has_body(said: Mapping[str, str]) -> bool | None:
    if _CODING in said:
        return True
    length = said.get(_LENGTH)
    return None if length is None else length != "0"


def _tls_version(convention: Convention, said: Mapping[str, str]) -> str:
    match = _TLS_VERSION.fullmatch(said.get(convention.tls, ""))
    return f"{match[1]}{match[2] or '.0'}" if match else ""


def _first_of(said: Mapping[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        if name in said:
            return said[name]
    raise WrongAuthorizationRequest(f"{' or '.join(names)} is missing")


def _one(said: Mapping[str, str], name: str) -> str:
    value = said.get(name)
    if not value:
        raise WrongAuthorizationRequest(f"{name} is missing")
    return value
