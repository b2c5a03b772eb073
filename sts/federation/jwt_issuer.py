"""The issuer of web identity tokens about callers, which systems that trust an OpenID Connect issuer can verify.

Private keys are stored in SQL, encrypted with the master key. All keys are published at once, and a new one signs an
hour later: by then every verifier that caches our key set has fetched it again.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import Connection, delete, insert, select

from iam.arn import Random
from iam.clock import to_milliseconds
from iam.errors import DeleteConflict, InternalFailure, NoSuchEntity
from iam.operations.federation.outbound import issuer_address
from iam.store.schema import issuer_key, outbound_issuer
from iam.store.store import Store
from iam.store.vault import Vault

ALGORITHMS = ("RS256", "ES384")  # STS API Reference, GetWebIdentityToken, SigningAlgorithm
PROPAGATION = timedelta(hours=1)  # longer than verifiers commonly cache a key set
_RSA_BITS = 2048
_COLUMNS = issuer_key.c


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """One key of our issuers; ``signs_from`` is in milliseconds."""

    kid: str
    algorithm: str
    key: RSAKey | ECKey = field(repr=False)
    created: int
    signs_from: int

    def public_jwk(self) -> Mapping[str, Any]:
        """Return the public key as a JSON Web Key."""
        return {**self.key.as_dict(private=False), "use": "sig", "alg": self.algorithm, "kid": self.kid}


class JwtIssuer:
    """Signs tokens of the accounts' issuers, and publishes their keys."""

    def __init__(
        self, store: Store, vault: Vault, *, public_url: str, now: Callable[[], datetime], random: Random
    ) -> None:
        self._store = store
        self._vault = vault
        self._public_url = public_url
        self._now = now
        self._random = random
        self._keys: tuple[IssuerKey, ...] = ()
        self._issuers: Mapping[str, tuple[str, bool]] = {}
        self._generation = -1

    def issuer(self, account_id: str) -> str | None:
        """Return the address of an account's issuer, or None where it is not enabled."""
        self._reload()
        issuer_id, enabled = self._issuers.get(account_id, ("", False))
        return issuer_address(self._public_url, issuer_id) if enabled else None

    def address(self, issuer_id: str) -> str | None:
        """Return the address of an issuer, enabled or not: tokens that it has signed can still be verified."""
        self._reload()
        known = any(existing_id == issuer_id for existing_id, _ in self._issuers.values())
        return issuer_address(self._public_url, issuer_id) if known else None

    def keys(self) -> tuple[IssuerKey, ...]:
        """Return every key; create a key for an algorithm that has none."""
        self._reload()
        if {key.algorithm for key in self._keys} != set(ALGORITHMS):
            with self._store.write() as tx:
                existing = {key.algorithm for key in load(tx, self._vault)}  # another worker may have been first
                for algorithm in ALGORITHMS:
                    if algorithm not in existing:
                        make_key(tx, self._vault, algorithm, now=self._now(), random=self._random, at=self._now())
                self._keys = load(tx, self._vault)
        return self._keys

    def public_jwks(self) -> list[Mapping[str, Any]]:
        """Return every public key as a JSON Web Key."""
        return [key.public_jwk() for key in self.keys()]

    def sign(self, algorithm: str, claims: Mapping[str, Any]) -> str:
        """Return the claims as a signed token in compact form."""
        now = to_milliseconds(self._now())
        candidates = [key for key in self.keys() if key.algorithm == algorithm]
        # Newest first. If none signs yet (a clock that went back), the oldest is the one that verifiers are most likely
        # to know.
        key = next((key for key in candidates if key.signs_from <= now), candidates[-1] if candidates else None)
        if key is None:
            raise InternalFailure("An internal error occurred.", log=f"no key of the issuer signs by {algorithm}")
        header = {"typ": "JWT", "alg": algorithm, "kid": key.kid}
        return jws.serialize_compact(header, encode_claims(claims), key.key, algorithms=[algorithm])

    def _reload(self) -> None:
        self._store.refresh()
        generation = self._store.generation
        if generation == self._generation:
            return
        with self._store.read() as tx:
            self._keys = load(tx, self._vault)
            rows = tx.execute(select(outbound_issuer)).all()
        self._issuers = {row.account_id: (row.id, row.enabled) for row in rows}
        self._generation = generation


def encode_claims(claims: Mapping[str, Any]) -> bytes:
    """Return the claims as the bytes that are signed."""
    return json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()


def load(tx: Connection, vault: Vault) -> tuple[IssuerKey, ...]:
    """Return all keys, those that sign from the latest time first."""
    rows = tx.execute(select(issuer_key).order_by(_COLUMNS.signs_from.desc(), _COLUMNS.id)).all()
    return tuple(
        IssuerKey(
            row.id, row.algorithm, _TYPES[row.algorithm].import_key(vault.open(row.sealed, row.id)), row.created,
            row.signs_from,
        )
        for row in rows
    )  # fmt: skip


_TYPES: Mapping[str, type[RSAKey] | type[ECKey]] = {"RS256": RSAKey, "ES384": ECKey}


def make_key(tx: Connection, vault: Vault, algorithm: str, *, now: datetime, random: Random, at: datetime) -> str:
    """Create a key, which is published at once and signs from ``at``; return its id."""
    key_id = random(8).hex()
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, _RSA_BITS) if algorithm == "RS256" else ec.generate_private_key(ec.SECP384R1())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    row = {
        "id": key_id,
        "algorithm": algorithm,
        "sealed": vault.seal(pem, key_id, random),
        "created": to_milliseconds(now),
        "signs_from": to_milliseconds(at),
    }
    tx.execute(insert(issuer_key).values(row))
    return key_id


def remove_key(tx: Connection, key_id: str, now: datetime) -> None:
    """Remove a key; raise NoSuchEntity, or DeleteConflict where no other key of its algorithm signs yet."""
    rows = tx.execute(select(_COLUMNS.id, _COLUMNS.algorithm, _COLUMNS.signs_from)).all()
    key = next((row for row in rows if row.id == key_id), None)
    if key is None:
        raise NoSuchEntity(f"There is no key {key_id} of the issuer.")
    at = to_milliseconds(now)
    if not any(row.id != key_id and row.algorithm == key.algorithm and row.signs_from <= at for row in rows):
        raise DeleteConflict("No other key of its algorithm signs yet: rotate first, wait until the new one signs.")
    tx.execute(delete(issuer_key).where(_COLUMNS.id == key_id))
