"""Sign-in in the browser through an OpenID Connect provider, over a real server, and every answer that is refused."""

import base64
import hashlib
import json
import re
import time
import urllib.parse
from datetime import timedelta

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import select
from support.administrator import trust
from support.oidc_issuer import Issuer, b64, compact, signature
from support.saml_fixtures import Browser, field_of
from support.web_identity_fixtures import ACCOUNT, open_setup
from support.web_server import web_server

from broker.cli import main
from iam.store.schema import sign_in_client
from sts.identity import WebIdentity

PUBLIC = "http://127.0.0.1:8080"
SECRET = "s3cret:&=%"
OTHER_BROWSER = "This sign-in was not started in this browser, or it has expired."
EVENT = {"http://schemas.openid.net/event/backchannel-logout": {}}


class Provider(Issuer):
    """An issuer with the endpoints of sign-in; ``given`` is what the next code is traded for, ``told`` what it got."""

    def publish(self, **more):
        self.given = {}
        self.told = {}
        self.userinfo = {"sub": "user-1", "department": "sales"}
        ends = {name: self.server.url(f"{self.path}/{place}") for name, place in {
            "authorization_endpoint": "authorize", "token_endpoint": "token", "userinfo_endpoint": "userinfo",
            "end_session_endpoint": "end"}.items()}  # fmt: skip
        super().publish(**{name: value for name, value in (ends | more).items() if value is not None})
        self.server.answers[f"{self.path}/token"] = self.trade
        self.server.answers[f"{self.path}/userinfo"] = self.tell

    def trade(self, handler):
        self.told = dict(urllib.parse.parse_qsl(handler.posted.decode())) | {
            "authorization": handler.headers.get("Authorization")
        }
        body = self.given if isinstance(self.given, bytes) else json.dumps(self.given).encode()
        answer(handler, body, 400 if isinstance(self.given, dict) and "error" in self.given else 200)

    def tell(self, handler):
        self.told["bearer"] = handler.headers.get("Authorization")
        answer(handler, json.dumps(self.userinfo).encode())


def answer(handler, body, status=200):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def world(tmp_path, redis_url, server):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = open_setup(tmp_path, redis_url, server)
    made.idp = Provider(server, made.clock, "/idp")
    made.registered(made.idp, "mobile")
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    made.facts = fedgate(made, "sign-in", made.provider(made.idp), "--client-id", "web app", "--client-secret-file",
                         str(file), "--name", "Corporate ID")  # fmt: skip
    made.path = urllib.parse.urlsplit(made.facts["sign_in_at"]).path.removesuffix("/login")
    condition = {"StringEquals": {f"{made.idp.arn_part}:aud": "web app", f"{made.idp.arn_part}:department": "sales"}}
    document = trust({"Federated": made.provider(made.idp)}, "sts:AssumeRoleWithWebIdentity", Condition=condition)
    made.sales = made.admin.role("sales", document)
    yield made
    made.installation.close()


def fedgate(world, *arguments, status=0):
    done = CliRunner().invoke(main, ["oidc", *arguments, "--json"], env=world.installation.environ)
    assert done.exit_code == status, done.output
    return json.loads(done.output) if status == 0 else done.output


@pytest.fixture
def browser(world):
    return Browser(world.installation)


def begin(world, browser, query=""):
    """Go to the provider; return the parameters of the request."""
    answer_ = browser.get(f"{world.path}/login{query}")
    assert answer_.status == 303, answer_.body
    address, _, asked = answer_.headers["Location"].partition("?")
    assert address == world.idp.server.url("/idp/authorize")
    return dict(urllib.parse.parse_qsl(asked))


def tokens(world, asked, **changes):
    claims = {"aud": "web app", "nonce": asked["nonce"], "preferred_username": "ann", "sid": "s1"} | changes
    header = claims.pop("header", None)
    text = world.idp.token(header=header, **claims)
    return {"id_token": text, "access_token": "access", "token_type": "Bearer"}


def back(world, browser, asked, **parameters):
    given = {"code": "code-1", "state": asked["state"]} | parameters
    query = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
    return browser.get(f"{world.path}/callback?{query}")


def sign_in(world, browser, **changes):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked, **changes)
    return back(world, browser, asked)


