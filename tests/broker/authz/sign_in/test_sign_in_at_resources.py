"""Signing in to a resource: there, back, and what ends it; over real directories, Redis and SQL."""

import urllib.parse
from dataclasses import replace

import pytest
from redis import Redis
from support.administrator import allow, trust
from support.service_visitor import Visitor, headers_of, location
from support.signed_in_fixtures import HOME, NEW, give_code, hidden, house_in, sign_in, sign_in_to_directory

from broker import wiring
from iam.clock import to_milliseconds
from iam.errors import AccessDenied, ServiceUnavailable
from iam.revocation import ScopeKind
from iam.store.revocation import revoke

PASSWORD = "wonderland-1865"
WIKI, PLAIN = "https://wiki.example.com", "http://localhost:9000"
RESOURCES = "".join(
    f"""
[resource.{name}]
kind = "http"
hosts = ["{host}"]
account = "{HOME}"
{f'browser = "arn:aws:iam::{HOME}:role/{role}"' if role else ""}
"""
    for name, host, role in [
        ("wiki", "wiki.example.com", "reader"),
        ("other", "other.example.com", "reader"),
        ("plain", "localhost:9000", "reader"),
        ("secret", "secret.example.com", "closed"),
        ("strong", "strong.example.com", "strong"),
        ("tagged", "tagged.example.com", "tagged"),
        ("users", "users.example.com", "keeper"),
        ("none", "none.example.com", ""),
    ]
)
PATHS = f"{WIKI}/pages?name=first"


@pytest.fixture
def house(tmp_path, redis_url, demo_directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, demo_directory.config(), more=RESOURCES)
    made.directory_role("reader", allow("execute-api:Invoke"))
    made.directory_role("closed", allow("*"), group="contractors")
    yield made
    made.close()


@pytest.fixture
def alice(house):
    return signed_in(house)


def signed_in(house, name="alice", password=PASSWORD):
    visitor = Visitor(house)
    assert sign_in_to_directory(visitor.pages, name, password).status == 303
    return visitor


def interrupted(name="wiki"):
    return f"http://127.0.0.1:8080/service/{name}?interrupted=1"


def record(house, event):
    (one,) = house.records(event)
    return one


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_person_comes_back_to_the_page_and_acts_in_the_role(house, alice):
    entered = alice.enter("wiki", PATHS)
    assert (entered.status, location(entered)) == (302, PATHS)
    caller = alice.caller("wiki", PATHS)
    assert caller.principal.arn == f"arn:aws:sts::{HOME}:assumed-role/reader/alice"
    assert caller.session.grant.person.startswith("ldap-provider/corp|")
    assert record(house, "AssumeRoleWithLDAPIdentity")["requestParameters"]["roleArn"].endswith("role/reader")
    signed = record(house, "SignInToService")
    assert signed["requestParameters"] == {"resource": "wiki", "role": f"arn:aws:iam::{HOME}:role/reader"}
    assert signed["userIdentity"]["userName"] == "alice"


def test_the_cookie_is_of_the_host_alone(alice):
    (line,) = headers_of(alice.enter("wiki", PATHS), "Set-Cookie")
    name, *attributes = line.split("; ")
    assert name.startswith("__Host-fedgate-service=")
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Lax", "Secure"]


def test_plain_http_of_this_machine_has_cookies_without_the_prefix(alice):
    (line,) = headers_of(alice.enter("plain", f"{PLAIN}/x"), "Set-Cookie")
    assert line.startswith("fedgate-service=")
    assert line.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert alice.caller("plain", f"{PLAIN}/x")


def test_whoever_is_not_signed_in_sees_the_sign_in_page_first(house):
    visitor = Visitor(house)
    address = location(visitor.begin("wiki", PATHS))
    first = visitor.open_page(address)
    assert first.status == 303, first.body
    here = first.headers["Location"]
    page = visitor.pages.get(here, Accept="text/html")
    assert page.status == 401
    assert "To open wiki." in page.body.decode()
    assert hidden(page)["to"] == here
    sent = visitor.pages.post("/login", hidden(page) | {"username": "alice", "password": PASSWORD})
    assert (sent.status, sent.headers["Location"]) == (303, here)
    # Browsers would hold a redirect to form-action here: the page leads on by itself.
    entry = visitor.pages.get(here, Accept="text/html")
    assert entry.status == 200
    assert "form-action 'self'" in entry.headers["Content-Security-Policy"]
    found = entry.body.decode().split('content="0;url=')[1].partition('"')[0].replace("&amp;", "&")
    assert location(visitor.answer("wiki", found)) == PATHS
    assert visitor.caller("wiki", PATHS)


