"""A browser that is signed in to a service behind Fedgate, and whoever wants to act with it, or to bring it in."""

import json
import urllib.parse

import pytest
from support.broker_process import ACCOUNT, PASSWORDS, fetch, post
from support.front_proxy import running_services
from support.http_browser import Browser
from support.installation import VERSIONS
from support.servers import eventually

PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


@pytest.fixture(scope="module")
def services(tmp_path_factory, slapd, furnished, shared_redis):
    with running_services(tmp_path_factory.mktemp("services"), slapd, furnished, shared_redis) as running:
        yield running


def signed_in(services, name="bob"):
    """Return a browser in which somebody is signed in to Fedgate."""
    browser = Browser()
    page = browser.get(f"{services.broker.endpoint}/login")
    page = browser.submit(page, username=name, password=PASSWORDS[name])
    assert page.url.endswith("/portal"), page.body
    return browser


@pytest.fixture
def bob(services):
    return signed_in(services)


def acting(page):
    """Return as whom the service sees a browser."""
    assert page.status == 200, page.body
    return json.loads(page.body)["principal"]


def cookie(browser, name, host):
    jar = next(handler.cookiejar for handler in browser.opener.handlers if hasattr(handler, "cookiejar"))
    return next((one.value for one in jar if (one.name, one.domain) == (name, host)), "")


