"""AssumeRoleWithLDAPIdentity: from a directory's password to a role's credentials, over a real slapd and the demo."""

import base64
import json
import os
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from support.administrator import Administrator, allow, assume, deny_trust, refused, statements, trust
from support.directories import (
    HostileServer,
    RunningDirectory,
    as_toml,
    demo_ldif,
    free_port,
    running_demo_directory,
    running_slapd,
)
from support.installation import FORM, Answer, Clock, Installation, environment
from support.servers import HANG, eventually

from broker.audit import log as audit_log
from broker.demo.people import BASE, LDIF, service_password
from broker.providers.ldap.config import LdapConfig
from broker.signin.throttle import PER_NAME, PER_NAME_EVERYWHERE, PER_SOURCE
from iam.store.revocation import revoke

ACTION = "AssumeRoleWithLDAPIdentity"
ALICE, BOB, CAROL, FRANK = "wonderland-1865", "builder-can-we-fix-it", "ledger-balances-42", "first-day-at-work"
REJECTED = "The identity provider did not accept the user name or the password."
NOT_ADMITTED = "Not authorized to perform sts:AssumeRoleWithLDAPIdentity"
ENGINEERING = f"cn=engineering,ou=groups,{BASE}"


@dataclass
class Desk:
    """An installation with directories, and an account in it."""

    installation: Installation
    admin: Administrator
    clock: Clock

    def trusts(self, directory: str = "corp", **more: object) -> str:
        return trust({"Federated": self.admin.arn("ldap-provider", directory)}, [f"sts:{ACTION}"], **more)

    def role(self, name: str, policy: str = "", directory: str = "corp", **condition: object) -> str:
        more = {"Condition": condition} if condition else {}
        return self.admin.role(name, self.trusts(directory, **more), *([policy] if policy else []))

    def sign_in(self, username: str, password: str, peer: str = "127.0.0.1", **more: object) -> Answer:
        return self.installation.call(ACTION, None, peer=peer, LDAPUsername=username, LDAPPassword=password, **more)

    def reasons(self) -> list[str]:
        """Why the directory refused sign-ins."""
        asked = [record for record in self.records() if record["eventName"] == "DirectorySignIn"]
        return [record["additionalEventData"]["reason"] for record in asked if "errorCode" in record]

    def records(self, request_id: str | None = None) -> list[dict]:
        found = audit_log.read_last_records(self.installation.settings.audit_dir, 1000)
        return [one for one in found if request_id in (None, one["requestID"])]


Desks = Callable[..., Desk]


@pytest.fixture
def desks(tmp_path: Path, redis_url: str, clock: Clock) -> Iterator[Desks]:
    """Makes desks over the directories that a test names, each in a folder of its own."""
    made: list[Desk] = []

    def open_desk(*configs: LdapConfig, **settings: str) -> Desk:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        file = folder / "fedgate.toml"
        file.write_text("".join(as_toml(config) for config in configs))
        environ = environment(folder, redis_url, FEDGATE_CONFIG=str(file), **settings)
        installation = Installation(folder, environ, clock)
        made.append(Desk(installation, Administrator.of_a_new_account(installation), clock))
        return made[-1]

    yield open_desk
    for desk in made:
        close(desk.installation)


def close(installation: Installation) -> None:
    for provider in installation.services.sign_ins.ldap.providers.values():
        provider.close()
    installation.close()


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    with running_slapd(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    with running_demo_directory(demo_ldif(tmp_path_factory.mktemp("demo"))) as url:
        yield RunningDirectory(url, f"ou=people,{BASE}", service_password(LDIF))


@pytest.fixture
def desk(desks: Desks, slapd: RunningDirectory) -> Desk:
    return desks(slapd.config())


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["slapd", "demo"])
def test_a_directory_password_becomes_credentials_of_a_role_that_trusts_the_directory(desks, request, kind):
    desk = desks(request.getfixturevalue(kind).config())
    role = desk.role("r", allow("iam:ListUsers"), StringEquals={"ldap:groups": ENGINEERING})
    answer = desk.sign_in("alice", ALICE, RoleArn=role)
    assert answer.status == 200, answer.message
    arn = f"arn:aws:sts::{desk.admin.account_id}:assumed-role/r/alice"
    assert (answer.text("Arn"), answer.text("Provider")) == (arn, desk.admin.arn("ldap-provider", "corp"))
    told = desk.installation.call("GetCallerIdentity", answer.credentials)
    assert told.text("Arn") == arn
    assert desk.installation.call("ListUsers", answer.credentials).status == 200
    refused(desk.installation.call("ListRoles", answer.credentials), 403, "AccessDenied")


