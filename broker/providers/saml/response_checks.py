"""Every check that a SAML response passes before its assertion is accepted, one step after the other.

Pure: clock, keys and addresses are arguments. A step raises the error that the caller gets; ``log`` says more, to the
operator alone. Nothing of the message counts before its signature is verified. After that only the bytes that were
signed are read, parsed again by themselves: against signature wrapping, where a signed element stands beside a forged
one (THREATS D).
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple, NoReturn
from xml.sax.saxutils import quoteattr

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from broker.providers.authentication_age import MAX_AUTHENTICATION_AGE, AuthenticationTooOld
from broker.providers.saml.encryption import decrypt
from iam.errors import ExpiredTokenException, IDPRejectedClaim, InvalidIdentityToken
from iam.saml.metadata import parse_timestamp
from iam.saml.signature import DS, BadSignature, PublicKey, Signature, read_signature
from iam.saml.xml import Element, InvalidXml, children, collapse, local_name, only_child, parse_xml, text_of
from sts.federation.saml import ATTRIBUTES, names_memberships

SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_ASSERTIONS = (f"{SAML}Assertion", f"{SAML}EncryptedAssertion")
_MIN_LENGTH, _MAX_LENGTH = 4, 100_000  # characters: STS API reference, AssumeRoleWithSAML, SAMLAssertion
_ID = re.compile(r"[A-Za-z_][\w.-]{0,254}", re.ASCII)
_MAX_VALIDITY = timedelta(days=1)  # bounds how long the id of a used assertion must be remembered
_MAX_NAME_ID = 1024  # characters


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
class _CheckState:
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
        return bool(self.assertion.tag == f"{SAML}EncryptedAssertion")


def check_response(text: str, expected: ExpectedResponse) -> Assertion:
    """Return what a response in base64 says; raise InvalidIdentityToken, ExpiredTokenException, IDPRejectedClaim."""
    work = _CheckState(text, expected)
    for step in STEPS:
        step.run(work)
    return _assertion(work)


def run_checks(text: str, expected: ExpectedResponse) -> Iterator[tuple["Step", Exception | None]]:
    """Yield each step with its error, or None; the first error is the last of them."""
    work = _CheckState(text, expected)
    for step in STEPS:
        try:
            step.run(work)
        except _REFUSALS as error:
            yield step, error
            return
        yield step, None


_REFUSALS = (InvalidIdentityToken, ExpiredTokenException, IDPRejectedClaim)


def _refuse(message: str, detail: object = "") -> NoReturn:
    raise InvalidIdentityToken(message, log=f"{message} ({detail})" if detail else message)


def _assertion(work: _CheckState) -> Assertion:
    return Assertion(**work.found)  # type: ignore[arg-type]  # each step puts in what its name says


# --- bytes and structure ----------------------------------------------------------------------------------------------


def _decode_base64(work: _CheckState) -> None:
    if not _MIN_LENGTH <= len(work.text) <= _MAX_LENGTH:
        _refuse(f"SAMLResponse must have {_MIN_LENGTH} to {_MAX_LENGTH} characters")
    try:
        # RFC 2045, section 6.8, breaks lines; missing padding and other characters are refused.
        work.data = a2b_base64(_WHITE_SPACE.sub("", work.text), strict_mode=True)
    except ValueError as error:
        _refuse("Invalid base64 SAMLResponse", error)


_WHITE_SPACE = re.compile(r"[ \t\r\n]+")


def _parse_xml(work: _CheckState) -> None:
    try:
        work.response = work.envelope = parse_xml(work.data)
    except InvalidXml as wrong:
        _refuse("SAMLResponse is not acceptable XML", wrong)


def _check_is_response(work: _CheckState) -> None:
    root = work.response
    if root.tag != f"{SAMLP}Response":
        _refuse("SAMLResponse is not a response", root.tag)
    if root.get("Version") != "2.0":
        _refuse("Response is not of SAML 2.0")
    if not root.get("ID") or not root.get("IssueInstant"):  # Core, section 3.2.2: both are required
        _refuse("Response has no ID or no IssueInstant")


def _check_status(work: _CheckState) -> None:
    status = _require_child(work.response, f"{SAMLP}Status")
    code = _require_child(status, f"{SAMLP}StatusCode")
    if _uri(code, "Value") != SUCCESS:
        below = [_uri(one, "Value") for one in code.iter(f"{SAMLP}StatusCode")]
        told = " / ".join(map(_status_name, below[:2]))
        message = only_child(status, f"{SAMLP}StatusMessage")
        detail = "" if message is None else (message.text or "")[:500]
        raise IDPRejectedClaim(f"The identity provider answered {told}", log=f"status {told}: {detail}")


def _status_name(value: str) -> str:
    """Return the short name of a status; it is not signed, so no other text of it gets onto a page."""
    name = value.removeprefix(_STATUS)
    return name if _STATUS_NAME.fullmatch(name) else "an unknown status"


_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
_STATUS_NAME = re.compile(r"[A-Za-z]{1,40}")


def _find_assertion(work: _CheckState) -> None:
    root = work.response
    known = {f"{SAML}Issuer", f"{DS}Signature", f"{SAMLP}Extensions", f"{SAMLP}Status", *_ASSERTIONS}
    unknown = [child.tag for child in root if child.tag not in known]
    everywhere = list(root.iter(*_ASSERTIONS))
    if unknown or len(everywhere) != 1 or everywhere[0].getparent() is not root:
        _refuse("Response must hold exactly one assertion", f"{len(everywhere)} assertions, {unknown[:3]}")
    work.assertion = everywhere[0]


def _check_response_ids(work: _CheckState) -> None:
    _check_ids([work.response])


def _check_ids(roots: Iterable[Element]) -> None:
    """Refuse invalid and duplicate ids, in attributes of any namespace: a signature refers to its element by id."""
    ids = [
        value
        for root in roots
        for element in root.iter()
        for name, value in element.items()
        if name.rpartition("}")[2].lower() == "id"
    ]
    invalid = [value for value in ids if not _ID.fullmatch(value)]
    if invalid or len(set(ids)) != len(ids):
        _refuse("Response has an id twice, or one that is none", invalid[:1])


def _read_signatures(work: _CheckState) -> None:
    root, assertion = work.response, work.assertion
    on_response = list(children(root, f"{DS}Signature"))
    on_assertion = list(children(assertion, f"{DS}Signature"))
    everywhere = list(root.iter(f"{DS}Signature"))
    if len(everywhere) != len(on_response) + len(on_assertion) or len(on_response) > 1:
        _refuse(_BAD_SIGNATURE, "a signature elsewhere than on response and assertion, or one too many")
    if work.encrypted and not on_response:  # to decrypt for anybody would be an oracle for the text (THREATS D26)
        _refuse(_BAD_SIGNATURE, "an encrypted assertion in a response without signature")
    try:
        if on_response:
            work.response_signature = read_signature(root)
        if not work.encrypted:
            work.assertion_signature = read_signature(assertion)
    except BadSignature as wrong:
        _refuse(_BAD_SIGNATURE, wrong)


_BAD_SIGNATURE = "Response signature invalid"


# --- signatures and encryption ----------------------------------------------------------------------------------------


def _verify_response_signature(work: _CheckState) -> None:
    if work.response_signature is None:
        return
    # It is digested before the assertion's own signature is taken out of the same tree.
    work.envelope = _verify_signature(work.response_signature, work.expected)


def _decrypt_assertion(work: _CheckState) -> None:
    if not work.encrypted:
        if work.expected.encryption_required:
            _refuse("Response has an assertion that is not encrypted, and must be")
        return
    try:
        inside = _parse_decrypted(work.assertion, decrypt(work.assertion, work.expected.decryption))
    except InvalidXml as wrong:
        _refuse("Response has an assertion that cannot be decrypted", wrong)
    if inside.tag != f"{SAML}Assertion" or len(list(inside.iter(*_ASSERTIONS))) != 1:
        _refuse("Response must hold exactly one assertion", f"encrypted: {local_name(inside)}")
    if len(list(inside.iter(f"{DS}Signature"))) != 1:
        _refuse(_BAD_SIGNATURE, "an encrypted assertion without signature, or with several")
    _check_ids([work.response, inside])
    try:
        work.assertion, work.assertion_signature = inside, read_signature(inside)
    except BadSignature as wrong:
        _refuse(_BAD_SIGNATURE, wrong)


def _parse_decrypted(encrypted: Element, text: bytes) -> Element:
    """Return the element that was encrypted; it may use the namespaces that were in scope where it stood."""
    spaces = "".join(f" xmlns{prefix and f':{prefix}'}={quoteattr(name)}" for prefix, name in _namespaces(encrypted))
    around = parse_xml(f"<around{spaces}>".encode() + text + b"</around>")
    if len(around) != 1 or around.text or around[0].tail:
        raise InvalidXml("what was encrypted is not one element")
    return around[0]


def _namespaces(element: Element) -> Iterator[tuple[str, str]]:
    yield from ((prefix or "", name) for prefix, name in element.nsmap.items())


def _verify_assertion_signature(work: _CheckState) -> None:
    work.assertion = _verify_signature(work.assertion_signature, work.expected)


def _verify_signature(signature: Signature, expected: ExpectedResponse) -> Element:
    """Return the element that was signed, parsed again from the signed bytes."""
    try:
        return parse_xml(signature.verify(expected.keys))
    except (BadSignature, InvalidXml) as wrong:
        _refuse(_BAD_SIGNATURE, wrong)


# --- what the signed assertion says -----------------------------------------------------------------------------------


def _check_issuer(work: _CheckState) -> None:
    if work.assertion.get("Version") != "2.0":
        _refuse("Assertion is not of SAML 2.0")
    element = _require_child(work.assertion, f"{SAML}Issuer")
    if _uri(element, "Format", _ENTITY) != _ENTITY:
        _refuse("Issuer is no entity", element.get("Format"))
    issuer = collapse(_text(element))
    outside = [collapse(_text(child)) for child in children(work.envelope, f"{SAML}Issuer")]
    if issuer != work.expected.entity_id or any(name != issuer for name in outside):
        _refuse("Issuer not present in specified provider", f"{[issuer, *outside]} for {work.expected.entity_id}")
    work.found |= {"id": work.assertion.get("ID", ""), "issuer": issuer}


_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"


def _check_destination(work: _CheckState) -> None:
    destination = work.envelope.get("Destination")
    if destination is None and work.response_signature is None:
        return
    if destination is None or not work.expected.is_recipient(collapse(destination)):
        _refuse("Response was not sent to this address", f"Destination {destination}")


def _check_issue_instant(work: _CheckState) -> None:
    issued = _moment(work.assertion, "IssueInstant")
    if issued is None:
        _refuse("Assertion does not say when it was issued")
    _check_not_in_future(issued, work.expected)
    age = work.expected.now - issued
    if work.expected.max_age is not None and age > work.expected.max_age:
        minutes = int(work.expected.max_age.total_seconds() // 60)
        raise ExpiredTokenException(
            f"Token must be redeemed within {minutes} minutes of issuance",
            log=f"issued {int(age.total_seconds())} s ago",
        )
    work.found["issued_at"] = issued


def _check_conditions(work: _CheckState) -> None:
    conditions = _require_child(work.assertion, f"{SAML}Conditions")
    unknown = [child.tag for child in conditions if child.tag not in _CONDITIONS]
    if unknown:  # Core, section 2.5.1: what is not understood makes the assertion invalid
        _refuse("Assertion has a condition that is not known", unknown[:3])
    not_before, until = _moment(conditions, "NotBefore"), _moment(conditions, "NotOnOrAfter")
    if not_before is not None:
        _check_not_in_future(not_before, work.expected)
    if until is not None:
        _check_not_expired(until, work.expected, "Conditions")
        _check_validity_span(until, work)


_CONDITIONS = (f"{SAML}AudienceRestriction", f"{SAML}OneTimeUse", f"{SAML}ProxyRestriction")


def _check_audience(work: _CheckState) -> None:
    conditions = _require_child(work.assertion, f"{SAML}Conditions")
    # Core, section 2.5.1.4: the restrictions all count, the audiences of one are alternatives.
    restrictions = [
        [collapse(_text(audience)) for audience in children(restriction, f"{SAML}Audience")]
        for restriction in children(conditions, f"{SAML}AudienceRestriction")
    ]
    if not restrictions or not all(any(map(work.expected.is_audience, names)) for names in restrictions):
        _refuse("Response does not contain the required audience.", restrictions)


def _read_subject(work: _CheckState) -> None:
    subject = _require_child(work.assertion, f"{SAML}Subject")
    name = _require_child(subject, f"{SAML}NameID")
    value = _text(name)
    if not value or value != value.strip() or len(value) > _MAX_NAME_ID:
        _refuse("Subject has no NameID, or one that begins or ends with white space")
    qualifiers = name.get("NameQualifier", ""), name.get("SPNameQualifier", "")
    work.found["subject"] = NameId(value, _uri(name, "Format", UNSPECIFIED), qualifiers)


UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"


def _check_confirmation(work: _CheckState) -> None:
    """Check the bearer's confirmation: Profiles, section 4.1.4.2."""
    confirmation = _require_child(_require_child(work.assertion, f"{SAML}Subject"), f"{SAML}SubjectConfirmation")
    if _uri(confirmation, "Method") != BEARER:
        _refuse("Subject is not confirmed as its bearer", confirmation.get("Method"))
    data = _require_child(confirmation, f"{SAML}SubjectConfirmationData")
    until, recipient = _moment(data, "NotOnOrAfter"), data.get("Recipient")
    if until is None or recipient is None or "NotBefore" in data.attrib:
        _refuse("SubjectConfirmationData must have Recipient and NotOnOrAfter, and no NotBefore")
    recipient = collapse(recipient)
    if not work.expected.is_recipient(recipient):
        _refuse("Response was not sent to this address", f"Recipient {recipient}")
    _check_not_expired(until, work.expected, "SubjectConfirmationData")
    _check_validity_span(until, work)
    in_response_to, outside = data.get("InResponseTo"), work.envelope.get("InResponseTo")
    if outside is not None and outside != in_response_to:
        _refuse("Response and assertion answer different requests", f"{outside} and {in_response_to}")
    work.found |= {
        "recipient": recipient,
        "in_response_to": in_response_to,
        "usable_until": until + work.expected.skew,
    }