def refused(answer_, status, text):
    body = answer_.body.decode().replace("&#39;", "'")
    assert (answer_.status, text in body) == (status, True), body
    assert "Traceback" not in body


def signed_in(browser):
    return "Signed in as" in browser.get("/portal").body.decode()


def records(world):
    return [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]


# --- the journey ------------------------------------------------------------------------------------------------------


def test_a_person_signs_in_chooses_a_role_and_gets_credentials(world, browser):
    page = browser.get("/portal")
    assert f'href="{world.path}/login?to=%2Fportal"' in page.body.decode()
    assert "Continue with Corporate ID" in page.body.decode()
    asked = begin(world, browser)
    assert asked["redirect_uri"] == f"{PUBLIC}{world.path}/callback" == world.facts["redirect_uri"]
    assert (asked["response_type"], asked["scope"]) == ("code", "openid profile email")
    world.idp.given = tokens(world, asked)
    answer_ = back(world, browser, asked)
    assert (answer_.status, answer_.headers["Location"]) == (303, "/portal")
    told = world.idp.told
    challenge = b64(hashlib.sha256(told["code_verifier"].encode()).digest())
    assert (asked["code_challenge"], asked["code_challenge_method"]) == (challenge, "S256")
    pair = base64.b64decode(told["authorization"].removeprefix("Basic ")).decode()
    assert [urllib.parse.unquote(part) for part in pair.split(":")] == ["web app", SECRET]
    assert told["bearer"] == "Bearer access"
    page = browser.get("/portal")
    assert "Signed in as <strong>ann</strong>" in page.body.decode()
    form = {"roleIndex": world.sales, "form_token": field_of(page, "form_token")}
    got = json.loads(browser.post("/portal", form, Origin=PUBLIC, Accept="application/json").body)
    assert set(got) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    record = records(world)[-1]
    assert (record["eventName"], record["userIdentity"]["userName"]) == ("AssumeRoleWithWebIdentity", "user-1")
    assert record["responseElements"]["assumedRoleUser"]["Arn"].endswith("assumed-role/sales/ann")
    assert "SamlSignIn" not in {one["eventName"] for one in records(world)}


def test_claims_of_the_id_token_win_over_userinfo(world, browser):
    sign_in(world, browser, department="other")
    assert world.sales not in browser.get("/portal").body.decode()


def test_who_signed_in_at_the_provider_too_long_ago_signs_in_anew_there_once(world, browser):
    long_ago = int((world.clock() - timedelta(days=30)).timestamp())
    asked = begin(world, browser, "?to=/sessions")
    assert not {"prompt", "max_age"} & asked.keys()
    world.idp.given = tokens(world, asked, auth_time=long_ago)
    sent = back(world, browser, asked)
    again = dict(urllib.parse.parse_qsl(sent.headers["Location"].partition("?")[2]))
    assert (sent.status, again["prompt"], again["max_age"], signed_in(browser)) == (303, "login", "0", False)
    world.idp.given = tokens(world, again, auth_time=long_ago)
    refused(back(world, browser, again), 400, "The user signed in too long ago")  # and no third request
    assert [record["errorCode"] for record in records(world)[-2:]] == ["ExpiredTokenException"] * 2
    asked = begin(world, browser, "?to=/sessions")
    world.idp.given = tokens(world, asked, auth_time=long_ago)
    again = dict(urllib.parse.parse_qsl(back(world, browser, asked).headers["Location"].partition("?")[2]))
    world.idp.given = tokens(world, again, auth_time=int(world.clock().timestamp()))
    assert back(world, browser, again).headers["Location"] == "/sessions"
    assert signed_in(browser)


def test_a_sign_in_leads_to_one_other_even_in_a_browser_that_keeps_its_cookie(world, browser):
    asked, kept = begin(world, browser), dict(browser.cookies)
    world.idp.given = tokens(world, asked, auth_time=int((world.clock() - timedelta(days=30)).timestamp()))
    assert back(world, browser, asked).status == 303
    browser.cookies = kept
    refused(back(world, browser, asked), 400, "The user signed in too long ago")


def test_a_provider_that_does_not_know_when_somebody_signed_in_is_believed(world, browser):
    assert sign_in(world, browser, auth_time=0).headers["Location"] == "/portal"


