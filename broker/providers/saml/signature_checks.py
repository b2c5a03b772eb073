"""The checks of a SAML response up to its signatures: before they are verified, nothing that it says counts.

Pure. What later steps read is parsed again from the bytes that were signed.
"""

import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import quoteattr

from broker.providers.saml.encryption import decrypt
from broker.providers.saml.response_parts import (
    ASSERTIONS,
    SAML,
    SAMLP,
    CheckState,
    ExpectedResponse,
    Step,
    read_uri,
    refuse,
    require_child,
)
from iam.errors import IDPRejectedClaim
from iam.saml.signature import DS, BadSignature, Signature, read_signature
from iam.saml.xml import Element, InvalidXml, children, local_name, only_child, parse_xml

SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_MIN_LENGTH, _MAX_LENGTH = 4, 100_000  # characters: STS API reference, AssumeRoleWithSAML, SAMLAssertion
_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_ID = re.compile(r"[A-Za-z_][\w.-]{0,254}", re.ASCII)
_STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
_STATUS_NAME = re.compile(r"[A-Za-z]{1,40}")
_BAD_SIGNATURE = "Response signature invalid"


def _decode_base64(work: CheckState) -> None:
    if not _MIN_LENGTH <= len(work.text) <= _MAX_LENGTH:
        refuse(f"SAMLResponse must have {_MIN_LENGTH} to {_MAX_LENGTH} characters")
    try:
        # RFC 2045, section 6.8, breaks lines; missing padding and other characters are refused.
        work.data = a2b_base64(_WHITE_SPACE.sub("", work.text), strict_mode=True)
    except ValueError as error:
        refuse("Invalid base64 SAMLResponse", error)


def _parse_xml(work: CheckState) -> None:
    try:
        work.response = work.envelope = parse_xml(work.data)
    except InvalidXml as wrong:
        refuse("SAMLResponse is not acceptable XML", wrong)


def _check_is_response(work: CheckState) -> None:
    root = work.response
    if root.tag != f"{SAMLP}Response":
        refuse("SAMLResponse is not a response", root.tag)
    if root.get("Version") != "2.0":
        refuse("Response is not of SAML 2.0")
    if not root.get("ID") or not root.get("IssueInstant"):  # Core, section 3.2.2: both are required
        refuse("Response has no ID or no IssueInstant")


def _check_status(work: CheckState) -> None:
    status = require_child(work.response, f"{SAMLP}Status")
    code = require_child(status, f"{SAMLP}StatusCode")
    if read_uri(code, "Value") != SUCCESS:
        below = [read_uri(one, "Value") for one in code.iter(f"{SAMLP}StatusCode")]
        told = " / ".join(map(_status_name, below[:2]))
        message = only_child(status, f"{SAMLP}StatusMessage")
        detail = "" if message is None else (message.text or "")[:500]
        raise IDPRejectedClaim(f"The identity provider answered {told}", log=f"status {told}: {detail}")


def _status_name(value: str) -> str:
    """Return the short name of a status; it is not signed, so no other text of it gets onto a page."""
    name = value.removeprefix(_STATUS)
    return name if _STATUS_NAME.fullmatch(name) else "an unknown status"


def _find_assertion(work: CheckState) -> None:
    root = work.response
    known = {f"{SAML}Issuer", f"{DS}Signature", f"{SAMLP}Extensions", f"{SAMLP}Status", *ASSERTIONS}
    unknown = [child.tag for child in root if child.tag not in known]
    everywhere = list(root.iter(*ASSERTIONS))
    if unknown or len(everywhere) != 1 or everywhere[0].getparent() is not root:
        refuse("Response must hold exactly one assertion", f"{len(everywhere)} assertions, {unknown[:3]}")
    work.assertion = everywhere[0]


def _check_response_ids(work: CheckState) -> None:
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
        refuse("Response has an id twice, or one that is none", invalid[:1])


def _read_signatures(work: CheckState) -> None:
    root, assertion = work.response, work.assertion
    on_response = list(children(root, f"{DS}Signature"))
    on_assertion = list(children(assertion, f"{DS}Signature"))
    everywhere = list(root.iter(f"{DS}Signature"))
    if len(everywhere) != len(on_response) + len(on_assertion) or len(on_response) > 1:
        refuse(_BAD_SIGNATURE, "a signature elsewhere than on response and assertion, or one too many")
    if work.encrypted and not on_response:  # to decrypt for anybody would be an oracle for the text (THREATS D26)
        refuse(_BAD_SIGNATURE, "an encrypted assertion in a response without signature")
    try:
        if on_response:
            work.response_signature = read_signature(root)
        if not work.encrypted:
            work.assertion_signature = read_signature(assertion)
    except BadSignature as wrong:
        refuse(_BAD_SIGNATURE, wrong)


def _verify_response_signature(work: CheckState) -> None:
    if work.response_signature is None:
        return
    # It is digested before the assertion's own signature is taken out of the same tree.
    work.envelope = _verify_signature(work.response_signature, work.expected)


def _decrypt_assertion(work: CheckState) -> None:
    if not work.encrypted:
        if work.expected.encryption_required:
            refuse("Response has an assertion that is not encrypted, and must be")
        return
    try:
        inside = _parse_decrypted(work.assertion, decrypt(work.assertion, work.expected.decryption))
    except InvalidXml as wrong:
        refuse("Response has an assertion that cannot be decrypted", wrong)
    if inside.tag != f"{SAML}Assertion" or len(list(inside.iter(*ASSERTIONS))) != 1:
        refuse("Response must hold exactly one assertion", f"encrypted: {local_name(inside)}")
    if len(list(inside.iter(f"{DS}Signature"))) != 1:
        refuse(_BAD_SIGNATURE, "an encrypted assertion without signature, or with several")
    _check_ids([work.response, inside])
    try:
        work.assertion, work.assertion_signature = inside, read_signature(inside)
    except BadSignature as wrong:
        refuse(_BAD_SIGNATURE, wrong)


def _parse_decrypted(encrypted: Element, text: bytes) -> Element:
    """Return the element that was encrypted; it may use the namespaces that were in scope where it stood."""
    spaces = "".join(f" xmlns{prefix and f':{prefix}'}={quoteattr(name)}" for prefix, name in _namespaces(encrypted))
    around = parse_xml(f"<around{spaces}>".encode() + text + b"</around>")
    if len(around) != 1 or around.text or around[0].tail:
        raise InvalidXml("what was encrypted is not one element")
    return around[0]


def _namespaces(element: Element) -> Iterator[tuple[str, str]]:
    yield from ((prefix or "", name) for prefix, name in element.nsmap.items())


def _verify_assertion_signature(work: CheckState) -> None:
    work.assertion = _verify_signature(work.assertion_signature, work.expected)


def _verify_signature(signature: Signature, expected: ExpectedResponse) -> Element:
    """Return the element that was signed, parsed again from the signed bytes."""
    try:
        return parse_xml(signature.verify(expected.keys))
    except (BadSignature, InvalidXml) as wrong:
        refuse(_BAD_SIGNATURE, wrong)


SIGNATURE_STEPS: tuple[Step, ...] = (
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
)
