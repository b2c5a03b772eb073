"""The gate for SAML responses, alone: what it lets in, and everything that it refuses (THREATS D)."""

import base64
import os
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from support.saml_hostile import FAULTS, WEIGHTY, encrypted_faults, encrypting
from support.saml_idp import (
    ATTRIBUTES,
    AWS,
    AWS_AUDIENCE,
    BEARER,
    NOW,
    NS,
    SUCCESS,
    Response,
    encoded,
    key_pair,
    metadata,
    sign,
    signed,
)

from broker.providers.saml.response_checks import STEPS, check_response, run_checks
from broker.providers.saml.response_parts import ExpectedResponse
from iam.errors import ExpiredTokenException, ServiceError
from iam.saml.metadata import read_metadata

ROLE = "arn:aws:iam::111122223333:role/r,arn:aws:iam::111122223333:saml-provider/idp"
GOOD = Response(attributes={f"{ATTRIBUTES}Role": (ROLE,), f"{ATTRIBUTES}RoleSessionName": ("ann",)})
OUR_KEY, OUR_CERTIFICATE = key_pair("fedgate")


def expected(**changes):
    idp = read_metadata(changes.pop("metadata", metadata()).encode(), now=NOW)
    given = {
        "entity_id": idp.entity_id,
        "keys": idp.keys,
        "is_audience": AWS_AUDIENCE.__eq__,
        "is_recipient": AWS.__eq__,
        "now": NOW,
        "skew": timedelta(seconds=60),
        "decryption": [load_pem_private_key(OUR_KEY, None)],
    }
    return ExpectedResponse(**given | changes)


def refusal(text, **changes):
    with pytest.raises(ServiceError) as refused:
        check_response(text, expected(**changes))
    return refused.value


