"""The page of roles, and the credentials of the one that is chosen."""

import contextlib
import html
import json
import re
from datetime import timedelta

import pytest
from botocore.credentials import Credentials
from sqlalchemy import func, select
from support.administrator import allow
from support.directories import as_toml
from support.saml_fixtures import Browser, open_setup

from broker.demo.people import BASE
from broker.doors.credential_formats import FORMATS
from iam.policy import managed
from iam.store.schema import role_mark

STAFF, ADMINS = f"cn=staff,ou=groups,{BASE}", f"cn=security,ou=groups,{BASE}"
PASSWORDS = {"alice": "wonderland-1865", "bob": "builder-can-we-fix-it"}


@contextlib.contextmanager
def world_of(folder, redis_url, slapd, **settings):
    config = folder / "fedgate.toml"
    config.write_text(as_toml(slapd.config(nested_groups=True)))
    made = open_setup(folder, redis_url, FEDGATE_CONFIG=str(config), **settings)
    try:
        yield made
    finally:
        made.installation.close()


@pytest.fixture
def world(tmp_path, redis_url, slapd):
    with world_of(tmp_path, redis_url, slapd) as made:
        yield made


@pytest.fixture
def browser(world):
    """A browser in which alice of the directory is signed in."""
    return signed_in(world, "alice")


def signed_in(world, name, mfa_at=None):
    services = world.installation.services
    identity = services.sign_ins.ldap.providers["corp"].authenticate(name, PASSWORDS[name])
    token, _ = services.pages.site.sessions.open(identity, mfa_at=mfa_at)
    made = Browser(world.installation)
    made.cookies["fedgate-session"] = token
    return made


def trusting(group=STAFF, account="111122223333", **conditions):
    wanted = {"ForAnyValue:StringEquals": {"ldap:groups": [group]}} | conditions
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{account}:ldap-provider/corp"},
        "Action": ["sts:AssumeRoleWithLDAPIdentity", *(["sts:TagSession"] if "RequestTag" in str(conditions) else [])],
        "Condition": wanted,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def names(page):
    """Return the names of the roles of a page, in their order."""
    return re.findall(
        r'<label for="[^"]+">([^<]+?) ?(?:<|</)',
        page.body.decode().partition('id="take"')[2].partition('class="take"')[0],
    )


def chosen(page):
    """Return the ARN of the role that a page has chosen beforehand, or None."""
    found = re.search(r'name="roleIndex" value="([^"]+)" id="[^"]+" required checked', page.body.decode())
    return found and found[1]


def role_of(world, name):
    return world.admin.arn("role", name)


def token(page):
    return re.search(r'name="form_token" value="([^"]+)"', page.body.decode())[1]


def take(browser, role, **more):
    form_token = token(browser.get("/portal"))
    return browser.post("/portal", {"form_token": form_token, "roleIndex": role, **more})


def credentials_of(page):
    text = html.unescape(page.body.decode())
    found = dict(re.findall(r"export (AWS_\w+)=(\S+)", text))
    return Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"], found["AWS_SESSION_TOKEN"])


def code(answer):
    return answer.status, re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.body.decode())))


# --- the list ---------------------------------------------------------------------------------------------------------


def test_the_roles_of_all_accounts_that_trust_the_person_are_there_and_no_others(world, browser):
    world.admin.role("reader", trusting())
    world.admin.role("closed", trusting(ADMINS))
    other = type(world.admin).of_a_new_account(world.installation, "444455556666")
    other.role("abroad", trusting(account="444455556666"))
    page = browser.get("/portal")
    assert sorted(names(page)) == ["abroad", "reader"]
    assert "1 other role: why not?" in page.body.decode()


def test_nobody_is_told_of_other_roles_where_the_operator_does_not_want_it(tmp_path, redis_url, slapd):
    with world_of(tmp_path, redis_url, slapd, FEDGATE_PAGES_OTHER_ROLES="false") as quiet:
        quiet.admin.role("closed", trusting(ADMINS))
        assert "why not" not in signed_in(quiet, "alice").get("/portal").body.decode()


def test_whom_no_role_trusts_reads_their_groups_and_a_reference(world, browser):
    status, text = code(browser.get("/portal"))
    assert status == 200
    assert "You are signed in, but no role trusts you yet." in text
    assert "Your groups: engineering, platform, staff" in text
    reference = re.search(r"Give them this reference: ([0-9a-f]{8})", text)[1]
    records = [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]
    assert [one["eventName"] for one in records if one["requestID"].startswith(reference)] == ["NoRoleOpen"]


