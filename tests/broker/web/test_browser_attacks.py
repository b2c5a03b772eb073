"""THREATS H: the browser's session, the sign-in page and HTTP, each case over every page that there is."""

import os
import re
import sqlite3
import urllib.parse
from contextlib import closing
from http.cookies import SimpleCookie

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis
from support.administrator import allow
from support.installation import FORM, Installation
from support.login_fixtures import (
    ALICE,
    BOB,
    SESSION,
    alert,
    browser_of,
    failures,
    hidden_fields,
    links,
    login_setup,
    records,
    send,
    sign_in,
    signed_in,
    twin,
    value_of,
    words,
)
from support.saml_fixtures import Browser, field_of

from broker.sessions.browser import BrowserSessions
from iam.store.revocation import revoke

PUBLIC = "http://127.0.0.1:8080"
SECURE = "https://fed.example.com"
PAGES = {"Accept": "text/html"}
# What stands for the parts of a path in the addresses that are asked below.
PARTS = {"account_id": "111122223333", "account": "111122223333", "name": "Corp", "provider_id": "1", "issuer_id": "1",
         "filename": "fedgate.css"}  # fmt: skip
# What programs ask; these have tests of their own.
OF_PROGRAMS = ("token_exchange", "issuer", "brand", "static", "healthz", "readyz", "welcome")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis_url, slapd):
    with login_setup(tmp_path_factory.mktemp("h"), redis_url, slapd.config()) as made:
        made.admin.do("PutRolePolicy", RoleName="developer", PolicyName="all", PolicyDocument=allow("*"))
        yield made


@pytest.fixture
def world(shared):
    shared.clock.advance(minutes=16)  # nobody's failures of another test count any more
    return shared


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory, redis_url, slapd):
    folder = tmp_path_factory.mktemp("tls")
    with login_setup(folder, redis_url, slapd.config(), FEDGATE_PUBLIC_URL=SECURE) as made:
        yield made


def addresses(world, method):
    """Return every address of a page that takes a method."""
    rules = world.installation.application._pages.url_map.iter_rules()
    pages = [one for one in rules if not one.endpoint.startswith(OF_PROGRAMS) and method in one.methods]
    return sorted({re.sub(r"<(?:\w+:)?(\w+)>", lambda part: PARTS[part[1]], one.rule) for one in pages})


# --- H01 and H14: forms -----------------------------------------------------------------------------------------------


def test_no_form_does_anything_for_somebody_without_its_token(world):
    for browser in (signed_in(world), browser_of(world)):
        for address in addresses(world, "POST"):
            before = state(world)
            answer = browser.post(address, {"form_token": "x", "username": "alice", "password": ALICE})
            out = 200 if address == "/sign-out" and SESSION not in browser.cookies else 403
            assert answer.status in (400, 401, 403, 404, out), (address, answer.status)
            assert "Location" not in answer.headers, address
            assert state(world) == before, address


@pytest.mark.parametrize(
    "address", ["/login?to=/security&to=/portal", "/login?to=x&to=y", f"/portal?role={'a' * 3000}&role=b"]
)
def test_a_field_of_an_address_that_comes_twice_is_told_on_a_page(world, address):
    page = browser_of(world).get(address, Accept="text/html")
    assert page.status in (400, 401)
    assert b"</html>" in page.body


def test_a_field_that_comes_twice_is_refused_wherever_it_is_read(world):
    browser = signed_in(world)
    token = field_of(browser.get("/portal"), "form_token")
    for fields in ([("form_token", token), ("form_token", "x")], [("form_token", "x"), ("form_token", token)]):
        assert browser.post("/sign-out", fields).status == 400
        assert browser.post("/portal/pin", [*fields, ("role", world.role)]).status == 400
    for address in ("/portal?role=a&role=b", "/login?to=/a&to=/b&switch=1"):
        assert browser.get(address, **PAGES).status == 400, address
    assert browser.get("/portal?lang=de&lang=fr").status == 200


