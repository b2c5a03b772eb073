"""/password: what each directory and account says of a new password, and what becomes of everybody's browsers."""

import itertools
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from support.administrator import allow, deny
from support.directories import free_port, running_slapd
from support.signed_in_fixtures import (
    EMAIL,
    HOME,
    NEW,
    PASSWORD,
    SEED,
    give_code,
    hidden,
    house_in,
    is_in,
    reference,
    send,
    sign_in,
    sign_in_as_owner,
    sign_in_to_directory,
    take,
    told,
)

from broker.demo.people import BASE
from broker.providers.ldap.passwords import PasswordChangeResult, PasswordChangeStatus
from broker.providers.ldap.stable_ids import stable_id
from broker.signin.throttle import PER_NAME
from broker.web.account.password_change import change_message
from broker.web.account.password_rules import policy_violation_message
from iam.credentials import password_change, totp
from iam.credentials.password_hash import hash_password
from iam.credentials.password_policy import DefaultPasswordPolicy, PasswordPolicy, require_strong
from iam.errors import PasswordPolicyViolation

PEOPLE = f"ou=people,{BASE}"
OLD, NEXT = "old-and-well-known", "new-and-still-secret"
WRONG = "The user name or the current password is wrong."
NUMBERS = itertools.count()
POLICIES = {
    "graceful": {"pwdMaxAge": 1, "pwdGraceAuthNLimit": 5},
    "merciless": {"pwdMaxAge": 1},
    "resetting": {"pwdMustChange": "TRUE"},
    "picky": {"pwdMinLength": 12, "pwdMaxLength": 40, "pwdCheckQuality": 2, "pwdInHistory": 3},
    "patient": {"pwdMinAge": 86_400},
    "frozen": {"pwdAllowUserChange": "FALSE"},
    "locking": {"pwdLockout": "TRUE", "pwdMaxFailure": 1, "pwdLockoutDuration": 600},
}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    with running_slapd(tmp_path_factory.mktemp("slapd")) as directory:
        directory.modify(f"dn: ou=change,{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: change\n\n")
        for name, rules in POLICIES.items():
            lines = [f"dn: cn={name},ou=change,{BASE}", "changetype: add", "objectClass: device",
                     "objectClass: pwdPolicy", f"cn: {name}", "pwdAttribute: userPassword"]  # fmt: skip
            directory.modify("\n".join([*lines, *(f"{key}: {value}" for key, value in rules.items()), "\n"]))
        yield directory


@pytest.fixture
def hired(slapd):
    """Return what adds somebody to the directory, under a password policy, and returns the login name."""

    def hire(under=""):
        name = f"employee{next(NUMBERS)}"
        lines = [f"dn: uid={name},{PEOPLE}", "changetype: add", "objectClass: inetOrgPerson", "objectClass: person"]
        lines += [f"uid: {name}", f"cn: {name}", f"sn: {name}", f"userPassword: {OLD}"]
        lines += [f"pwdPolicySubentry: cn={under},ou=change,{BASE}"] if under else []
        slapd.modify("\n".join([*lines, "\n"]))
        if under == "resetting":
            slapd.modify(f"dn: uid={name},{PEOPLE}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n")
        return name

    return hire


@pytest.fixture
def houses(tmp_path, redis_url):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = []

    def build(*directories, **settings):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(house_in(folder, redis_url, *directories, **settings))
        return made[-1]

    yield build
    for house in made:
        house.close()


@pytest.fixture
def house(houses, slapd):
    return houses(slapd.config())


@pytest.fixture
def account(houses):
    """An installation without a directory, with a user."""
    made = houses()
    made.user("Ann")
    return made


def change(browser, username, old, new, repeated=None, *, code="", **named):
    """Send the form of somebody who came by a link."""
    query = "&".join(f"{name}={value}" for name, value in {"username": username, **named}.items())
    fields = {"username": username, "old": old, "new": new, "repeated": new if repeated is None else repeated}
    return send(browser, f"/password?{query}", fields | ({"code": code} if code else {}))


def change_here(browser, **fields):
    """Send the form that the page gives to whoever is signed in."""
    page = browser.get("/password")
    assert page.status == 200, page.body.decode()
    return browser.post("/password", hidden(page) | fields)


# --- people of a directory --------------------------------------------------------------------------------------------


