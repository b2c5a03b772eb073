"""Read the signature that a request presents in its Authorization header or in its query; nothing is verified.

Pure. Source: IAM User Guide, "Create a signed AWS API request"; messages are those of AWS. A plain ``+`` in the query
stands for itself in the canonical query, neither for ``%2B`` nor for ``%20``: whichever way the parameters are decoded
later, exchanging one for the other breaks the signature (THREATS A17). The time of a request is X-Amz-Date; a Date
header is ignored.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from iam.clock import parse_iso8601
from iam.errors import (
    AuthorizationQueryParametersError,
    IncompleteSignature,
    InvalidClientTokenId,
    MalformedQueryString,
    MissingAuthenticationToken,
    SignatureDoesNotMatch,
    UnsupportedAlgorithm,
)
from iam.percent_encoding import has_bad_escape

Headers = tuple[tuple[str, str], ...]
Parameters = tuple[tuple[str, str], ...]

ALGORITHM = "AWS4-HMAC-SHA256"
LONGEST_EXPIRES = 604_800  # seconds, a week: the limit that the S3 API reference sets for X-Amz-Expires (THREATS A22)
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    " and signing method. Consult the service documentation for details."
)

_ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should be"
    " specified."
)
# Digits are [0-9]: \d would take those of every script, and int() reads them (THREATS A12).
_ISO_BASIC = re.compile(r"[0-9]{8}T[0-9]{6}Z")
# The service model's accessKeyIdType is \w{16,128}; ours have neither underscores nor letters beyond ASCII. Whatever
# passes is safe in a Redis key, an SQL parameter and a log line (THREATS A07).
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9]{1,128}")
_SPACES = re.compile(r"[ \t]+")
# What every AWS SDK sends, read in one step; ``_authorization`` reads the rest and names what is wrong.
_COMMON_AUTHORIZATION = re.compile(
    ALGORITHM + r" +Credential=([^,=\s]+), *SignedHeaders=([^,=\s]*), *Signature=([^,=\s]*)"
)
_PARTS = ("Credential", "Signature", "SignedHeaders")
_PRESIGNED = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
# All parameters that belong to a presigned request's signature; each may be given once (THREATS A23).
_SIGNATURE_PARAMETERS = frozenset((*_PRESIGNED, "X-Amz-Security-Token", "X-Amz-Content-Sha256"))
_UNRESERVED = "-_.~"


class PresentedSignature(NamedTuple):
    """The signature of a request and the request itself; nothing in it is verified yet.

    ``token`` is empty where the request has none; ``expires`` is in seconds, and None for a request signed in its
    headers. ``parameters`` are those of the query which are signed, encoded as in the canonical query.
    """

    access_key_id: str
    scope_date: str
    region: str
    service: str
    terminator: str
    amz_date: datetime
    timestamp: str
    token: str
    signature: str
    signed_headers: str
    expires: int | None
    method: str
    path: str
    parameters: Parameters
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:  # a NamedTuple would print token and body
        return f"Presented(access_key_id={self.access_key_id!r}, region={self.region!r}, service={self.service!r})"


def read(method: str, path: str, query: str, headers: Headers, body: bytes) -> PresentedSignature:
    """Return the signature that a request presents, from its Authorization header or its query.

    ``path`` and ``query`` are raw, header names in lower case, text is latin-1 as in WSGI. Raise
    MissingAuthenticationToken, IncompleteSignature, MalformedQueryString, AuthorizationQueryParametersError,
    InvalidClientTokenId (an access key id which cannot be one) or SignatureDoesNotMatch (a parameter given twice).
    """
    parameters = _canonical_parameters(query) if query else ()
    sent = _merge_headers(headers)
    signature_parameters = _signature_parameters(parameters) if parameters else {}
    authorization = sent.get("authorization")
    if "X-Amz-Algorithm" in signature_parameters:
        # With both, one part of the program could verify the header and another act on the query (THREATS A19).
        if authorization is not None:
            raise IncompleteSignature(_ONE_MECHANISM)
        return _presigned(signature_parameters, method, path, parameters, sent, body)
    if authorization is None:
        raise MissingAuthenticationToken("Request is missing Authentication Token")
    if "X-Amz-Signature" in signature_parameters or "X-Amz-Credential" in signature_parameters:
        raise IncompleteSignature(_ONE_MECHANISM)
    return _header_signed(authorization, method, path, parameters, sent, body)


def _header_signed(
    authorization: str,
    method: str,
    path: str,
    parameters: Parameters,
    sent: Mapping[str, str],
    body: bytes,
) -> PresentedSignature:
    timestamp = sent.get("x-amz-date")
    common = _COMMON_AUTHORIZATION.fullmatch(authorization)
    if common is None or timestamp is None:
        credential, signed_headers, signature = _authorization(authorization, dated=timestamp is not None)
    else:
        credential, signed_headers, signature = common.groups()
    timestamp = timestamp or ""
    return PresentedSignature(
        *_credential(credential),
        _parse_timestamp(timestamp),
        timestamp,
        sent.get("x-amz-security-token", ""),
        signature,
        signed_headers,
        None,
        method,
        path,
        parameters,
        sent,
        body,
    )


def _presigned(
    signature_parameters: Mapping[str, str],
    method: str,
    path: str,
    parameters: Parameters,
    sent: Mapping[str, str],
    body: bytes,
) -> PresentedSignature:
    missing = [name for name in _PRESIGNED if name not in signature_parameters]
    if missing:
        texts = (f"AWS query-string parameters must include '{name}'. " for name in missing)
        raise IncompleteSignature("".join(texts) + "Re-examine the query-string parameters.")
    # Of two values, verification could read one and the service another.
    if sum(name in _SIGNATURE_PARAMETERS for name, _ in parameters) != len(signature_parameters):
        raise SignatureDoesNotMatch(MISMATCH, log="a parameter of the signature is given twice")
    if signature_parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise UnsupportedAlgorithm("Unsupported AWS 'algorithm'.", log="of a presigned request")
    return PresentedSignature(
        *_credential(signature_parameters["X-Amz-Credential"]),
        _parse_timestamp(signature_parameters["X-Amz-Date"]),
        signature_parameters["X-Amz-Date"],
        signature_parameters.get("X-Amz-Security-Token", ""),
        signature_parameters["X-Amz-Signature"],
        signature_parameters["X-Amz-SignedHeaders"],
        _expires(signature_parameters["X-Amz-Expires"]),
        method,
        path,
        tuple(pair for pair in parameters if pair[0] != "X-Amz-Signature"),
        sent,
        body,
    )


def _authorization(text: str, *, dated: bool) -> tuple[str, str, str]:
    """Return credential, signed headers and signature, in any order; raise an error that names what is missing.

    Two Authorization headers arrive joined by a comma, so the second algorithm is an unknown part (THREATS A19).
    """
    algorithm, _, rest = text.strip().partition(" ")
    if not algorithm.startswith("AWS"):
        raise MissingAuthenticationToken("Request is missing Authentication Token")
    if algorithm != ALGORITHM:
        raise UnsupportedAlgorithm("Unsupported AWS 'algorithm'.", log=f"the algorithm {algorithm[:40]}")
    parts: dict[str, str] = {}
    for part in rest.split(",") if rest.strip() else ():
        name, equals, value = part.strip().partition("=")
        if not equals:
            raise IncompleteSignature("Not a valid key=value pair (missing equal-sign) in Authorization header.")
        if name not in _PARTS or name in parts:
            raise IncompleteSignature("Authorization header has a part that is unknown or given twice.")
        parts[name] = value
    texts = [f"Authorization header requires '{name}' parameter. " for name in _PARTS if name not in parts]
    if not dated:
        texts.append("Authorization header requires existence of a 'X-Amz-Date' header. ")
    if texts:
        raise IncompleteSignature("".join(texts).rstrip())
    return parts["Credential"], parts["SignedHeaders"], parts["Signature"]


def _credential(text: str) -> tuple[str, str, str, str, str]:
    elements = text.split("/")
    if len(elements) != 5:  # noqa: PLR2004 - the elements that the message names
        raise IncompleteSignature(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
        )
    key_id, date, region, service, terminator = elements
    if not _ACCESS_KEY_ID.fullmatch(key_id):
        raise InvalidClientTokenId("The security token included in the request is invalid.")
    return key_id, date, region, service, terminator


def _parse_timestamp(timestamp: str) -> datetime:
    if _ISO_BASIC.fullmatch(timestamp):
        try:
            return parse_iso8601(timestamp)
        except ValueError:
            pass  # a thirteenth month
    raise IncompleteSignature("Date must be in ISO-8601 'basic format'.")


def _expires(text: str) -> int:
    if text.startswith("-"):
        raise AuthorizationQueryParametersError("X-Amz-Expires must be non-negative")
    # int() alone would take 1_000 and the digits of every script.
    if not (text.isascii() and text.isdecimal()):
        raise AuthorizationQueryParametersError("X-Amz-Expires should be a number")
    if len(text) > len(str(LONGEST_EXPIRES)) or int(text) > LONGEST_EXPIRES:
        raise AuthorizationQueryParametersError(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than"
            f" {LONGEST_EXPIRES} seconds",
        )
    return int(text)


def _merge_headers(headers: Headers) -> dict[str, str]:
    """Return headers by name, the values of repeated ones joined in order of arrival."""
    merged = dict(headers)
    if len(merged) == len(headers):
        return merged
    merged.clear()
    for name, value in headers:
        merged[name] = f"{merged[name]},{trim(value)}" if name in merged else trim(value)
    return merged


def trim(value: str) -> str:
    """Return the value of a header without space around it, and with one space where several are."""
    trimmed = value.strip(" \t")
    return _SPACES.sub(" ", trimmed) if "  " in trimmed or "\t" in trimmed else trimmed


def _signature_parameters(parameters: Parameters) -> dict[str, str]:
    """Return the decoded parameters of a query which are part of its signature."""
    signature_parameters: dict[str, str] = {}
    for name, value in parameters:
        if name in _SIGNATURE_PARAMETERS:
            signature_parameters[name] = unquote_to_bytes(value).decode("latin-1")
    return signature_parameters


def _canonical_parameters(query: str) -> Parameters:
    """Return names and values in the order they came, encoded per RFC 3986, section 2.3."""
    if has_bad_escape(query):
        raise MalformedQueryString("The query string contains a malformed escape sequence.")
    pairs = (part.partition("=") for part in query.split("&"))
    try:
        # Decoded and encoded again, so that %7E and ~, or %2f and %2F, are signed as the same text.
        return tuple((_encode(name), _encode(value)) for name, _, value in pairs)
    except UnicodeEncodeError as error:
        raise MalformedQueryString("The query string contains a character that is not encoded.") from error


def _encode(text: str) -> str:
    pieces = text.encode("latin-1").split(b"+")
    return "+".join(quote(unquote_to_bytes(piece), safe=_UNRESERVED) for piece in pieces)
