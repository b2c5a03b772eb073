"""The pages of the SAML service provider: in through the identity provider, roles, credentials, and out again."""

import base64
import html
import json
import os
import re
import urllib.parse
import zlib
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree
from redis import Redis
from sqlalchemy import update
from support.administrator import trust
from support.saml_fixtures import OUR_CERTIFICATE, Browser, field_of, open_setup
from support.saml_hostile import FAULTS, REJECTED, encrypted_faults, encrypting
from support.saml_idp import ATTRIBUTES, DS, NS, SAML, SAMLP, Response, encoded, iso, key_pair, metadata, sign, signed
from support.servers import redis_server

from broker import wiring
from broker.providers.saml import service_keys
from iam.errors import DeleteConflict
from iam.saml.metadata import MD
from iam.saml.signature import BadSignature, is_signed_by, read_signature
from iam.saml.xml import parse_xml
from iam.store.revocation import revoke
from iam.store.schema import saml_provider

BASE = "/saml/111122223333/Corp"
PUBLIC = "http://127.0.0.1:8080"
ENTITY = f"{PUBLIC}{BASE}/metadata"
ACS = f"{PUBLIC}{BASE}/acs"
SLO = f"{PUBLIC}{BASE}/slo"
IDP_SLO = "https://idp.example.com/slo?realm=a&b=c"
ADDRESSES = {"SingleSignOnService": "https://idp.example.com/sso", "SingleLogoutService": IDP_SLO}
NOT_BEGUN = "This sign-in was not started here."
OTHER_BROWSER = "This sign-in was not started in this browser, or it has expired."


@pytest.fixture
def world(tmp_path, redis_url):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = open_setup(tmp_path, redis_url)
    made.admin.do(
        "UpdateSAMLProvider", SAMLProviderArn=made.provider, SAMLMetadataDocument=metadata(addresses=ADDRESSES)
    )
    yield made
    made.installation.close()


@pytest.fixture(scope="module")
def opted_in(tmp_path_factory, redis_url):
    """A world whose provider may sign people in unasked; nothing in it is used up by these tests."""
    made = open_setup(tmp_path_factory.mktemp("opted"), redis_url)
    allow(made, idp_initiated=True)
    yield made
    made.installation.close()


@pytest.fixture
def browser(world):
    return Browser(world.installation)


def allow(world, **flags):
    with world.installation.store.write() as tx:
        tx.execute(update(saml_provider).where(saml_provider.c.name == "Corp").values(**flags))


def for_us(world, **more) -> Response:
    """A good response for our own service provider."""
    return world.response(**({"recipient": ACS, "destination": ACS, "audiences": ((ENTITY,),)} | more))


def begin(browser, **query):
    """Go to the identity provider: return the id of the request and the RelayState."""
    request, state = request_in(browser.get(f"{BASE}/login" + (f"?{urllib.parse.urlencode(query)}" if query else "")))
    return request.get("ID"), state


def request_in(answer):
    """Return the request that an answer sends to the identity provider, and its RelayState."""
    assert answer.status == 303, answer.body
    sent = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["Location"]).query)
    return etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"][0]), -15)), sent["RelayState"][0]


def post(browser, response, state=""):
    return browser.post(f"{BASE}/acs", {"SAMLResponse": encoded(signed(response)), "RelayState": state})


def sign_in(world, browser, **more):
    """Sign in; return the answer to the identity provider's response."""
    asked, relay_state = begin(browser)
    text = encoded(signed(for_us(world, in_response_to=asked, **more)))
    return browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state})


def refused(answer, status, text):
    assert answer.status == status, answer.body.decode()
    assert text in answer.body.decode().replace("&#39;", "'").replace("&#34;", '"')
    assert "Traceback" not in answer.body.decode()