def test_a_directory_s_password_is_changed_by_whoever_is_signed_in(house, hired):
    name, browser, elsewhere = hired(), house.browser(), house.browser()
    for one in (browser, elsewhere):
        assert sign_in_to_directory(one, name, OLD).status == 303
    before = browser.cookies["fedgate-session"]
    answer = change_here(browser, username=name, old=OLD, new=NEXT, repeated=NEXT)
    assert (answer.status, answer.headers["Location"]) == (303, "/security")
    assert is_in(browser)
    assert not is_in(elsewhere)
    assert browser.cookies["fedgate-session"] != before  # H02
    stale = house.browser()
    stale.cookies["fedgate-session"] = before
    assert not is_in(stale)
    assert sign_in_to_directory(house.browser(), name, OLD).status == 401
    assert sign_in_to_directory(house.browser(), name, NEXT).status == 303


def test_who_knows_the_old_password_and_has_still_to_enrol_a_factor_begins_anew(houses, slapd, hired):
    house, name = houses(slapd.config(), FEDGATE_PAGES_SECOND_FACTOR="corp"), hired()
    thief, owner = house.browser("192.0.2.7"), house.browser()
    assert sign_in_to_directory(thief, name, OLD).headers["Location"] == "/mfa/enrol"
    assert thief.get("/mfa/enrol").status == 200
    assert change(owner, name, OLD, NEXT, directory="corp").headers["Location"] == "/mfa/enrol"
    assert thief.get("/mfa/enrol").status == 401
    assert owner.get("/mfa/enrol").status == 200


@pytest.mark.parametrize("under", ["graceful", "resetting"])
def test_whoever_must_change_the_password_is_led_here_and_then_signed_in(house, hired, under):
    name, browser = hired(under), house.browser()
    if under == "resetting":
        answer = sign_in_to_directory(browser, name, OLD, to="/sessions")
        assert answer.headers["Location"].startswith("/password?")
        changed = send(
            browser, answer.headers["Location"], {"username": name, "old": OLD, "new": NEXT, "repeated": NEXT}
        )
    else:
        changed = change(browser, name, OLD, NEXT, directory="corp", to="/sessions")
    assert (changed.status, changed.headers["Location"]) == (303, "/sessions")
    assert is_in(browser)


