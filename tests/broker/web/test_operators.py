"""Operators of the installation see every account and what belongs to none; others see what they did."""

import json
import re

import pytest
from redis import Redis
from support.administrator import allow, deny
from support.signed_in_fixtures import AWAY, HOME, house_in, sign_in, sign_in_to_directory, token

from broker.config.checks import operators
from broker.config.settings import SettingsError
from broker.demo.people import BASE
from broker.web.admin.operators import Operators
from iam.distinguished_names import normalize_dn

ALICE, BOB = "wonderland-1865", "builder-can-we-fix-it"
GROUP = f"corp|CN=platform, ou=groups,{BASE}"  # alice's; in another spelling than the directory's
USER = f"arn:aws:iam::{HOME}:user/olga"


@pytest.fixture
def opened(tmp_path, redis_url, directory):
    """Open installations whose operators are named; they are closed afterwards."""
    made = []

    def open_house(*operators):
        with Redis.from_url(redis_url) as client:
            client.flushall()
        made.append(
            house_in(tmp_path, redis_url, directory.config(), more=f"[pages]\noperators = {json.dumps(operators)}")
        )
        return made[-1]

    yield open_house
    for one in made:
        one.close()


def signed_in(house, name, password):
    browser = house.browser()
    assert sign_in_to_directory(browser, name, password).status == 303
    return browser


def seen(browser, path):
    answer = browser.get(path, Accept="application/json")
    return answer.status, json.loads(answer.body)


def sees_everything(house, browser):
    """Return whether somebody sees both accounts, everybody's browsers, and the record of a page of no account."""
    bob = signed_in(house, "bob", BOB)
    reference = re.search(r"this reference:[^<]*<code>([0-9a-f]{8})", bob.get("/portal").body.decode())[1]
    status, overview = seen(browser, "/admin")
    if status != 200:
        return False
    browsers = {one["name"] for one in seen(browser, "/admin/sessions")[1]["browsers"]}
    records = seen(browser, f"/admin/audit?reference={reference}")[1]["records"]
    return (
        {one["id"] for one in overview["accounts"]} == {HOME, AWAY}
        and "bob" in browsers
        and [one["eventName"] for one in records] == ["NoRoleOpen"]
    )


def test_a_group_of_the_directory_operates_without_any_role(opened):
    house = opened(GROUP)
    alice = signed_in(house, "alice", ALICE)
    assert sees_everything(house, alice)
    assert 'href="/admin"' in alice.get("/portal").body.decode()
    assert house.records("SearchAudit")[-1]["requestParameters"]["accounts"] == "all"


def test_whoever_is_in_no_such_group_sees_nothing(opened):
    house = opened(GROUP)
    bob = signed_in(house, "bob", BOB)
    assert bob.get("/admin").status == 403
    assert 'href="/admin"' not in bob.get("/portal").body.decode()


def test_a_group_of_the_same_name_in_another_directory_is_another_group(opened):
    house = opened(f"corp|cn=platform,ou=elsewhere,{BASE}")
    assert not sees_everything(house, signed_in(house, "alice", ALICE))


def test_an_operator_ends_the_sessions_of_anybody(opened):
    house = opened(GROUP)
    alice, bob = signed_in(house, "alice", ALICE), signed_in(house, "bob", BOB)
    person = next(one["person"] for one in seen(alice, "/admin/sessions")[1]["browsers"] if one["name"] == "bob")
    form = {"form_token": token(alice), "kind": "person", "subject": person, "sure": "1"}
    assert alice.post("/admin/sessions", form).status == 303
    assert bob.get("/sessions").status == 401


@pytest.mark.parametrize(("policies", "operates"), [
    ((allow("iam:GetAccountAuthorizationDetails"),), True),
    ((), False),
    ((allow("*"), deny("iam:GetAccountAuthorizationDetails")), False),
])  # fmt: skip
def test_an_iam_user_operates_as_far_as_the_own_policies_allow(opened, policies, operates):
    house = opened(USER)
    house.user("olga", *policies)
    browser = house.browser()
    sign_in(browser, "olga")
    assert sees_everything(house, browser) is operates


def test_a_user_who_is_not_named_sees_the_own_account_alone(opened):
    house = opened(USER)
    house.user("olaf", allow("*"))
    browser = house.browser()
    sign_in(browser, "olaf")
    assert not sees_everything(house, browser)
    status, overview = seen(browser, "/admin")
    assert (status, [one["id"] for one in overview["accounts"]]) == (200, [HOME])


def test_a_role_operates_for_those_to_whom_it_is_open(opened):
    house = opened(f"arn:aws:iam::{HOME}:role/operations")
    house.directory_role("operations", allow("iam:Get*"), group="platform")
    assert sees_everything(house, signed_in(house, "alice", ALICE))
    assert signed_in(house, "bob", BOB).get("/admin").status == 403


@pytest.mark.parametrize("wrong", [
    "platform", "corp|", "corp|platform", f"other|cn=x,{BASE}", f'corp|cn="x,{BASE}', "*",
    f"arn:aws:iam::{HOME}:saml-provider/Corp", f"arn:aws:iam::{HOME}:group/x",
])  # fmt: skip
def test_what_names_nobody_is_refused(opened, wrong):
    with pytest.raises(SettingsError, match="neither DIRECTORY"):
        opened(wrong)


@pytest.mark.parametrize("group", [rf"cn=a\=b,{BASE}", rf"cn=a\,b,{BASE}", f'cn="a,b",{BASE}', f"2.5.4.3=a=b,{BASE}"])
def test_a_group_may_have_any_distinguished_name(group):
    assert operators({"pages_operators": (f"corp|{group}",), "directory_names": ("corp",)}) == ""
    assert Operators.of([f"corp|{group}"]).groups == {("corp", normalize_dn(group))}
