"""Signs a request anew for the store behind a resource, with the store's own key: AWS Signature Version 4, in headers.

Pure. The request is signed as it is to arrive: in path style whatever style the client used, for the host of the
store's endpoint, without the client's signature, token and presigning parameters, and with every header that means
something to a store among the signed ones. A store that does not know the host name of a bucket would otherwise read
``/other/key`` of ``bucket.s3.example.com`` as another bucket than the one that was decided about.

The payload keeps the form that the client declared, since the store has to check that and no other form. Called a
different one, framing of chunks would become part of the object.

Source: IAM User Guide, "Create a signed AWS API request"; Amazon S3 API Reference, "Authenticating Requests (AWS
Signature Version 4)". Path and query are encoded once (RFC 3986).
"""

import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from urllib.parse import urlsplit

from broker.api.http import HttpRequest
from broker.authz.resource import Backend, Resource
from broker.authz.s3.headers import AMZ, MEANINGFUL
from broker.authz.s3.query import PAYLOAD_HASH, SIGNATURE_PARAMETERS, Parameter, read_query
from broker.authz.s3.target import Target, read_target
from iam.clock import iso8601_basic
from iam.errors import InvalidRequest
from sts.payload import EMPTY_SHA256, PAYLOAD_HASH_HEADER, SIGNED_CHUNKS, UNSIGNED_PAYLOAD, UNSIGNED_TRAILER
from sts.presented_signature import ALGORITHM
from sts.sigv4 import TERMINATOR, KeyCache

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_SPACES = re.compile(r"[ \t]+")  # no others: in latin-1 text, a byte of a letter in UTF-8 can look like a space
_SERVICE = "s3"
_KEYS = KeyCache(64)  # of a day: two for each backend at most, when it changes
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The client's own proof, which would be a second one beside ours; Ceph RGW refuses a request with such a token.
_STRIPPED = ("X-Amz-Security-Token", "Date")
_REPLACED = frozenset({"x-amz-date", "x-amz-security-token", PAYLOAD_HASH_HEADER})
_REMEDY = (
    "Set request_checksum_calculation = when_required in the client's AWS config file, the environment variable"
    ' AWS_REQUEST_CHECKSUM_CALCULATION=when_required, or requestChecksumCalculation: "WHEN_REQUIRED" in JavaScript.'
)


@dataclass(frozen=True, slots=True)
class Resigned:
    """What a proxy changes in a request before it forwards it.

    ``uri`` is the path and query, ``headers`` replace those of the client, and ``strip`` are headers to remove. The
    Host header has to be that of the backend's endpoint.
    """

    uri: str
    headers: tuple[tuple[str, str], ...]
    strip: tuple[str, ...] = _STRIPPED


def resign(resource: Resource, request: HttpRequest, now: datetime) -> Resigned:
    """Return a request's new signature for the backend of its resource, which has one; ``now`` is in UTC.

    Raise InvalidRequest for a payload that the store cannot check, InvalidURI for what cannot be read.
    """
    backend = resource.backend
    if backend is None:
        raise ValueError(f"The resource {resource.name} has no backend")
    parameters = read_query(request.query)
    payload = _payload_hash(backend, request, parameters)
    target = read_target(resource, request.header("host") or "", request.path)
    kept = tuple(parameter for parameter in parameters if parameter.name not in SIGNATURE_PARAMETERS)
    headers = _signed_headers(backend, request, payload, iso8601_basic(now))
    path = _path(target, request)
    canonical = "\n".join(
        (
            request.method,
            path,
            _canonical_query(kept),
            *(f"{name}:{value}" for name, value in headers.items()),
            "",
            ";".join(headers),
            payload,
        )
    )
    return Resigned(
        "?".join((path, "&".join(parameter.encoded for parameter in kept))) if kept else path,
        (
            ("Authorization", _authorization(backend, headers, canonical)),
            ("X-Amz-Date", headers["x-amz-date"]),
            (PAYLOAD_HASH, payload),
        ),
    )