def test_the_sign_in_path_leads_where_a_script_says(alice):
    response = alice.answer("wiki", f"{WIKI}/.fedgate/sign-in?to=/board%3Fx=1")
    address = alice.open_page(location(response)).headers["Location"]
    assert location(alice.answer("wiki", address)) == f"{WIKI}/board?x=1"


def test_scripts_are_told_where_to_sign_in(house, alice):
    services, request = house.installation.services, alice.request(PATHS)
    ((name, value),) = services.service_sign_in.challenge(alice.resource("wiki"), request)
    assert (name, value) == ("WWW-Authenticate", f'Fedgate realm="wiki", sign_in="{WIKI}/.fedgate/sign-in"')


def test_two_tabs_that_began_at_once_both_come_in(alice):
    first = location(alice.begin("wiki", f"{WIKI}/1"))
    alice.cookies.clear()  # the second tab was opened before the first answer came
    second = location(alice.begin("wiki", f"{WIKI}/2"))
    back = alice.answer("wiki", alice.open_page(first).headers["Location"])
    assert location(back) == f"{WIKI}/1"  # and once more, with the nonce that the browser kept
    assert not headers_of(back, "Set-Cookie")
    assert location(alice.answer("wiki", alice.open_page(second).headers["Location"])) == f"{WIKI}/2"
    assert alice.caller("wiki", f"{WIKI}/1")


# --- the role decides -------------------------------------------------------------------------------------------------


def test_the_trust_policy_decides_and_the_page_says_why_not(house, alice):
    answer = alice.open_page(location(alice.begin("secret", "https://secret.example.com/")))
    assert answer.status == 403
    text = answer.body.decode()
    assert "No access to secret" in text
    assert "sts:AssumeRoleWithLDAPIdentity" in text
    denied = record(house, "AssumeRoleWithLDAPIdentity")
    assert denied["errorCode"] == "AccessDenied"
    assert denied["requestID"][:8] in text


def test_the_reason_is_linked_where_people_may_see_other_roles(tmp_path, redis_url, demo_directory):
    more = RESOURCES + "\n[pages]\nother_roles = true\n"
    house = house_in(tmp_path, redis_url, demo_directory.config(), more=more)
    house.directory_role("closed", allow("*"), group="contractors")
    visitor = signed_in(house)
    text = visitor.open_page(location(visitor.begin("secret", "https://secret.example.com/"))).body.decode()
    assert f"/why?role={urllib.parse.quote(f'arn:aws:iam::{HOME}:role/closed', safe='')}" in text
    house.close()