@pytest.mark.parametrize("methods", [["client_secret_post"], ["client_secret_basic"], None])
def test_the_client_proves_itself_as_the_provider_wants(world, browser, methods):
    world.idp.publish(token_endpoint_auth_methods_supported=methods)
    assert sign_in(world, browser).status == 303
    assert ("client_secret" in world.idp.told) == (methods == ["client_secret_post"])


def test_a_public_client_has_no_secret(world, browser):
    fedgate(world, "sign-in", world.provider(world.idp), "--client-id", "web app")
    assert sign_in(world, browser).status == 303
    assert (world.idp.told["client_id"], world.idp.told["authorization"]) == ("web app", None)


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "/\\evil", "javascript:x", "/portal/../x", "%0d%0aX:y"]
)
def test_a_sign_in_leads_to_our_own_pages_alone(world, browser, to):
    asked = begin(world, browser, f"?to={to}")
    world.idp.given = tokens(world, asked)
    assert back(world, browser, asked).headers["Location"] == "/portal"


def test_where_nobody_can_sign_in_there_is_no_page(world, browser):
    fedgate(world, "sign-in", world.provider(world.idp), "--remove")
    for page in ("login", "callback", "signed-out"):
        assert browser.get(f"{world.path}/{page}").status == 404
    assert "Corporate ID" not in browser.get("/portal").body.decode()
    assert "Give either" in fedgate(world, "sign-in", world.provider(world.idp), status=2)
    told = fedgate(world, "sign-in", world.provider(world.idp), "--client-id", "x", "--scope", "email", status=2)
    assert "openid must be among the scopes" in told


TENANT = "https://login.microsoftonline.com/3f2504e0-4f89-11d3-9a0c-0305e82c3301/v2.0"
PRESETS = [
    ("entra", TENANT, "openid profile email offline_access", "Microsoft Entra ID"),
    ("google", "https://accounts.google.com", "openid profile email", "Google"),
    ("okta", "https://acme.okta.com", "openid profile email groups offline_access", "Okta"),
    ("okta", "https://acme.okta.com/oauth2/aus1", "openid profile email groups offline_access", "Okta"),
    ("keycloak", "https://sso.acme.com/realms/main", "openid profile email", "sso.acme.com/realms/main"),
    ("github", "https://github.com", "read:org", "GitHub"),
    ("generic", "https://id.acme.com", "openid profile email", "id.acme.com"),
]


@pytest.mark.parametrize(("preset", "url", "scopes", "name"), PRESETS)
def test_a_preset_knows_what_its_provider_wants(world, preset, url, scopes, name):
    world.admin.do("CreateOpenIDConnectProvider", Url=url)
    arn = world.admin.arn("oidc-provider", url.removeprefix("https://"))
    told = fedgate(world, "sign-in", arn, "--client-id", "x", "--preset", preset)
    assert (told["to_set_there"] == "") == (preset == "generic")
    with world.installation.store.read() as tx:
        row = tx.execute(select(sign_in_client).where(sign_in_client.c.name == name)).one()
    assert (row.scopes, row.kind) == (scopes, "github" if preset == "github" else "oidc")


@pytest.mark.parametrize(
    ("preset", "url", "told"),
    [
        ("entra", "https://login.microsoftonline.com/common/v2.0", "names one tenant by its id"),
        ("entra", "https://accounts.google.com", "is not an issuer of the preset entra"),
        ("google", "https://accounts.google.com.acme.com", "is not an issuer of the preset google"),
        ("keycloak", "https://sso.acme.com", "is not an issuer of the preset keycloak"),
        ("github", "https://token.actions.githubusercontent.com", "is not an issuer of the preset github"),
        ("generic", "https://github.com", "Its preset is github."),
    ],
)
def test_a_preset_refuses_the_issuers_of_others(world, preset, url, told):
    world.admin.do("CreateOpenIDConnectProvider", Url=url)
    arn = world.admin.arn("oidc-provider", url.removeprefix("https://"))
    assert told in fedgate(world, "sign-in", arn, "--client-id", "x", "--preset", preset, status=1)


