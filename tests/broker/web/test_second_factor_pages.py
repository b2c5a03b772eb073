"""Second factors on the pages: given after the password, for a role, set up, taken away (THREATS H02, H08)."""

import base64
import itertools
import json
import os
import re
import urllib.parse
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from flask import Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from redis import Redis
from support.administrator import allow, deny, trust
from support.directories import RunningDirectory, as_toml, demo_ldif, running_demo_directory
from support.passkey_device import Device
from support.saml_fixtures import Browser, SamlSetup, Still, field_of, open_setup
from support.saml_idp import encoded, signed

from broker import wiring
from broker.demo.people import BASE, LDIF, service_password
from broker.web.mfa.enrolment import otpauth_uri
from broker.web.mfa.passkeys import Passkeys
from broker.web.mfa.second_factor import normalize_digits
from iam.credentials import factors, totp
from iam.credentials.root_login import set_root_login
from iam.errors import NotSignedIn
from iam.store.revocation import revoke

ACCOUNT = "111122223333"
CORP = f"arn:aws:iam::{ACCOUNT}:saml-provider/Corp"
PUBLIC = "http://localhost:8080"
SAML = f"{PUBLIC}/saml/{ACCOUNT}/Corp"
ALICE = "wonderland-1865"
ROOT_PASSWORD = "A root's pass phrase, 1 of a kind"


@dataclass
class Desk:
    """Somebody in front of a browser, with an authenticator app and a security key."""

    world: SamlSetup
    browser: Browser
    name: str = "ann"
    since: int = 0  # as many audit records there were before
    seed: bytes = b""
    roles: tuple[str, ...] = ()
    codes: list[str] = field(default_factory=list)
    key: Device = field(default_factory=lambda: Device(PUBLIC))

    @property
    def clock(self) -> Still:
        return self.world.clock

    # --- signing in ---------------------------------------------------------------------------------------------------

    def sign_in(self):
        """Come back from the identity provider; return where that led."""
        response = self.world.response(
            name=self.name, subject=self.name, recipient=f"{SAML}/acs", destination=f"{SAML}/acs",
            audiences=((f"{SAML}/metadata",),), in_response_to=self._begun(), more={"Role": self.roles},
        )  # fmt: skip
        form = {"SAMLResponse": encoded(signed(response)), "RelayState": self.relay_state}
        answer = self.browser.post(f"/saml/{ACCOUNT}/Corp/acs", form)
        assert answer.status == 303, answer.body.decode()
        return answer.headers["Location"]

    def _begun(self):
        location = self.browser.get(f"/saml/{ACCOUNT}/Corp/login").headers["Location"]
        sent = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
        self.relay_state = sent["RelayState"][0]
        request = etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"][0]), -15))
        return request.get("ID")

    def sign_in_with_password(self, path, username, password):
        page = self.browser.get(path)
        form = {"username": username, "password": password, "transaction": field_of(page, "transaction"), "to": ""}
        answer = self.browser.post(path, form)
        assert answer.status == 303, answer.body.decode()
        return answer.headers["Location"]

    def signed_in(self):
        return self.browser.get("/portal").status == 200

    # --- second factors -----------------------------------------------------------------------------------------------

    def code(self, steps=0):
        return totp.code_at(self.seed, totp.step_at(self.clock()) + steps)

    def wrong(self):
        near = {self.code(steps) for steps in range(-3, 4)}
        return next(guess for guess in map("{:06}".format, range(10)) if guess not in near)

    def enrol_app(self, target="/mfa/enrol", name="phone"):
        """Set an app up, and wait until its next code; return the answer."""
        page = self.browser.get(target)
        assert page.status == 200, (page.status, page.headers, page.body.decode())
        self.seed = seed_on(page)
        answer = self.browser.post("/mfa/enrol", form(page, "totp") | {"code": self.code(), "name": name})
        self.codes = re.findall(r"<li><code>([^<]+)</code>", answer.body.decode()) or self.codes
        self.clock.advance(seconds=30)
        return answer

    def enrol_key(self, target="/mfa/enrol", name="security key", **lies):
        page = self.browser.get(target)
        fields = form(page, "passkey") | {"credential": self.key.made(options(page), **lies), "name": name}
        return self.browser.post("/mfa/enrol", fields)

    def give(self, code=None, target="/mfa", **more):
        """Give a code, the right one unless another is named."""
        use = "recovery" if "use=recovery" in target else "code"
        page = self.browser.get(target)
        return self.browser.post("/mfa", form(page, use) | {"code": self.code() if code is None else code} | more)

    def touch(self, target="/mfa", **lies):
        """Sign with the security key."""
        page = self.browser.get(target)
        return self.browser.post("/mfa", form(page, "passkey") | {"credential": self.key.signed(options(page), **lies)})

    # --- looking ------------------------------------------------------------------------------------------------------

    def factors(self):
        return json.loads(self.browser.get("/security", Accept="application/json").body)["factors"]

    def left(self):
        return json.loads(self.browser.get("/security", Accept="application/json").body)["recovery_codes_left"]

    def remove(self, factor):
        page = self.browser.get(f"/security?remove={urllib.parse.quote(factor['id'], safe='')}")
        if page.status != 200:
            return page
        return self.browser.post("/security/remove", form(page, "/security/remove") | {"factor": factor["id"]})

    def posted(self, path, **fields):
        token = field_of(self.browser.get("/security"), "form_token")
        return self.browser.post(path, {"form_token": token} | fields)

    def elsewhere(self):
        """The same person in front of another browser."""
        return replace(self, browser=Browser(self.world.installation))

    def neighbor(self):
        """Somebody else, with a key of their own."""
        return replace(self.elsewhere(), name=f"{self.name}-b", seed=b"", key=Device(PUBLIC))

    @property
    def person(self) -> str:
        return f"{CORP}|{self.name}"

    def records(self, *names):
        return [one for one in recorded(self.world)[self.since :] if one["eventName"] in names]


def recorded(world):
    return [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]


def root_of(page):
    return etree.HTML(page.body.decode())


def form(page, which):
    """Return the hidden fields of the form that has this use, or this action."""
    forms = root_of(page).xpath("//form[input[@name='use' and @value=$which] or @action=$which]", which=which)
    assert forms, page.body.decode()
    return {one.get("name"): one.get("value") for one in forms[0].xpath("input[@type='hidden']")}


def options(page):
    return root_of(page).xpath("//form[@data-passkey]/@data-options")[0]


def seed_on(page):
    return base64.b32decode(root_of(page).xpath("string(//*[@id='key'])").replace(" ", ""))


