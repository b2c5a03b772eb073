"""/why and /api/v1/explain: the reasons are the gate's own, and what somebody may not see is not there."""

import base64
import json
import re
import urllib.parse
import zlib

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from lxml import etree
from redis import Redis
from support.administrator import Administrator, allow, deny, deny_trust, statements, trust
from support.policies import AWAY as OTHER
from support.policies import HOME as THEIRS
from support.policy_strategies import LAW, policies
from support.saml_fixtures import Browser, open_setup
from support.saml_idp import encoded, signed
from support.signed_in_fixtures import HOME, house_in, is_in, sign_in, sign_in_to_directory, try_to_take

from broker.cli import main
from iam.policy.document import PolicyKind
from iam.principal import principal_from_arn

ALICE = "wonderland-1865"
NOBODYS = "No role with this name trusts your identity provider."
SAML = f"/saml/{HOME}/Corp"
PUBLIC = "http://127.0.0.1:8080"


@pytest.fixture
def house(tmp_path, redis_url, directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, directory.config())
    yield made
    made.close()


def explained(browser, role, status=200):
    answer = browser.get(f"/api/v1/explain?{urllib.parse.urlencode({'role': role})}")
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    return json.loads(answer.body)


def page(browser, role):
    answer = browser.get(f"/why?{urllib.parse.urlencode({'role': role})}")
    assert answer.status == 200, answer.body.decode()
    return answer.body.decode().replace("&#39;", "'")


# --- the gate's own reasons -------------------------------------------------------------------------------------------


def saml_person(world, *roles):
    """Sign somebody in through the identity provider, who vouches for these roles."""
    browser = Browser(world.installation)
    sent = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.get(f"{SAML}/login").headers["Location"]).query)
    asked = etree.fromstring(zlib.decompress(base64.b64decode(sent["SAMLRequest"][0]), -15)).get("ID")
    acs = f"{PUBLIC}{SAML}/acs"
    response = world.response(
        in_response_to=asked, recipient=acs, destination=acs, audiences=((f"{PUBLIC}{SAML}/metadata",),),
        more={"Role": tuple(f"{role},{world.provider}" for role in roles)},
    )  # fmt: skip
    answer = browser.post(
        f"{SAML}/acs", {"SAMLResponse": encoded(signed(response)), "RelayState": sent["RelayState"][0]}
    )
    assert answer.status == 303, answer.body.decode()
    return browser


@pytest.fixture(scope="module")
def people(tmp_path_factory, redis_url):
    """A world with a role, and two who may want it: vouched for by the provider, and a user who has leave for it."""
    world = open_setup(tmp_path_factory.mktemp("world"), redis_url)
    Administrator.of_a_new_account(world.installation, OTHER)
    world.admin.role("r")
    world.admin.user("ann", allow("sts:AssumeRole"))
    world.admin.do("CreateLoginProfile", UserName="ann", Password="Battery, staple & horse 4")
    target = world.admin.role("target")
    ann = Browser(world.installation)
    sign_in(ann, "ann", "Battery, staple & horse 4")
    yield world, target, (saml_person(world, target), ann)
    world.installation.close()


@settings(LAW, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policies(PolicyKind.TRUST))
def test_whatever_the_trust_policy_a_role_is_said_to_be_open_to_whom_it_is_given(people, policy):
    world, target, browsers = people
    text = policy.text.replace(THEIRS, HOME).replace("saml-provider/idp", "saml-provider/Corp")
    stored = world.installation.call("UpdateAssumeRolePolicy", world.admin.root, RoleName="target", PolicyDocument=text)
    if stored.status != 200:
        return  # not every policy is one that may be stored
    for browser in browsers:
        answer = browser.get(f"/api/v1/explain?{urllib.parse.urlencode({'role': target})}")
        said = answer.status == 200 and json.loads(answer.body)["allowed"]
        assert said is (try_to_take(browser, target).status == 200), text


def test_a_role_that_a_group_opens_tells_which(house, alice):
    closed, opened = (
        house.directory_role("closed", group="security"),
        house.directory_role("opened", group="engineering"),
    )
    said = explained(alice, closed)
    assert (said["allowed"], said["verdict"]) == (False, "not trusted")
    (question,) = said["questions"]
    (miss,) = question["layers"][0]["statements"][0]["misses"]
    assert (miss["key"], miss["wanted"], miss["actual"]) == (
        "ldap:group-names",
        ["security"],
        ["engineering", "platform"],
    )
    text = page(alice, closed)
    for part in ("Why not closed?", "security", "engineering", "platform", "not met:", "Who can change this",
                 "or of your groups in the directory"):  # fmt: skip
        assert part in text, part
    assert explained(alice, opened)["verdict"] == "open"
    assert "You can assume this role." in page(alice, opened)
    assert "Who can change this" not in page(alice, opened)