# --- F01 to F13 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, "", "unknown", "x" * 5000])
def test_f01_a_state_that_is_not_ours_is_refused(world, browser, state):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked)
    answer_ = back(world, browser, asked, state=state)
    assert answer_.status == 400
    assert not world.idp.told
    assert back(world, browser, asked).status == 303


def test_f01_a_state_of_another_browser_or_used_twice_or_over_is_refused(world, browser):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked)
    other = Browser(world.installation)
    begin(world, other)
    refused(back(world, other, asked), 400, OTHER_BROWSER)
    assert back(world, browser, asked).status == 303
    refused(back(world, browser, asked), 400, OTHER_BROWSER)
    asked = begin(world, browser)
    world.clock.advance(seconds=601)
    refused(back(world, browser, asked), 400, OTHER_BROWSER)


def test_f01_a_state_is_used_once_even_by_a_browser_that_keeps_its_cookie(world, browser):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked)
    kept = dict(browser.cookies)
    assert back(world, browser, asked).status == 303
    browser.cookies = kept
    refused(back(world, browser, asked), 400, "This sign-in request was already used.")


def test_f02_a_code_that_the_provider_refuses_is_an_end(world, browser):
    asked = begin(world, browser)
    world.idp.given = {"error": "invalid_grant"}
    refused(back(world, browser, asked), 400, "The provider rejected the code.")
    refused(back(world, browser, asked), 400, OTHER_BROWSER)  # the state is used up


@pytest.mark.parametrize("nonce", [None, "other", 5])
def test_f03_a_token_without_our_nonce_is_refused(world, browser, nonce):
    refused(sign_in(world, browser, nonce=nonce), 400, "its nonce is not ours")
    assert not signed_in(browser)


@pytest.mark.parametrize(("advertised", "issuer", "status"), [
    (True, "own", 303), (True, None, 400), (True, "https://evil.example", 400), (None, "https://evil.example", 400),
    (None, None, 303), (None, "own", 303),
])  # fmt: skip
def test_f04_the_answer_names_its_issuer_where_it_says_so(world, browser, advertised, issuer, status):
    world.idp.publish(authorization_response_iss_parameter_supported=advertised)
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked)
    assert back(world, browser, asked, iss=world.idp.url if issuer == "own" else issuer).status == status


def test_f04_an_answer_of_one_provider_is_nothing_at_another(world, browser):
    other = Provider(world.idp.server, world.clock, "/other")
    world.registered(other)
    path = fedgate(world, "sign-in", world.provider(other), "--client-id", "web app")["sign_in_at"]
    asked = begin(world, browser)
    world.idp.given = other.given = tokens(world, asked)
    there = urllib.parse.urlsplit(path).path.removesuffix("/login")
    query = urllib.parse.urlencode({"code": "c", "state": asked["state"]})
    refused(browser.get(f"{there}/callback?{query}"), 400, OTHER_BROWSER)


def at_hash(text):
    return b64(hashlib.sha256(text.encode()).digest()[:16])


@pytest.mark.parametrize(("told", "status"), [(at_hash("access"), 303), (at_hash("other"), 400), (5, 400), ("", 400)])
def test_f05_the_access_token_is_that_of_the_id_token(world, browser, told, status):
    assert sign_in(world, browser, at_hash=told).status == status


@pytest.mark.parametrize("subject", ["other", None, 1])
def test_f06_userinfo_of_somebody_else_is_refused(world, browser, subject):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked)
    world.idp.userinfo = {"sub": subject}
    refused(back(world, browser, asked), 400, "UserInfo is of somebody else")


def test_f07_a_provider_that_calls_itself_otherwise_is_refused(world, browser):
    world.idp.publish(issuer="https://other.example.com")
    refused(browser.get(f"{world.path}/login"), 400, "retrieve verification key")


def test_f08_a_person_is_issuer_and_subject_and_never_a_mail_address(world, browser):
    other = Browser(world.installation)
    sign_in(world, browser, email="ann@example.com")
    asked = begin(world, other)
    world.idp.given = tokens(world, asked, sub="user-2", email="ann@example.com")
    world.idp.userinfo = {"sub": "user-2"}
    assert back(world, other, asked).status == 303
    people = {one["userIdentity"]["userName"] for one in records(world) if one["eventName"] == "OidcSignIn"}
    assert people == {"user-1", "user-2"}


