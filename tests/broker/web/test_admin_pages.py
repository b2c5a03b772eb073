"""The pages of those who administer: what is shown, to whom, and what never is."""

import csv
import html
import io
import json
import re
from dataclasses import replace

import pytest
from redis import Redis
from sqlalchemy import select
from support import web_identity_fixtures as issuers
from support.admin_fixtures import A, B, admin_setup, trusting
from support.administrator import allow, deny_trust, statements, trust
from support.saml_fixtures import Browser
from support.saml_idp import metadata
from support.web_server import web_server

from broker.wsgi import Application
from iam.store.schema import revision

PAGES = ("/admin", "/admin/roles", "/admin/users", "/admin/providers", "/admin/audit")
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_url, slapd):
    """What these tests look at; none of them changes it, beyond what is recorded."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = admin_setup(tmp_path_factory.mktemp("admin"), redis_url, slapd)
    fill(made)
    yield made
    made.installation.close()


def fill(world):
    """Give both accounts users, roles and providers whose names tell whose they are."""
    for admin, mine in ((world.a, "alpha"), (world.b, "beta")):
        admin.user(f"{mine}-user", allow())
        admin.do("CreateLoginProfile", UserName=f"{mine}-user", Password="a long enough Passw0rd!")
        admin.do("CreateGroup", GroupName=f"{mine}-group")
        admin.do("AddUserToGroup", GroupName=f"{mine}-group", UserName=f"{mine}-user")
        admin.role(f"{mine}-role", trust({"AWS": admin.arn("user", f"{mine}-user")}))
        admin.do("CreateSAMLProvider", Name=f"{mine}-saml", SAMLMetadataDocument=metadata())
        admin.do("CreateOpenIDConnectProvider", Url=f"https://{mine}.example.com",
                 **{"ClientIDList.member.1": f"{mine}-client"})  # fmt: skip


@pytest.fixture
def fresh(tmp_path, redis_url, slapd):
    """A world that a test may change."""
    made = admin_setup(tmp_path, redis_url, slapd)
    yield made
    made.installation.close()


def text(answer):
    """Return what a page says, without its tags."""
    assert answer.status == 200, answer.body.decode()
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", answer.body.decode())))


def asked(browser, target):
    answer = browser.get(target, **JSON)
    assert answer.status == 200, answer.body.decode()
    return json.loads(answer.body)


def warnings(world, name="alice"):
    return {(one["kind"], one["account_id"], one["name"]) for one in asked(world.browser(name), "/admin")["warnings"]}


# --- who may look -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_whoever_is_not_signed_in_sees_the_form(world, page):
    browser = world.browser("alice")
    browser.cookies.clear()
    assert browser.get(page).status == 401


@pytest.mark.parametrize("page", [*PAGES, "/admin/audit?format=csv", "/admin/audit?format=jsonl"])
@pytest.mark.parametrize("name", ["dave", "erin"])
def test_neither_a_power_user_nor_somebody_without_a_role_may_look(world, name, page):
    answer = world.browser(name).get(page)
    assert (answer.status, b"alpha" in answer.body, b"beta" in answer.body) == (403, False, False)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("name", "mine", "others"), [("alice", "alpha", "beta"), ("bob", "beta", "alpha")])
def test_an_administrator_of_one_account_sees_nothing_of_another(world, name, mine, others, page):
    own, other = (A, B) if mine == "alpha" else (B, A)
    browser = world.browser(name)
    for target in (page, f"{page}?q={others}", f"{page}?who={others}", f"{page}?account={other}"):
        for headers in ({}, JSON):
            body = browser.get(target, **headers).body.decode()
            # What was typed is shown again in the form, and in the record of the search.
            shown = re.sub(r'(value="|href=")[^"]*"|("|&#34;)query\2: ?\2\w*\2', "", body)
            assert others not in shown
            assert other not in shown.replace(own, "")
    if page != "/admin/audit":
        assert mine in text(browser.get(page)) or page == "/admin"


def test_whoever_administers_all_accounts_sees_both(world):
    browser = world.browser("olga")
    for page in ("/admin/roles", "/admin/users", "/admin/providers"):
        assert {"alpha", "beta"} <= set(re.findall("alpha|beta", text(browser.get(page))))


def test_an_auditor_sees_and_changes_nothing(world):
    browser, store = world.browser("carol"), world.installation.store

    def number():
        with store.read() as tx:
            return tx.scalar(select(revision.c.number))

    before = number()
    for page in PAGES:
        assert browser.get(page).status == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = browser._send(method, page, {"Content-Type": "application/x-www-form-urlencoded"}, b"q=a")
            assert answer.status == 405
    assert "alpha-user" in text(browser.get("/admin/users"))
    assert number() == before


@pytest.mark.parametrize("page", [*PAGES, "/admin/sessions"])
def test_every_page_says_which_part_it_is_and_keeps_scripts_and_caches_out(world, page):
    answer = world.browser("alice").get(page)
    body = answer.body.decode()
    assert len(re.findall(r"<h1>", body)) == 1
    assert f'href="{page}" aria-current="page"' in body
    assert 'href="/admin/sessions"' in body
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r" on[a-z]+=| style=|<script>", body)


@pytest.mark.parametrize("query", ["%00", "%FF", "'\"<b>", "%E2%80%AE", "a " * 200, "%25_", "x" * 5000])
@pytest.mark.parametrize("page", PAGES[:4])
def test_no_search_breaks_a_page(world, page, query):
    answer = world.browser("alice").get(f"{page}?q={query.replace(' ', '+')}&page=999999999")
    assert answer.status == 200
    assert b"'\"<b>" not in answer.body


# --- overview ---------------------------------------------------------------------------------------------------------


def test_the_overview_counts_users_and_roles_of_each_account(world):
    (one,) = asked(world.browser("alice"), "/admin")["accounts"]
    assert (one["id"], one["users"], one["roles"]) == (A, 1, 4)
    assert [one["id"] for one in asked(world.browser("olga"), f"/admin?q={B}")["accounts"]] == [B]


def test_root_is_warned_of_for_its_key_and_for_want_of_a_second_factor(fresh):
    kinds = {kind for kind, account, _ in warnings(fresh) if account == A}
    assert {"root with an access key", "root without a second factor"} <= kinds
    page = text(fresh.browser("alice").get("/admin"))
    assert f"aws iam delete-access-key --access-key-id {fresh.a.root.access_key}" in page


def test_a_root_with_neither_key_nor_password_needs_no_second_factor(fresh):
    fresh.a.do("DeleteAccessKey", AccessKeyId=fresh.a.root.access_key)
    assert not {kind for kind, account, _ in warnings(fresh) if account == A and kind.startswith("root")}


def test_a_key_that_nobody_uses_is_told_from_one_that_is_only_old(fresh):
    idle, busy, off = (fresh.a.user(name, allow("iam:*")) for name in ("idle", "busy", "off"))
    fresh.a.do("UpdateAccessKey", UserName="off", AccessKeyId=off.access_key, Status="Inactive")
    assert not {one for one in warnings(fresh) if "access key" in one[0] and one[2]}
    fresh.clock.advance(days=91)
    fresh.installation.call("ListUsers", busy)
    found = {one for one in warnings(fresh) if "access key" in one[0] and one[2]}
    assert found == {("access key that nobody uses", A, "idle"), ("old access key", A, "busy")}
    page = text(fresh.browser("alice").get("/admin"))
    assert f"--user-name idle --access-key-id {idle.access_key} --status Inactive" in page


def test_a_password_without_a_second_factor_is_warned_of(world):
    assert ("user with a password and without a second factor", A, "alpha-user") in warnings(world)


def test_a_role_that_nobody_can_assume_is_warned_of(fresh):
    fresh.a.user("leaver")
    fresh.a.role("of-a-leaver", trust({"AWS": fresh.a.arn("user", "leaver")}))
    fresh.a.role("of-no-directory", trust({"Federated": fresh.a.arn("ldap-provider", "nowhere")}, "sts:AssumeRole*"))
    fresh.a.role("of-no-account", trust({"AWS": "999999999999"}))
    everybody = trust({"AWS": A}), deny_trust("*")
    fresh.a.role("denied", statements(*everybody))
    fresh.a.role("good", trust({"AWS": A}))
    fresh.a.role("of-a-directory", trusting(A, ["nobody"]))
    before = {name for kind, _, name in warnings(fresh) if kind == "role that nobody can assume"}
    assert before == {"of-no-directory", "of-no-account", "denied"}
    for key in ("leaver",):
        listed = fresh.a.do("ListAccessKeys", UserName=key).text("AccessKeyId")
        fresh.a.do("DeleteAccessKey", UserName=key, AccessKeyId=listed)
        fresh.a.do("DeleteUser", UserName=key)
    after = {name for kind, _, name in warnings(fresh) if kind == "role that nobody can assume"}
    assert after == before | {"of-a-leaver"}


def test_trust_in_everybody_is_warned_of(fresh):
    fresh.a.role("open", trust({"AWS": "*"}))
    (one,) = [one for one in asked(fresh.browser("alice"), "/admin?q=open")["warnings"] if one["name"] == "open"]
    assert (one["kind"], one["detail"].split()[0]) == ("questionable trust policy", "TRUST_TO_EVERYONE")
    assert one["command"].startswith("aws iam update-assume-role-policy --role-name open ")
    assert one["command"].endswith(" --endpoint-url http://127.0.0.1:8080")


def test_a_provider_that_does_not_exist_beside_one_that_does_is_warned_of(fresh):
    named = {"Federated": [fresh.a.arn("ldap-provider", name) for name in ("corp", "crop")]}
    fresh.a.role("typo", trust(named, "sts:AssumeRoleWithLDAPIdentity"))
    (one,) = [one for one in asked(fresh.browser("alice"), "/admin?q=typo")["warnings"] if one["name"] == "typo"]
    assert (one["kind"], one["detail"].split()[0]) == ("questionable trust policy", "UNKNOWN_PROVIDER")
    assert "ldap-provider/crop" in one["detail"]


def test_a_group_that_nobody_can_be_in_is_warned_of(fresh):
    condition = {"ForAnyValue:StringEquals": {"ldap:groups": "CN=Staff, DC=corp"}}
    named = {"Federated": fresh.a.arn("ldap-provider", "corp")}
    fresh.a.role("typo", trust(named, "sts:AssumeRoleWithLDAPIdentity", Condition=condition))
    (one,) = [one for one in asked(fresh.browser("alice"), "/admin?q=typo")["warnings"] if one["name"] == "typo"]
    assert "write cn=Staff,dc=corp." in one["detail"]


def test_no_remedy_calls_amazon(fresh):
    fresh.a.role("open", trust({"AWS": "*"}))
    commands = [one["command"] for one in asked(fresh.browser("alice"), "/admin")["warnings"]]
    called = [command for command in commands if command.startswith("aws ")]
    assert len({command.split()[2] for command in called}) > 1
    assert all(command.endswith(" --endpoint-url http://127.0.0.1:8080") for command in called)


def test_a_certificate_that_ends_within_thirty_days_is_warned_of(fresh):
    fresh.a.do("CreateSAMLProvider", Name="Corp", SAMLMetadataDocument=metadata())
    assert not [one for one in warnings(fresh) if one[0].startswith("certificate")]
    ends = fresh.site.store.saml_provider(fresh.a.arn("saml-provider", "Corp")).metadata.certificates[0].until
    fresh.clock.offset += ends - fresh.clock()
    fresh.clock.advance(days=-29)
    assert ("certificate of a SAML provider ends", A, "Corp") in warnings(fresh)


# --- roles ------------------------------------------------------------------------------------------------------------


def test_the_page_of_roles_says_in_words_whom_each_trusts(fresh):
    groups = {"ForAnyValue:StringEquals": {"ldap:groups": ["cn=Ops,ou=groups,dc=example,dc=com", "cn=eng,dc=x"]}}
    fresh.a.role("ops", trusting(A, (), **groups, IpAddress={"aws:SourceIp": "10.0.0.0/8"}))
    fresh.a.user("ann")
    fresh.a.role("mixed", statements(trust({"AWS": [fresh.a.arn("user", "ann"), B]}), deny_trust({"AWS": "*"})))
    page = text(fresh.browser("alice").get("/admin/roles?q=ops"))
    assert "Directory corp, group Ops Directory corp, group eng" in page
    assert "IpAddress aws:SourceIp 10.0.0.0/8" in page
    mixed = text(fresh.browser("alice").get("/admin/roles?q=mixed"))
    assert f"User ann of account {A}" in mixed
    assert f"Account {B}: principals that its policies allow" in mixed
    assert "Denied Everyone" in mixed
    assert '"Version": "2012-10-17"' in mixed


def test_a_principal_that_was_deleted_is_told_so(fresh):
    fresh.a.do("CreateUser", UserName="leaver")
    fresh.a.role("left", trust({"AWS": fresh.a.arn("user", "leaver")}))
    fresh.a.do("DeleteUser", UserName="leaver")
    page = text(fresh.browser("alice").get("/admin/roles?q=left"))
    assert f"Deleted principal: arn:aws:iam::{A}:user/leaver" in page
    assert "Nobody" in page


def test_a_role_shows_its_sessions_and_when_it_was_last_taken(fresh):
    ann = fresh.a.user("ann", allow("sts:*"))
    role = fresh.a.role("used", trust({"AWS": A}))
    assert asked(fresh.browser("alice"), "/admin/roles?q=used")["roles"][0]["last_used"] is None
    fresh.installation.call("AssumeRole", ann, RoleArn=role, RoleSessionName="one")
    (shown,) = asked(fresh.browser("alice"), "/admin/roles?q=used")["roles"]
    assert shown["running_sessions"] == 1
    assert abs(shown["last_used"] - fresh.clock().timestamp() * 1000) < 60_000
    assert "1 session now" in text(fresh.browser("alice").get("/admin/roles?q=used"))


def test_two_hundred_roles_are_on_a_page(fresh):
    for number in range(203):
        fresh.a.role(f"many-{number:03}", trust({"AWS": A}))
    found = asked(fresh.browser("alice"), "/admin/roles?q=many-")
    assert (found["found"], found["pages"], len(found["roles"])) == (203, 2, 200)
    last = asked(fresh.browser("alice"), "/admin/roles?q=many-&page=2")["roles"]
    assert [one["arn"].rpartition("/")[2] for one in last] == ["many-200", "many-201", "many-202"]
    assert 'href="/admin/roles?q=many-&amp;page=2"' in fresh.browser("alice").get("/admin/roles?q=many-").body.decode()


# --- users ------------------------------------------------------------------------------------------------------------


def test_the_page_of_users_tells_groups_keys_and_what_was_used(world):
    (shown,) = asked(world.browser("alice"), "/admin/users?q=alpha-group")["users"]
    assert (shown["groups"], shown["has_password"], shown["second_factors"]) == (["alpha-group"], True, [])
    (key,) = shown["access_keys"]
    assert (len(key["ending"]), key["active"], key["last_used"]) == (4, True, None)
    page = text(world.browser("alice").get("/admin/users"))
    assert f"…{key['ending']}" in page
    assert asked(world.browser("alice"), f"/admin/users?q={key['ending']}")["found"] == 1


def test_no_page_shows_more_of_a_key_than_its_end(world):
    key = world.a.do("ListAccessKeys", UserName="alpha-user").text("AccessKeyId")
    for page in ("/admin/users", "/admin/roles"):
        assert key not in world.browser("alice").get(page).body.decode()


# --- providers --------------------------------------------------------------------------------------------------------


def test_directories_are_shown_with_their_state_and_never_with_their_password(world):
    for name in ("alice", "olga"):
        page = world.browser(name).get("/admin/providers")
        states = text(page).partition("SAML")[0]
        assert "corp responding" in states
        assert "gone not responding ProviderUnavailable" in states
        assert b"hunter2" not in page.body


def test_the_addresses_of_directories_are_for_those_who_administer_everything(world):
    assert "ldap://127.0.0.1" not in text(world.browser("alice").get("/admin/providers"))
    assert "ldap://127.0.0.1" in text(world.browser("olga").get("/admin/providers"))
    assert "urls" not in asked(world.browser("alice"), "/admin/providers")["directories"][0]


def test_saml_and_openid_connect_providers_are_shown_with_their_doors(world):
    found = asked(world.browser("alice"), "/admin/providers")
    (saml,), (oidc,) = found["saml"], found["oidc"]
    assert (saml["door"], saml["error"]) == (f"/saml/{A}/alpha-saml/login", "")
    assert saml["certificates"][0]["until"]
    assert (oidc["issuer"], oidc["client_ids"], oidc["door"]) == ("https://alpha.example.com", ["alpha-client"], None)
    assert oidc["keys"] is None


def test_the_keys_of_an_issuer_are_told_once_somebody_has_asked_for_them(tmp_path, redis_url):
    (tmp_path / "tls").mkdir()
    with web_server(tmp_path / "tls") as server:
        made = issuers.open_setup(tmp_path, redis_url, server)
        boss = user_browser(made, "boss", "AdministratorAccess")

        def keys():
            return asked(boss, "/admin/providers")["oidc"][0]["keys"]

        before, fetches = keys(), made.issuer.fetches()
        made.assume(made.issuer.token())
        assert (before, fetches, made.issuer.fetches()) == (None, 0, 1)
        assert (keys()["keys"], keys()["wrong"]) == (1, "")
        assert "1 key" in text(boss.get("/admin/providers"))
        assert made.issuer.fetches() == 1
        made.installation.close()


def user_browser(world, name, policy):
    """Return a browser in which a user of the account is signed in."""
    user_id = world.admin.do("CreateUser", UserName=name).text("UserId")
    world.admin.do("CreateLoginProfile", UserName=name, Password="a long enough Passw0rd!")
    world.admin.do("AttachUserPolicy", UserName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    world.clock.advance(seconds=1)
    identity = world.installation.user_identity(world.admin.account_id, user_id, name)
    made = Browser(world.installation)
    made.cookies["fedgate-session"], _ = world.installation.services.pages.site.sessions.open(identity)
    return made


# --- the audit log ----------------------------------------------------------------------------------------------------


def found(browser, query=""):
    return asked(browser, f"/admin/audit{query}")["records"]


def test_the_reference_of_an_error_page_finds_its_record(fresh):
    refused = fresh.installation.call("CreateUser", fresh.a.user("ann"), UserName="eve")
    reference = refused.headers["x-amzn-RequestId"][:8]
    (record,) = found(fresh.browser("alice"), f"?reference={reference}")
    assert (record["eventName"], record["errorCode"]) == ("CreateUser", "AccessDenied")
    assert reference in text(fresh.browser("alice").get(f"/admin/audit?reference={reference}"))
    assert found(fresh.browser("bob"), f"?reference={reference}") == []


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("event=createrole&role=alpha-role", {"CreateRole"}),
        ("who=alpha-user&event=login", {"CreateLoginProfile"}),
        ("event=CreateUser&source=127.0.0.0/8", {"CreateUser"}),
        ("event=CreateUser&source=10.0.0.0/8", set()),
        ("event=CreateUser&to=2020-01-01", set()),
        ("event=CreateUser&from=2020-01-01T10:00", {"CreateUser"}),
        (f"event=CreateGroup&account={A}", {"CreateGroup"}),
        (f"event=CreateGroup&account={B}", set()),
        ("error=*&event=CreateUser", set()),
    ],
)
def test_records_are_found_by_what_they_say(world, query, names):
    assert {one["eventName"] for one in found(world.browser("alice"), f"?{query}")} == names


@pytest.mark.parametrize(
    "query", ["source=nowhere", "from=yesterday", "to=2026-13-01", "reference=xyz!", "from=0001-01-01"]
)
def test_a_filter_that_cannot_be_read_is_told_and_what_was_typed_stays(world, query):
    answer = world.browser("alice").get(f"/admin/audit?{query}&who=somebody")
    assert answer.status == 400
    assert 'role="alert"' in answer.body.decode()
    assert 'value="somebody"' in answer.body.decode()


def test_whoever_looks_is_recorded_before_they_see(fresh):
    fresh.browser("alice").get("/admin/audit?who=ann&format=csv")
    record = fresh.records()[-1]
    assert (record["eventName"], record["recipientAccountId"]) == ("SearchAudit", A)
    assert record["userIdentity"]["userName"] == "alice"
    told = record["requestParameters"]
    assert (told["who"], told["format"], told["accounts"], told["found"]) == ("ann", "csv", [A], 0)


@pytest.mark.parametrize("page", ["overview", "roles", "users", "providers", "sessions"])
def test_whoever_looks_at_an_account_is_on_record_once(fresh, page):
    browser, before = fresh.browser("alice"), len(fresh.records())
    assert browser.get(f"/admin{'' if page == 'overview' else f'/{page}'}?q=ann").status == 200
    (record,) = fresh.records()[before:]
    assert (record["eventName"], record["recipientAccountId"]) == ("GetAccountAuthorizationDetails", A)
    assert (record["eventSource"], record["readOnly"]) == ("signin.fedgate", True)
    assert record["userIdentity"]["userName"] == "alice"
    assert record["requestParameters"] == {"page": page, "accounts": [A], "query": "ann"}


def test_a_view_of_several_accounts_is_found_by_each_without_the_others(fresh):
    fresh.installation.account()  # a third one, which olga does not administer
    fresh.browser("olga").get("/admin/users?q=secret-of-b")
    (seen,) = found(fresh.browser("alice"), "?event=GetAccountAuthorizationDetails&who=olga")
    assert seen["requestParameters"] == {"page": "users", "accounts": [A]}
    assert found(fresh.browser("carol"), "?event=GetAccountAuthorizationDetails&who=olga") == [seen]


def test_records_of_no_account_are_for_those_who_administer_everything(fresh):
    fresh.installation.call(
        "AssumeRoleWithLDAPIdentity", None, LDAPUsername="zoe", LDAPPassword="wrong", Provider="corp"
    )
    nobodys = [one for one in fresh.records() if one["recipientAccountId"] is None]
    assert nobodys
    ids = {one["eventID"] for one in nobodys}
    assert ids <= {one["eventID"] for one in found(fresh.browser("olga"))}
    assert not ids & {one["eventID"] for one in found(fresh.browser("alice"))}
    hint = b"shown only to administrators of all accounts"
    assert hint in fresh.browser("alice").get("/admin/audit").body
    assert hint not in fresh.browser("olga").get("/admin/audit").body


def test_why_another_accounts_role_is_refused_is_not_told_by_the_own_log(fresh):
    secret = {"Condition": {"StringEquals": {"sts:ExternalId": "only-b-knows"}}}
    role = fresh.b.role("vault", trust({"AWS": A}, **secret))
    ann = fresh.a.user("ann", allow("sts:*"))
    refused = fresh.installation.call("AssumeRole", ann, RoleArn=role, RoleSessionName="one")
    query = f"?reference={refused.headers['x-amzn-RequestId']}"
    (mine,), (all_of_it,) = (found(fresh.browser(name), query) for name in ("alice", "olga"))
    assert (mine["errorCode"], "only-b-knows" in json.dumps(all_of_it)) == ("AccessDenied", True)
    for target in (f"/admin/audit{query}", f"/admin/audit{query}&format=jsonl", f"/admin/audit{query}&format=csv"):
        body = fresh.browser("alice").get(target).body
        assert b"only-b-knows" not in body
        assert b'"decisions"' not in body.replace(b"&#34;", b'"')
    own = fresh.a.role("own", trust({"AWS": A}, **secret))
    refused = fresh.installation.call("AssumeRole", ann, RoleArn=own, RoleSessionName="one")
    (told,) = found(fresh.browser("alice"), f"?reference={refused.headers['x-amzn-RequestId']}")
    assert "only-b-knows" in json.dumps(told["additionalEventData"])


def test_records_go_on_older_ones_without_a_gap(fresh):
    for _ in range(230):
        fresh.a.do("ListUsers")
    browser, seen, before = fresh.browser("alice"), [], ""
    while True:
        page = asked(browser, f"/admin/audit?event=ListUsers{before}")
        seen += [one["eventID"] for one in page["records"]]
        if page["before"] is None:
            break
        before = f"&before={page['before']}"
    assert len(seen) == len(set(seen)) == 230
    assert "Older records" in text(browser.get("/admin/audit?event=ListUsers"))


def test_a_search_that_was_stopped_says_so_and_goes_on(fresh):
    for _ in range(40):
        fresh.a.do("ListUsers")
        fresh.clock.advance(minutes=2)
    services = fresh.installation.services
    pages = services.pages
    audit = pages.administration.audit
    hasty = replace(audit, search=replace(audit.search, chunk=2000, max_bytes_read=4000))
    pages = replace(pages, administration=replace(pages.administration, audit=hasty))
    fresh.installation.application = Application(replace(services, pages=pages))
    browser, seen, page = fresh.browser("alice"), [], "/admin/audit?event=ListUsers"
    assert "The search reached its limit and stopped." in text(browser.get(page))
    assert "-incomplete.csv" in browser.get(f"{page}&format=csv").headers["Content-Disposition"]
    while page:
        body = html.unescape(browser.get(page).body.decode())
        seen += re.findall(r'"eventID": "([^"]+)"', body)
        page = next(iter(re.findall(r'href="(/admin/audit\?[^"]*)">Continue the search in older records', body)), None)
    assert len(seen) == len(set(seen)) == 40


def test_an_export_has_the_records_of_the_page_and_no_others(world):
    browser = world.browser("alice")
    answer = browser.get("/admin/audit?event=CreateUser&format=jsonl")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="audit-')
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [one["requestParameters"]["userName"] for one in lines] == ["alpha-user"]
    assert {one["recipientAccountId"] for one in lines} == {A}
    table = list(csv.DictReader(io.StringIO(browser.get("/admin/audit?event=CreateUser&format=csv").body.decode())))
    assert [(one["event"], one["account"], one["request_id"]) for one in table] == [
        ("CreateUser", A, lines[0]["requestID"])
    ]


def test_a_cell_that_a_spreadsheet_would_run_is_made_a_text(fresh):
    fresh.installation.call("ListUsers", fresh.a.root, {"User-Agent": "x"}, UserName="=cmd|' /C calc'!A0")
    services = fresh.installation.services
    services.storage.audit.append({"at": 1, "eventName": "=HYPERLINK(1)", "eventID": "1", "recipientAccountId": A})
    body = fresh.browser("alice").get("/admin/audit?event=hyperlink&format=csv").body.decode()
    assert "'=HYPERLINK(1)" in body
    assert not re.search(r"(?m)(^|,)=", body)


def test_what_a_record_holds_is_shown_as_text(fresh):
    services = fresh.installation.services
    services.storage.audit.append(
        {"at": 1, "eventName": "<script>x</script>", "eventID": "1", "recipientAccountId": A, "odd": "\u202e\ud800"}
    )
    body = fresh.browser("alice").get("/admin/audit?event=script").body.decode()
    assert "&lt;script&gt;" in body
    assert "<script>x" not in body
    assert "\\u202e" in body
