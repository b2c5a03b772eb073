"""Names and passwords as people type them: with domains, decomposed by a Mac, or with prohibited characters."""

import unicodedata

import pytest
from support.directories import running_demo_directory

from broker.demo.people import BASE, LDIF, SERVICE, service_password
from broker.providers.ldap.config import LdapConfig
from sts.identity import Identity, Refusal

DOMAIN = "corp.example.test"
PASSWORD = "pass-word-123"
# The account's name is not the part of the userPrincipalName before the "@".
PEOPLE = {
    "rdoe": ("robin.doe@corp.example.test", PASSWORD),
    "other": ("pat@corp.example.test", PASSWORD),
    "pat": ("somebody.else@corp.example.test", PASSWORD),
    "jürgen": ("", "paßwörter sind schön"),
    "nfkc": ("", "m2 ü"),
    "raw": ("", "m² ü"),
    "mac": ("", unicodedata.normalize("NFD", "schön")),
}


def person(name, upn, password):
    lines = [f"dn: uid={name},ou=people,{BASE}", "objectClass: person", f"uid: {name}", f"cn: {name}", "sn: X",
             f"userPassword: {password}", f"entryUUID: 0-{name}"]  # fmt: skip
    return "\n".join([*lines, *([f"userPrincipalName: {upn}"] if upn else []), "", ""])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    ldif = tmp_path_factory.mktemp("names") / "people.ldif"
    people = "".join(person(name, *rest) for name, rest in PEOPLE.items())
    ldif.write_text(LDIF.read_text(encoding="utf-8") + "\n" + people, encoding="utf-8")
    with running_demo_directory(ldif) as url:
        yield LdapConfig(name="corp", urls=(url,), user_base=f"ou=people,{BASE}", bind_dn=SERVICE,
                         bind_password=service_password(LDIF), login_domains=("CORP", DOMAIN))  # fmt: skip


@pytest.fixture
def directory(config, provider):
    return provider(config)


@pytest.mark.parametrize("typed", ["rdoe", "CORP\\rdoe", "rdoe@corp.example.test", "robin.doe@corp.example.test"])
def test_a_person_signs_in_by_account_name_or_user_principal_name(directory, typed):
    identity = directory.authenticate(typed, PASSWORD)
    assert isinstance(identity, Identity)
    assert identity.name == "rdoe"


def test_a_name_that_means_two_people_is_refused_and_recorded(directory):
    refused = directory.authenticate("pat@corp.example.test", PASSWORD)  # one's account, the other's UPN
    assert (refused.reason, refused.counts_as_failure) == ("ambiguous user name", True)
    assert directory.authenticate("pat", PASSWORD).name == "pat"


@pytest.mark.parametrize("typed", ["robin.doe", "robin.doe@elsewhere.example", "CORP\\robin.doe"])
def test_a_user_principal_name_of_another_domain_is_nobody(directory, typed):
    assert directory.authenticate(typed, PASSWORD).reason == "unknown user"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_decomposed_name_and_password_are_those_of_the_person(directory, form):
    identity = directory.authenticate(*(unicodedata.normalize(form, text) for text in ("jürgen", PEOPLE["jürgen"][1])))
    assert isinstance(identity, Identity)
    assert (identity.name, identity.subject) == ("jürgen", "0-jürgen")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["nfkc", "raw"])
def test_a_password_is_right_however_the_directory_has_stored_it(directory, name, form):
    assert isinstance(directory.authenticate(name, unicodedata.normalize(form, "m² ü")), Identity)


def test_a_password_that_was_stored_decomposed_is_still_right(directory):
    assert isinstance(directory.authenticate("mac", PEOPLE["mac"][1]), Identity)


@pytest.mark.parametrize(("name", "password", "reason"), [
    ("rdoe\ue000", PASSWORD, "impossible user name"),
    ("\u00ad", PASSWORD, "impossible user name"),
    ("rdoe", "a\tb", "impossible password"),
    ("rdoe", "\u202eabc", "impossible password"),
    ("rdoe", "\u00ad", "impossible password"),
])  # fmt: skip
def test_what_no_name_or_password_may_have_is_plainly_refused(directory, name, password, reason):
    refused = directory.authenticate(name, password)
    assert isinstance(refused, Refusal)
    assert (refused.reason, refused.counts_as_failure) == (reason, False)
