"""XML signatures in the form that SAML allows: enveloped, over the parent element, by a key that is already known.

Pure. Source: SAML 2.0 Core, section 5.4; XML Signature, sections 3.2 and 4; RFC 6931 for the algorithms. References and
transforms are checked before anything is computed, and none is ever dereferenced or executed (THREATS D06, D07).
Verification returns the bytes that were digested. Callers parse these bytes and not the original document, so that a
signature over one element cannot vouch for another one (signature wrapping, THREATS D01).
"""

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from iam.saml.xml import Element, InvalidXml, canonicalize, parse_xml, text_of

DS = "{http://www.w3.org/2000/09/xmldsig#}"
EXC_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_NEWER = "http://www.w3.org/2007/05/xmldsig-more#"
_INCLUSIVE = f"{{{EXC_C14N}}}InclusiveNamespaces"

# The allowed form of SignedInfo has at most 11 elements. Canonicalization visits every prefix for each element.
_MOST_PARTS, _MOST_PREFIXES = 15, 20

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_Verify = Callable[[PublicKey, bytes, bytes, HashAlgorithm], None]


class BadSignature(ValueError):
    """A signature that is malformed, not allowed or does not verify; the message gives the reason."""


class Algorithm(NamedTuple):
    """A signature algorithm: the type of its key, its hash, and how it verifies."""

    key: type
    hash: HashAlgorithm
    verify: _Verify


def _pkcs1(key: PublicKey, signature: bytes, data: bytes, digest: HashAlgorithm) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), digest)


def _pss(key: PublicKey, signature: bytes, data: bytes, digest: HashAlgorithm) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        scheme = padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
        key.verify(signature, data, scheme, digest)


def _ecdsa(key: PublicKey, signature: bytes, data: bytes, digest: HashAlgorithm) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        # RFC 6931, section 2.3.6: r and s, each as long as the order of the curve, without ASN.1.
        size = (key.curve.key_size + 7) // 8
        if len(signature) != 2 * size:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:size], signature[size:]))
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest))


# Algorithms that are not listed are refused: SHA-1 and MD5 (THREATS D05), and HMAC, which an attacker could key with
# the public certificate (THREATS D04).
ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        f"{_MORE}rsa-{digest.name}": Algorithm(rsa.RSAPublicKey, digest, _pkcs1)
        for digest in (SHA256(), SHA384(), SHA512())
    }
    | {
        f"{_NEWER}{digest.name}-rsa-MGF1": Algorithm(rsa.RSAPublicKey, digest, _pss)
        for digest in (SHA256(), SHA384(), SHA512())
    }
    | {
        f"{_MORE}ecdsa-{digest.name}": Algorithm(ec.EllipticCurvePublicKey, digest, _ecdsa)
        for digest in (SHA256(), SHA384(), SHA512())
    }
)
DIGESTS = MappingProxyType(
    {
        "http://www.w3.org/2001/04/xmlenc#sha256": hashlib.sha256,
        f"{_MORE}sha384": hashlib.sha384,
        "http://www.w3.org/2001/04/xmlenc#sha512": hashlib.sha512,
    }
)


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of one element, in the allowed form, not yet verified."""

    parent: Element
    element: Element
    signed: bytes  # the canonical form of SignedInfo, which the key signs
    algorithm: str
    value: bytes
    prefixes: list[str] | None
    digest: str
    digest_value: bytes

    def verify(self, keys: Sequence[PublicKey]) -> bytes:
        """Return the canonical form of the parent, which one of the keys has signed; raise BadSignature, InvalidXml.

        The signature is removed from the tree, as the enveloped-signature transform requires.
        """
        if not any(is_signed_by(self.algorithm, key, self.value, self.signed) for key in keys):
            raise BadSignature("no known key has made the signature")
        _detach(self.element)
        data = canonicalize(self.parent, self.prefixes)
        if not hmac.compare_digest(DIGESTS[self.digest](data).digest(), self.digest_value):
            raise BadSignature("what was signed was changed afterwards")
        return data


def is_signed_by(algorithm: str, key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether a signature over data was made with a key, by an allowed algorithm.

    The key must be of the algorithm's type: the message names the algorithm, and it must not choose how a key is used.
    """
    row = ALGORITHMS.get(algorithm)
    if row is None:
        return False
    if not isinstance(key, row.key):
        return False
    try:
        row.verify(key, signature, data, row.hash)
    except InvalidSignature:
        return False
    return True


def read_signature(parent: Element) -> Signature:
    """Return the only signature of an element; raise BadSignature where its form is not allowed."""
    signatures = [child for child in parent if child.tag == f"{DS}Signature"]
    if len(signatures) != 1:
        raise BadSignature(f"there is no signature on it, or more than one: {len(signatures)}")
    try:
        return _read(parent, signatures[0])
    except InvalidXml as error:
        raise BadSignature(str(error)) from error


