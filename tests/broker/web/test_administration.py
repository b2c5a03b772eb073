"""Who administers which account: whoever the gate would let, with what they could take now; and nobody else."""

import json

import pytest
from redis import Redis
from support.administrator import allow, deny, statements, trust
from support.signed_in_fixtures import (
    AWAY,
    HOME,
    give_code,
    house_in,
    sign_in,
    sign_in_as_owner,
    take,
    token,
)

from iam import guardrails
from iam.guardrails import Guardrail
from iam.limits import Limits

ALICE = "wonderland-1865"
NONE, SEES, REVOKES = "nothing", "sees", "revokes"
MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}


@pytest.fixture
def house(tmp_path, redis_url, directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, directory.config())
    made.user("victim")
    yield made
    made.close()


def may(browser, account=HOME):
    """Return what somebody may do in an account: look at the page, and end what is a role's there."""
    page = browser.get("/admin/sessions")
    form = {"form_token": token(browser), "kind": "role", "subject": f"arn:aws:iam::{account}:role/target", "sure": "1"}
    ended = browser.post("/admin/sessions", form).status
    assert ended in (303, 403)
    if page.status != 200:
        assert (page.status, ended) == (403, 403)
        return NONE
    return REVOKES if ended == 303 else SEES


@pytest.fixture
def target(house):
    """A role in each account, whose sessions somebody may want to end."""
    house.admin.role("target", trust({"Service": "ec2.amazonaws.com"}))
    house.other.role("target", trust({"Service": "ec2.amazonaws.com"}))


def attach(house, role, name):
    house.admin.do("AttachRolePolicy", RoleName=role, PolicyArn=f"arn:aws:iam::aws:policy/{name}")


def test_error_pages_link_the_administration_for_those_who_may_see_it_alone(house, alice):
    pages = [alice.get("/admin", Accept="text/html"), alice.get("/nowhere", Accept="text/html")]
    assert [(page.status, b'href="/admin"' in page.body) for page in pages] == [(403, False), (404, False)]
    house.directory_role("r")
    attach(house, "r", "AdministratorAccess")
    alice.get("/portal")
    page = alice.get("/why?role=x", Accept="text/html")
    assert (page.status, b'href="/admin"' in page.body) == (404, True)


MANAGED = {
    "AdministratorAccess": REVOKES,
    "IAMFullAccess": REVOKES,
    "IAMReadOnlyAccess": SEES,
    "SecurityAudit": SEES,
    "PowerUserAccess": NONE,
    "ReadOnlyAccess": SEES,
    "AmazonS3FullAccess": NONE,
}


@pytest.mark.parametrize("name", MANAGED)
@pytest.mark.usefixtures("target")
def test_a_role_with_one_of_aws_s_policies(house, alice, name):
    house.directory_role("r")
    attach(house, "r", name)
    assert may(alice) == MANAGED[name]
    link = 'href="/admin"' in alice.get("/portal").body.decode()
    assert link is (MANAGED[name] != NONE)


