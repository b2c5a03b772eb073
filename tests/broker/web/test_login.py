"""/login: every state of the page, and the way from a name to the place where its password is."""

import base64
import contextlib
import itertools
import json
import re
import time
import zlib
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from redis import Redis
from support.directories import SLOW_PASSWORD
from support.installation import Installation
from support.login_fixtures import (
    ALICE,
    BOB,
    CONTINUE,
    SESSION,
    alert,
    browser_of,
    failures,
    hidden_fields,
    links,
    login_setup,
    records,
    reference,
    send,
    sign_in,
    signed_in,
    value_of,
    words,
)
from support.saml_fixtures import Browser
from support.saml_idp import encoded, signed
from support.servers import free_port, postgresql_database, postgresql_server, redis_server
from support.timing import alike, fastest

from broker.wsgi import Application

WRONG = "The user name or the password is wrong."
DOWN = "The directory is not responding. Try again later."
DOMAINS = ("CORP", "corp.example")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis_url, slapd):
    config = slapd.config(login_domains=DOMAINS)
    with login_setup(tmp_path_factory.mktemp("login"), redis_url, config) as made:
        yield made


@pytest.fixture
def world(shared):
    """A world that many tests share: nobody's failures of another test count any more."""
    shared.clock.advance(minutes=16)
    return shared


@pytest.fixture
def browser(world):
    return browser_of(world)


@pytest.fixture
def since(world):
    return len(records(world))


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_says_where_you_are_why_and_how_in_that_order(world, browser):
    page = browser.get(f"/login?{urlencode({'to': f'/portal?role={world.role}'})}")
    parts = ("Fedgate", "<h1>Sign in</h1>", "To open the role developer.", 'id="username"', 'id="password"',
             "<button>Sign in</button>", ">or<", "Continue with Corp", "<footer>")  # fmt: skip
    places = [page.body.decode().index(part) for part in parts]
    assert page.status == 200
    assert places == sorted(places)
    assert 'role="alert"' not in page.body.decode()
    assert "<title>Sign in - Fedgate</title>" in page.body.decode()


def test_the_fields_are_labelled_and_known_to_password_managers(browser):
    text = browser.get("/login").body.decode()
    fields = {name: re.search(rf'<input id="{name}"[^>]*>', text)[0] for name in ("username", "password")}
    assert all(f'<label for="{name}">' in text for name in fields)
    of_names = ('autocomplete="username"', 'autocapitalize="none"', 'spellcheck="false"', "required", "autofocus")
    of_passwords = ('type="password"', 'autocomplete="current-password"', "required")
    assert all(sign in fields["username"] for sign in of_names)
    assert all(sign in fields["password"] for sign in of_passwords)
    assert "onpaste" not in text
    assert "maxlength" not in text


def test_a_notice_stands_above_the_form_as_it_was_written(tmp_path, redis_url, slapd):
    notice = "Sign in with <b>care</b> & attention"
    with login_setup(tmp_path, redis_url, slapd.config(), FEDGATE_PAGES_NOTICE=notice) as world:
        text = browser_of(world).get("/login").body.decode()
    assert '<p class="notice">Sign in with &lt;b&gt;care&lt;/b&gt; &amp; attention</p>' in text
    assert text.index("notice") < text.index("<form")


def test_without_directory_and_provider_the_page_says_so(installation):
    page = Browser(installation).get("/login")
    assert page.status == 200
    assert "No directory or identity provider is configured yet." in words(page)
    assert b"<form" not in page.body


# --- in ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alice", "ALICE", " alice ", "CORP\\alice", "corp\\Alice", "alice@corp.example"])
def test_a_right_password_leads_to_the_roles_however_the_name_is_spelled(world, browser, since, name):
    answer = sign_in(browser, name)
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")
    page = browser.get("/portal")
    assert page.status == 200
    assert "Signed in as alice corp" in words(page)
    assert [(one["eventName"], one["userIdentity"]["userName"]) for one in records(world, since)] == [
        ("DirectorySignIn", "alice"),
        ("NoRoleOpen", "alice"),
    ]


def test_a_sign_in_leads_to_the_page_that_was_asked_for(browser):
    asked = browser.get("/sessions?order=last")
    assert asked.status == 401
    assert "<title>Sign in - Fedgate</title>" in asked.body.decode()
    assert send(browser, asked).headers["Location"] == "/sessions?order=last"


