"""What every directory must do for us, asked of a real slapd over each transport and of the demonstration directory."""

import concurrent.futures
import itertools
import time

import pytest
from support.directories import EXTRA, ODD_GROUP, SLOW_PASSWORD
from support.servers import eventually
from support.timing import alike, fastest

from broker.demo.people import BASE
from broker.providers.ldap.config import LdapConfig
from iam.distinguished_names import normalize_dn
from sts.identity import Identity, ProviderUnavailable, Refusal

PEOPLE = f"ou=people,{BASE}"
GROUPS = f"ou=groups,{BASE}"
ALICE = ("alice", "wonderland-1865")

INJECTIONS = [
    "*", "a*", "*)(uid=*", "*)(uid=*))(|(uid=*", "alice)(uid=*", "alice)(&", "alice)(|(objectClass=*)", "(uid=alice)",
    "alice)(!(uid=bob)", "\\2a", "\\61lice", "alice\\", "\\", "\\\\2a", "alice\0", "\0", "ali\0ce", "uid=alice",
    f"uid=alice,{PEOPLE}", "alice,ou=people", "alice+cn=x", "\u0430lice", "alic\u0435", "ⓐlice*", "alice#", '"alice"',
    "alice;bob", "<alice>", "alice\n\n", "{username}", "{0.__class__}", "%s", "alice\u202e", "\ud800", "x" * 257,
]  # fmt: skip


def slapd_over(transport):
    return {
        "ldap": {},
        "StartTLS": {"start_tls": True},
        "ldaps": {"urls": "ldaps"},
        "ldapi": {"urls": "ldapi"},
    }[transport]


@pytest.fixture(params=["slapd ldap", "slapd StartTLS", "slapd ldaps", "slapd ldapi", "demo"])
def config(request):
    if request.param == "demo":
        return request.getfixturevalue("demo_directory").config()
    directory = request.getfixturevalue("slapd")
    changes = slapd_over(request.param.split()[1])
    if "urls" in changes:
        changes = {"urls": (getattr(directory, changes["urls"]),)}
    return directory.config(**changes)


def change(config, **changes) -> LdapConfig:
    fields = {name: getattr(config, name) for name in LdapConfig.__dataclass_fields__}
    return LdapConfig(**{**fields, **changes})


def test_the_right_password_gives_the_identity_as_the_directory_writes_it(config, provider):
    identity = provider(config).authenticate(*ALICE)
    assert isinstance(identity, Identity)
    assert (identity.provider, identity.name) == ("ldap-provider/corp", "alice")
    assert identity.groups == (f"cn=engineering,{GROUPS}", f"cn=platform,{GROUPS}")
    assert identity.group_names == ("engineering", "platform")
    assert identity.attributes == {"mail": ("alice@corp.example",), "departmentNumber": ("engineering",)}
    assert len(identity.subject) == 36
    assert identity.authenticated_at.utcoffset().total_seconds() == 0


def test_a_wrong_password_and_an_unknown_user_are_refused(config, provider):
    opened = provider(config)
    assert opened.authenticate("alice", "wrong").reason == "wrong password"
    assert opened.authenticate("nobody", "wrong").reason == "unknown user"
    assert isinstance(opened.authenticate(*ALICE), Identity)


def test_a_password_holds_for_one_person_only_on_kept_connections(config, provider):
    opened = provider(change(config, pool_size=1))
    assert isinstance(opened.authenticate(*ALICE), Identity)
    assert isinstance(opened.authenticate("bob", ALICE[1]), Refusal)
    assert isinstance(opened.authenticate("frank", "first-day-at-work"), Identity)
    assert isinstance(opened.authenticate("alice", "first-day-at-work"), Refusal)


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [
        ("alice", "", "empty password"),
        ("", "x", "empty user name"),
        ("   ", "x", "empty user name"),
        ("alice\0", "x", "impossible user name"),
        ("alice", "a\0b", "impossible password"),
        ("alice", "x" * 1025, "impossible password"),
    ],
)
def test_what_cannot_be_right_is_refused_and_not_counted(config, provider, username, password, reason):
    refused = provider(config).authenticate(username, password)
    assert (refused.reason, refused.counts_as_failure) == (reason, False)


@pytest.mark.parametrize("username", INJECTIONS)
def test_an_injected_name_is_searched_for_literally_and_finds_nobody(config, provider, username):
    assert isinstance(provider(config).authenticate(username, ALICE[1]), Refusal)


