"""Responses that nobody may believe (THREATS D): each makes one from a good response, and names the answer it must get.

`FAULTS` are refused wherever a response is handed in. What only one door refuses stands in the tests of that door.
"""

import base64
import copy
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import xmlsec
from lxml import etree

from support.saml_idp import (
    DS,
    ENTITY_ID,
    NS,
    SAML,
    SAMLP,
    Response,
    encoded,
    encrypt,
    key_pair,
    metadata,
    sign,
    signed,
)

INVALID, EXPIRED, REJECTED = "InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim"
SIGNATURE = "Response signature invalid"
EVIL = "evil"


@dataclass(frozen=True)
class Fault:
    """``make`` returns the text to hand in; ``code`` and the beginning of ``message`` are the answer."""

    make: Callable[[Response], str]
    message: str = ""
    code: str = INVALID


def assertion_of(root):
    return root.find("saml:Assertion", NS)


def signature_of(element):
    return element.find("ds:Signature", NS)


def evil_twin(assertion, *, with_signature=False, new_id="_evil"):
    """A copy that names somebody else."""
    twin = copy.deepcopy(assertion)
    twin.find("saml:Subject/saml:NameID", NS).text = EVIL
    if new_id:
        twin.set("ID", new_id)
    if not with_signature:
        twin.remove(signature_of(twin))
    return twin


def elements(name, *children, space=SAMLP):
    made = etree.Element(f"{{{space}}}{name}")
    made.extend(children)
    return made


def tree(change: Callable[[etree._Element], None], **how) -> Callable[[Response], str]:
    """A good response whose tree is changed after it was signed."""

    def make(good):
        root = signed(good, **how)
        changed = change(root)
        return encoded(root if changed is None else changed)

    return make


def text(change: Callable[[bytes], bytes], **how) -> Callable[[Response], str]:
    """A good response whose bytes are changed after it was signed."""
    return lambda good: encoded(change(etree.tostring(signed(good, **how))))


def swap(old: bytes, new: bytes, **how):
    def change(data):
        assert old in data, old
        return data.replace(old, new)

    return text(change, **how)


def said(**changes) -> Callable[[Response], str]:
    """A response that its identity provider has properly signed, and that says something else."""
    return lambda good: encoded(signed(replace(good, **changes)))


# --- signature wrapping -----------------------------------------------------------------------------------------------


def xsw1(root):
    original = copy.deepcopy(root)
    original.remove(signature_of(original))
    root.set("ID", "_evil")
    twin = evil_twin(assertion_of(root))
    root.replace(assertion_of(root), twin)
    signature_of(root).append(original)


def xsw2(root):
    original = copy.deepcopy(root)
    original.remove(signature_of(original))
    root.set("ID", "_evil")
    root.replace(assertion_of(root), evil_twin(assertion_of(root)))
    root.insert(root.index(signature_of(root)), original)


def xsw3(root):
    root.insert(root.index(assertion_of(root)), evil_twin(assertion_of(root)))


def xsw4(root):
    original = assertion_of(root)
    twin = evil_twin(original)
    root.replace(original, twin)
    twin.append(original)


def xsw5(root):
    original = assertion_of(root)
    bare = copy.deepcopy(original)
    bare.remove(signature_of(bare))
    root.replace(original, evil_twin(original, with_signature=True))
    root.append(bare)


def xsw6(root):
    original = assertion_of(root)
    twin = evil_twin(original, with_signature=True)
    bare = copy.deepcopy(original)
    bare.remove(signature_of(bare))
    root.replace(original, twin)
    signature_of(twin).append(bare)


def xsw7(root):
    root.insert(0, elements("Extensions", evil_twin(assertion_of(root), new_id="")))


def xsw8(root):
    original = assertion_of(root)
    twin = evil_twin(original, with_signature=True, new_id="")
    bare = copy.deepcopy(original)
    bare.remove(signature_of(bare))
    root.replace(original, twin)
    signature_of(twin).append(elements("Object", bare, space=DS))


def wrap_behind(root):
    root.append(evil_twin(assertion_of(root)))


def wrap_same_id_behind(root):
    root.append(evil_twin(assertion_of(root), new_id=""))


def wrap_same_id_before(root):
    root.insert(0, evil_twin(assertion_of(root), new_id=""))