OUTCOMES = {
    "too short": ("picky", "short", 400, "The new password is too short."),
    "too long": ("picky", "x" * 41, 400, "The new password is too long."),
    "cannot be judged": ("picky", "{SSHA}cannot-be-judged", 400, "The new password is too weak."),
    "too young": ("patient", NEXT, 400, "Your password was changed too recently. Try again later."),
    "not by its owner": ("frozen", NEXT, 403, "This password cannot be changed here. Contact your help desk."),
    "the same": ("", OLD, 400, "You have used this password before. Choose another one."),
    "empty": ("", "", 400, "This password is not allowed. Choose another one."),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_the_directory_says_is_told_in_a_sentence(house, hired, case):
    under, new, status, text = OUTCOMES[case]
    name, browser = hired(under), house.browser()
    answer = change(browser, name, OLD, new, directory="corp")
    assert (answer.status, told(answer)) == (status, text)
    (found,) = [one for one in house.records() if one["requestID"].startswith(reference(answer))]
    assert (found["eventName"], found["responseElements"]) == ("ChangePassword", {"ChangePassword": "Failure"})
    assert found["userIdentity"] == {"type": "DirectoryUser", "userName": name, "identityProvider": "corp"}
    assert found["requestParameters"] == {"directory": "corp"}
    assert sign_in_to_directory(house.browser(), name, OLD).status == 303


def test_a_password_from_the_history_is_told(house, hired):
    name = hired("picky")
    assert change(house.browser(), name, OLD, NEXT, directory="corp").status == 303
    answer = change(house.browser(), name, NEXT, OLD, directory="corp")
    assert (answer.status, told(answer)) == (400, "You have used this password before. Choose another one.")


def test_an_expired_password_without_grace_cannot_be_changed_and_only_its_owner_hears_so(house, hired):
    name = hired("merciless")
    deadline = threading.Event()
    deadline.wait(2.1)  # the password's second of life, and that in which it ends
    answer = change(house.browser(), name, OLD, NEXT, directory="corp")
    assert (answer.status, told(answer)) == (403, "This password cannot be changed here. Contact your help desk.")
    wrong = change(house.browser(), name, "wrong", NEXT, directory="corp")
    assert (wrong.status, told(wrong)) == (401, WRONG)


def test_every_outcome_has_a_sentence_of_its_own_and_a_status():
    answers = {
        one: change_message(PasswordChangeResult(one))
        for one in PasswordChangeStatus
        if one is not PasswordChangeStatus.CHANGED
    }
    assert all(answer.text.endswith(".") and answer.code >= 400 for answer in answers.values())
    assert answers[PasswordChangeStatus.REFUSED].text == WRONG
    assert answers[PasswordChangeStatus.UNKNOWN].code == 503


@pytest.mark.parametrize("username", ["nobody", "twin", "*", "locked out"])
def test_who_proves_nothing_gets_the_answer_to_a_wrong_password(house, hired, username):
    name = hired("locking") if username == "locked out" else username
    if username == "locked out":
        sign_in_to_directory(house.browser("192.0.2.77"), name, "wrong")
    answer = change(house.browser(), name, OLD, NEXT, directory="corp")
    assert (answer.status, told(answer)) == (401, WRONG)
    (found,) = [one for one in house.records() if one["requestID"].startswith(reference(answer))]
    hides = username in ("nobody", "*")
    assert (found["userIdentity"]["userName"] == "HIDDEN_DUE_TO_SECURITY_REASONS") is hides


def test_wrong_old_passwords_count_with_wrong_sign_ins_and_lock(house, hired):
    name, browser = hired(), house.browser("192.0.2.1")
    for number in range(PER_NAME - 1):
        assert change(browser, name, f"wrong-{number}", NEXT, directory="corp").status == 401
    assert sign_in_to_directory(browser, name, "wrong-again").status == 401
    locked = change(browser, name, OLD, NEXT, directory="corp")
    assert (locked.status, told(locked)) == (429, "Too many attempts. Try again in 15 minutes.")
    assert int(locked.headers["Retry-After"]) > 800
    assert sign_in_to_directory(browser, name, OLD).status == 429
    assert change(house.browser("192.0.2.2"), name, OLD, NEXT, directory="corp").status == 303


def test_a_directory_that_is_away_changes_nothing_and_counts_nothing(houses, slapd):
    house = houses(slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",), connect_timeout=0.4))
    for _ in range(PER_NAME + 1):
        answer = change(house.browser(), "alice", OLD, NEXT, directory="corp")
        assert (answer.status, told(answer)) == (503, "The directory is not responding. Try again later.")
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("elsewhere", ["", "https://id.corp.example/password"])
def test_where_passwords_are_not_changed_here_there_is_no_form(houses, slapd, hired, elsewhere):
    more = {"password_change_url": elsewhere} if elsewhere else {"password_change": False}
    house, name = houses(slapd.config(**more)), hired()
    browser = house.browser()
    sign_in_to_directory(browser, name, OLD)
    page = browser.get("/password").body.decode()
    assert 'name="old"' not in page
    text = (
        "Passwords of this directory are changed here." if elsewhere else "Passwords of this directory are not changed"
    )
    assert text in page
    assert elsewhere in page
    fields = hidden(browser.get(f"/signin/{HOME}")) | {"directory": "corp", "username": name, "old": OLD, "new": NEXT,
                                                       "repeated": NEXT}  # fmt: skip
    assert browser.post("/password", fields).status == 403
    assert sign_in_to_directory(house.browser(), name, OLD).status == 303


def test_a_directory_that_is_not_there_is_none(house):
    assert change(house.browser(), "alice", OLD, NEXT, directory="other").status == 403


def test_no_password_of_a_directory_is_kept_anywhere(house, hired, caplog):
    caplog.set_level("DEBUG")
    name = hired("picky")
    for old, new in ((OLD, "tiny"), ("wr0ng-one", NEXT), (OLD, NEXT)):
        change(house.browser(), name, old, new, directory="corp")
    kept = house.files() + caplog.text.encode()
    assert not any(secret.encode() in kept for secret in (OLD, NEXT, "wr0ng-one"))


# --- users ------------------------------------------------------------------------------------------------------------


def test_a_user_s_password_is_changed_where_the_account_lets_its_users(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    browser, elsewhere = account.browser(), account.browser()
    for one in (browser, elsewhere):
        sign_in(one, "Ann")
    account.clock.advance(seconds=1)
    answer = change_here(browser, username="Ann", old=PASSWORD, new=NEW, repeated=NEW)
    assert (answer.status, answer.headers["Location"]) == (303, "/security")
    assert is_in(browser)
    assert not is_in(elsewhere)
    assert sign_in(account.browser(), "Ann").status == 401
    assert sign_in(account.browser(), "Ann", NEW).status == 303
    (found,) = account.records("ChangePassword")
    assert found["userIdentity"]["userName"] == "Ann"
    assert (found["recipientAccountId"], found["requestParameters"]) == (HOME, {"account": HOME})


# As AWS's documentation makes users set up a second factor first.
ALL_BUT_THAT = json.dumps({"Version": "2012-10-17", "Statement": {
    "Effect": "Deny", "NotAction": "iam:ChangePassword", "Resource": "*",
    "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}})  # fmt: skip
LEAVES = {
    "none": ([], 403),
    "a policy": ([allow("iam:ChangePassword")], 303),
    "on oneself": ([allow("iam:ChangePassword", f"arn:aws:iam::{HOME}:user/${{aws:username}}")], 303),
    "on another": ([allow("iam:ChangePassword", f"arn:aws:iam::{HOME}:user/Bob")], 403),
    "a policy and a deny": ([allow("iam:*"), deny("iam:ChangePassword")], 403),
    "from here": ([allow("iam:*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}})], 303),
    "from elsewhere": ([allow("iam:*", Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}})], 403),
    "with MFA": ([allow("iam:*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})], 403),
    "all but that without MFA": ([allow("iam:*"), ALL_BUT_THAT], 303),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAVES)
def test_a_user_needs_the_leave_for_it(account, case):
    policies, status = LEAVES[case]
    for number, policy in enumerate(policies):
        account.admin.do("PutUserPolicy", UserName="Ann", PolicyName=f"own{number}", PolicyDocument=policy)
    browser = account.browser()
    sign_in(browser, "Ann")
    answer = change_here(browser, username="Ann", old=PASSWORD, new=NEW, repeated=NEW)
    assert answer.status == status, told(answer)
    if status == 403:
        assert told(answer) == "This account does not allow users to change their own passwords."
        assert sign_in(account.browser(), "Ann").status == 303


def test_a_deny_wins_over_the_account_s_leave(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    account.admin.do("PutUserPolicy", UserName="Ann", PolicyName="no", PolicyDocument=deny("iam:ChangePassword"))
    assert change(account.browser(), "Ann", PASSWORD, NEW, account=HOME).status == 403


def test_a_second_factor_that_was_given_counts_and_stays(account):
    needs = allow("iam:*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    account.admin.do("PutUserPolicy", UserName="Ann", PolicyName="own", PolicyDocument=needs)
    account.enrol(f"iam|{account.user_id('Ann')}")
    browser = account.browser()
    sign_in(browser, "Ann")
    assert give_code(account, browser).status == 303
    answer = change_here(browser, username="Ann", old=PASSWORD, new=NEW, repeated=NEW)
    assert (answer.status, answer.headers["Location"]) == (303, "/security")
    got = take(browser, f"arn:aws:iam::{HOME}:user/Ann")
    assert account.installation.call("ListUsers", got).status == 200  # as a session with MFA may


def test_the_password_alone_does_not_change_the_password_of_somebody_with_a_second_factor(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    account.enrol(f"iam|{account.user_id('Ann')}")
    browser = account.browser()
    refused = change(browser, "Ann", PASSWORD, NEW, account=HOME)
    assert (refused.status, b'name="code"' in refused.body) == (403, True)
    wrong = change(browser, "Ann", PASSWORD, NEW, account=HOME, code="000000")
    assert told(wrong) == "This code is wrong or was already used."
    assert sign_in(account.browser(), "Ann", PASSWORD).headers["Location"] == "/mfa"
    code = totp.code_at(SEED, totp.step_at(account.clock()))
    answer = change(browser, "Ann", PASSWORD, NEW, account=HOME, code=code)
    assert (answer.status, answer.headers["Location"]) == (303, "/mfa")
    assert not is_in(browser)
    assert sign_in(account.browser(), "Ann", NEW).headers["Location"] == "/mfa"


def test_an_old_second_factor_is_given_again_before_the_password_is_changed(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    account.enrol(f"iam|{account.user_id('Ann')}")
    browser = account.browser()
    sign_in(browser, "Ann")
    assert give_code(account, browser).status == 303
    account.clock.advance(minutes=6)
    assert browser.get("/password").headers["Location"] == "/mfa?to=%2Fpassword"
    assert change(browser, "Ann", PASSWORD, NEW, account=HOME).status == 403
    assert give_code(account, browser, "/mfa?to=/password").headers["Location"] == "/password"
    answer = change_here(browser, username="Ann", old=PASSWORD, new=NEW, repeated=NEW)
    assert (answer.status, answer.headers["Location"]) == (303, "/security")


@pytest.mark.parametrize("under", ["", "graceful", "resetting"])
def test_the_password_alone_does_not_change_a_directory_s_password_either(house, hired, under):
    name, browser = hired(under) if under else hired(), house.browser()
    found = house.installation.services.sign_ins.ldap.providers["corp"]._find_entry_by_name(name)
    person = f"ldap-provider/corp|{stable_id(found, '')}"
    house.enrol(person)
    refused = change(browser, name, OLD, NEXT, directory="corp")
    assert (refused.status, b'name="code"' in refused.body) == (403, True)
    assert change(browser, name, "not-the-one", NEXT, directory="corp", code="000000").status == 401
    code = totp.code_at(SEED, totp.step_at(house.clock()))
    answer = change(browser, name, OLD, NEXT, directory="corp", code=code)
    assert (answer.status, answer.headers["Location"]) == (303, "/mfa")


def test_a_deny_of_changing_the_password_holds_where_it_must_be_changed(account):
    account.admin.do("UpdateLoginProfile", UserName="Ann", PasswordResetRequired="true")
    account.admin.do("PutUserPolicy", UserName="Ann", PolicyName="no", PolicyDocument=deny("iam:ChangePassword"))
    assert change(account.browser(), "Ann", PASSWORD, NEW, account=HOME).status == 403
    account.admin.do("DeleteUserPolicy", UserName="Ann", PolicyName="no")
    assert change(account.browser(), "Ann", PASSWORD, NEW, account=HOME).status == 303


def test_somebody_else_s_session_lends_nothing_to_whoever_changes_a_password(account):
    account.user("Bob", allow("iam:*"))
    browser = account.browser()
    sign_in(browser, "Bob")
    refused = change(browser, "Ann", PASSWORD, NEW, account=HOME)
    assert refused.status == 403
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    assert change(browser, "Ann", PASSWORD, NEW, account=HOME).status == 303
    assert [one["userIdentity"]["userName"] for one in account.records("ChangePassword")] == ["Ann", "Ann"]
    assert ">Ann</strong>" in browser.get("/portal").body.decode()


RULES = {
    "short": ({"MinimumPasswordLength": 14}, "Ab1!", "The new password must be at least 14 characters long."),
    "no capital": (
        {"RequireUppercaseCharacters": "true"},
        "abc-def-1",
        "The new password must contain an uppercase letter.",
    ),
    "no small one": (
        {"RequireLowercaseCharacters": "true"},
        "ABC-DEF-1",
        "The new password must contain a lowercase letter.",
    ),
    "no digit": ({"RequireNumbers": "true"}, "abc-DEF-x", "The new password must contain a digit."),
    "no sign": ({"RequireSymbols": "true"}, "abcDEF123", "The new password must contain a symbol such as ! or #."),
    "common": ({}, "Password-123", "The new password is too common. Choose another one."),
    "used": ({"PasswordReusePrevention": 3}, PASSWORD, "You have used this password before. Choose another one."),
}


@pytest.mark.parametrize("case", RULES)
def test_the_account_s_rules_are_told_in_sentences(account, case):
    rules, new, text = RULES[case]
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true", **rules)
    answer = change(account.browser(), "Ann", PASSWORD, new, account=HOME)
    assert (answer.status, told(answer)) == (400, text)
    assert reference(answer)
    wrong = change(account.browser(), "Ann", "not it", new, account=HOME)
    assert (wrong.status, told(wrong)) == (401, WRONG), "the rules are told to the owner alone"


@given(st.builds(PasswordPolicy, st.integers(1, 128), *[st.booleans()] * 4) | st.builds(DefaultPasswordPolicy),
       st.text(max_size=20))  # fmt: skip
def test_whatever_a_policy_objects_to_has_a_sentence_of_the_page(policy, password):
    try:
        require_strong(policy, password, ("ann", None))
    except PasswordPolicyViolation as error:
        assert policy_violation_message(error.message).startswith("The new password ")  # noqa: PT017 - one of two ends


@pytest.mark.parametrize("repeated", ["", "another one", NEW + " "])
def test_new_passwords_that_differ_are_neither_tried_nor_counted(account, repeated):
    browser = account.browser()
    for _ in range(PER_NAME + 1):
        answer = change(browser, "Ann", "wrong", NEW, repeated, account=HOME)
        assert (answer.status, told(answer)) == (400, "The new passwords do not match.")
    assert sign_in(browser, "Ann").status == 303


def test_wrong_old_passwords_of_a_user_count_with_wrong_sign_ins_and_lock(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    browser = account.browser("192.0.2.1")
    for number in range(PER_NAME):
        assert change(browser, "Ann", f"wrong-{number}", NEW, account=HOME).status == 401
    assert change(browser, "Ann", PASSWORD, NEW, account=HOME).status == 429
    assert sign_in(browser, "Ann").status == 429
    assert account.records("ConsoleLogin")[-1]["errorCode"] == "Throttling"


def test_unknown_users_and_accounts_get_the_answer_to_a_wrong_password(account):
    for number, (username, named) in enumerate([("nobody", HOME), ("Ann", "nowhere"), ("nobody@x.example", "")]):
        answer = change(account.browser(f"192.0.2.{number}"), username, PASSWORD, NEW, account=named)
        assert (answer.status, told(answer)) == (401, WRONG)


def test_of_two_changes_at_once_one_is_made(account):
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true")
    with account.installation.store.read() as tx:
        present = password_change.of_user(tx, HOME, account.user_id("Ann"), account.clock())
    made = [
        hash_password(new, account.installation.services.api.gate.random)
        for new in ("First of two, 1", "Second of two, 2")
    ]
    written = []
    for new in made:
        with account.installation.store.write() as tx:
            written.append(password_change.write(tx, present, new, account.clock()))
    assert written == [True, False]
    assert sign_in(account.browser(), "Ann", "First of two, 1").status == 303


def test_no_password_of_a_user_is_kept_anywhere(account, caplog):
    caplog.set_level("DEBUG")
    account.admin.do("UpdateAccountPasswordPolicy", AllowUsersToChangePassword="true", MinimumPasswordLength=12)
    for old, new in ((PASSWORD, "tiny"), ("wr0ng-one", NEW), (PASSWORD, NEW)):
        change(account.browser(), "Ann", old, new, account=HOME)
    kept = account.files() + caplog.text.encode()
    assert not any(secret.encode() in kept for secret in (PASSWORD, NEW, "wr0ng-one"))


# --- owners, and people of elsewhere ----------------------------------------------------------------------------------


def test_an_owner_changes_the_password_and_stays_in_with_the_second_factor(account):
    account.owner()
    account.enrol(f"iam|{HOME}")
    browser, elsewhere = account.browser(), account.browser()
    for one in (browser, elsewhere):
        sign_in_as_owner(account, one)
    same = change_here(browser, username=EMAIL, old=PASSWORD, new=PASSWORD, repeated=PASSWORD)
    assert (same.status, told(same)) == (400, "This is your current password. Choose another one.")
    named = change_here(browser, username=EMAIL, old=PASSWORD, new=EMAIL, repeated=EMAIL)
    assert (named.status, told(named).startswith("The new password must contain three of these:")) == (400, True)
    answer = change_here(browser, username=EMAIL, old=PASSWORD, new=NEW, repeated=NEW)
    assert (answer.status, answer.headers["Location"]) == (303, "/security")
    assert is_in(browser)
    assert not is_in(elsewhere)
    assert sign_in(account.browser(), EMAIL, account="").status == 401
    assert sign_in(account.browser(), EMAIL, NEW, account="").headers["Location"] == "/mfa"
    done = account.records("ChangePassword")[-1]
    assert (done["userIdentity"]["type"], done["recipientAccountId"]) == ("Root", HOME)


def test_a_change_and_its_record_are_in_the_database_together(account):
    account.owner()
    account.enrol(f"iam|{HOME}")
    browser = account.browser()
    sign_in_as_owner(account, browser)
    change_here(browser, username=EMAIL, old=PASSWORD, new=NEW, repeated=NEW)
    with account.installation.store.read() as tx:
        kept = tx.exec_driver_sql("SELECT record FROM audit_record").scalars().all()
    assert any('"eventName":"ChangePassword"' in one for one in kept)


def test_whoever_is_not_signed_in_and_comes_by_no_link_signs_in_first(account):
    assert account.browser().get("/password").status == 401


def test_the_form_is_the_browser_s_own(account):
    fields = hidden(account.browser().get(f"/password?username=Ann&account={HOME}"))
    mine = account.browser()
    mine.get(f"/password?username=Ann&account={HOME}")
    more = {"username": "Ann", "old": PASSWORD, "new": NEW, "repeated": NEW}
    assert mine.post("/password", fields | more).status == 403
    assert mine.get(f"/password?username=Ann&account={HOME}&new={NEW}").status == 200