def test_what_changes_something_cannot_be_got(world):
    browser = signed_in(world)
    only_posted = set(addresses(world, "POST")) - set(addresses(world, "GET"))
    assert {"/sign-out", "/portal/pin", "/sessions/all"} <= only_posted
    for address in only_posted:
        answer = browser.get(address)
        assert (answer.status, set(answer.headers["Allow"].split(", "))) == (405, {"POST", "OPTIONS"}), address
        page = browser.get(address, **PAGES)
        assert (page.status, page.headers["Allow"]) == (405, answer.headers["Allow"])
        assert alert(page) == "This page does not accept this request method."


def test_looking_at_a_page_changes_nothing(world):
    browser = signed_in(world)
    for address in addresses(world, "GET"):
        browser.get(address)  # keys are made when they are first asked for
    before, session = state(world), browser.cookies[SESSION]
    for address in addresses(world, "GET"):
        browser.get(address)
        browser.get(f"{address}?switch=1&lang=de&q=x&page=2&role={world.role}")
        assert state(world) == before, address
    assert browser.cookies[SESSION] == session
    assert browser.get("/portal").status == 200


def state(world):
    """Return all that is kept durably, but for the counting of failures."""
    file = world.installation.settings.data_dir / "fedgate.db"
    with closing(sqlite3.connect(file)) as database:
        return [line for line in database.iterdump() if "failed_attempt" not in line]


# --- H02: a new id ----------------------------------------------------------------------------------------------------


def test_an_id_that_somebody_else_chose_never_becomes_a_session(world):
    browser = browser_of(world)
    chosen = browser.cookies[SESSION] = "A" * 43
    assert browser.get("/portal").status == 401
    assert sign_in(browser).status == 303
    assert browser.cookies[SESSION] != chosen
    assert re.fullmatch(r"[\w-]{43}", browser.cookies[SESSION])
    attacker = browser_of(world)
    attacker.cookies[SESSION] = chosen
    assert attacker.get("/portal").status == 401


def test_whoever_signs_in_over_the_session_of_somebody_else_ends_it(world):
    planted = signed_in(world, "bob", BOB)
    victim = twin(planted)
    sign_in(victim, at="/login?switch=1")
    assert victim.cookies[SESSION] != planted.cookies[SESSION]
    assert "Signed in as alice" in words(victim.get("/portal"))
    assert planted.get("/portal").status == 401


# --- H03: the end of a session ----------------------------------------------------------------------------------------


def is_in(browser, world):
    """Return whether a browser is in, at this worker and at another one over the same data."""
    other = twin(browser)
    other.installation = Installation(world.installation.folder, world.installation.environ, world.clock)
    told = {browser.get("/portal").status, other.get("/portal").status}
    other.installation.close()
    assert len(told) == 1
    return told == {200}


def sign_out(browser, _world):
    kept = twin(browser)
    answer = browser.post("/sign-out", {"form_token": field_of(browser.get("/portal"), "form_token")})
    assert answer.status == 200
    assert SESSION not in browser.cookies
    browser.cookies = kept.cookies


def revoke_person(_browser, world):
    provider = world.installation.services.sign_ins.ldap.providers["corp"]
    now = int(world.clock().timestamp() * 1000)
    with world.installation.store.write() as tx:
        revoke(tx, "person", provider.authenticate("alice", ALICE).person, now_ms=now, random=os.urandom)


def remove_directory(_browser, world):
    (world.installation.folder / "fedgate.toml").write_text("")
    world.installation.close()
    again = Installation(world.installation.folder, world.installation.environ, world.clock)
    world.installation.services, world.installation.application = again.services, again.application


ENDS = {
    "sign-out": sign_out,
    "the absolute limit": lambda _browser, world: world.clock.advance(hours=12),
    "the person was revoked": revoke_person,
    "the directory has gone": remove_directory,
}


