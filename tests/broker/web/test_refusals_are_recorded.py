"""No answer that refuses is without its audit record, and whoever signed in once is no stranger in it."""

import json
import os
import re

import pytest
from botocore.credentials import Credentials
from redis import Redis
from support.administrator import allow, deny
from support.saml_fixtures import Browser
from support.signed_in_fixtures import (
    HOME,
    BrowserSetup,
    house_in,
    is_in,
    sign_in,
    sign_in_to_directory,
    take,
    token,
)

from broker.audit.strangers import is_refusal_of_stranger
from iam.store.revocation import revoke

PASSWORD = "wonderland-1865"
SESSION = "fedgate-session"
PARTS = {"account_id": HOME, "name": "nobody", "provider_id": "unknown", "filename": "none.css", "digest": "0"}
BESIDES = [("GET", "/nothing-here"), ("GET", "//portal"), ("PUT", "/portal"), ("GET", "/a/b?c=d")]
OF_PROGRAMS = [("POST", "/"), ("POST", "/oauth2/token")]  # they take no cookie as a proof
EVERY_KIND = ["stranger", "signed in", "revoked", "ended"]


@pytest.fixture
def house(tmp_path, redis_url, directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, directory.config(), more="[audit]\nstrangers_per_minute = 100000")
    yield made
    made.close()


def visitor(house: BrowserSetup, kind: str) -> Browser:
    browser = house.browser()
    if kind == "stranger":
        return browser
    assert sign_in_to_directory(browser, "alice", PASSWORD).status == 303
    if kind == "revoked":
        with house.installation.store.write() as tx:
            revoke(tx, "person", person_of(house), now_ms=0, random=os.urandom)
    elif kind == "ended":
        cookie = browser.cookies[SESSION]
        browser.post("/sign-out", {"form_token": token(browser)})
        browser.cookies[SESSION] = cookie
    return browser


def person_of(house: BrowserSetup) -> str:
    return f"ldap-provider/corp|{house.records('DirectorySignIn')[-1]['userIdentity']['principalId']}"


def requests_of(house: BrowserSetup) -> list[tuple[str, str]]:
    rules = house.installation.application._pages.url_map.iter_rules()
    # Health checks refuse nobody.
    rules = [one for one in rules if one.rule not in ("/readyz", "/healthz")]
    paths = {re.sub(r"<(?:\w+:)?(\w+)>", lambda part: PARTS.get(part[1], "x"), one.rule) for one in rules}
    return [(method, path) for path in sorted(paths) for method in ("GET", "POST", "DELETE")] + BESIDES


def read_new(house: BrowserSetup, offset: int) -> tuple[list[dict], int]:
    data = (house.installation.settings.audit_dir / "001.jsonl").read_bytes()
    return [json.loads(line) for line in data[offset:].splitlines()], len(data)


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_answer_that_refuses_leaves_one_record(house, kind, accept):
    browser = visitor(house, kind)
    cookies, offset = dict(browser.cookies), read_new(house, 0)[1]
    refused = 0
    for method, path in requests_of(house):
        answer = browser._send(method, path, {"Accept": accept, "Content-Type": "text/plain"}, b"x=y")
        browser.cookies = dict(cookies)
        records, offset = read_new(house, offset)
        of_refusals = [one for one in records if "errorCode" in one]
        asked_to_sign_in = (kind, method, answer.status) == ("stranger", "GET", 401)
        expected = answer.status >= 400 and not asked_to_sign_in
        assert len(of_refusals) == expected, (method, path, answer.status, of_refusals)
        if of_refusals:
            refused += 1
            check(answer, of_refusals[0], kind, (method, path))
    assert refused > 50


def check(answer, record, kind, what):
    """Check that the record is found by the reference of the answer, and names who sent the request."""
    request_id = answer.headers.get("x-amzn-RequestId", "")
    told = re.search(rb"[Rr]eference:? (?:<[^>]*>)*([0-9a-f]{8})", answer.body)
    assert record["requestID"] in (request_id, record["requestID"] if not request_id else None), what
    assert told is None or record["requestID"].startswith(told[1].decode()), what
    assert is_refusal_of_stranger(record) == (kind == "stranger" or what in OF_PROGRAMS), (what, record)


