"""E12: who was disabled, removed or taken out of a group while signed in, over a real directory."""

import itertools
import json
import os

import pytest
from redis import Redis
from support.administrator import allow
from support.directories import as_toml, free_port, running_slapd
from support.service_visitor import Visitor
from support.signed_in_fixtures import HOME, house_in, is_in, sign_in_to_directory, take, try_to_take

from broker.demo.people import BASE
from iam.store.revocation import revoke

PEOPLE = f"ou=people,{BASE}"
PASSWORD = "here-for-the-time-being"
NUMBERS = itertools.count()
EVERY = 300  # seconds: the setting's default


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    with running_slapd(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture
def house(tmp_path, redis_url, slapd):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, slapd.config())
    yield made
    made.close()


@pytest.fixture
def name(slapd):
    """Somebody in the group of security."""
    found = f"leaver{next(NUMBERS)}"
    lines = [f"dn: uid={found},{PEOPLE}", "changetype: add", "objectClass: inetOrgPerson", "objectClass: person"]
    lines += [f"uid: {found}", f"cn: {found}", f"sn: {found}", f"userPassword: {PASSWORD}", "\n"]
    slapd.modify("\n".join(lines))
    slapd.modify(group(found, "add"))
    return found


@pytest.fixture
def browser(house, name):
    made = house.browser()
    assert sign_in_to_directory(made, name, PASSWORD).status == 303
    return made


def group(name, change):
    return f"dn: cn=security,ou=groups,{BASE}\nchangetype: modify\n{change}: member\nmember: uid={name},{PEOPLE}\n"


def leave(slapd, name):
    slapd.modify(f"dn: uid={name},{PEOPLE}\nchangetype: delete\n")


def lock(slapd, name):
    change = "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z"
    slapd.modify(f"dn: uid={name},{PEOPLE}\n{change}\n")


GONE = {"deleted": (leave, "unknown user"), "locked": (lock, "account locked")}


@pytest.mark.parametrize("case", GONE)
def test_whoever_is_gone_gets_no_credentials_and_is_out_everywhere(house, slapd, name, browser, case):
    role, elsewhere = house.directory_role("r", group="security"), house.browser()
    sign_in_to_directory(elsewhere, name, PASSWORD)
    take(browser, role)
    sessions = house.installation.services.storage.browser_sessions
    signed_in = sessions.newest(1)[0]
    pending, _ = sessions.start_pending_login("prove", signed_in.identity, "/portal")
    end, reason = GONE[case]
    end(slapd, name)
    answer = try_to_take(browser, role)
    assert answer.status == 401
    assert not is_in(browser)
    assert not is_in(elsewhere)
    assert sessions.find_pending_login(pending) is None
    (found,) = house.records("DirectoryLookUp")
    assert found["additionalEventData"]["reason"].startswith(reason)
    assert (found["userIdentity"]["userName"], found["errorCode"]) == (name, "IDPRejectedClaim")
    assert found["requestID"] == answer.headers["x-amzn-RequestId"]
    assert [one["eventName"] for one in house.records()].count("AssumeRoleWithLDAPIdentity") == 1


def test_a_group_that_was_taken_away_gives_no_credentials(house, slapd, name, browser):
    role, other = house.directory_role("r", group="security"), house.directory_role("plain")
    take(browser, role)
    slapd.modify(group(name, "delete"))
    assert try_to_take(browser, role).status == 403
    take(browser, other)
    listed = json.loads(browser.get("/portal", Accept="application/json").body)["roles"]
    assert [one["role_arn"] for one in listed] == [other]


def test_a_group_that_was_given_since_counts_at_once(house, slapd, name, browser):
    role = house.directory_role("r", group="engineering")
    assert try_to_take(browser, role).status == 403
    slapd.modify(group(name, "add").replace("security", "engineering"))
    take(browser, role)


def revoke_everything(house):
    with house.installation.store.write() as tx:
        revoke(tx, "installation", "", now_ms=0, random=os.urandom)


