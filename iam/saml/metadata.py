"""The metadata of a SAML identity provider: its entity ID, signing keys and endpoints.

Pure; the clock is an argument. Source: SAML 2.0 Metadata, sections 2.3 and 2.4. SAML V2.0 Metadata Interoperability
Profile, section 2.6.1: a certificate only contains a key, so its validity period is reported but not enforced.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from iam.clock import iso8601, parse_utc
from iam.saml.signature import DS, BadSignature, PublicKey, read_signature
from iam.saml.xml import Element, InvalidXml, children, collapse, local_name, only_child, parse_xml, text_of

MD = "{urn:oasis:names:tc:SAML:2.0:metadata}"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_RSA_BITS = 2048  # NIST SP 800-131A: the minimum for RSA signatures (THREATS D35)
_MOST_RSA_BITS = 16_384  # OpenSSL verifies nothing with a longer one
_MOST_CERTIFICATES = 10  # each key can cost one verification for every response
_LONGEST_ENTITY_ID = 1024  # section 2.3.2
_MOST_NAMES = 3  # of entities that a message repeats
_MOST_REASONS, _LONGEST_REASON = 20, 300  # that are kept of what is left out; the latter in characters
_ENTITY, _ENTITIES = f"{MD}EntityDescriptor", f"{MD}EntitiesDescriptor"
_LONGEST_ADDRESS = 2048

_DURATION = re.compile(
    r"P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,6})D)?(?:T(?:(\d{1,8})H)?(?:(\d{1,8})M)?(?:(\d{1,9})(?:\.\d{1,9})?S)?)?",
    re.ASCII,
)


class InvalidMetadata(ValueError):
    """Metadata that cannot be used; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class SigningCertificate:
    """A signing certificate of an identity provider; ``until`` is the end of its validity period."""

    key: PublicKey
    until: datetime
    subject: str
    fingerprint: str  # SHA-256, in hexadecimal