def test_f11_what_the_provider_says_is_quoted_and_never_obeyed(world, browser):
    asked = begin(world, browser)
    answer_ = back(
        world, browser, asked, code=None, error="access_denied", error_description="<script>alert(1)</script>"
    )
    refused(answer_, 403, "&lt;script&gt;")
    assert b"<script>alert" not in answer_.body


@pytest.mark.parametrize(
    "given", [b"<html>", b"[]", {}, {"id_token": 5}, {"id_token": "x.y.z"}, b"\xff", b"[" * 10_000]
)
def test_f12_an_answer_that_is_none_is_refused(world, browser, given):
    asked = begin(world, browser)
    world.idp.given = given
    assert back(world, browser, asked).status == 400
    refused(back(world, browser, asked), 400, OTHER_BROWSER)
    assert not signed_in(browser)


def test_f12_a_provider_that_hangs_is_given_up(world, browser):
    asked = begin(world, browser)
    client = world.installation.services.pages.login.oidc.clients["oidc"]
    object.__setattr__(client.fetcher, "within", 0.3)
    world.idp.server.answers["/idp/token"] = lambda _handler: time.sleep(2)
    refused(back(world, browser, asked), 400, "The provider cannot be reached now.")


HOSTILE = {
    "for another client": {"aud": "mobile"},
    "for another party": {"azp": "mobile"},
    "of another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_000_000_000},
    "an access token": {"header": {"typ": "at+jwt"}},
    "unsigned": {"header": {"alg": "none"}},
    "a logout token": {"events": EVENT},
}


@pytest.mark.parametrize("how", HOSTILE)
def test_an_id_token_that_is_none_is_refused(world, browser, how):
    assert sign_in(world, browser, **HOSTILE[how]).status == 400
    assert not signed_in(browser)


ENDPOINTS = {
    "over http": ("token_endpoint", "http://localhost/token"),
    "in a file": ("token_endpoint", "file:///etc/passwd"),
    "at a private address": ("token_endpoint", "https://10.0.0.1/token"),
    "authorization over http": ("authorization_endpoint", "http://localhost/"),
    "authorization by script": ("authorization_endpoint", "javascript:alert(1)"),
    "no authorization": ("authorization_endpoint", None),
    "userinfo over http": ("userinfo_endpoint", "http://localhost/"),
}


@pytest.mark.parametrize("how", ENDPOINTS)
def test_f09_an_endpoint_that_cannot_be_believed_is_not_used(world, browser, how):
    name, address = ENDPOINTS[how]
    world.idp.publish(**{name: address})
    answer_ = browser.get(f"{world.path}/login")
    if answer_.status == 303:
        asked = dict(urllib.parse.parse_qsl(answer_.headers["Location"].partition("?")[2]))
        world.idp.given = tokens(world, asked)
        answer_ = back(world, browser, asked)
    assert answer_.status == 400
    assert not signed_in(browser)


def test_a_parameter_that_comes_twice_is_refused(world, browser):
    asked = begin(world, browser)
    query = urllib.parse.urlencode([("code", "a"), ("code", "b"), ("state", asked["state"])])
    refused(browser.get(f"{world.path}/callback?{query}"), 400, "has a parameter twice")


# --- signing out ------------------------------------------------------------------------------------------------------


def test_who_signs_out_is_signed_out_here_and_then_sent_to_the_provider(world, browser):
    sign_in(world, browser)
    token = field_of(browser.get("/portal"), "form_token")
    page = browser.post("/sign-out", {"form_token": token}, Origin=PUBLIC).body.decode()
    assert not signed_in(browser)
    address = re.search(r'id="leave" href="([^"]*)"', page)[1].replace("&amp;", "&")
    assert address.startswith(world.idp.server.url("/idp/end"))
    asked = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
    assert asked == {"client_id": "web app", "post_logout_redirect_uri": world.facts["post_logout_redirect_uri"]}
    assert "You are signed out" in browser.get(f"{world.path}/signed-out").body.decode()


def logout_token(world, **changes):
    claims = {"aud": "web app", "events": EVENT, "jti": "j1", "sid": "s1", "nonce": None} | changes
    header = {"typ": "logout+jwt"} | claims.pop("header", {})
    return world.idp.token(header=header, **claims)


