"""Messages of single logout from an identity provider: only signed ones are accepted, in one strict form.

Pure: time and keys are arguments. Source: SAML 2.0 Core, section 3.7; Bindings, sections 3.4 and 3.5; Profiles,
section 4.4. Nothing is inflated beyond the size of a message (THREATS D24), and only signed bytes are read.
"""

import zlib
from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn
from urllib.parse import unquote_plus

from iam.errors import ExpiredTokenException, InvalidIdentityToken
from iam.saml.metadata import parse_timestamp
from iam.saml.signature import DS, BadSignature, PublicKey, is_signed_by, read_signature
from iam.saml.xml import Element, InvalidXml, children, collapse, only_child, parse_xml, text_of

_SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
_SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_REQUEST, _RESPONSE = "SAMLRequest", "SAMLResponse"
_ROOTS = {_REQUEST: f"{_SAMLP}LogoutRequest", _RESPONSE: f"{_SAMLP}LogoutResponse"}
_NAMES = (_REQUEST, _RESPONSE, "RelayState", "SigAlg", "Signature", "SAMLEncoding")
_MAX_LENGTH = 100_000  # characters, deflated or not
_MAX_AGE = timedelta(minutes=5)  # and so how long the id of a message must be remembered
_MAX_INDEXES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLogout:
    """What a message must fit: from whom, to where, and when."""

    entity_id: str
    keys: Sequence[PublicKey]
    address: str
    now: datetime
    skew: timedelta


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A request to sign somebody out; without indexes, of every session. ``usable_until`` is when it is too old."""

    id: str
    subject: str
    indexes: tuple[str, ...]
    usable_until: datetime


@dataclass(frozen=True, slots=True)
class LogoutResponse:
    """Whether the identity provider did what a request of ours asked for."""

    in_response_to: str
    success: bool


def parse_redirect(query: str, expected: ExpectedLogout) -> tuple[LogoutRequest | LogoutResponse, str | None]:
    """Return message and RelayState of the raw query string of a redirect.

    Raise InvalidIdentityToken, ExpiredTokenException. The signature covers the parameters as they were encoded by the
    sender (Bindings, section 3.4.4.1).
    """
    raw = _parameters(query)
    kind = _message_parameter(raw)
    if "SigAlg" not in raw or "Signature" not in raw:
        _refuse(_UNSIGNED)
    signed = "&".join(f"{name}={raw[name]}" for name in (kind, "RelayState", "SigAlg") if name in raw)
    algorithm, signature = unquote_plus(raw["SigAlg"]), _base64(unquote_plus(raw["Signature"]))
    if not any(is_signed_by(algorithm, key, signature, signed.encode()) for key in expected.keys):
        _refuse("Signature of the logout message invalid")
    root = _read(_inflate(_base64(unquote_plus(raw[kind]))))
    if next(root.iter(f"{DS}Signature"), None) is not None:
        _refuse("The logout message is signed twice")
    relay_state = unquote_plus(raw["RelayState"]) if "RelayState" in raw else None
    return _message(root, kind, expected), relay_state


def parse_post(form: Mapping[str, Sequence[str]], expected: ExpectedLogout) -> LogoutRequest | LogoutResponse:
    """Return the message of a form that was posted, with all values of each field.

    Raise InvalidIdentityToken, ExpiredTokenException. Here the signature is inside the XML (Bindings, section 3.5.4).
    """
    kind = _message_parameter([name for name in _ROOTS if len(form.get(name, ())) == 1])
    root = _read(_base64(form[kind][0]))
    if next(children(root, f"{DS}Signature"), None) is None:
        _refuse(_UNSIGNED)
    try:
        root = parse_xml(read_signature(root).verify(expected.keys))
    except (BadSignature, InvalidXml) as wrong:
        _refuse("Signature of the logout message invalid", wrong)
    return _message(root, kind, expected)


_UNSIGNED = "The logout message is not signed"


def _refuse(message: str, detail: object = "") -> NoReturn:
    raise InvalidIdentityToken(message, log=f"{message} ({detail})" if detail else message)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters as they were sent, still encoded; one that comes twice is refused."""
    parameters: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name in parameters:
            _refuse("A parameter of the logout message comes twice")
        if name and name not in _NAMES:  # what the signature does not cover is not read
            _refuse("The logout message has a parameter that is not known")
        parameters[name] = value
    return parameters