def test_a_session_that_was_renewed_falls_with_the_next_revocation_and_not_with_the_last(house, name):
    revoke_everything(house)
    role, browser = house.directory_role("r"), house.browser()
    sign_in_to_directory(browser, name, PASSWORD)
    credentials = take(browser, role)  # reads the directory again
    assert is_in(browser)
    revoke_everything(house)
    assert not is_in(browser)
    assert house.installation.call("GetCallerIdentity", credentials).code == "InvalidClientTokenId"


def test_credentials_know_the_name_of_now(house, slapd, name, browser):
    role = house.directory_role("r")
    slapd.modify(f"dn: uid={name},{PEOPLE}\nchangetype: modrdn\nnewrdn: uid={name}-new\ndeleteoldrdn: 1\n")
    told = house.installation.call("GetCallerIdentity", take(browser, role))
    assert told.text("Arn").endswith(f":assumed-role/r/{name}-new")


def away(house, tmp_path, slapd):
    """Return another worker, which does not reach the directory."""
    (tmp_path / "fedgate.toml").write_text(
        as_toml(slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",), connect_timeout=0.4))
    )
    return house.worker()


def test_a_directory_that_is_away_gives_no_credentials_and_signs_nobody_out(house, tmp_path, slapd, browser):
    role = house.directory_role("r")
    browser.installation = away(house, tmp_path, slapd)
    answer = try_to_take(browser, role)
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "ServiceUnavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert is_in(browser)
    browser.installation = house.installation
    take(browser, role)


# --- while somebody looks at pages ------------------------------------------------------------------------------------


def test_whoever_is_gone_sees_no_page_after_a_while(house, slapd, name, browser):
    leave(slapd, name)
    house.clock.advance(seconds=EVERY - 1)
    assert is_in(browser)
    house.clock.advance(seconds=1)
    answer = browser.get("/portal")
    assert answer.status == 401
    assert answer.headers["x-amzn-RequestId"] == house.records("DirectoryLookUp")[0]["requestID"]


def test_whoever_lost_a_group_administers_nothing_after_a_while(house, slapd, name, browser):
    house.directory_role("admin", allow("*"), group="security")
    assert browser.get("/admin/sessions").status == 200
    slapd.modify(group(name, "delete"))
    house.clock.advance(seconds=EVERY)
    assert browser.get("/admin/sessions").status == 403
    assert is_in(browser)


def test_pages_go_on_while_the_directory_is_away_and_it_is_not_asked_at_every_page(house, tmp_path, slapd, browser):
    browser.installation = away(house, tmp_path, slapd)
    house.clock.advance(seconds=EVERY)
    assert [is_in(browser) for _ in range(3)] == [True] * 3
    browser.installation = house.installation
    house.clock.advance(seconds=EVERY)
    assert is_in(browser)


def test_the_directory_is_asked_at_every_page_where_the_operator_says_so(tmp_path, redis_url, slapd, name):
    house = house_in(tmp_path, redis_url, slapd.config(), FEDGATE_PAGES_RECHECK="0")
    browser = house.browser()
    sign_in_to_directory(browser, name, PASSWORD)
    assert is_in(browser)
    leave(slapd, name)
    assert not is_in(browser)
    house.close()


# --- services behind Fedgate ------------------------------------------------------------------------------------------

WIKI = f"""
[resource.wiki]
kind = "http"
hosts = ["wiki.example.com"]
account = "{HOME}"
browser = "arn:aws:iam::{HOME}:role/r"
"""


def test_whoever_is_gone_is_out_of_the_services_as_well(tmp_path, redis_url, slapd, name):
    house = house_in(tmp_path, redis_url, slapd.config(), more=WIKI)
    house.directory_role("r", allow("*"), group="security")
    visitor, page = Visitor(house), "https://wiki.example.com/"
    assert sign_in_to_directory(visitor.pages, name, PASSWORD).status == 303
    visitor.enter("wiki", page)
    leave(slapd, name)
    assert visitor.caller("wiki", page)
    house.clock.advance(seconds=EVERY)
    assert visitor.caller("wiki", page) is None
    (refused,) = house.records("DirectoryLookUp")
    assert refused["errorCode"] == "IDPRejectedClaim"
    house.close()
