"""Sessions are seen and ended: one, those of a browser, all of a person, a role or an account, and by nobody else."""

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import event
from support.administrator import allow, assumed, deny, trust
from support.servers import eventually, free_port, redis_server
from support.signed_in_fixtures import (
    AWAY,
    HOME,
    house_in,
    is_in,
    sign_in,
    sign_in_as_owner,
    sign_in_to_directory,
    take,
    token,
    told,
)

from broker.cli import main
from sts.store.sessions import LiveSession

ALICE, BOB, CAROL = "wonderland-1865", "builder-can-we-fix-it", "ledger-balances-42"
REVOKED = "InvalidClientTokenId"


@pytest.fixture
def own_redis():
    """A Redis that a test may empty or end."""
    with redis_server() as url:
        yield url


@pytest.fixture
def house(tmp_path, redis_url, directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, directory.config())
    yield made
    made.close()


@pytest.fixture
def role(house):
    return house.directory_role("r", allow("iam:ListUsers"))


def listed(browser, path="/sessions"):
    answer = browser.get(path, Accept="application/json")
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def end(who, path, **fields):
    return who.post(path, {"form_token": token(who), **fields})


def code(house, credentials, worker=None):
    """Return the error code of a request with these credentials, or nothing where they work."""
    return (worker or house.installation).call("ListUsers", credentials).code


def id_of(browser, credentials):
    return next(one["id"] for one in listed(browser)["credentials"] if one["access_key_id"] == credentials.access_key)


# --- one's own --------------------------------------------------------------------------------------------------------


def test_somebody_sees_their_own_credentials_and_browsers_and_nobody_else_s(house, role, alice):
    bob = house.browser("192.0.2.7")
    sign_in_to_directory(bob, "bob", BOB)
    got, _other = take(alice, role), take(bob, role)
    house.installation.call("ListUsers", got)
    found = listed(alice)
    assert [one["access_key_id"] for one in found["credentials"]] == [got.access_key]
    assert eventually(lambda: listed(alice)["credentials"][0]["last_used"])
    assert [(one["this_one"], one["source_ip"]) for one in found["browsers"]] == [(True, "127.0.0.1")]
    page = alice.get("/sessions").body.decode()
    assert f"…{got.access_key[-4:]}" in page
    assert got.access_key not in page
    assert "192.0.2.7" not in page


def test_credentials_are_refused_at_once_here_and_within_a_second_elsewhere(house, role, alice):
    got, kept = take(alice, role), take(alice, role)
    worker = house.worker()
    assert code(house, got, worker) is None
    answer = end(alice, "/sessions/credentials", session=id_of(alice, got))
    assert (answer.status, answer.headers["Location"]) == (303, "/sessions")
    assert code(house, got) == REVOKED
    assert eventually(lambda: code(house, got, worker)) == REVOKED
    assert code(house, kept) is None
    assert [one["access_key_id"] for one in listed(alice)["credentials"]] == [kept.access_key]
    (found,) = house.records("RevokeSessions")
    assert found["requestParameters"]["revoked"][0]["kind"] == "session"
    assert (found["recipientAccountId"], found["userIdentity"]["userName"]) == (HOME, "alice")


def test_credentials_of_a_role_that_was_assumed_from_there_end_with_their_person(house, role, alice):
    house.admin.do("PutRolePolicy", RoleName="r", PolicyName="go", PolicyDocument=allow("sts:AssumeRole"))
    further = house.other.role("further", trust({"AWS": f"arn:aws:iam::{HOME}:role/r"}), allow("iam:ListUsers"))
    first = take(alice, role)
    chained = assumed(house.installation, first, further)
    assert {one["access_key_id"] for one in listed(alice)["credentials"]} == {first.access_key, chained.access_key}
    end(alice, "/sessions/all")
    assert code(house, chained) == REVOKED


def test_a_browser_is_signed_out_from_another(house, alice):
    other = house.browser("192.0.2.8")
    sign_in_to_directory(other, "alice", ALICE)
    handle = next(one["session"] for one in listed(alice)["browsers"] if not one["this_one"])
    assert end(alice, "/sessions/browser", browser=handle).status == 303
    assert not is_in(other)
    assert is_in(alice)
    assert [one["this_one"] for one in listed(alice)["browsers"]] == [True]
    assert house.records("EndBrowserSession")[0]["requestParameters"] == {"session": handle}


