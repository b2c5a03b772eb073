"""Users and owners sign in to their accounts: by whom, with what, how often, what is recorded, and what they get."""

import base64
import json
import time
import urllib.parse

import pytest
from botocore.credentials import Credentials
from redis import Redis
from sqlalchemy import select, update
from support.administrator import Administrator, allow, deny, refused, statements, trust
from support.saml_fixtures import Browser
from support.signed_in_fixtures import (
    AWAY,
    EMAIL,
    HOME,
    NEW,
    PASSWORD,
    give_code,
    hidden,
    house_in,
    is_in,
    reference,
    send,
    sign_in,
    sign_in_as_owner,
    take,
    token,
    told,
    try_to_take,
)

from broker.signin.throttle import PER_NAME, PER_SOURCE
from iam.store.schema import account as account_table
from iam.store.schema import failed_attempt

WRONG = "The account, the user name or the password is wrong."
CHANGE = {"old": PASSWORD, "new": NEW, "repeated": NEW}
HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"


@pytest.fixture
def house(tmp_path, redis_url):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url)
    made.user("Ann", allow("iam:ListUsers"))
    yield made
    made.close()


@pytest.fixture
def browser(house):
    return house.browser()


# --- which account ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", [HOME, "acme", " Acme ", "1111-2222-3333"])
def test_an_account_is_named_by_its_id_or_its_alias(house, browser, account):
    house.admin.do("CreateAccountAlias", AccountAlias="acme")
    answer = sign_in(browser, "ann", account=account)
    assert (answer.status, answer.headers["Location"]) == (303, "/portal")
    assert ">Ann</strong>" in browser.get("/portal").body.decode()


def test_an_alias_from_before_that_looks_like_an_id_does_not_stand_in_for_its_account(house, browser):
    other = Administrator.of_a_new_account(house.installation, "222233334444")
    with house.installation.store.write() as tx:
        tx.execute(update(account_table).where(account_table.c.id == other.account_id).values(alias="1111-2222-3333"))
    assert sign_in(browser, "ann", account="1111-2222-3333").status == 303
    assert ">Ann</strong>" in browser.get("/portal").body.decode()


@pytest.mark.parametrize("alias", ["root", "login", "signin"])
def test_an_alias_may_be_any_word(house, browser, alias):
    house.admin.do("CreateAccountAlias", AccountAlias=alias)
    answer = browser.get(f"/signin?account={alias}")
    assert answer.headers["Location"].startswith(f"/signin/{alias}?")
    assert sign_in(browser, "Ann", account=alias).headers["Location"] == "/portal"


def test_whoever_asks_for_an_account_is_led_on_with_the_wish_for_a_page(browser):
    page = browser.get("/signin?to=/why%3Frole=x")
    assert hidden(page) == {"to": "/why?role=x"}
    answer = browser.get("/signin?account=ACME&to=/why%3Frole=x")
    assert answer.headers["Location"] == "/signin/acme?to=%2Fwhy%3Frole%3Dx"
    assert hidden(browser.get(answer.headers["Location"]))["to"] == "/why?role=x"


@pytest.mark.parametrize("typed", ["a", "..", "a/b", "a b", "ä" * 3, "x" * 64, "<script>", "%00", "a\nb"])
def test_what_can_be_no_account_is_asked_for_again(browser, typed):
    answer = browser.get(f"/signin?account={urllib.parse.quote(typed, safe='')}")
    assert (answer.status, told(answer)) == (
        400,
        "Enter the 12-digit account ID or the account alias.",
    )
    assert b"<script>" not in answer.body


ODD_PATHS = ["%00", "%0a", "%0d%0aSet-Cookie:x=y", "%3Cscript%3Ealert(1)%3C/script%3E", "..", "%ff%fe", "a%20b",
             "x" * 3000, "%F0%9F%92%A9", "'%22", "{{7*7}}", "%25s"]  # fmt: skip


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_signs_in_the_path_are_no_account_and_no_error_of_ours(browser, path):
    answer = browser.get(f"/signin/{path}")
    assert answer.status in (200, 404), answer.body
    assert b"<script>alert" not in answer.body
    assert "x" not in answer.headers.get("Set-Cookie", "").split(";")[0].partition("=")[0].split(":")
    posted = browser.post(f"/signin/{path}", hidden(browser.get(f"/signin/{HOME}")) | {
        "username": "Ann", "password": PASSWORD})  # fmt: skip
    assert posted.status in (401, 404), posted.body
    assert not is_in(browser)


