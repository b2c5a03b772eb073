"""What was chosen for credentials survives everything that comes in between, and the next click takes no more.

Each detour starts with a form that wants less than the role has, and ends with the form that the person then sees. That
form is sent as a browser without scripts would send it.
"""

import json
import random
import string
import urllib.parse
from datetime import timedelta

import pytest
from lxml import etree
from redis import Redis
from support.administrator import allow
from support.signed_in_fixtures import (
    HOME,
    credentials_on,
    give_code,
    hidden,
    house_in,
    sign_in,
    sign_in_to_directory,
    told,
)

ALICE = "wonderland-1865"
MFA = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*", "Sid": "Readers"},
    },
    indent=1,
)
CHOICES = {
    "read only": {"narrow": "read", "seconds": "900"},
    "own policy": {"narrow": "own", "policy": POLICY, "seconds": "7200"},
}


@pytest.fixture
def house(tmp_path, redis_url, directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, directory.config())
    yield made
    made.close()


@pytest.fixture
def role(house):
    return longer(house, house.directory_role("wide", allow("iam:*")))


@pytest.fixture
def secure(house):
    return longer(house, house.directory_role("secure", allow("iam:*"), **MFA))


def longer(house, role):
    """Let sessions of a role last two hours."""
    house.admin.do("UpdateRole", RoleName=role.rpartition("/")[2], MaxSessionDuration="7200")
    return role


def shown_form(page):
    """Return what the form below the roles would send: a browser's view of the page."""
    root = etree.HTML(page.body.decode())
    assert root.xpath("//form[@id='take']"), page.body.decode()
    mine = "//*[@form='take' or (not(@form) and ancestor::form[@id='take'])]"
    fields = {one.get("name"): one.get("value") for one in root.xpath(f"{mine}[@type='hidden' and not(@disabled)]")}
    for one in root.xpath(f"{mine}[self::select]"):
        options = one.xpath(".//option")
        fields[one.get("name")] = next((o for o in options if o.get("selected") is not None), options[0]).get("value")
    fields |= {one.get("name"): (one.text or "") for one in root.xpath(f"{mine}[self::textarea]")}
    return fields | {one.get("name"): one.get("value") for one in root.xpath(f"{mine}[@type='radio' and @checked]")}


def ask(browser, role, choice):
    """Choose a role and less than it has, and send the form."""
    form = shown_form(browser.get("/portal"))
    return browser.post("/portal", form | {"roleIndex": role} | choice)


def click(browser, path):
    """Open a page and send what it shows; return the form and the answer."""
    form = shown_form(browser.get(path))
    return form, browser.post("/portal", form)


def assert_narrowed(house, browser, path, role, choice):
    form, answer = click(browser, path)
    assert form["roleIndex"] == role
    assert {name: form[name] for name in choice} == choice
    assert answer.status == 200, told(answer)
    until = house.clock() + timedelta(seconds=int(choice["seconds"]))
    assert until.strftime("%Y-%m-%dT%H:%M:%SZ") in answer.body.decode()
    got = credentials_on(answer)
    assert house.installation.call("ListRoles", got).status == 200
    assert house.installation.call("CreateUser", got, UserName="x").status == 403


def follow(answer):
    assert answer.status == 303, answer.body.decode()
    return answer.headers["Location"]


def person_of(browser):
    return json.loads(browser.get("/portal", Accept="application/json").body)


def enrol(house, browser):
    identity = person_of(browser)
    house.enrol(f"{identity['provider']}|{identity['subject']}")


# --- the second factor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_second_factor_in_between_drops_nothing(house, alice, secure, choice):
    enrol(house, alice)
    to = follow(ask(alice, secure, choice))
    back = follow(give_code(house, alice, to))
    assert_narrowed(house, alice, back, secure, choice)


def test_a_wrong_code_and_another_language_in_between_drop_nothing(house, alice, secure):
    choice = CHOICES["own policy"]
    enrol(house, alice)
    to = follow(ask(alice, secure, choice))
    wrong = alice.post("/mfa", hidden(alice.get(to)) | {"use": "code", "code": "000000"})
    (german,) = etree.HTML(wrong.body.decode()).xpath("//a[@hreflang='de']/@href")
    back = follow(give_code(house, alice, german))
    assert_narrowed(house, alice, back, secure, choice)


