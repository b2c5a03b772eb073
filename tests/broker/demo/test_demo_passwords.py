"""The demonstration directory lets its people change their passwords, in the file that everybody reads them from."""

import ldap3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols import pureldap
from support.directories import running_demo_directory

from broker.demo.passwords import PasswordModify, with_password
from broker.demo.people import BASE, LDIF, SERVICE, people, read_ldif, service_password
from broker.demo.provider import demo_config
from broker.providers.ldap.passwords import PasswordChangeStatus

ALICE = f"uid=alice,ou=people,{BASE}"
OLD, NEW = "wonderland-1865", "through-the-looking-glass"
TEXT = LDIF.read_text(encoding="utf-8")


@pytest.fixture
def ldif(tmp_path):
    path = tmp_path / "people.ldif"
    path.write_text(TEXT.replace(f"userPassword: {OLD}\n", f"userPassword: {OLD}\npwdReset: TRUE\n"), encoding="utf-8")
    return path


@pytest.fixture
def url(ldif):
    with running_demo_directory(ldif) as url:
        yield url


@pytest.fixture
def opened(ldif, url, provider):
    return provider(demo_config(ldif, url))


def bound(url, dn, password):
    server = ldap3.Server(url, get_info=ldap3.NONE)
    connection = ldap3.Connection(server, dn, password, check_names=False)
    connection.bind()
    return connection


def test_who_must_change_the_password_does_and_then_signs_in(opened, ldif):
    assert opened.authenticate("alice", OLD).changeable
    assert opened.change_password("alice", OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate("alice", NEW).name == "alice"
    assert opened.authenticate("alice", OLD).reason == "wrong password"
    assert next(person.password for person in people(ldif) if person.name == "alice") == NEW
    assert ldif.stat().st_mode & 0o077 == 0


def test_anybody_may_change_their_own_password_and_no_other(opened, url):
    assert opened.change_password("bob", "wrong", NEW).change is PasswordChangeStatus.REFUSED
    assert opened.change_password("bob", "builder-can-we-fix-it", NEW).change is PasswordChangeStatus.CHANGED
    bob = bound(url, f"uid=bob,ou=people,{BASE}", NEW)
    assert not bob.extend.standard.modify_password(user=ALICE, old_password=OLD, new_password=NEW)
    assert bob.result["description"] == "insufficientAccessRights"
    assert not bob.extend.standard.modify_password(old_password="wrong", new_password=NEW)
    assert bob.result["description"] == "invalidCredentials"
    nobody = bound(url, None, None)
    assert not nobody.extend.standard.modify_password(user=ALICE, old_password=OLD, new_password=NEW)
    for connection in (bob, nobody):
        connection.unbind()


def test_who_must_change_the_password_reads_nothing_before(url):
    alice = bound(url, ALICE, OLD)
    assert not alice.search(BASE, "(uid=bob)")
    assert alice.extend.standard.modify_password(old_password=OLD, new_password=NEW)
    assert alice.search(BASE, "(uid=bob)")
    alice.unbind()


def test_no_new_password_is_made_up(url):
    service = bound(url, SERVICE, service_password(LDIF))
    assert not service.extend.standard.modify_password(old_password=service_password(LDIF))
    assert service.result["description"] == "unwillingToPerform"
    service.unbind()


def test_a_file_that_cannot_be_written_keeps_the_old_password(opened, ldif):
    (ldif.parent / "people.new").mkdir()
    assert opened.change_password("bob", "builder-can-we-fix-it", NEW).change is PasswordChangeStatus.IMPOSSIBLE
    assert opened.authenticate("bob", "builder-can-we-fix-it").name == "bob"


@given(st.binary(min_size=1, max_size=40))
def test_any_password_is_written_so_that_it_is_read_again_and_the_rest_stays(password):
    changed = with_password(TEXT, ALICE.upper(), password)
    before, after = ({entry.dn: dict(entry.attributes) for entry in read_ldif(text)} for text in (TEXT, changed))
    assert after[ALICE].pop("userpassword") == (password,)
    before[ALICE].pop("userpassword")
    assert before == after
    assert [line for line in changed.splitlines() if line.startswith("#")] == [
        line for line in TEXT.splitlines() if line.startswith("#")
    ]


def test_lines_that_go_on_are_one_value():
    text = f"dn: uid=alice,ou=people,\n {BASE}\nuserPassword: won\n derland\nuid: alice\npwdReset: TRUE\n"
    [entry] = read_ldif(with_password(text, ALICE, b"new"))
    assert (entry.texts("userPassword"), entry.texts("pwdReset"), entry.texts("uid")) == (("new",), (), ("alice",))


@given(st.binary(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_a_request_is_read_as_ldaptor_writes_it(identity, old, new):
    request = pureldap.LDAPPasswordModifyRequest(userIdentity=identity, oldPasswd=old, newPasswd=new)
    assert PasswordModify.decode(request.requestValue) == PasswordModify(identity, old, new)


def test_a_request_may_be_empty_and_shows_no_password():
    assert PasswordModify.decode(None) == PasswordModify()
    assert "secret" not in repr(PasswordModify(b"", b"secret-old", b"secret-new"))
