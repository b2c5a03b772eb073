"""The keys of our own SAML service provider: made, listed and removed here, kept in SQL sealed with the master key.

All of them are published in the metadata and decrypt. The newest whose ``signs_from`` has passed signs: a new key is
published first, so that identity providers know it when it begins to sign.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from sqlalchemy import Connection, delete, insert, select

from broker.providers.saml.messages import SigningKey
from iam.arn import Random
from iam.clock import to_milliseconds
from iam.errors import DeleteConflict, InternalFailure, NoSuchEntity
from iam.store.schema import saml_service_key
from iam.store.store import Store
from iam.store.vault import Vault

_BITS = 3072  # NIST SP 800-57, part 1: as strong as 128 bits, enough beyond the ten years of the certificate
_VALID_FOR = timedelta(days=3650)
_COLUMNS = saml_service_key.c


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """One key; ``created`` and ``signs_from`` are in milliseconds, the certificate is in PEM."""

    id: str
    private: RSAPrivateKey = field(repr=False)
    certificate: str
    created: int
    signs_from: int


class ServiceKeys:
    """The current keys, read again when the store saw a change; the first one is made when it is needed."""

    def __init__(self, store: Store, vault: Vault, *, now: Callable[[], datetime], random: Random) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._random = random
        self._keys: tuple[ServiceKey, ...] = ()
        self._generation = -1

    def all(self) -> tuple[ServiceKey, ...]:
        """Return every key, the latest ``signs_from`` first; none where none was needed yet."""
        self._store.refresh()
        generation = self._store.generation
        if generation != self._generation:
            with self._store.read() as tx:
                self._keys = load(tx, self._vault)
            self._generation = generation
        return self._keys

    def decryption_keys(self) -> tuple[RSAPrivateKey, ...]:
        """Return the keys that open encrypted assertions."""
        return tuple(key.private for key in self.all())

    def signing_key(self) -> SigningKey:
        """Return the key that signs now."""
        keys = self.all() or self._make_first()
        now = to_milliseconds(self._now())
        key = next((key for key in keys if key.signs_from <= now), keys[-1])
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return SigningKey(pem, key.certificate)

    def certificates(self) -> tuple[str, ...]:
        """Return the certificates of all keys, the one of the signing key first."""
        current = self.signing_key().certificate
        return (current, *(key.certificate for key in self.all() if key.certificate != current))

    def _make_first(self) -> tuple[ServiceKey, ...]:
        with self._store.write() as tx:
            if not load(tx, self._vault):  # another worker may have been quicker
                rotate(tx, self._vault, now=self._now(), random=self._random, signs_from=self._now())
            self._keys = load(tx, self._vault)
        if not self._keys:
            raise InternalFailure("An internal error occurred.", log="no key of the SAML service provider")
        return self._keys


def load(tx: Connection, vault: Vault) -> tuple[ServiceKey, ...]:
    """Return all keys, the latest ``signs_from`` first."""
    rows = tx.execute(select(saml_service_key).order_by(_COLUMNS.signs_from.desc(), _COLUMNS.id)).all()
    return tuple(
        ServiceKey(row.id, _private(vault.open(row.sealed, row.id)), row.certificate, row.created, row.signs_from)
        for row in rows
    )


def _private(data: bytes) -> RSAPrivateKey:
    key = load_der_private_key(data, None)
    if not isinstance(key, RSAPrivateKey):
        raise InternalFailure("An internal error occurred.", log="a key of the SAML service provider is not RSA")
    return key


def rotate(tx: Connection, vault: Vault, *, now: datetime, random: Random, signs_from: datetime) -> str:
    """Make a new key, which decrypts and is published at once, and return its id (8 hexadecimal digits)."""
    key_id = random(4).hex()
    key = generate_private_key(65537, _BITS)
    row = {
        "id": key_id,
        "sealed": vault.seal(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), key_id, random),
        "certificate": _certificate(key, now, random),
        "created": to_milliseconds(now),
        "signs_from": to_milliseconds(signs_from),
    }
    tx.execute(insert(saml_service_key).values(row))
    return key_id


def remove(tx: Connection, key_id: str, now: datetime) -> None:
    """Remove a key: raise NoSuchEntity, or DeleteConflict where no other key signs already."""
    rows = tx.execute(select(_COLUMNS.id, _COLUMNS.signs_from)).all()
    if key_id not in {row.id for row in rows}:
        raise NoSuchEntity(f"There is no key {key_id} of the SAML service provider.")
    if not any(row.id != key_id and row.signs_from <= to_milliseconds(now) for row in rows):
        raise DeleteConflict("No other key signs yet: rotate first, wait until the new one signs, then remove this.")
    tx.execute(delete(saml_service_key).where(_COLUMNS.id == key_id))


def _certificate(key: RSAPrivateKey, now: datetime, random: Random) -> str:
    """Return a certificate that holds the key: identity providers compare keys, few look at the rest."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Fedgate SAML service provider")])
    start = now.astimezone(UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(random(16), "big") >> 1 | 1)  # positive, as RFC 5280, section 4.1.2.2, asks
        .not_valid_before(start - timedelta(hours=1))
        .not_valid_after(start + _VALID_FOR)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()
