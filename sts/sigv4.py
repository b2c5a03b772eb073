"""Verify a request that was signed with AWS Signature Version 4, in its headers or in its query (presigned).

Pure: it reads the request exactly as it was received, and raises an error or returns. The clock and the cache of
derived keys are arguments. Call ``read``, ``check_scope``, ``check_time``, look the secret up, and then
``check_signature``: with several faults at once, the order decides which one is reported (THREATS B04).

Source: IAM User Guide, "AWS Signature Version 4 for API requests", "Create a signed AWS API request" and "Troubleshoot
Signature Version 4 signing". Messages are those of AWS. Three decisions are our own:

* Besides ``host``, the headers that verification itself reads (``x-amz-date``, ``x-amz-security-token``) must be
  signed: unsigned, whoever captured a request could give it a new date or another session. Other ``x-amz-*`` headers
  need not be signed: proxies add some (``x-amz-cf-id``) and nothing acts on them; see Rules.
* A plain ``+`` in the query stands for itself in the canonical query, neither for ``%2B`` nor for ``%20``: whichever
  way the parameters are decoded later, exchanging one for the other breaks the signature (THREATS A17).
* The time of a request is X-Amz-Date; a Date header is ignored.
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from iam.clock import iso8601_basic, parse_iso8601
from iam.errors import (
    AuthorizationQueryParametersError,
    IncompleteSignature,
    InvalidClientTokenId,
    MalformedQueryString,
    MissingAuthenticationToken,
    SignatureDoesNotMatch,
)

Headers = tuple[tuple[str, str], ...]
Parameters = tuple[tuple[str, str], ...]

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
# How far the clock of a client may be off (THREATS A10, A11). A captured request can be sent again for
# that long: no list of used signatures is kept.
WINDOW = timedelta(minutes=15)
LONGEST_EXPIRES = 604_800  # seconds, a week: the limit that the S3 API reference sets for X-Amz-Expires (THREATS A22)

# The region may be the client's choice, so the cache needs a limit: at a few hundred bytes for each key it stays within
# some megabytes (THREATS J10).
_CACHED_KEYS = 16_384
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key"
    " and signing method. Consult the service documentation for details."
)
_ONE_MECHANISM = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or the Authorization header should be"
    " specified."
)
# Digits are [0-9]: \d would take those of every script, and int() reads them (THREATS A12).
_ISO_BASIC = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
# The service model's accessKeyIdType is \w{16,128}; ours have neither underscores nor letters beyond ASCII. Whatever
# passes is safe in a Redis key, an SQL parameter and a log line (THREATS A07).
_ACCESS_KEY_ID = re.compile(r"[A-Za-z0-9]{1,128}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
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
_SIGNATURE_PARAMETERS = frozenset((*_PRESIGNED, "X-Amz-Security-Token"))
_MUST_BE_SIGNED = ("x-amz-date", "x-amz-security-token")
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class Rules:
    """How a service reads requests; the defaults hold for every AWS service but S3."""

    encodes_path_twice: bool = True
    allows_unsigned_payload: bool = False
    every_amz_header_signed: bool = False
    longest: timedelta = WINDOW  # maximum lifetime of a presigned request, whatever X-Amz-Expires says (THREATS A21)


QUERY_API = Rules()
# Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
S3 = Rules(
    encodes_path_twice=False,
    allows_unsigned_payload=True,
    every_amz_header_signed=True,
    longest=timedelta(seconds=LONGEST_EXPIRES),
)


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


class KeyCache:
    """Caches the newest ``size`` derived signing keys; a key is for one secret, day, region and service.

    The key of the secret that stands in for an unknown access key's is cached like any other: otherwise the response
    time would tell whether an access key exists (THREATS A06).
    """

    def __init__(self, size: int = _CACHED_KEYS) -> None:
        self._size = size
        self._keys: OrderedDict[tuple[str, str, str, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, secret: str, date: str, region: str, service: str) -> bytes:
        """Return the signing key (IAM User Guide, "Create a signed AWS API request", step 4)."""
        cache_key = (secret, date, region, service)
        derived = self._keys.get(cache_key)
        if derived is None:
            derived = self._keys[cache_key] = _derive(secret, date, region, service)
            if len(self._keys) > self._size:
                self._keys.popitem(last=False)
        return derived


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


def check_scope(presented: PresentedSignature, *, service: str, regions: frozenset[str] | None) -> None:
    """Raise SignatureDoesNotMatch where the credential scope names another service, region or date.

    All faults are in one message (THREATS A14). ``regions`` None admits every well-formed region.
    """
    region, day = presented.region, presented.timestamp[:8]
    region_fits = region in regions if regions is not None else _REGION.fullmatch(region) is not None
    scope = (presented.service, presented.terminator, presented.scope_date)
    if region_fits and scope == (service, TERMINATOR, day):
        return
    wrong_date = (
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP:"
        f" '{presented.scope_date}' != '{day}', from '{presented.timestamp}'. "
    )
    faults = (
        (region_fits, "Credential should be scoped to a valid region. "),
        (presented.service == service, f"Credential should be scoped to correct service: '{service}'. "),
        (presented.terminator == TERMINATOR, f"Credential should be scoped with a valid terminator: '{TERMINATOR}'. "),
        (presented.scope_date == day, wrong_date),
    )
    raise SignatureDoesNotMatch("".join(text for fits, text in faults if not fits))


def check_time(presented: PresentedSignature, now: datetime, rules: Rules = QUERY_API) -> None:
    """Raise SignatureDoesNotMatch where the request was signed too long ago or too far ahead.

    Both limits are 15 minutes; a presigned request is valid as long as it says, and no longer than ``rules.longest``.
    """
    # X-Amz-Date has whole seconds: with fractions a request would expire up to a second early.
    now = now.replace(microsecond=0)
    age = now - presented.amz_date
    life = WINDOW if presented.expires is None else min(timedelta(seconds=presented.expires), rules.longest)
    if age > life:
        raise SignatureDoesNotMatch(
            f"Signature expired: {presented.timestamp} is now earlier than {iso8601_basic(now - life)}"
            f" ({iso8601_basic(now)} - {_duration(life)}.)",
        )
    if -age > WINDOW:
        raise SignatureDoesNotMatch(
            f"Signature not yet current: {presented.timestamp} is still later than {iso8601_basic(now + WINDOW)}"
            f" ({iso8601_basic(now)} + {_duration(WINDOW)}.)",
        )


def check_signature(presented: PresentedSignature, secret: str, keys: KeyCache, rules: Rules = QUERY_API) -> None:
    """Raise SignatureDoesNotMatch where the signature was not made over exactly this request with this secret.

    The expected signature is in no message and no log: it would be valid for the request that it belongs to
    (THREATS A08).
    """
    names = _signed_names(presented, rules)
    # WSGI text is latin-1, so what cannot be encoded in it never came over HTTP.
    try:
        canonical = _canonical_request(presented, names, rules).encode("latin-1")
    except UnicodeEncodeError as error:
        raise SignatureDoesNotMatch(_MISMATCH, log="text that cannot have come over HTTP") from error
    scope = f"{presented.scope_date}/{presented.region}/{presented.service}/{presented.terminator}"
    to_sign = f"{ALGORITHM}\n{presented.timestamp}\n{scope}\n{sha256(canonical).hexdigest()}"
    key = keys.key(secret, presented.scope_date, presented.region, presented.service)
    # check_scope refuses a scope beyond ASCII before; if it was not called, "replace" keeps this from raising.
    expected = hmac.digest(key, to_sign.encode("utf-8", "replace"), "sha256").hex()
    signature = presented.signature
    # Constant time, or the response time would tell how many digits of a guess are right. In bytes, and after the
    # pattern: compare_digest raises TypeError for text beyond ASCII (THREATS A09).
    if not _HEX_SHA256.fullmatch(signature) or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise SignatureDoesNotMatch(_MISMATCH)


def canonical_path(path: str) -> str:
    """Return a raw path without empty and dot segments: the path that is signed, and must be the path that is routed.

    Otherwise ``/a/../b`` could be signed as one path and handled as another (THREATS A28).
    """
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    return "/" + "/".join(segments) + ("/" if segments and path.endswith("/") else "")


# Parsing


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
        raise SignatureDoesNotMatch(_MISMATCH, log="a parameter of the signature is given twice")
    if signature_parameters["X-Amz-Algorithm"] != ALGORITHM:
        raise IncompleteSignature("Unsupported AWS 'algorithm'.")
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
        raise IncompleteSignature("Unsupported AWS 'algorithm'.")
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
        merged[name] = f"{merged[name]},{_trim(value)}" if name in merged else _trim(value)
    return merged


def _trim(value: str) -> str:
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
    if _BAD_ESCAPE.search(query):
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


# The canonical request


def _signed_names(presented: PresentedSignature, rules: Rules) -> list[str]:
    names = presented.signed_headers.split(";")
    if "host" not in names:
        raise SignatureDoesNotMatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    sent = presented.headers
    needed = (name for name in sent if name.startswith("x-amz-")) if rules.every_amz_header_signed else _MUST_BE_SIGNED
    for name in needed:
        if name in sent and name not in names:
            raise SignatureDoesNotMatch(_MISMATCH, log=f"sent and not signed: {name}")
    # Only one spelling of the list is canonical; a header named twice could hide one that is missing.
    if names != sorted(set(names)):
        raise SignatureDoesNotMatch(_MISMATCH, log="SignedHeaders are not sorted, or name one twice")
    return names


def _canonical_request(presented: PresentedSignature, names: list[str], rules: Rules) -> str:
    sent = presented.headers
    try:
        lines = [f"{name}:{_trim(sent[name])}\n" for name in names]
    except KeyError as error:
        raise SignatureDoesNotMatch(_MISMATCH, log="signed and not sent: a header") from error
    query = "&".join(f"{name}={value}" for name, value in sorted(presented.parameters)) if presented.parameters else ""
    return (
        f"{presented.method}\n{_signed_path(presented.path, rules)}\n{query}\n{''.join(lines)}\n"
        f"{presented.signed_headers}\n{_payload_hash(presented, rules)}"
    )


def _signed_path(path: str, rules: Rules) -> str:
    if path == "/":
        return path
    if rules.encodes_path_twice:
        return quote(canonical_path(path).encode("latin-1"), safe="/-_.~")
    return quote(unquote_to_bytes(path.encode("latin-1")), safe="/-_.~")


def _payload_hash(presented: PresentedSignature, rules: Rules) -> str:
    """Return the hash of the body, or the word that replaces it in S3; the header alone is never believed.

    Elsewhere ``UNSIGNED-PAYLOAD`` would let anybody between client and server replace the body (THREATS A18).
    """
    declared = presented.headers.get("x-amz-content-sha256")
    if rules.allows_unsigned_payload and (
        declared == UNSIGNED_PAYLOAD or (declared is None and presented.expires is not None)
    ):
        return UNSIGNED_PAYLOAD
    actual = sha256(presented.body).hexdigest()
    if declared is not None and declared != actual:
        raise SignatureDoesNotMatch(_MISMATCH, log="x-amz-content-sha256 is not the hash of the body")
    return actual


def _derive(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for step in (date, region, service, TERMINATOR):
        key = hmac.digest(key, step.encode("utf-8", "replace"), "sha256")
    return key


# Messages


def _duration(length: timedelta) -> str:
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    return f"{minutes} min" if not seconds else f"{60 * minutes + seconds} s"