@dataclass(frozen=True, slots=True)
class IdpMetadata:
    """The metadata of an identity provider: endpoint locations by binding, ``cache_duration`` in seconds.

    ``dropped`` says what of the document is not used, and why: one odd part does not spoil the rest.
    """

    entity_id: str
    certificates: tuple[SigningCertificate, ...]
    sign_in: Mapping[str, str]
    sign_out: Mapping[str, str]
    sign_out_answer: Mapping[str, str]
    wants_signed_requests: bool
    valid_until: datetime | None
    cache_duration: int | None
    dropped: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Return the signing keys."""
        return tuple(certificate.key for certificate in self.certificates)


def read_metadata(data: bytes, *, now: datetime) -> IdpMetadata:
    """Return the parsed metadata of one identity provider; raise InvalidMetadata where it has expired."""
    metadata = parse_metadata(data)
    if metadata.valid_until is not None and metadata.valid_until <= now:
        raise InvalidMetadata(f"it was valid until {iso8601(metadata.valid_until)}")
    return metadata


def parse_metadata(data: bytes) -> IdpMetadata:
    """Return the parsed metadata, even if it has expired; raise InvalidMetadata."""
    try:
        return _parse_document(parse_xml(data, comments=True))
    except (InvalidXml, BadSignature) as error:
        raise InvalidMetadata(str(error)) from error


def parse_timestamp(text: str) -> datetime:
    """Return the UTC time of a SAML time value (Core, section 1.3.3); raise InvalidXml."""
    try:
        return parse_utc(collapse(text))
    except ValueError as error:
        raise InvalidXml(f"{text[:40]!r} is not a time in UTC") from error


def parse_duration(text: str) -> int:
    """Return an XML Schema duration in seconds, a month as 30 days and a year as 365; raise InvalidXml."""
    match = _DURATION.fullmatch(collapse(text))
    if match is None or not any(match.groups()):
        raise InvalidXml(f"{text[:40]!r} is no duration")
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (((years * 365 + months * 30 + days) * 24 + hours) * 60 + minutes) * 60 + seconds


def _parse_document(root: Element) -> IdpMetadata:
    """Return the metadata of the only identity provider in a document (section 2.3.1: EntitiesDescriptor)."""
    if root.tag not in (_ENTITY, _ENTITIES):
        raise InvalidMetadata("it is no metadata: its root is neither EntityDescriptor nor EntitiesDescriptor")
    entities = [entity for entity in root.iter(_ENTITY) if _roles(entity)]
    if len(entities) > 1:
        names = ", ".join(collapse(entity.get("entityID", ""))[:100] for entity in entities[:_MOST_NAMES])
        raise InvalidMetadata(f"it describes {len(entities)} identity providers, such as {names}: give that of one")
    if not entities:
        raise InvalidMetadata("it has no IDPSSODescriptor for SAML 2.0, or several")
    (entity,) = entities
    return _parse_entity(entity, list(entity.iterancestors(_ENTITIES)))


def _roles(entity: Element) -> list[Element]:
    """Return the descriptors of an entity as an identity provider of SAML 2.0."""
    return [
        role
        for role in children(entity, f"{MD}IDPSSODescriptor")
        if PROTOCOL in role.get("protocolSupportEnumeration", "").split()
    ]


def _parse_entity(entity: Element, around: Sequence[Element]) -> IdpMetadata:
    entity_id = collapse(entity.get("entityID", ""))
    if not entity_id or len(entity_id) > _LONGEST_ENTITY_ID:
        raise InvalidMetadata("it has no entityID, or one that is too long")
    roles = _roles(entity)
    if len(roles) != 1:
        raise InvalidMetadata("it has no IDPSSODescriptor for SAML 2.0, or several")
    (idp,) = roles
    for signed in (*around, entity):
        _check_own_signature(signed, idp)
    dropped: list[str] = []
    found = {certificate.fingerprint: certificate for certificate in _certificates(idp, dropped)}
    if not 1 <= len(found) <= _MOST_CERTIFICATES:
        reasons = "".join(f"; not used: {reason}" for reason in dropped[:3])
        raise InvalidMetadata(f"it has no certificate for signing, or more than {_MOST_CERTIFICATES}{reasons}")
    logout = list(children(idp, f"{MD}SingleLogoutService"))
    parts = (*around, entity, idp)
    return IdpMetadata(
        entity_id=entity_id,
        certificates=tuple(found.values()),
        sign_in=_addresses(children(idp, f"{MD}SingleSignOnService"), "Location", dropped),
        sign_out=_addresses(iter(logout), "Location", dropped),
        sign_out_answer=_addresses(filter(_has_response_location, logout), "ResponseLocation", dropped),
        wants_signed_requests=collapse(idp.get("WantAuthnRequestsSigned", "")) in ("true", "1"),
        valid_until=min(
            (parse_timestamp(part.get("validUntil", "")) for part in parts if "validUntil" in part.attrib), default=None
        ),
        cache_duration=_cache_duration(parts, dropped),
        dropped=tuple(reason[:_LONGEST_REASON] for reason in dropped[:_MOST_REASONS]),
    )


def _has_response_location(service: Element) -> bool:
    return "ResponseLocation" in service.attrib


def _cache_duration(parts: Iterable[Element], dropped: list[str]) -> int | None:
    """Return the shortest cacheDuration; one that cannot be read is dropped, because it is advice."""
    durations: list[int] = []
    for part in parts:
        text = part.get("cacheDuration")
        try:
            durations += [] if text is None else [parse_duration(text)]
        except InvalidXml as error:
            dropped.append(f"cacheDuration of {local_name(part)}: {error}")
    return min(durations, default=None)


def _check_own_signature(signed: Element, idp: Element) -> None:
    """Refuse metadata that was changed after it was signed.

    This is only an integrity check: the keys are those of the document itself, so it does not prove who signed. Trust
    in metadata comes from the administrator who registers it.
    """
    if only_child(signed, f"{DS}Signature") is None:
        return
    unused: list[str] = []
    shown = signed.iterfind(f"{DS}Signature/{DS}KeyInfo//{DS}X509Certificate")
    certificates = (*_readable(shown, unused), *_certificates(idp, unused))
    read_signature(signed).verify([certificate.key for certificate in certificates])


def _certificates(idp: Element, dropped: list[str]) -> Iterator[SigningCertificate]:
    for descriptor in children(idp, f"{MD}KeyDescriptor"):
        use = collapse(descriptor.get("use", "signing"))
        if use not in ("signing", "encryption"):
            dropped.append(f"a KeyDescriptor whose use is {use[:40]!r}")
        if use != "signing":
            continue
        elements = list(descriptor.iterfind(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"))
        if not elements:
            dropped.append("a key for signing without a certificate")
        yield from _readable(elements, dropped)


def _readable(elements: Iterable[Element], dropped: list[str]) -> Iterator[SigningCertificate]:
    """Yield the certificates that can be read and used; the reasons for the others go into ``dropped``."""
    for number, element in enumerate(elements, 1):
        try:
            yield _certificate(element)
        except InvalidMetadata as error:
            dropped.append(f"certificate {number} of a key: {error}")


def _certificate(element: Element) -> SigningCertificate:
    try:
        certificate = x509.load_der_x509_certificate(b64decode("".join(text_of(element).split()), validate=True))
        return SigningCertificate(
            key=_require_strong_key(certificate.public_key()),
            until=certificate.not_valid_after_utc,
            subject=certificate.subject.rfc4514_string(),
            fingerprint=_fingerprint(certificate),
        )
    except InvalidMetadata:
        raise
    except Exception as error:
        raise InvalidMetadata("it has a certificate that cannot be read") from error


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()


def _require_strong_key(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if not _RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
            raise InvalidMetadata(f"it has an RSA key of {key.key_size} bits; {_RSA_BITS} are the least")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    raise InvalidMetadata("it has a key that is neither RSA nor of the curves P-256, P-384 and P-521")


_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def _addresses(services: Iterator[Element], attribute: str, dropped: list[str]) -> Mapping[str, str]:
    """Return the first location for each supported binding; only http and https URLs are accepted.

    A ``javascript:`` URL, for example, would run in the browser that is redirected to it. Blanks around an address are
    no part of it (XML Schema, anyURI: whitespace is collapsed). The reasons for what is left out go into ``dropped``.
    """
    locations: dict[str, str] = {}
    for service in services:
        binding, location = collapse(service.get("Binding", "")), collapse(service.get(attribute, ""))
        if binding not in (REDIRECT, POST):
            continue
        if is_redirect_target(location):
            locations.setdefault(binding, location)
        else:
            name = f"{local_name(service)} by {binding.rpartition(':')[2]}"
            dropped.append(
                f"{name}: {attribute} {location[:100]!r} is no http or https URL that a browser can be sent to"
            )
    return locations


def is_redirect_target(text: str) -> bool:
    """Return whether a browser can be redirected to a URL with query parameters appended.

    A fragment would hide the appended parameters. User information (``https://trusted@evil``) makes a URL look like
    another host; backslashes and spaces are parsed differently by browsers.
    """
    if len(text) > _LONGEST_ADDRESS or not text.isascii() or not text.isprintable() or set(text) & set(' \\"<>#'):
        return False
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc
