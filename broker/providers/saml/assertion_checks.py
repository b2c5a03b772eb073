"""The checks of what a signed SAML assertion says: issuer, address, times, audience, subject, sign-in, attributes.

Pure.
"""

from datetime import datetime, timedelta
from types import MappingProxyType

from broker.providers.authentication_age import MAX_AUTHENTICATION_AGE, AuthenticationTooOld
from broker.providers.saml.response_parts import (
    SAML,
    CheckState,
    ExpectedResponse,
    NameId,
    Step,
    read_text,
    read_time,
    read_uri,
    refuse,
    require_child,
)
from iam.errors import ExpiredTokenException
from iam.saml.xml import Element, InvalidXml, children, collapse, only_child, text_of
from sts.federation.saml import ATTRIBUTES, names_memberships

BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
UNSPECIFIED = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_ENTITY = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity"
_CONDITIONS = (f"{SAML}AudienceRestriction", f"{SAML}OneTimeUse", f"{SAML}ProxyRestriction")
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_MAX_VALIDITY = timedelta(days=1)  # bounds how long the id of a used assertion must be remembered
_MAX_NAME_ID = 1024  # characters


def _check_issuer(work: CheckState) -> None:
    if work.assertion.get("Version") != "2.0":
        refuse("Assertion is not of SAML 2.0")
    element = require_child(work.assertion, f"{SAML}Issuer")
    if read_uri(element, "Format", _ENTITY) != _ENTITY:
        refuse("Issuer is no entity", element.get("Format"))
    issuer = collapse(read_text(element))
    outside = [collapse(read_text(child)) for child in children(work.envelope, f"{SAML}Issuer")]
    if issuer != work.expected.entity_id or any(name != issuer for name in outside):
        refuse("Issuer not present in specified provider", f"{[issuer, *outside]} for {work.expected.entity_id}")
    work.found |= {"id": work.assertion.get("ID", ""), "issuer": issuer}


def _check_destination(work: CheckState) -> None:
    destination = work.envelope.get("Destination")
    if destination is None and work.response_signature is None:
        return
    if destination is None or not work.expected.is_recipient(collapse(destination)):
        refuse("Response was not sent to this address", f"Destination {destination}")


def _check_issue_instant(work: CheckState) -> None:
    issued = read_time(work.assertion, "IssueInstant")
    if issued is None:
        refuse("Assertion does not say when it was issued")
    _check_not_in_future(issued, work.expected)
    age = work.expected.now - issued
    if work.expected.max_age is not None and age > work.expected.max_age:
        minutes = int(work.expected.max_age.total_seconds() // 60)
        raise ExpiredTokenException(
            f"Token must be redeemed within {minutes} minutes of issuance",
            log=f"issued {int(age.total_seconds())} s ago",
        )
    work.found["issued_at"] = issued


def _check_conditions(work: CheckState) -> None:
    conditions = require_child(work.assertion, f"{SAML}Conditions")
    unknown = [child.tag for child in conditions if child.tag not in _CONDITIONS]
    if unknown:  # Core, section 2.5.1: what is not understood makes the assertion invalid
        refuse("Assertion has a condition that is not known", unknown[:3])
    not_before, until = read_time(conditions, "NotBefore"), read_time(conditions, "NotOnOrAfter")
    if not_before is not None:
        _check_not_in_future(not_before, work.expected)
    if until is not None:
        _check_not_expired(until, work.expected, "Conditions")
        _check_validity_span(until, work)


def _check_audience(work: CheckState) -> None:
    conditions = require_child(work.assertion, f"{SAML}Conditions")
    # Core, section 2.5.1.4: the restrictions all count, the audiences of one are alternatives.
    restrictions = [
        [collapse(read_text(audience)) for audience in children(restriction, f"{SAML}Audience")]
        for restriction in children(conditions, f"{SAML}AudienceRestriction")
    ]
    if not restrictions or not all(any(map(work.expected.is_audience, names)) for names in restrictions):
        refuse("Response does not contain the required audience.", restrictions)


def _read_subject(work: CheckState) -> None:
    subject = require_child(work.assertion, f"{SAML}Subject")
    name = require_child(subject, f"{SAML}NameID")
    value = read_text(name)
    if not value or value != value.strip() or len(value) > _MAX_NAME_ID:
        refuse("Subject has no NameID, or one that begins or ends with white space")
    qualifiers = name.get("NameQualifier", ""), name.get("SPNameQualifier", "")
    work.found["subject"] = NameId(value, read_uri(name, "Format", UNSPECIFIED), qualifiers)


def _check_confirmation(work: CheckState) -> None:
    """Check the bearer's confirmation: Profiles, section 4.1.4.2."""
    confirmation = require_child(require_child(work.assertion, f"{SAML}Subject"), f"{SAML}SubjectConfirmation")
    if read_uri(confirmation, "Method") != BEARER:
        refuse("Subject is not confirmed as its bearer", confirmation.get("Method"))
    data = require_child(confirmation, f"{SAML}SubjectConfirmationData")
    until, recipient = read_time(data, "NotOnOrAfter"), data.get("Recipient")
    if until is None or recipient is None or "NotBefore" in data.attrib:
        refuse("SubjectConfirmationData must have Recipient and NotOnOrAfter, and no NotBefore")
    recipient = collapse(recipient)
    if not work.expected.is_recipient(recipient):
        refuse("Response was not sent to this address", f"Recipient {recipient}")
    _check_not_expired(until, work.expected, "SubjectConfirmationData")
    _check_validity_span(until, work)
    in_response_to, outside = data.get("InResponseTo"), work.envelope.get("InResponseTo")
    if outside is not None and outside != in_response_to:
        refuse("Response and assertion answer different requests", f"{outside} and {in_response_to}")
    work.found |= {
        "recipient": recipient,
        "in_response_to": in_response_to,
        "usable_until": until + work.expected.skew,
    }


def _check_authn_statements(work: CheckState) -> None:
    statements = list(children(work.assertion, f"{SAML}AuthnStatement"))
    if not statements:
        refuse("Assertion does not say when the user signed in")
    instants = [
        read_time(statement, "AuthnInstant") or refuse("AuthnStatement has no AuthnInstant") for statement in statements
    ]
    for instant in instants:
        _check_not_in_future(instant, work.expected)
        if work.expected.now - instant >= MAX_AUTHENTICATION_AGE:
            asked = work.found["in_response_to"]
            raise AuthenticationTooOld(f"AuthnInstant {instant}", str(asked) if asked is not None else None)
    ends = [end for end in (read_time(each, "SessionNotOnOrAfter") for each in statements) if end is not None]
    for end in ends:
        _check_not_expired(end, work.expected, "SessionNotOnOrAfter")
    indexes = [statement.get("SessionIndex") for statement in statements if "SessionIndex" in statement.attrib]
    work.found |= {
        "authenticated_at": max(instants),
        "session_until": min(ends, default=None),
        "session_index": indexes[0] if indexes else None,
    }


def _read_attributes(work: CheckState) -> None:
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
        refuse("Assertion leaves out the groups: the user is in too many for it", "groups.link of Entra ID")
    if half_read := found.keys() & set(dropped):
        refuse("Assertion has an attribute that cannot be read", min(half_read)[:200])
    reasons = (f"attribute {name[:200]!r}: it has no Name, or a value that is no text" for name in dropped)
    work.found |= {"attributes": MappingProxyType(found), "dropped": tuple(reasons)}


def _readable_values(attribute: Element) -> tuple[str, ...] | None:
    """Return the values of an attribute, or None where they cannot be read.

    Refuses the response where a value that a policy may name could be missing: a Deny for it would not hold
    (THREATS J12).
    """
    name = attribute.get("Name", "")
    if attribute.tag != f"{SAML}Attribute":
        refuse("Assertion has an attribute that cannot be read", attribute.tag)
    given = [value for value in children(attribute, f"{SAML}AttributeValue") if value.get(_NIL) not in ("true", "1")]
    values = tuple(value for value in map(_value, given) if value is not None)
    if len(values) == len(given):
        return values
    is_membership = any(map(names_memberships, (name, attribute.get("FriendlyName", ""))))
    if values or name.startswith(ATTRIBUTES) or is_membership:
        refuse("Assertion has an attribute that cannot be read", name[:200])
    return None


def _value(element: Element) -> str | None:
    """Return the text of a value, or None; eduPersonTargetedID has a NameID as its value (eduPerson, 2.2.10)."""
    inside = only_child(element, f"{SAML}NameID") if len(element) == 1 else None
    try:
        return text_of(element if inside is None else inside)
    except InvalidXml:
        return None


def _check_not_in_future(at: datetime, expected: ExpectedResponse) -> None:
    ahead = at - expected.now
    if ahead > expected.skew:
        seconds = int(ahead.total_seconds())
        refuse(f"Assertion is not valid yet: the identity provider's clock is {seconds} s ahead")


def _check_not_expired(until: datetime, expected: ExpectedResponse, what: str) -> None:
    if expected.now - expected.skew >= until:  # subtracted: a year 9999 plus the skew would overflow
        over = int((expected.now - until).total_seconds())
        raise ExpiredTokenException("Token has expired", log=f"{what}: over for {over} s")


def _check_validity_span(until: datetime, work: CheckState) -> None:
    if until - work.expected.now > _MAX_VALIDITY:
        refuse("Assertion is valid for more than a day", until)


ASSERTION_STEPS: tuple[Step, ...] = (
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