@pytest.mark.parametrize("path", [*ODD_PATHS, "ß" * 400])
def test_failures_count_under_a_name_that_every_database_keeps(house, browser, path):
    path = urllib.parse.quote(path, safe="%")
    sent = hidden(browser.get(f"/signin/{HOME}")) | {"username": "ß" * 256, "password": "wrong"}
    browser.post(f"/signin/{path}", sent)
    with house.installation.store.read() as tx:
        subjects = tx.scalars(select(failed_attempt.c.subject)).all()
    assert all(len(one) <= failed_attempt.c.subject.type.length and "\0" not in one for one in subjects)


# --- one answer, one time ---------------------------------------------------------------------------------------------

NOBODY = {
    "a wrong password": (HOME, "Ann", "wrong"),
    "an unknown user": (HOME, "nobody", PASSWORD),
    "a user without a password": (HOME, "robot", PASSWORD),
    "an unknown account": ("nowhere", "Ann", PASSWORD),
    "another account": (AWAY, "Ann", PASSWORD),
    "no account at all": ("a b", "Ann", PASSWORD),
    "an unknown address": ("", "nobody@home.example", PASSWORD),
    "the owner's wrong password": ("", EMAIL, "wrong"),
    "an empty password": (HOME, "Ann", ""),
    "an empty name": (HOME, "", PASSWORD),
    "a pattern": (HOME, "A%", PASSWORD),
    "the owner's name": (HOME, "root", PASSWORD),
    "the owner's address": (HOME, EMAIL, PASSWORD),
}


def test_whoever_proves_nothing_gets_one_answer(house):
    house.owner()
    house.admin.user("robot")
    answers = {
        case: sign_in(house.browser(f"192.0.2.{number}"), username, password, account)
        for number, (case, (account, username, password)) in enumerate(NOBODY.items())
    }
    for case, answer in answers.items():
        assert (answer.status, told(answer)) == (401, WRONG), case
        assert "fedgate-session" not in answer.headers.get("Set-Cookie", ""), case
        assert b'aria-invalid="true"' in answer.body
        assert PASSWORD.encode() not in answer.body


def test_whoever_proves_nothing_waits_one_time(house):
    """Each pays for one argon2: of whoever is there, and of nobody."""
    house.owner()
    house.admin.user("robot")
    cases = ["a wrong password", "an unknown user", "a user without a password", "an unknown account",
             "an unknown address", "the owner's wrong password"]  # fmt: skip
    times = {case: [] for case in cases}
    for number in range(4):
        for at, case in enumerate(cases):
            account, username, password = NOBODY[case]
            browser = house.browser(f"198.51.100.{10 * number + at}")
            path = f"/signin/{account}" if account else "/root"
            fields = hidden(browser.get(path)) | {"username": username, "password": f"{password}-{number}"}
            started = time.process_time()
            assert browser.post(path, fields).status == 401
            times[case].append(time.process_time() - started)
    least = [min(taken) for taken in times.values()]
    assert min(least) > 0.02, "no argon2 at all"
    assert max(least) < 3 * min(least), times  # without argon2 it would be a tenth


# --- passwords are for pages, keys for the API ------------------------------------------------------------------------


def test_an_access_key_opens_no_page(house, browser):
    house.owner()
    key = house.keys["Ann"]
    for username in ("Ann", key.access_key):
        assert sign_in(browser, username, key.secret_key).status == 401
    assert sign_in(browser, EMAIL, house.admin.root.secret_key, account="").status == 401
    assert not is_in(browser)