def _message_parameter(names: Collection[str]) -> str:
    kinds = [kind for kind in _ROOTS if kind in names]
    if len(kinds) != 1 or "SAMLEncoding" in names:
        _refuse("The request must have either SAMLRequest or SAMLResponse")
    return kinds[0]


def _base64(text: str) -> bytes:
    if len(text) > _MAX_LENGTH:
        _refuse("The logout message is too long")
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        _refuse("The logout message is not base64", error)


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # raw DEFLATE, without zlib's header: RFC 1951
    try:
        text = inflater.decompress(data, _MAX_LENGTH)
    except zlib.error as error:
        _refuse("The logout message cannot be inflated", error)
    if not inflater.eof or inflater.unused_data:
        _refuse("The logout message is too long, or not whole")
    return text


def _read(data: bytes) -> Element:
    try:
        return parse_xml(data)
    except InvalidXml as wrong:
        _refuse("The logout message is not acceptable XML", wrong)


# --- what a signed message says ---------------------------------------------------------------------------------------


def _message(root: Element, kind: str, expected: ExpectedLogout) -> LogoutRequest | LogoutResponse:
    try:
        return _parse_message(root, kind, expected)
    except InvalidXml as wrong:
        _refuse("The logout message has a part that cannot be read", wrong)


def _parse_message(root: Element, kind: str, expected: ExpectedLogout) -> LogoutRequest | LogoutResponse:
    if root.tag != _ROOTS[kind] or root.get("Version") != "2.0" or not root.get("ID"):
        _refuse("The message is not one of single logout", root.tag)
    issuer = only_child(root, f"{_SAML}Issuer")
    if issuer is None or text_of(issuer) != expected.entity_id:
        _refuse("Issuer not present in specified provider")
    if (
        collapse(root.get("Destination", "")) != expected.address
    ):  # a signed message must name it: Bindings, section 3.4.5.2
        _refuse("The logout message was not sent to this address", root.get("Destination"))
    issued = _moment(root, "IssueInstant")
    if issued is None:
        _refuse("The logout message does not say when it was issued")
    if issued - expected.now > expected.skew:
        _refuse(f"The identity provider's clock is {int((issued - expected.now).total_seconds())} s ahead")
    usable_until = issued + _MAX_AGE + expected.skew
    if expected.now >= usable_until:
        raise ExpiredTokenException("The logout message is too old")
    return _parse_request(root, usable_until, expected) if kind == _REQUEST else _parse_response(root)


def _parse_request(root: Element, usable_until: datetime, expected: ExpectedLogout) -> LogoutRequest:
    until = _moment(root, "NotOnOrAfter")
    if until is not None and expected.now - expected.skew >= until:
        raise ExpiredTokenException("The logout message is too old")
    name = only_child(root, f"{_SAML}NameID")
    if name is None:
        _refuse("The logout message names nobody: its NameID must not be encrypted")
    indexes = tuple(text_of(index) for index in children(root, f"{_SAMLP}SessionIndex"))
    if len(indexes) > _MAX_INDEXES:
        _refuse("The logout message names too many sessions")
    return LogoutRequest(root.get("ID", ""), text_of(name), indexes, usable_until)


def _parse_response(root: Element) -> LogoutResponse:
    status = only_child(root, f"{_SAMLP}Status")
    code = None if status is None else only_child(status, f"{_SAMLP}StatusCode")
    in_response_to = root.get("InResponseTo", "")
    return LogoutResponse(in_response_to, success=code is not None and collapse(code.get("Value", "")) == _SUCCESS)


def _moment(element: Element, name: str) -> datetime | None:
    text = element.get(name)
    return None if text is None else parse_timestamp(text)
