"""What a SAML response must fit and what it says, the state of its checks, and how they read its elements.

Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, NoReturn

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iam.errors import InvalidIdentityToken
from iam.saml.metadata import parse_timestamp
from iam.saml.signature import PublicKey, Signature
from iam.saml.xml import Element, InvalidXml, collapse, only_child, text_of

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
ASSERTIONS = (f"{SAML}Assertion", f"{SAML}EncryptedAssertion")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedResponse:
    """What a response must fit: who issued it, for whom, where it was sent, and when.

    ``is_recipient`` tells whether an address is one of ours, ``is_audience`` whether a name is. ``max_age`` is how long
    ago it may have been issued; None sets no limit.
    """

    entity_id: str
    keys: Sequence[PublicKey]
    is_audience: Callable[[str], bool]
    is_recipient: Callable[[str], bool]
    now: datetime
    skew: timedelta
    max_age: timedelta | None = None
    decryption: Sequence[RSAPrivateKey] = ()
    encryption_required: bool = False


class NameId(NamedTuple):
    """Who somebody is at the identity provider."""

    value: str
    format: str
    qualifiers: tuple[str, str]  # NameQualifier, SPNameQualifier


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a verified response says; times are in UTC.

    ``usable_until`` is when a replay would be refused for its age anyway; ``session_until`` ends the session it begins.
    ``dropped`` says which attributes are not used, and why.
    """

    id: str
    issuer: str
    subject: NameId
    recipient: str
    in_response_to: str | None
    issued_at: datetime
    authenticated_at: datetime
    usable_until: datetime
    session_until: datetime | None
    session_index: str | None
    attributes: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()


@dataclass(slots=True)
class CheckState:
    """A response on its way through the steps; each adds what it has read."""

    text: str
    expected: ExpectedResponse
    data: bytes = b""
    response: Element = field(init=False)
    envelope: Element = field(init=False)  # the response around the assertion: as it was signed, where it was
    response_signature: Signature | None = None
    assertion: Element = field(init=False)  # as it came; after its signature was verified, as it was signed
    assertion_signature: Signature = field(init=False)
    found: dict[str, object] = field(default_factory=dict)

    @property
    def encrypted(self) -> bool:
        """Return whether the assertion came encrypted and is not decrypted yet."""
        return bool(self.assertion.tag == f"{SAML}EncryptedAssertion")


class Step(NamedTuple):
    """One check: its name, and the clause that asks for it."""

    name: str
    clause: str
    run: Callable[[CheckState], None]


def refuse(message: str, detail: object = "") -> NoReturn:
    """Raise InvalidIdentityToken; ``detail`` is for the log alone."""
    raise InvalidIdentityToken(message, log=f"{message} ({detail})" if detail else message)


def require_child(element: Element, name: str) -> Element:
    """Return the one child of a name; refuse a response that lacks it or has it twice."""
    try:
        found = only_child(element, name)
    except InvalidXml as wrong:
        refuse("Response has a part twice", wrong)
    if found is None:
        refuse(f"Response lacks {name.rpartition('}')[2]}")
    return found


def read_uri(element: Element, name: str, default: str = "") -> str:
    """Return an attribute that is an anyURI; blanks around it are no part of it."""
    return collapse(element.get(name, default))


def read_text(element: Element) -> str:
    """Return the text of an element; refuse a response where it has anything else."""
    try:
        return text_of(element)
    except InvalidXml as wrong:
        refuse("Response has a part that cannot be read", wrong)


def read_time(element: Element, name: str) -> datetime | None:
    """Return the time in an attribute, None without it; refuse what is no time in UTC."""
    text = element.get(name)
    try:
        return None if text is None else parse_timestamp(text)
    except InvalidXml as wrong:
        refuse(f"{name} is no time in UTC", wrong)