def test_a_search_finds_by_name_account_and_description(world, browser):
    world.admin.role("reader", trusting(), Description="Looks at invoices")
    world.admin.role("writer", trusting())
    assert names(browser.get("/portal?q=INVOICES")) == ["reader"]
    assert names(browser.get("/portal?q=111122223333+wri")) == ["writer"]
    page = browser.get("/portal?q=%3Cscript%3E")
    assert (names(page), "No matching roles." in page.body.decode(), b"<script>" in page.body) == ([], True, False)


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=99999999", "page=%F0%9F%98%80", "q=" + "x" * 5000]
)
def test_odd_pages_and_searches_are_no_error(world, browser, query):
    world.admin.role("reader", trusting())
    assert browser.get(f"/portal?{query}").status == 200


def test_two_hundred_roles_stand_on_a_page(world, browser):
    for number in range(203):
        world.admin.role(f"role-{number:03}", trusting())
    first, second = browser.get("/portal"), browser.get("/portal?page=2")
    assert (len(names(first)), names(second)) == (200, ["role-200", "role-201", "role-202"])
    assert "Page 2 of 2" in second.body.decode()
    assert names(browser.get("/portal?q=role-20")) == ["role-200", "role-201", "role-202"]


def test_pinned_roles_stand_first_then_those_taken_last(world, browser):
    for name in ("a", "b", "c"):
        world.admin.role(name, trusting())
    arn = world.admin.arn("role", "c")
    form_token = token(browser.get("/portal"))
    assert browser.post("/portal/pin", {"form_token": form_token, "role": arn}).status == 303
    take(browser, world.admin.arn("role", "b"))
    page = browser.get("/portal")
    assert names(page) == ["c", "b", "a"]
    assert chosen(page) == world.admin.arn("role", "b")
    browser.post("/portal/unpin", {"form_token": form_token, "role": arn})
    assert names(browser.get("/portal"))[0] == "b"
    assert names(signed_in(world, "bob").get("/portal"))[0] == "a"


def test_nothing_is_chosen_beforehand_but_the_role_that_was_taken_last(world, browser):
    for name in ("administrator", "reader"):
        world.admin.role(name, trusting())
    assert chosen(browser.get("/portal")) is None
    browser.post("/portal/pin", {"form_token": token(browser.get("/portal")), "role": role_of(world, "administrator")})
    assert chosen(browser.get("/portal")) is None
    take(browser, role_of(world, "reader"))
    page = browser.get("/portal")
    assert chosen(page) == role_of(world, "reader")
    assert (names(page), page.body.decode().count(" checked")) == (["administrator", "reader"], 1)


def test_a_role_that_cannot_be_had_is_replaced_by_none(world, browser):
    take(browser, world.admin.role("reader", trusting()))
    assert chosen(browser.get(f"/portal?role={role_of(world, 'gone')}")) is None


def test_without_a_choice_nothing_is_given(world, browser):
    world.admin.role("a", trusting())
    status, text = code(take(browser, ""))
    assert (status, "Choose a role." in text) == (400, True)


def test_a_link_chooses_a_role_beforehand(world, browser):
    for name in ("a", "b"):
        world.admin.role(name, trusting())
    assert chosen(browser.get(f"/portal?role={role_of(world, 'b')}")) == role_of(world, "b")


def test_running_credentials_are_told_and_a_list_that_cannot_be_read_is_no_outage(world, browser):
    world.admin.role("a", trusting())
    take(browser, world.admin.arn("role", "a"))
    assert "in use until" in browser.get("/portal").body.decode()


def test_the_bare_address_leads_browsers_to_the_roles_and_tells_programs_where_they_are(browser):
    assert browser.get("/", Accept="text/html,*/*;q=0.8").headers["Location"] == "/portal"
    assert b"fedgate login USER --endpoint http://127.0.0.1:8080" in browser.get("/", Accept="*/*").body


def test_programs_get_the_roles_as_json(world, browser):
    world.admin.role("a", trusting(), MaxSessionDuration=7200)
    told = json.loads(browser.get("/portal", Accept="application/json").body)
    assert told["roles"] == [
        {
            "account_id": "111122223333",
            "role_arn": world.admin.arn("role", "a"),
            "name": "a",
            "max_session_duration": 7200,
        }
    ]


# --- taking -----------------------------------------------------------------------------------------------------------


def test_the_credentials_are_those_of_the_role(world, browser):
    role = world.admin.role("a", trusting(), allow("iam:*"))
    got = credentials_of(take(browser, role))
    answer = world.installation.call("GetCallerIdentity", got)
    assert answer.text("Arn") == "arn:aws:sts::111122223333:assumed-role/a/alice"


