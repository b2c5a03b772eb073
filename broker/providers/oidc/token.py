"""A JSON Web Token of another issuer, read strictly: unverified until a key of its issuer is found to have signed it.

Pure: clock and keys are arguments. Source: RFC 7515; RFC 7519; RFC 8725; OpenID Connect Core, sections 2 and 3.1.3.7;
STS API Reference, "AssumeRoleWithWebIdentity". A compact token of three parts, nothing else. No key or address in its
header is ever used: ``jku``, ``x5c``, ``x5t``, ``cty`` and members that nobody knows are left unread, for they change
nothing of what the token means (THREATS C04).
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from broker.providers.oidc.keys import VerificationKey, fitting_keys
from iam.clock import from_seconds, to_seconds
from iam.errors import ExpiredTokenException, InvalidIdentityToken
from iam.policy.strict_json import Number, load

_MIN_LENGTH, _MAX_LENGTH = 4, 20_000  # characters: STS API Reference, WebIdentityToken
_MAX_SUBJECT = 255  # characters: OpenID Connect Core, section 2, sub
_MAX_AUDIENCES = 50
_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
# Header members that only an attacker puts into a token of an issuer with a key set (jwk, x5u), and those that change
# how the rest is to be read (RFC 7515, section 4.1.11; RFC 7797; RFC 7516, section 4.1.3).
_FORBIDDEN = ("jwk", "x5u", "crit", "b64", "zip")
# RFC 8725, section 3.11; RFC 9068, section 2.1: at+jwt, for example, is an access token.
_TYPES, _LOGOUT_TYPES = ("jwt",), ("logout+jwt", "jwt")
NO_JWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says before its signature is verified; ``claims`` keep numbers as they were written."""

    text: str
    algorithm: str
    kid: str | None
    issuer: str
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedToken:
    """What a token must fit: to which clients it may have been issued (None: any), and when.

    ``max_age`` is how long ago it may have been issued (None: for as long as it is valid).
    """

    clients: Collection[str] | None
    now: datetime
    skew: timedelta
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A verified token. ``audience`` is the client that it was issued to; ``audiences`` is its ``aud``."""

    issuer: str
    subject: str
    audience: str
    audiences: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime
    claims: Mapping[str, Any]


def parse_token(text: str, *, logout: bool = False) -> UnverifiedToken:
    """Return what a token says, unverified; raise InvalidIdentityToken. ``logout``: it must be a logout token."""
    parts = text.split(".")
    if not _MIN_LENGTH <= len(text) <= _MAX_LENGTH or len(parts) != 3 or not all(map(_PART.fullmatch, parts)):  # noqa: PLR2004 - as said
        _refuse(NO_JWT, "not three parts in base64url")
    header, claims = _parse_json_part(parts[0]), _parse_json_part(parts[1])
    _decode(parts[2])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not _is_text(algorithm) or not _is_text(kind) or (kid is not None and not _is_text(kid)):
        _refuse(NO_JWT, "alg, kid or typ is no text")
    if _media_type(kind) not in (_LOGOUT_TYPES if logout else _TYPES) or any(name in header for name in _FORBIDDEN):
        _refuse(NO_JWT, f"typ {kind!s:.40}, or a header that is not accepted")
    if claims.get("token_use", "id") != "id" or ("events" in claims) is not logout:
        _refuse(NO_JWT, "an access token or a logout token")
    issuer = claims.get("iss")
    if not _is_text(issuer) or not issuer:
        _refuse("Missing a required claim: iss")
    return UnverifiedToken(text, algorithm, kid, issuer, claims)


def verify_signature(token: UnverifiedToken, keys: Sequence[VerificationKey]) -> bool:
    """Return True where the key that the token names has signed it, False where there is no such key.

    Raise InvalidIdentityToken where the key has not signed it. After False it may be worth fetching the keys again.
    """
    fitting = fitting_keys(keys, token.kid, token.algorithm)
    if not fitting and token.kid is not None and any(key.kid == token.kid for key in keys):
        _refuse(_BAD_SIGNATURE, f"no key of this id signs by {token.algorithm[:40]}")
    if not fitting or (len(fitting) > 1 and token.kid is None):
        return False
    if len(fitting) > 1:
        _refuse(_BAD_SIGNATURE, f"the issuer has several keys of this id that sign by {token.algorithm[:40]}")
    try:
        signed = _is_signed_by(token, fitting[0])
    except (JoseError, InvalidSignature, ValueError, TypeError) as error:
        _refuse(_BAD_SIGNATURE, type(error).__name__)
    if not signed:
        _refuse(_BAD_SIGNATURE)
    return True


def _is_signed_by(token: UnverifiedToken, key: VerificationKey) -> bool:
    """Return whether a key has signed a token by the token's algorithm; may raise InvalidSignature and JoseError."""
    text, _, encoded = token.text.rpartition(".")
    signature = _decode(encoded)
    if isinstance(key.key, OKPKey):  # of which joserfc warns: RFC 9864 gave the algorithm another name
        _ed25519_key(key.key).verify(signature, text.encode())
        return True
    # Without the header, whose other members joserfc would check, and whose length it would limit to 512 bytes.
    algorithm = _REGISTRY.get_alg(token.algorithm)
    algorithm.check_key(key.key)
    return algorithm.verify(text.encode(), signature, key.key)


