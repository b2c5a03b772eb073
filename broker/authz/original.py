"""Reads the request that a proxy asks about, from the headers in which this kind of proxy describes it.

Pure. Each endpoint reads its own set of headers and no other; what is missing, given twice or malformed is refused, so
that a proxy that is set up in another way lets nothing pass.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from broker.api.forwarded import TrustedProxies
from broker.api.http import HttpRequest

Headers = tuple[tuple[str, str], ...]

PREFIX: Final = "/authz/"
SECRET_HEADER: Final = "x-fedgate-authz-secret"  # noqa: S105 - the name of a header
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, section 5.6.2
_HEX_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# Proxies send no body with their question and drop its length, which some SDKs sign (aws-sdk-go, JavaScript, CRT).
_LENGTH: Final = "x-original-content-length"
_CODING: Final = "x-original-transfer-encoding"


class Question(NamedTuple):
    """What was sent to the authorizer: ``target`` is raw, names of headers are in lower case, in order of arrival."""

    method: str
    target: str
    headers: Headers


class QuestionRefused(Exception):
    """The proxy asks in a way that this endpoint does not know: its configuration is wrong."""


@dataclass(frozen=True, slots=True)
class Convention:
    """The headers in which one kind of proxy describes a request.

    ``method`` and ``uri`` are empty where the question itself has the original method, and the original URI behind the
    endpoint. Of several names of ``address``, the first that is there counts. ``body_hash`` is the header of an asker
    that read the body. ``ticket``: the proxy gives the client no body of ours, and fetches it with a ticket.
    """

    method: str
    uri: str
    host: str
    address: tuple[str, ...]
    proto: str
    body_hash: str = ""
    ticket: bool = False


_FEDGATE: Final = Convention(
    "x-original-method", "x-original-uri", "host", ("x-fedgate-forwarded-for",), "x-fedgate-forwarded-proto"
)
CONVENTIONS: Final[Mapping[str, Convention]] = {
    "nginx": replace(_FEDGATE, ticket=True),
    "haproxy": _FEDGATE,
    "middleware": replace(_FEDGATE, body_hash="x-fedgate-body-sha256"),
    "forward": Convention(
        "x-forwarded-method", "x-forwarded-uri", "x-forwarded-host", ("x-forwarded-for",), "x-forwarded-proto"
    ),
    "envoy": Convention("", "", "host", ("x-envoy-external-address", "x-forwarded-for"), "x-forwarded-proto"),
}


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """A request that a proxy asks about.

    ``body_hash`` is of its body where the asker read it, else empty. ``has_body`` is what the proxy says of it; None
    where it says nothing.
    """

    request: HttpRequest
    body_hash: str = ""
    has_body: bool | None = None


def read_original(name: str, question: Question, trusted_proxies: TrustedProxies) -> OriginalRequest:
    """Return the request that a question to the endpoint ``name`` is about; raise QuestionRefused."""
    convention = CONVENTIONS[name]
    method, uri = _method_and_uri(convention, question, f"{PREFIX}{name}")
    path, _, query = uri.partition("?")
    proto = _one(question.headers, convention.proto)
    source = trusted_proxies.told_by_proxy(_first_of(question.headers, convention.address), proto)
    length, coding = _optional(question.headers, _LENGTH), _optional(question.headers, _CODING)
    request = HttpRequest(
        method,
        path,
        query,
        _clients_headers(convention, question.headers, length),
        b"",
        source.address,
        source.secure,
        unread_address=source.unread,
    )
    return OriginalRequest(request, _body_hash(convention, question.headers), _has_body(length, coding))


def _method_and_uri(convention: Convention, question: Question, endpoint: str) -> tuple[str, str]:
    if convention.method:
        method, uri = _one(question.headers, convention.method), _one(question.headers, convention.uri)
    else:
        method, uri = question.method, question.target.removeprefix(endpoint) or "/"
    if not _METHOD.fullmatch(method):
        raise QuestionRefused(f"{convention.method} is not a method")
    if not uri.startswith("/"):
        raise QuestionRefused(f"{convention.uri} does not begin with a slash")
    return method, uri


def _clients_headers(convention: Convention, headers: Headers, length: str | None) -> Headers:
    """Return the headers as the client sent them, without what the proxy added for us."""
    host = _one(headers, convention.host)
    ours = {convention.method, convention.uri, convention.host, convention.body_hash, _LENGTH, _CODING, SECRET_HEADER}
    ours |= {"host", "content-length", *(name for name in convention.address if name.startswith("x-fedgate-"))}
    kept = tuple(pair for pair in headers if pair[0] not in ours)
    return (("host", host), *((("content-length", length),) if length is not None else ()), *kept)


def _body_hash(convention: Convention, headers: Headers) -> str:
    if not convention.body_hash:
        return ""
    body_hash = _one(headers, convention.body_hash)
    if not _HEX_SHA256.fullmatch(body_hash):
        raise QuestionRefused(f"{convention.body_hash} is not the hexadecimal SHA-256 of the body")
    return body_hash


def _has_body(length: str | None, coding: str | None) -> bool | None:
    if coding is not None:
        return True
    return None if length is None else length != "0"


def _first_of(headers: Headers, names: tuple[str, ...]) -> str:
    for name in names:
        value = _optional(headers, name)
        if value is not None:
            return value
    raise QuestionRefused(f"{' or '.join(names)} is missing")


def _one(headers: Headers, name: str) -> str:
    value = _optional(headers, name)
    if not value:
        raise QuestionRefused(f"{name} is missing")
    return value


def _optional(headers: Headers, name: str) -> str | None:
    """Return the value of a header that may be given once; two would let a client add its own to the proxy's."""
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise QuestionRefused(f"{name} is given twice")
    return values[0].strip(" \t") if values else None