@pytest.mark.parametrize("secret", [PASSWORD, "Ann"])
@pytest.mark.parametrize("key", ["Ann", "ann", "their own key", f"arn:aws:iam::{HOME}:user/Ann"])
def test_a_password_signs_no_request(house, key, secret):
    key_id = house.keys["Ann"].access_key if key == "their own key" else key
    for action in ("GetCallerIdentity", "ListUsers", "GetSessionToken"):
        answer = house.installation.call(action, Credentials(key_id, secret))
        assert answer.status in (400, 403), (action, answer.body)
        assert answer.code in ("InvalidClientTokenId", "SignatureDoesNotMatch", "IncompleteSignature")


def test_a_password_is_no_proof_for_the_sts(house):
    role = house.admin.role("r", trust({"Federated": house.admin.arn("ldap-provider", "corp")},
                                       ["sts:AssumeRoleWithLDAPIdentity"]))  # fmt: skip
    given = {"LDAPUsername": "Ann", "LDAPPassword": PASSWORD, "RoleArn": role}
    assert house.installation.call("AssumeRoleWithLDAPIdentity", None, **given).status == 400  # there is no directory
    for action, proof in (("AssumeRoleWithSAML", "SAMLAssertion"), ("AssumeRoleWithWebIdentity", "WebIdentityToken")):
        more = {"PrincipalArn": house.admin.arn("saml-provider", "x"), "RoleSessionName": "Ann", proof: PASSWORD}
        assert house.installation.call(action, None, RoleArn=role, **more).status in (400, 403)
    answer = Browser(house.installation).post("/oauth2/token", {
        "grant_type": "password", "username": "Ann", "password": PASSWORD, "resource": role})  # fmt: skip
    assert answer.status in (400, 401)
    basic = {"Authorization": "Basic QW5uOkNvcnJlY3QgaG9yc2UsIGJhdHRlcnkgJiBzdGFwbGUgNA=="}
    assert house.browser().get("/portal", **basic).status == 401
    assert PASSWORD.encode() not in house.files()


# --- lockout ----------------------------------------------------------------------------------------------------------


def test_five_wrong_passwords_from_one_address_lock_the_name_there(house):
    browser = house.browser("192.0.2.1")
    for number in range(PER_NAME):
        assert sign_in(browser, "Ann", f"wrong-{number}").status == 401
    locked = sign_in(browser, "Ann")
    assert (locked.status, told(locked)) == (429, "Too many attempts. Try again in 15 minutes.")
    assert 890 <= int(locked.headers["Retry-After"]) <= 900
    assert sign_in(house.browser("192.0.2.2"), "Ann").status == 303
    house.clock.advance(minutes=15, seconds=1)
    assert sign_in(browser, "Ann").status == 303


SPELLINGS = [(HOME, "ANN"), ("acme", "Ann"), ("ACME", " ann "), ("1111-2222-3333", "aNN")]


def test_another_spelling_of_name_or_account_has_no_tries_of_its_own(house):
    house.admin.do("CreateAccountAlias", AccountAlias="acme")
    browser = house.browser("192.0.2.3")
    for number in range(PER_NAME):
        sign_in(browser, "Ann", f"wrong-{number}")
    for account, username in SPELLINGS:
        assert sign_in(browser, username, account=account).status == 429


def test_a_lock_outlives_a_restart_and_a_lost_redis_and_holds_on_other_workers(house, redis_url):
    browser = house.browser("192.0.2.4")
    for number in range(PER_NAME):
        sign_in(browser, "Ann", f"wrong-{number}")
    with Redis.from_url(redis_url) as client:
        client.flushall()
    assert sign_in(house.browser("192.0.2.4", house.worker()), "Ann").status == 429


def test_unknown_names_are_locked_like_known_ones(house):
    for account, name in ((HOME, "nobody"), ("nowhere", "nobody"), ("", "nobody@home.example")):
        browser = house.browser("192.0.2.5")
        answers = [sign_in(browser, name, f"wrong-{number}", account).status for number in range(PER_NAME + 1)]
        assert answers == [401] * PER_NAME + [429]


