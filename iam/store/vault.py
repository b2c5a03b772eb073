"""Encrypts secrets at rest with AES-256-GCM under the installation's master key.

Pure: the key and the randomness are arguments. The owner's id is associated data, so a sealed secret copied to another
row of the database does not open.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from iam.arn import Random

_VERSION = b"\x01"
_KEY_BYTES = 32
_NONCE = 12  # random bytes; NIST SP 800-38D 8.3 allows 2**32 secrets under one key with random nonces


def derive_key(master_key: bytes, purpose: str) -> bytes:
    """Return the key of one purpose (RFC 5869): what is sealed for it opens for no other, nor under the master key."""
    return HKDF(hashes.SHA256(), _KEY_BYTES, None, f"fedgate {purpose}".encode()).derive(master_key)


class CannotUnseal(Exception):
    """A sealed secret was made under another master key, belongs to another owner, or was changed."""


class Vault:
    """Seals and opens secrets under one master key of 32 bytes."""

    def __init__(self, master_key: bytes) -> None:
        self._aead = AESGCM(master_key)

    def seal(self, secret: bytes, owner: str, random: Random) -> bytes:
        """Return version, nonce and ciphertext of a secret of ``owner``."""
        nonce = random(_NONCE)
        return _VERSION + nonce + self._aead.encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Return the secret; raise CannotUnseal if the key, the owner or the bytes do not match."""
        if sealed[:1] != _VERSION:
            raise CannotUnseal(owner)
        try:
            return self._aead.decrypt(sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :], owner.encode())
        except InvalidTag as error:
            raise CannotUnseal(owner) from error