def test_whoever_turns_back_at_the_second_factor_finds_the_choice_again(house, alice, secure):
    enrol(house, alice)
    to = follow(ask(alice, secure, CHOICES["read only"]))
    (back,) = etree.HTML(alice.get(to).body.decode()).xpath("//a[normalize-space()='Cancel']/@href")
    assert shown_form(alice.get(back))["narrow"] == "read"


def test_a_mistake_is_told_before_a_second_factor_is_asked_for(alice, secure):
    answer = ask(alice, secure, {"narrow": "own"})
    assert (answer.status, told(answer)) == (400, "Enter a policy, or choose another option.")


def test_a_session_that_ends_at_the_second_factor_drops_nothing(house, alice, secure):
    enrol(house, alice)
    choice = CHOICES["own policy"]
    to = follow(ask(alice, secure, choice))
    fields = hidden(alice.get(to)) | {"use": "code", "code": "000000"}
    alice.cookies.pop("fedgate-session")
    login = alice.post("/mfa", fields)
    to = follow(alice.post("/login", hidden(login) | {"username": "alice", "password": ALICE}))
    assert_narrowed(house, alice, follow(give_code(house, alice, to)), secure, choice)


# --- a sign-in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_session_that_ended_meanwhile_drops_nothing(house, alice, role, choice):
    form = shown_form(alice.get("/portal")) | {"roleIndex": role} | choice
    alice.cookies.pop("fedgate-session")
    login = alice.post("/portal", form)
    assert login.status == 401
    back = follow(alice.post("/login", hidden(login) | {"username": "alice", "password": ALICE}))
    assert_narrowed(house, alice, back, role, choice)


def test_another_language_and_a_wrong_password_at_that_sign_in_drop_nothing(house, alice, role):
    choice = CHOICES["own policy"]
    form = shown_form(alice.get("/portal")) | {"roleIndex": role} | choice
    alice.cookies.pop("fedgate-session")
    (german,) = etree.HTML(alice.post("/portal", form).body.decode()).xpath("//a[@hreflang='de']/@href")
    wrong = alice.post("/login", hidden(alice.get(german)) | {"username": "alice", "password": "wrong"})
    back = follow(alice.post("/login", hidden(wrong) | {"username": "alice", "password": ALICE}))
    assert_narrowed(house, alice, back, role, choice)


def test_every_link_of_the_sign_in_page_says_where_it_leads(house, role):
    path = "/portal?" + urllib.parse.urlencode({"role": role, "narrow": "read"})
    page = house.browser().get(path)
    links = etree.HTML(page.body.decode()).xpath("//main//a/@href | //nav//a/@href")
    assert links
    assert all(
        urllib.parse.parse_qs(urllib.parse.urlsplit(one).query)["to"] == [path] for one in links if "lang" not in one
    )


def test_a_user_who_signs_in_with_a_second_factor_comes_back_with_the_choice(house):
    user_id = house.user("ann", allow("sts:AssumeRole"))
    house.enrol(f"iam|{user_id}")
    to = "/portal?" + urllib.parse.urlencode(
        {"role": f"arn:aws:iam::{HOME}:role/x", "seconds": "900", "narrow": "read"}
    )
    browser = house.browser()
    answer = sign_in(browser, "ann", to=to)
    assert answer.headers["Location"].startswith("/mfa?return_to=")
    assert follow(give_code(house, browser, answer.headers["Location"])) == to
    late = house.browser()
    asked = late.get(follow(sign_in(late, "ann", to=to)))
    late.cookies.pop("fedgate-step")
    assert hidden(late.post("/mfa", hidden(asked) | {"code": "000000"}))["to"] == to


# --- errors and other pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_an_error_leaves_the_choice_as_it_was(house, alice, role, choice):
    closed = house.directory_role("closed", group="nobody-at-all")
    answer = ask(alice, closed, choice)
    assert answer.status == 403
    assert {name: shown_form(answer)[name] for name in choice} == choice
    long = ask(alice, role, choice | {"seconds": "43200"})
    assert (long.status, shown_form(long)["roleIndex"]) == (400, role)
    assert shown_form(long)["narrow"] == choice["narrow"]