def test_a_statement_that_denies_is_told(house, alice):
    me = {"Federated": house.admin.arn("ldap-provider", "corp")}
    action = "sts:AssumeRoleWithLDAPIdentity"
    contractors = {"ForAnyValue:StringEquals": {"ldap:group-names": "engineering"}}
    denied = house.admin.role("denied", statements(trust(me, [action]), deny_trust(me, action, Condition=contractors)))
    said = explained(alice, denied)
    assert (said["allowed"], said["verdict"]) == (False, "denied by a statement")
    assert "A policy statement denies access. It is shown below." in page(alice, denied)
    assert try_to_take(alice, denied).status == 403


def test_a_statement_has_one_number_wherever_it_is_told(house, alice):
    """The second statement of a policy is 2: on the page, in its JSON, in the log, decoded, and by the command."""
    me, action = {"Federated": house.admin.arn("ldap-provider", "corp")}, "sts:AssumeRoleWithLDAPIdentity"
    group = {"ForAnyValue:StringEquals": {"ldap:group-names": "engineering"}}
    denied = house.admin.role("denied", statements(trust(me, [action]), deny_trust(me, action, Condition=group)))
    assert "statement 2" in page(alice, denied)
    listed = {
        one["effect"]: one["statement"] for one in explained(alice, denied)["questions"][0]["layers"][0]["statements"]
    }
    assert listed == {"Allow": 1, "Deny": 2}
    assert try_to_take(alice, denied).status == 403
    assert house.records()[-1]["additionalEventData"]["decisions"][-1]["statements"] == [f"{denied}#2"]
    arguments = ["explain", "--principal", me["Federated"], "--action", action, "--resource", denied,
                 "--context", "ldap:group-names=engineering"]  # fmt: skip
    said = CliRunner().invoke(main, arguments, env=house.installation.environ).output
    assert f"Deny {denied}, statement 2" in said
    closed = house.directory_role("closed", group="security")
    assert try_to_take(alice, closed).status == 403
    assert house.records()[-1]["additionalEventData"]["missing"][0]["nearest"]["statement"] == 1
    assert explained(alice, closed)["questions"][0]["needed"][0]["nearest"]["statement"] == 1


def test_a_condition_on_whether_a_key_is_there_is_told_in_words(house, alice):
    absent = house.directory_role("absent", Condition={"Null": {"aws:SourceIp": "true"}})
    tagged = house.directory_role("tagged", Condition={"Null": {"aws:RequestTag/team": "false"}})
    told = re.sub(r"\s+", " ", page(alice, absent))
    assert "<strong><code>aws:SourceIp</code></strong>" in told
    assert "<dt>required:</dt><dd>no value</dd> <dt>you have:</dt><dd><code>" in told
    assert "<dt>required:</dt><dd>any value</dd> <dt>you have:</dt><dd>nothing</dd>" in re.sub(
        r"\s+", " ", page(alice, tagged)
    )


@pytest.mark.parametrize(
    ("provider", "kind"),
    [("ldap-provider/corp", "DirectoryUser"), ("saml-provider/Corp", "SAMLUser"),
     ("oidc-provider/id", "WebIdentityUser"), ("user/ann", "IAMUser")],
)  # fmt: skip
def test_a_caller_is_of_the_type_that_the_log_has(provider, kind):
    assert principal_from_arn(f"arn:aws:iam::{HOME}:{provider}").identity_type == kind


def test_somebody_of_a_directory_is_no_web_identity(house, alice):
    question = explained(alice, house.directory_role("r"))["questions"][0]
    assert (
        question["principal"]["type"] == house.records("DirectorySignIn")[-1]["userIdentity"]["type"] == "DirectoryUser"
    )