def _check_authn_statements(work: _CheckState) -> None:
    statements = list(children(work.assertion, f"{SAML}AuthnStatement"))
    if not statements:
        _refuse("Assertion does not say when the user signed in")
    instants = [
        _moment(statement, "AuthnInstant") or _refuse("AuthnStatement has no AuthnInstant") for statement in statements
    ]
    for instant in instants:
        _check_not_in_future(instant, work.expected)
        if work.expected.now - instant >= MAX_AUTHENTICATION_AGE:
            asked = work.found["in_response_to"]
            raise AuthenticationTooOld(f"AuthnInstant {instant}", str(asked) if asked is not None else None)
    ends = [end for end in (_moment(each, "SessionNotOnOrAfter") for each in statements) if end is not None]
    for end in ends:
        _check_not_expired(end, work.expected, "SessionNotOnOrAfter")
    indexes = [statement.get("SessionIndex") for statement in statements if "SessionIndex" in statement.attrib]
    work.found |= {
        "authenticated_at": max(instants),
        "session_until": min(ends, default=None),
        "session_index": indexes[0] if indexes else None,
    }


def _read_attributes(work: _CheckState) -> None:
    """Read the attributes; one that policies could not use anyway is dropped, with the reason."""
    found: dict[str, tuple[str, ...]] = {}
    dropped: list[str] = []
    for statement in children(work.assertion, f"{SAML}AttributeStatement"):
        for attribute in statement:
            name = attribute.get("Name", "")
            values = _readable_values(attribute)
            if name and values is not None:
                found[name] = found.get(name, ()) + values
            else:
                dropped.append(name)
    if any(name.lower().endswith("/groups.link") for name in found):
        _refuse("Assertion leaves out the groups: the user is in too many for it", "groups.link of Entra ID")
    if half_read := found.keys() & set(dropped):
        _refuse("Assertion has an attribute that cannot be read", min(half_read)[:200])
    reasons = (f"attribute {name[:200]!r}: it has no Name, or a value that is no text" for name in dropped)
    work.found |= {"attributes": MappingProxyType(found), "dropped": tuple(reasons)}