def wrap_in_advice(root):
    original = assertion_of(root)
    twin = evil_twin(original, with_signature=True)
    root.replace(original, twin)
    twin.append(elements("Advice", original, space=SAML))


def wrap_in_response(root):
    twin = copy.deepcopy(root)
    twin.replace(assertion_of(twin), evil_twin(assertion_of(twin)))
    twin.set("ID", "_evil")
    twin.append(root)
    return twin


def wrap_in_extensions(root):
    original = assertion_of(root)
    root.replace(original, evil_twin(original))
    root.insert(1, elements("Extensions", original))


def wrap_signature_moved_up(root):
    original = assertion_of(root)
    signature = signature_of(original)
    original.remove(signature)
    root.insert(1, signature)
    root.insert(2, evil_twin_of_bare(original))


def evil_twin_of_bare(assertion):
    twin = copy.deepcopy(assertion)
    twin.find("saml:Subject/saml:NameID", NS).text = EVIL
    twin.set("ID", "_evil")
    return twin


def wrap_two_signatures(root):
    twin = evil_twin(assertion_of(root), with_signature=True)
    twin.insert(1, copy.deepcopy(signature_of(twin)))
    root.replace(assertion_of(root), twin)


def wrap_renamed_original(root):
    """The original under a name of another namespace, the evil one in its place with its signature."""
    original = assertion_of(root)
    twin = evil_twin(original, with_signature=True)
    root.replace(original, twin)
    original.tag = "{urn:other}Assertion"
    root.append(original)


def wrap_reference_to_response(root):
    """The evil assertion takes the signature of the whole response."""
    signature = signature_of(root)
    root.remove(signature)
    twin = evil_twin(assertion_of(root), new_id=root.get("ID"))
    root.set("ID", "_evil")
    twin.insert(1, signature)
    root.replace(assertion_of(root), twin)


def wrap_subject_twice(root):
    assertion = assertion_of(root)
    subject = copy.deepcopy(assertion.find("saml:Subject", NS))
    subject.find("saml:NameID", NS).text = EVIL
    assertion.insert(2, subject)


def wrap_subject_changed(root):
    assertion_of(root).find("saml:Subject/saml:NameID", NS).text = EVIL


def wrap_attribute_added(root):
    value = elements("AttributeValue", space=SAML)
    value.text = EVIL
    attribute = elements("Attribute", value, space=SAML)
    attribute.set("Name", "https://aws.amazon.com/SAML/Attributes/Role")
    assertion_of(root).append(elements("AttributeStatement", attribute, space=SAML))


WRAPS = {
    **{f"XSW{number}": (change, {"whole": number < 3}) for number, change in enumerate(
        (xsw1, xsw2, xsw3, xsw4, xsw5, xsw6, xsw7, xsw8), 1)},
    "evil assertion behind the signed one": (wrap_behind, {}),
    "evil assertion behind it under its id": (wrap_same_id_behind, {}),
    "evil assertion before it under its id": (wrap_same_id_before, {}),
    "signed assertion as advice of the evil one": (wrap_in_advice, {}),
    "signed response within an evil one": (wrap_in_response, {"whole": True}),
    "signed assertion in extensions": (wrap_in_extensions, {}),
    "signature moved to the response": (wrap_signature_moved_up, {}),
    "signature twice on the evil one": (wrap_two_signatures, {}),
    "signed assertion under another namespace": (wrap_renamed_original, {}),
    "signature of the response on the evil one": (wrap_reference_to_response, {"whole": True}),
    "second subject": (wrap_subject_twice, {}),
    "subject changed": (wrap_subject_changed, {}),
    "attribute added": (wrap_attribute_added, {}),
}  # fmt: skip


# --- signatures that prove nothing ------------------------------------------------------------------------------------


def unsigned(good):
    return encoded(good.xml())


def empty_signature(root):
    signature = signature_of(assertion_of(root))
    signature[:] = []


def empty_value(root):
    signature_of(assertion_of(root)).find("ds:SignatureValue", NS).text = ""


def in_signed_info(change):
    def changed(root):
        change(signature_of(assertion_of(root)).find("ds:SignedInfo", NS))

    return tree(changed)


def no_reference(info):
    info.remove(info.find("ds:Reference", NS))


