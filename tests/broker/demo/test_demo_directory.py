"""The demonstration directory: what it serves, what it keeps to itself, and when it stops."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import ldap3
import ldap3.operation.bind
import pytest
from support.directories import demo_ldif, running_demo_directory
from support.servers import HANG, eventually

from broker.demo.people import BASE, LDIF, SERVICE, Person, people, read_ldif, service_password
from broker.demo.provider import demo_config
from broker.providers.ldap.provider import LdapProvider
from sts.identity import Identity, ProviderUnavailable, Refusal

PEOPLE = f"ou=people,{BASE}"
ALICE = (f"uid=alice,{PEOPLE}", "wonderland-1865")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running_demo_directory(demo_ldif(tmp_path_factory.mktemp("demo"))) as url:
        yield url


@pytest.fixture
def client(url):
    opened = []

    def connect(dn=SERVICE, password=None):
        server = ldap3.Server(url, get_info=ldap3.NONE)
        password = service_password(LDIF) if dn == SERVICE and password is None else password
        options = {"check_names": False, "auto_escape": False, "return_empty_attributes": False}
        connection = ldap3.Connection(server, dn, password, **options)
        connection.bind()
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.unbind()


def found(connection, filter_, base=BASE, scope=ldap3.SUBTREE, attributes=("*",), **options):
    connection.search(base, filter_, scope, attributes=list(attributes), **options)
    return {entry["dn"]: entry["raw_attributes"] for entry in connection.response or ()}


def test_everyone_in_the_file_signs_in_with_exactly_their_groups(tmp_path):
    ldif = tmp_path / "people.ldif"
    ldif.write_bytes(LDIF.read_bytes())
    with running_demo_directory(ldif) as url:
        provider = LdapProvider(demo_config(ldif, url), now=lambda: None)
        everyone = people(ldif)
        assert len(everyone) >= 5
        for person in everyone:
            identity = provider.authenticate(person.name, person.password)
            assert isinstance(identity, Identity)
            assert (identity.name, identity.groups) == (person.name, person.groups)
            assert isinstance(provider.authenticate(person.name, person.password + "x"), Refusal)
        provider.close()


def test_the_people_are_read_without_the_server_and_without_printing_passwords():
    alice = people(LDIF)[0]
    groups = tuple(f"cn={name},ou=groups,{BASE}" for name in ("engineering", "platform", "staff"))
    assert alice == Person("alice", "wonderland-1865", groups, ALICE[0])
    assert "wonderland" not in repr(alice)
    imported = "import sys, broker.demo.people; print({'ldaptor', 'twisted', 'ldap3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_everyone_has_an_id_of_their_own():
    ids = [entry.texts("entryUUID")[0] for entry in read_ldif(LDIF.read_text(encoding="utf-8"))]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("dn", "password", "code"),
    [
        (*ALICE, 0),
        (ALICE[0].upper(), ALICE[1], 0),
        (f"UID=alice , OU=people,{BASE}", ALICE[1], 0),
        (ALICE[0], "wrong", 49),
        (ALICE[0], "\0", 49),
        (f"uid=nobody,{PEOPLE}", "\0", 49),
        (PEOPLE, "\0", 49),
        ("not a name", "x", 49),
    ],
)
def test_a_simple_bind_is_judged(client, dn, password, code):
    assert client(dn, password.encode()).result["result"] == code


def test_a_name_without_a_password_is_refused(url):
    connection = ldap3.Connection(ldap3.Server(url, get_info=ldap3.NONE))
    connection.open()
    request = ldap3.operation.bind.bind_operation(3, ldap3.ANONYMOUS, "", "")
    request["name"] = ALICE[0]
    connection.post_send_single_response(connection.send("bindRequest", request))
    assert connection.result["result"] == 53
    connection.unbind()


def test_nobody_reads_without_a_bind_nor_after_a_failed_one(client):
    anonymous = client(None, None)
    assert found(anonymous, "(uid=alice)") == {}
    assert anonymous.result["result"] == 50
    once_bound = client()
    once_bound.rebind(ALICE[0], b"wrong")
    assert found(once_bound, "(uid=alice)") == {}


@pytest.mark.parametrize(
    "attributes", [["*"], ["userPassword"], ["USERPASSWORD", "uid"], ["*", "+"], ["+", "userPassword"]]
)
def test_passwords_are_never_shown(client, attributes):
    for entry in found(client(), "(objectClass=*)", attributes=attributes).values():
        assert not any("password" in name.lower() for name in entry)


@pytest.mark.parametrize(
    "test", ["userPassword=wonderland-1865", "userPassword=w*", "userPassword=*", "USERPASSWORD=*5"]
)
def test_passwords_cannot_be_guessed_by_filter(client, test):
    assert found(client(), f"({test})") == {}


FILTERS = [
    ("(uid=alice)", {"alice"}),
    ("(uid=ALICE)", {"alice"}),
    ("(uid=  alice )", {"alice"}),
    (r"(uid=\61lice)", {"alice"}),
    (r"(uid=\2a)", set()),
    ("(uid=al*)", {"alice"}),
    ("(uid=*ce)", {"alice"}),
    ("(uid=a*i*l*e)", set()),
    ("(uid=a*i*e)", {"alice"}),
    ("(cn=c*st*a*o)", {"carol"}),
    (r"(cn=carol casta\c3\b1o)", {"carol"}),
    ("(&(objectClass=person)(departmentNumber=finance))", {"carol"}),
    ("(|(uid=alice)(uid=bob)(uid=nobody))", {"alice", "bob"}),
    ("(&(title=*engineer)(!(uid=bob)))", {"alice"}),
    (f"(memberOf=cn=finance,ou=groups,{BASE})", {"carol"}),
    (f"(memberOf=CN = finance, ou=groups,{BASE})", {"carol"}),
    ("(unheardOf=*)", set()),
    ("(uid>=a)", set()),
]


@pytest.mark.parametrize(("filter_", "names"), FILTERS)
def test_filters_find_whom_they_should(client, filter_, names):
    entries = found(client(), filter_, PEOPLE, attributes=["uid"])
    assert {entry["uid"][0].decode() for entry in entries.values()} == names


@pytest.mark.parametrize(
    ("scope", "base", "count"),
    [
        (ldap3.BASE, ALICE[0], 1),
        (ldap3.LEVEL, BASE, 3),
        (ldap3.LEVEL, ALICE[0], 0),
        (ldap3.SUBTREE, ALICE[0], 1),
        (ldap3.BASE, f"uid=nobody,{PEOPLE}", 0),
        (ldap3.LEVEL, f"OU=Services, {BASE}", 1),
    ],
)
def test_scopes_mean_what_ldap_says(client, scope, base, count):
    assert len(found(client(), "(objectClass=*)", base, scope)) == count


def test_the_size_limit_is_kept_and_said(client):
    connection = client()
    assert len(found(connection, "(objectClass=*)", size_limit=2)) == 2
    assert connection.result["result"] == 4


def test_only_what_was_asked_for_is_sent(client):
    assert found(client(), "(uid=alice)", attributes=["MAIL", "entryUUID"])[ALICE[0]].keys() == {"mail", "entryUUID"}
    assert "memberOf" not in found(client(), "(uid=alice)")[ALICE[0]]
    assert found(client(), "(uid=alice)", attributes=["1.1"])[ALICE[0]] == {}


def test_nothing_can_be_changed(client):
    connection = client(*ALICE)
    assert not connection.modify(ALICE[0], {"title": [(ldap3.MODIFY_REPLACE, ["Boss"])]})
    assert not connection.delete(ALICE[0])
    assert not connection.add(f"uid=eve,{PEOPLE}", ["person"], {"sn": "Eve"})
    assert connection.result["result"] == 53
    assert len(found(connection, "(uid=alice)")) == 1


@pytest.mark.parametrize(
    "octets",
    [b"\0" * 64, bytes(range(256)), b"\x30\x84\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x30\x03\x02\x01\x01"],
)
def test_garbage_hurts_nobody_else(url, client, octets):
    host, port = url.removeprefix("ldap://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(octets * 100)
    assert len(found(client(), "(uid=alice)")) == 1


def test_a_saved_file_is_served_and_a_broken_one_is_left_unread(tmp_path):
    ldif = demo_ldif(tmp_path)
    good = ldif.read_text(encoding="utf-8")
    with running_demo_directory(ldif) as url:
        provider = LdapProvider(demo_config(ldif, url), now=lambda: None)
        assert isinstance(provider.authenticate("grace", "compiler-1952"), Refusal)
        grace = f"\ndn: uid=grace,{PEOPLE}\nobjectClass: person\nuid: grace\nuserPassword: compiler-1952\n"
        ldif.write_text(good + grace, encoding="utf-8")
        assert isinstance(provider.authenticate("grace", "compiler-1952"), Identity)
        ldif.write_text(good + grace + "\nthis is no LDIF\n", encoding="utf-8")
        assert isinstance(provider.authenticate("grace", "compiler-1952"), Identity)
        provider.close()


@pytest.mark.parametrize(
    "text",
    ["uid: a\n", "dn: uid=a\nuid\n", "dn: not a name\n", "dn: uid=a\njpegPhoto:< file:///etc/passwd\n", "dn:: %%%\n"],
)
def test_what_is_no_ldif_is_refused(text):
    with pytest.raises(ValueError, match=r"(?s).+"):
        read_ldif(text)


def test_ldif_may_fold_lines_comment_and_use_base64():
    text = "version: 1\n\n# people\n#  folded comment\n folded\ndn: uid=a,\n dc=x\nuid: a\ncn:: R3LDvG4=\ncn: second\n"
    (entry,) = read_ldif(text)
    assert (entry.dn, entry.texts("CN")) == ("uid=a,dc=x", ("Grün", "second"))


def test_it_starts_and_stops_when_told():
    command = [sys.executable, "-m", "broker.demo.directory", "--ldif", str(LDIF)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("ldap://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 0


def test_the_url_goes_to_the_descriptor_that_was_given():
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "broker.demo.directory", "--ldif", str(LDIF), "--ready-fd", str(writing)]
    with subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL) as process:
        os.close(writing)
        with os.fdopen(reading, encoding="ascii") as ready:
            assert ready.read().startswith("ldap://127.0.0.1:")
        process.terminate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_it_does_not_outlive_its_parent():
    program = textwrap.dedent(
        f"""
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-m", "broker.demo.directory", "--ldif", {str(LDIF)!r}],
                                 stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    eventually(lambda: not alive(pid))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("bind", ["0.0.0.0:0", ":0", "192.0.2.1:389"])