def _readable_values(attribute: Element) -> tuple[str, ...] | None:
    """Return the values of an attribute, or None where they cannot be read.

    Refuses the response where a value that a policy may name could be missing: a Deny for it would not hold
    (THREATS J12).
    """
    name = attribute.get("Name", "")
    if attribute.tag != f"{SAML}Attribute":
        _refuse("Assertion has an attribute that cannot be read", attribute.tag)
    given = [value for value in children(attribute, f"{SAML}AttributeValue") if value.get(_NIL) not in ("true", "1")]
    values = tuple(value for value in map(_value, given) if value is not None)
    if len(values) == len(given):
        return values
    is_membership = any(map(names_memberships, (name, attribute.get("FriendlyName", ""))))
    if values or name.startswith(ATTRIBUTES) or is_membership:
        _refuse("Assertion has an attribute that cannot be read", name[:200])
    return None


_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def _value(element: Element) -> str | None:
    """Return the text of a value, or None; eduPersonTargetedID has a NameID as its value (eduPerson, 2.2.10)."""
    inside = only_child(element, f"{SAML}NameID") if len(element) == 1 else None
    try:
        return text_of(element if inside is None else inside)
    except InvalidXml:
        return None


# --- small parts ------------------------------------------------------------------------------------------------------


def _require_child(element: Element, name: str) -> Element:
    try:
        found = only_child(element, name)
    except InvalidXml as wrong:
        _refuse("Response has a part twice", wrong)
    if found is None:
        _refuse(f"Response lacks {name.rpartition('}')[2]}")
    return found