def records(world):
    return [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_our_metadata_is_signed_and_says_what_an_identity_provider_needs(world, browser):
    answer = browser.get(f"{BASE}/metadata")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/samlmetadata+xml")
    root = parse_xml(answer.body)
    assert root.get("entityID") == ENTITY
    (sp,) = root.iter(f"{MD}SPSSODescriptor")
    assert (sp.get("AuthnRequestsSigned"), sp.get("WantAssertionsSigned")) == ("true", "true")
    assert [one.get("Location") for one in sp.iter(f"{MD}AssertionConsumerService")] == [ACS]
    assert {one.get("Binding").rpartition(":")[2] for one in sp.iter(f"{MD}SingleLogoutService")} == {
        "HTTP-Redirect",
        "HTTP-POST",
    }
    assert [one.get("use") for one in sp.iter(f"{MD}KeyDescriptor")] == ["signing", "encryption"]
    keys = [one.private.public_key() for one in world.installation.services.providers.saml_keys.all()]
    assert read_signature(root).verify(keys)


def test_metadata_is_signed_once_an_hour_however_often_it_is_asked_for(world, browser):
    world.clock.advance(seconds=3600 - world.clock().timestamp() % 3600)
    first = browser.get(f"{BASE}/metadata").body
    world.clock.advance(minutes=59)
    assert browser.get(f"{BASE}/metadata").body == first
    world.clock.advance(minutes=1)
    assert browser.get(f"{BASE}/metadata").body != first


def test_a_new_key_is_published_first_and_signs_later_and_the_old_one_goes_then(world, browser):
    store, vault = world.installation.store, world.installation.services.api.gate.vault
    browser.get(f"{BASE}/metadata")
    (old,) = world.installation.services.providers.saml_keys.all()
    with store.write() as tx:
        in_a_week = world.clock() + timedelta(days=7)
        new_id = service_keys.rotate(tx, vault, now=world.clock(), random=wiring.random, signs_from=in_a_week)

    def published():
        root = parse_xml(browser.get(f"{BASE}/metadata").body)
        signers = [one.private.public_key() for one in keys.all() if _signs(root, one)]
        uses = [one.get("use") for one in root.iter(f"{MD}KeyDescriptor")]
        return [one.id for one in keys.all() if one.private.public_key() in signers], sorted(uses)

    def _signs(root, key):
        try:
            read_signature(parse_xml(etree.tostring(root))).verify([key.private.public_key()])
        except BadSignature:
            return False
        return True

    keys = world.installation.services.providers.saml_keys
    assert published() == ([old.id], ["encryption", "signing", "signing"])
    with store.write() as tx, pytest.raises(DeleteConflict):
        service_keys.remove(tx, old.id, world.clock())
    world.clock.advance(days=7, seconds=1)
    assert published() == ([new_id], ["encryption", "signing", "signing"])
    with store.write() as tx:
        service_keys.remove(tx, old.id, world.clock())
    assert published() == ([new_id], ["encryption", "signing"])


def test_strangers_learn_nothing_of_providers_that_are_not_there(browser):
    for target in (
        "/saml/111122223333/corp/metadata",
        "/saml/111122223333/X/login",
        "/saml/1/Corp/metadata",
        "/saml/X/login",
    ):
        assert browser.get(target).status == 404


# --- sign-in that was begun here --------------------------------------------------------------------------------------


def test_a_browser_is_sent_away_with_a_signed_request_and_an_opaque_state(world, browser):
    answer = browser.get(f"{BASE}/login?to=https://evil.example/")
    location = urllib.parse.urlsplit(answer.headers["Location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == "https://idp.example.com/sso"
    parts = dict(part.split("=", 1) for part in location.query.split("&"))
    told = f"SAMLRequest={parts['SAMLRequest']}&RelayState={parts['RelayState']}&SigAlg={parts['SigAlg']}"
    signature = base64.b64decode(urllib.parse.unquote(parts["Signature"]))
    (key,) = world.installation.services.providers.saml_keys.all()
    assert is_signed_by(urllib.parse.unquote(parts["SigAlg"]), key.private.public_key(), signature, told.encode())
    request = parse_xml(zlib.decompress(base64.b64decode(urllib.parse.unquote(parts["SAMLRequest"])), -15))
    assert request.get("AssertionConsumerServiceURL") == ACS
    assert request.get("Destination") == "https://idp.example.com/sso"
    assert request.findtext("saml:Issuer", namespaces=NS) == ENTITY
    assert "evil" not in urllib.parse.unquote(parts["RelayState"])
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_provider_that_takes_posts_alone_gets_a_signed_form(world, browser):
    text = metadata(addresses=ADDRESSES).replace("HTTP-Redirect", "HTTP-Other")
    world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider, SAMLMetadataDocument=text)
    answer = browser.get(f"{BASE}/login")
    assert answer.status == 200
    assert "form-action *;" in answer.headers["Content-Security-Policy"]  # the provider may lead on to another host
    root = parse_xml(base64.b64decode(field_of(answer, "SAMLRequest")))
    keys = [one.private.public_key() for one in world.installation.services.providers.saml_keys.all()]
    assert read_signature(root).verify(keys)
    asked, relay_state = root.get("ID"), field_of(answer, "RelayState")
    text = encoded(signed(for_us(world, in_response_to=asked)))
    assert browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}).status == 303


def test_a_good_answer_opens_a_session_and_leads_to_the_roles(world, browser):
    answer = sign_in(world, browser)
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")
    cookie = next(line for line in answer.all_headers["Set-Cookie"] if line.startswith("fedgate-session="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    page = browser.get("/portal")
    assert f'<label for="{world.role}">developer</label>' in page.body.decode()
    chosen = browser.post(
        "/portal",
        {"roleIndex": world.role, "form_token": field_of(page, "form_token")},
        Origin=PUBLIC,
        Accept="application/json",
    )
    got = json.loads(chosen.body)
    assert set(got) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    assert chosen.headers["Cache-Control"] == "no-store"
    sign_ins = [one for one in records(world) if one["eventName"] == "SamlSignIn"]
    assert [one["userIdentity"]["userName"] for one in sign_ins] == ["ann"]
    assert records(world)[-1]["eventName"] == "AssumeRoleWithSAML"


def test_who_signed_in_at_the_provider_too_long_ago_signs_in_anew_there_once(world, browser):
    long_ago = world.clock() - timedelta(days=31)
    for second in (long_ago, world.clock()):
        message_id, state = begin(browser, to="/sessions")
        old = for_us(world, in_response_to=message_id, authenticated=long_ago)
        again, state = request_in(post(browser, old, state))
        assert (again.get("ForceAuthn"), "Signed in as" in browser.get("/portal").body.decode()) == ("true", False)
        answer = post(browser, for_us(world, in_response_to=again.get("ID"), authenticated=second), state)
        if second is long_ago:
            refused(answer, 400, "The user signed in too long ago")  # and no third request
            assert records(world)[-1]["errorCode"] == records(world)[-2]["errorCode"] == "ExpiredTokenException"
    assert (answer.status, answer.headers["Location"]) == (303, "/sessions")


def test_a_sign_in_leads_to_one_other_even_in_a_browser_that_keeps_its_cookie(world, browser):
    message_id, state = begin(browser)
    old = encoded(signed(for_us(world, in_response_to=message_id, authenticated=world.clock() - timedelta(days=31))))
    kept = dict(browser.cookies)
    for status in (303, 400):
        browser.cookies = dict(kept)
        answer = browser.post(f"{BASE}/acs", {"SAMLResponse": old, "RelayState": state})
        assert (answer.status, "Location" in answer.headers) == (status, status == 303)


def test_a_response_of_long_ago_that_answers_nothing_of_this_browser_is_refused(world, browser):
    allow(world, idp_initiated=True)
    long_ago = world.clock() - timedelta(days=31)
    refused(post(browser, for_us(world, authenticated=long_ago)), 400, "The user signed in too long ago")
    message_id, state = begin(browser)
    old = for_us(world, in_response_to=message_id, authenticated=long_ago)
    refused(post(Browser(world.installation), old, state), 400, "not started in this browser")


def test_an_answer_encrypted_for_our_published_key_is_read(world, browser):
    asked, relay_state = begin(browser)
    certificate = world.installation.services.providers.saml_keys.certificates()[0].encode()
    text = encrypting(certificate)(for_us(world, in_response_to=asked))
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state})
    assert (answer.status, answer.headers.get("Location")) == (303, "/portal")