@pytest.mark.parametrize("case", ENDS)
def test_a_session_that_has_ended_has_ended_everywhere(tmp_path, redis_url, slapd, case):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        browser = signed_in(world)
        assert is_in(browser, world)
        ENDS[case](browser, world)
        assert not is_in(browser, world)
        answer = browser.get("/sessions")
        assert (answer.status, hidden_fields(answer).get("to", "/sessions")) == (401, "/sessions")


def test_a_session_lives_until_its_absolute_limit_and_idles_as_long_as_the_settings_say(tmp_path, redis_url, slapd):
    more = {"FEDGATE_PAGES_IDLE": "900", "FEDGATE_PAGES_LIFETIME": "3600"}
    with login_setup(tmp_path, redis_url, slapd.config(), **more) as world, Redis.from_url(redis_url) as client:
        client.flushall()
        browser = signed_in(world)
        (key,) = (one for one in client.keys("fedgate:web:session:*") if not one.endswith(b":used"))
        assert 890 < client.ttl(key) <= 900
        client.expire(key, 5)
        browser.get("/portal")
        assert 890 < client.ttl(key) <= 900, "whoever does something goes on"
        for minutes in (14, 14, 14, 14, 3):
            world.clock.advance(minutes=minutes)
            assert browser.get("/portal").status == 200
        assert 50 < client.ttl(key) <= 60, "and not beyond the limit"
        client.delete(key)  # as Redis does when nothing was done for so long
        assert browser.get("/portal").status == 401


@pytest.mark.parametrize("how", ["changed", "taken away", "the user too"])
def test_a_session_of_a_user_ends_with_the_password(world, how):
    name = f"user-{how.replace(' ', '-')}"
    world.admin.do("CreateUser", UserName=name)
    world.admin.do("CreateLoginProfile", UserName=name, Password="A first pass phrase, 1")
    world.clock.advance(seconds=1)
    user_id = world.admin.do("GetUser", UserName=name).text("UserId")
    identity = world.installation.user_identity("111122223333", user_id, name)
    browser = browser_of(world)
    browser.cookies[SESSION], _ = sessions(world).open(identity)
    assert is_in(browser, world)
    world.clock.advance(seconds=1)
    if how == "changed":
        world.admin.do("UpdateLoginProfile", UserName=name, Password="Another pass phrase, 2")
    else:
        world.admin.do("DeleteLoginProfile", UserName=name)
    if how == "the user too":
        world.admin.do("DeleteUser", UserName=name)
    assert not is_in(browser, world)


def sessions(world) -> BrowserSessions:
    return world.installation.services.pages.site.sessions


# --- H04: cookies -----------------------------------------------------------------------------------------------------


def cookies_of(world):
    """Return every cookie that is set on the way in, around the pages and out again."""
    browser, found = Browser(world.installation), []
    ways = [*addresses(world, "GET"), "/login?lang=de", "/login?idp=Corp", world.door]
    answers = [browser.get(one) for one in ways]
    answers.append(sign_in(browser))
    answers += [browser.get(one) for one in addresses(world, "GET")]
    answers.append(browser.post("/sign-out", {"form_token": field_of(browser.get("/portal"), "form_token")}))
    for answer in answers:
        for line in answer.all_headers.get("Set-Cookie", ()):
            found += SimpleCookie(line).values()
    assert {one.key.removeprefix("__Host-") for one in found} >= {
        "fedgate-session", "fedgate-form", "fedgate-browser", "fedgate-language", "fedgate-went", "fedgate-door"
    }  # fmt: skip
    return found


def test_behind_tls_every_cookie_is_of_this_host_and_secure_and_no_script_reads_it(behind_tls):
    for one in cookies_of(behind_tls):
        assert one.key.startswith("__Host-fedgate-")
        assert (one["secure"], one["httponly"], one["path"], one["domain"]) == (True, True, "/", ""), one.key
        assert one["samesite"] == ("None" if one.key.endswith("browser") and one.value else "Lax"), one.key