def test_it_serves_loopback_alone(bind):
    command = [sys.executable, "-m", "broker.demo.directory", "--ldif", str(LDIF), "--bind", bind]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 2
    assert "loopback" in done.stderr


def test_a_file_without_the_service_account_is_told(tmp_path):
    empty = tmp_path / "people.ldif"
    empty.write_text("dn: dc=x\ndc: x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="with a userPassword"):
        demo_config(empty, "ldap://127.0.0.1:1")


def test_a_directory_that_is_gone_is_an_outage(tmp_path):
    ldif = demo_ldif(tmp_path)
    with running_demo_directory(ldif) as url:
        pass
    with pytest.raises(ProviderUnavailable):
        LdapProvider(demo_config(ldif, url), now=lambda: None).check()


@pytest.mark.parametrize("filter_", [r"(uid=\ff\fe\80)", r"(objectGUID=\01\80\ff\00)", r"(member=\ff)"])
def test_octets_that_are_no_text_find_nobody_and_end_no_connection(client, filter_):
    connection = client()
    assert found(connection, filter_) == {}
    assert connection.result["result"] == 0
    assert found(connection, "(uid=alice)").keys() == {ALICE[0]}


def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path):
    ldif = tmp_path / "people.ldif"
    ldif.write_bytes(b"\xef\xbb\xbf" + LDIF.read_bytes())
    with running_demo_directory(ldif) as url:
        provider = LdapProvider(demo_config(LDIF, url), now=lambda: None)
        assert isinstance(provider.authenticate("alice", ALICE[1]), Identity)
        provider.close()