@pytest.mark.parametrize("username", ["alice ", " alice", "ALICE", "Alice"])
def test_another_spelling_is_the_directorys_own_person(config, provider, username):
    opened = provider(config)
    identity = opened.authenticate(username, ALICE[1])
    assert isinstance(identity, Identity)
    assert (identity.name, identity.subject) == ("alice", opened.authenticate(*ALICE).subject)


def test_a_full_width_spelling_is_never_a_second_person(config, provider):
    opened = provider(config)
    answer = opened.authenticate("\uff41\uff4c\uff49\uff43\uff45", ALICE[1])
    assert isinstance(answer, Refusal) or answer.subject == opened.authenticate(*ALICE).subject


def test_a_name_that_two_people_share_is_refused_even_with_the_right_password(config, provider):
    assert provider(config).authenticate("twin", "same-for-both").reason == "ambiguous user name"


def test_names_and_passwords_beyond_ascii_work(config, provider):
    identity = provider(config).authenticate("jürgen", "paßwörter sind schön")
    assert isinstance(identity, Identity)
    assert identity.groups == (normalize_dn(ODD_GROUP),)
    assert identity.group_names == ("+odd (*)\\ ,group",)
    assert isinstance(provider(config).authenticate("jürgen", "paßwörter sind schon"), Refusal)


def test_nested_groups_are_followed_through_awkward_names(config, provider):
    identity = provider(change(config, nested_groups=True)).authenticate("jürgen", "paßwörter sind schön")
    assert identity.groups == (f"cn=Above,{GROUPS}", normalize_dn(ODD_GROUP))


def test_a_loop_of_groups_ends(config, provider):
    identity = provider(change(config, nested_groups=True)).authenticate("dave", "open-the-pod-bay")
    assert set(identity.group_names) == {"contractors", "loop-a", "loop-b", "loop-c"}


def test_nested_groups_are_found_by_member_of_alone(config, provider):
    by_member_of = change(config, nested_groups=True, group_base="", group_filter="")
    identity = provider(by_member_of).authenticate(*ALICE)
    assert identity.group_names == ("engineering", "platform", "staff")


def test_nested_groups_are_found_by_search_alone(config, provider):
    by_search = change(config, nested_groups=True, member_of_attribute="")
    assert provider(by_search).authenticate(*ALICE).group_names == ("engineering", "platform", "staff")


def test_without_either_way_there_are_no_groups(config, provider):
    none = change(config, member_of_attribute="", group_base="", group_filter="")
    assert provider(none).authenticate(*ALICE).groups == ()


@pytest.mark.parametrize(
    "username", ["CORP\\alice", "corp\\alice", "alice@corp.example", "alice@CORP.EXAMPLE", "alice"]
)
def test_configured_domains_are_taken_off_the_name(config, provider, username):
    identity = provider(change(config, login_domains=("CORP", "corp.example"))).authenticate(username, ALICE[1])
    assert identity.name == "alice"


@pytest.mark.parametrize(
    "username", ["OTHER\\alice", "alice@other.example", "CORP\\", "@corp.example", "CORP\\CORP\\alice"]
)
def test_other_domains_are_nobody(config, provider, username):
    opened = provider(change(config, login_domains=("CORP", "corp.example")))
    assert isinstance(opened.authenticate(username, ALICE[1]), Refusal)


def test_mail_addresses_work_as_names_where_the_filter_says_so(config, provider):
    by_mail = change(config, user_filter="(|(uid={username})(mail={username}))")
    assert provider(by_mail).authenticate("alice@corp.example", ALICE[1]).name == "alice"


def test_an_entry_without_the_configured_id_signs_nobody_in(config, provider):
    refused = provider(change(config, id_attribute="employeeType")).authenticate(*ALICE)
    assert refused.reason == "entry without stable id or name"


@pytest.mark.parametrize("wrong", [{"bind_password": "wrong"}, {"user_base": "ou=nowhere,dc=corp,dc=example"}])
def test_a_service_account_that_cannot_search_is_an_outage(config, provider, wrong):
    opened = provider(change(config, **wrong))
    with pytest.raises(ProviderUnavailable) as caught:
        opened.authenticate(*ALICE)
    assert "wrong" not in caught.value.message + caught.value.log
    with pytest.raises(ProviderUnavailable):
        opened.check()