def test_another_browser_cannot_use_an_answer(world, browser):
    asked, relay_state = begin(browser)
    other = Browser(world.installation)
    text = encoded(signed(for_us(world, in_response_to=asked)))
    refused(other.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}), 400, OTHER_BROWSER)
    begin(other)
    refused(other.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}), 400, OTHER_BROWSER)
    assert browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}).status == 303


def test_several_tabs_sign_in_and_only_the_oldest_of_many_is_forgotten(world, browser):
    begun = [begin(browser, to=f"/security?{number}") for number in range(5)]
    for asked, relay_state in begun[:0:-1]:
        text = encoded(signed(for_us(world, in_response_to=asked)))
        assert browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}).status == 303
    asked, relay_state = begun[0]
    text = encoded(signed(for_us(world, in_response_to=asked)))
    refused(browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}), 400, OTHER_BROWSER)


def test_the_cookie_of_sign_ins_is_small_enough_for_every_browser(world, browser):
    for number in range(6):
        asked, relay_state = begin(browser, to=f"/security?{number}{'x' * 3900}")
        assert len(browser.cookies["fedgate-browser"]) <= 3600
    text = encoded(signed(for_us(world, in_response_to=asked)))
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state})
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")


D18 = {
    "of another request": ({"in_response_to": "_other"}, OTHER_BROWSER),
    "missing": ({"in_response_to": None}, NOT_BEGUN),
    "only in the envelope": ({"asked": ""}, "Response and assertion answer different requests"),
}


@pytest.mark.parametrize("how", D18)
def test_an_answer_must_answer_our_request(world, browser, how):
    change, message = D18[how]
    asked, relay_state = begin(browser)
    response = replace(for_us(world, in_response_to=asked), **change)
    text = encoded(signed(response))
    refused(browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state}), 400, message)


@pytest.mark.parametrize("relay_state", [None, "", "other"])
def test_the_state_must_be_ours(world, browser, relay_state):
    asked, _ = begin(browser)
    fields = {"SAMLResponse": encoded(signed(for_us(world, in_response_to=asked)))}
    fields |= {} if relay_state is None else {"RelayState": relay_state}
    refused(browser.post(f"{BASE}/acs", fields), 400, OTHER_BROWSER)


def test_an_answer_counts_once_here_and_at_the_sts(world, browser):
    asked, relay_state = begin(browser)
    text = encoded(signed(for_us(world, in_response_to=asked)))
    fields = {"SAMLResponse": text, "RelayState": relay_state}
    assert browser.post(f"{BASE}/acs", fields).status == 303
    refused(browser.post(f"{BASE}/acs", fields), 400, OTHER_BROWSER)
    assert world.assume(text).message == "The assertion has been used before"


def test_an_answer_that_got_credentials_opens_no_session(world, browser):
    asked, relay_state = begin(browser)
    text = encoded(signed(for_us(world, in_response_to=asked)))
    assert world.assume(text).status == 200
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state})
    refused(answer, 400, "The assertion has been used before")
    assert "fedgate-session" not in browser.cookies


def test_a_sign_in_that_took_too_long_is_begun_again(world, browser):
    asked, relay_state = begin(browser)
    world.clock.advance(seconds=601)
    text = encoded(signed(for_us(world, in_response_to=asked)))
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": relay_state})
    refused(answer, 400, OTHER_BROWSER)
    assert 'href="/portal"' in answer.body.decode()


# --- sign-in that begins at the identity provider ---------------------------------------------------------------------


def test_nobody_is_signed_in_unasked_unless_the_provider_may(world, browser):
    text = encoded(signed(for_us(world)))
    refused(browser.post(f"{BASE}/acs", {"SAMLResponse": text}), 400, NOT_BEGUN)


def test_listing_uses_nothing_up_and_choosing_does(world, browser):
    allow(world, idp_initiated=True)
    text = encoded(signed(for_us(world)))
    for _ in range(2):
        page = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "RelayState": "https://evil.example"})
        assert page.status == 200
    assert field_of(page, "SAMLResponse") == text
    assert "fedgate-session" not in browser.cookies
    chosen = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "roleIndex": world.role})
    assert "AWS_SESSION_TOKEN" in chosen.body.decode()
    assert browser.get("/portal").status == 200
    again = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "roleIndex": world.role})
    refused(again, 400, "The assertion has been used before")


@pytest.mark.parametrize("more", [{}, {"roleIndex": "arn:aws:iam::111122223333:role/developer"}])
def test_an_unsolicited_response_gives_nothing_to_whom_a_second_factor_is_demanded_of(tmp_path, redis_url, more):
    world = open_setup(tmp_path, redis_url, FEDGATE_PAGES_SECOND_FACTOR="arn:aws:iam::111122223333:saml-provider/Corp")
    allow(world, idp_initiated=True)
    browser, text = Browser(world.installation), encoded(signed(for_us(world)))
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": text, **more})
    refused(answer, 403, "A second factor is required. Sign in on the sign-in page.")
    assert browser.get("/portal").status == 401
    world.installation.close()