def test_the_error_page_of_an_outdated_form_leads_back_to_the_choice(house, alice, role):
    form = shown_form(alice.get("/portal")) | {"roleIndex": role} | CHOICES["read only"]
    answer = alice.post("/portal", form | {"form_token": "of-another-tab"}, Accept="text/html")
    assert answer.status == 403
    (back,) = etree.HTML(answer.body.decode()).xpath("//main//a[contains(@href, '/portal')]/@href")
    assert_narrowed(house, alice, back, role, CHOICES["read only"])


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_another_language_after_a_form_keeps_the_choice(alice, role, choice):
    answer = ask(alice, role, choice | {"seconds": "43200"})
    (german,) = etree.HTML(answer.body.decode()).xpath("//a[@hreflang='de']/@href")
    assert shown_form(alice.get(german))["narrow"] == choice["narrow"]
    assert shown_form(alice.get(german))["policy"] == choice.get("policy", "")


def test_a_pin_a_search_and_another_page_keep_the_choice(house, alice, role):
    path = "/portal?" + urllib.parse.urlencode({"role": role, "narrow": "read", "seconds": "900"})
    page = etree.HTML(alice.get(path).body.decode())
    search = {one.get("name"): one.get("value") for one in page.xpath("//form[@role='search']//input[not(@disabled)]")}
    assert {"narrow": "read", "seconds": "900"}.items() <= search.items()
    pins = {one.get("name"): one.get("value") for one in page.xpath("//form[@id='pins']//input[not(@disabled)]")}
    back = follow(alice.post("/portal/pin", pins | {"role": role}))
    assert_narrowed(house, alice, back, role, CHOICES["read only"])


def test_the_explanation_of_a_role_leads_back_with_the_choice(house, alice, role):
    query = urllib.parse.urlencode({"role": role, "narrow": "read", "seconds": "900"})
    page = etree.HTML(alice.get(f"/why?{query}").body.decode())
    (back,) = page.xpath("//a[normalize-space()='Use this role']/@href")
    assert_narrowed(house, alice, back, role, CHOICES["read only"])


# --- what an address can carry ----------------------------------------------------------------------------------------


def test_the_longest_policy_that_can_be_taken_fits_into_the_address(house, alice, secure):
    """A policy that compresses badly, of as many characters as the quota of the STS."""
    chance = random.Random(7)
    statement = {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*", "Sid": ""}
    room = 2048 - len(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    statement["Sid"] = "".join(chance.choices(string.ascii_letters + string.digits, k=room))
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    enrol(house, alice)
    to = follow(ask(alice, secure, {"narrow": "own", "policy": policy}))
    back = follow(give_code(house, alice, to))
    assert shown_form(alice.get(back))["policy"] == policy


@pytest.mark.parametrize("broken", ["narrow=all", "narrow=READ", "policy=%21%21", "policy=eJw", "policy=" + "A" * 3000])
def test_a_restriction_that_cannot_be_read_is_asked_for_and_never_dropped(alice, role, broken):
    form, answer = click(alice, f"/portal?role={role}&{broken}")
    assert form["narrow"] == "own"
    assert (answer.status, told(answer)) == (400, "Enter a policy, or choose another option.")


def test_a_policy_too_long_for_an_address_is_asked_for_again_and_not_dropped(alice, role):
    chance = random.Random(7)
    policy = "{" + "".join(chance.choices(string.printable[:90], k=9000))
    form = shown_form(alice.get("/portal")) | {"roleIndex": role, "narrow": "", "policy": policy}
    alice.cookies.pop("fedgate-session")
    login = alice.post("/portal", form)
    back = follow(alice.post("/login", hidden(login) | {"username": "alice", "password": ALICE}))
    kept = shown_form(alice.get(back))
    assert (kept["roleIndex"], kept["narrow"], kept["policy"]) == (role, "own", "")


def test_a_page_after_which_somebody_was_signed_out_is_the_one_to_come_back_to(house, alice):
    alice.cookies.pop("fedgate-session")
    for path, to in (
        ("/sessions/all", "/sessions"),
        ("/security/codes", "/security"),
        ("/admin/sessions", "/admin/sessions"),
    ):
        assert hidden(alice.post(path, {"form_token": "x"}))["to"] == to
    assert sign_in_to_directory(house.browser(), "alice", ALICE).headers["Location"] == "/portal"