def second_reference(uri):
    def change(info):
        reference = copy.deepcopy(info.find("ds:Reference", NS))
        reference.set("URI", uri)
        info.append(reference)

    return change


def many_references(info):
    info.extend(copy.deepcopy(info.find("ds:Reference", NS)) for _ in range(100))


def transform(algorithm, content=""):
    def change(info):
        transforms = info.find("ds:Reference/ds:Transforms", NS)
        transforms.insert(0, etree.fromstring(f'<ds:Transform xmlns:ds="{DS}" Algorithm="{algorithm}">{content}'
                                              "</ds:Transform>"))  # fmt: skip

    return change


def many_transforms(info):
    transforms = info.find("ds:Reference/ds:Transforms", NS)
    transforms.extend(copy.deepcopy(transforms[0]) for _ in range(400))


def only_transform(which):
    def change(info):
        transforms = info.find("ds:Reference/ds:Transforms", NS)
        transforms.remove(transforms[which])

    return change


def set_algorithm(path, algorithm):
    def change(info):
        info.find(path, NS).set("Algorithm", algorithm)

    return change


def parameter(path, child):
    def change(info):
        info.find(path, NS).append(etree.fromstring(child))

    return change


def uri(value):
    def change(info):
        reference = info.find("ds:Reference", NS)
        if value is None:
            del reference.attrib["URI"]
        else:
            reference.set("URI", value)

    return change


def digest_of_nothing(root):
    value = signature_of(assertion_of(root)).find("ds:SignedInfo/ds:Reference/ds:DigestValue", NS)
    value.text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def other_key(**how):
    return lambda good: encoded(signed(good, key=key_pair("mallory"), **how))


def relative_namespace(good):
    return encoded(signed(replace(good, more='<x:y xmlns:x="relative"/>')))


def relative_namespace_later(root):
    assertion_of(root).append(etree.fromstring('<x:y xmlns:x="relative"/>'))