def test_everything_ends_here_and_everywhere(house, role, alice):
    """A person of a directory is of no account, and has a record all the same."""
    other, bob = house.browser("192.0.2.8"), house.browser("192.0.2.9")
    sign_in_to_directory(other, "alice", ALICE)
    sign_in_to_directory(bob, "bob", BOB)
    mine, theirs = [take(alice, role), take(other, role)], take(bob, role)
    answer = end(alice, "/sessions/all")
    assert (answer.status, "All sessions revoked" in answer.body.decode()) == (200, True)
    assert [code(house, one) for one in mine] == [REVOKED] * 2
    assert code(house, theirs) is None
    assert (is_in(alice), is_in(other), is_in(bob)) == (False, False, True)
    (found,) = house.records("RevokeSessions")
    assert (found["recipientAccountId"], found["requestParameters"]["revoked"][0]["kind"]) == (None, "person")
    house.clock.advance(seconds=1)
    assert sign_in_to_directory(alice, "alice", ALICE).status == 303
    assert code(house, take(alice, role)) is None


@pytest.mark.parametrize("path", ["/sessions/credentials", "/sessions/browser"])
def test_what_is_not_one_s_own_is_not_there(house, role, alice, path):
    bob = house.browser("192.0.2.9")
    sign_in_to_directory(bob, "bob", BOB)
    got = take(bob, role)
    fields = {"session": id_of(bob, got), "browser": listed(bob)["browsers"][0]["session"]}
    theirs = end(alice, path, **fields)
    nobodys = end(alice, path, session="0" * 32, browser="0" * 16)
    assert (theirs.status, nobodys.status) == (404, 404)
    assert b"This session has already ended." in theirs.body
    assert (code(house, got), is_in(bob)) == (None, True)


FORMS = ["/sessions/credentials", "/sessions/browser", "/sessions/all", "/admin/sessions"]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("forged", ["no token", "another's token", "from elsewhere", "a link", "not signed in"])
def test_h01_nothing_ends_by_a_form_of_elsewhere(house, role, alice, path, forged):
    house.directory_role("admin", allow("*"), group="platform")
    bob = house.browser("192.0.2.9")
    sign_in_to_directory(bob, "bob", BOB)
    got = take(alice, role)
    fields = {"form_token": token(alice), "session": id_of(alice, got), "kind": "session", "subject": id_of(alice, got),
              "browser": listed(alice)["browsers"][0]["session"]}  # fmt: skip
    if forged == "a link":
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        assert alice.get(f"{path}?{query}").status == (200 if path == "/admin/sessions" else 405)
    else:
        headers = {"Origin": "https://evil.example"} if forged == "from elsewhere" else {}
        fields |= {"no token": {"form_token": ""}, "another's token": {"form_token": token(bob)}}.get(forged, {})
        who = house.browser() if forged == "not signed in" else alice
        assert who.post(path, fields, **headers).status == (401 if forged == "not signed in" else 403)
    assert (code(house, got), is_in(alice)) == (None, True)


def test_users_and_owners_end_what_is_theirs(house):
    user_id = house.user("Ann", allow("iam:ListUsers"))
    house.owner()
    house.enrol(f"iam|{HOME}")
    ann, owner = house.browser(), house.browser()
    sign_in(ann, "Ann")
    sign_in_as_owner(house, owner)
    mine, theirs = take(ann, f"arn:aws:iam::{HOME}:user/Ann"), take(owner, f"arn:aws:iam::{HOME}:root")
    assert listed(ann)["credentials"][0]["person"] == f"iam|{user_id}"
    end(owner, "/sessions/all")
    assert house.installation.call("GetCallerIdentity", theirs).code == REVOKED
    assert house.installation.call("GetCallerIdentity", mine).status == 200
    assert (is_in(ann), is_in(owner)) == (True, False)
    end(ann, "/sessions/all")
    assert house.installation.call("GetCallerIdentity", mine).code == REVOKED
    assert (
        house.installation.call("ListUsers", house.keys["Ann"]).status == 200
    )  # long-term keys have a switch of their own