def test_a_form_without_its_token_is_recorded_as_that_of_whoever_is_signed_in(house):
    browser = visitor(house, "signed in")
    for path in ("/login", f"/signin/{HOME}", "/sessions/all", "/portal", "/sign-out", "/mfa"):
        assert browser.post(path, {"form_token": "x"}).status in (400, 403)
        who = house.records()[-1]["userIdentity"]
        assert (who["userName"], who["sessionContext"]["person"]) == ("alice", person_of(house)), path


def test_a_host_that_is_not_ours_is_refused_and_recorded(house):
    before = len(house.records("PageRequest"))
    assert house.installation.request("GET", "/portal", {"Host": "evil.example"}).status == 421
    assert [one["errorMessage"] for one in house.records("PageRequest")[before:]] == ["421 MISDIRECTED REQUEST"]


def test_an_ended_session_admits_nobody_and_is_remembered_without_its_refresh_token(house, redis_url):
    browser = visitor(house, "ended")
    assert not is_in(browser)
    assert house.records()[-1]["userIdentity"]["sessionContext"]["person"] == person_of(house)
    with Redis.from_url(redis_url, decode_responses=True) as client:
        (kept,) = client.keys("fedgate:web:session:*:ended")
        assert client.pttl(kept) > 0
        assert "alice" not in client.get(kept)
        client.rename(kept, kept.removesuffix(":ended"))
    assert not is_in(browser)


@pytest.mark.parametrize(("ended", "code"), [("revoked", "InvalidClientTokenId"), ("expired", "ExpiredToken")])
def test_credentials_that_are_over_are_recorded_as_those_of_the_person(house, ended, code):
    browser = visitor(house, "signed in")
    got = take(browser, house.directory_role("r", allow("iam:ListUsers")))
    if ended == "revoked":
        with house.installation.store.write() as tx:
            revoke(tx, "person", person_of(house), now_ms=0, random=os.urandom)
    else:
        house.clock.advance(hours=13)
    assert house.installation.call("ListUsers", got).code == code
    record = house.records()[-1]
    who = record["userIdentity"]
    assert (who["type"], who["accessKeyId"], record["recipientAccountId"]) == ("AssumedRole", got.access_key, HOME)
    assert who["sessionContext"]["person"] == person_of(house)
    assert not is_refusal_of_stranger(record)
    forged = Credentials(got.access_key, "x" * 40, got.token)
    assert house.installation.call("ListUsers", forged).code == code
    assert is_refusal_of_stranger(house.records()[-1])


@pytest.mark.parametrize("operation", ["GetSessionToken", "GetFederationToken"])
def test_a_user_s_session_that_is_over_is_recorded_as_the_user_s(house, operation):
    house.user("ann", allow("sts:GetFederationToken"))
    named = {"Name": "guest"} if operation == "GetFederationToken" else {}
    got = house.installation.call(operation, house.keys["ann"], **named).credentials
    house.clock.advance(hours=37)
    assert house.installation.call("GetCallerIdentity", got).code == "ExpiredToken"
    who = house.records()[-1]["userIdentity"]
    assert (who["type"] in ("IAMUser", "FederatedUser"), who["principalId"]) == (True, house.user_id("ann"))


def test_a_session_of_root_that_is_over_is_recorded_as_root_s(house):
    got = house.installation.call("GetSessionToken", house.admin.root).credentials
    house.clock.advance(hours=2)
    assert house.installation.call("GetCallerIdentity", got).code == "ExpiredToken"
    assert (house.records()[-1]["userIdentity"]["type"], house.records()[-1]["recipientAccountId"]) == ("Root", HOME)


def test_an_ended_session_of_a_user_is_recorded_in_the_account_of_the_user(house):
    house.user("ann", deny("iam:ChangePassword"))
    browser = house.browser()
    assert sign_in(browser, "ann").status == 303
    cookie = browser.cookies[SESSION]
    browser.post("/sign-out", {"form_token": token(browser)})
    browser.cookies[SESSION] = cookie
    assert browser.get("/portal").status == 401
    record = house.records("PageRequest")[-1]
    assert (record["recipientAccountId"], record["userIdentity"]["userName"]) == (HOME, "ann")