def log_out(world, token):
    return Browser(world.installation).post(f"{world.path}/logout", {"logout_token": token})


@pytest.mark.parametrize("exp", ["there", None])
def test_a_provider_signs_a_person_out_by_itself(world, browser, exp):
    sign_in(world, browser)
    changes = {} if exp else {"exp": None}
    answer_ = log_out(world, logout_token(world, **changes))
    assert (answer_.status, answer_.headers["Cache-Control"]) == (200, "no-store")
    assert not signed_in(browser)
    sign_in(world, browser)
    refused(log_out(world, logout_token(world, **changes)), 400, "The logout token has been used before")
    assert signed_in(browser)


def test_a_provider_ends_one_session_of_several(world, browser):
    other = Browser(world.installation)
    sign_in(world, browser)
    sign_in(world, other, sid="s2")
    assert log_out(world, logout_token(world, sid="s2")).status == 200
    assert (signed_in(browser), signed_in(other)) == (True, False)


@pytest.mark.parametrize(("sid", "ends"), [("s1", True), (None, True), ("s2", False)])
def test_a_provider_ends_a_sign_in_that_waits_for_a_second_factor(world, sid, ends):
    sessions, subject = world.installation.services.storage.browser_sessions, world.idp.claims()["sub"]
    identity = WebIdentity(
        provider=world.provider(world.idp), subject=subject, name="ann", authenticated_at=world.clock(),
        account_id=ACCOUNT, issuer=world.idp.url, key_prefix=world.idp.arn_part, audience="web app", session_index="s1",
    )  # fmt: skip
    token, _ = sessions.start_pending_login("prove", identity, "/portal")
    assert log_out(world, logout_token(world, sid=sid)).status == 200
    assert (sessions.find_pending_login(token) is None) is ends


BAD_LOGOUTS = {
    "an ID token": {"events": None, "header": {"typ": "JWT"}},
    "another event": {"events": {"x": {}}},
    "events that are a list": {"events": []},
    "with a nonce": {"nonce": "n"},
    "without an id": {"jti": None},
    "for another client": {"aud": "mobile"},
    "of another issuer": {"iss": "https://evil.example"},
    "without a subject": {"sub": None},
    "unsigned": {"header": {"alg": "none"}},
    "old": {"iat": 1_000_000_000},
}


@pytest.mark.parametrize("how", BAD_LOGOUTS)
def test_a_logout_that_is_not_the_providers_ends_nothing(world, browser, how):
    sign_in(world, browser)
    assert log_out(world, logout_token(world, **BAD_LOGOUTS[how])).status == 400
    assert signed_in(browser)
    answer_ = Browser(world.installation).post(f"{world.path}/logout", {})
    assert answer_.status == 400


def test_a_logout_by_another_key_ends_nothing(world, browser):
    sign_in(world, browser)
    claims = world.idp.claims(aud="web app", events=EVENT, jti="j", sid="s1")
    forged = compact({"alg": "RS256", "kid": "k1", "typ": "logout+jwt"}, claims,
                     lambda data: signature("RS256", data, "mallory"))  # fmt: skip
    refused(log_out(world, forged), 400, "The signature of the token is invalid")
    assert signed_in(browser)


def test_a_form_that_is_too_large_is_recorded_as_that(world, browser):
    assert browser.post(f"{world.path}/logout", {"logout_token": "A" * 400_000}).status == 413
    assert (records(world)[-1]["eventName"], records(world)[-1]["errorCode"]) == (
        "OidcSignOut",
        "RequestEntityTooLarge",
    )


# --- what a session rests on ------------------------------------------------------------------------------------------