def test_on_this_machine_cookies_work_without_tls(world):
    for one in cookies_of(world):
        assert one.key.startswith("fedgate-")
        assert (one["secure"], one["httponly"], one["path"], one["domain"]) == ("", True, "/", ""), one.key
        assert one["samesite"] == ("" if one.key.endswith("browser") and one.value else "Lax"), one.key


def test_a_session_is_gone_with_the_browser_and_what_is_no_secret_is_not(world):
    kept = {one.key: bool(one["max-age"]) for one in cookies_of(world) if one.value}
    assert kept == {
        "fedgate-session": False, "fedgate-form": False, "fedgate-browser": False, "fedgate-left": False,
        "fedgate-language": True, "fedgate-went": True, "fedgate-door": True,
    }  # fmt: skip


# --- H05 and H06: headers ---------------------------------------------------------------------------------------------

POLICY = ("default-src 'none'", "style-src 'self'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'")
OURS = re.compile(r"/(?!/)|\?|#|data:,$|data:image/svg|otpauth:|$")


def pages(world):
    """Yield every page for somebody who is in, and who is not; and those of errors."""
    for browser in (browser_of(world), signed_in(world)):
        for address in addresses(world, "GET"):
            yield address, browser.get(address, **PAGES)
        yield "/nowhere", browser.get("/nowhere", **PAGES)
        yield "/sign-out", browser.get("/sign-out", **PAGES)
    yield "a wrong password", sign_in(browser_of(world), "alice", "wrong")
    yield "a form of elsewhere", sign_in(browser_of(world), headers={"Origin": "null"})


def test_no_page_can_be_framed_or_run_what_is_not_a_file_of_ours_and_nobody_keeps_one(world):
    told = list(pages(world))
    assert len([one for _, one in told if one.headers["Content-Type"].startswith("text/html")]) > 30
    for address, page in told:
        if address.endswith("/metadata"):
            continue
        policy = page.headers["Content-Security-Policy"]
        assert all(part in policy for part in POLICY), address
        assert "unsafe" not in policy
        assert page.headers["Cache-Control"] == "no-store", address
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        text = page.body.decode()
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text), address
        addressed = re.findall(r'\b(?:src|href|action)="([^"]*)"', text)
        assert [one for one in addressed if not OURS.match(one)] == [], address


def test_behind_tls_browsers_are_told_to_stay_there(behind_tls, world):
    wanted = {address: page.headers.get("Strict-Transport-Security") for address, page in pages(behind_tls)}
    assert {one for address, one in wanted.items() if not address.endswith("/metadata")} == {"max-age=31536000"}
    assert "Strict-Transport-Security" not in browser_of(world).get("/login").headers


# --- H07: spraying ----------------------------------------------------------------------------------------------------


def test_one_password_for_many_names_ends_after_fifty_whatever_address_is_claimed(tmp_path, redis_url, slapd):
    with login_setup(tmp_path, redis_url, slapd.config()) as world:
        browser = browser_of(world)
        page = browser.get("/login")
        told = [
            send(browser, page, f"name-{number}", "Winter2026!", headers={"X-Forwarded-For": f"198.51.100.{number}"})
            for number in range(60)
        ]
        assert [one.status for one in told] == [401] * 50 + [429] * 10
        assert all(1 <= int(one.headers["Retry-After"]) <= 900 for one in told[50:])
        assert "account" not in alert(told[-1])
        assert sign_in(browser_of(world)).status == 429, "whoever is at that address waits too"
        assert {one["sourceIPAddress"] for one in records(world)[-11:]} == {"127.0.0.1"}


