"""Groups: read in every spelling that directories use, or the sign-in is refused; none is left out without a word."""

from dataclasses import dataclass, field

import pytest
from support.directories import running_demo_directory

from broker.demo.people import BASE, LDIF, SERVICE, service_password
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.connection import Entry, SearchResult
from broker.providers.ldap.filters import escape_filter_value
from broker.providers.ldap.groups import GroupResolver, IncompleteGroups
from sts.identity import Identity, ProviderUnavailable, Refusal

PASSWORD = "pass-word-123"
DOMAIN = "dc=corp,dc=example"
ME = f"CN=Me,OU=People,{DOMAIN}"
SID = bytes.fromhex("010500000000000515000000" + "01000000" * 3 + "51040000")
PRIMARY = f"CN=Domain Users,CN=Users,{DOMAIN}"
PRIMARY_SID = "".join(f"\\{octet:02x}" for octet in SID[:-4] + (513).to_bytes(4, "little"))


@dataclass
class Directory:
    """A pool and its connection: answers searches from a table of (base, filter) or base alone."""

    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def run(self, use):
        return use(self)

    def search(self, base, filter_, attributes, *, limit, scope):
        self.asked.append((base, filter_, *attributes))
        assert (limit, bool(scope)) == (2000, True)
        found = self.answers.get((base, *attributes)) or self.answers.get((base, filter_)) or ()
        return found if isinstance(found, SearchResult) else SearchResult(tuple(found), complete=True)


def entry(dn=ME, **attributes):
    values = {name.lower(): tuple(each if isinstance(each, bytes) else each.encode() for each in given)
              for name, given in attributes.items()}  # fmt: skip
    return Entry(dn, values)


def groups_of(person, answers=None, **settings):
    chosen = {"member_of_attribute": "memberOf", "base": "", "filter_": "", "nested": False} | settings
    return GroupResolver(Directory(answers or {}), **chosen).of(person, "me")


