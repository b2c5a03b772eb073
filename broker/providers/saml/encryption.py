"""Encrypted assertions: decrypted with a provider's keys, and only by algorithms that detect tampering.

Pure. Source: XML Encryption 1.1, sections 5.2.4 (AES-GCM) and 5.5.2 (RSA-OAEP); SAML 2.0 Core, section 2.3.4. CBC and
PKCS #1 1.5 are refused: with either, whoever may send many altered messages learns the text from the errors (THREATS
D26).
"""

from base64 import b64decode
from collections.abc import Sequence
from types import MappingProxyType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm

from iam.saml.signature import DS
from iam.saml.xml import Element, InvalidXml, children, only_child, text_of

XENC = "{http://www.w3.org/2001/04/xmlenc#}"
_XENC11 = "{http://www.w3.org/2009/xmlenc11#}"
_NONCE, _TAG = 12, 16
_MAX_WRAPPED_KEYS = 5  # copies of the content key, one for each key of ours; every pair costs an RSA operation

# Content ciphers, and the bytes of their keys.
_CIPHERS = MappingProxyType({f"http://www.w3.org/2009/xmlenc11#aes{bits}-gcm": bits // 8 for bits in (128, 192, 256)})
_OAEP_MGF1P = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
_OAEP = "http://www.w3.org/2009/xmlenc11#rsa-oaep"
# SHA-1 inside OAEP needs no collision resistance; it is what most identity providers send.
_DIGESTS = MappingProxyType(
    {
        "http://www.w3.org/2000/09/xmldsig#sha1": SHA1(),  # noqa: S303 - as said
        "http://www.w3.org/2001/04/xmlenc#sha256": SHA256(),
        "http://www.w3.org/2001/04/xmldsig-more#sha384": SHA384(),
        "http://www.w3.org/2001/04/xmlenc#sha512": SHA512(),
    }
)
_MASKS = MappingProxyType(
    {
        f"http://www.w3.org/2009/xmlenc11#mgf1{digest.name}": digest
        for digest in (SHA1(), SHA256(), SHA384(), SHA512())  # noqa: S303 - as above
    }
)


def decrypt(encrypted: Element, keys: Sequence[RSAPrivateKey]) -> bytes:
    """Return the text of an EncryptedAssertion; raise InvalidXml.

    There is one message for every failure of decryption: which step failed is what a padding oracle tells.
    """
    data = only_child(encrypted, f"{XENC}EncryptedData")
    if data is None:
        raise InvalidXml("EncryptedAssertion holds no EncryptedData")
    cipher = _algorithm(data)
    if cipher not in _CIPHERS:
        raise InvalidXml(f"the cipher {cipher[:100]} is not accepted: AES-GCM is")
    wrapped_keys = list(encrypted.iter(f"{XENC}EncryptedKey"))
    if not 1 <= len(wrapped_keys) <= _MAX_WRAPPED_KEYS:
        raise InvalidXml("there is no encrypted key, or there are too many")
    ciphertext = _cipher_value(data)
    for wrapped_key in wrapped_keys:
        scheme, value = _oaep_padding(wrapped_key), _cipher_value(wrapped_key)
        for key in keys:
            text = _try_decrypt(key, scheme, value, _CIPHERS[cipher], ciphertext)
            if text is not None:
                return text
    raise InvalidXml("no key of this provider opens the assertion")


def _try_decrypt(key: RSAPrivateKey, scheme: padding.OAEP, value: bytes, size: int, ciphertext: bytes) -> bytes | None:
    try:
        content_key = key.decrypt(value, scheme)
        if len(content_key) != size:
            return None
        return AESGCM(content_key).decrypt(ciphertext[:_NONCE], ciphertext[_NONCE:], None)
    except (ValueError, InvalidTag):
        return None


def _algorithm(element: Element) -> str:
    method = only_child(element, f"{XENC}EncryptionMethod")
    return "" if method is None else method.get("Algorithm", "")


def _oaep_padding(wrapped: Element) -> padding.OAEP:
    """Return how a content key is wrapped; raise InvalidXml where that is not RSA-OAEP."""
    name = _algorithm(wrapped)
    if name not in (_OAEP_MGF1P, _OAEP):
        raise InvalidXml(f"the key transport {name[:100]} is not accepted: RSA-OAEP is")
    method = only_child(wrapped, f"{XENC}EncryptionMethod")
    parameters = {child.tag: child for child in method} if method is not None else {}
    digest: HashAlgorithm = SHA1()  # noqa: S303 - the default of both schemes
    mask: HashAlgorithm = SHA1()  # noqa: S303 - as above
    if f"{DS}DigestMethod" in parameters:
        digest = _hash_algorithm(_DIGESTS, parameters.pop(f"{DS}DigestMethod"))
    if f"{_XENC11}MGF" in parameters and name == _OAEP:
        mask = _hash_algorithm(_MASKS, parameters.pop(f"{_XENC11}MGF"))
    parameters.pop(f"{XENC}KeySize", None)
    if parameters:  # a label, for one: with a parameter ignored, another text could be meant
        raise InvalidXml("the key transport has unknown parameters")
    return padding.OAEP(mgf=padding.MGF1(mask), algorithm=digest, label=None)


def _hash_algorithm(table: MappingProxyType[str, HashAlgorithm], element: Element) -> HashAlgorithm:
    name = element.get("Algorithm", "")
    if name not in table:
        raise InvalidXml(f"the digest {name[:100]} is not accepted")
    return table[name]


def _cipher_value(element: Element) -> bytes:
    data = only_child(element, f"{XENC}CipherData")
    values = [] if data is None else list(children(data, f"{XENC}CipherValue"))
    if len(values) != 1:  # a CipherReference names an address, and nothing here is fetched
        raise InvalidXml("CipherData holds no CipherValue")
    try:
        return b64decode("".join(text_of(values[0]).split()), validate=True)
    except ValueError as error:
        raise InvalidXml("CipherValue is not base64") from error