# --- H09: Host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "127.0.0.1:8081"}, {"Host": "127.0.0.1:8080.evil"}]
)
def test_a_page_asked_for_by_another_name_tells_the_right_one(world, headers):
    browser = browser_of(world)
    for address in ("/login", "/portal", "/signin", "/security"):
        page = browser.get(address, **headers, **PAGES)
        assert (page.status, alert(page)) == (421, "This page is at another address.")
        assert links(page)["Go to the sign-in page"] == f"{PUBLIC}/login?local=1"
        assert links(page)[f"{PUBLIC}{address}"] == f"{PUBLIC}{address}"
        assert "evil" not in page.body.decode()
        assert browser.get(address, **headers).headers["Content-Type"].startswith("text/plain")
    assert send(browser, browser.get("/login"), headers=headers).status == 421
    assert SESSION not in browser.cookies


@pytest.mark.parametrize("host", ["localhost:8080", "LOCALHOST:8080", "[::1]:8080", "127.0.0.2:8080"])
def test_another_name_of_this_machine_leads_to_the_right_one(world, host):
    browser = browser_of(world)
    answer = browser.get("/login?to=%2Fsessions", Host=host, **PAGES)
    assert (answer.status, answer.headers["Location"]) == (303, f"{PUBLIC}/login?to=%2Fsessions")
    assert browser.post("/login", {}, Host=host, **PAGES).status == 421


def test_what_else_a_request_says_of_its_host_is_never_read(world):
    headers = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Original-Host": "evil.example"}
    browser = browser_of(world)
    page = browser.get("/login?idp=Corp", **headers)
    assert page.headers["Location"].startswith(world.door)
    answer = browser.get(world.door, **headers)
    assert "evil" not in urllib.parse.unquote(str(answer.all_headers))
    assert sign_in(browser, headers=headers).headers["Location"] == "/portal"


def test_programs_may_use_any_name_and_browsers_the_usual_port(world, behind_tls):
    for address in ("/healthz", "/static/fedgate.css", "/brand.css", "/.well-known/oauth-authorization-server"):
        assert browser_of(world).get(address, Host="10.0.0.7").status == 200
    for host in ("fed.example.com", "FED.example.com", "fed.example.com:443"):
        assert browser_of(behind_tls).get("/login", Host=host).status == 200
    assert browser_of(behind_tls).get("/login", Host="fed.example.com:80").status == 421


# --- H11: what no form sends ------------------------------------------------------------------------------------------

UNREADABLE = {
    "a list": "username%5B%5D=alice&password=x",
    "a name twice": "username=alice&username=bob&password=x",
    "NUL": "username=a%00lice&password=x",
    "NUL in the password": "username=alice&password=a%00",
    "no UTF-8": "username=%ff%fe&password=x",
    "no UTF-8 as it is": b"username=\xff\xfe&password=x",
    "half of a pair": "username=%ed%a0%80&password=x",
    "a long name": "username=" + "a" * 257 + "&password=x",
    "a long password": "username=alice&password=" + "a" * 1025,
    "a long way": "username=alice&password=x&to=/portal?" + "a" * 5000,
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_no_form_of_ours_sends_is_400(world, case):
    browser, since = browser_of(world), len(records(world))
    sealed = urllib.parse.urlencode(hidden_fields(browser.get("/login")) | {"to": ""}).replace("&to=", "")
    body = UNREADABLE[case]
    body = body if isinstance(body, bytes) else body.encode()
    answer = browser._send("POST", "/login", {"Content-Type": FORM}, sealed.encode() + b"&" + body)
    assert (answer.status, alert(answer) != "") == (400, True)
    assert not [one for one in failures(world, since) if one[0] == "DirectorySignIn"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/xml"])
def test_what_is_no_form_is_400(world, kind):
    browser = browser_of(world)
    browser.get("/login")
    for address in ("/login", "/signin/111122223333", "/root", "/password"):
        answer = browser._send("POST", address, {"Content-Type": kind}, b'{"username": "alice", "password": "x"}')
        assert answer.status == 400, address


def test_a_form_may_come_in_parts(world):
    browser = browser_of(world)
    fields = hidden_fields(browser.get("/login")) | {"username": "alice", "password": ALICE}
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = "".join(part.format(*one) for one in fields.items()) + "--b--\r\n"
    answer = browser._send("POST", "/login", {"Content-Type": "multipart/form-data; boundary=b"}, body.encode())
    assert answer.status == 303


OCTETS = st.binary(max_size=60)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)


ADDRESSES = st.sampled_from(["/login", "/portal", "/password", "/signin"])
REQUESTS = st.fixed_dictionaries(
    {"method": st.sampled_from(["GET", "POST"]), "address": ADDRESSES, "query": OCTETS, "body": OCTETS,
     "cookie": HEADER, "language": HEADER, "accept": HEADER}
)  # fmt: skip
QUIET = {"method": "GET", "query": b"", "body": b"", "cookie": "", "language": "", "accept": ""}


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=REQUESTS)
@example(QUIET | {"address": "/portal", "query": b"\xff", "accept": "text/html"})
@example(QUIET | {"address": "/login", "query": b"to=%ff&lang=%00&idp=%", "language": "de;q=x, *", "accept": ",;q"})
@example(QUIET | {"address": "/login", "cookie": "fedgate-session=\xff; fedgate-language=x"})
@example(
    QUIET | {"address": "/login", "method": "POST", "body": b"transaction=%ff", "cookie": "fedgate-form=" + "A" * 43}
)
def test_whatever_comes_is_answered(shared, asked):
    headers = {"Host": "127.0.0.1:8080", "Cookie": asked["cookie"], "Accept-Language": asked["language"],
               "Accept": asked["accept"], "Content-Type": FORM}  # fmt: skip
    address = f"{asked['address']}?{asked['query'].decode('latin-1')}"
    answer = shared.installation.request(asked["method"], address, headers, asked["body"])
    assert answer.status < 500
    assert not any(sign in value for values in answer.all_headers.values() for value in values for sign in "\r\n")