def _ed25519_key(key: OKPKey) -> Ed25519PublicKey:
    public_key = key.public_key
    if not isinstance(public_key, Ed25519PublicKey):
        raise TypeError("no key of Ed25519")
    return public_key


_BAD_SIGNATURE = "The signature of the token is invalid"
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_REGISTRY = jws.JWSRegistry(algorithms=_ALGORITHMS)


def check_claims(token: UnverifiedToken, expected: ExpectedToken) -> Token:
    """Return a token whose signature was verified, once its claims fit.

    Raise InvalidIdentityToken, ExpiredTokenException.
    """
    claims = token.claims
    subject = claims.get("sub")
    if not _is_text(subject) or not 1 <= len(subject) <= _MAX_SUBJECT:
        _refuse("Missing a required claim: sub", f"{subject!s:.40}")
    audiences = _audiences(claims.get("aud"))
    party = claims.get("azp")
    if party is not None and (not _is_text(party) or not party):
        _refuse("Incorrect token audience", "azp is no text")
    # azp is the client that asked for the token; without it, aud is. One for another client must not be replayed here.
    candidates = (party,) if party is not None else audiences
    audience = next((name for name in candidates if expected.clients is None or name in expected.clients), None)
    if audience is None:
        _refuse("Incorrect token audience", f"{candidates} for {sorted(expected.clients or ())[:5]}")
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if expected.now - expected.skew >= expires:
        now, then = (to_seconds(one) for one in (expected.now, expires))
        raise ExpiredTokenException(
            f"Token expired: current date/time {now} must be before the expiration date/time {then}"
        )
    for name, moment in (("iat", issued), ("nbf", _time(claims, "nbf") if "nbf" in claims else issued)):
        if moment - expected.now > expected.skew:
            ahead = int((moment - expected.now).total_seconds())
            _refuse(f"The token is not valid yet: {name} is {ahead} s ahead of our clock")
    _check_age(issued, expected)
    return Token(token.issuer, subject, audience, audiences, issued, expires, claims)


def _check_age(issued: datetime, expected: ExpectedToken) -> None:
    """Raise ExpiredTokenException for a token that was issued too long ago, however long it says that it is valid."""
    if expected.max_age is not None and expected.now - issued > expected.max_age + expected.skew:
        limit, age = (int(one.total_seconds()) for one in (expected.max_age, expected.now - issued))
        raise ExpiredTokenException(f"Token expired: it was issued {age} s ago; at most {limit} s are accepted")


# --- small parts ------------------------------------------------------------------------------------------------------


def _refuse(message: str, detail: str = "") -> NoReturn:
    raise InvalidIdentityToken(message, log=f"{message} ({detail})" if detail else message)


def _decode(part: str) -> bytes:
    """Return the bytes of a part, in their only spelling: a token that counts once must not have a second one."""
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        _refuse(NO_JWT, "not base64url")
    if urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        _refuse(NO_JWT, "base64url in another spelling")
    return data


def _media_type(kind: str) -> str:
    """Return a ``typ`` as media types are compared: without case, and without application/ (RFC 7515, 4.1.9)."""
    return kind.lower().removeprefix("application/")


def _parse_json_part(part: str) -> Mapping[str, Any]:
    """Return the members of a part, without those that are null: these are absent."""
    try:
        value = load(_decode(part).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        _refuse(NO_JWT, f"not strict JSON: {error!s:.100}")
    if not isinstance(value, dict):
        _refuse(NO_JWT, "not a JSON object")
    return {name: member for name, member in value.items() if member is not None}


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, Number)


def _audiences(given: object) -> tuple[str, ...]:
    audiences = given if isinstance(given, list) else [given]
    if not 1 <= len(audiences) <= _MAX_AUDIENCES or not all(_is_text(name) and name for name in audiences):
        _refuse("Incorrect token audience", "aud is no text and no list of texts")
    return tuple(audiences)


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    """Return a NumericDate (RFC 7519, section 2): any JSON number of seconds, such as ``1.8e+09``."""
    value = claims.get(name)
    if value is None:
        _refuse(f"Missing a required claim: {name}")
    if not isinstance(value, Number):
        _refuse(f"The claim {name} is no time", f"{value!s:.40}")
    try:
        return from_seconds(float(value))
    except (ValueError, OverflowError, OSError):
        _refuse(f"The claim {name} is no time", f"{value!s:.40}")