def test_a_second_factor_that_is_missing_is_told(house, alice):
    role = house.directory_role("mfa", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    said = explained(alice, role)
    assert (said["allowed"], said["verdict"]) == (False, "after a second factor")
    assert "You can assume this role with a second factor." in page(alice, role)
    assert try_to_take(alice, role).headers["Location"].startswith("/mfa?")


def test_what_a_role_asks_for_is_told(house, alice):
    me = {"Federated": house.admin.arn("ldap-provider", "corp")}
    actions = ["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"]
    role = house.admin.role("ticket", trust(me, actions, Condition={"StringLike": {"aws:RequestTag/ticket": "*"}}))
    assert explained(alice, role)["verdict"] == "after what it asks for is told"
    assert "after you enter the information that it requires" in page(alice, role)


def test_keys_that_nobody_knows_fit_nothing(house, alice):
    role = house.directory_role("odd", Condition={"StringEquals": {"corp:colour": "blue"}})
    assert explained(alice, role)["verdict"] == "not trusted"
    assert "corp:colour" in page(alice, role)
    assert "nothing" in page(alice, role)


def test_what_a_policy_says_is_escaped(house, alice):
    role = house.directory_role("odd", Condition={"StringEquals": {"ldap:username": "<script>alert(1)</script>"}})
    assert "<script>alert" not in page(alice, role)
    assert "&lt;script&gt;alert" in page(alice, role)


@pytest.mark.parametrize(
    ("own", "verdict", "text"),
    [
        (None, "the own policies do not allow it", "but your own policies do not allow access"),
        (allow("sts:AssumeRole", f"arn:aws:iam::{HOME}:role/other"), "the own policies do not allow it", "role/other"),
        (deny("sts:AssumeRole"), "denied by a statement", "A policy statement denies access."),
        (allow("sts:AssumeRole"), "open", "You can assume this role."),
    ],
)
def test_a_user_hears_which_of_the_two_sides_is_missing(house, own, verdict, text):
    house.user("Ann", *([own] if own else []))
    role = house.admin.role("account")
    browser = house.browser()
    sign_in(browser, "Ann")
    assert explained(browser, role)["verdict"] == verdict
    found = page(browser, role)
    assert text in found
    assert "groups in the directory" not in found


def test_a_ceiling_of_the_account_is_told(house):
    house.user("Ann", allow("sts:AssumeRole"))
    house.admin.do(
        "PutUserPermissionsBoundary", UserName="Ann", PermissionsBoundary="arn:aws:iam::aws:policy/ReadOnlyAccess"
    )
    role = house.admin.role("account")
    browser = house.browser()
    sign_in(browser, "Ann")
    said = explained(browser, role)
    assert (said["verdict"], said["questions"][0]["layer"]) == (
        "the own policies do not allow it",
        "permissions boundary",
    )


# --- what may be seen -------------------------------------------------------------------------------------------------


def unseen(house):
    """Roles that alice may not see: of nobody's, of another provider, of the account alone, of another account."""
    elsewhere = trust({"Federated": house.admin.arn("ldap-provider", "elsewhere")}, ["sts:AssumeRoleWithLDAPIdentity"])
    return [
        f"arn:aws:iam::{HOME}:role/nobody", "", "x", "arn:aws:iam::aws:role/x", "%00", "a" * 3000,
        house.admin.role("elsewhere", elsewhere), house.admin.role("account"), house.other.role("theirs"),
    ]  # fmt: skip


def test_roles_that_somebody_may_not_see_and_roles_that_are_not_there_are_one(house, alice):
    for arn in unseen(house):
        if not arn:
            assert "Name a role by its ARN" in explained(alice, arn, 400)["message"]
            continue
        answer = alice.get(f"/why?{urllib.parse.urlencode({'role': arn})}")
        assert (answer.status, NOBODYS in answer.body.decode()) == (404, True), arn
        assert explained(alice, arn, 404)["message"] == NOBODYS
    assert house.records("ExplainRole") == []


def test_where_other_roles_are_not_shown_nothing_is_told_of_them(tmp_path, redis_url, directory):
    house = house_in(tmp_path, redis_url, directory.config(), FEDGATE_PAGES_OTHER_ROLES="false")
    closed, opened = house.directory_role("closed", group="security"), house.directory_role("opened")
    browser = house.browser()
    sign_in_to_directory(browser, "alice", ALICE)
    assert explained(browser, closed, 404)["message"] == NOBODYS
    assert explained(browser, opened)["allowed"] is True
    assert "There are no other roles to show." in browser.get("/why").body.decode()
    assert "closed" not in browser.get("/portal").body.decode()
    house.close()


def test_other_roles_are_listed_by_name(house, alice):
    house.directory_role("closed", group="security")
    house.admin.do("UpdateRole", RoleName="closed", Description="for <few>")
    house.directory_role("opened")
    text = alice.get("/why").body.decode()
    assert f"/why?role=arn%3Aaws%3Aiam%3A%3A{HOME}%3Arole%2Fclosed" in text
    assert "opened" not in text
    assert "for &lt;few&gt;" in text


def test_the_reference_on_the_page_finds_the_record(house, alice):
    role = house.directory_role("closed", group="security")
    text = page(alice, role)
    (found,) = house.records("ExplainRole")
    assert f">{found['requestID'][:8]}</code>" in text
    assert (found["requestParameters"], found["recipientAccountId"]) == ({"roleArn": role}, HOME)
    assert found["userIdentity"]["userName"] == "alice"


def test_whoever_is_not_signed_in_is_told_so_as_json(house):
    role = house.directory_role("closed", group="security")
    said = explained(house.browser(), role, 401)
    assert said["code"] == "NotSignedIn"


# --- people for whom a SAML provider vouches --------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path, redis_url):
    made = open_setup(tmp_path, redis_url)
    yield made
    made.installation.close()


def test_roles_that_the_assertion_does_not_name_are_not_there(world):
    other = world.trusts("other")
    browser = saml_person(world, world.role)
    assert explained(browser, other, 404)["message"] == NOBODYS


def test_a_role_of_another_account_that_an_assertion_names_is_never_open_and_disturbs_nothing(world):
    """A provider vouches in its own account alone; the pages of its people go on."""
    other = Administrator.of_a_new_account(world.installation, OTHER)
    theirs = other.role("theirs", world.trusting())
    mine = world.trusts("mine")
    browser = saml_person(world, theirs, mine)
    assert is_in(browser)
    said = explained(browser, theirs)
    assert (said["allowed"], said["verdict"], said["questions"]) == (False, "the provider did not name it", [])
    assert "Your identity provider did not include this role" in page(browser, theirs)
    assert try_to_take(browser, theirs).status == 403
    assert try_to_take(browser, mine).status == 200