def _read(parent: Element, signature: Element) -> Signature:
    parts = list(signature)
    names = [part.tag for part in parts]
    if names[:2] != [f"{DS}SignedInfo", f"{DS}SignatureValue"] or names[2:] not in ([], [f"{DS}KeyInfo"]):
        raise BadSignature("it has other parts than SignedInfo, SignatureValue and KeyInfo")
    # The form is checked before canonicalization, whose cost the sender of the message would otherwise determine.
    method = _parts(parts[0])[0]["CanonicalizationMethod"]
    signed = canonicalize(parts[0], _inclusive_prefixes(method, f"{DS}CanonicalizationMethod"))
    # From here on the canonical form is parsed, because that is what the key has signed: a comment or an entity in the
    # original could make the two differ.
    info, below = _parts(parse_xml(signed))
    reference = info["Reference"]
    # SAML Core, section 5.4.2: one reference, to the ID of the signed element itself, never to a file or URL
    # (THREATS D06). No ID is looked up in the document, so a duplicate ID has no effect here (THREATS D09).
    if dict(reference.attrib) != {"URI": f"#{parent.get('ID')}"} or not parent.get("ID"):
        raise BadSignature("its reference is not to the element that holds it")
    return Signature(
        parent=parent,
        element=signature,
        signed=signed,
        algorithm=_algorithm(info["SignatureMethod"], ALGORITHMS),
        value=_bytes(parts[1]),
        prefixes=_check_transforms(below["Transforms"]),
        digest=_algorithm(below["DigestMethod"], DIGESTS),
        digest_value=_bytes(below["DigestValue"]),
    )


def _parts(info: Element) -> tuple[Mapping[str, Element], Mapping[str, Element]]:
    """Return the child elements of SignedInfo and of its only Reference; raise BadSignature for any other form."""
    if sum(1 for _ in info.iter()) > _MOST_PARTS:
        raise BadSignature("its SignedInfo has too many parts")
    elements = _children(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    _inclusive_prefixes(elements["CanonicalizationMethod"], f"{DS}CanonicalizationMethod")
    below = _children(elements["Reference"], "Transforms", "DigestMethod", "DigestValue")
    _check_transforms(below["Transforms"])
    return elements, below


def _children(element: Element, *names: str) -> Mapping[str, Element]:
    """Return the child elements by name; they must be exactly these, in this order."""
    if [child.tag for child in element] != [f"{DS}{name}" for name in names]:
        raise BadSignature(f"{names[-1]} or a part beside it is missing, or there is one too many")
    return dict(zip(names, element, strict=True))


def _algorithm(element: Element, known: Mapping[str, object]) -> str:
    name = element.get("Algorithm", "")
    if name not in known:
        raise BadSignature(f"the algorithm {name[:100]} is not accepted")
    if len(element) or (element.text or "").strip():
        raise BadSignature(f"the algorithm {name[:100]} has parameters")
    return name


def _check_transforms(transforms: Element) -> list[str] | None:
    """Return the inclusive prefixes; the transforms must be the two that SAML allows (Core, section 5.4.4).

    Any other transform, such as XSLT or XPath, could execute code or remove content from the digest (THREATS D07).
    """
    if len(transforms) != 2:  # noqa: PLR2004 - the two transforms
        raise BadSignature("it has other transforms than enveloped-signature and exclusive canonicalization")
    first, second = transforms
    if first.tag != f"{DS}Transform" or first.get("Algorithm") != ENVELOPED or len(first):
        raise BadSignature("its first transform is not enveloped-signature")
    return _inclusive_prefixes(second, f"{DS}Transform")


def _inclusive_prefixes(method: Element, name: str) -> list[str] | None:
    """Return the PrefixList of InclusiveNamespaces, or None; the method must be exclusive canonicalization."""
    if method.tag != name or method.get("Algorithm") != EXC_C14N:
        raise BadSignature("it has another canonical form than exclusive canonicalization")
    if not len(method):
        return None
    (inclusive, *more) = method
    if inclusive.tag != _INCLUSIVE or more or len(inclusive):
        raise BadSignature("its canonical form has unknown parameters")
    prefixes = list(dict.fromkeys(inclusive.get("PrefixList", "").split()))
    if len(prefixes) > _MOST_PREFIXES:
        raise BadSignature("its canonical form has too many prefixes")
    return prefixes


def _bytes(element: Element) -> bytes:
    try:
        return b64decode("".join(text_of(element).split()), validate=True)
    except ValueError as error:
        raise BadSignature("a value of it is not base64") from error


def _detach(element: Element) -> None:
    """Remove an element but keep the text after it, which lxml stores as the element's tail and would remove too."""
    parent, before = element.getparent(), element.getprevious()
    if parent is None:
        return
    if element.tail and before is not None:
        before.tail = (before.tail or "") + element.tail
    elif element.tail:
        parent.text = (parent.text or "") + element.tail
    parent.remove(element)