def test_whoever_is_signed_in_goes_on_or_switches(world):
    browser = signed_in(world)
    page = browser.get("/login?to=/security")
    assert (page.status, "You are signed in As alice of corp." in words(page)) == (200, True)
    assert links(page)["Continue as alice"] == "/security"
    assert links(page)["Switch user"] == "/login?switch=1&to=%2Fsecurity"
    first = browser.cookies[SESSION]
    answer = sign_in(browser, "bob", BOB, at="/login?switch=1&to=/security")
    assert answer.headers["Location"] == "/security"
    assert "Signed in as bob corp" in words(browser.get("/portal"))
    browser.cookies[SESSION] = first
    assert browser.get("/portal").status == 401


def test_looking_at_the_form_of_another_user_ends_nothing(world):
    browser = signed_in(world)
    assert 'id="password"' in browser.get("/login?switch=1").body.decode()
    assert browser.get("/portal").status == 200


# --- not in -----------------------------------------------------------------------------------------------------------

NOT_IN = {
    "a wrong password": ("alice", "wrong"),
    "an unknown name": ("nobody-here", "wrong"),
    "an empty password": ("alice", ""),
    "two entries of one name": ("twin", "same-for-both"),
    "a name that cannot be": ("a\nlice", ALICE),
    "a name in a filter": ("*)(uid=alice", ALICE),
    "a wrong password of somebody who must change it": ("fresh", "wrong"),
    "a wrong password that has expired": ("stale", "wrong"),
}


def same(page):
    """Return a page without what differs from one request to the next, and without the name that was typed."""
    text = re.sub(r'(name="transaction" value|id="username" name="username" value)="[^"]*"', "", page.body.decode())
    text = re.sub(r"login_hint=[^&]*&amp;", "", text)
    return re.sub(r"<code>\w{8}</code>", "", text)


@pytest.mark.parametrize("case", NOT_IN)
def test_every_refusal_without_a_proof_is_one_answer_and_one_record(world, browser, since, case):
    name, password = NOT_IN[case]
    page = sign_in(browser, name, password)
    usual = sign_in(browser_of(world), "carol", "wrong")
    assert (page.status, alert(page)) == (401, WRONG)
    assert same(page) == same(usual)
    assert {**page.headers, "x-amzn-RequestId": ""}.keys() == usual.headers.keys()
    assert failures(world, since) == [("DirectorySignIn", "IDPRejectedClaim")] * 2
    assert SESSION not in browser.cookies


def test_a_refusal_keeps_the_name_and_forgets_the_password_and_takes_the_focus(browser):
    page = sign_in(browser, "alice", "wr0ng-secret", to="/security")
    text = page.body.decode()
    assert "<title>Error: Sign in - Fedgate</title>" in text
    assert value_of(page, "username") == "alice"
    assert "wr0ng-secret" not in text
    assert hidden_fields(page)["to"] == "/security"
    assert 'role="alert" tabindex="-1" autofocus id="alert"' in text
    assert text.count("autofocus") == 1
    assert text.count('aria-invalid="true" aria-describedby="alert"') == 2
    assert text.index('role="alert"') < text.index("<form")
    assert send(browser, page).headers["Location"] == "/security"


@pytest.mark.long  # the time of another process
def test_unknown_names_and_wrong_passwords_take_one_time(world, browser):
    sign_in(browser, "slow", SLOW_PASSWORD)
    numbers = itertools.count()

    def refuse(name):
        world.clock.advance(minutes=16)
        page = browser.get("/login?switch=1")
        return lambda: send(browser, page, name, f"wrong-{next(numbers)}").status

    pairs = [fastest(refuse("slow"), refuse("nobody-here"), tries=1, clock=time.perf_counter) for _ in range(16)]
    wrong, unknown = (min(times) for times in zip(*pairs, strict=True))
    assert wrong > 0.015, "the hash must be slow enough for this test to mean something"
    assert alike(wrong, unknown)


def test_an_empty_name_is_asked_for_again_and_no_directory_hears_of_it(world, browser, since):
    page = sign_in(browser, " ")
    assert (page.status, alert(page), reference(page)) == (400, "Enter your user name.", "")
    assert failures(world, since) == [("PageRequest", "ValidationError")]


