"""The keys of an issuer: which of a JSON Web Key Set may sign, and by which algorithms.

Pure. Source: RFC 7517, sections 4 and 5; RFC 7518, sections 3 and 6; RFC 8725, section 3. The algorithm comes from the
key, and the token's must agree: whoever could choose it would have a public key checked as an HMAC secret. joserfc
reads the keys; what it accepts and must not (small or weak keys, sets with secrets, keys for encryption) is refused
here first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from iam.policy.strict_json import Number, load

SignatureKey = RSAKey | ECKey | OKPKey

_MAX_KEYS = 50
# Smaller keys can be broken, or forged with a small exponent (RFC 7518, section 3.3); larger ones cost seconds a token.
_MIN_RSA_BITS, _MAX_RSA_BITS, _MIN_EXPONENT = 2048, 8192, 65537
_MIN_N, _LONG_N = _MIN_RSA_BITS // 6, "n" * _MIN_RSA_BITS  # characters of a modulus
_LONGEST_KID = 256
# A key without "alg" signs by those of its family that AWS takes; PS256 only where the key says so itself.
_RSA, _RSA_PSS = ("RS256", "RS384", "RS512"), ("PS256", "PS384", "PS512")
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS = ("EdDSA", "Ed25519")
_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
# ROCA (CVE-2017-15361): moduli of one faulty library are powers of 65537 modulo all of these.
_ROCA_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
                107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167)  # fmt: skip


class InvalidJwks(ValueError):
    """A key set, or its discovery document, that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that may sign tokens, and the algorithms that it may sign by."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: SignatureKey = field(repr=False)


def parse_jwks(text: str) -> tuple[VerificationKey, ...]:
    """Return the keys of a set that may sign; raise InvalidJwks for what is no set.

    A key that is weak, unknown or not for signatures is left out, as RFC 7517, section 5, asks. Of a set with a secret
    among public keys, which is no secret any more, or with two keys of one id, none may sign.
    """
    try:
        key_set = load(text)
    except (ValueError, RecursionError) as error:
        raise InvalidJwks(f"it is not JSON: {error}") from error
    rows = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or len(rows) > _MAX_KEYS:
        raise InvalidJwks("it is no set of keys, or has too many")
    if any(row.get("kty") == "oct" for row in rows):
        return ()
    keys = [key for row in rows if (key := _key(row)) is not None]
    kids = [key.kid for key in keys if key.kid is not None]
    return tuple(keys) if len(set(kids)) == len(kids) else ()


def select_key(keys: Sequence[VerificationKey], kid: str | None) -> VerificationKey | None:
    """Return the key with this id; without an id, the only key of the set."""
    if kid is None:
        return keys[0] if len(keys) == 1 else None
    return next((key for key in keys if key.kid == kid), None)


def _key(row: Mapping[str, Any]) -> VerificationKey | None:
    if not _may_sign(row):
        return None
    kid = row.get("kid")
    algorithms = _algorithms(row)
    public = {name: row[name] for name in _PUBLIC.get(row.get("kty", ""), ()) if _is_text(row.get(name))}
    if not algorithms or len(public) != len(_PUBLIC[row["kty"]]) or len(public.get("n", _LONG_N)) < _MIN_N:
        return None
    try:
        key = _TYPES[row["kty"]].import_key(public)
        strong = not isinstance(key, RSAKey) or _is_strong(key)
    except (JoseError, ValueError, TypeError, KeyError):  # such as a point that is on no curve
        return None
    return VerificationKey(kid, algorithms, key) if strong else None


def _may_sign(row: Mapping[str, Any]) -> bool:
    """Return whether a key is for signatures and its members are texts where they must be."""
    uses = row.get("key_ops", ["verify"])
    return (
        all(_is_text(row.get(name, "")) for name in ("kty", "crv", "alg", "kid"))
        and len(row.get("kid", "")) <= _LONGEST_KID
        and row.get("use", "sig") == "sig"
        and isinstance(uses, list)
        and "verify" in uses
    )


_TYPES: Mapping[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


def _algorithms(row: Mapping[str, Any]) -> tuple[str, ...]:
    kind, curve, stated = row.get("kty"), row.get("crv"), row.get("alg")
    possible: tuple[str, ...] = ()
    if kind == "RSA":
        possible = (*_RSA, *_RSA_PSS) if stated is not None else _RSA
    elif kind == "EC":
        possible = (_CURVES[curve],) if curve in _CURVES else ()
    elif kind == "OKP":
        possible = _EDWARDS if curve == "Ed25519" else ()
    return possible if stated is None else tuple(name for name in possible if name == stated)


def _is_strong(key: RSAKey) -> bool:
    numbers = key.public_key.public_numbers()
    size = numbers.n.bit_length()
    if not _MIN_RSA_BITS <= size <= _MAX_RSA_BITS or numbers.e < _MIN_EXPONENT or numbers.e % 2 == 0:
        return False
    return not all(numbers.n % prime in _POWERS[prime] for prime in _ROCA_PRIMES)


def _powers(prime: int) -> frozenset[int]:
    powers, power = set(), 1
    while power not in powers:
        powers.add(power)
        power = power * 65537 % prime
    return frozenset(powers)


_POWERS = {prime: _powers(prime) for prime in _ROCA_PRIMES}


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, Number)