def test_a_directory_that_answers_is_ready(config, provider):
    provider(config).check()


def test_many_at_once_get_each_their_own_answer(config, provider):
    opened = provider(change(config, pool_size=2, max_in_flight=4))
    right = {"alice": ALICE[1], "bob": "builder-can-we-fix-it", "frank": "first-day-at-work"}

    def sign_in(number):
        name = list(right)[number % 3]
        wrong = number % 2 == 0
        answer = opened.authenticate(name, right[name] + ("x" if wrong else ""))
        return isinstance(answer, Refusal) if wrong else answer.name == name

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(sign_in, range(120)))


def test_secrets_are_in_no_repr(config, provider):
    opened = provider(config)
    identity = opened.authenticate(*ALICE)
    refused = opened.authenticate("alice", "some-wrong-password")
    shown = repr((identity, refused, opened.config))
    assert not any(secret in shown for secret in (ALICE[1], "some-wrong-password", config.bind_password))


def times_of_refusals(opened, known, tries):
    """Return the least seconds of a wrong password and of an unknown name, tried in turn."""
    numbers = itertools.count()

    def refuse(name):
        assert isinstance(opened.authenticate(name, f"wrong-{next(numbers)}"), Refusal)

    return fastest(lambda: refuse(known), lambda: refuse("nobody-here"), tries=tries, clock=time.perf_counter)


@pytest.mark.long  # the time of another process
def test_an_unknown_user_takes_as_long_as_a_wrong_password(config, provider):
    assert alike(*times_of_refusals(provider(config), "alice", 100))


@pytest.mark.long  # the time of another process
def test_an_unknown_user_takes_as_long_where_hashing_is_slow(slapd, provider):
    opened = provider(slapd.config())
    assert isinstance(opened.authenticate("slow", SLOW_PASSWORD), Identity)
    times_of_refusals(opened, "slow", 3)
    wrong, unknown = times_of_refusals(opened, "slow", 40)
    assert wrong > 0.015, "the hash must be slow enough for this test to mean something"
    assert alike(wrong, unknown)


def test_a_name_that_is_given_to_somebody_else_is_somebody_else(slapd, provider):
    entry = f"""dn: uid=zoe,{PEOPLE}
changetype: add
objectClass: inetOrgPerson
objectClass: person
uid: zoe
cn: Zoe
sn: Z
userPassword: same-as-before
"""
    opened = provider(slapd.config())
    slapd.modify(entry)
    before = opened.authenticate("zoe", "same-as-before")
    slapd.modify(f"dn: uid=zoe,{PEOPLE}\nchangetype: delete\n\n{entry}")
    after = opened.authenticate("zoe", "same-as-before")
    slapd.modify(f"dn: uid=zoe,{PEOPLE}\nchangetype: delete\n")
    assert before.name == after.name
    assert before.subject != after.subject


def test_a_locked_account_is_refused_with_the_right_password_too(slapd, provider):
    opened = provider(slapd.config())
    reasons = [opened.authenticate("locked", "wrong").reason for _ in range(4)]
    assert reasons == ["wrong password"] * 3 + ["account locked"]
    right = opened.authenticate("locked", "once-was-right")
    assert (right.reason, right.password_correct) == ("account locked", False)


@pytest.mark.parametrize(
    ("username", "password", "reason"),
    [("fresh", "change-me-first", "password must be changed"), ("stale", "too-old-by-now", "password expired")],
)
def test_a_password_that_must_be_changed_admits_nobody(slapd, provider, username, password, reason):
    opened = provider(slapd.config())
    # The password has a second of life.
    answer = eventually(
        lambda: not isinstance(refusal := opened.authenticate(username, password), Identity) and refusal, every=0.1
    )
    assert answer.reason == reason
    assert (answer.password_correct, answer.counts_as_failure) == (True, False)
    assert answer.changeable is (username == "fresh"), "slapd lets nobody in to change what has expired"
    wrong = opened.authenticate(username, "wrong")
    assert (wrong.reason, wrong.password_correct, wrong.counts_as_failure) == ("wrong password", False, True)


def test_every_name_in_the_extra_entries_is_in_order():
    assert normalize_dn(ODD_GROUP) in {normalize_dn(line[4:]) for line in EXTRA.splitlines() if line.startswith("dn: ")}