def test_the_owner_s_address_is_locked_by_itself(house):
    house.owner()
    browser = house.browser("192.0.2.6")
    for number in range(PER_NAME):
        assert sign_in(browser, EMAIL.upper(), f"wrong-{number}", account="").status == 401
    assert sign_in(browser, EMAIL, account="").status == 429
    assert sign_in(browser, "Ann").status == 303


def test_the_right_password_forgets_the_wrong_ones_before_it(house):
    browser = house.browser("192.0.2.7")
    for turn in range(3):
        for number in range(PER_NAME - 1):
            assert sign_in(browser, "Ann", f"wrong-{turn}-{number}").status == 401
        assert sign_in(browser, "Ann").status == 303


def test_h07_many_names_from_one_address_lock_the_address(house):
    browser = house.browser("192.0.2.8")
    with house.installation.store.write(bump_revision=False) as tx:
        tx.exec_driver_sql(
            "INSERT INTO failed_attempt (subject, source, failures, since) VALUES ('iam:x|y', '192.0.2.8', ?, ?)",
            (PER_SOURCE - 1, int(house.clock().timestamp() * 1000)),
        )
    assert sign_in(browser, "one-more", "wrong").status == 401
    assert sign_in(browser, "Ann").status == 429
    page = browser.get(f"/signin/{HOME}")
    fields = hidden(page) | {"username": "Ann", "password": PASSWORD}
    assert browser.post(f"/signin/{HOME}", fields, **{"X-Forwarded-For": "203.0.113.9"}).status == 429


# --- passwords that must be changed, or have expired ------------------------------------------------------------------


def test_a_password_that_must_be_changed_is_changed_first(house, browser):
    house.admin.do("UpdateLoginProfile", UserName="Ann", PasswordResetRequired="true")
    answer = sign_in(browser, "Ann", to="/sessions")
    assert answer.status == 303
    assert not is_in(browser)
    page = browser.get(answer.headers["Location"])
    assert "Your password has expired or must be changed before you can sign in." in page.body.decode()
    changed = send(browser, answer.headers["Location"], {"username": "Ann"} | CHANGE)
    assert (changed.status, changed.headers["Location"]) == (303, "/sessions")
    assert is_in(browser)
    assert [one["responseElements"] for one in house.records("CheckPassword")] == [{"CheckPassword": "Success"}]
    assert [one["additionalEventData"]["MFAUsed"] for one in house.records("ConsoleLogin")] == ["No"]
    assert sign_in(house.browser(), "Ann").status == 401
    assert sign_in(house.browser(), "Ann", NEW).headers["Location"] == "/portal"


def test_an_owner_s_first_password_is_changed_first(house, browser):
    house.owner(reset=True)
    answer = sign_in(browser, EMAIL, account="")
    assert answer.headers["Location"].startswith("/password?")
    changed = send(browser, answer.headers["Location"], {"username": EMAIL} | CHANGE)
    assert (changed.status, changed.headers["Location"]) == (303, "/mfa/enrol")  # an owner must have a second factor
    assert not is_in(browser)


def test_an_expired_password_is_changed_by_its_user(house, browser):
    house.admin.do("UpdateAccountPasswordPolicy", MaxPasswordAge=30)
    house.clock.advance(days=29, hours=23)
    assert sign_in(browser, "Ann").headers["Location"] == "/portal"
    house.clock.advance(hours=1)
    answer = sign_in(house.browser(), "Ann")
    assert answer.headers["Location"].startswith("/password?")