WAYS = {
    "assertion signed": {},
    "both signed": {"whole": True},
    "SHA-512": {"algorithm": "rsa-sha512"},
    "inclusive prefixes": {"prefixes": ["xs", "samlp"]},
    "inclusive prefixes on both": {"prefixes": ["samlp", "#default"], "whole": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_good_response_says_who_somebody_is(way):
    found = check_response(encoded(signed(GOOD, **WAYS[way])), expected())
    assert (found.id, found.issuer, found.subject.value) == ("_assertion1", GOOD.issuer, "ann")
    assert found.recipient == AWS
    assert found.attributes[f"{ATTRIBUTES}Role"] == (ROLE,)
    assert found.usable_until == NOW + timedelta(minutes=6)
    assert (found.session_index, found.session_until, found.in_response_to) == ("_session1", None, None)


def test_a_key_on_a_curve_signs_as_well():
    key = key_pair("curve", 256)
    found = check_response(
        encoded(signed(GOOD, key=key, algorithm="ecdsa-sha256")), expected(metadata=metadata(certificates=[key[1]]))
    )
    assert found.subject.value == "ann"


def test_while_an_identity_provider_changes_its_key_both_are_believed():
    new = key_pair("new")
    both = metadata(certificates=[key_pair()[1], new[1]])
    for key in (key_pair(), new):
        assert check_response(encoded(signed(GOOD, key=key)), expected(metadata=both)).subject.value == "ann"
    only_new = metadata(certificates=[new[1]])
    assert refusal(encoded(signed(GOOD)), metadata=only_new).message == "Response signature invalid"


@pytest.mark.parametrize("how", [{}, {"cipher": "aes128-gcm"}])
def test_an_encrypted_assertion_in_a_signed_response_is_read(how):
    assert check_response(encrypting(OUR_CERTIFICATE, **how)(GOOD), expected()).subject.value == "ann"


def test_where_encryption_is_required_a_plain_assertion_is_refused():
    assert check_response(encrypting(OUR_CERTIFICATE)(GOOD), expected(encryption_required=True)).subject.value == "ann"
    refused = refusal(encoded(signed(GOOD, whole=True)), encryption_required=True)
    assert refused.message == "Response has an assertion that is not encrypted, and must be"


def test_what_stands_in_several_statements_is_one_list():
    more = "".join(
        f'<saml:AttributeStatement><saml:Attribute Name="groups"><saml:AttributeValue>{one}</saml:AttributeValue>'
        "</saml:Attribute></saml:AttributeStatement>"
        for one in ("a", "b")
    )
    assert check_response(encoded(signed(replace(GOOD, more=more))), expected()).attributes["groups"] == ("a", "b")


def test_the_value_of_an_edu_person_targeted_id_is_its_name():
    name = '<saml:NameID Format="x">opaque</saml:NameID>'
    more = (
        f'<saml:AttributeStatement><saml:Attribute Name="id"><saml:AttributeValue>{name}</saml:AttributeValue>'
        "</saml:Attribute></saml:AttributeStatement>"
    )
    assert check_response(encoded(signed(replace(GOOD, more=more))), expected()).attributes["id"] == ("opaque",)


def with_attributes(*attributes):
    return replace(GOOD, more=f"<saml:AttributeStatement>{''.join(attributes)}</saml:AttributeStatement>")


def attribute(name, *values, more=""):
    return f'<saml:Attribute Name="{name}"{more}>{"".join(values)}</saml:Attribute>'


XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
TEXT, TREE = "<saml:AttributeValue>a</saml:AttributeValue>", "<saml:AttributeValue><x/>a</saml:AttributeValue>"
NULL = f'<saml:AttributeValue {XSI} xsi:nil="true"/>'


@pytest.mark.parametrize("odd", ["<saml:Attribute/>", attribute("photo", TREE), attribute("", TEXT)])
def test_an_odd_attribute_is_left_out_and_told(odd):
    found = check_response(encoded(signed(with_attributes(odd, attribute("x", TEXT, NULL)))), expected())
    assert found.attributes["x"] == ("a",)
    assert "photo" not in found.attributes
    assert len(found.dropped) == 1


@pytest.mark.parametrize("odd", [
    attribute("groups", TREE), attribute("http://x/claims/Role", TREE),
    attribute("urn:oid:1.3.6.1.4.1.5923.1.5.1.1", TREE),
    attribute("x", TREE, more=' FriendlyName="memberOf"'), attribute(f"{ATTRIBUTES}SessionDuration", TREE),
    attribute("photo", TEXT, TREE), attribute("photo", TEXT) + attribute("photo", TREE), "<saml:EncryptedAttribute/>",
    attribute("http://schemas.microsoft.com/claims/groups.link", TEXT),
])  # fmt: skip
def test_attributes_that_may_lack_a_value_which_a_policy_names_are_refused(odd):
    assert refusal(encoded(signed(with_attributes(odd)))).code == "InvalidIdentityToken"


def test_blanks_around_addresses_and_names_of_entities_do_not_count():
    spaced = replace(GOOD, issuer=f"\n {GOOD.issuer} ", response_issuer=f" {GOOD.issuer}\n", destination=f"{AWS} ",
                     recipient=f" {AWS}", audiences=((f"\n{AWS_AUDIENCE}\n",),), method=f" {BEARER}",
                     status=GOOD.status.replace(SUCCESS, f" {SUCCESS}"))  # fmt: skip
    found = check_response(encoded(signed(spaced, whole=True)), expected())
    assert (found.issuer, found.recipient) == (GOOD.issuer, AWS)


def test_characters_that_are_escaped_are_read_whole():
    odd = replace(GOOD, subject="a<b>&\"'é", attributes={"x": ("<![CDATA[y]]>", "")})
    found = check_response(encoded(signed(odd)), expected())
    assert (found.subject.value, found.attributes["x"]) == ("a<b>&\"'é", ("<![CDATA[y]]>", ""))


def test_a_text_in_parts_is_read_whole_or_not_at_all():
    whole = etree.tostring(signed(replace(GOOD, subject="ann.evil"))).replace(b">ann.evil<", b">ann<![CDATA[.evil]]><")
    assert check_response(encoded(whole), expected()).subject.value == "ann.evil"


@pytest.mark.parametrize("change", [lambda text: "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
                                    lambda text: f" {text}\n"])  # fmt: skip
def test_lines_of_base64_may_be_broken(change):
    assert check_response(change(encoded(signed(GOOD))), expected()).subject.value == "ann"


@pytest.mark.parametrize(
    "prolog", [b"\xef\xbb\xbf", b'<?xml version="1.0" encoding="utf-8"?>\n', b"<?xml version='1.0'?>"]
)
def test_a_declaration_of_utf_8_and_a_byte_order_mark_are_read(prolog):
    assert check_response(encoded(prolog + etree.tostring(signed(GOOD))), expected()).subject.value == "ann"


def test_clocks_may_differ_by_the_skew():
    for seconds in (-60, 60):
        theirs = replace(GOOD, now=NOW + timedelta(seconds=seconds), not_before=NOW + timedelta(seconds=seconds))
        assert check_response(encoded(signed(theirs)), expected()).subject.value == "ann"


def test_how_old_a_response_may_be_is_said_by_whoever_asks():
    old = encoded(signed(replace(GOOD, issued=NOW - timedelta(seconds=301))))
    assert check_response(old, expected()).subject.value == "ann"
    refused = refusal(old, max_age=timedelta(minutes=5))
    assert isinstance(refused, ExpiredTokenException)
    assert refused.message == "Token must be redeemed within 5 minutes of issuance"
    fresh = encoded(signed(replace(GOOD, issued=NOW - timedelta(seconds=299))))
    assert check_response(fresh, expected(max_age=timedelta(minutes=5))).subject.value == "ann"


def test_a_session_that_the_identity_provider_ends_is_told():
    ends = NOW + timedelta(minutes=20)
    assert check_response(encoded(signed(replace(GOOD, session_until=ends))), expected()).session_until == ends


def test_the_request_that_is_answered_is_told_from_the_signed_part():
    assert check_response(encoded(signed(replace(GOOD, in_response_to="_q"))), expected()).in_response_to == "_q"


def test_an_issuer_outside_may_be_missing():
    assert check_response(encoded(signed(replace(GOOD, response_issuer=None))), expected()).subject.value == "ann"


def test_a_destination_may_be_missing_where_the_response_is_not_signed():
    assert check_response(encoded(signed(replace(GOOD, destination=None))), expected()).subject.value == "ann"


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused(name):
    fault = FAULTS[name]
    refused = refusal(fault.make(GOOD))
    assert (refused.code, refused.message[: len(fault.message)]) == (fault.code, fault.message)


@pytest.mark.parametrize("name", encrypted_faults(OUR_CERTIFICATE))
def test_a_fault_of_encryption_is_refused(name):
    fault = encrypted_faults(OUR_CERTIFICATE)[name]
    refused = refusal(fault.make(GOOD))
    assert (refused.code, refused.message[: len(fault.message)]) == (fault.code, fault.message)


@pytest.mark.parametrize("text", ["", "abc", "A" * 100_004])
def test_the_length_has_limits(text):
    assert refusal(text).message == "SAMLResponse must have 4 to 100000 characters"


def test_refusals_tell_the_operator_more_than_the_caller():
    refused = refusal(encoded(signed(replace(GOOD, audiences=(("https://other.example.com",),)))))
    assert "other.example.com" not in refused.message
    assert "other.example.com" in refused.log


def test_each_step_can_be_told_up_to_the_one_that_refuses():
    steps = [(step.name, error) for step, error in run_checks(encoded(signed(GOOD)), expected())]
    assert steps == [(step.name, None) for step in STEPS]
    *passed, (last, error) = run_checks(encoded(signed(replace(GOOD, audiences=()))), expected())
    assert (last.name, error.message) == ("audience", "Response does not contain the required audience.")
    assert all(one is None for _, one in passed)


EXAMPLES = int(os.environ.get("FEDGATE_EXAMPLES", "400"))
VALID = [etree.tostring(signed(GOOD)), etree.tostring(signed(GOOD, whole=True))]
IDENTITY = check_response(encoded(VALID[0]), expected())


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.sampled_from(VALID), st.integers(min_value=0), st.integers(0, 255), st.sampled_from(["changed", "cut", "added"])
)
def test_a_changed_byte_is_refused_or_changes_nothing(data, place, byte, how):
    place %= len(data)
    changed = {
        "changed": data[:place] + bytes([byte]) + data[place + 1 :],
        "cut": data[:place] + data[place + 1 :],
        "added": data[:place] + bytes([byte]) + data[place:],
    }[how]
    try:
        found = check_response(encoded(changed), expected())
    except ServiceError:
        return
    assert found == IDENTITY


@settings(max_examples=EXAMPLES // 2, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_nothing_but_our_own_errors_comes_out(data):
    with pytest.raises(ServiceError):
        check_response(encoded(data), expected())
    start = b"<samlp:Response xmlns:samlp='urn:oasis:names:tc:SAML:2.0:protocol'>"
    with pytest.raises(ServiceError):
        check_response(base64.b64encode(start + data).decode(), expected())


def test_a_signature_of_another_element_is_no_signature():
    root = GOOD.xml()
    sign(root.find("saml:Assertion", NS))
    root.find("saml:Assertion", NS).set("ID", "_other")
    assert refusal(encoded(root)).message == "Response signature invalid"


@pytest.mark.parametrize("name", WEIGHTY)
def test_what_would_cost_much_is_refused_before_it_does(name):
    text = WEIGHTY[name].make(GOOD)
    start = time.process_time()
    refusal(text)
    assert time.process_time() - start < 0.5  # a loop over its parts would take many seconds