XSLT = '<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform" version="1.0"/>'
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
SIGNATURES = {
    "D02 no signature": unsigned,
    "D02 empty Signature": tree(empty_signature),
    "D02 empty SignatureValue": tree(empty_value),
    "D02 no Reference": in_signed_info(no_reference),
    "D03 another key with its own certificate": other_key(),
    "D03 another key showing our certificate": other_key(shown=key_pair()[1]),
    "D04 HMAC keyed with the certificate": lambda good: encoded(signed(good, algorithm="hmac-sha256")),
    "D05 RSA-SHA1": lambda good: encoded(signed(good, algorithm="rsa-sha1")),
    "D05 digest SHA1": lambda good: encoded(signed(good, digest=xmlsec.Transform.SHA1)),
    "D05 RSA-MD5": in_signed_info(set_algorithm("ds:SignatureMethod", f"{MORE}rsa-md5")),
    "D05 DSA-SHA1": in_signed_info(set_algorithm("ds:SignatureMethod", f"{DS}dsa-sha1")),
    "D05 no algorithm": in_signed_info(set_algorithm("ds:SignatureMethod", "")),
    "D06 second reference to a file": in_signed_info(second_reference("file:///dev/stdin")),
    "D06 second reference to the web": in_signed_info(second_reference("http://127.0.0.1:9/x")),
    "D06 reference to a file": in_signed_info(uri("file:///etc/passwd")),
    "D06 reference to nothing": in_signed_info(uri("")),
    "D06 no URI": in_signed_info(uri(None)),
    "D06 XPointer": in_signed_info(uri("#xpointer(/)")),
    "D06 reference with a type": in_signed_info(lambda info: info.find("ds:Reference", NS).set("Type", "x")),
    "D07 XSLT": in_signed_info(transform("http://www.w3.org/TR/1999/REC-xslt-19991116", XSLT)),
    "D07 XPath": in_signed_info(transform("http://www.w3.org/TR/1999/REC-xpath-19991116",
                                          f'<ds:XPath xmlns:ds="{DS}">not(.)</ds:XPath>')),
    "D07 base64": in_signed_info(transform(f"{DS}base64")),
    "D07 400 transforms": in_signed_info(many_transforms),
    "D07 100 references": in_signed_info(many_references),
    "D07 no canonical form": in_signed_info(only_transform(1)),
    "D07 not enveloped": in_signed_info(only_transform(0)),
    "D07 canonical form with comments": in_signed_info(
        set_algorithm("ds:CanonicalizationMethod", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments")),
    "D07 inclusive canonical form": in_signed_info(
        set_algorithm("ds:Reference/ds:Transforms/ds:Transform[2]", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315")),
    "D07 length of an HMAC": in_signed_info(
        parameter("ds:SignatureMethod", f'<ds:HMACOutputLength xmlns:ds="{DS}">1</ds:HMACOutputLength>')),
    "D07 parameters of a digest": in_signed_info(parameter("ds:Reference/ds:DigestMethod", '<x xmlns="urn:x"/>')),
    "D07 parameters of enveloped": in_signed_info(
        parameter("ds:Reference/ds:Transforms/ds:Transform[1]", '<x xmlns="urn:x"/>')),
    "D07 parameters of the canonical form": in_signed_info(
        parameter("ds:CanonicalizationMethod", '<x xmlns="urn:x"/>')),
    "D08 digest of nothing": tree(digest_of_nothing),
    "D08 relative namespace": tree(relative_namespace_later),
    "D11 only the response signed": lambda good: encoded(signed(good, assertion=False, whole=True)),
    "D11 response signed by somebody else": lambda good: encoded(_both(good)),
    "signature value no base64": tree(lambda root: _set(root, "ds:SignatureValue", "*")),
    "digest value no base64": tree(lambda root: _set(root, "ds:SignedInfo/ds:Reference/ds:DigestValue", "*")),
    "KeyInfo before the value": tree(lambda root: _reorder(signature_of(assertion_of(root)))),
}  # fmt: skip


def _both(good):
    root = signed(good)
    sign(root, key=key_pair("mallory"))
    return root


def _set(root, path, value):
    signature_of(assertion_of(root)).find(path, NS).text = value


def _reorder(signature):
    signature.insert(0, signature.find("ds:KeyInfo", NS))


# --- bytes that parsers read differently ------------------------------------------------------------------------------


def recoded(codec, mark=b""):
    def change(data):
        return mark + data.decode().encode(codec)

    return text(change)


def before(prolog):
    return text(lambda data: prolog + data)


def with_name(inside):
    """Put something into the name of somebody who signed in properly, where parsers may read a part only."""
    return swap(b">ann<", b">ann" + inside + b"<")


ENTITIES = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'
BYTES = {
    "D09 id of another namespace": swap(b' ID="_response1"', b' ID="_response1" xmlns:x="urn:x" x:ID="_assertion1"'),
    "D09 xml:id": swap(b' ID="_response1"', b' ID="_response1" xml:id="_assertion1"'),
    "D09 id in small letters": swap(b' ID="_response1"', b' ID="_response1" id="_assertion1"'),
    "D09 id that is none": swap(b' ID="_response1"', b' ID="1 2"'),
    "D10 comment in NameID": with_name(b"<!-- -->.evil"),
    "D10 comment anywhere": swap(b"<saml:Subject>", b"<!-- --><saml:Subject>"),
    "D10 processing instruction in NameID": with_name(b"<?x y?>.evil"),
    "D10 element in NameID": with_name(b"<saml:x/>.evil"),
    "D21 DOCTYPE": before(b"<!DOCTYPE r>"),
    "D21 external entity": before(b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "D21 external entity of the web": before(b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd">'),
    "D21 parameter entity": before(b'<!DOCTYPE r [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>'),
    "D21 billion laughs": before(ENTITIES),
    "D21 DOCTYPE behind": text(lambda data: data + b"<!DOCTYPE r>"),
    "D21 entity without a DTD": with_name(b"&x;"),
    "D22 UTF-16": recoded("utf-16"),
    "D22 UTF-16 without a mark": recoded("utf-16-le"),
    "D22 UTF-7": before(b'<?xml version="1.0" encoding="UTF-7"?>'),
    "D22 Latin-1": before(b'<?xml version="1.0" encoding="ISO-8859-1"?>'),
    "D22 XML 1.1": before(b'<?xml version="1.1"?>'),
    "D22 no version": before(b'<?xml encoding="UTF-8"?>'),
    "D22 NUL": text(lambda data: data + b"\0"),
    "D22 NUL inside": with_name(b"\0"),
    "D22 bad UTF-8": with_name(b"\xff"),
    "D22 overlong UTF-8": with_name(b"\xc0\xae"),
    "D22 two documents": text(lambda data: data + data),
    "D22 text behind": text(lambda data: data + b"x"),
    "D22 stylesheet": before(b'<?xml-stylesheet href="x"?>'),
    "not XML": lambda _good: base64.b64encode(b"hello").decode(),
    "nothing": lambda _good: base64.b64encode(b" " * 10).decode(),
    "not base64": lambda _good: "%%%%",
    "base64 without its padding": lambda good: _unpadded(encoded(signed(good))),
    "base64 of URLs": lambda _good: "PHg_-_x=",
    "D24 deflated": lambda good: base64.b64encode(zlib.compress(etree.tostring(signed(good)))[2:-4]).decode(),
    "nested deeply": text(lambda data: data.replace(b"<saml:Subject>", b"<x>" * 300 + b"<saml:Subject>", 1)),
    "very deep": lambda _good: base64.b64encode(b"<x>" * 20_000).decode(),
}  # fmt: skip


def _unpadded(value):
    while not value.endswith("="):
        value = base64.b64encode(base64.b64decode(value) + b" ").decode()
    return value.rstrip("=")


# --- a wrong message --------------------------------------------------------------------------------------------------


def logout_response(good):
    root = etree.fromstring(
        f'<samlp:LogoutResponse xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_l" Version="2.0"'
        f' IssueInstant="2026-11-25T12:00:00Z"><saml:Issuer>{good.issuer}</saml:Issuer>{good.status}'
        "</samlp:LogoutResponse>"
    )
    sign(root)
    return encoded(root)


def bare_assertion(good):
    return encoded(etree.tostring(assertion_of(signed(good))))


def signed_metadata(_good):
    root = etree.fromstring(metadata(attributes=' ID="_m"').encode())
    sign(root)
    return encoded(root)


def two_signed(good):
    root = signed(good)
    other = assertion_of(signed(replace(good, assertion_id="_assertion2", id="_response2")))
    root.append(other)
    return encoded(root)


def no_assertion(good):
    root = good.xml()
    root.remove(assertion_of(root))
    sign(root)
    return encoded(root)


def version(old, new):
    def make(good):
        root = good.xml()
        element = root if old == "response" else assertion_of(root)
        element.set("Version", new)
        return encoded(signed(root))

    return make


def drop(path):
    """A properly signed assertion that lacks a part."""

    def make(good):
        root = good.xml()
        part = root.find(path, NS)
        part.getparent().remove(part)
        return encoded(signed(root))

    return make


def twice(path):
    def make(good):
        root = good.xml()
        part = root.find(path, NS)
        part.addnext(copy.deepcopy(part))
        return encoded(signed(root))

    return make


def _without_time(good):
    root = good.xml()
    data = root.find("saml:Assertion/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData", NS)
    del data.attrib["NotOnOrAfter"]
    return encoded(signed(root))


def _bad_time(good):
    root = good.xml()
    assertion_of(root).set("IssueInstant", "2026-11-25T12:00:00+00:00")
    return encoded(signed(root))


def _response_lacks(name):
    """A response without an attribute that it must have; the assertion alone is signed."""

    def fault(good):
        root = signed(good.xml())
        del root.attrib[name]
        return encoded(root)

    return fault


def _asked_outside(good):
    root = replace(good, in_response_to=None).xml()
    root.set("InResponseTo", "_of_somebody_else")
    return signed(root)


def status(code, below="", text=""):
    inside = f'<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{below}"/>' if below else ""
    told = f"<samlp:StatusMessage>{text}</samlp:StatusMessage>" if text else ""
    return (
        f'<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{code}">{inside}'
        f"</samlp:StatusCode>{told}</samlp:Status>"
    )


ASSERTION = "saml:Assertion/saml:"
MESSAGES = {
    "D27 Responder": Fault(said(status=status("Responder")), "The identity provider answered Responder", REJECTED),
    "D27 AuthnFailed": Fault(said(status=status("Responder", "AuthnFailed", "No")),
                             "The identity provider answered Responder / AuthnFailed", REJECTED),
    "D27 AuthnFailed without assertion": Fault(
        lambda good: no_assertion(replace(good, status=status("Requester"))), "The identity provider answered",
        REJECTED),
    "a status with a text of its own": Fault(
        said(status=status("Call +1 800 555 0")), "The identity provider answered an unknown status", REJECTED),
    "no status": Fault(said(status=""), "Response lacks Status"),
    "status twice": Fault(lambda good: said(status=good.status * 2)(good), "Response has a part twice"),
    "D28 another issuer": Fault(said(issuer="https://other.example.com", response_issuer=None),
                                "Issuer not present in specified provider"),
    "D28 another issuer outside": Fault(said(response_issuer="https://other.example.com"),
                                        "Issuer not present in specified provider"),
    "D28 issuer in other case": Fault(said(issuer=ENTITY_ID.upper(), response_issuer=None),
                                      "Issuer not present in specified provider"),
    "D28 no issuer": Fault(drop(f"{ASSERTION}Issuer"), "Response lacks Issuer"),
    "D29 LogoutResponse": Fault(logout_response, "SAMLResponse is not a response"),
    "D29 metadata": Fault(signed_metadata, "SAMLResponse is not a response"),
    "D29 bare assertion": Fault(bare_assertion, "SAMLResponse is not a response"),
    "two assertions, both signed": Fault(two_signed, "Response must hold exactly one assertion"),
    "no assertion": Fault(no_assertion, "Response must hold exactly one assertion"),
    "response of SAML 1.1": Fault(version("response", "1.1"), "Response is not of SAML 2.0"),
    "assertion of SAML 1.1": Fault(version("assertion", "1.1"), "Assertion is not of SAML 2.0"),
    "no Subject": Fault(drop(f"{ASSERTION}Subject"), "Response lacks Subject"),
    "Subject twice": Fault(twice(f"{ASSERTION}Subject"), "Response has a part twice"),
    "no NameID": Fault(drop(f"{ASSERTION}Subject/saml:NameID"), "Response lacks NameID"),
    "NameID twice": Fault(twice(f"{ASSERTION}Subject/saml:NameID"), "Response has a part twice"),
    "NameID with white space": Fault(said(subject="ann "), "Subject has no NameID, or one that begins or ends"),
    "NameID empty": Fault(said(subject=""), "Subject has no NameID"),
    "NameID of 1,025 characters": Fault(said(subject="a" * 1025), "Subject has no NameID"),
    "no SubjectConfirmation": Fault(drop(f"{ASSERTION}Subject/saml:SubjectConfirmation"),
                                    "Response lacks SubjectConfirmation"),
    "SubjectConfirmation twice": Fault(twice(f"{ASSERTION}Subject/saml:SubjectConfirmation"),
                                       "Response has a part twice"),
    "sender-vouches": Fault(said(method="urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"),
                            "Subject is not confirmed as its bearer"),
    "no SubjectConfirmationData": Fault(
        drop(f"{ASSERTION}Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData"),
        "Response lacks SubjectConfirmationData"),
    "D14 no Recipient": Fault(said(recipient=None), "SubjectConfirmationData must have Recipient and NotOnOrAfter"),
    "D14 NotBefore": Fault(said(confirmation=' NotBefore="2026-11-25T11:00:00Z"'),
                           "SubjectConfirmationData must have Recipient and NotOnOrAfter"),
    "D14 no NotOnOrAfter": Fault(_without_time, "SubjectConfirmationData must have Recipient"),
    "D16 no restriction": Fault(said(audiences=()), "Response does not contain the required audience."),
    "D16 empty restriction": Fault(said(audiences=((),)), "Response does not contain the required audience."),
    "D16 another audience": Fault(said(audiences=(("https://other.example.com",),)),
                                  "Response does not contain the required audience."),
    "D16 one restriction of two": Fault(
        lambda good: said(audiences=(*good.audiences, ("https://other.example.com",)))(good),
        "Response does not contain the required audience."),
    "D16 audience begins with ours": Fault(
        lambda good: said(audiences=((f"{good.audiences[0][0]}.evil.example",),))(good),
        "Response does not contain the required audience."),
    "D16 audience is the beginning of ours": Fault(
        lambda good: said(audiences=((good.audiences[0][0][:-1],),))(good),
        "Response does not contain the required audience."),
    "D16 audience in other case": Fault(
        lambda good: said(audiences=((good.audiences[0][0].upper(),),))(good),
        "Response does not contain the required audience."),
    "D17 unknown condition": Fault(said(conditions="<saml:Condition/>"), "Assertion has a condition that is not known"),
    "D17 condition of others": Fault(said(conditions='<x:y xmlns:x="urn:x"/>'),
                                     "Assertion has a condition that is not known"),
    "no Conditions": Fault(drop(f"{ASSERTION}Conditions"), "Response lacks Conditions"),
    "Conditions twice": Fault(twice(f"{ASSERTION}Conditions"), "Response has a part twice"),
    "no AuthnStatement": Fault(drop(f"{ASSERTION}AuthnStatement"), "Assertion does not say when the user signed in"),
    "response without ID": Fault(_response_lacks("ID"), "Response has no ID or no IssueInstant"),
    "response without IssueInstant": Fault(_response_lacks("IssueInstant"), "Response has no ID or no IssueInstant"),
    "time with an offset": Fault(_bad_time, "IssueInstant is no time in UTC"),
    "encrypted attribute": Fault(
        said(more="<saml:AttributeStatement><saml:EncryptedAttribute/></saml:AttributeStatement>"),
        "Assertion has an attribute that cannot be read"),
    "role with elements": Fault(
        said(more='<saml:AttributeStatement><saml:Attribute Name="role"><saml:AttributeValue>x<y/>'
                  "</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>"),
        "Assertion has an attribute that cannot be read"),
    "InResponseTo outside alone": Fault(lambda good: encoded(_asked_outside(good)),
                                        "Response and assertion answer different requests"),
}  # fmt: skip


# --- times ------------------------------------------------------------------------------------------------------------


def at(**moments) -> Callable[[Response], str]:
    """A properly signed response with other times, given in seconds from now."""
    return lambda good: said(**{name: good.now + timedelta(seconds=value) for name, value in moments.items()})(good)


NEVER = "9999-12-31T23:59:59.9999999Z"


def never(name):
    """A properly signed response in which one time is the last there is."""

    def make(good):
        root = good.xml()
        found = [one for one in root.iter() if one.get(name) is not None]
        found[-1].set(name, NEVER)
        sign(assertion_of(root))
        return encoded(root)

    return make


def heavy(good):
    """A signature whose canonical form would cost minutes, before any key is asked (its size is 60 kB)."""
    root = signed(good)
    info = signature_of(assertion_of(root)).find("ds:SignedInfo", NS)
    prefixes = " ".join(f"p{number}" for number in range(500))
    spaces = " ".join(f'xmlns:p{number}="urn:{number}"' for number in range(500))
    text = etree.tostring(root).decode()
    start = text.index("<ds:SignedInfo") + len("<ds:SignedInfo")
    text = f"{text[:start]} {spaces}{text[start:]}"
    listed = f'<ec:InclusiveNamespaces xmlns:ec="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="{prefixes}"/>'
    method = '<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"'
    text = text.replace(f"{method}/>", f"{method}>{listed}{'<x/>' * 5000}</ds:CanonicalizationMethod>", 1)
    assert info is not None
    return encoded(text.encode())


DAY = 86_400
TIMES = {
    "D12 Conditions over": Fault(at(until=-61), "Token has expired", EXPIRED),
    "D12 confirmation over": Fault(at(confirmed_until=-61), "Token has expired", EXPIRED),
    "D12 session over": Fault(at(session_until=-61), "Token has expired", EXPIRED),
    "issued in the future": Fault(
        at(issued=90), "Assertion is not valid yet: the identity provider's clock is 90 s ahead"),
    "valid in the future": Fault(
        at(not_before=3_600), "Assertion is not valid yet: the identity provider's clock is 3600 s ahead"),
    "signed in in the future": Fault(
        at(authenticated=90), "Assertion is not valid yet: the identity provider's clock is 90 s ahead"),
    "valid for ten years": Fault(at(until=3650 * DAY), "Assertion is valid for more than a day"),
    "confirmed for ten years": Fault(at(confirmed_until=3650 * DAY), "Assertion is valid for more than a day"),
    "valid for ever": Fault(never("NotOnOrAfter"), "Assertion is valid for more than a day"),
    "signed in at the end of time": Fault(
        never("AuthnInstant"), "Assertion is not valid yet: the identity provider's clock is"),
    "issued at the end of time": Fault(
        never("IssueInstant"), "Assertion is not valid yet: the identity provider's clock is"),
    "signed in 30 days ago": Fault(at(authenticated=-30 * DAY), "The user signed in too long ago", EXPIRED),
}  # fmt: skip


# --- addresses --------------------------------------------------------------------------------------------------------


def address(field, change):
    return lambda good: said(**{field: change(getattr(good, field))})(good)


ELSEWHERE = {
    f"D15 {field} {how}": Fault(address(field, change), "Response was not sent to this address")
    for field in ("recipient", "destination")
    for how, change in {
        "begins with ours": lambda ours: f"{ours}.evil.example",
        "is the beginning of ours": lambda ours: ours[:-1],
        "contains ours": lambda ours: f"https://evil.example/?{ours}",
        "in other case": str.upper,
        "with a slash": lambda ours: f"{ours}/",
        "with a query": lambda ours: f"{ours}?x",
        "is empty": lambda _ours: "",
        "is elsewhere": lambda _ours: "https://evil.example/acs",
    }.items()
} | {
    "signed response without Destination": Fault(
        lambda good: encoded(signed(replace(good, destination=None), whole=True)),
        "Response was not sent to this address"),
}  # fmt: skip


def crowded(good):
    spaces = " ".join(f'xmlns:n{number}="urn:{number}"' for number in range(1500)).encode()
    return encoded(etree.tostring(signed(good)).replace(b"<samlp:Status>", b"<samlp:Status " + spaces + b">"))


WEIGHTY = {
    "heavy canonical form": Fault(heavy),
    "namespaces within one another": Fault(crowded, "SAMLResponse is not acceptable XML"),
}  # fmt: skip

FAULTS: dict[str, Fault] = (
    {f"D01 {name}": Fault(tree(change, **how)) for name, (change, how) in WRAPS.items()}
    | {name: Fault(make, SIGNATURE) for name, make in SIGNATURES.items()}
    | {name: Fault(make) for name, make in BYTES.items()}
    | MESSAGES
    | TIMES
    | ELSEWHERE
    | WEIGHTY
)


# --- encryption: the certificate is that of whoever reads -------------------------------------------------------------


def encrypting(certificate, change=None, *, inner=True, outer=True, **how):
    def make(good):
        root = signed(good, assertion=inner)
        if change is not None:
            root = change(root) or root
        encrypt(root, certificate, **how)
        if outer:
            sign(root)
        return encoded(root)

    return make


def encrypted_faults(certificate):
    """What is wrong with encrypted assertions, for the holder of a certificate."""

    def tampered(good):
        root = signed(good)
        encrypt(root, certificate)
        value = root.findall(".//{http://www.w3.org/2001/04/xmlenc#}CipherValue")[-1]
        raw = bytearray(base64.b64decode(value.text))
        raw[-20] ^= 1
        value.text = base64.b64encode(bytes(raw)).decode()
        sign(root)
        return encoded(root)

    def beside_a_plain_one(good):
        root = signed(good)
        evil = evil_twin(assertion_of(root))
        encrypt(root, certificate)
        root.append(evil)
        sign(root)
        return encoded(root)

    cannot = "Response has an assertion that cannot be decrypted"
    return {
        "D25 unsigned inside": Fault(encrypting(certificate, inner=False), SIGNATURE),
        "D25 changed inside": Fault(encrypting(certificate, wrap_subject_changed), SIGNATURE),
        "D25 two inside": Fault(encrypting(certificate, xsw4)),
        "D25 tampered with": Fault(tampered, cannot),
        "D25 beside a plain one": Fault(beside_a_plain_one, "Response must hold exactly one assertion"),
        "D25 response unsigned": Fault(encrypting(certificate, outer=False), SIGNATURE),
        "D25 for somebody else": Fault(encrypting(key_pair("mallory")[1]), cannot),
        "D26 CBC": Fault(encrypting(certificate, cipher="aes256-cbc"), cannot),
        "D26 PKCS 1 1.5": Fault(encrypting(certificate, transport="rsa15"), cannot),
    }