def test_whom_the_operator_exempts_gets_credentials_and_no_session(tmp_path, redis_url):
    corp = "arn:aws:iam::111122223333:saml-provider/Corp"
    world = open_setup(tmp_path, redis_url, FEDGATE_PAGES_SECOND_FACTOR=corp, FEDGATE_PAGES_SECOND_FACTOR_EXEMPT=corp)
    allow(world, idp_initiated=True)
    browser, text = Browser(world.installation), encoded(signed(for_us(world)))
    chosen = browser.post(f"{BASE}/acs", {"SAMLResponse": text, "roleIndex": world.role})
    assert "AWS_SESSION_TOKEN" in chosen.body.decode()
    assert browser.get("/portal").status == 401
    world.installation.close()


def test_a_program_lists_the_roles_and_then_goes_to_the_sts(world, browser):
    allow(world, idp_initiated=True)
    text = encoded(signed(for_us(world)))
    listed = browser.post(f"{BASE}/acs", {"SAMLResponse": text}, Accept="application/json")
    told = json.loads(listed.body)
    assert [one["role_arn"] for one in told["roles"]] == [world.role]
    assert (told["subject"], told["roles"][0]["max_session_duration"]) == ("ann", 7200)
    assert world.assume(text).status == 200


def test_the_page_of_roles_is_read_by_programs_that_pick_roles(world, browser):
    """saml2aws: fieldset > div.saml-account; gimme-aws-creds: the meta element named data. Also with one role alone."""
    allow(world, idp_initiated=True)
    second = world.trusts("zweite")
    pairs = {"Role": tuple(f"{role},{world.provider}" for role in (second, world.role))}
    page = browser.post(f"{BASE}/acs", {"SAMLResponse": encoded(signed(for_us(world, more=pairs)))})
    root = etree.HTML(page.body.decode())
    (account,) = root.xpath("//fieldset/div[@class='saml-account']")
    assert account.xpath("string(div[@class='saml-account-name'])").strip() == "Account: 111122223333"
    labels = {one.get("for"): one.text for one in account.iter("label")}
    assert labels == {world.role: "developer", second: "zweite"}
    (data,) = root.xpath("//meta[@name='data']/@content")
    assert json.loads(base64.b64decode(data)) == {"roles_accounts": {"111122223333": [world.role, second]}}


def test_roles_that_do_not_trust_the_person_are_not_shown_and_not_given(world, browser):
    allow(world, idp_initiated=True)
    other = world.trusts("other", Condition={"StringEquals": {"saml:sub": "bob"}})
    pairs = {"Role": tuple(f"{role},{world.provider}" for role in (other, world.role))}
    text = encoded(signed(for_us(world, more=pairs)))
    page = browser.post(f"{BASE}/acs", {"SAMLResponse": text})
    assert other not in page.body.decode()
    refused(browser.post(f"{BASE}/acs", {"SAMLResponse": text, "roleIndex": other}), 403, "Not authorized")
    assert records(world)[-1]["errorCode"] == "AccessDenied"
    assert "saml:sub" in json.dumps(records(world)[-1])
    assert world.assume(text).status == 200  # the refusal has used nothing up


# --- people without Role attributes -----------------------------------------------------------------------------------


def unmapped(world, **attributes) -> Response:
    return replace(for_us(world), attributes=attributes)


def test_without_role_attributes_the_trust_policies_give_roles_where_the_operator_wants_that(world, browser):
    sales = world.trusts("sales", Condition={"StringEquals": {"saml:attribute/department": "sales"}})
    allow(world, idp_initiated=True)
    text = encoded(signed(unmapped(world, department=("sales",))))
    page = browser.post(f"{BASE}/acs", {"SAMLResponse": text})
    assert sales not in page.body.decode()
    allow(world, map_by_trust=True)
    page = browser.post(f"{BASE}/acs", {"SAMLResponse": text}, Accept="application/json")
    assert {one["role_arn"] for one in json.loads(page.body)["roles"]} == {sales, world.role}
    answer = world.assume(text, role=sales)
    assert answer.text("Arn").endswith(":assumed-role/sales/ann"), answer.message
    other = encoded(signed(unmapped(world, department=("other",))))
    assert world.assume(other, role=sales).status == 403


# --- everything that the gate refuses, at this door -------------------------------------------------------------------

HOSTILE = FAULTS | encrypted_faults(OUR_CERTIFICATE)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_response_gets_nothing(opted_in, name):
    fault = HOSTILE[name]
    good = replace(for_us(opted_in), id="_response1", assertion_id="_assertion1")
    browser = Browser(opted_in.installation)
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": fault.make(good)}, Accept="application/json")
    assert answer.status == (403 if fault.code == REJECTED else 400), answer.body
    told = json.loads(answer.body)
    assert told["code"] == fault.code
    assert told["message"].startswith(fault.message)
    assert not browser.cookies


def test_the_good_response_behind_them_is_taken(opted_in):
    good = replace(for_us(opted_in), id="_response1", assertion_id="_assertion1")
    answer = Browser(opted_in.installation).post(f"{BASE}/acs", {"SAMLResponse": encoded(signed(good))})
    assert answer.status == 200


FORMS = {
    "no response": {},
    "two responses": [("SAMLResponse", "a"), ("SAMLResponse", "b")],
    "deflated": {"SAMLResponse": base64.b64encode(zlib.compress(b"<a/>" * 1000)).decode()},
    "nothing": {"SAMLResponse": ""},
    "100,001 characters": {"SAMLResponse": "A" * 100_001},
}