def test_a_password_that_has_expired_for_good_opens_nothing(house, browser):
    house.admin.do(
        "UpdateAccountPasswordPolicy", MaxPasswordAge=30, HardExpiry="true", AllowUsersToChangePassword="true"
    )
    house.clock.advance(days=30, seconds=1)
    answer = sign_in(browser, "Ann")
    text = "Your password has expired. An administrator of the account can set a new one."
    assert (answer.status, told(answer)) == (403, text)
    assert sign_in(browser, "Ann", "wrong").status == 401
    change = send(browser, f"/password?username=Ann&account={HOME}", {"username": "Ann"} | CHANGE)
    assert (change.status, told(change)) == (403, text)
    assert house.admin.do("GetUser", UserName="Ann").text("PasswordLastUsed") is None
    errors = [one["errorMessage"] for one in house.records("ConsoleLogin", "ChangePassword")]
    assert errors == ["Password expired", "Failed authentication", "Password expired"]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_sign_in_is_recorded_as_cloudtrail_writes_it(house, browser):
    answer = sign_in(browser, "ann")
    (found,) = house.records("ConsoleLogin")
    user_id = house.user_id("Ann")
    assert found["userIdentity"] == {"type": "IAMUser", "principalId": user_id, "accountId": HOME, "userName": "Ann",
                                     "arn": f"arn:aws:iam::{HOME}:user/Ann"}  # fmt: skip
    assert (found["requestParameters"], found["responseElements"]) == (None, {"ConsoleLogin": "Success"})
    told_more = {"LoginTo": "http://127.0.0.1:8080/portal", "MobileVersion": "No", "MFAUsed": "No"}
    assert found["additionalEventData"] == told_more
    assert (found["eventType"], found["recipientAccountId"], found["readOnly"]) == ("AwsConsoleSignIn", HOME, False)
    assert found["requestID"] == answer.headers["x-amzn-RequestId"]


