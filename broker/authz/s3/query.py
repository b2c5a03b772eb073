"""The query of a request to S3, read so that every store reads the same.

Pure. A parameter given twice, a semicolon (some programs divide at it) and what cannot be decoded are refused. A plain
``+`` is a space, as Amazon S3 and Ceph RGW read it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

from broker.authz.s3.headers import AMZ, CHECKSUM
from broker.authz.s3.target import decode_once
from iam.errors import InvalidRequest, InvalidURI, NotImplementedHere
from iam.percent_encoding import has_bad_escape

PAYLOAD_HASH = "X-Amz-Content-Sha256"
# What presigning adds (Signature Version 4; a presigned request of version 2 is refused before).
SIGNATURE_PARAMETERS = frozenset(
    {
        "X-Amz-Algorithm",
        PAYLOAD_HASH,
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    }
)
# Parameters x-amz-* that say nothing about what is done: clients move them here from the headers when they presign.
_HARMLESS = frozenset({"x-amz-sdk-checksum-algorithm", "x-amz-user-agent"})
_HARMLESS_PREFIXES = (CHECKSUM, "x-amz-meta-")
_OPERATION_NAME = "x-id"  # the name of the operation, which SDKs add and stores ignore
_RAW = re.compile(r"[!\"$-:<=?-\[\]-~>\\\x80-\xff]*")
_UNRESERVED = "-_.~"


class Parameter(NamedTuple):
    """A parameter, decoded; ``has_value`` is whether there was an equals sign."""

    name: str
    value: str
    has_value: bool

    @property
    def encoded_name(self) -> str:
        """Return the name as in a canonical request (RFC 3986, section 2.3)."""
        return quote(self.name, safe=_UNRESERVED)

    @property
    def encoded_value(self) -> str:
        """Return the value as in a canonical request."""
        return quote(self.value, safe=_UNRESERVED)

    @property
    def encoded(self) -> str:
        """Return the parameter for a query, without an equals sign where it had none."""
        return f"{self.encoded_name}={self.encoded_value}" if self.has_value else self.encoded_name


def read_query(query: str) -> tuple[Parameter, ...]:
    """Return the parameters of a raw query (latin-1 text, as in WSGI) in their order.

    Raise InvalidURI for a malformed query, InvalidRequest for a parameter given twice.
    """
    if not _RAW.fullmatch(query) or has_bad_escape(query):
        raise InvalidURI("Couldn't parse the query of the request; a semicolon has to be encoded as %3B.")
    parameters = tuple(_parameter(part) for part in query.split("&")) if query else ()
    names = [parameter.name.lower() for parameter in parameters]
    if len(set(names)) < len(names):
        raise InvalidRequest("A parameter of the query is given twice.")
    return parameters


def own_parameters(parameters: tuple[Parameter, ...]) -> Mapping[str, str]:
    """Return the parameters of the operation, by name: without those of the signature and of the client.

    Raise NotImplemented for a header ``x-amz-*`` among them: whether a store reads it there, nobody else knows.
    """
    own = {}
    for name, value, _ in parameters:
        if name in SIGNATURE_PARAMETERS or name == _OPERATION_NAME:
            continue
        lower = name.lower()
        if lower in _HARMLESS or lower.startswith(_HARMLESS_PREFIXES):
            continue
        if lower.startswith(AMZ):
            raise NotImplementedHere(f"{name} cannot pass in the query: send it as a header, and sign it.")
        own[name] = value
    return own


def _parameter(part: str) -> Parameter:
    name, equals, value = part.partition("=")
    return Parameter(_decode(name), _decode(value), bool(equals))


def _decode(text: str) -> str:
    return decode_once(text.replace("+", " "))