def _uri(element: Element, name: str, default: str = "") -> str:
    """Return an attribute that is an anyURI; blanks around it are no part of it."""
    return collapse(element.get(name, default))


def _text(element: Element) -> str:
    try:
        return text_of(element)
    except InvalidXml as wrong:
        _refuse("Response has a part that cannot be read", wrong)


def _moment(element: Element, name: str) -> datetime | None:
    text = element.get(name)
    try:
        return None if text is None else parse_timestamp(text)
    except InvalidXml as wrong:
        _refuse(f"{name} is no time in UTC", wrong)


def _check_not_in_future(at: datetime, expected: ExpectedResponse) -> None:
    ahead = at - expected.now
    if ahead > expected.skew:
        seconds = int(ahead.total_seconds())
        _refuse(f"Assertion is not valid yet: the identity provider's clock is {seconds} s ahead")


def _check_not_expired(until: datetime, expected: ExpectedResponse, what: str) -> None:
    if expected.now - expected.skew >= until:  # subtracted: a year 9999 plus the skew would overflow
        over = int((expected.now - until).total_seconds())
        raise ExpiredTokenException("Token has expired", log=f"{what}: over for {over} s")


def _check_validity_span(until: datetime, work: _CheckState) -> None:
    if until - work.expected.now > _MAX_VALIDITY:
        _refuse("Assertion is valid for more than a day", until)