def test_the_subject_of_the_answer_is_the_directory_s_stable_id(desks, demo):
    desk = desks(demo.config())
    answer = desk.sign_in("ALICE", ALICE, RoleArn=desk.role("r"))
    assert answer.text("Subject") == "3d1f6d0c-6a0e-4a9b-8c55-0f6b7f1b0a01"


CONDITIONS = {
    "a group": {"StringEquals": {"ldap:groups": ENGINEERING}},
    "one of several groups": {"ForAnyValue:StringEquals": {"ldap:groups": [f"cn=none,ou=groups,{BASE}", ENGINEERING]}},
    "a group by a pattern": {"ForAnyValue:StringLike": {"ldap:groups": "cn=eng*,ou=groups,*"}},
    "the short name of a group": {"ForAnyValue:StringEquals": {"ldap:group-names": "engineering"}},
    "the login name": {"StringEquals": {"ldap:username": ["alice", "bob"]}},
    "an attribute": {"StringEquals": {"ldap:departmentNumber": "engineering"}},
    "an attribute by a pattern, its name in another case": {"StringLike": {"ldap:MAIL": ["a*@corp.example", "b*@*"]}},
    "the session name": {"StringEquals": {"sts:RoleSessionName": ["alice", "bob"]}},
    "the address": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}, "StringLike": {"ldap:username": ["alice", "bob"]}},
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_trust_policy_decides_by_what_the_directory_says_of_a_person(desk, case):
    role = desk.role("r", **CONDITIONS[case])
    for username, password in (("alice", ALICE), ("bob", BOB)):
        answer = desk.sign_in(username, password, RoleArn=role)
        assert answer.status == 200, answer.message
    refused(desk.sign_in("carol", CAROL, RoleArn=role), 403, "AccessDenied", NOT_ADMITTED)


def test_the_stable_id_is_a_condition_key(desks, demo):
    desk = desks(demo.config())
    role = desk.role("r", StringEquals={"ldap:sub": "3d1f6d0c-6a0e-4a9b-8c55-0f6b7f1b0a01"})
    assert desk.sign_in("alice", ALICE, RoleArn=role).status == 200
    refused(desk.sign_in("bob", BOB, RoleArn=role), 403, "AccessDenied")


def test_nested_groups_count_where_the_directory_is_asked_for_them(desks, slapd):
    staff = {"ForAnyValue:StringEquals": {"ldap:group-names": "staff"}}
    flat = desks(slapd.config())
    refused(flat.sign_in("alice", ALICE, RoleArn=flat.role("flat", **staff)), 403, "AccessDenied")
    nested = desks(slapd.config(nested_groups=True))
    assert nested.sign_in("alice", ALICE, RoleArn=nested.role("nested", **staff)).status == 200


def test_a_deny_in_the_trust_policy_wins(desk):
    me = {"Federated": desk.admin.arn("ldap-provider", "corp")}
    contractors = {"ForAnyValue:StringEquals": {"ldap:group-names": "engineering"}}
    denied = deny_trust(me, f"sts:{ACTION}", Condition=contractors)
    role = desk.admin.role("r", statements(desk.trusts(), denied))
    assert desk.sign_in("carol", CAROL, RoleArn=role).status == 200
    refused(desk.sign_in("alice", ALICE, RoleArn=role), 403, "AccessDenied", NOT_ADMITTED)


def test_an_unknown_role_and_one_that_does_not_admit_are_refused_in_the_same_words(desk):
    closed = desk.role("closed", StringEquals={"ldap:username": "nobody"})
    other_provider = desk.role("other", directory="elsewhere")
    answers = [
        desk.sign_in("alice", ALICE, RoleArn=arn)
        for arn in (closed, other_provider, desk.admin.role("account"), desk.admin.arn("role", "unknown"))
    ]
    for answer in answers:
        refused(answer, 403, "AccessDenied", NOT_ADMITTED)
    assert len({(answer.message, len(answer.body)) for answer in answers}) == 1


def test_everybody_is_not_whoever_a_directory_names(desk):
    role = desk.admin.role("r", trust("*", [f"sts:{ACTION}", "sts:AssumeRole"]))
    refused(desk.sign_in("alice", ALICE, RoleArn=role), 403, "AccessDenied", NOT_ADMITTED)


def test_the_directory_of_another_account_s_name_is_another_directory(desk):
    other = Administrator.of_a_new_account(desk.installation)
    principal = {"Federated": other.arn("ldap-provider", "corp")}
    role = desk.admin.role("r", trust(principal, f"sts:{ACTION}"))
    refused(desk.sign_in("alice", ALICE, RoleArn=role), 403, "AccessDenied")


