"""An OpenID Connect issuer for tests: real TLS on loopback, tokens signed with `cryptography` alone, of any kind."""

import base64
import hmac
import json
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from support.web_server import WebServer

HASHES = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
CURVES = {
    "256": (ec.SECP256R1(), "P-256", 32),
    "384": (ec.SECP384R1(), "P-384", 48),
    "512": (ec.SECP521R1(), "P-521", 66),
}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return b64(value.to_bytes(max(size, (value.bit_length() + 7) // 8), "big"))


@cache
def private_key(kind: str, name: str = ""):
    """A key for an algorithm; another for another name."""
    del name
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return (
        ec.generate_private_key(CURVES[kind[2:]][0]) if kind.startswith("ES") else rsa.generate_private_key(65537, 2048)
    )


def jwk(kind: str, kid: str | None, name: str = "", **more) -> dict:
    public = private_key(kind, name).public_key()
    if kind == "EdDSA":
        made = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    elif kind.startswith("ES"):
        numbers, (_, curve, size) = public.public_numbers(), CURVES[kind[2:]]
        made = {"kty": "EC", "crv": curve, "x": number(numbers.x, size), "y": number(numbers.y, size)}
    else:
        numbers = public.public_numbers()
        made = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    return made | {"use": "sig", "alg": kind} | ({} if kid is None else {"kid": kid}) | more


def signature(kind: str, data: bytes, name: str = "") -> bytes:
    key = private_key(kind, name)
    if kind == "EdDSA":
        return key.sign(data)
    digest = HASHES[kind[2:]]
    if kind.startswith("RS"):
        return key.sign(data, padding.PKCS1v15(), digest)
    if kind.startswith("PS"):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    size = CURVES[kind[2:]][2]
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def compact(header: dict | str | bytes, claims: dict | str | bytes, sign) -> str:
    """A token of these parts; ``sign`` gets what is to be signed."""
    parts = [one if isinstance(one, bytes) else (one if isinstance(one, str) else json.dumps(one)).encode()
             for one in (header, claims)]  # fmt: skip
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(sign(signed.encode()))}"


def hmac_sign(secret: bytes):
    return lambda data: hmac.digest(secret, data, "sha256")


@dataclass
class Issuer:
    """An issuer behind a web server; ``url`` is what its tokens say, ``keys`` what it publishes."""

    server: WebServer
    now: object
    path: str = ""
    url: str = ""
    keys: list = field(default_factory=lambda: [jwk("RS256", "k1")])

    def __post_init__(self):
        self.url = self.url or self.server.url(self.path)
        self.publish()

    @property
    def arn_part(self) -> str:
        return self.url.removeprefix("https://")

    def publish(self, **more):
        about = {"issuer": self.url, "jwks_uri": self.server.url(f"{self.path}/jwks")} | more
        self.server.serve(f"{self.path}/.well-known/openid-configuration", json.dumps(about).encode())
        self.server.serve(f"{self.path}/jwks", json.dumps({"keys": self.keys}).encode())

    def claims(self, **changes) -> dict:
        now = int(self.now().timestamp())
        given = {"iss": self.url, "sub": "user-1", "aud": "app-1", "iat": now, "exp": now + 600} | changes
        return {name: value for name, value in given.items() if value is not None}

    def token(self, kind: str = "RS256", kid: str | None = "k1", *, header=None, name: str = "", **changes) -> str:
        said = {"alg": kind, "typ": "JWT"} | ({} if kid is None else {"kid": kid}) | (header or {})
        return compact(said, self.claims(**changes), lambda data: signature(kind, data, name))

    def fetches(self) -> int:
        return self.server.asked.count(f"{self.path}/jwks")


__all__ = ["Issuer", "b64", "compact", "hmac_sign", "jwk", "private_key", "signature", "timedelta"]