# --- H12: names that mean something elsewhere -------------------------------------------------------------------------

NAMES = [
    '<script>alert("1")</script>',
    '"><img src=x>',
    "a\nb",
    "a\r\nSet-Cookie: x=y",
    "{{ 7*7 }}",
    "%(name)s",
    "\u202egnp.exe",
    "' OR 1=1 --",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_was_typed_and_is_one_record(world, name):
    browser, since = browser_of(world), len(records(world))
    page = sign_in(browser, name, "wrong")
    assert page.status == 401
    assert value_of(page, "username").replace("\r", "") == name.replace("\r", "")
    assert "<script>a" not in page.body.decode()
    assert "<img" not in page.body.decode()
    assert "Set-Cookie: x" not in str(page.all_headers)
    assert failures(world, since) == [("DirectorySignIn", "IDPRejectedClaim")]


# --- H13: errors that nobody raised on purpose ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
        ("application/json", "text/plain; charset=utf-8"),
    ],
)
def test_browsers_get_a_page_for_what_is_not_there_and_programs_a_line(world, accept, kind):
    for method, address, code in (("GET", "/no/<b>where", 404), ("GET", "/sign-out", 405), ("GET", "//login", 404)):
        answer = world.installation.request(method, address, {"Host": "127.0.0.1:8080", "Accept": accept})
        assert (answer.status, answer.headers["Content-Type"]) == (code, kind)
        assert re.search(r"Reference: (?:<code>)?\w{8}", answer.body.decode())
        assert answer.headers["Cache-Control"] == "no-store"
        assert b"<b>" not in answer.body


def test_such_a_page_is_written_in_the_readers_language_and_leads_on(world):
    page = browser_of(world).get("/nowhere?lang=ar", **PAGES)
    assert '<html lang="ar" dir="rtl">' in page.body.decode()
    assert set(links(page).values()) >= {"/portal", "/login?local=1", "/nowhere?lang=fr"}


def test_a_form_that_is_too_large_is_told_so(world):
    page = sign_in(browser_of(world), padding="x" * 300_001, headers=PAGES)
    assert (page.status, alert(page)) == (413, "The form is too large.")
    assert links(page)["English"] == "/login?lang=en"