def test_a_role_with_a_second_factor_asks_for_it_first(house, alice):
    house.directory_role("strong", allow("*"), Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    identity = house.installation.services.storage.browser_sessions.newest(1)[0].identity
    house.enrol(identity.person)
    asked = alice.open_page(location(alice.begin("strong", "https://strong.example.com/")))
    assert asked.status == 303
    mfa = asked.headers["Location"]
    assert mfa.startswith("/mfa?to=%2Fservice%2Fstrong")
    given = give_code(house, alice.pages, mfa)
    assert given.status == 303, given.body
    entry = alice.pages.get(given.headers["Location"], Accept="text/html").body.decode()
    found = entry.split('content="0;url=')[1].partition('"')[0].replace("&amp;", "&")
    alice.answer("strong", found)
    assert alice.caller("strong", "https://strong.example.com/").mfa_at is not None


def test_a_role_that_asks_for_tags_is_refused_with_a_reason(house, alice):
    wanted = {"StringLike": {"aws:RequestTag/Ticket": "CHG-*"}, "Null": {"aws:TagKeys": "false"}}
    actions = ["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"]
    provider = {"Federated": house.admin.arn("ldap-provider", "corp")}
    house.admin.role("tagged", trust(provider, actions, Condition=wanted), allow("*"))
    answer = alice.open_page(location(alice.begin("tagged", "https://tagged.example.com/")))
    assert answer.status == 403
    assert "No access to tagged" in answer.body.decode()


@pytest.mark.parametrize("name", ["none", "nobody"])
def test_resources_without_a_role_have_no_page(alice, name):
    assert alice.pages.get(f"/service/{name}", Accept="text/html").status == 404


def test_resources_without_a_role_know_no_cookie_and_no_path_of_ours(alice):
    alice.enter("wiki", PATHS)
    alice.cookies["none.example.com"] = dict(alice.cookies["wiki.example.com"])
    assert alice.caller("none", "https://none.example.com/") is None
    assert alice.answer("none", "https://none.example.com/.fedgate/callback") is None


# --- codes ------------------------------------------------------------------------------------------------------------


def test_a_code_counts_once(alice):
    address = alice.code_address("wiki", PATHS)
    assert location(alice.answer("wiki", address)) == PATHS
    again = alice.answer("wiki", address)
    assert location(again) == PATHS  # as any link: somebody went back in the history of the browser
    assert not headers_of(again, "Set-Cookie")
    del alice.cookies["wiki.example.com"]["__Host-fedgate-service"]
    again = alice.answer("wiki", address)
    assert location(again) == interrupted()
    assert not headers_of(again, "Set-Cookie")
    page = alice.open_page(interrupted())
    assert page.status == 400
    assert f'href="{WIKI}/"' in page.body.decode()


def test_a_code_that_was_put_back_into_redis_counts_for_nothing(alice, redis_url):
    address = alice.code_address("wiki", PATHS)
    with Redis.from_url(redis_url) as client:
        (key,) = client.keys("fedgate:service:code:*")
        kept = client.get(key)
        alice.answer("wiki", address)
        client.set(key, kept)
        del alice.cookies["wiki.example.com"]["__Host-fedgate-service"]
        assert location(alice.answer("wiki", address)) == interrupted()


def test_a_code_is_soon_over_whatever_redis_says(house, alice):
    address = alice.code_address("wiki", PATHS)
    house.clock.advance(seconds=61)
    assert location(alice.answer("wiki", address)) == interrupted()


def test_a_code_of_another_resource_or_sign_in_counts_for_nothing(alice):
    other = urllib.parse.urlsplit(alice.code_address("other", "https://other.example.com/"))
    assert location(alice.answer("wiki", f"{WIKI}{other.path}?{other.query}")) == interrupted()
    first = urllib.parse.parse_qs(urllib.parse.urlsplit(alice.code_address("wiki", PATHS)).query)
    second = urllib.parse.parse_qs(urllib.parse.urlsplit(alice.code_address("wiki", PATHS)).query)
    mixed = urllib.parse.urlencode({"code": first["code"][0], "state": second["state"][0]})
    assert location(alice.answer("wiki", f"{WIKI}/.fedgate/callback?{mixed}")) == interrupted()


@pytest.mark.parametrize("query", ["", "code=x", "state=x&code=y", "code=a&code=b&state=c", "&".join("abcdefghijkl")])
def test_a_call_back_that_cannot_be_read_is_no_sign_in(alice, query):
    assert location(alice.answer("wiki", f"{WIKI}/.fedgate/callback?{query}")) == interrupted()


def test_a_code_in_the_browser_of_somebody_else_counts_for_nothing(house, alice):
    address, victim = alice.code_address("wiki", PATHS), Visitor(house)
    assert location(victim.answer("wiki", address)) == interrupted()
    assert location(alice.answer("wiki", address)) == interrupted()  # nor does it any more where it was made
    address = alice.code_address("wiki", f"{WIKI}/trap")
    victim.begin("wiki", PATHS)  # has a nonce of its own
    answer = victim.answer("wiki", address)
    assert location(answer) == f"{WIKI}/trap"
    assert not headers_of(answer, "Set-Cookie")
    assert victim.caller("wiki", PATHS) is None


def test_a_sign_in_that_began_long_ago_begins_again(house, alice):
    address = location(alice.begin("wiki", PATHS))
    house.clock.advance(minutes=31)
    page = alice.open_page(address)
    assert page.status == 400
    assert "Sign-in not completed" in page.body.decode()


def test_a_host_that_only_ends_like_the_resource_gets_no_code(tmp_path, redis_url, demo_directory):
    buckets = RESOURCES.replace('"http"\nhosts = ["wiki.', '"s3"\nhosts = ["*.wiki.')
    house = house_in(tmp_path, redis_url, demo_directory.config(), more=buckets)
    house.directory_role("reader", allow("*"))
    visitor = signed_in(house)
    for host in ("evil.example#.wiki.example.com", "evil@x.wiki.example.com", "evil.example", "a.b.wiki.example.com"):
        request = visitor.request(WIKI, host=host)
        begun = house.installation.services.service_sign_in.begin(visitor.resource("wiki"), request)
        assert visitor.open_page(location(begun)).status == 400
    assert visitor.code_address("wiki", "https://x.wiki.example.com/").startswith("https://x.wiki.example.com/.fedgate")
    assert "href" not in visitor.open_page(interrupted()).body.decode().partition("<main")[2].partition("</main")[0]
    house.close()


# --- cookies ----------------------------------------------------------------------------------------------------------


def test_a_cookie_opens_nothing_at_another_resource_nor_at_fedgate(house, alice):
    alice.enter("wiki", PATHS)
    stolen = alice.cookies["wiki.example.com"]["__Host-fedgate-service"]
    alice.cookies["other.example.com"] = {"__Host-fedgate-service": stolen}
    assert alice.caller("other", "https://other.example.com/") is None
    stranger = house.browser()
    for name in ("fedgate-session", "fedgate-step", "fedgate-service"):
        stranger.cookies = {name: stolen}
        assert stranger.get("/sessions").status == 401


def test_two_cookies_of_the_name_are_none(alice):
    alice.enter("wiki", PATHS)
    (cookie,) = [f"{name}={value}" for name, value in alice.cookies["wiki.example.com"].items() if "service" in name]
    assert alice.caller("wiki", PATHS, cookie=cookie)
    assert alice.caller("wiki", PATHS, cookie=f"{cookie}; {cookie}") is None


@pytest.mark.parametrize("value", ["x" * 5000, "", "a b", "\u00e9" * 43])
def test_a_nonce_that_is_none_of_ours_is_replaced(alice, value):
    alice.cookies["wiki.example.com"] = {"__Host-fedgate-sign-in": value, "__Host-fedgate-service": value}
    assert alice.caller("wiki", PATHS) is None
    begun = alice.begin("wiki", PATHS)
    assert headers_of(begun, "Set-Cookie")
    assert len(location(begun)) < 1000


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
def test_what_may_change_something_comes_from_the_same_origin(alice, method):
    alice.enter("wiki", PATHS)
    assert alice.caller("wiki", PATHS, method, sec_fetch_site="same-origin")
    assert alice.caller("wiki", PATHS, method, origin=WIKI)
    for headers in ({"sec_fetch_site": "cross-site"}, {"origin": "https://evil.example"}, {}):
        with pytest.raises(AccessDenied):
            alice.caller("wiki", PATHS, method, **headers)
    with pytest.raises(AccessDenied):
        alice.caller("wiki", PATHS, upgrade="websocket", origin="https://evil.example")


# --- what ends it -----------------------------------------------------------------------------------------------------


def sign_out_of_the_pages(_house, alice):
    token = hidden(alice.pages.get("/portal", Accept="text/html"))["form_token"]
    assert alice.pages.post("/sign-out", {"form_token": token}).status == 200


def revoke_it(house, kind, subject):
    now_ms, random = to_milliseconds(house.clock()), house.installation.services.api.gate.random
    with house.installation.store.write() as tx:
        revoke(tx, kind, subject, now_ms=now_ms, random=random)


def revoke_the_person(house, alice):
    revoke_it(house, ScopeKind.PERSON, alice.caller("wiki", PATHS).session.grant.person)


def revoke_the_role_session(house, alice):
    revoke_it(house, ScopeKind.SESSION, alice.caller("wiki", PATHS).session.id)


def delete_the_role(house, _alice):
    house.admin.do("DeleteRolePolicy", RoleName="reader", PolicyName="p0")
    house.admin.do("DeleteRole", RoleName="reader")


def be_idle(house, _alice):
    house.clock.advance(seconds=house.installation.settings.pages_idle)


def let_the_role_session_expire(house, alice):
    for _ in range(4):
        house.clock.advance(minutes=15)
        alice.pages.get("/sessions")


def lose_redis(house, _alice):
    house.installation.services.storage.browser_sessions.redis.flushall()


ENDS = [sign_out_of_the_pages, revoke_the_person, revoke_the_role_session, delete_the_role, be_idle, lose_redis,
        let_the_role_session_expire]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_the_next_request_is_a_stranger_s(house, alice, end):
    alice.enter("wiki", PATHS)
    assert alice.caller("wiki", PATHS)
    end(house, alice)
    assert alice.caller("wiki", PATHS) is None


def test_a_sign_out_at_the_resource_ends_everything_that_came_from_the_sign_in(house, alice):
    alice.enter("wiki", PATHS)
    alice.enter("other", "https://other.example.com/")
    out = alice.answer("wiki", f"{WIKI}/.fedgate/sign-out", "POST", sec_fetch_site="same-origin")
    assert (out.status, location(out)) == (303, "http://127.0.0.1:8080/service/wiki?signed_out=1")
    assert not alice.cookies["wiki.example.com"]
    assert alice.caller("other", "https://other.example.com/") is None
    page = alice.open_page(location(out))
    assert page.status == 200
    assert "You are signed out" in page.body.decode()
    assert alice.pages.get("/sessions").status == 401
    assert record(house, "SignOut")["requestParameters"]["resource"] == "wiki"


def test_another_site_signs_nobody_out(alice):
    alice.enter("wiki", PATHS)
    for headers in ({"sec_fetch_site": "cross-site"}, {"origin": "https://evil.example"}, {}):
        assert alice.answer("wiki", f"{WIKI}/.fedgate/sign-out", "POST", **headers).status == 403
    assert alice.caller("wiki", PATHS)


def test_a_sign_out_of_nobody_changes_nothing(alice):
    out = alice.answer("wiki", f"{WIKI}/.fedgate/sign-out", "POST", origin=WIKI)
    assert out.status == 303
    assert alice.open_page(location(out)).headers["Location"] == "/portal"  # still signed in to the pages
    alice.enter("wiki", PATHS)
    sign_out_of_the_pages(None, alice)
    assert alice.answer("wiki", f"{WIKI}/.fedgate/sign-out", "POST", origin=WIKI).status == 303


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/.fedgate/", "GET", 404),
        ("/.fedgate/else", "GET", 404),
        ("/.fedgate/callback", "POST", 405),
        ("/.fedgate/sign-out", "GET", 405),
        ("/.fedgate/callback/", "GET", 404),
    ],
)
def test_no_path_of_ours_reaches_the_service(alice, path, method, status):
    assert alice.answer("wiki", f"{WIKI}{path}", method).status == status


