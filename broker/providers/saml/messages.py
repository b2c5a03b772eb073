"""Messages of our SAML service provider to identity providers: requests, responses and its own metadata, all signed.

Pure: time, ids and keys are arguments. Source: SAML 2.0 Core, sections 3.4 and 3.7; Bindings, sections 3.4 and 3.5;
Metadata, section 2.4. python3-saml signs and writes the metadata. The messages are built as trees: its templates do not
escape what they are filled with, so that a NameID could add elements to a signed message.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from lxml import etree
from onelogin.saml2.metadata import OneLogin_Saml2_Metadata as Metadata
from onelogin.saml2.utils import OneLogin_Saml2_Utils as Utils

from broker.providers.saml.addresses import ServiceProviderUrls
from iam.clock import iso8601, to_seconds
from iam.saml.metadata import MD, POST, REDIRECT

_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
_SPACES = {"samlp": _SAMLP, "saml": _SAML}
_RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_ANY_NAME = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_CACHE_DURATION = 86_400  # seconds: a new key of ours must be known everywhere before it signs
_VALID_FOR = timedelta(days=3650)  # most administrators upload a file once
_LOGOUT_VALID_FOR = timedelta(minutes=5)  # time for a browser to carry the request


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key that signs for the service provider, and its certificate, both in PEM."""

    private: bytes
    certificate: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a browser to carry to ``address``; ``parameter`` is SAMLRequest or SAMLResponse."""

    address: str
    parameter: str
    xml: bytes
    relay_state: str | None = None


def authn_request(
    sp: ServiceProviderUrls,
    address: str,
    message_id: str,
    now: datetime,
    relay_state: str,
    *,
    force_authn: bool = False,
) -> Message:
    """Return the request to sign somebody in, to be answered by POST at our ACS; ``force_authn``: anew."""
    root = _root("AuthnRequest", sp, address, message_id, now)
    root.set("ProtocolBinding", POST)
    root.set("AssertionConsumerServiceURL", sp.acs)
    if force_authn:
        root.set("ForceAuthn", "true")  # Core, section 3.4.1
    etree.SubElement(root, f"{{{_SAMLP}}}NameIDPolicy", AllowCreate="true")
    return Message(address, "SAMLRequest", etree.tostring(root), relay_state)


def logout_request(
    sp: ServiceProviderUrls, address: str, message_id: str, now: datetime, person: tuple[str, str, str | None]
) -> Message:
    """Return the request to sign a person out, given as NameID, its format, and the session's index if there is one."""
    name, name_format, index = person
    root = _root("LogoutRequest", sp, address, message_id, now)
    root.set("NotOnOrAfter", iso8601(now + _LOGOUT_VALID_FOR))
    etree.SubElement(root, f"{{{_SAML}}}NameID", Format=name_format).text = name
    if index is not None:
        etree.SubElement(root, f"{{{_SAMLP}}}SessionIndex").text = index
    return Message(address, "SAMLRequest", etree.tostring(root), message_id)


def logout_response(
    sp: ServiceProviderUrls,
    address: str,
    message_id: str,
    now: datetime,
    *,
    in_response_to: str,
    relay_state: str | None,
) -> Message:
    """Return the response that somebody was signed out."""
    root = _root("LogoutResponse", sp, address, message_id, now)
    root.set("InResponseTo", in_response_to)
    status = etree.SubElement(root, f"{{{_SAMLP}}}Status")
    etree.SubElement(status, f"{{{_SAMLP}}}StatusCode", Value=_SUCCESS)
    return Message(address, "SAMLResponse", etree.tostring(root), relay_state)


def _root(name: str, sp: ServiceProviderUrls, address: str, message_id: str, now: datetime) -> etree._Element:
    attributes = {"ID": message_id, "Version": "2.0", "IssueInstant": iso8601(now), "Destination": address}
    root = etree.Element(f"{{{_SAMLP}}}{name}", attributes, _SPACES)
    etree.SubElement(root, f"{{{_SAML}}}Issuer").text = sp.entity_id
    return root


# --- how a message travels --------------------------------------------------------------------------------------------


def redirect_url(message: Message, key: SigningKey) -> str:
    """Return the URL with the signed message to which a browser is redirected (Bindings, section 3.4.4.1)."""
    parts = {message.parameter: Utils.deflate_and_base64_encode(message.xml.decode())}
    if message.relay_state is not None:
        parts["RelayState"] = message.relay_state
    signed = urlencode(parts | {"SigAlg": _RSA_SHA256})
    signature = b64encode(Utils.sign_binary(signed.encode(), key.private)).decode()
    joint = "&" if "?" in message.address else "?"
    return f"{message.address}{joint}{signed}&{urlencode({'Signature': signature})}"


def post_fields(message: Message, key: SigningKey) -> dict[str, str]:
    """Return the fields of the form with the signed message that a browser posts (Bindings, section 3.5.4)."""
    signed = Utils.add_sign(message.xml, key.private, key.certificate)
    fields = {message.parameter: b64encode(signed if isinstance(signed, bytes) else signed.encode()).decode()}
    return fields | ({} if message.relay_state is None else {"RelayState": message.relay_state})


def choose_binding(addresses: Mapping[str, str]) -> tuple[str, str] | None:
    """Return binding and address for a message to an identity provider: by redirect, where it takes that."""
    return next(((binding, addresses[binding]) for binding in (REDIRECT, POST) if binding in addresses), None)


# --- metadata ---------------------------------------------------------------------------------------------------------


def metadata(sp: ServiceProviderUrls, key: SigningKey, certificates: Sequence[str], now: datetime) -> bytes:
    """Return the signed metadata of the service provider; ``certificates`` are all that may sign, now or soon."""
    settings = {
        "entityId": sp.entity_id,
        "NameIDFormat": _ANY_NAME,
        "assertionConsumerService": {"url": sp.acs, "binding": POST},
        "singleLogoutService": {"url": sp.logout, "binding": REDIRECT},
    }
    text = Metadata.builder(
        settings, authnsign=True, wsign=True, valid_until=to_seconds(now + _VALID_FOR), cache_duration=_CACHE_DURATION
    )
    # The builder puts each key before those that are there; many identity providers use the first alone, so the key
    # that signs now comes first.
    for certificate in reversed(certificates):
        text = Metadata.add_x509_key_descriptors(text, certificate, add_encryption=certificate == key.certificate)
    root = etree.fromstring(text)
    redirected = root.find(f".//{MD}SingleLogoutService")
    if redirected is None:
        raise ValueError("python3-saml wrote metadata without a SingleLogoutService")
    posted = etree.Element(f"{MD}SingleLogoutService", Binding=POST, Location=sp.logout)
    redirected.addnext(posted)
    signed = Metadata.sign_metadata(etree.tostring(root), key.private, key.certificate)
    return signed if isinstance(signed, bytes) else signed.encode()