def stop_at(browser, url):
    """Return where a browser is sent next from an address, without going there."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    jar = [one for one in browser.opener.handlers if hasattr(one, "cookiejar")]
    opener = urllib.request.build_opener(*jar, Stay(), urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers=PAGE)) as answer:
            return answer.headers["Location"]
    except urllib.error.HTTPError as error:
        with error:
            return error.headers["Location"]


def code_address(browser, url):
    """Return the address with the code, which a browser would open next."""
    return stop_at(browser, stop_at(browser, url))


BOB = f"arn:aws:sts::{ACCOUNT}:assumed-role/Visitor/bob"
SERVICE = "fedgate-service"


def test_a_person_signs_in_once_and_acts_at_each_service(services):
    browser = Browser()
    page = browser.get(f"{services.wiki}/pages?name=first", **PAGE)
    assert page.status == 401
    page = browser.submit(page, username="bob", password=PASSWORDS["bob"])
    entry = urllib.parse.unquote(page.body.split('content="0;url=')[1].partition('"')[0].replace("&amp;", "&"))
    assert entry.startswith(f"{services.wiki}/.fedgate/callback?")
    page = browser.get(page.body.split('content="0;url=')[1].partition('"')[0].replace("&amp;", "&"), **PAGE)
    assert (page.url, acting(page)) == (f"{services.wiki}/pages?name=first", BOB)
    page = browser.get(f"{services.board}/", **PAGE)
    assert (page.url, acting(page)) == (f"{services.board}/", BOB)
    assert not json.loads(page.body)["cookie"]


def test_a_script_without_a_session_gets_no_redirect(services):
    answer = fetch(urllib.request.Request(f"{services.wiki}/data", headers={"Sec-Fetch-Mode": "cors"}))
    assert answer.status == 401
    assert f'sign_in="{services.wiki}/.fedgate/sign-in"' in answer.headers["WWW-Authenticate"]


def test_a_code_that_was_used_opens_nothing(services, bob):
    address = code_address(bob, f"{services.wiki}/")
    assert acting(bob.get(address, **PAGE)) == BOB
    begun = cookie(bob, SERVICE, "127.0.0.2")
    assert acting(bob.get(address, **PAGE)) == BOB  # with the session that he has
    assert cookie(bob, SERVICE, "127.0.0.2") == begun
    mallory = Browser()
    page = mallory.get(address, **PAGE)
    assert (page.status, "Sign-in not completed" in page.body) == (400, True)
    assert not cookie(mallory, SERVICE, "127.0.0.2")


def test_a_code_of_one_service_opens_no_other(services, bob):
    taken = urllib.parse.urlsplit(code_address(bob, f"{services.wiki}/"))
    stop_at(bob, f"{services.board}/")
    page = bob.get(f"{services.board}{taken.path}?{taken.query}", **PAGE)
    assert "Sign-in not completed" in page.body
    assert not cookie(bob, SERVICE, "127.0.0.3")


def test_nobody_is_signed_in_as_the_attacker(services, bob):
    address = code_address(bob, f"{services.wiki}/")  # bob keeps the code, and sends the link
    victim = Browser()
    stop_at(victim, f"{services.wiki}/")  # who has begun to sign in as well
    victim.get(address, **PAGE)
    assert not cookie(victim, SERVICE, "127.0.0.2")


def test_a_cookie_of_one_service_opens_neither_another_nor_fedgate(services, bob):
    assert acting(bob.get(f"{services.wiki}/", **PAGE)) == BOB
    stolen = cookie(bob, SERVICE, "127.0.0.2")
    names = ("fedgate-service", "fedgate-session", "fedgate-step")
    everywhere = {"Cookie": "; ".join(f"{name}={stolen}" for name in names)}
    assert fetch(urllib.request.Request(f"{services.board}/", headers=everywhere)).status == 401
    assert fetch(urllib.request.Request(f"{services.broker.endpoint}/sessions", headers=everywhere)).status == 401
    form = {"Action": "GetCallerIdentity", "Version": VERSIONS["sts"], "X-Amz-Security-Token": stolen}
    assert post(services.broker.endpoint, form).status == 403


TARGETS = ("//evil.example/", "/%2e%2e//evil.example", "/.fedgate/sign-in?to=https://evil.example/",
           "/.fedgate/sign-in?to=//evil.example/", "/.fedgate/sign-in?to=/%5Cevil.example",
           "/.fedgate/sign-in?to=@evil.example/", "/.fedgate/sign-in?to=/%0d%0aLocation:%20//evil.example")  # fmt: skip


def test_a_sign_in_leads_to_the_service_alone(services, bob):
    for target in TARGETS:
        address = stop_at(bob, f"{services.wiki}{target}")
        if address is None:
            continue  # the path is refused as it is
        while not address.startswith(f"{services.wiki}/.fedgate/callback"):
            assert address.startswith(services.broker.endpoint), address
            address = stop_at(bob, address)
        assert stop_at(bob, address).startswith(f"{services.wiki}/"), target


def test_a_forged_host_gets_no_code(services):
    for host in ("evil.example", "127.0.0.2", "evil.example/127.0.0.2", "evil.example@127.0.0.2"):
        headers = {"Host": f"{host}:1", **PAGE}
        begun = fetch(urllib.request.Request(f"{services.wiki}/.fedgate/sign-in", headers=headers))
        assert begun.status in {400, 403}, begun.body


def end_at_fedgate(services, browser):
    page = browser.get(f"{services.broker.endpoint}/portal")
    assert "You are signed out" in browser.submit(page).body


def end_at_the_service(services, browser):
    page = browser.get(f"{services.wiki}/.fedgate/sign-out", {}, Origin=services.wiki, **PAGE)
    assert "You are signed out" in page.body


def revoke_the_person(services, _browser):
    person = next(one["person"] for one in services.broker.fedgate("sessions", "list") if "Visitor/bob" in one["arn"])
    services.broker.fedgate("sessions", "revoke", "--person", person)


@pytest.mark.parametrize("end", [end_at_fedgate, end_at_the_service, revoke_the_person], ids=lambda end: end.__name__)
def test_whoever_is_signed_out_or_revoked_is_a_stranger_at_the_service(services, bob, end):
    assert acting(bob.get(f"{services.wiki}/", **PAGE)) == BOB
    stolen = {"Cookie": f"{SERVICE}={cookie(bob, SERVICE, '127.0.0.2')}"}
    assert fetch(urllib.request.Request(f"{services.wiki}/", headers=stolen)).status == 200
    end(services, bob)
    asked = urllib.request.Request(f"{services.wiki}/", headers=stolen)
    assert eventually(lambda: fetch(asked).status == 401)
    assert bob.get(f"{services.wiki}/", **PAGE).status == 401  # the sign-in page


OTHER_SITES = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {},
)


def test_another_site_changes_nothing_with_the_cookie(services, bob):
    assert acting(bob.get(f"{services.wiki}/", **PAGE)) == BOB
    assert bob.get(f"{services.wiki}/pages", {"text": "mine"}, **{"Sec-Fetch-Site": "same-origin"}).status == 200
    for headers in OTHER_SITES:
        assert bob.get(f"{services.wiki}/pages", {"text": "spam"}, **headers).status == 403
        assert bob.get(f"{services.wiki}/.fedgate/sign-out", {}, **headers).status == 403
        assert bob.get(f"{services.wiki}/live", **{"Sec-WebSocket-Key": "x"}, **headers).status == 403
    assert acting(bob.get(f"{services.wiki}/", **PAGE)) == BOB


def test_a_signature_is_judged_alone_whatever_cookie_comes_with_it(services, bob):
    assert acting(bob.get(f"{services.wiki}/", **PAGE)) == BOB
    forged = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261130/us-east-1/execute-api/aws4_request,"
    forged += " SignedHeaders=host;x-amz-date, Signature=" + "0" * 64
    page = bob.get(f"{services.wiki}/", Authorization=forged, **{"X-Amz-Date": "20261130T000000Z"}, **PAGE)
    assert page.status == 403
