"""Who must give a second factor before a role is theirs, and what a code of a program is good for."""

import pytest
from support.documents import allow
from support.signed_in_fixtures import SEED, house_in, sign_in_to_directory, try_to_take
from support.web_identity_fixtures import ACCOUNT, open_setup
from support.web_server import web_server

from iam.credentials import factors, totp

BOB, CAROL = "builder-can-we-fix-it", "ledger-balances-42"
FRESH = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def house(tmp_path, redis_url, slapd):
    made = house_in(tmp_path, redis_url, slapd.config())
    made.directory_role("Reader", allow("iam:ListUsers", **FRESH))
    made.directory_role("Fresh", allow("iam:ListUsers"), **FRESH)
    yield made
    made.close()


def assume(house, name="bob", password=BOB, role="Reader", **more):
    arn = house.admin.arn("role", role)
    return house.installation.call(
        "AssumeRoleWithLDAPIdentity", None, LDAPUsername=name, LDAPPassword=password, RoleArn=arn, **more
    )


def enrolled(house, name="bob", password=BOB):
    """Give a person an app and return the ID of it."""
    person = f"ldap-provider/corp|{assume(house, name, password).text('Subject')}"
    house.enrol(person)
    with house.installation.store.read() as tx:
        (factor,) = factors.factors_of(tx, person)
    return factor.id


def code(house):
    return totp.code_at(SEED, totp.step_at(house.clock()))


def test_who_has_a_second_factor_gives_it_to_the_sts_as_well(house):
    app = enrolled(house)
    assert assume(house).code == "AccessDenied"
    assert assume(house, SerialNumber=app).code == "AccessDenied"
    assert assume(house, "carol", CAROL).status == 200
    credentials = assume(house, SerialNumber=app, TokenCode=code(house)).credentials
    assert house.installation.call("ListUsers", credentials).status == 200  # the session remembers the second factor
    record = house.records("ListUsers")[-1]
    assert record["userIdentity"]["sessionContext"]["attributes"]["mfaAuthenticated"] == "true"


def test_a_code_opens_a_role_whose_trust_policy_asks_for_one(house):
    enrolled(house)
    assert assume(house, "carol", CAROL, role="Fresh").code == "AccessDenied"
    assert assume(house, role="Fresh", TokenCode=code(house)).status == 200


def test_a_code_of_another_app_or_of_nobody_is_refused(house):
    enrolled(house)
    refused = assume(house, SerialNumber="ABCDEFGHIJ", TokenCode=code(house))
    assert (refused.code, refused.message) == (
        "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code."
    )  # fmt: skip
    refused = assume(house, "carol", CAROL, TokenCode=code(house))
    assert (refused.code, "no authenticator app" in refused.message) == ("AccessDenied", True)


def test_five_wrong_codes_stop_the_right_one(house):
    enrolled(house)
    for _ in range(5):
        assume(house, TokenCode="000000")
    assert assume(house, TokenCode=code(house)).code == "Throttling"


def test_a_browser_signed_in_before_the_factor_was_enrolled_must_give_it(house):
    browser = house.browser()
    assert sign_in_to_directory(browser, "bob", BOB).status == 303
    enrolled(house)
    answer = try_to_take(browser, house.admin.arn("role", "Reader"))
    assert answer.headers.get("Location", "").startswith("/mfa"), answer.body


def test_the_people_of_a_demanding_issuer_take_no_role_by_a_token_alone(tmp_path, redis_url, server):
    issuer = server.url("/main").removeprefix("https://")
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}"
    web = open_setup(tmp_path, redis_url, server, FEDGATE_PAGES_SECOND_FACTOR=provider)
    assert web.provider() == provider
    call = {"RoleArn": web.role, "RoleSessionName": "run", "WebIdentityToken": web.issuer.token()}
    assert web.installation.call("AssumeRoleWithWebIdentity", None, **call).code == "AccessDenied"
    web.installation.close()