# --- what is refused stays so -----------------------------------------------------------------------------------------


def test_i03_what_was_ended_stays_so_without_redis(tmp_path, own_redis, directory):
    house = house_in(tmp_path, own_redis, directory.config())
    role, browser = house.directory_role("r", allow("iam:ListUsers")), house.browser()
    sign_in_to_directory(browser, "alice", ALICE)
    one, other, kept = (take(browser, role) for _ in range(3))
    end(browser, "/sessions/credentials", session=id_of(browser, one))
    bob = house.browser("192.0.2.9")
    sign_in_to_directory(bob, "bob", BOB)
    others = take(bob, role)
    with Redis.from_url(own_redis) as client:
        client.flushall()
    assert [code(house, each) for each in (one, other, kept, others)] == [REVOKED, None, None, None]
    assert not is_in(browser)  # who is signed in stands in Redis alone
    sign_in_to_directory(browser, "alice", ALICE)
    assert listed(browser)["credentials"] == []  # the list is lost, and what it listed is not
    end(browser, "/sessions/all")
    assert [code(house, each) for each in (one, other, kept, others)] == [REVOKED, REVOKED, REVOKED, None]
    house.installation.environ["FEDGATE_REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    away = house.worker()
    assert [code(house, each, away) for each in (one, other, kept, others)] == [REVOKED, REVOKED, REVOKED, None]
    lost = house.browser(worker=away)
    lost.cookies = dict(bob.cookies)
    assert lost.get("/sessions").status == 503
    house.close()


@pytest.fixture
def fedgate(house):
    def run(*arguments):
        environ = house.installation.environ
        done = CliRunner().invoke(main, [*arguments, "--json"], env=environ, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    return run


def test_the_command_that_revokes_a_person_signs_their_browsers_out_too(house, role, alice, fedgate):
    bob = house.browser("192.0.2.9")
    sign_in_to_directory(bob, "bob", BOB)
    got = take(alice, role)
    person = listed(alice)["credentials"][0]["person"]
    fedgate("sessions", "revoke", "--person", person)
    assert eventually(lambda: code(house, got)) == REVOKED
    assert (is_in(alice), is_in(bob)) == (False, True)


def test_the_command_finds_people_by_the_name_they_signed_in_with_and_counts_what_it_ended(house, alice, fedgate):
    """Somebody who took no credentials has browser sessions alone."""
    again = house.browser("192.0.2.9")
    sign_in_to_directory(again, "alice", ALICE)
    told = fedgate("sessions", "revoke", "--person", "Alice")
    assert (told["ended"], told["browsers_signed_out"]) == ([], 2)
    assert not is_in(alice)
    assert not is_in(again)


def test_the_command_counts_the_browsers_that_an_account_s_people_are_signed_out_of(house, alice, fedgate):
    house.user("Ann")
    browser = house.browser()
    sign_in(browser, "Ann")
    assert fedgate("sessions", "revoke", "--account", HOME)["browsers_signed_out"] == 1
    assert (is_in(browser), is_in(alice)) == (False, True)


# --- why a session is none any more, and what is left of it -----------------------------------------------------------


def said(answer):
    return told(answer).split(":")[0]


def test_whose_session_was_ended_by_somebody_else_is_told_so(house, alice, fedgate):
    form = {"form_token": token(alice), "roleIndex": "x"}
    fedgate("sessions", "revoke", "--person", "alice")
    for answer in (alice.get("/portal"), alice.post("/portal", form)):
        assert (answer.status, said(answer)) == (401, "This session was ended")
    house.clock.advance(seconds=1)
    sign_in_to_directory(alice, "alice", ALICE)
    house.clock.advance(hours=2)
    assert told(alice.get("/portal")) == "Your session has expired. Sign in again."
    assert told(house.browser().post("/portal", form)) == "Sign in first."


def test_the_end_that_pages_show_includes_the_one_that_comes_without_a_request(house, alice):
    ends = (house.clock() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f'<time datetime="{ends}"' in alice.get("/portal").body.decode().partition("<main")[0]


def test_whoever_signs_out_may_end_the_credentials_too(house, role, alice):
    got, again = take(alice, role), house.browser("192.0.2.9")
    sign_in_to_directory(again, "alice", ALICE)
    page = alice.post("/sign-out", {"form_token": token(alice)})
    assert 'action="/sign-out/credentials"' in page.body.decode()
    assert code(house, got) is None
    stranger = house.browser()
    assert stranger.post("/sign-out/credentials", {}).status == 400
    assert alice.post("/sign-out/credentials", {}, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert alice.post("/sign-out/credentials", {}).status == 200
    assert eventually(lambda: code(house, got)) == REVOKED
    assert not is_in(again)
    assert house.records("RevokeSessions")[-1]["requestParameters"]["revoked"][0]["kind"] == "person"


def test_the_offer_to_end_credentials_ends_after_some_minutes(house, alice):
    alice.post("/sign-out", {"form_token": token(alice)})
    house.clock.advance(minutes=11)
    answer = alice.post("/sign-out/credentials", {})
    assert (answer.status, told(answer)[:31]) == (400, "This page was open too long. Si")


# --- everybody's ------------------------------------------------------------------------------------------------------


@pytest.fixture
def carol(house, role):
    """Somebody with a session in each account."""
    other = house.directory_role("o", allow("iam:ListUsers"), admin=house.other)
    browser = house.browser("192.0.2.10")
    sign_in_to_directory(browser, "carol", CAROL)
    house.carols = {HOME: take(browser, role), AWAY: take(browser, other)}
    return browser


@pytest.fixture
def administrators(house):
    """Make alice the administrator of the accounts that are named, with a policy."""

    def appoint(policy, *accounts, group="platform"):
        admins = {HOME: house.admin, AWAY: house.other}
        for number, account in enumerate(accounts):
            house.directory_role(f"admin{number}", policy, group=group, admin=admins[account])

    return appoint


ALL, LOOK = allow("*"), allow(["iam:Get*", "iam:List*"])


def ids(browser):
    return {one["access_key_id"]: one for one in listed(browser, "/admin/sessions")["credentials"]}


@pytest.mark.usefixtures("carol")
def test_an_administrator_sees_the_credentials_of_the_own_account_alone(house, alice, administrators):
    administrators(ALL, HOME)
    found = listed(alice, "/admin/sessions")
    keys = {one["access_key_id"] for one in found["credentials"]}
    assert house.carols[HOME].access_key in keys
    assert house.carols[AWAY].access_key not in keys
    assert found["browsers"] == []  # people of a directory are of no account


@pytest.mark.usefixtures("carol")
def test_who_administers_every_account_sees_everybody_s_browsers(house, alice, administrators):
    administrators(LOOK, HOME, AWAY)
    found = listed(alice, "/admin/sessions")
    assert {one["name"] for one in found["browsers"]} == {"alice", "carol"}
    assert {one.access_key for one in house.carols.values()} <= {one["access_key_id"] for one in found["credentials"]}
    assert [one["name"] for one in listed(alice, "/admin/sessions?q=CAROL")["browsers"]] == ["carol"]
    assert listed(alice, "/admin/sessions?q=carol+192.0.2.10")["found"] == 2
    assert listed(alice, "/admin/sessions?q=nobody")["found"] == 0


@pytest.mark.parametrize("policy", [LOOK, None, allow("s3:*")])
def test_whoever_may_not_revoke_ends_nothing(house, carol, alice, administrators, policy):
    if policy:
        administrators(policy, HOME, AWAY)
    person = listed(carol)["credentials"][0]["person"]
    for kind, subject in (("session", id_of(carol, house.carols[HOME])), ("person", person), ("account", HOME),
                          ("role", f"arn:aws:iam::{HOME}:role/r")):  # fmt: skip
        answer = end(alice, "/admin/sessions", kind=kind, subject=subject, sure="1")
        assert answer.status == (404 if kind == "session" and policy == LOOK else 403), (kind, answer.body)
    assert [code(house, one) for one in house.carols.values()] == [None, None]
    assert is_in(carol)
    page = alice.get("/admin/sessions")
    assert page.status == (200 if policy == LOOK else 403)
    assert b'class="quiet danger"' not in page.body
    assert b'name="sure"' not in page.body
    assert house.records("RevokeSessions") == []


def test_an_administrator_ends_one_session(house, carol, alice, administrators):
    administrators(ALL, HOME)
    one = ids(alice)[house.carols[HOME].access_key]["id"]
    worker = house.worker()
    assert end(alice, "/admin/sessions", kind="session", subject=one).status == 303
    assert code(house, house.carols[HOME]) == REVOKED
    assert eventually(lambda: code(house, house.carols[HOME], worker)) == REVOKED
    assert code(house, house.carols[AWAY]) is None
    assert house.carols[HOME].access_key not in ids(alice)
    assert is_in(carol)


@pytest.mark.usefixtures("carol")
def test_while_others_wait_to_write_only_the_role_that_allows_it_is_judged_anew(house, alice, administrators):
    administrators(ALL, HOME)
    engine, statements, counts = house.installation.services.api.gate.store.engine, [], []

    def count(_connection, _cursor, statement, *_):
        statements.append(statement)

    for more in (0, 30):
        for number in range(more):
            house.directory_role(f"more{number}", ALL, group="platform")
        form_token = token(alice)
        assert alice.get("/admin/sessions").status == 200  # all that was looked up before is cached
        statements.clear()
        event.listen(engine, "before_cursor_execute", count)
        fields = {"form_token": form_token, "kind": "role", "subject": f"arn:aws:iam::{HOME}:role/r", "sure": "1"}
        assert alice.post("/admin/sessions", fields).status == 303
        event.remove(engine, "before_cursor_execute", count)
        counts.append(len(statements))
    assert counts[1] - counts[0] < 10  # each role takes a query


@pytest.mark.parametrize("subject", [f"arn:aws:iam::{HOME}:role/r", HOME, "acme"])
@pytest.mark.usefixtures("carol")
def test_an_administrator_ends_all_of_a_role_or_an_account(house, alice, administrators, subject):
    house.admin.do("CreateAccountAlias", AccountAlias="acme")
    administrators(ALL, HOME)
    kind = "role" if ":role/" in subject else "account"
    assert end(alice, "/admin/sessions", kind=kind, subject=subject, sure="1").status == 303
    assert code(house, house.carols[HOME]) == REVOKED
    assert code(house, house.carols[AWAY]) is None
    (found,) = house.records("RevokeSessions")
    assert found["recipientAccountId"] == HOME


@pytest.mark.parametrize("kind", ["person", "role", "account"])
def test_many_end_only_where_the_box_is_ticked(house, carol, alice, administrators, kind):
    administrators(ALL, HOME, AWAY)
    person = listed(carol)["credentials"][0]["person"]
    subject = {"person": person, "role": f"arn:aws:iam::{HOME}:role/r", "account": HOME}[kind]
    answer = end(alice, "/admin/sessions", kind=kind, subject=subject)
    assert (answer.status, b"Select the check box" in answer.body) == (400, True)
    assert code(house, house.carols[HOME]) is None


@pytest.mark.parametrize(("kind", "mine", "theirs", "nobodys"), [
    ("role", "arn:aws:iam::{HOME}:role/r", "arn:aws:iam::{AWAY}:role/o", "arn:aws:iam::{AWAY}:role/none"),
    ("account", "{HOME}", "{AWAY}", "999988887777"),
    ("account", "{HOME}", "other-co", "nobody-co"),
])  # fmt: skip
@pytest.mark.usefixtures("carol")
def test_what_is_another_account_s_and_what_is_not_there_are_one_to_whoever_asks(  # noqa: PLR0913, PLR0917 - a table's
    house, alice, administrators, kind, mine, theirs, nobodys
):
    house.other.do("CreateAccountAlias", AccountAlias="other-co")
    administrators(ALL, HOME)
    answers = [
        end(alice, "/admin/sessions", kind=kind, subject=one.format(HOME=HOME, AWAY=AWAY), sure="1")
        for one in (theirs, nobodys)
    ]
    assert [one.status for one in answers] == [403, 403]
    said = [one.body.decode().split('role="alert"')[1].split("</p>")[0] for one in answers]
    assert said[0] == said[1]
    assert code(house, house.carols[AWAY]) is None
    assert end(alice, "/admin/sessions", kind=kind, subject=mine.format(HOME=HOME), sure="1").status == 303


def test_another_account_s_session_is_not_ended(house, carol, alice, administrators):
    administrators(ALL, HOME)
    answers = [
        end(alice, "/admin/sessions", kind="session", subject=one)
        for one in (id_of(carol, house.carols[AWAY]), "0" * 32)
    ]
    assert [one.status for one in answers] == [404, 404]
    assert code(house, house.carols[AWAY]) is None


def test_a_person_of_a_directory_as_a_whole_is_the_business_of_those_who_administer_all(
    house, carol, alice, administrators
):
    person = listed(carol)["credentials"][0]["person"]
    administrators(ALL, HOME)
    assert end(alice, "/admin/sessions", kind="person", subject=person, sure="1").status == 403
    assert is_in(carol)
    administrators(ALL, AWAY, group="engineering")
    assert end(alice, "/admin/sessions", kind="person", subject=person, sure="1").status == 303
    assert [code(house, one) for one in house.carols.values()] == [REVOKED, REVOKED]
    assert not is_in(carol)
    assert is_in(alice)


def test_a_user_of_an_account_as_a_whole_is_the_business_of_that_account(house, alice, administrators):
    administrators(ALL, AWAY)
    user_id = house.user("Ann", allow("iam:ListUsers"))
    browser = house.browser()
    sign_in(browser, "Ann")
    assert end(alice, "/admin/sessions", kind="person", subject=f"iam|{user_id}", sure="1").status == 403
    assert is_in(browser)
    administrators(ALL, HOME, group="engineering")
    assert end(alice, "/admin/sessions", kind="person", subject=f"iam|{user_id}", sure="1").status == 303
    assert not is_in(browser)


ODD = {
    "no kind": {"kind": "", "subject": "x"},
    "an unknown kind": {"kind": "everything", "subject": "x"},
    "no subject": {"kind": "role", "subject": " "},
    "a person without a provider": {"kind": "person", "subject": "alice"},
    "a person without a subject": {"kind": "person", "subject": "ldap-provider/corp|"},
    "too long": {"kind": "person", "subject": f"ldap-provider/corp|{'x' * 500}"},
    "NUL": {"kind": "account", "subject": "a\0b"},
}


@pytest.mark.parametrize("case", ODD)
def test_h11_what_no_form_of_ours_sends_is_refused(alice, administrators, case):
    administrators(ALL, HOME, AWAY)
    assert end(alice, "/admin/sessions", sure="1", **ODD[case]).status == 400


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 5000, "٣", "1e9", ""])
def test_odd_pages_are_the_first_or_empty(alice, administrators, page):
    administrators(ALL, HOME)
    assert alice.get(f"/admin/sessions?page={page.encode().decode('latin-1')}").status == 200


def test_2_000_sessions_of_one_account_are_listed_searched_and_ended_at_once(house, alice, administrators):
    administrators(ALL, HOME)
    now = int(house.clock().timestamp() * 1000)
    sessions = house.installation.services.storage.live_sessions
    for number in range(2000):
        name = f"{number:032x}"
        arn, person = f"arn:aws:sts::{HOME}:assumed-role/r/p{number % 40}", f"ldap-provider/corp|p{number % 40}"
        sessions.add(LiveSession(name, HOME, arn, person, "AROAEXAMPLE", f"ASIA{number:016}", now,
                                    now + 3_600_000 + number, "192.0.2.1", "AssumeRole", "x" * 100))  # fmt: skip
    sessions.flush()
    for path, found in (("/admin/sessions", 2000), ("/admin/sessions?q=p7", 50), ("/admin/sessions?page=11", 2000)):
        page = alice.get(path)
        assert page.status == 200
        assert f">{found} sessions<" in page.body.decode().replace("2,000", "2000")
        # The page shows some of them, however many there are.
        assert len(page.body) < 400_000, path
    assert end(alice, "/admin/sessions", kind="account", subject=HOME, sure="1").status == 303
    assert listed(alice, "/admin/sessions")["found"] == 0


# --- what must be allowed ---------------------------------------------------------------------------------------------

BREAK_GLASS = f"arn:aws:iam::{HOME}:role/r"
MAY = {
    "role, denied on its arn": ("role", BREAK_GLASS, [ALL, deny("iam:PutRolePolicy", BREAK_GLASS)], 403),
    "role, denied on another": ("role", BREAK_GLASS, [ALL, deny("iam:PutRolePolicy", f"{BREAK_GLASS}2")], 303),
    "role, allowed on its arn": ("role", BREAK_GLASS, [LOOK, allow("iam:PutRolePolicy", BREAK_GLASS)], 303),
    "account, by role policies": ("account", HOME, [LOOK, allow("iam:PutRolePolicy")], 403),
    "account, without root": ("account", HOME, [LOOK, allow("iam:RevokeAccountSessions")], 403),
    "account": ("account", HOME, [LOOK, allow(["iam:RevokeAccountSessions", "iam:RevokeRootSessions"])], 303),
    "root, by role policies": ("person", f"iam|{HOME}", [LOOK, allow("iam:PutRolePolicy")], 403),
    "root, by persons": ("person", f"iam|{HOME}", [LOOK, allow("iam:RevokePersonSessions")], 403),
    "root": ("person", f"iam|{HOME}", [LOOK, allow("iam:RevokeRootSessions")], 303),
    "provider": ("person", f"arn:aws:iam::{HOME}:saml-provider/P|ann", [LOOK, allow("iam:RevokePersonSessions")], 303),
    "provider, denied": (
        "person", f"arn:aws:iam::{HOME}:saml-provider/P|ann",
        [ALL, deny("iam:RevokePersonSessions", f"arn:aws:iam::{HOME}:saml-provider/P")], 403,
    ),
    "nobody": ("person", "iam|AIDAAAAAAAAAAAAAAAAAA", [ALL], 403),
}  # fmt: skip


@pytest.mark.parametrize("case", MAY)
@pytest.mark.usefixtures("carol")
def test_a11_what_must_be_allowed_to_end_sessions(house, alice, case):
    kind, subject, policies, status = MAY[case]
    house.directory_role("admin", *policies, group="platform")
    assert end(alice, "/admin/sessions", kind=kind, subject=subject, sure="1").status == status


@pytest.mark.usefixtures("carol")
def test_a11_one_session_of_a_role_of_a_user_or_of_root_asks_what_all_of_them_ask(house, alice):
    house.user("Ann", allow("*"))
    house.directory_role("admin", LOOK, allow("iam:PutRolePolicy"), group="platform")
    owned = [
        house.installation.call("GetSessionToken", one).credentials for one in (house.keys["Ann"], house.admin.root)
    ]
    eventually(lambda: all(one.access_key in ids(alice) for one in owned))
    page = alice.get("/admin/sessions").body.decode()
    for credentials in owned:
        listed_id = ids(alice)[credentials.access_key]["id"]
        assert f'value="{listed_id}"' not in page
        assert end(alice, "/admin/sessions", kind="session", subject=listed_id).status == 404
        assert house.installation.call("GetCallerIdentity", credentials).status == 200
    role_session = ids(alice)[house.carols[HOME].access_key]["id"]
    assert f'value="{role_session}"' in page
    assert end(alice, "/admin/sessions", kind="session", subject=role_session).status == 303


def test_a_deny_keeps_a_user_from_ending_sessions_of_their_own(house):
    house.user("Ann", allow("iam:ListUsers"))
    browser = house.browser()
    sign_in(browser, "Ann")
    got = take(browser, f"arn:aws:iam::{HOME}:user/Ann")
    house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="no", PolicyDocument=deny("iam:RevokePersonSessions"))
    assert end(browser, "/sessions/all").status == 403
    assert house.installation.call("GetCallerIdentity", got).status == 200
    house.admin.do("DeleteUserPolicy", UserName="Ann", PolicyName="no")
    assert end(browser, "/sessions/all").status == 200
    assert house.installation.call("GetCallerIdentity", got).code == REVOKED