def test_session_name_policy_and_tags_come_along(desk):
    actions = [f"sts:{ACTION}", "sts:TagSession"]
    me = {"Federated": desk.admin.arn("ldap-provider", "corp")}
    reds = allow("iam:List*", Condition={"StringEquals": {"aws:PrincipalTag/team": "red"}})
    role = desk.admin.role("r", trust(me, actions), reds)
    label = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"}
    answer = desk.sign_in("alice", ALICE, RoleArn=role, Policy=allow("iam:ListUsers"), DurationSeconds=900, **label)
    assert int(answer.text("PackedPolicySize")) > 0
    assert desk.installation.call("ListUsers", answer.credentials).status == 200
    refused(desk.installation.call("ListRoles", answer.credentials), 403, "AccessDenied", "session policy")
    desk.clock.advance(seconds=901)
    refused(desk.installation.call("ListUsers", answer.credentials), 403, "ExpiredToken")
    untagged = desk.role("untagged")
    refused(desk.sign_in("alice", ALICE, RoleArn=untagged, **label), 403, "AccessDenied", "sts:TagSession")


def test_a_login_name_that_is_no_session_name_becomes_one_of_this_person_alone(desk):
    role = desk.role("r", allow("iam:ListUsers"))
    answer = desk.sign_in("jürgen", "paßwörter sind schön", RoleArn=role)
    name = answer.text("Arn").rpartition("/")[2]
    assert re.fullmatch("j-rgen-[0-9a-f]{20}", name)
    assert answer.text("AssumedRoleId").endswith(f":{name}")
    assert desk.installation.call("GetCallerIdentity", answer.credentials).text("Arn") == answer.text("Arn")


def test_directory_people_chain_and_keep_their_person(desk, clock):
    second = desk.admin.role("second", None, allow("iam:ListUsers"))
    first = desk.role("first", allow("sts:AssumeRole"))
    session = desk.sign_in("alice", ALICE, RoleArn=first)
    assert assume(desk.installation, session.credentials, second).status == 200

    def both() -> list[str]:
        live = desk.installation.services.storage.live_sessions.list_live(
            desk.admin.account_id, int(clock().timestamp() * 1000)
        )
        people = [one.person for one in live]
        return people if len(people) == 2 else []

    assert eventually(both) == [f"ldap-provider/corp|{session.text('Subject')}"] * 2


def test_the_revocation_of_a_person_ends_every_session_of_that_person_and_of_nobody_else(desk, clock):
    role = desk.role("r")
    alice, bob = (desk.sign_in(name, password, RoleArn=role) for name, password in (("alice", ALICE), ("bob", BOB)))
    now_ms = int(clock().timestamp() * 1000)
    with desk.installation.store.write() as tx:
        revoke(tx, "person", f"ldap-provider/corp|{alice.text('Subject')}", now_ms=now_ms, random=os.urandom)
    refused(desk.installation.call("GetCallerIdentity", alice.credentials), 403, "InvalidClientTokenId")
    assert desk.installation.call("GetCallerIdentity", bob.credentials).status == 200
    clock.advance(seconds=1)
    again = desk.sign_in("alice", ALICE, RoleArn=role).credentials
    assert desk.installation.call("GetCallerIdentity", again).status == 200


# --- without a role --------------------------------------------------------------------------------------------------


def test_without_a_role_the_only_one_that_admits_is_taken(desk):
    desk.role("finance", StringEquals={"ldap:groups": f"cn=finance,ou=groups,{BASE}"})
    desk.role("engineering", StringEquals={"ldap:groups": ENGINEERING})
    assert "assumed-role/engineering/alice" in desk.sign_in("alice", ALICE).text("Arn")
    assert "assumed-role/finance/carol" in desk.sign_in("carol", CAROL).text("Arn")


def test_without_a_role_somebody_whom_none_admits_is_told_just_that(desk):
    desk.role("engineering", StringEquals={"ldap:groups": ENGINEERING})
    refused(desk.sign_in("frank", FRANK), 403, "AccessDenied", NOT_ADMITTED)


def test_without_a_role_the_roles_of_the_directory_s_accounts_are_looked_at_and_several_are_listed(desks, slapd):
    shared = ("111122223333", "210987654321")
    desk = desks(slapd.config(accounts=shared))
    ours, other, tenant = (Administrator.of_a_new_account(desk.installation, one) for one in (*shared, "000000000007"))

    def role(admin, name, **condition):
        return admin.role(name, trust({"Federated": admin.arn("ldap-provider", "corp")}, f"sts:{ACTION}", **condition))

    captured, there = role(tenant, "captured"), role(other, "there")
    assert desk.sign_in("alice", ALICE).text("Arn").startswith(f"arn:aws:sts::{other.account_id}:")
    here = role(ours, "here", Condition={"StringEquals": {"ldap:username": "alice"}})
    hidden = role(ours, "hidden", Condition={"StringEquals": {"ldap:username": "bob"}})
    answer = desk.sign_in("alice", ALICE)
    refused(answer, 400, "ValidationError", ", ".join(sorted([here, there])))
    assert hidden not in answer.message
    assert captured not in answer.message
    refused(desk.sign_in("alice", ALICE, RoleArn=captured), 403, "AccessDenied", NOT_ADMITTED)
    # Only who has proved who he is learns of roles.
    refused(desk.sign_in("alice", "wrong"), 403, "IDPRejectedClaim", REJECTED)


