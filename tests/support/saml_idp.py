"""An identity provider for tests: it says whatever a test wants, and signs and encrypts with a library of its own."""

import base64
import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from xml.sax.saxutils import escape, quoteattr

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
NS = {"saml": SAML, "samlp": SAMLP, "ds": DS}
AWS = "https://signin.aws.amazon.com/saml"
AWS_AUDIENCE = "urn:amazon:webservices"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
ENTITY_ID = "https://idp.example.com/metadata"
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@cache
def key_pair(name="idp", bits=2048):
    """A private key and a certificate of it, in PEM; the same for the same name, for keys are slow to make."""
    key = ec.generate_private_key(ec.SECP256R1()) if bits == 256 else rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=365))
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.PEM)


def der(certificate):
    return base64.b64encode(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)).decode()


def iso(at):
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Response:
    """What a response says; a text that is None leaves its part out."""

    now: datetime = NOW
    id: str = "_response1"
    assertion_id: str = "_assertion1"
    issuer: str = ENTITY_ID
    response_issuer: str | None = ENTITY_ID
    destination: str | None = AWS
    in_response_to: str | None = None
    asked: str | None = None  # InResponseTo of the confirmation; that of the response where it is None
    status: str = f'<samlp:Status><samlp:StatusCode Value="{SUCCESS}"/></samlp:Status>'
    issued: datetime | None = None
    subject: str = "ann"
    name_id: str | None = None  # the element, as it stands
    name_format: str = PERSISTENT
    recipient: str | None = AWS
    method: str = BEARER
    confirmed_until: datetime | None = None
    confirmation: str = ""  # further attributes
    not_before: datetime | None = None
    until: datetime | None = None
    audiences: tuple[tuple[str, ...], ...] = ((AWS_AUDIENCE,),)
    conditions: str = ""  # further elements
    authenticated: datetime | None = None
    session_until: datetime | None = None
    session_index: str | None = "_session1"
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    more: str = ""  # further elements of the assertion

    def xml(self) -> etree._Element:
        """The response, not signed."""
        return etree.fromstring(self._response().encode())

    def _response(self):
        attributes = {"ID": self.id, "Version": "2.0", "IssueInstant": iso(self.issued or self.now)}
        attributes |= {"Destination": self.destination, "InResponseTo": self.in_response_to}
        issuer = "" if self.response_issuer is None else f"<saml:Issuer>{escape(self.response_issuer)}</saml:Issuer>"
        return (
            f'<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}"{_attributes(attributes)}>'
            f"{issuer}{self.status}{self._assertion()}</samlp:Response>"
        )

    def _assertion(self):
        name = self.name_id or f"<saml:NameID Format={quoteattr(self.name_format)}>{escape(self.subject)}</saml:NameID>"
        until = self.confirmed_until or self.now + timedelta(minutes=5)
        asked = self.asked if self.asked is not None else self.in_response_to
        data = {"NotOnOrAfter": iso(until), "Recipient": self.recipient, "InResponseTo": asked}
        times = {"NotBefore": iso(self.not_before or self.now - timedelta(minutes=1))}
        times |= {"NotOnOrAfter": iso(self.until or self.now + timedelta(minutes=5))}
        restrictions = "".join(
            "<saml:AudienceRestriction>"
            + "".join(f"<saml:Audience>{escape(one)}</saml:Audience>" for one in restriction)
            + "</saml:AudienceRestriction>"
            for restriction in self.audiences
        )
        statement = {
            "AuthnInstant": iso(self.authenticated or self.now - timedelta(minutes=2)),
            "SessionNotOnOrAfter": self.session_until and iso(self.session_until),
            "SessionIndex": self.session_index,
        }
        return (
            f'<saml:Assertion ID="{self.assertion_id}" Version="2.0" IssueInstant="{iso(self.issued or self.now)}">'
            f"<saml:Issuer>{escape(self.issuer)}</saml:Issuer><saml:Subject>{name}"
            f'<saml:SubjectConfirmation Method="{self.method}">'
            f"<saml:SubjectConfirmationData{_attributes(data)}{self.confirmation}/>"
            f"</saml:SubjectConfirmation></saml:Subject><saml:Conditions{_attributes(times)}>{restrictions}"
            f"{self.conditions}</saml:Conditions><saml:AuthnStatement{_attributes(statement)}><saml:AuthnContext>"
            "<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
            f"</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>{self._statement()}{self.more}"
            "</saml:Assertion>"
        )

    def _statement(self):
        if not self.attributes:
            return ""
        values = "".join(
            f"<saml:Attribute Name={quoteattr(name)}>"
            + "".join(f"<saml:AttributeValue>{escape(one)}</saml:AttributeValue>" for one in found)
            + "</saml:Attribute>"
            for name, found in self.attributes.items()
        )
        return f"<saml:AttributeStatement>{values}</saml:AttributeStatement>"


def _attributes(found):
    return "".join(f" {name}={quoteattr(value)}" for name, value in found.items() if value is not None)


# --- signing and encrypting -------------------------------------------------------------------------------------------