def alert(page):
    return root_of(page).xpath("normalize-space(//*[@role='alert'])")


def session_of(browser):
    return browser.cookies.get("fedgate-session")


@contextmanager
def setup_with(folder, redis_url, **more):
    folder.mkdir(exist_ok=True)
    world = open_setup(folder, redis_url, **{"FEDGATE_PUBLIC_URL": PUBLIC} | more)
    yield world
    world.installation.close()


@pytest.fixture(scope="module")
def leaving(tmp_path_factory, redis_url):
    """A world whose provider leaves second factors to its people."""
    with setup_with(tmp_path_factory.mktemp("leaving"), redis_url) as world:
        furnish(world)
        yield world


@pytest.fixture(scope="module")
def demanding(tmp_path_factory, redis_url):
    """A world whose provider's people must have a second factor."""
    with setup_with(tmp_path_factory.mktemp("demanding"), redis_url, FEDGATE_PAGES_SECOND_FACTOR=CORP) as world:
        furnish(world)
        yield world


def furnish(world):
    world.trusts("plain")
    world.trusts("secure", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    world.trusts("aged", Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": "600"}})


_NUMBERS = itertools.count(1)


def desk_in(world):
    """Somebody new, so that tests leave each other alone."""
    roles = tuple(f"{world.admin.arn('role', name)},{CORP}" for name in ("plain", "secure", "aged"))
    return Desk(world, Browser(world.installation), f"ann{next(_NUMBERS)}", len(recorded(world)), roles=roles)


@pytest.fixture
def desk(leaving):
    """Somebody whose provider leaves second factors to them."""
    return desk_in(leaving)


@pytest.fixture
def demanded(demanding):
    """Somebody whose provider's people must have a second factor."""
    return desk_in(demanding)


@pytest.fixture
def proved(demanded):
    """The same, with an app, signed in anew and waiting for a code."""
    demanded.sign_in()
    demanded.enrol_app()
    other = demanded.elsewhere()
    assert other.sign_in() == "/mfa"
    return other


# --- after the password -----------------------------------------------------------------------------------------------


def test_without_a_demand_nobody_is_asked(desk):
    assert desk.sign_in() == "/portal"
    assert desk.signed_in()


def test_a_code_opens_the_session_and_leads_on(proved):
    assert not proved.signed_in()
    page = proved.browser.get("/mfa")
    assert 'inputmode="numeric" autocomplete="one-time-code"' in page.body.decode()
    assert "You are signing in as" in page.body.decode()
    assert "Verify your identity." in page.body.decode()  # nobody has verified it before
    answer = proved.give()
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")
    assert proved.signed_in()
    assert "fedgate-step" not in proved.browser.cookies
    (enrolled, given) = proved.records("EnrolSecondFactor", "SecondFactor")
    assert enrolled["requestParameters"] | {"factor": ""} == {
        "kind": "totp", "factorName": "phone", "factor": "", "recoveryCodes": 10
    }  # fmt: skip
    assert given["requestParameters"] == {"use": "code", "purpose": "sign-in"}
    assert given["responseElements"] == {"SecondFactor": "Success"}
    assert given["userIdentity"]["sessionContext"]["person"] == proved.person


@pytest.mark.parametrize("spread", ["{0} {1}", " {0}{1}\t", "{0}\u00a0{1}"])
def test_a_code_may_be_pasted_with_spaces(proved, spread):
    code = proved.code()
    assert proved.give(spread.format(code[:3], code[3:])).status == 303


def test_digits_are_taken_as_any_keyboard_writes_them():
    assert normalize_digits("\uff11\uff12\uff13 \u0664\u0665\u0666") == "123456"
    assert normalize_digits("12a") == "12a"


def test_a_wrong_code_says_so_with_a_reference_and_is_not_shown_again(proved):
    wrong = proved.wrong()
    answer = proved.give(wrong)
    assert answer.status == 401
    assert "This code is wrong or was already used" in alert(answer)
    assert wrong not in answer.body.decode()
    assert root_of(answer).xpath("//title")[0].text.startswith("Error: ")
    assert not proved.signed_in()
    (failure,) = proved.records("SecondFactor")
    assert failure["errorCode"] == "InvalidAuthenticationCode"
    assert root_of(answer).xpath("//*[@role='alert']//code")[0].text == failure["requestID"][:8]


def test_the_sixth_wrong_code_is_told_to_wait_and_so_is_a_right_one(proved):
    for _ in range(5):
        assert proved.give(proved.wrong()).status == 401
    for code in (proved.wrong(), proved.code()):
        answer = proved.give(code)
        assert answer.status == 429
        assert 800 < int(answer.headers["Retry-After"]) <= 900
        assert "Too many attempts" in alert(answer)
    assert proved.records("SecondFactor")[-1]["errorCode"] == "Throttling"
    proved.clock.advance(seconds=int(answer.headers["Retry-After"]) + 1)
    again = proved.elsewhere()
    again.sign_in()
    assert again.give().status == 303


def test_wrong_codes_are_counted_for_the_person_in_whatever_browser(proved):
    for _ in range(3):
        proved.give(proved.wrong())
    other = proved.elsewhere()
    other.sign_in()
    assert [other.give(other.wrong()).status for _ in range(3)] == [401, 401, 429]


def test_a_step_counts_once_and_so_do_those_before_it(proved):
    code, older = proved.code(), proved.code(steps=-1)
    assert proved.give(code).status == 303
    other = proved.elsewhere()
    other.sign_in()
    assert other.give(code).status == 401
    assert other.give(older).status == 401
    proved.clock.advance(seconds=30)
    assert other.give().status == 303


def test_a_form_sent_twice_gets_its_first_answer(proved):
    page = proved.browser.get("/mfa")
    fields, cookies = form(page, "code") | {"code": proved.code()}, dict(proved.browser.cookies)
    first = proved.browser.post("/mfa", fields)
    session = session_of(proved.browser)
    proved.browser.cookies = cookies
    second = proved.browser.post("/mfa", fields)
    assert (first.status, second.status) == (303, 303)
    assert session_of(proved.browser) == session


def test_a_skipped_step_opens_nothing(proved):
    for target in ("/portal", "/security", "/mfa/enrol", "/mfa?to=/portal", "/mfa/enrol?to=/security"):
        assert proved.browser.get(target).status == 401
    for path in ("/portal", "/security/remove", "/security/codes"):
        assert proved.browser.post(path, {"form_token": "x"}).status == 401
    stranger = Browser(proved.world.installation)
    for target in ("/mfa", "/mfa/enrol", "/security"):
        assert stranger.get(target).status == 401


def test_who_waits_to_prove_a_factor_cannot_enrol_one_instead(proved):
    page = proved.browser.get("/mfa")
    fields = form(page, "code") | {"use": "totp", "seed": "", "code": "123456"}
    assert proved.browser.post("/mfa/enrol", fields).status == 401


def test_a_factor_that_somebody_added_meanwhile_is_asked_for(demanded):
    """Two browsers know the password: who is second does not add a factor of their own."""
    other = demanded.elsewhere()
    other.sign_in()
    page = other.browser.get("/mfa/enrol")
    other.seed = seed_on(page)
    demanded.sign_in()
    demanded.enrol_app()
    answer = other.browser.post("/mfa/enrol", form(page, "totp") | {"code": other.code()})
    assert answer.status == 401
    assert other.browser.get("/mfa/enrol").status == 401
    assert len(demanded.factors()) == 1


def test_who_waits_while_the_factors_are_reset_signs_in_again(proved):
    with proved.world.installation.store.write() as tx:
        factors.reset_factors(tx, proved.person)
    assert proved.browser.get("/mfa").status == 401
    assert proved.sign_in() == "/mfa/enrol"


def test_who_waits_and_is_revoked_meanwhile_signs_in_again(proved):
    page = proved.browser.get("/mfa")
    fields = form(page, "code") | {"code": proved.code()}
    with proved.world.installation.store.write() as tx:
        now_ms = int(proved.clock().timestamp() * 1000)
        revoke(tx, "person", proved.person, now_ms=now_ms, random=os.urandom)
    proved.clock.advance(seconds=1)
    assert proved.browser.post("/mfa", fields).status == 401
    assert not proved.signed_in()
    assert proved.sign_in() == "/mfa"
    assert proved.give().status == 303


def test_who_signs_out_while_a_code_is_under_way_stays_out(proved):
    proved.give()
    completion = proved.world.installation.services.pages.login.login.completion
    session = completion.site.sessions.find(proved.browser.cookies["fedgate-session"])
    completion.site.sessions.end(session)
    response = Response()
    with proved.world.installation.application._pages.test_request_context("/mfa"), pytest.raises(NotSignedIn):
        completion.step_up(session, response, proved.clock())
    assert "Set-Cookie" not in response.headers
    assert not proved.signed_in()


def test_forms_of_elsewhere_are_refused(proved):
    page = proved.browser.get("/mfa")
    fields = form(page, "code") | {"code": proved.code()}
    assert proved.browser.post("/mfa", fields, Origin="https://evil.example").status == 403
    assert proved.browser.post("/mfa", fields | {"form_token": "x"}).status == 403
    assert not proved.signed_in()


@pytest.mark.parametrize("use", ["", "x", "code' --", "totp"])
def test_a_use_that_there_is_not_is_refused(proved, use):
    page = proved.browser.get("/mfa")
    assert proved.browser.post("/mfa", form(page, "code") | {"use": use, "code": "1"}).status == 400


def test_hostile_fields_are_refused_without_a_failure_of_ours(proved):
    page = proved.browser.get("/mfa")
    for code in ("\0", "1" * 65):
        assert proved.browser.post("/mfa", form(page, "code") | {"code": code}).status == 400


def test_waiting_ends_after_ten_minutes_for_good(proved, redis_url):
    with Redis.from_url(redis_url) as client:
        found = client.keys("fedgate:web:waiting:*")
        assert found
        assert all(0 < client.ttl(key) <= 600 for key in found)
        client.delete(*found)
    assert proved.browser.get("/mfa").status == 401


# --- recovery codes ---------------------------------------------------------------------------------------------------


def test_a_recovery_code_lets_in_once(proved):
    code = proved.codes[0].upper().replace("-", " ")
    page = proved.browser.get("/mfa")
    assert "/mfa?use=recovery" in page.body.decode()
    assert proved.give(code, target="/mfa?use=recovery").status == 303
    assert proved.left() == 9
    other = proved.elsewhere()
    other.sign_in()
    answer = other.give(code, target="/mfa?use=recovery")
    assert answer.status == 401
    assert "This recovery code is wrong or was already used." in alert(answer)
    assert [one["requestParameters"]["use"] for one in proved.records("SecondFactor")] == ["recovery", "recovery"]


def test_wrong_recovery_codes_count_like_wrong_codes(proved):
    for _ in range(5):
        assert proved.give("aaaa-bbbb", target="/mfa?use=recovery").status == 401
    assert proved.give(proved.codes[0], target="/mfa?use=recovery").status == 429
    assert proved.give().status == 429


# --- setting one up ---------------------------------------------------------------------------------------------------


def test_who_must_have_a_factor_sets_one_up_and_gets_recovery_codes_once(demanded):
    assert demanded.sign_in() == "/mfa/enrol"
    assert not demanded.signed_in()
    answer = demanded.enrol_app()
    assert answer.status == 200
    assert len(set(demanded.codes)) == 10
    assert 'href="/portal"' in answer.body.decode()
    assert answer.headers["Cache-Control"] == "no-store"
    assert demanded.signed_in()
    (factor,) = demanded.factors()
    assert (factor["kind"], factor["name"], factor["last_used"]) == ("totp", "phone", None)
    assert demanded.left() == 10
    assert demanded.codes[0] not in demanded.browser.get("/security").body.decode()


def test_the_page_shows_one_seed_as_picture_and_as_text_and_keeps_none(demanded):
    demanded.sign_in()
    first, second = demanded.browser.get("/mfa/enrol"), demanded.browser.get("/mfa/enrol")
    assert seed_on(first) != seed_on(second)
    text = first.body.decode()
    (picture,) = root_of(first).xpath("//div[@class='qr']/svg")
    assert picture.get("viewbox")
    assert re.fullmatch(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", root_of(first).xpath("string(//*[@id='key'])"))
    assert (
        base64.b32encode(seed_on(first)).decode()
        in root_of(first).xpath("//a[starts-with(@href, 'otpauth:')]/@href")[0]
    )
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?! src=)", text)
    with demanded.world.installation.store.read() as tx:
        assert factors.factors_of(tx, demanded.person) == ()


def test_a_wrong_first_code_adds_nothing_and_nobody_scans_twice(demanded):
    demanded.sign_in()
    page = demanded.browser.get("/mfa/enrol")
    demanded.seed = seed_on(page)
    again = demanded.browser.post("/mfa/enrol", form(page, "totp") | {"code": demanded.wrong()})
    assert again.status == 400
    assert "This code is wrong" in alert(again)
    assert seed_on(again) == demanded.seed
    assert not demanded.signed_in()
    done = demanded.browser.post("/mfa/enrol", form(again, "totp") | {"code": demanded.code()})
    assert done.status == 200
    assert [one.get("errorCode") for one in demanded.records("EnrolSecondFactor")] == [
        "InvalidAuthenticationCode",
        None,
    ]


def test_a_seed_is_added_once_however_often_its_form_is_sent(desk):
    desk.sign_in()
    desk.enrol_app()
    page = desk.browser.get("/mfa/enrol?to=/security")
    desk.seed = seed_on(page)
    again = desk.browser.post("/mfa/enrol", form(page, "totp") | {"code": desk.wrong()})
    assert desk.browser.post("/mfa/enrol", form(again, "totp") | {"code": desk.code()}).status == 303
    desk.clock.advance(seconds=30)
    later = desk.browser.get("/mfa/enrol?to=/security")
    old = form(again, "totp") | {"transaction": form(later, "totp")["transaction"], "code": desk.code()}
    answer = desk.browser.post("/mfa/enrol", old)
    assert answer.status == 409
    assert "This app is already added" in alert(answer)
    assert len(desk.factors()) == 2


@pytest.mark.parametrize("seed", ["", "x", "AAAA", "!" * 40, "é"])
def test_a_seed_that_is_not_ours_is_refused(demanded, seed):
    demanded.sign_in()
    page = demanded.browser.get("/mfa/enrol")
    answer = demanded.browser.post("/mfa/enrol", form(page, "totp") | {"seed": seed, "code": "123456"})
    assert answer.status == 400
    assert "This page was open too long" in alert(answer)


def test_a_seed_of_somebody_else_or_of_yesterday_is_refused(demanded):
    other = demanded.neighbor()
    other.sign_in()
    theirs = other.browser.get("/mfa/enrol")
    demanded.sign_in()
    page = demanded.browser.get("/mfa/enrol")
    demanded.seed = seed_on(theirs)
    foreign = form(page, "totp") | {"seed": form(theirs, "totp")["seed"], "code": demanded.code()}
    assert demanded.browser.post("/mfa/enrol", foreign).status == 400
    page = demanded.browser.get("/mfa/enrol")
    demanded.seed = seed_on(page)
    demanded.clock.advance(minutes=61)
    demanded.sign_in()  # the sign-in of an hour ago is over
    fresh = form(demanded.browser.get("/mfa/enrol"), "totp")
    old = fresh | {"seed": form(page, "totp")["seed"], "code": demanded.code()}
    assert demanded.browser.post("/mfa/enrol", old).status == 400


def test_a_form_sent_twice_shows_the_same_recovery_codes(demanded):
    demanded.sign_in()
    page = demanded.browser.get("/mfa/enrol")
    demanded.seed, cookies = seed_on(page), dict(demanded.browser.cookies)
    fields = form(page, "totp") | {"code": demanded.code()}
    first = demanded.browser.post("/mfa/enrol", fields)
    demanded.browser.cookies = cookies
    second = demanded.browser.post("/mfa/enrol", fields)
    assert first.body == second.body
    assert demanded.signed_in()


def test_the_label_of_an_app_names_organisation_and_person():
    address = otpauth_uri(b"12345678901234567890", "ann:b@corp", "Acme: GmbH & Co")
    split = urllib.parse.urlsplit(address)
    assert (split.scheme, split.netloc) == ("otpauth", "totp")
    assert urllib.parse.unquote(split.path) == "/Acme  GmbH & Co:ann b@corp"
    assert urllib.parse.parse_qs(split.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"], "issuer": ["Acme: GmbH & Co"]
    }  # fmt: skip


# --- stepping up for a role -------------------------------------------------------------------------------------------


def take(desk, name="secure"):
    page = desk.browser.get("/portal")
    chosen = {"roleIndex": desk.world.admin.arn("role", name), "form_token": field_of(page, "form_token")}
    return desk.browser.post("/portal", chosen)


def test_a_role_that_asks_for_a_factor_leads_to_a_first_one_and_back(desk):
    desk.sign_in()
    assert take(desk, "plain").status == 200
    answer = take(desk)
    assert answer.headers["Location"].startswith("/mfa?to=")
    asked = desk.browser.get(answer.headers["Location"])
    assert asked.headers["Location"].startswith("/mfa/enrol?to=%2Fportal%3Frole%3D")
    before = session_of(desk.browser)
    done = desk.enrol_app(asked.headers["Location"])
    assert "role/secure" in urllib.parse.unquote(root_of(done).xpath("//a[@class='button block']/@href")[0])
    assert session_of(desk.browser) != before
    assert "AWS_SESSION_TOKEN" in take(desk).body.decode()


def test_stepping_up_gives_a_new_session_id_and_ends_the_old_one(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/portal")
    desk.browser = Browser(desk.world.installation)
    assert desk.sign_in() == "/portal"  # their provider does not demand it at sign-in
    before = session_of(desk.browser)
    answer = take(desk)
    assert desk.give(desk.wrong(), target=answer.headers["Location"]).status == 401
    assert session_of(desk.browser) == before
    answer = desk.give(target=answer.headers["Location"])
    assert answer.headers["Location"].startswith("/portal?role=")
    after = session_of(desk.browser)
    assert after != before
    assert "AWS_SESSION_TOKEN" in take(desk).body.decode()
    desk.browser.cookies["fedgate-session"] = before
    assert not desk.signed_in()
    assert desk.records("SecondFactor")[-1]["requestParameters"]["purpose"] == "step-up"


def test_an_old_factor_is_asked_for_again_where_the_trust_says_how_old_it_may_be(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/portal")
    assert "AWS_SESSION_TOKEN" in take(desk, "aged").body.decode()
    desk.clock.advance(minutes=11)
    answer = take(desk, "aged")
    assert answer.headers["Location"].startswith("/mfa?to=")
    assert desk.give(target=answer.headers["Location"]).status == 303
    assert "AWS_SESSION_TOKEN" in take(desk, "aged").body.decode()


def test_stepping_up_is_for_who_is_signed_in_even_where_another_sign_in_waits(proved):
    proved.give()
    proved.clock.advance(seconds=30)
    other = proved.neighbor()
    other.sign_in()
    proved.browser.cookies["fedgate-step"] = other.browser.cookies["fedgate-step"]
    page = proved.browser.get("/mfa?to=/security")
    assert f"<strong>{proved.name}</strong>" in page.body.decode()
    assert "You are signed in as" in page.body.decode()
    assert "Verify your identity again." in page.body.decode()
    assert proved.give(target="/mfa?to=/security").headers["Location"] == "/security"


def test_a_wrong_code_and_another_language_lose_nobody_the_way(proved):
    proved.give()
    proved.clock.advance(seconds=30)
    answer = proved.give(proved.wrong(), target="/mfa?to=/security")
    assert form(answer, "code")["to"] == "/security"
    (german,) = root_of(answer).xpath("//a[@hreflang='de']/@href")
    assert german == "/mfa?to=%2Fsecurity&lang=de"
    assert form(proved.browser.get(german), "code")["to"] == "/security"


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/logout", "/mfa", "/portal\r\nX: y"])
def test_a_step_up_leads_to_our_own_pages_alone(proved, to):
    proved.give()
    proved.clock.advance(seconds=30)
    answer = proved.give(target=f"/mfa?to={urllib.parse.quote(to, safe='')}")
    assert answer.headers["Location"] == "/portal"


# --- the page of one's own security -----------------------------------------------------------------------------------


def test_the_page_lists_what_somebody_has(proved):
    proved.give()
    text = proved.browser.get("/security").body.decode()
    root = etree.HTML(text)
    assert root.xpath("//table/caption")
    assert [one.get("scope") for one in root.xpath("//th")] == ["col"] * 5
    assert "phone" in text
    assert "10 recovery codes are left." in text
    assert root.xpath("//nav//a[@aria-current='page']")[0].text == "Security"
    assert "At least one is required." in text  # the last one of somebody who must have one


def test_what_somebody_has_is_changed_only_after_a_fresh_factor(desk):
    """H08: a session that knows only the password neither adds nor removes a factor."""
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/security")
    (factor,) = desk.factors()
    thief = desk.elsewhere()
    assert thief.sign_in() == "/portal"
    old = form(desk.browser.get("/mfa/enrol?to=/security"), "totp")
    for answer in (
        thief.browser.get("/mfa/enrol?to=/security"),
        thief.browser.get("/security?codes=new"),
        thief.remove(factor),
        thief.posted("/security/remove", factor=factor["id"]),
        thief.posted("/security/codes"),
        thief.browser.post("/mfa/enrol", enrolling(thief, old)),
    ):
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/mfa?to=")
    assert thief.factors() == [factor]
    desk.clock.advance(minutes=6)
    assert desk.posted("/security/codes").headers["Location"].startswith("/mfa?to=")


def enrolling(desk, other):
    """The form of an app, as somebody signed in would send it who never saw the page."""
    token = field_of(desk.browser.get("/security"), "form_token")
    transaction = form(desk.browser.get("/mfa?to=/security"), "code")["transaction"]
    return other | {"form_token": token, "transaction": transaction, "to": "/security", "code": "123456"}


def test_the_way_back_from_a_fresh_factor_asks_once_more_and_then_removes(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/security")
    (factor,) = desk.factors()
    desk.clock.advance(minutes=6)
    asked = desk.remove(factor).headers["Location"]
    back = desk.give(target=asked).headers["Location"]
    assert back.startswith("/security?remove=")
    page = desk.browser.get(back)
    assert "Remove phone?" in page.body.decode()
    assert "Your recovery codes will also stop working" in page.body.decode()
    done = desk.browser.post("/security/remove", form(page, "/security/remove"))
    assert (done.status, done.headers["Location"]) == (303, "/security")
    assert (desk.factors(), desk.left()) == ([], 0)
    (removed,) = desk.records("RemoveSecondFactor")
    assert removed["requestParameters"] == {"kind": "totp", "factorName": "phone", "factor": factor["id"]}


def test_the_last_factor_of_somebody_who_must_have_one_stays(proved):
    proved.give()
    (factor,) = proved.factors()
    answer = proved.posted("/security/remove", factor=factor["id"])
    assert answer.status == 409
    assert "Add another one first" in answer.body.decode()
    assert proved.records("RemoveSecondFactor")[0]["errorCode"] == "DeleteConflict"
    first, proved.seed = proved.seed, b""
    proved.enrol_app("/mfa/enrol?to=/security", name="tablet")
    assert [one["name"] for one in proved.factors()] == ["phone", "tablet"]
    assert proved.remove(factor).headers["Location"] == "/security"
    assert [one["name"] for one in proved.factors()] == ["tablet"]
    other = proved.elsewhere()
    other.sign_in()
    assert other.give(totp.code_at(first, totp.step_at(other.clock()))).status == 401
    assert other.give().status == 303


def test_nobody_removes_what_somebody_else_has(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/security")
    (factor,) = desk.factors()
    other = desk.neighbor()
    other.sign_in()
    other.enrol_app("/mfa/enrol?to=/security")
    assert other.posted("/security/remove", factor=factor["id"]).status == 404
    assert desk.factors() == [factor]


def test_a_second_factor_more_brings_no_new_recovery_codes(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/security")
    answer = desk.enrol_app("/mfa/enrol?to=/security", name="tablet")
    assert (answer.status, answer.headers["Location"]) == (303, "/security")
    assert desk.left() == 10


def test_new_recovery_codes_replace_the_old_ones(proved):
    proved.give()
    asked = proved.browser.get("/security?codes=new")
    answer = proved.browser.post("/security/codes", form(asked, "/security/codes"))
    assert answer.status == 200
    new = re.findall(r"<li><code>([^<]+)</code>", answer.body.decode())
    assert len(set(new) | set(proved.codes)) == 20
    other = proved.elsewhere()
    other.sign_in()
    assert other.give(proved.codes[0], target="/mfa?use=recovery").status == 401
    assert other.give(new[0], target="/mfa?use=recovery").status == 303
    assert [one["requestParameters"] for one in proved.records("NewRecoveryCodes")] == [{"recoveryCodes": 10}]


def test_without_a_factor_there_are_no_recovery_codes(desk):
    desk.sign_in()
    desk.enrol_app("/mfa/enrol?to=/security")
    desk.remove(desk.factors()[0])
    answer = desk.posted("/security/codes")
    assert answer.status == 403
    assert desk.left() == 0


@pytest.mark.parametrize("path", ["/security/remove", "/security/codes"])
def test_a_link_changes_nothing(proved, path):
    proved.give()
    assert proved.browser.get(path).status == 405
    assert proved.browser.post(path, {"form_token": "x"}).status == 403


def test_a_ninth_factor_is_refused_on_the_page(desk):
    desk.sign_in()
    for number in range(8):
        assert desk.enrol_app("/mfa/enrol?to=/security", name=f"app {number}").status in (200, 303)
    answer = desk.enrol_app("/mfa/enrol?to=/security", name="one too many")
    assert answer.status == 409
    assert alert(answer)
    assert desk.records("EnrolSecondFactor")[-1]["errorCode"] == "LimitExceeded"


# --- passkeys ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyed(demanded):
    """Somebody who must have a factor, and has a passkey; signed in anew and waiting for it."""
    demanded.sign_in()
    answer = demanded.enrol_key()
    assert answer.status == 200, answer.body.decode()
    demanded.codes = re.findall(r"<li><code>([^<]+)</code>", answer.body.decode())
    other = demanded.elsewhere()
    assert other.sign_in() == "/mfa"
    return other


def signed_form(desk, **lies):
    page = desk.browser.get("/mfa")
    return form(page, "passkey") | {"credential": desk.key.signed(options(page), **lies)}


def test_a_passkey_is_a_second_factor_with_recovery_codes(keyed):
    assert len(keyed.codes) == 10
    answer = keyed.touch()
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")
    (factor,) = keyed.factors()
    assert (factor["kind"], factor["name"]) == ("passkey", "security key")
    assert factor["last_used"] == int(keyed.clock().timestamp() * 1000)
    (record,) = keyed.records("SecondFactor")
    assert record["requestParameters"] == {
        "use": "passkey",
        "purpose": "sign-in",
        "passkey": factor["id"],
        "userVerified": True,
    }


def test_a_key_that_asks_only_for_a_touch_counts_after_the_password(keyed):
    assert keyed.touch(flags=0x01).status == 303
    assert keyed.records("SecondFactor")[0]["requestParameters"]["userVerified"] is False
    assert "AWS_SESSION_TOKEN" in take(keyed).body.decode()


def test_what_a_page_asks_of_a_key_names_this_site_and_not_the_person(keyed):
    told = json.loads(options(keyed.browser.get("/mfa")))
    assert (told["rpId"], told["userVerification"], told["timeout"]) == ("localhost", "preferred", 300_000)
    assert len(told["allowCredentials"]) == 1
    keyed.touch()
    made = json.loads(options(keyed.browser.get("/mfa/enrol?to=/security")))
    assert made["rp"] == {"name": "Fedgate", "id": "localhost"}
    assert made["authenticatorSelection"]["residentKey"] == "preferred"
    assert made["authenticatorSelection"]["userVerification"] == "preferred"
    assert (made["user"]["name"], made["attestation"]) == (keyed.name, "none")
    assert "ann" not in base64.urlsafe_b64decode(made["user"]["id"] + "==").decode("latin-1")
    assert [one["id"] for one in made["excludeCredentials"]] == [one["id"] for one in told["allowCredentials"]]


LIES = {
    "another site": {"origin": "http://localhost:8081"},
    "another site's name": {"origin": "http://evil.example"},
    "in a frame": {"framed": True},
    "another kind of answer": {"kind": "webauthn.create"},
    "another challenge": {"challenge": "AAAA"},
    "another relying party": {"rp_id": "evil.example"},
    "nobody touched it": {"flags": 0},
    "somebody else's handle": {"handle": b"x" * 32},
    "no signature": {"signature": b""},
    "a counter that stands still": {"count": 0},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_lies_opens_nothing(keyed, lie):
    if lie == "a counter that stands still":
        keyed.touch()
        other = keyed.elsewhere()
        other.sign_in()
        keyed = other
    answer = keyed.touch(**LIES[lie])
    assert answer.status == 401
    assert "The passkey was not accepted." in alert(answer)
    assert not keyed.signed_in()
    failure = keyed.records("SecondFactor")[-1]
    assert failure["errorCode"] == "InvalidAuthenticationCode"
    assert failure["additionalEventData"]["reason"]
    assert keyed.touch().status == 303


def test_a_signature_of_another_key_opens_nothing(keyed):
    stolen = Device(PUBLIC, credential_id=keyed.key.credential_id, handle=keyed.key.handle, count=5)
    page = keyed.browser.get("/mfa")
    fields = form(page, "passkey") | {"credential": stolen.signed(options(page))}
    assert keyed.browser.post("/mfa", fields).status == 401


def test_a_passkey_of_somebody_else_opens_nothing(keyed):
    ben = keyed.neighbor()
    ben.sign_in()
    ben.enrol_key()
    keyed.key, mine = ben.key, keyed.key
    assert keyed.touch().status == 401
    assert keyed.touch(handle=b"").status == 401
    assert "none of this person's" in keyed.records("SecondFactor")[-1]["additionalEventData"]["reason"]
    keyed.key = mine
    assert keyed.touch().status == 303


def test_a_counter_that_goes_back_is_refused_and_recorded(keyed):
    assert keyed.touch(count=9).status == 303
    for count in (9, 8, 1, 0):
        other = keyed.elsewhere()
        other.sign_in()
        assert other.touch(count=count).status == 401
        reason = other.records("SecondFactor")[-1]["additionalEventData"]["reason"]
        assert "the signature counter went back, so it may have been copied" in reason
    assert other.touch(count=10).status == 303


def test_a_key_that_does_not_count_is_taken_again_and_again(demanded):
    demanded.sign_in()
    demanded.enrol_key()
    for _ in range(2):
        other = demanded.elsewhere()
        other.sign_in()
        assert other.touch(count=0).status == 303


def test_an_answer_counts_once(keyed):
    """A key without a counter proves by the challenge alone that an answer is new."""
    fields = signed_form(keyed, count=0)
    cookies = dict(keyed.browser.cookies)
    assert keyed.browser.post("/mfa", fields).status == 303
    keyed.browser.cookies = cookies
    assert keyed.browser.get("/mfa").status == 401  # who waited waits no more
    other = keyed.elsewhere()
    other.sign_in()
    page = other.browser.get("/mfa")
    replayed = form(page, "passkey") | {"credential": fields["credential"]}
    assert other.browser.post("/mfa", replayed).status == 401
    assert other.browser.post("/mfa", replayed | {"challenge": fields["challenge"], "name": "x"}).status == 401


def test_an_answer_counts_once_for_who_is_signed_in(keyed):
    keyed.touch(count=0)
    page = keyed.browser.get("/mfa?to=/security")
    fields = form(page, "passkey") | {"credential": keyed.key.signed(options(page), count=0)}
    before = dict(keyed.browser.cookies)
    assert keyed.browser.post("/mfa", fields).status == 303
    keyed.browser.cookies |= {"fedgate-form": before["fedgate-form"]}
    page = keyed.browser.get("/mfa?to=/security")
    again = form(page, "passkey") | {"credential": fields["credential"], "challenge": fields["challenge"]}
    assert keyed.browser.post("/mfa", again).status == 401


def test_an_answer_counts_once_even_where_redis_forgets_it(keyed, redis_url):
    fields, cookies = signed_form(keyed, count=0), dict(keyed.browser.cookies)
    with Redis.from_url(redis_url) as client:
        kept = {key: text for key in client.keys("*") if (text := client.dump(key))}  # others end meanwhile
        assert keyed.browser.post("/mfa", fields).status == 303
        client.flushall()
        for key, text in kept.items():
            client.restore(key, 0, text)
    keyed.browser.cookies = cookies
    answer = keyed.browser.post("/mfa", fields)
    assert answer.status == 401
    assert keyed.records("SecondFactor")[-1]["additionalEventData"]["reason"] == "the challenge was answered before"


def test_a_challenge_is_good_for_five_minutes(keyed):
    fields = signed_form(keyed)
    keyed.clock.advance(minutes=5, seconds=1)
    assert keyed.browser.post("/mfa", fields).status == 401
    assert "too old" in keyed.records("SecondFactor")[-1]["additionalEventData"]["reason"]
    fields = signed_form(keyed)
    keyed.clock.advance(minutes=4, seconds=58)  # the sign-in itself is open for ten minutes
    assert keyed.browser.post("/mfa", fields).status == 303


def test_a_challenge_to_make_a_key_proves_none(keyed):
    keyed.touch()
    page = keyed.browser.get("/mfa/enrol?to=/security")
    made = json.loads(options(page))
    asked = json.dumps({"challenge": made["challenge"], "rpId": "localhost"})
    fields = form(page, "passkey") | {"credential": keyed.key.signed(asked)}
    assert keyed.browser.post("/mfa", fields).status == 401


def test_five_wrong_codes_do_not_stop_a_passkey(keyed):
    keyed.touch()
    keyed.enrol_app("/mfa/enrol?to=/security")
    other = keyed.elsewhere()
    other.sign_in()
    for _ in range(5):
        other.give(other.wrong())
    assert other.give().status == 429
    assert other.touch().status == 303


@pytest.mark.parametrize("credential", ["", "x", "{}", "[]", '"a"', "null", '{"id": 1}', "[" * 10_000])
def test_what_is_no_credential_is_refused(keyed, credential):
    page = keyed.browser.get("/mfa")
    assert keyed.browser.post("/mfa", form(page, "passkey") | {"credential": credential}).status == 401
    keyed.touch()
    page = keyed.browser.get("/mfa/enrol?to=/security")
    answer = keyed.browser.post("/mfa/enrol", form(page, "passkey") | {"credential": credential})
    assert answer.status == 400
    assert len(keyed.factors()) == 1


@pytest.mark.parametrize("lie", ["another site", "in a frame", "another challenge", "another relying party"])
def test_a_passkey_that_was_made_elsewhere_is_not_added(demanded, lie):
    demanded.sign_in()
    assert demanded.enrol_key(**LIES[lie]).status == 400
    assert not demanded.signed_in()


def test_a_passkey_has_one_owner(keyed):
    ben = replace(keyed.neighbor(), key=keyed.key)
    ben.sign_in()
    answer = ben.enrol_key()
    assert answer.status == 409
    assert "This passkey is registered already." in alert(answer)
    assert not ben.signed_in()


def test_an_address_of_numbers_has_no_passkeys_and_says_so(tmp_path, redis_url):
    numbers = {"FEDGATE_PUBLIC_URL": "http://127.0.0.1:8080", "FEDGATE_PAGES_SECOND_FACTOR": "iam"}
    with setup_with(tmp_path, redis_url, **numbers) as world:
        world.admin.do("CreateUser", UserName="eve")
        world.admin.do("CreateLoginProfile", UserName="eve", Password=ALICE)
        eve = Desk(world, Browser(world.installation))
        assert eve.sign_in_with_password(f"/signin/{ACCOUNT}", "eve", ALICE) == "/mfa/enrol"
        text = eve.browser.get("/mfa/enrol").body.decode()
    assert "Passkeys are not available at this address" in text
    assert "passkey.js" not in text


@pytest.mark.parametrize(
    ("url", "possible"),
    [
        ("https://sts.example.com", True),
        ("https://sts.example.com/fedgate", True),
        ("http://localhost:8080", True),
        ("http://a.localhost", True),
        ("http://sts.example.com", False),
        ("https://10.1.2.3", False),
        ("https://[::1]:8080", False),
        ("http://127.0.0.1:8080", False),
    ],
)
def test_passkeys_need_a_name_and_a_secure_connection(desk, url, possible):
    challenges = desk.world.installation.services.pages.login.second_factor.passkeys.challenges
    passkeys = Passkeys(public_url=url, organisation="Acme", challenges=challenges)
    assert passkeys.available == possible


def test_without_scripts_the_page_says_what_passkeys_need(keyed):
    (box,) = root_of(keyed.browser.get("/mfa")).xpath("//form[@data-passkey]")
    assert not box.xpath(".//button")
    assert "Passkeys need JavaScript" in "".join(box.itertext())
    assert box.xpath(".//*[@role='status']")


# --- users and owners of accounts, people of directories --------------------------------------------------------------


def devices(world, **user):
    answer = world.admin.do("ListMFADevices", **user)
    return re.findall(r"<SerialNumber>([^<]+)<", answer.body.decode())


def test_a_users_factors_are_devices_of_the_iam_api(desk):
    world = desk.world
    user(world, "eve", allow("iam:*"))
    assert desk.sign_in_with_password(f"/signin/{ACCOUNT}", "eve", ALICE) == "/portal"
    desk.enrol_app("/mfa/enrol?to=/security", name="Eve's phone")
    desk.enrol_key("/mfa/enrol?to=/security")
    app, key = sorted(devices(world, UserName="eve"))
    assert app == f"arn:aws:iam::{ACCOUNT}:mfa/Eve-s-phone"
    assert key.startswith(f"arn:aws:iam::{ACCOUNT}:u2f/user/eve/")
    assert {one["id"] for one in desk.factors() if one["kind"] == "totp"} == {app}
    other = desk.elsewhere()
    assert other.sign_in_with_password(f"/signin/{ACCOUNT}", "eve", ALICE) == "/mfa"
    assert other.give().status == 303
    assert other.remove({"id": app}).headers["Location"] == "/security"
    assert devices(world, UserName="eve") == [key]


def user(world, name, *policies):
    """Make a user with a password, who may do what the policies say."""
    world.admin.do("CreateUser", UserName=name)
    world.admin.do("CreateLoginProfile", UserName=name, Password=ALICE)
    for number, policy in enumerate(policies):
        world.admin.do("PutUserPolicy", UserName=name, PolicyName=f"p{number}", PolicyDocument=policy)


def denying(world, name, action, resource="*"):
    world.admin.do("PutUserPolicy", UserName=name, PolicyName="deny", PolicyDocument=deny(action, resource))


@pytest.mark.parametrize("denied", ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "nothing is allowed"])
def test_a05_a_user_adds_no_factor_that_the_api_would_not_let_them_add(desk, denied):
    world, name = desk.world, f"add{next(_NUMBERS)}"
    user(world, name, *([] if denied.startswith("nothing") else [allow("iam:*"), deny(denied)]))
    desk.sign_in_with_password(f"/signin/{ACCOUNT}", name, ALICE)
    refused = desk.enrol_app("/mfa/enrol?to=/security", name=name)
    assert refused.status == 403
    assert re.search(r"Reference: <code[^>]*>\w{8}</code>", refused.body.decode())
    assert desk.enrol_key("/mfa/enrol?to=/security").status == (200 if denied == "iam:CreateVirtualMFADevice" else 403)
    record = desk.records("EnrolSecondFactor")[0]
    assert record["errorCode"] == "AccessDenied"
    assert record["additionalEventData"]["decisions"]


@pytest.mark.parametrize(
    ("kind", "denied", "holds"),
    [
        ("totp", "iam:DeactivateMFADevice", True),
        ("totp", "iam:DeleteVirtualMFADevice", True),
        ("passkey", "iam:DeactivateMFADevice", True),
        ("passkey", "iam:DeleteVirtualMFADevice", False),
    ],
)
def test_a05_a_user_removes_no_factor_that_the_api_would_not_let_them_remove(desk, kind, denied, holds):
    world, name = desk.world, f"remove{next(_NUMBERS)}"
    user(world, name, allow("iam:*"))
    desk.sign_in_with_password(f"/signin/{ACCOUNT}", name, ALICE)
    (desk.enrol_app if kind == "totp" else desk.enrol_key)("/mfa/enrol?to=/security", name=name)
    (factor,) = desk.factors()
    denying(world, name, denied)
    assert desk.posted("/security/remove", factor=factor["id"]).status == (403 if holds else 303)
    assert len(desk.factors()) == (1 if holds else 0)


def test_a05_a_user_makes_no_recovery_codes_where_a_factor_could_not_be_added(desk):
    world, name = desk.world, f"codes{next(_NUMBERS)}"
    user(world, name, allow("iam:*"))
    desk.sign_in_with_password(f"/signin/{ACCOUNT}", name, ALICE)
    desk.enrol_app("/mfa/enrol?to=/security", name=name)
    denying(world, name, "iam:EnableMFADevice")
    assert desk.posted("/security/codes").status == 403


def test_a_first_factor_that_is_demanded_needs_no_allow_and_a_deny_holds(tmp_path, redis_url):
    with setup_with(tmp_path, redis_url, FEDGATE_PAGES_SECOND_FACTOR="iam") as world:
        user(world, "plain")
        user(world, "denied", deny("iam:EnableMFADevice"))
        for name, status in (("plain", 200), ("denied", 403)):
            desk = Desk(world, Browser(world.installation), name)
            assert desk.sign_in_with_password(f"/signin/{ACCOUNT}", name, ALICE) == "/mfa/enrol"
            assert desk.enrol_app().status == status
            assert desk.signed_in() is (status == 200)


def test_the_owner_of_an_account_does_not_go_on_without_a_factor(desk):
    world = desk.world
    with world.installation.store.write() as tx:
        set_root_login(
            tx, ACCOUNT, "root@example.com", ROOT_PASSWORD,
            now=world.clock(), random=wiring.random, reset_required=False,
        )  # fmt: skip
    assert desk.sign_in_with_password("/root", "root@example.com", ROOT_PASSWORD) == "/mfa/enrol"
    assert not desk.signed_in()
    assert desk.enrol_app().status == 200
    assert desk.signed_in()
    assert devices(world) == [f"arn:aws:iam::{ACCOUNT}:mfa/phone"]
    assert desk.posted("/security/remove", factor=desk.factors()[0]["id"]).status == 409
    record = desk.records("EnrolSecondFactor")[0]
    assert record["recipientAccountId"] == ACCOUNT


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    with running_demo_directory(demo_ldif(tmp_path_factory.mktemp("demo"))) as url:
        yield RunningDirectory(url, f"ou=people,{BASE}", service_password(LDIF))


def test_somebody_of_a_directory_who_has_a_factor_is_asked_for_it_at_every_sign_in(tmp_path, redis_url, directory):
    file = tmp_path / "fedgate.toml"
    file.write_text(as_toml(directory.config()))
    with setup_with(tmp_path, redis_url, FEDGATE_CONFIG=str(file)) as world:
        role = {"Federated": world.admin.arn("ldap-provider", "corp")}
        condition = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
        world.admin.role("secure", trust(role, ["sts:AssumeRoleWithLDAPIdentity"], Condition=condition))
        desk = Desk(world, Browser(world.installation))
        assert desk.sign_in_with_password("/login", "alice", ALICE) == "/portal"
        answer = take(desk)
        enrol = desk.browser.get(answer.headers["Location"]).headers["Location"]
        desk.enrol_app(enrol)
        assert "AWS_SESSION_TOKEN" in take(desk).body.decode()
        other = desk.elsewhere()
        assert other.sign_in_with_password("/login", "alice", ALICE) == "/mfa"
        assert other.give().status == 303
        assert "AWS_SESSION_TOKEN" in take(other).body.decode()


# --- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    part=st.sampled_from(["clientDataJSON", "authenticatorData", "signature"]),
    place=st.integers(0, 10_000),
    bit=st.integers(0, 7),
)
def test_an_answer_with_one_bit_changed_proves_nothing(keyed, part, place, bit):
    page = keyed.browser.get("/mfa")
    told = json.loads(keyed.key.signed(options(page)))
    octets = bytearray(base64.urlsafe_b64decode(told["response"][part] + "=="))
    octets[place % len(octets)] ^= 1 << bit
    told["response"][part] = base64.urlsafe_b64encode(octets).decode().rstrip("=")
    answer = keyed.browser.post("/mfa", form(page, "passkey") | {"credential": json.dumps(told)})
    assert answer.status == 401