@pytest.mark.parametrize("how", FORMS)
def test_a_form_that_is_none_is_refused(opted_in, how):
    answer = Browser(opted_in.installation).post(f"{BASE}/acs", FORMS[how])
    refused(answer, 400, "Reference:")


def test_a_form_that_is_too_large_is_refused(opted_in):
    answer = Browser(opted_in.installation).post(f"{BASE}/acs", {"SAMLResponse": "A" * 400_000})
    assert answer.status == 413


def test_the_reference_on_the_page_finds_the_record(opted_in):
    answer = Browser(opted_in.installation).post(f"{BASE}/acs", {"SAMLResponse": "AAAA"}, Accept="application/json")
    reference = json.loads(answer.body)["reference"]
    found = [one for one in records(opted_in) if one["requestID"].startswith(reference)]
    assert [(one["eventName"], one["errorCode"]) for one in found] == [("SamlSignIn", "InvalidIdentityToken")]


def test_a_host_that_a_browser_names_changes_nothing(opted_in):
    evil = "http://evil.example" + BASE
    good = for_us(opted_in, recipient=f"{evil}/acs", destination=f"{evil}/acs")
    answer = Browser(opted_in.installation).post(
        f"{BASE}/acs", {"SAMLResponse": encoded(signed(good))}, Host="evil.example"
    )
    refused(answer, 400, "Response was not sent to this address")
    page = Browser(opted_in.installation).get(f"{BASE}/metadata", Host="evil.example")
    assert b"evil" not in page.body


# --- the session ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "headers"),
    [
        ({}, {}),
        ({"form_token": "x"}, {}),
        (None, {"Origin": "https://evil.example"}),
        (None, {"Origin": "null"}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
    ],
)
def test_a_form_of_somebody_elses_site_gets_nothing(world, browser, form, headers):
    sign_in(world, browser)
    token = field_of(browser.get("/portal"), "form_token")
    given = {"form_token": token} if form is None else form
    refused(
        browser.post("/portal", {"roleIndex": world.role, **given}, **headers),
        403,
        "This form has expired or is not from",
    )
    refused(browser.post("/sign-out", given, **headers), 403, "This form has expired or is not from")
    assert "developer" in browser.get("/portal").body.decode()


def test_a_new_sign_in_gets_a_new_session(world, browser):
    sign_in(world, browser)
    first = browser.cookies["fedgate-session"]
    sign_in(world, browser)
    assert browser.cookies["fedgate-session"] != first


def test_a_session_ends_when_nothing_happens_and_at_the_latest_when_the_provider_says(world, browser):
    sign_in(world, browser, session_until=world.clock() + timedelta(minutes=20))
    assert "developer" in browser.get("/portal").body.decode()
    world.clock.advance(minutes=21)
    assert "Continue with Corp" in browser.get("/portal").body.decode()


def test_without_a_session_there_are_the_ways_to_sign_in(world, browser):
    page = browser.get("/portal")
    assert page.status == 401
    assert f'href="{world.door}?to=%2Fportal"' in page.body.decode()
    assert browser.post("/portal", {"roleIndex": world.role}).status == 401


def test_when_redis_is_lost_everybody_signs_in_again(world, browser, redis_url):
    sign_in(world, browser)
    Redis.from_url(redis_url).flushall()
    assert "Continue with Corp" in browser.get("/portal").body.decode()


def test_pages_forbid_what_they_do_not_need(browser):
    headers = browser.get("/portal").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


# --- single logout ----------------------------------------------------------------------------------------------------


def sign_out(browser):
    token = field_of(browser.get("/portal"), "form_token")
    return browser.post("/sign-out", {"form_token": token}, Origin=PUBLIC)


def leads_to(answer):
    """Return where a redirect, or the page that leads away, leads to."""
    found = answer.headers.get("Location")
    return found or html.unescape(re.search(r'http-equiv="refresh" content="0;url=([^"]*)"', answer.body.decode())[1])


def message_in(answer, name):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(leads_to(answer)).query)
    return etree.fromstring(zlib.decompress(base64.b64decode(query[name][0]), -15))


def test_who_signs_out_is_signed_out_here_first_and_then_sent_to_the_provider(world, browser):
    sign_in(world, browser)
    kept = dict(browser.cookies)
    answer = sign_out(browser)
    assert leads_to(answer).startswith(f"{IDP_SLO}&SAMLRequest=")
    assert "fedgate-session" not in browser.cookies
    browser.cookies = kept
    assert "Continue with Corp" in browser.get("/portal").body.decode()
    request = message_in(answer, "SAMLRequest")
    assert request.findtext("saml:NameID", namespaces=NS) == "ann"
    assert request.findtext("samlp:SessionIndex", namespaces=NS) == "_session1"
    done = browser.get(redirected(logout_answer(world, request.get("ID"))))
    assert "You are signed out" in done.body.decode()
    assert "could not sign you out" not in done.body.decode()
    refused(browser.get(redirected(logout_answer(world, request.get("ID")))), 400, "fits no request")


def test_a_provider_that_could_not_sign_out_everywhere_is_told_of(world, browser):
    sign_in(world, browser)
    request = message_in(sign_out(browser), "SAMLRequest")
    failed = logout_answer(world, request.get("ID"), status="Responder")
    assert "could not sign you out everywhere" in browser.get(redirected(failed)).body.decode()


def test_without_a_logout_address_of_the_provider_the_session_ends_here(world, browser):
    world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider, SAMLMetadataDocument=metadata())
    sign_in(world, browser)
    assert "You are signed out" in sign_out(browser).body.decode()
    assert "Continue with Corp" in browser.get("/portal").body.decode()