FAILURES = {
    "a wrong password": ("IAMUser", "Ann", HOME, "Failed authentication"),
    "an unknown user": ("IAMUser", HIDDEN, HOME, "No username found in supplied account"),
    "an unknown account": ("IAMUser", HIDDEN, None, "No username found in supplied account"),
    "an unknown address": ("Root", HIDDEN, None, "Failed authentication"),
    "the owner's wrong password": ("Root", None, HOME, "Failed authentication"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_refused_sign_in_has_one_record_which_the_reference_finds(house, browser, case):
    house.owner()
    account, username, password = NOBODY[case]
    answer = sign_in(browser, username, password, account)
    kind, name, account_id, message = FAILURES[case]
    (found,) = [one for one in house.records() if one["requestID"].startswith(reference(answer))]
    assert found["eventName"] == "ConsoleLogin"
    assert (found["userIdentity"]["type"], found["userIdentity"].get("userName")) == (kind, name)
    assert (found["recipientAccountId"], found["errorMessage"]) == (account_id, message)
    assert (found["responseElements"], found["requestParameters"]) == ({"ConsoleLogin": "Failure"}, None)
    assert "nobody" not in json.dumps(found)


def test_a_locked_sign_in_is_recorded_too(house, browser):
    for number in range(PER_NAME):
        sign_in(browser, "Ann", f"wrong-{number}")
    answer = sign_in(browser, "Ann")
    (found,) = [one for one in house.records() if one["requestID"].startswith(reference(answer))]
    assert (found["eventName"], found["errorCode"], found["userIdentity"]["userName"]) == (
        "ConsoleLogin", "Throttling", "Ann")  # fmt: skip


def test_with_a_second_factor_the_sign_in_is_recorded_when_it_is_done(house, browser):
    house.owner()
    house.enrol(f"iam|{HOME}")
    assert sign_in(browser, EMAIL, account="").headers["Location"] == "/mfa"
    assert [one["eventName"] for one in house.records("ConsoleLogin", "CheckPassword")] == ["CheckPassword"]
    assert not is_in(browser)
    house.clock.advance(seconds=30)
    assert sign_in_as_owner(house, browser).headers["Location"] == "/portal"
    (found,) = house.records("ConsoleLogin")
    assert found["userIdentity"] == {"type": "Root", "principalId": HOME, "accountId": HOME,
                                     "arn": f"arn:aws:iam::{HOME}:root"}  # fmt: skip
    assert found["additionalEventData"]["MFAUsed"] == "Yes"


def test_no_password_is_kept_anywhere(house, caplog):
    caplog.set_level("DEBUG")
    house.owner()
    for number, (account, username) in enumerate([(HOME, "Ann"), (HOME, "nobody"), ("", EMAIL)]):
        for secret in (PASSWORD, "s3cret-that-nobody-may-see"):
            assert secret.encode() not in sign_in(house.browser(f"192.0.2.{number}"), username, secret, account).body
    for secret in (PASSWORD, "s3cret-that-nobody-may-see"):
        assert secret.encode() not in house.files() + caplog.text.encode()


def test_the_last_use_of_a_password_is_known(house, browser):
    house.owner()
    house.enrol(f"iam|{HOME}")
    used = house.clock().strftime("%Y-%m-%dT%H:%M:%S")
    assert sign_in(browser, "Ann").status == 303
    assert sign_in_as_owner(house, house.browser()).status == 303
    house.clock.advance(hours=1)
    assert sign_in(browser, "Ann", "wrong").status == 401
    assert house.admin.do("GetUser", UserName="Ann").text("PasswordLastUsed").startswith(used)
    house.admin.do("GenerateCredentialReport")
    text = base64.b64decode(house.admin.do("GetCredentialReport").text("Content")).decode()
    rows = {line.split(",")[0]: line.split(",") for line in text.splitlines()}
    assert rows["Ann"][4].startswith(used)
    assert rows["<root_account>"][4].startswith(used)


# --- how long it lasts ------------------------------------------------------------------------------------------------


def leave(house):
    for action, more in (
        ("DeleteLoginProfile", {}),
        ("DeleteUserPolicy", {"PolicyName": "p0"}),
        ("DeleteAccessKey", {"AccessKeyId": house.keys["Ann"].access_key}),
        ("DeleteUser", {}),
    ):
        house.admin.do(action, UserName="Ann", **more)


ENDS = {
    "deleted": leave,
    "without a password": lambda house: house.admin.do("DeleteLoginProfile", UserName="Ann"),
    "given another password": lambda house: house.admin.do("UpdateLoginProfile", UserName="Ann", Password=NEW),
}


@pytest.mark.parametrize("case", ENDS)
def test_h03_whoever_is_gone_or_has_a_new_password_is_out_at_once_on_every_worker(house, case):
    browsers = [house.browser(worker=worker) for worker in (house.installation, house.worker())]
    for browser in browsers:
        assert sign_in(browser, "Ann").status == 303
    assert all(map(is_in, browsers))
    house.clock.advance(seconds=1)
    ENDS[case](house)
    assert [browser.get("/portal").status for browser in browsers] == [401, 401]


def test_h03_a_password_that_was_replaced_between_the_two_steps_lets_nobody_in(house, browser):
    house.enrol(f"iam|{house.user_id('Ann')}")
    assert sign_in(browser, "Ann").headers["Location"] == "/mfa"
    house.clock.advance(seconds=30)
    house.admin.do("UpdateLoginProfile", UserName="Ann", Password=NEW)
    assert browser.get("/mfa").status == 401
    assert not is_in(browser)


def test_h03_an_owner_with_a_new_password_is_out(house, browser):
    house.owner()
    house.enrol(f"iam|{HOME}")
    sign_in_as_owner(house, browser)
    assert is_in(browser)
    house.clock.advance(seconds=1)
    house.owner(password=NEW)
    assert not is_in(browser)


def test_h02_the_session_has_a_new_id_after_the_sign_in(house, browser):
    browser.cookies["fedgate-session"] = "A" * 43
    sign_in(browser, "Ann")
    first = browser.cookies["fedgate-session"]
    assert first != "A" * 43
    sign_in(browser, "Ann")
    assert browser.cookies["fedgate-session"] != first
    old = house.browser()
    old.cookies["fedgate-session"] = first
    assert not is_in(old)


@pytest.mark.parametrize("forged", ["no token", "another browser's", "from elsewhere"])
def test_h01_a_form_of_elsewhere_signs_nobody_in(house, browser, forged):
    fields = hidden(browser.get(f"/signin/{HOME}")) | {"username": "Ann", "password": PASSWORD}
    headers = {}
    if forged == "no token":
        fields["transaction"] = ""
    elif forged == "another browser's":
        fields["transaction"] = hidden(house.browser().get(f"/signin/{HOME}"))["transaction"]
    else:
        headers["Origin"] = "https://evil.example"
    assert browser.post(f"/signin/{HOME}", fields, **headers).status == 403
    assert not is_in(browser)


def test_h14_a_link_signs_nobody_in(browser):
    query = urllib.parse.urlencode({"username": "Ann", "password": PASSWORD})
    assert browser.get(f"/signin/{HOME}?{query}").status == 200
    assert not is_in(browser)


def test_during_maintenance_nobody_signs_in(house):
    house.installation.environ["FEDGATE_PAGES_MAINTENANCE"] = "true"
    browser = house.browser(worker=house.worker())
    for path in ("/signin", f"/signin/{HOME}", "/root", f"/password?username=Ann&account={HOME}"):
        assert browser.get(path).status == 503
        assert browser.post(path, {"username": "Ann"}).status in (405, 503)


# --- what users and owners may take -----------------------------------------------------------------------------------


def test_a_user_takes_a_session_of_their_own(house, browser):
    sign_in(browser, "Ann")
    arn = f"arn:aws:iam::{HOME}:user/Ann"
    got = take(browser, arn, seconds="43200")
    assert house.installation.call("GetCallerIdentity", got).text("Arn") == arn
    refused(house.installation.call("ListUsers", got), 403, "InvalidClientTokenId")  # as GetSessionToken without MFA
    (found,) = house.records("GetSessionToken")
    assert found["userIdentity"]["arn"] == arn
    house.clock.advance(hours=12, seconds=1)
    refused(house.installation.call("GetCallerIdentity", got), 403, "ExpiredToken")


def test_an_owner_takes_an_hour_at_most(house, browser):
    house.owner()
    house.enrol(f"iam|{HOME}")
    sign_in_as_owner(house, browser)
    assert "up to 1 hour" in browser.get("/portal").body.decode()
    got = take(browser, f"arn:aws:iam::{HOME}:root", seconds="43200")
    assert house.installation.call("ListUsers", got).status == 200  # the session has its second factor
    house.clock.advance(minutes=59)
    assert house.installation.call("GetCallerIdentity", got).text("Arn") == f"arn:aws:iam::{HOME}:root"
    house.clock.advance(minutes=1, seconds=1)
    refused(house.installation.call("GetCallerIdentity", got), 403, "ExpiredToken")


@pytest.mark.parametrize("narrowed", [{"narrow": "read"}, {"narrow": "own", "policy": allow("s3:GetObject")}])
def test_a_session_of_one_s_own_cannot_be_narrowed_and_is_not_given_whole_instead(house, browser, narrowed):
    sign_in(browser, "Ann")
    answer = try_to_take(browser, f"arn:aws:iam::{HOME}:user/Ann", **narrowed)
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "ValidationError")
    assert house.records("GetSessionToken")[-1]["errorCode"] == "ValidationError"


ELSES = [f"arn:aws:iam::{HOME}:root", f"arn:aws:iam::{HOME}:user/Bob", f"arn:aws:iam::{AWAY}:root"]


@pytest.mark.parametrize("named", [*ELSES, "arn:aws:iam::aws:policy/x-of-twenty-signs"])
def test_nobody_else_s_session_is_given(house, browser, named):
    house.user("Bob")
    sign_in(browser, "Ann")
    assert try_to_take(browser, named).status == 403
    assert house.records("GetSessionToken") == []


ROLE = {"AWS": f"arn:aws:iam::{HOME}:user/Ann"}
MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
MFA_IF_THERE = {"BoolIfExists": {"aws:MultiFactorAuthPresent": "true"}}
ANOTHER = f"arn:aws:iam::{HOME}:role/another"
ANYBODY_HERE = {"StringEquals": {"aws:PrincipalAccount": HOME}}
# A role's trust policy, the user's own policy, and whether the role is there: "after": with a second factor.
TRUSTED = {
    "by name": (trust(ROLE), None, "open"),
    "by name, denied by the own policy": (trust(ROLE), deny("sts:AssumeRole"), "closed"),
    "by the account alone": (trust({"AWS": HOME}), None, "closed"),
    "by the account, with leave": (trust({"AWS": HOME}), allow("sts:AssumeRole"), "open"),
    "by the account, with leave for another": (trust({"AWS": HOME}), allow("sts:AssumeRole", ANOTHER), "closed"),
    "another user": (trust({"AWS": f"arn:aws:iam::{HOME}:user/Bob"}), allow("sts:AssumeRole"), "closed"),
    "everybody of the account": (trust("*", Condition=ANYBODY_HERE), allow("sts:AssumeRole"), "open"),
    "everybody of another": (trust("*", Condition={"StringEquals": {"aws:PrincipalAccount": AWAY}}),
                             allow("sts:AssumeRole"), "closed"),
    "with MFA": (trust(ROLE, Condition=MFA), None, "after"),
    "with MFA if there is any": (trust(ROLE, Condition=MFA_IF_THERE), None, "after"),
    "denied without MFA": (statements(trust(ROLE), json.dumps({"Version": "2012-10-17", "Statement": {
        "Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole",
        "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}})), None, "after"),
    "by the user's own name": (trust({"AWS": HOME}, Condition={"StringEquals": {"aws:username": "Ann"}}),
                               allow("sts:AssumeRole"), "open"),
}  # fmt: skip


@pytest.mark.parametrize("case", TRUSTED)
def test_a_user_takes_the_roles_that_the_api_would_give(house, browser, case):
    trusted, own, expected = TRUSTED[case]
    house.user("Bob")
    if own:
        house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="own", PolicyDocument=own)
    role = house.admin.role("r", trusted, allow("iam:ListRoles"))
    sign_in(browser, "Ann")
    answer = try_to_take(browser, role)
    if expected == "after":
        assert (answer.status, answer.headers["Location"].startswith("/mfa?to=")) == (303, True)
        house.enrol(f"iam|{house.user_id('Ann')}")
        assert give_code(house, browser, answer.headers["Location"]).status == 303
        answer = try_to_take(browser, role)
    assert answer.status == (403 if expected == "closed" else 200), answer.body
    listed = json.loads(browser.get("/portal", Accept="application/json").body)["roles"]
    assert (role in {one["role_arn"] for one in listed}) is (expected != "closed")


def test_a_role_of_another_account_takes_the_leave_of_both(house, browser):
    role = house.other.role("r", trust({"AWS": f"arn:aws:iam::{HOME}:user/Ann"}))
    sign_in(browser, "Ann")
    assert try_to_take(browser, role).status == 403
    house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="go", PolicyDocument=allow("sts:AssumeRole", role))
    got = take(browser, role)
    assert house.installation.call("GetCallerIdentity", got).text("Arn") == f"arn:aws:sts::{AWAY}:assumed-role/r/Ann"


def test_roles_of_an_account_that_the_own_policies_do_not_name_are_not_offered(house, browser):
    house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="go", PolicyDocument=allow("*"))
    bait = house.other.role("Administrator", trust({"AWS": "*"}))
    named = house.other.role("r", trust({"AWS": HOME}))
    sign_in(browser, "Ann")
    assert json.loads(browser.get("/portal", Accept="application/json").body)["roles"] == []
    house.admin.do("PutUserPolicy", UserName="Ann", PolicyName="r", PolicyDocument=allow("sts:AssumeRole", named))
    listed = json.loads(browser.get("/portal", Accept="application/json").body)["roles"]
    assert [one["role_arn"] for one in listed if one["role_arn"] != bait] == [named]


def test_an_owner_assumes_no_role(house, browser):
    house.owner()
    house.enrol(f"iam|{HOME}")
    role = house.admin.role("r", trust({"AWS": f"arn:aws:iam::{HOME}:root"}))
    sign_in_as_owner(house, browser)
    assert try_to_take(browser, role).status == 403
    assert json.loads(browser.get("/portal", Accept="application/json").body)["roles"] == []


def test_the_form_of_a_user_is_the_own_one(browser):
    sign_in(browser, "Ann")
    assert token(browser)
    answer = browser.post("/portal", {"roleIndex": f"arn:aws:iam::{HOME}:user/Ann", "form_token": "x" * 43})
    assert answer.status == 403