def test_credentials_are_kept_by_nobody_on_the_way_and_stand_in_no_address(world, browser):
    role = world.admin.role("a", trusting())
    answer = take(browser, role)
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers


def test_they_last_as_long_as_was_chosen_and_no_longer_than_the_role_allows(world, browser):
    role = world.admin.role("a", trusting())
    page = code(take(browser, role, seconds="900"))[1]
    assert (world.clock() + timedelta(seconds=900)).strftime("%Y-%m-%dT%H:%M:%SZ") in page
    status, text = code(take(browser, role, seconds="7200"))
    assert (status, "The maximum session duration of this role is 1 hour." in text) == (400, True)


def test_only_lengths_that_a_role_allows_are_offered(world, browser):
    world.admin.role("a", trusting(), MaxSessionDuration=7200)
    page = browser.get("/portal").body.decode()
    assert re.findall(r'<option value="(\d+)"', page) == ["900", "3600", "7200"]


def test_no_length_is_offered_that_the_chosen_role_does_not_allow(world, browser):
    for name, longest in (("long", 43200), ("short", 3600)):
        world.admin.role(name, trusting(), MaxSessionDuration=longest)
    offered = r'<option value="(\d+|max)"'
    both, short, long = (
        re.findall(offered, browser.get(path).body.decode())
        for path in ("/portal", f"/portal?role={role_of(world, 'short')}", f"/portal?role={role_of(world, 'long')}")
    )
    assert both == short == ["900", "3600", "max"]
    assert long[-2:] == ["43200", "max"]
    page = code(take(browser, role_of(world, "long"), seconds="max"))[1]
    assert (world.clock() + timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M:%SZ") in page


@pytest.mark.parametrize("wrong", [{"seconds": "1"}, {"seconds": "900.0"}, {"narrow": "all"}, {"seconds": "9" * 400}])
def test_what_no_form_of_ours_sends_is_refused(world, browser, wrong):
    assert take(browser, world.admin.role("a", trusting()), **wrong).status == 400


def test_read_only_takes_everything_else_away(world, browser):
    role = world.admin.role("a", trusting(), allow("iam:*"))
    got = credentials_of(take(browser, role, narrow="read"))
    assert world.installation.call("ListRoles", got).status == 200
    assert world.installation.call("CreateUser", got, UserName="x").status == 403
    assert "arn:aws:iam::aws:policy/ReadOnlyAccess" in managed.load()


def test_an_own_policy_takes_away_and_never_adds(world, browser):
    role = world.admin.role("a", trusting(), allow("iam:ListRoles"))
    policy = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iam:*", "Resource": "*"}})
    got = credentials_of(take(browser, role, narrow="own", policy=policy))
    assert world.installation.call("ListRoles", got).status == 200
    assert world.installation.call("ListUsers", got).status == 403


@pytest.mark.parametrize("narrow", ["", "own"])
def test_what_is_typed_counts_whatever_is_chosen(world, browser, narrow):
    role = world.admin.role("a", trusting(), allow("iam:*"))
    policy = json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*"}}
    )
    got = credentials_of(take(browser, role, narrow=narrow, policy=policy))
    assert world.installation.call("ListRoles", got).status == 200
    assert world.installation.call("ListUsers", got).status == 403
    assert take(browser, role, narrow=narrow, policy="{bad").status == 400
    assert take(browser, role, narrow=narrow, policy="{bad", check="1").status == 400


def test_read_only_and_an_own_policy_are_not_both(world, browser):
    role = world.admin.role("a", trusting())
    status, text = code(take(browser, role, narrow="read", policy="{}"))
    assert (status, "Choose read only or your own policy, not both." in text) == (400, True)


def test_an_own_policy_that_nobody_wrote_is_asked_for(world, browser):
    role = world.admin.role("a", trusting())
    for more in ({}, {"check": "1"}):
        status, text = code(take(browser, role, narrow="own", **more))
        assert (status, "Enter a policy, or choose another option." in text) == (400, True)


def test_what_is_copied_carries_the_address_of_the_service(world, browser):
    page = take(browser, world.admin.role("a", trusting())).body.decode()
    copied = {
        key: html.unescape(text)
        for key, text in re.findall(
            r'<textarea id="text-(\w+)"[^>]*data-copy-label[^>]*>(.*?)</textarea>', page, re.DOTALL
        )
    }
    assert set(copied) == set(FORMATS)
    assert all("http://127.0.0.1:8080" in text for text in copied.values())
    assert "export AWS_ENDPOINT_URL_STS=http://127.0.0.1:8080\n" in copied["bash"]
    assert 'set -gx AWS_ENDPOINT_URL_IAM "http://127.0.0.1:8080"\n' in copied["fish"]
    assert '$Env:AWS_REGION="us-east-1"\n' in copied["powershell"]


