"""What proxies of each kind are told about browsers, and what they hand on to them."""

import json
from dataclasses import replace

import pytest
from redis import Redis
from support.administrator import allow
from support.authz import Sent, asked, envoy, forward, haproxy, nginx, signed_api
from support.service_visitor import NAVIGATION, Visitor, location
from support.signed_in_fixtures import HOME, house_in, sign_in_to_directory

from broker import wiring
from broker.authz.original import AuthorizationRequest

HOST, ORIGIN = "api.corp", "https://api.corp"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "execute-api:Invoke",
            "Resource": f"arn:aws:execute-api:us-east-1:{HOME}:open/default/*/public",
        },
    }
)
SETTINGS = """
[resource.api]
kind = "http"
hosts = ["api.corp"]
account = "{home}"
browser = "arn:aws:iam::{home}:role/reader"

[resource.open]
kind = "http"
hosts = ["open.corp"]
account = "{home}"
anonymous = true
browser = "arn:aws:iam::{home}:role/reader"
policy_file = "{policy}"

[resource.machines]
kind = "http"
hosts = ["machines.corp"]
account = "{home}"
"""
DIRECT = [forward, envoy, haproxy]


@pytest.fixture
def house(tmp_path, redis_url, demo_directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    policy = tmp_path / "policy.json"
    policy.write_text(POLICY)
    made = house_in(tmp_path, redis_url, demo_directory.config(), more=SETTINGS.format(home=HOME, policy=policy))
    made.directory_role("reader", allow("execute-api:Invoke"))
    yield made
    made.close()


@pytest.fixture
def alice(house):
    visitor = Visitor(house)
    assert sign_in_to_directory(visitor.pages, "alice", "wonderland-1865").status == 303
    return visitor


def sent(uri="/", method="GET", host=HOST, **headers):
    return Sent(method, uri, (("host", host), *((name.replace("_", "-"), value) for name, value in headers.items())))


def page(uri="/", host=HOST, **headers):
    return sent(uri, host=host, **NAVIGATION, **headers)


def ask(house, question):
    return asked(house.installation.services.authz, question)


def cookies(visitor, more="theme=dark"):
    return "; ".join([more, *(f"{name}={value}" for name, value in visitor.cookies[HOST].items())])


def entered(visitor):
    visitor.enter("api", f"{ORIGIN}/")
    return {"cookie": cookies(visitor)}


@pytest.mark.parametrize("proxy", DIRECT)
def test_a_proxy_hands_the_redirect_on(house, proxy):
    answer = ask(house, proxy(page("/a?b=c")))
    assert answer.status == 302
    assert answer["Location"].startswith("http://127.0.0.1:8080/service/api?direct=1&state=")
    assert answer["Set-Cookie"].startswith("__Host-fedgate-sign-in=")
    assert answer["Cache-Control"] == "no-store"


def test_nginx_is_told_to_ask_at_sign_in_and_hands_on_what_it_gets_there(house, alice):
    told = ask(house, nginx(page("/a?b=c")))
    assert (told.status, told["X-Fedgate-Status"]) == (401, "302")
    begun = house.installation.services.authz.answer(nginx(page("/a?b=c"), "sign-in"))
    alice._keep(f"{ORIGIN}/", begun)
    callback = alice.open_page(location(begun)).headers["Location"].removeprefix(ORIGIN)
    request = page(callback, cookie=cookies(alice))
    told = ask(house, nginx(request))
    assert (told.status, told["X-Fedgate-Status"]) == (401, "302")
    back = ask(house, nginx(request, "sign-in"))  # the question before has used nothing up
    assert (back.status, back["Location"]) == (302, f"{ORIGIN}/a?b=c")


@pytest.mark.parametrize(("proxy", "name"), [(nginx, "X-Fedgate-Cookie"), (haproxy, "X-Fedgate-Cookie"),
                                             (forward, "Cookie"), (envoy, "Cookie")])  # fmt: skip
def test_the_service_learns_who_it_is_and_gets_no_cookie_of_ours(house, alice, proxy, name):
    answer = ask(house, proxy(page(**entered(alice))))
    assert answer.status == 200
    assert answer["X-Fedgate-Principal"] == f"arn:aws:sts::{HOME}:assumed-role/reader/alice"
    assert answer[name] == "theme=dark"
    alone = ask(house, proxy(sent(cookie=cookies(alice, "a=b").removeprefix("a=b; "))))
    assert (alone.status, alone[name]) == (200, "")  # there all the same, in place of the client's


def test_requests_of_machines_have_their_cookies_unchanged(house):
    key = house.admin.user("robot", allow("execute-api:Invoke"))
    answer = ask(house, nginx(signed_api(key).having("cookie", "a=b; fedgate-session=x")))
    assert (answer.status, answer["X-Fedgate-Cookie"]) == (200, "a=b")


def test_a_signature_counts_alone(house, alice):
    cookie = entered(alice)["cookie"]
    key = house.admin.user("robot")
    answer = ask(house, forward(signed_api(key).having("cookie", cookie)))
    assert answer.status == 403
    assert "user/robot" in json.loads(answer.body)["message"]
    bearer = ask(house, forward(sent(cookie=cookie, authorization="Bearer x")))
    assert bearer.status == 403


@pytest.mark.parametrize("proxy", [nginx, *DIRECT])
def test_scripts_are_told_where_to_sign_in(house, proxy):
    answer = ask(house, proxy(sent(sec_fetch_mode="cors")))
    assert answer.status == 401
    assert answer["WWW-Authenticate"] == f'Fedgate realm="api", sign_in="{ORIGIN}/.fedgate/sign-in"'
    if proxy is not nginx:
        assert "Sign in" in json.loads(answer.body)["message"]


def test_what_everybody_may_see_needs_no_sign_in_and_the_rest_does(house):
    assert ask(house, forward(page("/public", host="open.corp"))).status == 200
    assert ask(house, forward(page("/private", host="open.corp"))).status == 302
    assert ask(house, forward(sent("/private", host="open.corp"))).status == 401


def test_a_denied_person_is_denied_and_not_sent_to_sign_in_again(house, alice):
    cookie = entered(alice)["cookie"]
    house.admin.do("DeleteRolePolicy", RoleName="reader", PolicyName="p0")
    answer = ask(house, forward(page(cookie=cookie)))
    assert answer.status == 403
    assert "assumed-role/reader/alice is not authorized" in json.loads(answer.body)["message"]
    (denied,) = [one for one in house.records() if one.get("eventCategory") == "Data"]
    assert denied["userIdentity"]["arn"].endswith("assumed-role/reader/alice")
    assert denied["errorCode"] == "AccessDenied"


def test_requests_of_other_sites_are_refused(house, alice):
    cookie = entered(alice)["cookie"]
    answer = ask(house, forward(sent(method="POST", cookie=cookie, origin="https://evil.example")))
    assert answer.status == 403
    assert "another" not in answer.headers
    assert ask(house, forward(sent(method="POST", cookie=cookie, origin=ORIGIN))).status == 200


def test_resources_for_machines_have_no_sign_in(house):
    told = ask(house, forward(page("/.fedgate/callback", host="machines.corp")))
    assert told.status == 403  # a path of the service, and nobody signed
    assert ask(house, nginx(page(host="machines.corp"), "sign-in")).status == 404
    assert ask(house, nginx(page(host="unknown.corp"), "sign-in")).status == 404
    assert ask(house, AuthorizationRequest("GET", "/authz/sign-in", (("host", HOST),))).status == 400


def test_without_redis_the_answer_is_that_it_is_not_available(house, alice):
    entered(alice)
    authz, sign_in = house.installation.services.authz, house.installation.services.service_sign_in
    with wiring.open_redis("redis://127.0.0.1:1") as nowhere:
        sign_in = replace(sign_in, service_sessions=replace(sign_in.service_sessions, redis=nowhere))
        authorizer = replace(authz.authorizer, signed_in=sign_in.caller)
        away = replace(authz, authorizer=authorizer, browsers=replace(authz.browsers, sign_in=sign_in))
        assert asked(away, forward(page(cookie=cookies(alice)))).status == 503
        state = location(away.answer(forward(page()))).partition("state=")[2]
        answer = asked(away, forward(page(f"/.fedgate/callback?code=x&state={state}", cookie=cookies(alice))))
    assert answer.status == 503
    assert answer["Retry-After"]
