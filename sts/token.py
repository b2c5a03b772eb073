"""The sealed session token: an AES-256-GCM envelope that any worker opens without SQL or Redis.

Version byte, key id (4 bytes), nonce (12 bytes), ciphertext and tag (16 bytes), in standard base64. The associated data
is version, key id and access key id, so a token opens only together with the access key that it was minted for
(THREATS B01), and a changed version or key id does not authenticate (THREATS B35). Pure: keys and randomness are
arguments.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from iam.arn import Random

# Bytes of JSON. Sessions hold a few kilobytes; the limit bounds the memory that a small compressed text can claim.
UNPACKED_LIMIT = 65_536

_VERSION = b"\x02"  # 1: without a lineage, so that nothing tells which revocations were before
_ID, _NONCE, _TAG = 4, 12, 16  # bytes; nonce and tag as NIST SP 800-38D recommends for GCM
_HEAD = len(_VERSION) + _ID
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_KEY_BYTES = 32

# 8 KB (negative: without header and checksum, which GCM makes superfluous). Deflate needs no larger window than what it
# packs, and the small one costs a quarter of the default to set up.
_WINDOW = -13
_MEMORY = 5

# Text that most sessions share, the most frequent last. It is part of the version: with one letter changed, tokens of
# running sessions would no longer unpack, so a change needs a new version byte.
_DICTIONARY = (
    rb"\"NotAction\":[\"\"NotResource\":\"StringNotEquals\":{\"StringLike\":{\"StringEquals\":{\"IpAddress\":{\"aws:SourceIp\":"
    rb"\"Bool\":{\"aws:SecureTransport\":\"true\"\"false\"}}dynamodb:ec2:Describe*kms:Decryptlogs:lambda:InvokeFunctionsqs:sns:"
    rb"sts:AssumeRoleiam:Get*iam:List*\",\"s3:ListBucket\",\"s3:DeleteObject\",\"s3:PutObject\",\"s3:GetObject\""
    rb"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"\",\"Effect\":\"Deny\",\"Effect\":\"Allow\",\"Action\":\"*\","
    rb"\"Action\":[\"],\"Resource\":[\"arn:aws:s3:::/*\"],\"Resource\":\"*\",\"Condition\":{\"}]}"
    b'["Department","Project","CostCenter","Team","Environment","Email"'
    b"arn:aws:iam::aws:policy/AdministratorAccessPowerUserAccessReadOnlyAccess"
    b'"],"y":[""]],"t":[["","o":"","f":17,"h":true,"l":[["aws:","saml:sub",["saml:iss","ldap:groups","ldap:username",["ldap:dn",'
    b'"CN=,OU=,DC=uid=,ou=people,dc=example,dc=com"]]}","p":"{"a":["arn:aws:iam::arn:aws:iam::aws:policy/'
    b"https:///oauth2/default.com.org/idp:saml-provider/oidc-provider/@example.com"
    b'","v":"arn:aws:iam::","v":"","j":"","m":"000,"k":"f","c":"000,"k":"u","c":"","n":"AIDAQ'
    b'{"i":"","s":"","b":17,"e":17000,"k":"r","c":"","n":"AROAQ"'
)


class TokenUnreadable(Exception):
    """A token was not sealed with our keys, belongs to another access key, or was changed.

    The text is for the log: a caller who learned the reason could tell a forged token from an old one.
    """


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One key of 32 bytes and its name of 8 lower-case hexadecimal digits; raise ValueError for any other."""

    id: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _KEY_ID.fullmatch(self.id):
            raise ValueError("a sealing key's id is 8 lower-case hexadecimal digits")
        if len(self.key) != _KEY_BYTES:
            raise ValueError("a sealing key is 32 bytes")


class Sealer:
    """Seals with the first of its keys and opens with all of them.

    Nonces are random: replace a key before it has sealed 2**32 tokens (NIST SP 800-38D, 8.3). Two tokens with one nonce
    would reveal GCM's authentication key, and with it any token could be forged.
    """

    def __init__(self, keys: tuple[SealingKey, ...]) -> None:
        if not keys:
            raise ValueError("a sealer needs a key")
        self._by_head = {_VERSION + bytes.fromhex(key.id): AESGCM(key.key) for key in keys}
        if len(self._by_head) != len(keys):
            raise ValueError("two sealing keys have one id")
        self._head = _VERSION + bytes.fromhex(keys[0].id)
        self._newest = self._by_head[self._head]

    def seal(self, plain: bytes, access_key_id: str, random: Random) -> str:
        """Return the token of these bytes for this access key."""
        nonce = random(_NONCE)
        sealed = self._newest.encrypt(nonce, plain, self._head + access_key_id.encode())
        return base64.b64encode(self._head + nonce + sealed).decode("ascii")

    def open(self, token: str, access_key_id: str) -> bytes:
        """Return the bytes that were sealed for this access key; raise TokenUnreadable."""
        envelope = _decode(token)
        head, nonce, sealed = envelope[:_HEAD], envelope[_HEAD : _HEAD + _NONCE], envelope[_HEAD + _NONCE :]
        # The key id selects the key; version and key id are authenticated with the rest, so a token cannot be moved to
        # another key or, one day, to an older version.
        aead = self._by_head.get(head)
        if aead is None:
            raise TokenUnreadable("unknown version or key id")
        if len(sealed) < _TAG:
            raise TokenUnreadable("too short")
        try:
            return aead.decrypt(nonce, sealed, head + access_key_id.encode())
        except InvalidTag as error:
            raise TokenUnreadable("changed, or of another access key") from error
        except UnicodeEncodeError as error:
            raise TokenUnreadable("the access key id is no text") from error


def pack(fields: Mapping[str, Any]) -> bytes:
    """Return a mapping of JSON values, compressed; raise ValueError where its JSON exceeds UNPACKED_LIMIT."""
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )
    if len(text) > UNPACKED_LIMIT:
        raise ValueError("too much for a session token")
    deflate = zlib.compressobj(6, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return deflate.compress(text) + deflate.flush()


def unpack(packed: bytes) -> dict[str, Any]:
    """Return the mapping that was packed; raise TokenUnreadable for anything else, without unpacking all of it."""
    try:
        fields = json.loads(_inflate(packed))
    # RecursionError: JSON nested thousands of levels deep.
    except (ValueError, RecursionError) as error:
        raise TokenUnreadable("no JSON") from error
    if not isinstance(fields, dict):
        raise TokenUnreadable("no JSON object")
    return fields


def _decode(token: str) -> bytes:
    try:
        envelope = base64.b64decode(token, validate=True)
    except ValueError as error:
        raise TokenUnreadable("no base64") from error
    # RFC 4648, 3.5: a decoder may ignore the unused bits of the last digit, so that several texts decode to one token.
    # Callers cache opened tokens by their text, which must therefore be the only one (THREATS B35).
    if base64.b64encode(envelope).decode("ascii") != token:
        raise TokenUnreadable("base64 with stray bits")
    return envelope


def _inflate(packed: bytes) -> bytes:
    inflate = zlib.decompressobj(_WINDOW, _DICTIONARY)
    try:
        # One byte above the limit: a stream that fills the limit exactly still reaches its end, a larger one does not.
        text = inflate.decompress(packed, UNPACKED_LIMIT + 1)
    except zlib.error as error:
        raise TokenUnreadable("cannot be inflated") from error
    if not inflate.eof or inflate.unused_data or len(text) > UNPACKED_LIMIT:
        raise TokenUnreadable("cut, continued, or too large")
    return text