def test_a_policy_with_a_fault_is_told_and_not_lost(world, browser):
    role = world.admin.role("a", trusting())
    status, text = code(take(browser, role, narrow="own", policy='{"Version": "2012-10-17", "Statement": <b>'))
    assert status == 400
    assert "Reference:" in text
    assert '{"Version": "2012-10-17", "Statement": <b>' in text


@pytest.mark.parametrize("more", [{}, {"check": "1"}])
def test_where_a_policy_stops_being_json_is_told(world, browser, more):
    role = world.admin.role("a", trusting())
    status, text = code(take(browser, role, narrow="own", policy='{"Version": "2012-10-17",\n "Statement": [}', **more))
    assert (status, "The policy is not valid JSON: line 2, column 16." in text) == (400, True)


def test_the_check_of_a_policy_says_what_is_questionable_and_takes_nothing(world, browser):
    role = world.admin.role("a", trusting())
    policy = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListRolez","Resource":"*"}}'
    status, text = code(take(browser, role, narrow="own", policy=policy, check="1"))
    assert (status, "iam:ListRolez" in text, "AWS_SECRET_ACCESS_KEY" in text) == (200, True, False)
    fine = policy.replace("Rolez", "Roles")
    assert "No findings for this policy." in code(take(browser, role, narrow="own", policy=fine, check="1"))[1]


def test_a_role_that_does_not_trust_the_person_gives_nothing_and_a_record(world, browser):
    role = world.admin.role("closed", trusting(ADMINS))
    answer = take(browser, role)
    status, text = code(answer)
    assert status == 403
    reference = re.search(r"Reference: ([0-9a-f]{8})", text)[1]
    records = [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]
    found = [one for one in records if one["requestID"].startswith(reference)]
    assert [(one["eventName"], one["errorCode"]) for one in found] == [("AssumeRoleWithLDAPIdentity", "AccessDenied")]


def test_a_form_of_another_session_takes_nothing(world, browser):
    role = world.admin.role("a", trusting())
    foreign = token(signed_in(world, "bob").get("/portal"))
    for wrong in (foreign, "", "x"):
        assert browser.post("/portal", {"form_token": wrong, "roleIndex": role}).status == 403
    for path in ("/portal/pin", "/portal/unpin", "/sign-out"):
        assert browser.post(path, {"form_token": foreign, "role": role}).status == 403


def test_a_mistake_in_the_form_has_a_record_that_its_reference_finds(world, browser):
    _status, text = code(take(browser, world.admin.role("a", trusting()), narrow="own"))
    reference = re.search(r"Reference: ([0-9a-f]{8})", text)[1]
    records = [json.loads(line) for line in world.installation.services.storage.audit.path.read_text().splitlines()]
    assert [one["errorCode"] for one in records if one["requestID"].startswith(reference)] == ["ValidationError"]


# --- a second factor --------------------------------------------------------------------------------------------------

BOOL = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
FRESH = {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}