ALGORITHMS = {
    "rsa-sha256": xmlsec.Transform.RSA_SHA256,
    "rsa-sha512": xmlsec.Transform.RSA_SHA512,
    "rsa-sha1": xmlsec.Transform.RSA_SHA1,
    "ecdsa-sha256": xmlsec.Transform.ECDSA_SHA256,
    "hmac-sha256": xmlsec.Transform.HMAC_SHA256,
}


def sign(element, *, key=None, algorithm="rsa-sha256", digest=xmlsec.Transform.SHA256, prefixes=None, shown=None):
    """Sign an element in its tree, behind its Issuer, as identity providers do."""
    private, certificate = key or key_pair()
    signature = xmlsec.template.create(element, xmlsec.Transform.EXCL_C14N, ALGORITHMS[algorithm], ns="ds")
    issuer = element.find("saml:Issuer", NS)
    element.insert(0 if issuer is None else 1, signature)
    reference = xmlsec.template.add_reference(signature, digest, uri=f"#{element.get('ID')}")
    xmlsec.template.add_transform(reference, xmlsec.Transform.ENVELOPED)
    exclusive = xmlsec.template.add_transform(reference, xmlsec.Transform.EXCL_C14N)
    if prefixes:
        xmlsec.template.transform_add_c14n_inclusive_namespaces(exclusive, prefixes)
    context = xmlsec.SignatureContext()
    if algorithm.startswith("hmac"):
        context.key = xmlsec.Key.from_binary_data(xmlsec.constants.KeyDataHmac, certificate)
    else:
        xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(signature))
        context.key = xmlsec.Key.from_memory(private, xmlsec.constants.KeyDataFormatPem)
        context.key.load_cert_from_memory(shown or certificate, xmlsec.constants.KeyDataFormatPem)
    xmlsec.tree.add_ids(element, ["ID"])
    context.sign(signature)
    return signature


def signed(response, *, assertion=True, whole=False, **how):
    """A response with the signatures that identity providers make: on the assertion, on the whole, or on both."""
    root = response.xml() if isinstance(response, Response) else copy.deepcopy(response)
    if assertion:
        sign(root.find("saml:Assertion", NS), **how)
    if whole:
        sign(root, **how)
    return etree.fromstring(etree.tostring(root))  # lxml does not find by name what xmlsec put in


CIPHERS = {"aes256-gcm": xmlsec.Transform.AES256_GCM, "aes128-gcm": xmlsec.Transform.AES128_GCM,
           "aes256-cbc": xmlsec.Transform.AES256}  # fmt: skip
TRANSPORTS = {"oaep": xmlsec.Transform.RSA_OAEP, "rsa15": xmlsec.Transform.RSA_PKCS1}


def encrypt(root, certificate, *, cipher="aes256-gcm", transport="oaep"):
    """Encrypt the assertion of a response in its place."""
    assertion = root.find("saml:Assertion", NS)
    at = root.index(assertion)
    root.remove(assertion)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem))
    data = xmlsec.template.encrypted_data_create(root, CIPHERS[cipher], type=xmlsec.constants.TypeEncElement, ns="xenc")
    xmlsec.template.encrypted_data_ensure_cipher_value(data)
    info = xmlsec.template.encrypted_data_ensure_key_info(data, ns="ds")
    wrapped = xmlsec.template.add_encrypted_key(info, TRANSPORTS[transport])
    xmlsec.template.encrypted_data_ensure_cipher_value(wrapped)
    context = xmlsec.EncryptionContext(manager)
    size = 128 if "128" in cipher else 256
    context.key = xmlsec.Key.generate(xmlsec.constants.KeyDataAes, size, xmlsec.constants.KeyDataTypeSession)
    outer = etree.Element(f"{{{SAML}}}EncryptedAssertion", nsmap={"saml": SAML})
    root.insert(at, outer)
    outer.append(assertion)
    encrypted = context.encrypt_xml(data, assertion)
    if encrypted.getparent() is not outer:
        outer[:] = [encrypted]
    return root


def encoded(root):
    """The bytes of a response, or a tree, in base64, as a browser posts them."""
    return base64.b64encode(root if isinstance(root, bytes) else etree.tostring(root)).decode()


# --- metadata ---------------------------------------------------------------------------------------------------------


def metadata(*, entity_id=ENTITY_ID, certificates=None, addresses=None, attributes="", of_idp="", more=""):
    """The metadata of the identity provider: more than 1,000 characters, as AWS asks."""
    addresses = addresses or {"SingleSignOnService": "https://idp.example.com/sso"}
    keys = "".join(
        f'<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="{DS}"><ds:X509Data><ds:X509Certificate>'
        f"{der(one)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        for one in (certificates or [key_pair()[1]])
    )
    services = "".join(
        f'<md:{kind} Binding="urn:oasis:names:tc:SAML:2.0:bindings:{binding}" Location={quoteattr(address)}/>'
        for kind, address in addresses.items()
        for binding in ("HTTP-Redirect", "HTTP-POST")
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
        f" entityID={quoteattr(entity_id)}{attributes}>{more}<md:IDPSSODescriptor{of_idp}"
        f' protocolSupportEnumeration="{SAMLP}">{keys}{services}</md:IDPSSODescriptor></md:EntityDescriptor>'
    )


__all__ = ["NOW", "Response", "encoded", "encrypt", "key_pair", "metadata", "replace", "sign", "signed"]