def test_a_session_ends_with_its_client_and_its_provider(world, browser):
    sign_in(world, browser)
    fedgate(world, "sign-in", world.provider(world.idp), "--client-id", "another")
    assert not signed_in(browser)
    fedgate(world, "sign-in", world.provider(world.idp), "--client-id", "web app")
    sign_in(world, browser)
    assert signed_in(browser)
    world.admin.do("DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=world.provider(world.idp))
    assert not signed_in(browser)


def test_the_secret_is_sealed_and_never_told(world, browser):
    sign_in(world, browser)
    with world.installation.store.read() as tx:
        dump = "".join(str(row) for row in tx.exec_driver_sql("SELECT * FROM sign_in_client"))
    assert SECRET not in dump
    assert SECRET not in json.dumps(records(world))
    assert ACCOUNT in json.dumps(records(world))


# --- who somebody is by now -------------------------------------------------------------------------------------------


def with_refresh(world, browser, **changes):
    asked = begin(world, browser)
    world.idp.given = tokens(world, asked, **changes) | {"refresh_token": "refresh-1"}
    assert back(world, browser, asked).status == 303


def take(world, browser):
    form = {"roleIndex": world.sales, "form_token": field_of(browser.get("/portal"), "form_token")}
    return browser.post("/portal", form, Origin=PUBLIC, Accept="application/json")


def test_the_check_of_an_issuer_tells_which_keys_are_not_used_and_why(world):
    good = list(world.issuer.keys)
    world.issuer.keys = [*good, {"kty": "oct", "kid": "secret", "k": "AAAA"}, None]
    world.issuer.publish()
    try:
        listed = fedgate(world, "check", world.issuer.url)
    finally:
        world.issuer.keys = good
        world.issuer.publish()
    assert [key["kid"] for key in listed] == [*(key["kid"] for key in good), "secret", f"key {len(good) + 2}"]
    assert "not for signatures" in listed[-2]["dropped"]
    assert listed[-1]["dropped"] == "it is no JSON object"


@pytest.mark.parametrize("now", [{"department": "warehouse"}, {"department": []}, {}], ids=["other", "none", "absent"])
def test_groups_that_were_taken_away_since_the_sign_in_give_nothing_more(world, browser, now):
    with_refresh(world, browser)
    world.idp.given = {"access_token": "access-2", "refresh_token": "refresh-2"}
    assert take(world, browser).status == 200
    assert (world.idp.told["grant_type"], world.idp.told["refresh_token"]) == ("refresh_token", "refresh-1")
    assert world.idp.told["bearer"] == "Bearer access-2"
    world.idp.userinfo = {"sub": "user-1"} | now
    answer_ = take(world, browser)
    assert (answer_.status, world.idp.told["refresh_token"]) == (403, "refresh-2")
    assert world.sales not in browser.get("/portal").body.decode()


def test_a_new_id_token_is_verified_and_of_the_same_person(world, browser):
    with_refresh(world, browser)
    good = {"aud": "web app", "preferred_username": "ann", "department": "sales"}
    world.idp.given = {"access_token": "access", "id_token": world.idp.token(**good)}
    assert take(world, browser).status == 200
    for wrong in ({"sub": "user-2"}, {"aud": "mobile"}, {"exp": 1_000_000_000}):
        world.idp.given = {"access_token": "access", "id_token": world.idp.token(**good | wrong)}
        assert take(world, browser).status == 400
    world.idp.given = {"access_token": "access", "id_token": world.idp.token(**good | {"department": "other"})}
    assert take(world, browser).status == 403


def test_whom_the_provider_knows_no_more_is_signed_out(world, browser):
    with_refresh(world, browser)
    world.idp.given = {"error": "invalid_grant"}
    answer_ = take(world, browser)
    assert answer_.status == 401
    (found,) = [one for one in records(world) if one["eventName"] == "OidcRefresh"]
    assert (found["errorCode"], found["recipientAccountId"]) == ("IDPRejectedClaim", ACCOUNT)
    assert found["userIdentity"]["sessionContext"]["person"].endswith("|user-1")
    assert found["requestID"] == answer_.headers["x-amzn-RequestId"]
    assert not signed_in(browser)


def test_while_the_provider_is_away_nobody_gets_credentials_by_old_groups(world, browser):
    with_refresh(world, browser)
    world.idp.server.answers.pop("/idp/token")
    world.idp.server.answers["/idp/token"] = lambda handler: answer(handler, b"", 500)
    refused(take(world, browser), 400, "The provider cannot be reached now.")
    assert signed_in(browser)


def test_a_refresh_token_is_sealed_in_redis(world, browser, redis_url):
    with_refresh(world, browser)
    with Redis.from_url(redis_url) as client:
        texts = [client.get(key) for key in client.keys("fedgate:web:session:*")]
    assert texts
    assert not any(b"refresh-1" in text for text in texts)