def _path(target: Target, request: HttpRequest) -> str:
    # Some proxies cannot change the path, and forward a bucket's as it came.
    has_slash = not target.key and request.path == f"{target.path}/"
    return f"{target.path}/" if has_slash else target.path


def endpoint_host(endpoint: str) -> str:
    """Return the Host header of requests to an endpoint: without the port where it is the scheme's own."""
    parts = urlsplit(endpoint.lower())
    return parts.netloc.removesuffix(f":{_DEFAULT_PORTS.get(parts.scheme)}")


# --- payload ----------------------------------------------------------------------------------------------------------


def _payload_hash(backend: Backend, request: HttpRequest, parameters: tuple[Parameter, ...]) -> str:
    declared = _declared(request, parameters)
    if _HEX_SHA256.fullmatch(declared) or declared == UNSIGNED_PAYLOAD:
        return declared
    if declared == UNSIGNED_TRAILER:
        if backend.unsigned_trailers:
            return declared
        raise InvalidRequest(f"The store cannot read uploads with a checksum in the trailer. {_REMEDY}")
    if declared in SIGNED_CHUNKS:
        raise InvalidRequest(
            "An upload in chunks that the client signed cannot be signed anew for the store. Switch off signed chunks"
            f" (chunked encoding) in the client. {_REMEDY}"
        )
    raise InvalidRequest("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or the hash of the payload in lower case.")


def _declared(request: HttpRequest, parameters: tuple[Parameter, ...]) -> str:
    """Return the form of the payload that a request declares, in its header, or in its query where it is presigned."""
    in_query = [parameter.value for parameter in parameters if parameter.name == PAYLOAD_HASH]
    in_header = [value.strip(" \t") for name, value in request.headers if name == PAYLOAD_HASH_HEADER]
    declared = {*in_query, *in_header}
    if len(declared) > 1:
        raise InvalidRequest("x-amz-content-sha256 is given twice, with different values.")
    is_presigned = any(parameter.name == "X-Amz-Signature" for parameter in parameters)
    # A signature in headers without a declared hash was verified for the empty body, so nothing else may follow.
    return next(iter(declared), UNSIGNED_PAYLOAD if is_presigned else EMPTY_SHA256)


# --- signature --------------------------------------------------------------------------------------------------------


def _signed_headers(backend: Backend, request: HttpRequest, payload: str, timestamp: str) -> Mapping[str, str]:
    headers = dict(_kept_headers(request))
    headers |= {"host": endpoint_host(backend.endpoint), "x-amz-date": timestamp, PAYLOAD_HASH_HEADER: payload}
    return dict(sorted(headers.items()))


def _kept_headers(request: HttpRequest) -> Iterator[tuple[str, str]]:
    for name, value in request.headers:
        is_amz = name.startswith(AMZ)
        if name in _REPLACED or not (is_amz or name in MEANINGFUL):
            continue
        trimmed = value.strip(" \t")
        canonical = _SPACES.sub(" ", trimmed) if "  " in trimmed or "\t" in trimmed else trimmed
        # Stores differ in whether they collapse spaces inside a value; such a header passes without being signed.
        if is_amz or canonical == trimmed:
            yield name, canonical


def _canonical_query(parameters: tuple[Parameter, ...]) -> str:
    # Sorted by name and then by value: by the whole text, select-type=2 would stand before select=.
    pairs = sorted((parameter.encoded_name, parameter.encoded_value) for parameter in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _authorization(backend: Backend, headers: Mapping[str, str], canonical: str) -> str:
    timestamp = headers["x-amz-date"]
    scope = f"{timestamp[:8]}/{backend.region}/{_SERVICE}/{TERMINATOR}"
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{sha256(canonical.encode('latin-1')).hexdigest()}"
    key = _KEYS.key(backend.secret_access_key, timestamp[:8], backend.region, _SERVICE)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    signed = ";".join(headers)
    return f"{ALGORITHM} Credential={backend.access_key_id}/{scope},SignedHeaders={signed},Signature={signature}"