def test_a_sign_in_that_ended_on_its_way_begins_no_session(house, alice):
    address = alice.code_address("wiki", PATHS)
    sign_out_of_the_pages(house, alice)
    answer = alice.answer("wiki", address)
    assert location(answer) == interrupted()
    assert not headers_of(answer, "Set-Cookie")


def test_a_session_of_another_role_than_the_setting_s_is_none(house, alice):
    alice.enter("wiki", PATHS)
    changed = replace(alice.resource("wiki"), browser=f"arn:aws:iam::{HOME}:role/closed")
    sign_in = house.installation.services.service_sign_in
    assert sign_in.caller(changed, alice.request(PATHS)) is None


def test_without_redis_nobody_is_taken_for_signed_in(house, alice):
    alice.enter("wiki", PATHS)
    sign_in = house.installation.services.service_sign_in
    with wiring.open_redis("redis://127.0.0.1:1") as nowhere:
        away = replace(sign_in, service_sessions=replace(sign_in.service_sessions, redis=nowhere))
        with pytest.raises(ServiceUnavailable):
            away.caller(alice.resource("wiki"), alice.request(PATHS))


def test_what_redis_holds_of_a_session_is_sealed_for_its_key(house, alice, redis_url):
    alice.enter("wiki", PATHS)
    mallory = signed_in(house, "bob", "builder-can-we-fix-it")
    mallory.enter("wiki", PATHS)
    with Redis.from_url(redis_url) as client:
        one, other = client.keys("fedgate:service:session:*")
        assert b"alice" not in client.get(one)
        first, second = client.get(one), client.get(other)
        client.mset({one: second, other: first})
    assert alice.caller("wiki", PATHS) is None
    assert mallory.caller("wiki", PATHS) is None


# --- users of the account ---------------------------------------------------------------------------------------------


def test_a_user_of_the_account_signs_in_until_the_password_changes(house):
    house.user("jane", allow("sts:AssumeRole"))
    house.admin.role("keeper", None, allow("*"))
    jane, address = Visitor(house), "https://users.example.com/"
    assert sign_in(jane.pages, "jane").status == 303
    jane.enter("users", address)
    assert jane.caller("users", address).principal.arn == f"arn:aws:sts::{HOME}:assumed-role/keeper/jane"
    house.admin.do("UpdateLoginProfile", UserName="jane", Password=NEW)
    assert jane.caller("users", address) is None