class Step(NamedTuple):
    """One check: its name, and the clause that asks for it."""

    name: str
    clause: str
    run: Callable[[_CheckState], None]


STEPS: tuple[Step, ...] = (
    Step("base64", "Bindings, 3.5.4; STS API, SAMLAssertion", _decode_base64),
    Step("strict XML", "Core, 5.4.5; OWASP XXE", _parse_xml),
    Step("a response", "Core, 3.2.2 and 3.3.3", _check_is_response),
    Step("status", "Core, 3.2.2.2", _check_status),
    Step("one assertion", "Profiles, 4.1.4.2", _find_assertion),
    Step("ids", "Core, 1.3.4; XML Signature, 4.4.3.2", _check_response_ids),
    Step("form of the signatures", "Core, 5.4", _read_signatures),
    Step("signature of the response", "XML Signature, 3.2", _verify_response_signature),
    Step("decryption", "XML Encryption, 5.2.4 and 5.5.2", _decrypt_assertion),
    Step("signature of the assertion", "XML Signature, 3.2; Profiles, 4.1.4.3", _verify_assertion_signature),
    Step("issuer", "Profiles, 4.1.4.2", _check_issuer),
    Step("destination", "Bindings, 3.5.5.2", _check_destination),
    Step("time of issue", "STS API, AssumeRoleWithSAML", _check_issue_instant),
    Step("conditions", "Core, 2.5.1", _check_conditions),
    Step("audience", "Core, 2.5.1.4", _check_audience),
    Step("subject", "Core, 2.4.1", _read_subject),
    Step("confirmation", "Profiles, 4.1.4.2 and 4.1.4.3", _check_confirmation),
    Step("sign-in", "Core, 2.7.2", _check_authn_statements),
    Step("attributes", "Core, 2.7.3", _read_attributes),
)