@pytest.mark.parametrize("condition", [BOOL, FRESH, {"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}}])
def test_a_role_that_asks_for_a_second_factor_is_shown_and_leads_there_first(world, browser, condition):
    role = world.admin.role("a", trusting(**condition))
    assert "requires a second factor" in browser.get("/portal").body.decode()
    answer = take(browser, role)
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/mfa?to=%2Fportal%3Frole%3D")


def test_the_command_for_a_terminal_is_that_of_the_tab_and_keeps_what_was_chosen(world, browser):
    role = world.admin.role("a", trusting())
    page = html.unescape(take(browser, role, seconds="900", narrow="read").body.decode())
    command = f"fedgate login alice --endpoint http://127.0.0.1:8080 --role {role} --duration 900 --read-only"
    sections = dict(re.findall(r'<section id="(\w+)"(.*?)</section>', page, re.DOTALL))
    assert f'<pre>eval "$({command})"</pre>' in sections["bash"]
    assert f"<pre>{command} --format powershell | Invoke-Expression</pre>" in sections["powershell"]
    assert f"<pre>{command} --format fish | source</pre>" in sections["fish"]
    assert "fedgate login" not in sections["json"] + sections["file"]


def test_no_command_is_told_that_would_fail_or_give_more_than_was_chosen(world, browser):
    role = world.admin.role("a", trusting())
    policy = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListRoles","Resource":"*"}}'
    assert "fedgate login" not in take(browser, role, narrow="own", policy=policy).body.decode()
    after_factor = signed_in(world, "alice", mfa_at=world.clock())
    assert "fedgate login" not in take(after_factor, role).body.decode()
    strict = world.admin.role("b", trusting(**BOOL))
    assert "fedgate login" not in take(after_factor, strict).body.decode()


def test_with_a_second_factor_the_role_opens_and_its_session_knows(world):
    trust = trusting(**BOOL)
    wanted = {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*", "Condition": BOOL}
    role = world.admin.role("a", trust, json.dumps({"Version": "2012-10-17", "Statement": wanted}))
    browser = signed_in(world, "alice", mfa_at=world.clock())
    got = credentials_of(take(browser, role))
    assert world.installation.call("ListRoles", got).status == 200


def test_a_second_factor_grows_old(world):
    role = world.admin.role("a", trusting(**FRESH))
    browser = signed_in(world, "alice", mfa_at=world.clock())
    assert "AWS_SECRET_ACCESS_KEY" in take(browser, role).body.decode()
    world.clock.advance(seconds=301)
    assert take(browser, role).headers["Location"].startswith("/mfa?")


# --- a reason ---------------------------------------------------------------------------------------------------------

TICKET = {"StringLike": {"aws:RequestTag/Ticket": "CHG-*"}}


def test_a_role_that_asks_for_a_ticket_gets_it_and_the_session_bears_it(world, browser):
    granted = {"Effect": "Allow", "Action": "iam:ListRoles", "Resource": "*",
               "Condition": {"StringEquals": {"aws:PrincipalTag/Ticket": "CHG-7"}}}  # fmt: skip
    role = world.admin.role("a", trusting(**TICKET), json.dumps({"Version": "2012-10-17", "Statement": granted}))
    assert "requires a reason" in browser.get("/portal").body.decode()
    status, text = code(take(browser, role, seconds="900"))
    assert (status, "Information required for a" in text, "AWS_SECRET" in text) == (200, True, False)
    got = credentials_of(take(browser, role, seconds="900", **{"tag-Ticket": "CHG-7"}))
    assert world.installation.call("ListRoles", got).status == 200


def test_a_reason_that_the_role_does_not_take_is_told_and_not_lost(world, browser):
    role = world.admin.role("a", trusting(**TICKET))
    answer = take(browser, role, **{"tag-Ticket": "<b>because"})
    status, text = code(answer)
    assert (status, "does not accept this value" in text, b"<b>because" in answer.body) == (403, True, False)
    assert 'value="&lt;b&gt;because"' in answer.body.decode()


def test_a_reason_does_not_open_what_is_closed_for_another_cause(world, browser):
    world.admin.role("closed", trusting(ADMINS, **TICKET))
    page = browser.get("/portal").body.decode()
    assert ("requires a reason" in page, "1 other role: why not?" in page) == (False, True)


def test_a_second_factor_comes_before_the_reason(world, browser):
    role = world.admin.role("a", trusting(**TICKET, **BOOL))
    assert take(browser, role).headers["Location"].startswith("/mfa?")
    proved = signed_in(world, "alice", mfa_at=world.clock())
    assert "AWS_SECRET_ACCESS_KEY" in take(proved, role, **{"tag-Ticket": "CHG-1"}).body.decode()


def test_a_second_factor_that_grew_old_is_asked_for_before_the_reason(world):
    role = world.admin.role("a", trusting(**TICKET, **FRESH))
    proved = signed_in(world, "alice", mfa_at=world.clock())
    assert "Information required for a" in take(proved, role).body.decode()
    world.clock.advance(seconds=301)
    assert take(proved, role, **{"tag-Ticket": "CHG-1"}).headers["Location"].startswith("/mfa?")


# --- out --------------------------------------------------------------------------------------------------------------


def test_whoever_signs_out_is_out(browser):
    form_token = token(browser.get("/portal"))
    kept = dict(browser.cookies)
    assert browser.post("/sign-out", {"form_token": form_token}).status == 200
    browser.cookies = kept
    assert browser.get("/portal").status == 401
    assert browser.get("/portal", Accept="application/json").status == 401


@pytest.mark.parametrize("path", ["/portal/pin", "/portal/unpin", "/sign-out"])
def test_nothing_is_changed_by_a_link(browser, path):
    assert browser.get(path).status == 405


def test_only_a_role_that_is_ones_own_is_pinned(world, browser):
    world.admin.role("closed", trusting("cn=nobody,ou=groups,dc=corp,dc=example"))
    form_token = token(browser.get("/portal"))
    browser.post("/portal/pin", {"form_token": form_token, "role": world.admin.arn("role", "closed")})
    with world.installation.store.read() as tx:
        assert tx.execute(select(func.count()).select_from(role_mark)).scalar_one() == 0
