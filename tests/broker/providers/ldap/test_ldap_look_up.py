"""Who somebody proved earlier is by now: asked of a real slapd, the demonstration directory and a domain controller."""

import datetime as dt
import itertools

import pytest
from support.active_directory import PASSWORD as AD_PASSWORD
from support.directories import free_port

from broker.demo.people import BASE
from broker.providers.ldap.account_status import account_refusal
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.connection import Entry
from broker.providers.ldap.stable_ids import stable_id_filter
from sts.identity import Identity, ProviderUnavailable

PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
PASSWORD = "here-for-the-time-being"
NUMBERS = itertools.count()


@pytest.fixture
def hired(slapd):
    """Return what adds somebody to the directory and returns the login name."""

    def hire(name=""):
        name = name or f"colleague{next(NUMBERS)}"
        lines = [f"dn: uid={name},{PEOPLE}", "changetype: add", "objectClass: inetOrgPerson", "objectClass: person"]
        slapd.modify("\n".join([*lines, f"uid: {name}", f"cn: {name}", f"sn: {name}", f"userPassword: {PASSWORD}\n"]))
        return name

    return hire


def change(slapd, name, *lines):
    slapd.modify("\n".join([f"dn: uid={name},{PEOPLE}", *lines, "\n"]))


@pytest.mark.parametrize("kind", ["slapd", "demo_directory"])
def test_somebody_who_is_still_there_is_who_signed_in(request, provider, kind):
    opened = provider(request.getfixturevalue(kind).config(nested_groups=True))
    identity = opened.authenticate("alice", "wonderland-1865")
    assert opened.refresh_identity(identity) == identity


def test_the_groups_are_those_of_now_and_the_proof_is_as_old_as_it_was(slapd, provider, hired):
    opened, name = provider(slapd.config()), hired()
    before = opened.authenticate(name, PASSWORD)
    old = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    proved = Identity(before.provider, before.subject, before.name, old, groups=(f"cn=gone,{GROUPS}",))
    slapd.modify(f"dn: cn=security,{GROUPS}\nchangetype: modify\nadd: member\nmember: uid={name},{PEOPLE}\n")
    found = opened.refresh_identity(proved)
    assert (found.groups, found.group_names) == ((f"cn=security,{GROUPS}",), ("security",))
    assert found.authenticated_at == old
    slapd.modify(f"dn: cn=security,{GROUPS}\nchangetype: modify\ndelete: member\nmember: uid={name},{PEOPLE}\n")
    assert opened.refresh_identity(proved).groups == ()


def test_whoever_has_left_is_refused(slapd, provider, hired):
    opened, name = provider(slapd.config()), hired()
    identity = opened.authenticate(name, PASSWORD)
    change(slapd, name, "changetype: delete")
    refused = opened.refresh_identity(identity)
    assert (refused.reason, refused.counts_as_failure, refused.password_correct) == ("unknown user", False, False)


def test_e11_a_new_person_by_the_old_name_is_somebody_else(slapd, provider, hired):
    opened, name = provider(slapd.config()), hired()
    identity = opened.authenticate(name, PASSWORD)
    change(slapd, name, "changetype: delete")
    hired(name)
    assert opened.refresh_identity(identity).reason == "unknown user"
    assert opened.authenticate(name, PASSWORD).subject != identity.subject


def test_a_person_who_was_renamed_or_moved_is_the_same_one(slapd, provider, hired):
    opened, name = provider(slapd.config()), hired()
    identity = opened.authenticate(name, PASSWORD)
    change(slapd, name, "changetype: modrdn", f"newrdn: uid={name}-married", "deleteoldrdn: 1",
           f"newsuperior: ou=elsewhere,{PEOPLE}")  # fmt: skip
    hired(name)  # somebody else, by the old name
    found = opened.refresh_identity(identity)
    assert (found.subject, found.name) == (identity.subject, f"{name}-married")


def test_whom_the_filter_lets_in_no_more_is_refused(slapd, provider, hired):
    opened, name = provider(slapd.config(user_filter="(&(uid={username})(!(title=left)))")), hired()
    identity = opened.authenticate(name, PASSWORD)
    assert opened.refresh_identity(identity).subject == identity.subject
    change(slapd, name, "changetype: modify", "add: title", "title: left")
    assert opened.refresh_identity(identity).reason == "unknown user"


def test_who_is_locked_in_openldap_is_refused(slapd, provider, hired):
    opened, name = provider(slapd.config()), hired()
    identity = opened.authenticate(name, PASSWORD)
    change(slapd, name, "changetype: modify", "add: pwdAccountLockedTime", "pwdAccountLockedTime: 000001010000Z")
    assert opened.refresh_identity(identity).reason == "account locked"
    change(slapd, name, "changetype: modify", "delete: pwdAccountLockedTime")
    assert opened.refresh_identity(identity).subject == identity.subject