def test_while_no_accounts_are_set_the_choice_is_among_roles_of_the_first_account(desk):
    other = Administrator.of_a_new_account(desk.installation, "000000000007")
    there = other.role("there", trust({"Federated": other.arn("ldap-provider", "corp")}, f"sts:{ACTION}"))
    refused(desk.sign_in("alice", ALICE), 403, "AccessDenied", NOT_ADMITTED)
    desk.role("here")
    assert desk.sign_in("alice", ALICE).text("Arn").startswith(f"arn:aws:sts::{desk.admin.account_id}:")
    assert desk.sign_in("alice", ALICE, RoleArn=there).status == 200


# --- several directories -----------------------------------------------------------------------------------------


def test_with_several_directories_the_role_says_which_one_is_asked(desks, slapd, demo):
    desk = desks(slapd.config(name="corp"), demo.config(name="demo"))
    corp, in_demo = desk.role("corp"), desk.role("demo", directory="demo")
    for role, name in ((corp, "corp"), (in_demo, "demo")):
        answer = desk.sign_in("alice", ALICE, RoleArn=role)
        assert answer.text("Provider") == desk.admin.arn("ldap-provider", name)
        by_name = desk.sign_in("alice", ALICE, RoleArn=name)  # the roles have the names of their directories
        assert by_name.text("Provider") == answer.text("Provider")
    refused(desk.sign_in("alice", ALICE), 400, "ValidationError", "Several directories are configured: name a RoleArn")


def test_a_role_name_means_the_directory_for_which_that_role_would_be_chosen(desks, slapd, demo):
    desk = desks(slapd.config(name="corp"), demo.config(name="demo", accounts=("000000000007",)))
    desk.role("Administrator")
    tenant = Administrator.of_a_new_account(desk.installation, "000000000008")
    captured = trust({"Federated": tenant.arn("ldap-provider", "demo")}, f"sts:{ACTION}")
    tenant.role("Administrator", captured)
    assert desk.sign_in("alice", ALICE, RoleArn="Administrator").text("Provider").endswith("ldap-provider/corp")
    refused(desk.sign_in("alice", ALICE, RoleArn="administrator"), 403, "IDPRejectedClaim", REJECTED)
    served = Administrator.of_a_new_account(desk.installation, "000000000007")
    served.role("Lab", trust({"Federated": served.arn("ldap-provider", "demo")}, f"sts:{ACTION}"))
    assert desk.sign_in("alice", ALICE, RoleArn="Lab").text("Provider").endswith("ldap-provider/demo")


def test_a_person_of_one_directory_is_nobody_in_another(desks, slapd, demo):
    desk = desks(slapd.config(name="corp"), demo.config(name="demo"))
    role = desk.role("demo", directory="demo")
    refused(desk.sign_in("slow", "argon-is-a-noble-gas", RoleArn=role), 403, "IDPRejectedClaim", REJECTED)


def test_without_a_directory_nobody_signs_in(desks):
    refused(desks().sign_in("alice", ALICE), 400, "InvalidInput", "No directory is configured.")


# --- refusals ----------------------------------------------------------------------------------------------------


def test_a_wrong_password_an_unknown_and_an_ambiguous_name_are_refused_alike(desk):
    role = desk.role("r")
    guesses = [
        ("alice", "wrong"),
        ("nobody-here", ALICE),
        ("twin", "same-for-both"),
        ("*", ALICE),
        ("alice)(uid=*", "x"),
    ]
    answers = [desk.sign_in(username, password, RoleArn=role) for username, password in guesses]
    for answer in answers:
        refused(answer, 403, "IDPRejectedClaim", REJECTED)
    assert len({len(answer.body) for answer in answers}) == 1
    assert desk.sign_in("alice", ALICE, RoleArn=role).status == 200


