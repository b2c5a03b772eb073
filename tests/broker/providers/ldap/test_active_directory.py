"""What Active Directory does, asked of a real domain controller (Samba) that is set up as the how-to page says."""

import time

import pytest
from support.active_directory import PASSWORD, SERVICE_PASSWORD
from support.timing import alike, fastest

from broker.providers.ldap.passwords import PasswordChangeStatus
from sts.identity import Identity, ProviderUnavailable, Refusal

NEW = "Through-the-looking-glass-1871"

# What somebody with this name hears who knows the password, and whether it proves the password.
PEOPLE_WHO_MAY_NOT = {
    "leaver": ("account disabled", True),
    "temp": ("account expired", True),
    "night": ("outside logon hours", True),
    "desk": ("not allowed from this workstation", True),
    "fresh": ("password must be changed", True),
    "old": ("password expired", True),
}


@pytest.fixture
def opened(active_directory, provider):
    return provider(active_directory.config())


@pytest.mark.parametrize("username", ["alice", "ALICE", "CORP\\alice", "alice@corp.example.test"])
def test_a_person_signs_in_with_nested_groups(opened, username):
    identity = opened.authenticate(username, PASSWORD)
    assert isinstance(identity, Identity)
    assert identity.name == "alice"
    assert len(identity.subject) == 36
    names = ("Domain Users,cn=Users", "Engineers,cn=Users", "Staff,cn=Users", "Users,cn=Builtin")
    assert identity.groups == tuple(f"cn={name},dc=corp,dc=example,dc=test" for name in names)
    assert identity.attributes == {"mail": ("alice@corp.example.test",)}


@pytest.mark.parametrize("transport", ["ldaps", "StartTLS"])
def test_either_way_of_encryption_works_and_none_is_an_outage(active_directory, provider, transport):
    address = active_directory.address
    changes = {"urls": (f"ldap://{address}",), "start_tls": True} if transport == "StartTLS" else {}
    assert isinstance(provider(active_directory.config(**changes)).authenticate("alice", PASSWORD), Identity)
    with pytest.raises(ProviderUnavailable):  # the domain controller refuses a plain bind
        provider(active_directory.config(urls=(f"ldap://{address}",))).authenticate("alice", PASSWORD)


@pytest.mark.parametrize("name", PEOPLE_WHO_MAY_NOT)
def test_only_the_right_password_hears_what_else_is_wrong(opened, name):
    reason, proved = PEOPLE_WHO_MAY_NOT[name]
    refused = opened.authenticate(name, PASSWORD)
    assert (refused.reason, refused.password_correct, refused.counts_as_failure) == (
        reason,
        proved,
        not proved,
    )
    assert refused.changeable is (name in {"fresh", "old"})
    wrong = opened.authenticate(name, "not-" + PASSWORD)
    assert (wrong.reason, wrong.password_correct, wrong.counts_as_failure) == ("wrong password", False, True)


def test_a_locked_account_proves_nothing_whatever_the_password(opened):
    assert [opened.authenticate("locked", "wrong").reason for _ in range(3)] == ["wrong password"] * 3
    for password in (PASSWORD, "wrong"):
        refused = opened.authenticate("locked", password)
        assert (refused.reason, refused.password_correct) == ("account locked", False)


@pytest.mark.long  # the time of another process
def test_an_unknown_user_takes_as_long_as_a_wrong_password(opened):
    def refuse(name):
        assert isinstance(opened.authenticate(name, "wrong"), Refusal)

    # The domain never locks young.
    assert alike(*fastest(lambda: refuse("young"), lambda: refuse("nobody-here"), tries=40, clock=time.perf_counter))


# --- changing passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["newcomer", "older"])
def test_a_password_that_keeps_its_owner_out_is_changed_on_the_service_connection(opened, name):
    assert opened.authenticate(name, PASSWORD).changeable
    assert opened.change_password(f"CORP\\{name}", PASSWORD, NEW).change is PasswordChangeStatus.CHANGED
    identity = opened.authenticate(name, NEW)
    assert identity.name == name
    opened.check()


def test_a_person_who_may_sign_in_changes_the_password_as_themselves(active_directory, provider):
    opened = provider(active_directory.config(pool_size=1))
    new = 'Grün & "schön" 密码 2026'
    assert opened.change_password("grace", PASSWORD, new).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate("grace", new).name == "grace"
    # The connection that was bound as grace and changed her password proves the next person as any other does.
    assert isinstance(opened.authenticate("alice", new), Refusal)
    assert opened.authenticate("alice", PASSWORD).name == "alice"


@pytest.mark.parametrize(
    ("new", "words"),
    [("Sh0rt", "too short"), ("no-great-letters-nor-digits", "complexity")],
)
def test_the_domains_rules_are_one_outcome(opened, new, words):
    """Active Directory has one code for all of them; what Samba adds in words is for the audit log."""
    outcome = opened.change_password("picky", PASSWORD, new)
    assert (outcome.change, outcome.rejected) == (PasswordChangeStatus.AGAINST_RULES, True)
    assert words in outcome.detail
    assert opened.authenticate("picky", PASSWORD).changeable, "the old password still counts"


def test_a_password_that_was_just_set_cannot_be_changed_where_the_rules_say_so(opened):
    outcome = opened.change_password("young", PASSWORD, NEW)
    assert (outcome.change, outcome.rejected) == (PasswordChangeStatus.AGAINST_RULES, True)


@pytest.mark.parametrize("name", ["stubborn", "nobody-here"])
def test_a_wrong_old_password_and_an_unknown_user_have_one_outcome(opened, name):
    outcome = opened.change_password(name, "not-" + PASSWORD, NEW)
    assert (outcome.change, outcome.refusal.password_correct, outcome.refusal.counts_as_failure) == (
        PasswordChangeStatus.REFUSED,
        False,
        True,
    )


@pytest.mark.parametrize("name", ["leaver", "temp", "night", "desk"])
def test_who_may_not_sign_in_for_another_reason_changes_nothing(opened, name):
    """The domain controller itself would let them on somebody else's connection."""
    outcome = opened.change_password(name, PASSWORD, NEW)
    assert (outcome.change, outcome.refusal.reason) == (PasswordChangeStatus.REFUSED, PEOPLE_WHO_MAY_NOT[name][0])
    assert opened.authenticate(name, PASSWORD).password_correct


def test_a_locked_account_changes_nothing(opened):
    for _ in range(3):
        opened.authenticate("shut-out", "wrong")
    outcome = opened.change_password("shut-out", PASSWORD, NEW)
    assert (outcome.change, outcome.refusal.reason) == (PasswordChangeStatus.REFUSED, "account locked")


def test_no_password_is_in_an_outcome_or_a_log(opened, caplog):
    with caplog.at_level("DEBUG"):
        outcomes = [opened.change_password("picky", old, "Sh0rt") for old in (PASSWORD, "wrong-" + PASSWORD)]
    for secret in (PASSWORD, "Sh0rt", SERVICE_PASSWORD):
        assert secret not in repr(outcomes) + caplog.text