def test_a_directory_that_does_not_answer_refuses_nobody(slapd, provider):
    identity = provider(slapd.config()).authenticate("alice", "wonderland-1865")
    away = provider(slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",), connect_timeout=0.4))
    with pytest.raises(ProviderUnavailable):
        away.refresh_identity(identity)


@pytest.mark.parametrize("name", ["*", "alice)(uid=*", "alice\0", "\u202ealice"])
def test_a_name_is_never_part_of_the_question(slapd, provider, name):
    opened = provider(slapd.config())
    alice = opened.authenticate("alice", "wonderland-1865")
    odd = Identity(alice.provider, "00000000-0000-0000-0000-00000000000*", name, alice.authenticated_at)
    assert opened.refresh_identity(odd).reason == "unknown user"


def test_a_configured_id_is_looked_for_alone(slapd, provider, hired):
    opened, name = provider(slapd.config(id_attribute="cn")), hired()
    identity = opened.authenticate(name, PASSWORD)
    assert identity.subject == name
    change(slapd, name, "changetype: modrdn", f"newrdn: uid={name}-new", "deleteoldrdn: 1")
    assert opened.refresh_identity(identity).name == f"{name}-new"


# --- Active Directory -------------------------------------------------------------------------------------------------

CONTROLS = {"leaver": "account disabled", "temp": "account expired"}


def test_active_directory_says_who_is_disabled_and_who_has_expired(active_directory, provider):
    opened = provider(active_directory.config())
    alice = opened.authenticate("alice", AD_PASSWORD)
    assert opened.refresh_identity(alice) == alice
    renamed = Identity(alice.provider, alice.subject, "was-called-otherwise", alice.authenticated_at)
    assert opened.refresh_identity(renamed) == alice
    for name, reason in CONTROLS.items():
        assert opened.refresh_identity(_known_as(active_directory.config(), opened, name)).reason == reason


def _known_as(config: LdapConfig, opened, name) -> Identity:
    """Return somebody as they signed in when they still could: with the id that the entry has."""
    (entry,) = opened._search_one(config.user_filter.replace("{username}", name), ("objectGUID",))
    guid = entry.attributes["objectguid"][0]
    subject = "-".join(part.hex() for part in (guid[3::-1], guid[5:3:-1], guid[7:5:-1], guid[8:10], guid[10:]))
    return Identity(config.provider, subject, name, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


# --- what an entry says -----------------------------------------------------------------------------------------------

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
TICKS = int((NOW - dt.datetime(1601, 1, 1, tzinfo=dt.UTC)).total_seconds()) * 10_000_000
ENTRIES = {
    "an ordinary account of Active Directory": ({"userAccountControl": "512", "accountExpires": "0"}, ""),
    "one that never expires": ({"userAccountControl": "66048", "accountExpires": "9223372036854775807"}, ""),
    "a disabled one": ({"userAccountControl": "514"}, "account disabled"),
    "one that expires this moment": ({"accountExpires": str(TICKS)}, "account expired"),
    "one that expires in a tenth of a second": ({"accountExpires": str(TICKS + 1_000_000)}, ""),
    "one that expires after the last date": ({"accountExpires": "9223372036854775806"}, ""),
    "389 Directory Server, locked": ({"nsAccountLock": "TRUE"}, "account disabled"),
    "389 Directory Server, open": ({"nsAccountLock": "false"}, ""),
    "OpenLDAP, locked for a while": ({"pwdAccountLockedTime": "20260301000000Z"}, "account locked"),
    "numbers that are none": ({"userAccountControl": "off", "accountExpires": "soon"}, ""),
    "nothing of the kind": ({"uid": "alice"}, ""),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_what_an_entry_says_of_its_own_account(case):
    told, reason = ENTRIES[case]
    entry = Entry("uid=alice", {name.lower(): (value.encode(),) for name, value in told.items()})
    refused = account_refusal(entry, NOW)
    assert (refused.reason if refused else "") == reason


def test_an_id_is_looked_for_in_every_place_where_it_may_be():
    assert stable_id_filter("1a2b*", "entryUUID") == r"(|(entryUUID=1a2b\2a))"
    guid = "00112233-4455-6677-8899-aabbccddeeff"
    octets = r"\33\22\11\00\55\44\77\66\88\99\aa\bb\cc\dd\ee\ff"
    assert (
        stable_id_filter(guid, "")
        == f"(|(objectGUID={octets})(entryUUID={guid})(ipaUniqueID={guid})(nsUniqueId={guid}))"
    )