def logout_message(world, name, inside, *, destination=SLO, issuer="https://idp.example.com/metadata", **attributes):
    world.counter += 1
    given = {"ID": f"_l{world.counter}", "Version": "2.0", "IssueInstant": iso(world.clock())} | attributes
    written = "".join(f' {key}="{value}"' for key, value in given.items())
    place = "" if destination is None else f' Destination="{destination}"'
    text = (
        f'<samlp:{name} xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}"{written}{place}>'
        f"<saml:Issuer>{issuer}</saml:Issuer>{inside}</samlp:{name}>"
    )
    return etree.fromstring(text)


def logout_request(world, subject="ann", indexes=("_session1",), **more):
    told = "".join(f"<samlp:SessionIndex>{one}</samlp:SessionIndex>" for one in indexes)
    return logout_message(world, "LogoutRequest", f"<saml:NameID>{subject}</saml:NameID>{told}", **more)


def logout_answer(world, asked, status="Success", **more):
    inside = f'<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:{status}"/></samlp:Status>'
    return logout_message(world, "LogoutResponse", inside, InResponseTo=asked, **more)


def packed(root):
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = etree.tostring(root) if not isinstance(root, bytes) else root
    return base64.b64encode(packing.compress(data) + packing.flush()).decode()


def redirected(root, *, key=None, algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", relay_state=None):
    """Return the target to which an identity provider redirects a browser with a signed message."""
    kind = "SAMLResponse" if not isinstance(root, bytes) and root.tag.endswith("LogoutResponse") else "SAMLRequest"
    fields = {kind: packed(root)} | ({"RelayState": relay_state} if relay_state else {}) | {"SigAlg": algorithm}
    return f"{BASE}/slo?{with_signature(urllib.parse.urlencode(fields), key)}"


def with_signature(query, key=None):
    private = load_pem_private_key((key or key_pair())[0], None)
    value = base64.b64encode(private.sign(query.encode(), PKCS1v15(), SHA256())).decode()
    return f"{query}&{urllib.parse.urlencode({'Signature': value})}"


def signed_in(browser):
    return "developer" in browser.get("/portal").body.decode()


@pytest.mark.parametrize("binding", ["redirect", "post"])
def test_a_provider_signs_a_person_out_of_every_browser_and_is_told_so(world, browser, binding):
    other = Browser(world.installation)
    for one in (browser, other):
        sign_in(world, one)
    request = logout_request(world, indexes=())
    stranger = Browser(world.installation)  # the person may be in a browser that we do not know
    if binding == "redirect":
        answer = stranger.get(redirected(request, relay_state="theirs & only theirs"))
    else:
        sign(request)
        answer = stranger.post(f"{BASE}/slo", {"SAMLRequest": encoded(request), "RelayState": "theirs & only theirs"})
    assert answer.status == 303, answer.body
    told = message_in(answer, "SAMLResponse")
    assert told.get("InResponseTo") == request.get("ID")
    assert "RelayState=theirs+%26+only+theirs" in answer.headers["Location"]
    assert (signed_in(browser), signed_in(other)) == (False, False)
    names = [one["eventName"] for one in records(world)]
    assert names[-3:] == ["SamlSignOut", "PageRequest", "PageRequest"]  # and each browser is asked to sign in


def test_a_provider_signs_out_one_session_of_several(world, browser):
    other = Browser(world.installation)
    sign_in(world, browser)
    sign_in(world, other, session_index="_session2")
    assert browser.get(redirected(logout_request(world, indexes=("_session2",)))).status == 303
    assert (signed_in(browser), signed_in(other)) == (True, False)


@pytest.mark.parametrize(("indexes", "ends"), [((), True), (("_session1",), True), (("_session2",), False)])
def test_who_has_not_given_a_second_factor_yet_is_signed_out_too(tmp_path, redis_url, indexes, ends):
    world = open_setup(tmp_path, redis_url, FEDGATE_PAGES_SECOND_FACTOR="arn:aws:iam::111122223333:saml-provider/Corp")
    browser = Browser(world.installation)
    assert sign_in(world, browser).headers["Location"].endswith("/mfa/enrol")
    assert browser.get("/mfa/enrol").status == 200
    assert Browser(world.installation).get(redirected(logout_request(world, indexes=indexes))).status == 200
    assert (browser.get("/mfa/enrol").status == 401) is ends
    world.installation.close()


def test_somebody_else_stays_signed_in(world, browser):
    sign_in(world, browser)
    assert browser.get(redirected(logout_request(world, subject="bob"))).status == 303
    assert signed_in(browser)


def unsigned_query(world):
    return f"{BASE}/slo?{urllib.parse.urlencode({'SAMLRequest': packed(logout_request(world))})}"


def changed_after(world):
    target = redirected(logout_request(world))
    other = urllib.parse.quote(packed(logout_request(world, indexes=())), safe="")
    head, _, rest = target.partition("SAMLRequest=")
    return f"{head}SAMLRequest={other}&{rest.partition('&')[2]}"


RSA = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"


def signed_text(text):
    return f"{BASE}/slo?" + with_signature(urllib.parse.urlencode({"SAMLRequest": text, "SigAlg": RSA}))


BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB_TEXT = base64.b64encode(BOMB.compress(b"<a>" + b" " * 50_000_000) + BOMB.flush()).decode()
SHA1 = "http://www.w3.org/2000/09/xmldsig#rsa-sha1"
HOSTILE_LOGOUTS = {
    "D33 unsigned": (unsigned_query, "The logout message is not signed"),
    "other key": (lambda world: redirected(logout_request(world), key=key_pair("mallory")), "Signature of the logout"),
    "RSA-SHA1": (lambda world: redirected(logout_request(world), algorithm=SHA1), "Signature of the logout"),
    "changed after it was signed": (changed_after, "Signature of the logout"),
    "D24 inflate bomb": (
        lambda _world: (
            f"{BASE}/slo?{with_signature(urllib.parse.urlencode({'SAMLRequest': BOMB_TEXT, 'SigAlg': RSA}))}"
        ),
        "The logout message is too long",
    ),
    "not inflatable": (
        lambda _world: signed_text("AAAA"),
        "The logout message",
    ),
    "another address": (
        lambda world: redirected(logout_request(world, destination=f"{SLO}/x")),
        "The logout message was not sent to this address",
    ),
    "no address": (lambda world: redirected(logout_request(world, destination=None)), "was not sent to this address"),
    "another issuer": (lambda world: redirected(logout_request(world, issuer="urn:x")), "Issuer not present"),
    "too old": (
        lambda world: redirected(logout_request(world, IssueInstant=iso(world.clock() - timedelta(minutes=7)))),
        "The logout message is too old",
    ),
    "over": (
        lambda world: redirected(logout_request(world, NotOnOrAfter=iso(world.clock() - timedelta(minutes=2)))),
        "The logout message is too old",
    ),
    "of tomorrow": (
        lambda world: redirected(logout_request(world, IssueInstant=iso(world.clock() + timedelta(days=1)))),
        "The identity provider's clock is 86400 s ahead",
    ),
    "no version": (lambda world: redirected(logout_request(world, Version="1.1")), "is not one of single logout"),
    "no NameID": (
        lambda world: redirected(logout_message(world, "LogoutRequest", "")),
        "The logout message names nobody",
    ),
    "two NameIDs": (
        lambda world: redirected(
            logout_message(world, "LogoutRequest", "<saml:NameID>a</saml:NameID><saml:NameID>b</saml:NameID>")
        ),
        "has a part that cannot be read",
    ),
    "document type": (
        lambda world: redirected(b"<!DOCTYPE a>" + etree.tostring(logout_request(world))),
        "is not acceptable XML",
    ),
    "a parameter twice": (
        lambda world: redirected(logout_request(world)) + "&RelayState=a&RelayState=b",
        "comes twice",
    ),
    "both kinds": (lambda world: redirected(logout_request(world)) + "&SAMLResponse=a", "either SAMLRequest or"),
    "an answer that is a request": (
        lambda world: redirected(logout_request(world)).replace("SAMLRequest=", "SAMLResponse="),
        "Signature of the logout",
    ),
    "nothing": (lambda _world: f"{BASE}/slo", "either SAMLRequest or SAMLResponse"),
}


@pytest.mark.parametrize("how", HOSTILE_LOGOUTS)
def test_a_logout_that_is_not_the_providers_ends_nothing(world, browser, how):
    make, message = HOSTILE_LOGOUTS[how]
    sign_in(world, browser)
    refused(browser.get(make(world)), 400, message)
    assert signed_in(browser)


def changed_inside(request):
    sign(request)
    root = etree.fromstring(etree.tostring(request))
    root.find("saml:NameID", NS).text = "ann"
    return root


def by_mallory(request):
    sign(request, key=key_pair("mallory"))
    return request


def empty_signature(request):
    request.insert(1, etree.Element(f"{{{DS}}}Signature"))
    return request


POSTED_LOGOUTS = {
    "D33 unsigned": (lambda request: request, "The logout message is not signed"),
    "other key": (by_mallory, "Signature of the logout"),
    "changed": (changed_inside, "Signature of the logout"),
    "empty signature": (empty_signature, "Signature of the logout"),
}


@pytest.mark.parametrize("how", POSTED_LOGOUTS)
def test_a_posted_logout_that_is_not_the_providers_ends_nothing(world, browser, how):
    change, message = POSTED_LOGOUTS[how]
    sign_in(world, browser)
    text = encoded(change(logout_request(world, subject="bob" if how == "changed" else "ann")))
    refused(browser.post(f"{BASE}/slo", {"SAMLRequest": text}), 400, message)
    assert signed_in(browser)


def test_a_logout_counts_once(world, browser):
    target = redirected(logout_request(world))
    assert browser.get(target).status == 303
    sign_in(world, browser)
    refused(browser.get(target), 400, "The logout message has been used before")
    assert signed_in(browser)


def test_an_account_of_its_own_has_a_provider_of_its_own(world, browser):
    """What an identity provider says for one service provider is worth nothing for another."""
    world.admin.do("CreateSAMLProvider", Name="Twin", SAMLMetadataDocument=metadata(addresses=ADDRESSES))
    world.admin.role("twin", trust({"Federated": world.admin.arn("saml-provider", "Twin")}, "sts:AssumeRoleWithSAML"))
    asked, relay_state = begin(browser)
    text = encoded(signed(for_us(world, in_response_to=asked)))
    answer = browser.post("/saml/111122223333/Twin/acs", {"SAMLResponse": text, "RelayState": relay_state})
    refused(answer, 400, "Response was not sent to this address")
    text = encoded(signed(replace(for_us(world), attributes={f"{ATTRIBUTES}RoleSessionName": ("ann",)})))
    refused(browser.post("/saml/111122223333/Twin/acs", {"SAMLResponse": text}), 400, "was not sent to this address")


# --- what a session rests on ------------------------------------------------------------------------------------------


def cut_off(world, kind, subject):
    now = int(world.clock().timestamp() * 1000)
    with world.installation.store.write() as tx:
        revoke(tx, kind, subject, now_ms=now, random=os.urandom)


@pytest.mark.parametrize("kind", ["person", "account"])
def test_who_is_revoked_is_signed_out_of_the_browser_too(world, browser, kind):
    sign_in(world, browser)
    cut_off(world, kind, f"{world.provider}|ann" if kind == "person" else "111122223333")
    assert not signed_in(browser)
    world.clock.advance(seconds=1)
    sign_in(world, browser)
    assert signed_in(browser)


def deleted(world):
    world.admin.do("DeleteSAMLProvider", SAMLProviderArn=world.provider)


def another_by_the_same_name(world):
    deleted(world)
    world.admin.do("CreateSAMLProvider", Name="Corp", SAMLMetadataDocument=metadata())


def another_issuer(world):
    text = metadata(entity_id="https://other.example.com")
    world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider, SAMLMetadataDocument=text)


