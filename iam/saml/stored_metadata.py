"""What the database keeps of parsed metadata: requests and background work read this, and never parse XML.

A document of 10 MB takes half a second to parse; what is kept of it has at most some 50 KB, however long it is.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from iam.clock import from_milliseconds, to_milliseconds
from iam.saml.metadata import IdpMetadata, InvalidMetadata, SigningCertificate
from iam.saml.signature import PublicKey

_LONGEST_SUBJECT = 256  # characters of a certificate's subject, which is only shown


def metadata_columns(text: str, metadata: IdpMetadata) -> dict[str, object]:
    """Return the columns of ``saml_provider`` for a metadata document and what was parsed from it."""
    ends = [to_milliseconds(certificate.until) for certificate in metadata.certificates]
    valid_until = to_milliseconds(metadata.valid_until) if metadata.valid_until else None
    return {
        "metadata": text,
        "metadata_size": len(text),
        "parsed": _dump(metadata),
        "entity_id": metadata.entity_id,
        "valid_until": valid_until,
        "first_end": min([*ends, *([valid_until] if valid_until is not None else [])]),
        "certificates": json.dumps([_shown(certificate) for certificate in metadata.certificates]),
    }


def load_metadata(text: str | None) -> IdpMetadata:
    """Return the metadata of a ``parsed`` column; raise InvalidMetadata where the document could not be parsed."""
    try:
        return _load(json.loads(text or ""))
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidMetadata("the stored metadata document cannot be read") from error


def load_certificates(text: str | None) -> tuple[tuple[str, str, int], ...]:
    """Return fingerprint, subject and end in milliseconds of each certificate of a ``certificates`` column."""
    return tuple((fingerprint, subject, until) for fingerprint, subject, until in json.loads(text or "[]"))


def _dump(metadata: IdpMetadata) -> str:
    return json.dumps(
        {
            "entity_id": metadata.entity_id,
            "certificates": [[_der(one.key), *_shown(one)] for one in metadata.certificates],
            "sign_in": dict(metadata.sign_in),
            "sign_out": dict(metadata.sign_out),
            "sign_out_answer": dict(metadata.sign_out_answer),
            "wants_signed_requests": metadata.wants_signed_requests,
            "valid_until": to_milliseconds(metadata.valid_until) if metadata.valid_until else None,
            "cache_duration": metadata.cache_duration,
            "dropped": list(metadata.dropped),
        }
    )


def _load(fields: Mapping[str, Any]) -> IdpMetadata:
    valid_until = fields["valid_until"]
    return IdpMetadata(
        entity_id=fields["entity_id"],
        certificates=tuple(
            SigningCertificate(key=_key(der), until=from_milliseconds(until), subject=subject, fingerprint=fingerprint)
            for der, fingerprint, subject, until in fields["certificates"]
        ),
        sign_in=fields["sign_in"],
        sign_out=fields["sign_out"],
        sign_out_answer=fields["sign_out_answer"],
        wants_signed_requests=fields["wants_signed_requests"],
        valid_until=from_milliseconds(valid_until) if valid_until is not None else None,
        cache_duration=fields["cache_duration"],
        dropped=tuple(fields.get("dropped", ())),  # rows of earlier versions have none
    )


def _shown(certificate: SigningCertificate) -> tuple[str, str, int]:
    return certificate.fingerprint, certificate.subject[:_LONGEST_SUBJECT], to_milliseconds(certificate.until)


def _der(key: PublicKey) -> str:
    return b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode("ascii")


def _key(text: str) -> PublicKey:
    key = load_der_public_key(b64decode(text))
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise InvalidMetadata("it has a key that is neither RSA nor elliptic")
    return key