def test_somebody_whom_the_directory_no_longer_knows_gets_no_new_credentials(desks, slapd):
    desk = desks(slapd.config())
    role = desk.role("r")
    entry = f"dn: uid=leaver,ou=people,{BASE}\n"
    person = "objectClass: inetOrgPerson\nobjectClass: person\nuid: leaver\ncn: L\nsn: L\nuserPassword: on-my-way-out\n"
    slapd.modify(f"{entry}changetype: add\n{person}")
    assert desk.sign_in("leaver", "on-my-way-out", RoleArn=role).status == 200
    slapd.modify(f"{entry}changetype: modify\ndelete: userPassword\n")
    refused(desk.sign_in("leaver", "on-my-way-out", RoleArn=role), 403, "IDPRejectedClaim", REJECTED)
    slapd.modify(f"{entry}changetype: delete\n")


def test_e14_a_directory_that_is_away_is_an_outage_with_a_time_to_come_back_and_counts_for_nothing(desks, slapd):
    desk = desks(slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",), connect_timeout=0.5))
    role = desk.role("r")
    for _ in range(PER_NAME + 2):
        answer = desk.sign_in("alice", "wrong", RoleArn=role)
        refused(answer, 503, "ServiceUnavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert ALICE.encode() not in answer.body
    # The same data folder with the directory back: nobody is locked out.
    file = Path(desk.installation.environ["FEDGATE_CONFIG"])
    file.write_text(as_toml(slapd.config()))
    back = desk.installation.another_worker()
    answer = back.call(ACTION, None, LDAPUsername="alice", LDAPPassword=ALICE, RoleArn=role)
    assert answer.status == 200, answer.message
    close(back)


def test_e14_sessions_live_on_while_the_directory_is_away(desks, tmp_path):
    ldif = demo_ldif(tmp_path)
    with running_demo_directory(ldif) as url:
        directory = RunningDirectory(url, f"ou=people,{BASE}", service_password(LDIF))
        desk = desks(directory.config())
        role = desk.role("r", allow("iam:ListUsers"))
        session = desk.sign_in("alice", ALICE, RoleArn=role).credentials
    assert desk.installation.call("ListUsers", session).status == 200
    refused(desk.sign_in("alice", ALICE, RoleArn=role), 503, "ServiceUnavailable")


# --- E16: lockout ---------------------------------------------------------------------------------------------------


def rejected(desk: Desk, times: int, peer: str, username: str = "alice") -> None:
    for number in range(times):
        refused(desk.sign_in(username, f"wrong-{number}", peer=peer), 403, "IDPRejectedClaim", REJECTED)


def test_e16_the_sixth_try_from_one_address_is_refused_even_with_the_right_password(desk, clock):
    desk.role("r")
    rejected(desk, PER_NAME, "192.0.2.1")
    locked = desk.sign_in("alice", ALICE, peer="192.0.2.1")
    refused(locked, 429, "Throttling", "Too many failed sign-ins")
    assert 890 <= int(locked.headers["Retry-After"]) <= 900
    assert desk.sign_in("alice", ALICE, peer="192.0.2.2").status == 200  # whoever locks a name elsewhere locks it there
    assert desk.sign_in("bob", BOB, peer="192.0.2.1").status == 200
    clock.advance(minutes=14)
    refused(desk.sign_in("alice", ALICE, peer="192.0.2.1"), 429, "Throttling")
    clock.advance(minutes=1, seconds=1)
    assert desk.sign_in("alice", ALICE, peer="192.0.2.1").status == 200


@pytest.mark.parametrize("spelling", ["ALICE", " alice ", "\uff41lice", "ali\u00adce"])
def test_e16_another_spelling_of_the_name_has_no_tries_of_its_own(desk, spelling):
    desk.role("r")
    rejected(desk, PER_NAME, "192.0.2.3")
    refused(desk.sign_in(spelling, ALICE, peer="192.0.2.3"), 429, "Throttling")


@pytest.mark.parametrize(
    "spelling",
    [
        "CORP\\alice",
        "corp\\ALICE",
        "alice@corp.example",
        "Alice@CORP.example ",
        "\uff23ORP\\alice",
        "CORP\\alice@corp.example",
    ],
)
def test_e16_the_domain_of_a_name_gives_it_no_tries_of_its_own(desks, slapd, spelling):
    desk = desks(slapd.config(login_domains=("CORP", "corp.example")))
    desk.role("r")
    assert desk.sign_in("CORP\\alice", ALICE, peer="192.0.2.13").status == 200
    rejected(desk, PER_NAME, "192.0.2.13")
    refused(desk.sign_in(spelling, ALICE, peer="192.0.2.13"), 429, "Throttling")


BOTH = "(&(objectClass=person)(|(uid={username})(mail={username})))"
MAIL = "alice@corp.example"


def test_e16_another_name_of_the_same_entry_has_no_tries_of_its_own_and_nobody_is_told(desks, slapd):
    desk = desks(slapd.config(user_filter=BOTH))
    desk.role("r")
    rejected(desk, PER_NAME, "192.0.2.21")
    told = desk.sign_in(MAIL, ALICE, peer="192.0.2.21")
    unknown = desk.sign_in("nobody@corp.example", ALICE, peer="192.0.2.21")
    refused(told, 403, "IDPRejectedClaim", REJECTED)
    assert (told.message, told.headers.keys()) == (unknown.message, unknown.headers.keys())
    assert desk.reasons()[-2:] == ["too many wrong passwords of this entry", "unknown user"]
    assert desk.sign_in(MAIL, ALICE, peer="192.0.2.22").status == 200
    assert desk.sign_in("bob", BOB, peer="192.0.2.21").status == 200
    rejected(desk, PER_NAME - 1, "192.0.2.21", MAIL)
    rejected(desk, PER_NAME - 1, "192.0.2.21", "nobody@corp.example")
    for name in (MAIL, "nobody@corp.example"):
        refused(desk.sign_in(name, ALICE, peer="192.0.2.21"), 429, "Throttling")


def test_e16_wrong_passwords_under_any_name_are_forgotten_after_the_right_one_and_in_time(desks, slapd, clock):
    desk = desks(slapd.config(user_filter=BOTH))
    desk.role("r")
    rejected(desk, PER_NAME - 1, "192.0.2.23")
    assert desk.sign_in(MAIL, ALICE, peer="192.0.2.23").status == 200
    rejected(desk, 1, "192.0.2.23")
    rejected(desk, PER_NAME - 1, "192.0.2.23", MAIL)
    refused(desk.sign_in(MAIL, ALICE, peer="192.0.2.23"), 403, "IDPRejectedClaim", REJECTED)
    clock.advance(minutes=15, seconds=1)
    assert desk.sign_in(MAIL, ALICE, peer="192.0.2.23").status == 200


def test_e16_one_person_s_programs_sign_in_at_once_under_all_names(desks, slapd):
    desk, answers = desks(slapd.config(user_filter=BOTH)), list[Answer]()
    desk.role("r")
    names = ["alice", MAIL] * 10
    at_once([lambda name=name: answers.append(desk.sign_in(name, ALICE, peer="192.0.2.24")) for name in names])
    assert [answer.status for answer in answers] == [200] * 20


def test_e16_names_of_a_domain_that_the_directory_is_not_told_of_are_other_names(desks, slapd):
    desk = desks(slapd.config(login_domains=("CORP",)))
    desk.role("r")
    rejected(desk, PER_NAME, "192.0.2.14", "alice@elsewhere.example")
    rejected(desk, PER_NAME, "192.0.2.14", "ELSE\\alice")
    assert desk.sign_in("CORP\\alice", ALICE, peer="192.0.2.14").status == 200


def test_e16_the_addresses_of_one_ipv6_64_have_no_tries_of_their_own(desk):
    desk.role("r")
    for number in range(PER_NAME):
        rejected(desk, 1, f"2001:db8:1:2::{number + 1}")
    refused(desk.sign_in("alice", ALICE, peer="2001:db8:1:2:aaaa::1"), 429, "Throttling")
    assert desk.sign_in("alice", ALICE, peer="2001:db8:1:3::1").status == 200


def test_e16_guesses_from_many_addresses_lock_a_name_everywhere_for_a_window(desk, clock):
    desk.role("r")
    for number in range(PER_NAME_EVERYWHERE):
        rejected(desk, 1, f"198.51.100.{number + 1}")
    locked = desk.sign_in("alice", ALICE, peer="192.0.2.15")
    refused(locked, 429, "Throttling", "Too many failed sign-ins")
    assert 0 < int(locked.headers["Retry-After"]) <= 900
    assert desk.sign_in("bob", BOB, peer="192.0.2.15").status == 200
    clock.advance(minutes=15, seconds=1)
    assert desk.sign_in("alice", ALICE, peer="192.0.2.15").status == 200


def test_e16_a_lock_survives_a_restart_and_holds_on_another_worker(desk):
    desk.role("r")
    rejected(desk, PER_NAME, "192.0.2.4")
    worker = desk.installation.another_worker()
    answer = worker.call(ACTION, None, peer="192.0.2.4", LDAPUsername="alice", LDAPPassword=ALICE)
    refused(answer, 429, "Throttling")
    close(worker)


def test_e16_the_right_password_forgets_the_wrong_ones_before_it(desk):
    desk.role("r")
    for _ in range(3):
        rejected(desk, PER_NAME - 1, "192.0.2.5")
        assert desk.sign_in("alice", ALICE, peer="192.0.2.5").status == 200


def test_e16_an_empty_password_is_no_try(desk):
    desk.role("r")
    for _ in range(PER_NAME + 1):
        answer = desk.sign_in("alice", "", peer="192.0.2.6")
        assert answer.status in (400, 403)
        assert answer.code in ("ValidationError", "IDPRejectedClaim")
    assert desk.sign_in("alice", ALICE, peer="192.0.2.6").status == 200


def test_e16_a_locked_name_sends_nothing_to_the_directory(desks, slapd):
    """A server that says nothing makes each try an outage; while the name is locked not even a connection is made."""
    desk = desks(slapd.config())
    rejected(desk, PER_NAME, "192.0.2.7")
    file = Path(desk.installation.environ["FEDGATE_CONFIG"])
    with HostileServer(lambda client: client.wait()) as server:
        file.write_text(as_toml(slapd.config(urls=(server.url,), receive_timeout=0.2)))
        worker = desk.installation.another_worker()
        answer = worker.call(ACTION, None, peer="192.0.2.7", LDAPUsername="alice", LDAPPassword=ALICE)
        refused(answer, 429, "Throttling")
        assert server.connections == 0
        other = worker.call(ACTION, None, peer="192.0.2.8", LDAPUsername="alice", LDAPPassword=ALICE)
        refused(other, 503, "ServiceUnavailable")
        assert server.connections > 0
        close(worker)


def test_e16_a_burst_of_guesses_is_counted_one_by_one(desk):
    """Without turns all of a burst would pass before the first failure is counted."""
    desk.role("r")
    answers: list[Answer] = []

    def guess(number: int) -> None:
        answers.append(desk.sign_in("alice", f"burst-{number}", peer="192.0.2.9"))

    at_once([lambda number=number: guess(number) for number in range(20)])
    codes = sorted(answer.code for answer in answers)
    assert codes == ["IDPRejectedClaim"] * PER_NAME + ["Throttling"] * (20 - PER_NAME)


def test_e16_one_person_s_programs_may_all_sign_in_at_once(desk):
    desk.role("r")
    answers: list[Answer] = []
    at_once([lambda: answers.append(desk.sign_in("alice", ALICE, peer="192.0.2.10"))] * 20)
    assert [answer.status for answer in answers] == [200] * 20


def at_once(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)


def test_h07_many_names_from_one_address_lock_the_address(desk):
    desk.role("r")
    for number in range(PER_SOURCE):
        refused(desk.sign_in(f"guess-{number}", "x", peer="192.0.2.11"), 403, "IDPRejectedClaim")
    refused(desk.sign_in("alice", ALICE, peer="192.0.2.11"), 429, "Throttling")
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    answer = desk.installation.call(
        ACTION, None, headers=forwarded, peer="192.0.2.11", LDAPUsername="alice", LDAPPassword=ALICE
    )
    refused(answer, 429, "Throttling")
    assert desk.sign_in("alice", ALICE, peer="192.0.2.12").status == 200


# --- audit and secrets ---------------------------------------------------------------------------------------------


def test_both_steps_of_a_sign_in_are_recorded_under_one_request_id(desk):
    role = desk.role("r")
    answer = desk.sign_in("alice", ALICE, RoleArn=role)
    directory, sts = desk.records(answer.headers["x-amzn-RequestId"])
    assert (directory["eventName"], directory["responseElements"]) == (
        "DirectorySignIn",
        {"DirectorySignIn": "Success"},
    )
    assert directory["userIdentity"]["userName"] == "alice"
    assert directory["userIdentity"]["identityProvider"] == "corp"
    assert directory["userIdentity"]["principalId"] == answer.text("Subject")
    assert (sts["eventName"], sts["requestParameters"]["roleArn"]) == (ACTION, role)
    assert sts["userIdentity"]["principalId"] == f"ldap-provider/corp:{answer.text('Subject')}"
    assert sts["responseElements"]["credentials"]["accessKeyId"] == answer.credentials.access_key
    assert sts["recipientAccountId"] == desk.admin.account_id
    assert answer.text("RequestId") == sts["requestID"]


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [("alice", "wrong", "wrong password"), ("nobody-here", "x", "unknown user"), ("twin", "x", "ambiguous user name")],
)
def test_the_reason_of_a_refusal_stands_in_the_audit_log_alone(desk, username, password, reason):
    answer = desk.sign_in(username, password)
    directory, sts = desk.records(answer.headers["x-amzn-RequestId"])
    assert directory["additionalEventData"]["reason"] == reason
    # What no directory knows may be a password that was typed into the wrong field.
    shown = "HIDDEN_DUE_TO_SECURITY_REASONS" if reason == "unknown user" else username
    assert directory["userIdentity"]["userName"] == shown
    assert (directory["errorCode"], sts["errorCode"]) == ("IDPRejectedClaim", "IDPRejectedClaim")
    assert reason.encode() not in answer.body


@pytest.mark.parametrize("case", ["good", "wrong password", "locked", "denied", "invalid", "outage"])
def test_no_password_is_in_an_answer_a_record_or_a_log(desks, slapd, caplog, case):
    caplog.set_level("DEBUG")
    urls = {"urls": (f"ldap://127.0.0.1:{free_port()}",)} if case == "outage" else {}
    desk = desks(slapd.config(**urls))
    secret = ALICE if case in ("good", "denied") else "s3cret-that-nobody-may-see"
    if case == "locked":
        rejected(desk, PER_NAME, "127.0.0.1")
    given = {"RoleArn": "x"} if case == "invalid" else {}
    if case == "good":
        desk.role("r")
    answer = desk.sign_in("alice", secret, **given)
    expected = {
        "good": 200,
        "wrong password": 403,
        "locked": 429,
        "denied": 403,
        "invalid": 400,
        "outage": 503,
    }
    assert answer.status == expected[case], answer.message
    files = [path for path in desk.installation.folder.rglob("*") if path.is_file() and path.suffix != ".toml"]
    for name, text in [("answer", answer.body), ("log", caplog.text.encode())] + [
        (p.name, p.read_bytes()) for p in files
    ]:
        assert secret.encode() not in text, name
    if case == "good":
        token, key = answer.credentials.token, answer.credentials.secret_key
        for path in files:
            assert token.encode() not in path.read_bytes()
            assert key.encode() not in path.read_bytes()


# --- where a password may stand --------------------------------------------------------------------------------------


def in_query(desk: Desk, method: str, password: str = ALICE) -> Answer:
    form = {"Action": ACTION, "Version": "2011-06-15", "LDAPUsername": "alice", "LDAPPassword": password}
    headers = {"Content-Type": FORM, "Host": "127.0.0.1:8080"}
    return desk.installation.request(method, "/?" + urllib.parse.urlencode(form), headers)


def test_a_password_in_the_query_is_refused_and_counts_for_nothing(desk):
    desk.role("r")
    for _ in range(PER_NAME + 1):
        refused(in_query(desk, "POST", "wrong"), 400, "InvalidInput", "belong in the body of the POST request")
    assert desk.sign_in("alice", ALICE).status == 200


def test_a_password_in_the_query_of_a_post_works_where_the_operator_allows_it_but_never_by_get(desks, slapd):
    desk = desks(slapd.config(), FEDGATE_ALLOW_PASSWORD_IN_QUERY="true")
    desk.role("r")
    assert in_query(desk, "POST").status == 200
    refused(in_query(desk, "GET"), 400, "InvalidInput", "in the body of a POST request")
    assert ALICE not in json.dumps(desk.records())


def test_the_first_of_two_passwords_counts(desk):
    desk.role("r")
    body = urllib.parse.urlencode(
        [
            ("Action", ACTION),
            ("Version", "2011-06-15"),
            ("LDAPUsername", "alice"),
            ("LDAPPassword", "wrong"),
            ("LDAPPassword", ALICE),
        ]
    )
    answer = desk.installation.request("POST", "/", {"Content-Type": FORM, "Host": "x"}, body.encode())
    refused(answer, 403, "IDPRejectedClaim")


ODD_NAMES = ["", " ", "a" * 257, "a\x00b", "a\nb", "*", "uid=alice,ou=people,dc=corp,dc=example", "\u202ealice"]


@pytest.mark.parametrize("username", ODD_NAMES)
def test_names_that_nobody_has_are_refused_and_never_an_error_of_ours(desk, username):
    answer = desk.sign_in(username, ALICE, RoleArn=desk.role("r"))
    assert (answer.status, answer.code) in ((400, "ValidationError"), (403, "IDPRejectedClaim"))


def test_a_signed_request_with_a_password_is_judged_by_the_password_alone(desk):
    """AWS ignores the signature of an operation that needs none."""
    role = desk.role("r")
    bob = desk.admin.user("bob", allow("*"))
    given = {"LDAPUsername": "alice", "RoleArn": role}
    assert desk.installation.call(ACTION, bob, LDAPPassword=ALICE, **given).text("Arn").endswith("/r/alice")
    refused(desk.installation.call(ACTION, bob, LDAPPassword="wrong", **given), 403, "IDPRejectedClaim")


def test_an_unreadable_session_token_beside_a_password_changes_nothing(desk):
    token = base64.b64encode(b"x" * 100).decode()
    stale = Credentials("ASIAIOSFODNN7EXAMPLE", "x" * 40, token)
    given = {"LDAPUsername": "alice", "LDAPPassword": ALICE, "RoleArn": desk.role("r")}
    assert desk.installation.call(ACTION, stale, **given).status == 200