def over(world):
    until = iso(world.clock() + timedelta(minutes=1))
    text = metadata(attributes=f' validUntil="{until}"')
    world.admin.do("UpdateSAMLProvider", SAMLProviderArn=world.provider, SAMLMetadataDocument=text)
    world.clock.advance(minutes=2)


@pytest.mark.parametrize("change", [deleted, another_by_the_same_name, another_issuer, over])
def test_a_session_ends_with_what_it_rests_on(world, browser, change):
    sign_in(world, browser)
    token = field_of(browser.get("/portal"), "form_token")
    change(world)
    assert browser.post("/portal", {"roleIndex": world.role, "form_token": token}).status == 401
    assert not signed_in(browser)


def test_a_session_that_another_version_wrote_is_none(world, browser, redis_url):
    sign_in(world, browser)
    with Redis.from_url(redis_url) as client:
        for key in client.keys("fedgate:web:session:*"):
            client.set(key, '{"identity": {"new": 1}}')
    page = browser.get("/portal")
    assert (page.status, "Continue with Corp" in page.body.decode()) == (401, True)


def test_an_old_session_ends_when_a_new_one_begins(world, browser):
    sign_in(world, browser)
    old = Browser(world.installation)
    old.cookies = dict(browser.cookies)
    sign_in(world, browser)
    assert (signed_in(old), signed_in(browser)) == (False, True)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_nobody_chooses_a_role_for_somebody_else(world, browser, headers):
    allow(world, idp_initiated=True)
    text = encoded(signed(for_us(world, subject="mallory")))
    fields = {"SAMLResponse": text, "roleIndex": world.role}
    refused(browser.post(f"{BASE}/acs", fields, **headers), 403, "This form has expired or is not from this site")
    assert not browser.cookies