SEE, REVOKE = "iam:GetAccountAuthorizationDetails", "iam:PutRolePolicy"
ROLES = f"arn:aws:iam::{HOME}:role/*"
OWN = {
    "no policy": ([], NONE),
    "both": ([allow([SEE, REVOKE])], REVOKES),
    "to see alone": ([allow(SEE)], SEES),
    "to revoke alone": ([allow(REVOKE)], NONE),
    "to revoke on the roles": ([allow(SEE), allow(REVOKE, ROLES)], REVOKES),
    "to revoke on one role": ([allow(SEE), allow(REVOKE, f"arn:aws:iam::{HOME}:role/one")], SEES),
    "all but a deny": ([allow("*"), deny(SEE)], NONE),
    "all but to revoke": ([allow("*"), deny(REVOKE)], SEES),
    "with MFA": ([allow("*", Condition=MFA)], NONE),
    "from here": ([allow("*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}})], REVOKES),
    "from elsewhere": ([allow("*", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})], NONE),
    "for the person": ([allow("*", Condition={"StringEquals": {"ldap:username": "alice"}})], REVOKES),
    "for another person": ([allow("*", Condition={"StringEquals": {"ldap:username": "bob"}})], NONE),
    "not for this person": ([allow("*"), deny(Condition={"StringEquals": {"ldap:username": "alice"}})], NONE),
    "not for these session names": ([allow("*"), deny(Condition={"StringLike": {"aws:userid": "*:alice"}})], NONE),
    "not for the directory": ([allow("*"), deny(Condition={"StringLike": {"aws:FederatedProvider": "*corp"}})], NONE),
    "not at this time": ([allow("*"), deny(Condition={"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}})],
                         NONE),
}  # fmt: skip


@pytest.mark.parametrize("case", OWN)
@pytest.mark.usefixtures("target")
def test_the_page_lets_somebody_do_what_the_credentials_may(house, alice, case):
    policies, expected = OWN[case]
    credentials = take(alice, house.directory_role("r", *policies))
    assert may(alice) == expected
    sees = house.installation.call("GetAccountAuthorizationDetails", credentials).status == 200
    given = {"RoleName": "target", "PolicyName": "older", "PolicyDocument": deny()}
    revokes = house.installation.call("PutRolePolicy", credentials, **given).status == 200
    assert (REVOKES if sees and revokes else SEES if sees else NONE) == expected


@pytest.mark.usefixtures("target")
def test_only_roles_that_are_open_count(house, alice):
    house.directory_role("closed", allow("*"), group="security")
    house.directory_role("later", allow("*"), Condition=MFA)
    assert may(alice) == NONE


@pytest.mark.usefixtures("target")
def test_a_role_that_asks_for_a_second_factor_counts_once_it_is_given(house, alice):
    house.directory_role("later", allow("*"), Condition=MFA)
    house.directory_role("plain", allow([SEE]))
    assert may(alice) == SEES
    person = house.records("DirectorySignIn")[0]["userIdentity"]["principalId"]
    house.enrol(f"ldap-provider/corp|{person}")
    assert give_code(house, alice, "/mfa?to=/admin/sessions").headers["Location"] == "/admin/sessions"
    assert may(alice) == REVOKES


@pytest.mark.usefixtures("target")
def test_a_boundary_counts(house, alice):
    house.directory_role("r", allow("*"))
    house.admin.do("PutRolePermissionsBoundary", RoleName="r",
                   PermissionsBoundary="arn:aws:iam::aws:policy/IAMReadOnlyAccess")  # fmt: skip
    assert may(alice) == SEES


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize(("ceiling", "expected"), [(deny(SEE), NONE), (deny(REVOKE), SEES), (deny("s3:*"), REVOKES)])
def test_a_guardrail_counts_for_roles_and_for_the_owner(house, alice, ceiling, expected):
    house.directory_role("r", allow("*"))
    house.owner()
    house.enrol(f"iam|{HOME}")
    owner = house.browser()
    sign_in_as_owner(house, owner)
    assert [may(one) for one in (alice, owner)] == [REVOKES, REVOKES]
    with house.installation.store.write() as tx:
        made = Guardrail(HOME, "ceiling", statements(allow("*"), ceiling), int(house.clock().timestamp() * 1000))
        guardrails.put(tx, made, Limits())
    assert [may(one) for one in (alice, owner)] == [expected, expected]


@pytest.mark.usefixtures("target")
def test_one_account_s_administrator_is_nobody_in_another(house, alice):
    house.directory_role("r", allow("*"))
    assert may(alice, AWAY) == SEES  # the page, of HOME; nothing of the other account ends
    house.directory_role("o", allow("*"), admin=house.other)
    assert may(alice, AWAY) == REVOKES


@pytest.mark.usefixtures("target")
def test_a_user_administers_by_the_own_policies_and_by_roles(house):
    house.user("Ann", allow(SEE))
    browser = house.browser()
    sign_in(browser, "Ann")
    assert may(browser) == SEES
    house.admin.role("r", trust({"AWS": f"arn:aws:iam::{HOME}:user/Ann"}), allow([SEE, REVOKE]))
    assert may(browser) == REVOKES
    house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="no", PolicyDocument=deny("sts:AssumeRole"))
    assert may(browser) == SEES


@pytest.mark.usefixtures("target")
def test_a_user_s_conditions_on_the_second_factor_count(house):
    """As AWS's documentation makes users give one: deny everything without it."""
    without = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}
    user_id = house.user("Ann", statements(allow("*"), deny(Condition=without)))
    house.enrol(f"iam|{user_id}")
    house.user("Bob", statements(allow("*"), deny(Condition=without)))
    browser, bob = house.browser(), house.browser()
    sign_in(browser, "Ann")
    give_code(house, browser)
    sign_in(bob, "Bob")
    assert [may(one) for one in (browser, bob)] == [REVOKES, NONE]


@pytest.mark.usefixtures("target")
def test_the_owner_administers_the_own_account(house):
    house.owner()
    house.enrol(f"iam|{HOME}")
    browser = house.browser()
    sign_in_as_owner(house, browser)
    assert may(browser) == REVOKES
    assert may(browser, AWAY) == SEES


@pytest.mark.usefixtures("target")
def test_leave_that_is_taken_away_is_gone_at_the_next_request(house, alice):
    house.directory_role("r", allow("*"))
    assert may(alice) == REVOKES
    house.admin.do("DeleteRolePolicy", RoleName="r", PolicyName="p0")
    assert may(alice) == NONE


def test_nobody_s_page_says_that_there_is_nothing_to_see(alice):
    answer = alice.get("/admin/sessions")
    text = "Access denied. None of your roles lets you administer an account."
    assert (answer.status, text in answer.body.decode()) == (403, True)
    said = json.loads(alice.get("/admin/sessions", Accept="application/json").body)
    assert (said["code"], said["message"]) == ("AccessDenied", text)