SPELLINGS = {
    'CN="Contractors, External",OU=Groups,O=Acme': r"cn=Contractors\, External,ou=Groups,o=Acme",
    "CN=Notes Group;OU=Groups;O=Acme": "cn=Notes Group,ou=Groups,o=Acme",
    "contractors": "contractors",
    r"CN=Sales\/EMEA,OU=Groups,DC=corp,DC=example": "cn=Sales/EMEA,ou=Groups,dc=corp,dc=example",
    "OID.2.5.4.3=Old,O=Acme": "cn=Old,o=Acme",
    "CN=Staff , OU = Groups , DC=corp,DC=example": "cn=Staff,ou=Groups,dc=corp,dc=example",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_a_group_is_read(spelling):
    assert groups_of(entry(memberOf=[spelling])) == (SPELLINGS[spelling],)


@pytest.mark.parametrize("value", ['CN="Contractors,O=Acme', "cn=a,,dc=b", "a b=c", "", "  ", b"cn=\xff\xfe"])
def test_a_group_that_cannot_be_read_refuses_the_sign_in(value):
    with pytest.raises(IncompleteGroups):
        groups_of(entry(memberOf=["cn=staff,dc=x", value]))


# --- ways that bring too few groups -----------------------------------------------------------------------------------


def part(first, last, *names):
    return {f"memberOf;range={first}-{last}": names}


def test_ranged_values_are_all_read():
    answers = {
        (ME, "memberOf;range=2-*"): [entry(**part(2, 3, "cn=c", "cn=d"))],
        (ME, "memberOf;range=4-*"): [entry(**part(4, "*", "cn=e"))],
    }
    assert groups_of(entry(**part(0, 1, "cn=a", "cn=b")), answers) == ("cn=a", "cn=b", "cn=c", "cn=d", "cn=e")


@pytest.mark.parametrize("second", [[], [entry(**part(0, 1, "cn=a", "cn=b"))], [entry(**part(2, 1))]])
def test_a_range_that_does_not_go_on_refuses_the_sign_in(second):
    with pytest.raises(IncompleteGroups):
        groups_of(entry(**part(0, 1, "cn=a", "cn=b")), {(ME, "memberOf;range=2-*"): second})


def test_ranges_end_at_the_greatest_number_of_groups():
    class Endless(Directory):
        def search(self, _base, _filter, attributes, **_):
            first = int(attributes[0].partition("=")[2].removesuffix("-*"))
            names = [f"cn={number}" for number in range(first, first + 500)]
            return SearchResult((entry(**part(first, first + 499, *names)),), complete=True)

    resolver = GroupResolver(Endless(), member_of_attribute="memberOf", base="", filter_="", nested=False)
    with pytest.raises(ProviderUnavailable) as raised:
        resolver.of(entry(**part(0, 0, "cn=x")), "me")
    assert raised.value.log == "more than 2000 groups for one person"


def test_values_under_an_option_of_the_attribute_count():
    assert groups_of(entry(**{"memberOf;lang-en": ["cn=a"], "memberOf": ["cn=b"]})) == ("cn=a", "cn=b")


def test_the_primary_group_of_active_directory_and_its_groups_are_found():
    person = entry(primaryGroupID=["513"], objectSid=[SID], memberOf=["cn=a"])
    answers = {
        (DOMAIN, f"(objectSid={PRIMARY_SID})"): [entry(PRIMARY)],
        (f"ou=groups,{DOMAIN}", f"(member={escape_filter_value(PRIMARY)})"): [entry(f"cn=above,{DOMAIN}")],
    }
    settings = {"base": f"ou=groups,{DOMAIN}", "filter_": "(member={dn})"}
    primary = "cn=Domain Users,cn=Users,dc=corp,dc=example"
    assert groups_of(person, answers, **settings) == (primary, "cn=a", f"cn=above,{DOMAIN}")
    with pytest.raises(IncompleteGroups, match="primary group"):
        groups_of(person)


def test_the_primary_group_of_a_posix_account_is_found():
    person, base = entry(gidNumber=["70(0"]), "ou=groups"
    filter_ = r"(|(memberUid=me)(&(objectClass=posixGroup)(gidNumber=70\280)))"
    answers = {(base, filter_): [entry("cn=staff,ou=groups")]}
    assert groups_of(person, answers, base=base, filter_="(memberUid={username})") == ("cn=staff,ou=groups",)


CHILD = "ldap://child.corp.example/DC=child,DC=corp,DC=example"
PARTITIONS = (
    "ldap://corp.example/CN=Configuration,DC=corp,DC=example",
    "ldap://DomainDnsZones.corp.example/DC=DomainDnsZones,DC=corp,DC=example",
)


@pytest.mark.parametrize(
    ("references", "complete"), [(PARTITIONS, True), ((*PARTITIONS, CHILD), False), (("x",), False)]
)
def test_groups_that_may_be_on_another_server_refuse_the_sign_in(references, complete):
    answers = {("ou=groups", f"(member={ME})"): SearchResult((entry("cn=a"),), complete=True, references=references)}
    settings = {"base": "ou=groups", "filter_": "(member={dn})"}
    if complete:
        assert groups_of(entry(), answers, **settings) == ("cn=a",)
        return
    with pytest.raises(IncompleteGroups, match="another server"):
        groups_of(entry(), answers, **settings)


def test_the_groups_of_a_group_that_cannot_be_read_refuse_the_sign_in():
    person = entry(memberOf=["cn=a"])
    assert groups_of(person, {("cn=a", "memberOf"): [entry("cn=a", memberOf=["cn=b"])],
                              ("cn=b", "memberOf"): [entry("cn=b")]}, nested=True) == ("cn=a", "cn=b")  # fmt: skip
    with pytest.raises(IncompleteGroups, match="cn=a cannot be read"):
        groups_of(person, nested=True)
    with pytest.raises(IncompleteGroups, match="no DN"):
        groups_of(entry(memberOf=["contractors"]), nested=True)


def test_a_search_that_stopped_is_an_outage():
    answers = {("ou=groups", f"(member={ME})"): SearchResult((entry("cn=a"),), complete=False)}
    with pytest.raises(ProviderUnavailable):
        groups_of(entry(), answers, base="ou=groups", filter_="(member={dn})")


# --- as a sign-in -----------------------------------------------------------------------------------------------------


def person(name, *groups):
    lines = [f"dn: uid={name},ou=people,{BASE}", "objectClass: inetOrgPerson", "objectClass: person", f"uid: {name}",
             f"cn: {name}", "sn: X", f"userPassword: {PASSWORD}", f"entryUUID: 0-{name}"]  # fmt: skip
    return "\n".join([*lines, *(f"adGroup: {group}" for group in groups), "", ""])


@pytest.fixture(scope="module")
def odd_directory(tmp_path_factory):
    ldif = tmp_path_factory.mktemp("odd") / "people.ldif"
    people = person("odd", *SPELLINGS) + person("broken", "cn=staff,dc=x", 'CN="Contractors,O=Acme')
    ldif.write_text(LDIF.read_text(encoding="utf-8") + "\n" + people, encoding="utf-8")
    with running_demo_directory(ldif) as url:
        yield LdapConfig(name="corp", urls=(url,), user_base=f"ou=people,{BASE}", bind_dn=SERVICE,
                         bind_password=service_password(LDIF), member_of_attribute="adGroup")  # fmt: skip


def test_a_person_signs_in_with_every_group(odd_directory, provider):
    identity = provider(odd_directory).authenticate("odd", PASSWORD)
    assert isinstance(identity, Identity)
    assert set(identity.groups) == set(SPELLINGS.values())
    named = dict(zip(identity.groups, identity.group_names, strict=True))
    assert named["contractors"] == "contractors"
    assert named[r"cn=Contractors\, External,ou=Groups,o=Acme"] == "Contractors, External"


def test_a_person_with_a_group_that_cannot_be_read_is_refused_and_the_reason_is_recorded(odd_directory, provider):
    refused = provider(odd_directory).authenticate("broken", PASSWORD)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.password_correct, refused.counts_as_failure) == ("incomplete groups", True, False)
    assert "Contractors" in refused.detail
    assert provider(odd_directory).authenticate("broken", "wrong").reason == "wrong password"