# --- a right password that opens nothing ------------------------------------------------------------------------------


def test_whoever_proves_an_expired_password_is_told_so(world, browser, since):
    time.sleep(1.1)  # the policy lets it live for a second
    page = sign_in(browser, "stale", "too-old-by-now")
    assert (page.status, alert(page)) == (403, "Your password has expired.")
    assert "aria-invalid" not in page.body.decode()
    assert failures(world, since) == [("DirectorySignIn", "IDPRejectedClaim")]
    assert SESSION not in browser.cookies


def test_whoever_must_change_the_password_is_led_to_where_that_is_done(browser):
    answer = sign_in(browser, "fresh", "change-me-first", to="/security")
    address, _, query = answer.headers["Location"].partition("?")
    assert (answer.status, address) == (303, "/password")
    assert parse_qs(query) == {"directory": ["corp"], "username": ["fresh"], "to": ["/security"]}
    assert SESSION not in browser.cookies


def test_where_passwords_are_changed_elsewhere_there_is_a_link(tmp_path, redis_url, slapd):
    config = slapd.config(password_change_url="https://id.example.com/change?a=b&c=d")
    with login_setup(tmp_path, redis_url, config) as world:
        page = sign_in(browser_of(world), "fresh", "change-me-first")
    assert (page.status, alert(page)) == (403, "Your password must be changed first.")
    assert '<a href="https://id.example.com/change?a=b&amp;c=d">Change your password</a>' in page.body.decode()


def test_where_nobody_changes_passwords_there_is_a_word(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config(password_change=False)) as world:
        page = sign_in(browser_of(world), "fresh", "change-me-first")
    assert (page.status, alert(page)) == (403, "Your password must be changed first.")
    assert "Change your password" not in words(page)


def test_somebody_whom_the_directory_locked_learns_nothing(browser):
    for _ in range(3):
        assert alert(sign_in(browser, "locked", "wrong")) == WRONG
    page = sign_in(browser, "locked", "once-was-right")
    assert (page.status, alert(page)) == (401, WRONG)


# --- too many tries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["carol", "nobody-at-all"])
def test_after_five_failures_one_waits_and_no_word_is_said_about_the_account(world, browser, name):
    for _ in range(5):
        assert sign_in(browser, name, "wrong").status == 401
    before = len(records(world))
    world.clock.advance(seconds=30)
    page = sign_in(browser, name, "ledger-balances-42")
    assert (page.status, page.headers["Retry-After"]) == (429, "870")
    assert alert(page) == "Too many attempts. Try again in 15 minutes."
    assert value_of(page, "username") == name
    assert "Continue with Corp" in words(page)
    assert failures(world, before) == [("SignIn", "Throttling")], "and no directory was asked"
    world.clock.advance(seconds=850)
    assert alert(sign_in(browser, name, "wrong")) == "Too many attempts. Try again in 20 seconds."
    assert sign_in(browser_of(world), "alice").status == 303


# --- outages ----------------------------------------------------------------------------------------------------------


def test_while_the_directory_is_down_the_other_doors_are_open(tmp_path, redis_url, slapd):
    config = slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",))
    with login_setup(tmp_path, redis_url, config) as world:
        browser = browser_of(world)
        since = len(records(world))
        for _ in range(6):
            page = sign_in(browser, to="/security")
            assert (page.status, alert(page), page.headers["Retry-After"]) == (503, DOWN, "5")
        assert value_of(page, "username") == "alice"
        assert links(page)[CONTINUE] == f"{world.door}?to=%2Fsecurity"
        assert failures(world, since) == [("SignIn", "ServiceUnavailable")] * 6, "none counted as a wrong password"
        assert browser.get(f"{world.door}?to=/security").status == 303


def test_without_redis_nobody_gets_in_and_the_page_says_try_again(tmp_path, slapd):
    with redis_server() as url, login_setup(tmp_path, url, slapd.config()) as world:
        browser = browser_of(world)
        page = browser.get("/login")
        with Redis.from_url(url) as client:
            client.shutdown(nosave=True)
        answer = send(browser, page)
        assert (answer.status, alert(answer)) == (503, "Sign-in is not available now. Try again later.")
        assert answer.headers["Retry-After"] == "5"
        assert failures(world) == [("SignIn", "ServiceUnavailable")]
        assert SESSION not in browser.cookies
        assert browser_of(world).get("/login").status == 200