def test_an_answer_that_nobody_asked_for_takes_nobodys_place(world, browser):
    allow(world, idp_initiated=True)
    sign_in(world, browser)
    mine = browser.cookies["fedgate-session"]
    text = encoded(signed(for_us(world, subject="mallory")))
    assert browser.post(f"{BASE}/acs", {"SAMLResponse": text, "roleIndex": world.role}).status == 200
    assert browser.cookies["fedgate-session"] == mine


@pytest.mark.parametrize("role", ["x", "x" * 3000])
def test_a_role_that_is_none_is_refused_in_few_words(world, browser, role):
    sign_in(world, browser)
    token = field_of(browser.get("/portal"), "form_token")
    answer = browser.post("/portal", {"roleIndex": role, "form_token": token})
    refused(answer, 400, "roleIndex must be the ARN of a role")
    assert b"x" * 100 not in answer.body


def test_a_sign_in_that_leads_nowhere_opens_no_session(world, browser):
    asked, relay_state = begin(browser)
    bad = replace(
        for_us(world, in_response_to=asked), attributes={f"{ATTRIBUTES}Role": (f"{world.role},{world.provider}",)}
    )
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": encoded(signed(bad)), "RelayState": relay_state})
    refused(answer, 400, "RoleSessionName is required in AuthnResponse")
    assert "fedgate-session" not in browser.cookies


def test_a_session_of_the_provider_that_is_just_over_begins_none_here(world, browser):
    asked, relay_state = begin(browser)
    late = for_us(world, in_response_to=asked, session_until=world.clock() - timedelta(seconds=30))
    answer = browser.post(f"{BASE}/acs", {"SAMLResponse": encoded(signed(late)), "RelayState": relay_state})
    refused(answer, 400, "Token has expired")


def test_a_logout_is_not_used_up_while_redis_is_away(world, browser):
    sign_in(world, browser)
    target = redirected(logout_request(world))
    with redis_server() as url:
        away = replace(world.installation.services.pages.site.sessions, redis=Redis.from_url(url))
    # The Redis that it speaks to has just ended.
    site = world.installation.services.pages.site
    there = site.sessions
    object.__setattr__(site, "sessions", away)
    refused(browser.get(target), 503, "Sign-in is not available now")
    object.__setattr__(site, "sessions", there)
    assert browser.get(target).status == 303
    assert not signed_in(browser)


def test_a_relay_state_that_the_signature_does_not_cover_is_not_read(world, browser):
    target = redirected(logout_request(world)) + "&Relay%53tate=evil"
    refused(browser.get(target), 400, "has a parameter that is not known")


def test_every_answer_forbids_what_it_does_not_need(browser):
    for target in ("/nowhere", "/static/fedgate.css", f"{BASE}/acs"):
        headers = browser.get(target).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], target
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_form_that_is_too_large_is_recorded(world, browser):
    assert browser.post(f"{BASE}/acs", {"SAMLResponse": "A" * 400_000}).status == 413
    assert (records(world)[-1]["eventName"], records(world)[-1]["errorCode"]) == ("SamlSignIn", "RequestEntityTooLarge")
