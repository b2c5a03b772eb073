"""A security key in software: it makes passkeys and signs challenges, and lies about whatever a test wants."""

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field

import cbor2
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

_PRESENT, _VERIFIED, _ATTESTED = 0x01, 0x04, 0x40  # WebAuthn Level 3, section 6.1


def unpadded(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")


def octets_of(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Device:
    """One key with one passkey; ``count`` is its signature counter, which an answer is signed after raising."""

    origin: str
    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    count: int = 0
    handle: bytes = b""

    def made(self, options: str, **lies) -> str:
        """Return the answer to navigator.credentials.create()."""
        told = json.loads(options)
        self.handle = octets_of(told["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(cose)
        facts = self._facts(told["rp"]["id"], attested, lies)
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": facts})
        client = self._client("webauthn.create", told["challenge"], lies)
        return self._written({"clientDataJSON": unpadded(client), "attestationObject": unpadded(attestation)})

    def signed(self, options: str, **lies) -> str:
        """Return the answer to navigator.credentials.get()."""
        told = json.loads(options)
        if "count" not in lies:
            self.count += 1
        facts = self._facts(told["rpId"], b"", lies)
        client = self._client("webauthn.get", told["challenge"], lies)
        signature = self.key.sign(facts + hashlib.sha256(client).digest(), ECDSA(SHA256()))
        return self._written(
            {
                "clientDataJSON": unpadded(client),
                "authenticatorData": unpadded(facts),
                "signature": unpadded(lies.get("signature", signature)),
                "userHandle": unpadded(lies.get("handle", self.handle)),
            }
        )

    def _facts(self, rp_id: str, attested: bytes, lies) -> bytes:
        flags = lies.get("flags", _PRESENT | _VERIFIED) | (_ATTESTED if attested else 0)
        host = hashlib.sha256(lies.get("rp_id", rp_id).encode()).digest()
        return host + bytes([flags]) + lies.get("count", self.count).to_bytes(4, "big") + attested

    def _client(self, kind: str, challenge: str, lies) -> bytes:
        told = {"type": lies.get("kind", kind), "challenge": lies.get("challenge", challenge)}
        told |= {"origin": lies.get("origin", self.origin), "crossOrigin": lies.get("framed", False)}
        return json.dumps(told).encode()

    def _written(self, response: dict[str, str]) -> str:
        name = unpadded(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
