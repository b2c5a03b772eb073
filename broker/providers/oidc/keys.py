"""The keys of an issuer: which of a JSON Web Key Set may sign, and by which algorithms.

Pure. Source: RFC 7517, sections 4 and 5; RFC 7518, sections 3 and 6; RFC 8725, section 3. The algorithm comes from the
key, and the token's must agree: whoever could choose it would have a public key checked as an HMAC secret. joserfc
reads the keys; what it accepts and must not (small or weak keys, secrets, keys for encryption) is refused here first.
A key that cannot be used is dropped, with the reason; it does not spoil the others (RFC 7517, section 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeGuard

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


class _UnusableKey(ValueError):
    """A key that may not sign; the message says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key that may sign tokens, and the algorithms that it may sign by; ``thumbprint`` is that of RFC 7638."""

    kid: str | None
    algorithms: tuple[str, ...]
    thumbprint: str
    key: SignatureKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class DroppedKey:
    """A key of a set that is not used, and why; ``name`` is its ``kid``, or its place in the set."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class VerificationKeys:
    """The keys of a set that may sign, and those that may not."""

    usable: tuple[VerificationKey, ...] = ()
    dropped: tuple[DroppedKey, ...] = ()


def parse_jwks(text: str) -> VerificationKeys:
    """Return the keys of a set; raise InvalidJwks for what is no set."""
    try:
        key_set = load(text)
    except (ValueError, RecursionError) as error:
        raise InvalidJwks(f"it is not JSON: {error}") from error
    rows = key_set.get("keys") if isinstance(key_set, dict) else None
    if not isinstance(rows, list) or len(rows) > _MAX_KEYS:
        raise InvalidJwks("it is no set of keys, or has too many")
    usable: list[VerificationKey] = []
    dropped: list[DroppedKey] = []
    for position, row in enumerate(rows, 1):
        try:
            usable.append(_key(row))
        except _UnusableKey as error:
            dropped.append(DroppedKey(_name(row, position), str(error)))
    return VerificationKeys(tuple(usable), tuple(dropped))


def fitting_keys(keys: Sequence[VerificationKey], kid: str | None, algorithm: str) -> list[VerificationKey]:
    """Return the keys with this id, or without an id all, that sign by an algorithm; the same key twice is one."""
    fitting = {key.thumbprint: key for key in keys if (kid is None or key.kid == kid) and algorithm in key.algorithms}
    return list(fitting.values())


def _name(row: object, position: int) -> str:
    kid = row.get("kid") if isinstance(row, dict) else None
    return kid[:_LONGEST_KID] if _is_text(kid) and kid else f"key {position}"


def _key(given: object) -> VerificationKey:
    """Return a key of a set; raise _UnusableKey. A member that is null is absent."""
    if not isinstance(given, dict):
        _refuse("it is no JSON object")
    row = {name: value for name, value in given.items() if value is not None}
    _check_use(row)
    algorithms = _algorithms(row)
    public = {name: row[name] for name in _PUBLIC[row["kty"]] if _is_text(row.get(name))}
    if len(public) != len(_PUBLIC[row["kty"]]):
        _refuse(f"a key of the type {row['kty']} must have the texts {', '.join(_PUBLIC[row['kty']])}")
    if len(public.get("n", _LONG_N)) < _MIN_N:
        _refuse(f"an RSA key must have {_MIN_RSA_BITS} bits or more")
    try:
        key = _TYPES[row["kty"]].import_key(public)
        thumbprint = key.thumbprint()
        strong = not isinstance(key, RSAKey) or _is_strong(key)
    except (JoseError, ValueError, TypeError, KeyError) as error:  # such as a point that is on no curve
        raise _UnusableKey("it cannot be read as a key of its type") from error
    if not strong:
        _refuse(
            f"it is weak: RSA keys have {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits and an exponent from {_MIN_EXPONENT}"
        )
    return VerificationKey(row.get("kid"), algorithms, thumbprint, key)


def _check_use(row: Mapping[str, Any]) -> None:
    """Raise _UnusableKey unless a key is public, for signatures, and its members are texts where they must be."""
    wrong = [name for name in ("kty", "crv", "alg", "kid", "use") if not _is_text(row.get(name, ""))]
    if wrong:
        _refuse(f"{wrong[0]} is no text")
    if row.get("kty") not in _PUBLIC:
        _refuse(f"keys of the type {row.get('kty', '')[:40]!r} are not for signatures that others verify")
    if len(row.get("kid", "")) > _LONGEST_KID:
        _refuse(f"kid has more than {_LONGEST_KID} characters")
    uses = row.get("key_ops", ["verify"])
    if row.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        _refuse("it is not for signatures: use is not sig, or key_ops has no verify")


def _refuse(reason: str) -> NoReturn:
    raise _UnusableKey(reason)


_TYPES: Mapping[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


def _algorithms(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return by which algorithms a key may sign; raise _UnusableKey where there is none."""
    kind, curve, stated = row["kty"], row.get("crv"), row.get("alg")
    possible: tuple[str, ...] = ()
    if kind == "RSA":
        possible = (*_RSA, *_RSA_PSS) if stated is not None else _RSA
    elif kind == "EC":
        possible = (_CURVES[curve],) if curve in _CURVES else ()
    elif kind == "OKP":
        possible = _EDWARDS if curve == "Ed25519" else ()
    algorithms = possible if stated is None else tuple(name for name in possible if name == stated)
    if not algorithms:
        shown = f"{kind} {curve}"[:40] if curve else kind
        _refuse(f"a key of the type {shown} does not sign by {(stated or 'any algorithm')[:40]}")
    return algorithms


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
