"""Verify a request that was signed with AWS Signature Version 4, in its headers or in its query (presigned).

Pure: it reads the request exactly as it was received, and raises an error or returns. The clock and the cache of
derived keys are arguments. Call ``read``, ``check_scope``, ``check_time``, look the secret up, and then
``check_signature``: with several faults at once, the order decides which one is reported (THREATS B04).

Source: IAM User Guide, "AWS Signature Version 4 for API requests", "Create a signed AWS API request" and "Troubleshoot
Signature Version 4 signing". Messages are those of AWS. One decision is our own: besides ``host``, the headers that
verification itself reads (``x-amz-date``, ``x-amz-security-token``) must be signed: else whoever captured a request
could give it a new date or another session. Other ``x-amz-*`` headers need not be signed: proxies add some
(``x-amz-cf-id``) and nothing acts on them. In S3 they are parameters; see Rules.
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from iam.clock import iso8601_basic
from iam.errors import HeadersNotSigned, RequestExpired, RequestTimeTooSkewed, SignatureDoesNotMatch, WrongScope
from sts.payload import declared_or_empty, declared_to_s3, hash_of_body
from sts.presented_signature import ALGORITHM, LONGEST_EXPIRES, MISMATCH, PresentedSignature, read, trim

__all__ = ["ALGORITHM", "PresentedSignature", "read"]

TERMINATOR = "aws4_request"
# How far the clock of a client may be off (THREATS A10, A11). A captured request can be sent again for
# that long: no list of used signatures is kept.
WINDOW = timedelta(minutes=15)

# The region may be the client's choice, so the cache needs a limit: at a few hundred bytes for each key it stays within
# some megabytes (THREATS J10).
_CACHED_KEYS = 16_384
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MUST_BE_SIGNED = ("x-amz-date", "x-amz-security-token")


@dataclass(frozen=True, slots=True)
class Rules:
    """How a service reads requests; the defaults hold for every AWS service but S3, where the body was received."""

    encodes_path_twice: bool = True
    payload_hash: Callable[[PresentedSignature], str] = hash_of_body
    every_amz_header_signed: bool = False
    longest: timedelta = WINDOW  # maximum lifetime of a presigned request, whatever X-Amz-Expires says (THREATS A21)


QUERY_API = Rules()
# Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
S3 = Rules(
    encodes_path_twice=False,
    payload_hash=declared_to_s3,
    every_amz_header_signed=True,
    longest=timedelta(seconds=LONGEST_EXPIRES),
)
# Of a company's own service, where only the head of the request was received.
HEAD_ONLY = Rules(payload_hash=declared_or_empty)


@dataclass(frozen=True, slots=True)
class SignedService:
    """A service as the credential scope of a signature names it; ``regions`` None admits every well-formed region."""

    name: str
    regions: frozenset[str] | None = None
    rules: Rules = QUERY_API


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
    raise WrongScope("".join(text for fits, text in faults if not fits))


def check_time(presented: PresentedSignature, now: datetime, rules: Rules = QUERY_API) -> None:
    """Raise SignatureDoesNotMatch where the request was signed too long ago or too far ahead.

    Both limits are 15 minutes; a presigned request is valid as long as it says, and no longer than ``rules.longest``.
    """
    # X-Amz-Date has whole seconds: with fractions a request would expire up to a second early.
    now = now.replace(microsecond=0)
    age = now - presented.amz_date
    life = WINDOW if presented.expires is None else min(timedelta(seconds=presented.expires), rules.longest)
    if age > life:
        error = RequestTimeTooSkewed if presented.expires is None else RequestExpired
        raise error(
            f"Signature expired: {presented.timestamp} is now earlier than {iso8601_basic(now - life)}"
            f" ({iso8601_basic(now)} - {_duration(life)}.)",
        )
    if -age > WINDOW:
        raise RequestTimeTooSkewed(
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
        raise SignatureDoesNotMatch(MISMATCH, log="text that cannot have come over HTTP") from error
    scope = f"{presented.scope_date}/{presented.region}/{presented.service}/{presented.terminator}"
    to_sign = f"{ALGORITHM}\n{presented.timestamp}\n{scope}\n{sha256(canonical).hexdigest()}"
    key = keys.key(secret, presented.scope_date, presented.region, presented.service)
    # check_scope refuses a scope beyond ASCII before; if it was not called, "replace" keeps this from raising.
    expected = hmac.digest(key, to_sign.encode("utf-8", "replace"), "sha256").hex()
    signature = presented.signature
    # Constant time, or the response time would tell how many digits of a guess are right. In bytes, and after the
    # pattern: compare_digest raises TypeError for text beyond ASCII (THREATS A09).
    if not _HEX_SHA256.fullmatch(signature) or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise SignatureDoesNotMatch(MISMATCH)


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


# The canonical request


def _signed_names(presented: PresentedSignature, rules: Rules) -> list[str]:
    names = presented.signed_headers.split(";")
    if "host" not in names:
        raise SignatureDoesNotMatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    sent = presented.headers
    needed = (name for name in sent if name.startswith("x-amz-")) if rules.every_amz_header_signed else _MUST_BE_SIGNED
    for name in needed:
        if name in sent and name not in names:
            raise HeadersNotSigned(MISMATCH, log=f"sent and not signed: {name}")
    # Only one spelling of the list is canonical; a header named twice could hide one that is missing.
    if names != sorted(set(names)):
        raise SignatureDoesNotMatch(MISMATCH, log="SignedHeaders are not sorted, or name one twice")
    return names


def _canonical_request(presented: PresentedSignature, names: list[str], rules: Rules) -> str:
    sent = presented.headers
    try:
        lines = [f"{name}:{trim(sent[name])}\n" for name in names]
    except KeyError as error:
        raise SignatureDoesNotMatch(MISMATCH, log="signed and not sent: a header") from error
    query = "&".join(f"{name}={value}" for name, value in sorted(presented.parameters)) if presented.parameters else ""
    return (
        f"{presented.method}\n{_signed_path(presented.path, rules)}\n{query}\n{''.join(lines)}\n"
        f"{presented.signed_headers}\n{rules.payload_hash(presented)}"
    )


def _signed_path(path: str, rules: Rules) -> str:
    if path == "/":
        return path
    if rules.encodes_path_twice:
        return quote(canonical_path(path).encode("latin-1"), safe="/-_.~")
    return quote(unquote_to_bytes(path.encode("latin-1")), safe="/-_.~")


def _derive(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for step in (date, region, service, TERMINATOR):
        key = hmac.digest(key, step.encode("utf-8", "replace"), "sha256")
    return key


# Messages


def _duration(length: timedelta) -> str:
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    return f"{minutes} min" if not seconds else f"{60 * minutes + seconds} s"