def test_a_sign_in_that_cannot_be_recorded_is_none(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        browser = browser_of(world)
        world.installation.services.storage.audit.close()
        answer = sign_in(browser)
    assert answer.status == 503
    assert "Traceback" not in answer.body.decode()
    assert SESSION not in browser.cookies


# --- the reference ----------------------------------------------------------------------------------------------------


def throttled(browser):
    for _ in range(5):
        sign_in(browser, "dave", "wrong")
    return sign_in(browser, "dave", "wrong")


PAGES = {"Accept": "text/html"}
ACS = "/saml/111122223333/Corp/acs"
REFUSALS = {
    "a wrong password": (lambda browser: sign_in(browser, "alice", "wrong"), "DirectorySignIn"),
    "too many tries": (throttled, "SignIn"),
    "no cookie": (lambda browser: sign_in(browser, headers={"Cookie": "a=b"}), "SignIn"),
    "a form of elsewhere": (lambda browser: sign_in(browser, headers={"Origin": "null"}), "SignIn"),
    "a field that cannot be": (lambda browser: sign_in(browser, "a\0"), "SignIn"),
    "a form that is too large": (lambda browser: sign_in(browser, more="x" * 300_000, headers=PAGES), "SignIn"),
    "no form at all": (lambda browser: browser.post("/login", {}, **{"Content-Type": "application/json"}), "SignIn"),
    "a provider's answer that is none": (lambda browser: browser.post(ACS, {}), "SamlSignIn"),
    "a form of another session's page": (lambda _: None, "PageRequest"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_reference_on_a_page_finds_its_one_record(world, browser, since, case):
    refuse, event = REFUSALS[case]
    page = refuse(browser) or signed_in(world).post("/portal", {"form_token": "another's"})
    found = [one for one in records(world, since) if one["requestID"].startswith(reference(page) or "none")]
    assert page.status >= 400
    assert [(one["eventName"], "errorCode" in one) for one in found] == [(event, True)]


def with_login(services, login, **parts):
    """Return the services with another login page, and other parts of the pages."""
    pages = replace(services.pages, login=replace(services.pages.login, login=login), **parts)
    return replace(services, pages=pages)


def test_a_fault_of_ours_is_recorded_too_and_tells_nothing(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        browser, services = browser_of(world), world.installation.services
        form = browser.get("/login")
        login = services.pages.login.login
        broken = replace(login, home_realms=replace(login.home_realms, realms=None))
        world.installation.application = Application(with_login(services, broken))
        page = send(browser, form, headers={"Accept": "text/html"})
        assert page.status == 500
        assert alert(page) == "Something went wrong."
        assert "Traceback" not in page.body.decode()
        assert failures(world) == [("SignIn", "InternalFailure")]
        assert records(world)[-1]["requestID"].startswith(reference(page))
        plain = browser.get("/login")
        assert (plain.status, plain.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")


class Unwritable:
    """A name that breaks every page which shows it."""

    def __str__(self) -> str:
        raise RuntimeError("never shown")


def test_where_not_even_the_page_of_an_error_can_be_made_there_is_a_line(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        services = world.installation.services
        site = services.pages.site
        look = replace(site.responses.appearance, organisation=Unwritable())
        broken = replace(site, responses=replace(site.responses, appearance=look))
        login = services.pages.login.login
        login = replace(login, site=broken, forms=replace(login.forms, site=broken))
        world.installation.application = Application(with_login(services, login, site=broken))
        for address in ("/login", "/nowhere", "/portal"):
            answer = browser_of(world).get(address, Accept="text/html")
            assert (answer.status, answer.headers["Content-Type"]) == (500, "text/plain; charset=utf-8")
            assert re.fullmatch(r"Something went wrong. Reference: \w{8}\n", answer.body.decode())


def test_without_a_store_the_pages_say_try_again(tmp_path, redis_url, slapd):
    with contextlib.ExitStack() as until, contextlib.ExitStack() as afterwards:
        folder = until.enter_context(postgresql_server())
        more = {"FEDGATE_DATABASE_URL": postgresql_database(folder, "pages")}
        world = afterwards.enter_context(login_setup(tmp_path, redis_url, slapd.config(), **more))
        browser = signed_in(world)
        form = browser.get("/login?switch=1")
        until.close()
        for ask in (
            lambda: browser.get("/login", **PAGES),
            lambda: browser.get("/portal"),
            lambda: send(browser, form),
        ):
            answer = ask()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5"), words(answer)
            assert re.search(r"is not available now. Try again later\. Reference: \w{8}", words(answer))
        assert failures(world) == [("PageRequest", "ServiceUnavailable")] * 2 + [("SignIn", "ServiceUnavailable")]


# --- maintenance ------------------------------------------------------------------------------------------------------


def test_during_maintenance_nobody_gets_in_by_any_way_and_whoever_is_in_stays(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        inside, outside = signed_in(world), browser_of(world)
        form = outside.get("/login")
        closed = {**world.installation.environ, "FEDGATE_PAGES_MAINTENANCE": "true",
                  "FEDGATE_PAGES_NOTICE": "Back at noon."}  # fmt: skip
        later = Installation(tmp_path, closed, world.clock)
        inside.installation = outside.installation = later
        for answer in (outside.get("/login"), outside.get("/portal"), send(outside, form)):
            assert (answer.status, alert(answer), answer.headers["Retry-After"]) == (503, "Back at noon.", "300")
        assert b"<form" not in outside.get("/login").body
        assert inside.get("/portal").status == 200
        assert by_saml(world, outside).status == 503
        assert SESSION not in outside.cookies
        later.close()


def by_saml(world, browser):
    """Come back from the identity provider of the world."""
    sent = parse_qs(urlsplit(browser.get(world.door).headers["Location"]).query)
    acs = f"http://127.0.0.1:8080{ACS}"
    asked = etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"][0]), -15)).get("ID")
    audience = acs.replace("acs", "metadata")
    response = world.response(recipient=acs, destination=acs, audiences=((audience,),), in_response_to=asked)
    form = {"SAMLResponse": encoded(signed(response)), "RelayState": sent["RelayState"][0]}
    return browser.post(ACS, form)


# --- where a sign-in leads --------------------------------------------------------------------------------------------

PAGE = re.compile(r"/(?:portal|sessions|security|why|mfa/enrol|admin(?:/[a-z]+)?)(?:\?[!-~]*)?")
BEGINNINGS = ("", "https://", "//", "/\\", "/portal", "/portal?", "/admin/", "/why", "\r\nX: y", "%0d%0aX: y", "/..")
ENDINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WISHES = st.builds(str.__add__, st.sampled_from(BEGINNINGS), ENDINGS)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wish=WISHES)
def test_whatever_is_wished_for_a_sign_in_leads_to_a_page_of_ours(shared, wish):
    browser = browser_of(shared)
    query = urlencode({"to": wish})
    for answer in (sign_in(browser, at=f"/login?{query}"), sign_in(browser, at="/login?switch=1", to=wish)):
        if answer.status == 400:
            assert "cannot be read" in alert(answer)
            continue
        assert answer.status == 303
        assert PAGE.fullmatch(answer.headers["Location"])
        assert not {"X", "x"} & answer.headers.keys()
    go = browser_of(shared).get(f"/login?idp=Corp&{query}").headers["Location"]
    assert go.startswith(f"{shared.door}?to=%2F")
    assert PAGE.fullmatch(parse_qs(urlsplit(go).query)["to"][0])


def test_under_a_path_of_a_public_address_every_link_has_that_path(tmp_path, redis_url, slapd):
    public = "http://127.0.0.1:8080/fed"
    with login_setup(tmp_path, redis_url, slapd.config(), FEDGATE_PUBLIC_URL=public) as world:
        browser = browser_of(world)
        page = browser.get("/login")
        own = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.body.decode())
        assert own
        assert all(one.startswith("/fed/") for one in own), own
        assert send(browser, page).headers["Location"] == "/fed/portal"


# --- programs ---------------------------------------------------------------------------------------------------------


def test_programs_are_told_the_doors(world, browser):
    answer = browser.get("/portal", Accept="application/json")
    assert (answer.status, json.loads(answer.body)) == (
        401,
        {"code": "NotSignedIn", "message": "You are not signed in.", "doors": {"Corp": world.door}},
    )
