"""Changing a password in a directory that keeps to the standards: a real slapd, and servers that mean harm."""

import itertools
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols import pureldap
from support.directories import HostileServer
from support.servers import eventually
from support.timing import alike, fastest

from broker.demo.people import BASE
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.connection import (
    Address,
    LdapConnection,
    LdapConnectionError,
    LdapResult,
    Transport,
    tls_context,
)
from broker.providers.ldap.passwords import PasswordChangeStatus, change_own_password
from broker.providers.ldap.vendors import DirectoryVendor
from sts.identity import Identity, ProviderUnavailable

PEOPLE = f"ou=people,{BASE}"
OLD = "old-and-well-known"
NEW = "new-and-still-secret"
NUMBERS = itertools.count()

POLICIES = {
    "graceful": {"pwdMaxAge": 1, "pwdGraceAuthNLimit": 2},
    "merciless": {"pwdMaxAge": 1},
    "resetting": {"pwdMustChange": "TRUE"},
    "picky": {"pwdMinLength": 12, "pwdMaxLength": 40, "pwdCheckQuality": 2, "pwdInHistory": 3},
    "patient": {"pwdMinAge": 86_400},
    "frozen": {"pwdAllowUserChange": "FALSE"},
    "safe": {"pwdSafeModify": "TRUE"},
    "locking": {"pwdLockout": "TRUE", "pwdMaxFailure": 2, "pwdLockoutDuration": 600},
}


def policy(name):
    lines = [f"dn: cn={name},ou=change,{BASE}", "changetype: add", "objectClass: device", "objectClass: pwdPolicy"]
    lines += [f"cn: {name}", "pwdAttribute: userPassword"]
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in POLICIES[name].items()), "\n"])


@pytest.fixture(scope="module")
def directory(slapd):
    slapd.modify(f"dn: ou=change,{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: change\n\n")
    slapd.modify("".join(policy(name) for name in POLICIES))
    return slapd


@pytest.fixture
def hired(directory):
    """Return what adds somebody with the password OLD and returns the login name."""

    def hire(under=None):
        name = f"employee{next(NUMBERS)}"
        lines = [f"dn: uid={name},{PEOPLE}", "changetype: add", "objectClass: inetOrgPerson", "objectClass: person"]
        lines += [f"uid: {name}", f"cn: {name}", f"sn: {name}", f"userPassword: {OLD}"]
        lines += [f"pwdPolicySubentry: cn={under},ou=change,{BASE}"] if under else []
        directory.modify("\n".join([*lines, "\n"]))
        return name

    return hire


@pytest.fixture
def opened(directory, provider):
    return provider(directory.config())


def expired(opened, name):
    """Return what somebody is answered whose password has outlived its second."""
    return eventually(lambda: not isinstance(answer := opened.authenticate(name, OLD), Identity) and answer, every=0.2)


TRANSPORTS = {
    "ldap": lambda _: {},
    "StartTLS": lambda _: {"start_tls": True},
    "ldaps": lambda slapd: {"urls": (slapd.ldaps,)},
    "ldapi": lambda slapd: {"urls": (slapd.ldapi,)},
}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_new_password_replaces_the_old_one(directory, provider, hired, transport):
    opened, name = provider(directory.config(**TRANSPORTS[transport](directory))), hired()
    assert opened.change_password(name, OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate(name, NEW).name == name
    assert opened.authenticate(name, OLD).reason == "wrong password"


@pytest.mark.parametrize(
    "new", ["pä☃ wörd", " spaces at both ends ", '"quoted"', "{SSHA}looks-hashed", "x" * 1024, "ℌ①"]
)
def test_any_text_is_set_octet_by_octet(opened, hired, new):
    name = hired()
    assert opened.change_password(name, OLD, new).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate(name, new).name == name


def test_a_password_that_was_reset_is_changed_by_its_owner(directory, opened, hired):
    name = hired("resetting")
    directory.modify(f"dn: uid={name},{PEOPLE}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n")
    assert opened.authenticate(name, OLD).changeable
    assert opened.change_password(name, OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate(name, NEW).name == name


def test_an_expired_password_is_changed_with_one_grace_login(directory, provider, hired):
    opened, name = provider(directory.config()), hired("graceful")
    time.sleep(2.1)  # the password's second of life, and that in which it ends
    assert isinstance(opened.authenticate(name, OLD), Identity), "the first of two"
    assert opened.change_password(name, OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert isinstance(opened.authenticate(name, NEW), Identity)


def test_an_expired_password_without_a_grace_login_cannot_be_changed_here(opened, hired):
    name = hired("merciless")
    refused = expired(opened, name)
    assert (refused.password_correct, refused.changeable) == (True, False)
    outcome = opened.change_password(name, OLD, NEW)
    assert (outcome.change, outcome.refusal.reason) == (PasswordChangeStatus.IMPOSSIBLE, "password expired")
    wrong = opened.change_password(name, "wrong", NEW)
    assert (wrong.change, wrong.refusal.reason) == (PasswordChangeStatus.REFUSED, "wrong password")


@pytest.mark.parametrize(
    ("under", "new", "change"),
    [
        ("picky", "short", PasswordChangeStatus.TOO_SHORT),
        ("picky", "x" * 41, PasswordChangeStatus.TOO_LONG),
        ("picky", "{SSHA}cannot-be-judged", PasswordChangeStatus.TOO_WEAK),
        ("patient", NEW, PasswordChangeStatus.TOO_YOUNG),
        ("frozen", NEW, PasswordChangeStatus.IMPOSSIBLE),
        ("safe", NEW, PasswordChangeStatus.CHANGED),
    ],
)
def test_the_directorys_policy_decides(opened, hired, under, new, change):
    name = hired(under)
    outcome = opened.change_password(name, OLD, new)
    assert outcome.change is change
    assert outcome.rejected is (change not in {PasswordChangeStatus.CHANGED, PasswordChangeStatus.IMPOSSIBLE})
    assert opened.authenticate(name, new if change is PasswordChangeStatus.CHANGED else OLD).name == name


def test_a_password_from_the_history_is_not_taken(opened, hired):
    name = hired("picky")
    assert opened.change_password(name, OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert opened.change_password(name, NEW, OLD).change is PasswordChangeStatus.IN_HISTORY


def test_a_locked_account_changes_nothing(opened, hired):
    name = hired("locking")
    for _ in range(2):
        opened.authenticate(name, "wrong")
    outcome = opened.change_password(name, OLD, NEW)
    assert (outcome.change, outcome.refusal.reason, outcome.refusal.password_correct) == (
        PasswordChangeStatus.REFUSED,
        "account locked",
        False,
    )


@pytest.mark.parametrize("username", ["nobody", "twin", "*", "alice)(uid=*", f"uid=alice,{PEOPLE}", "alice\0", ""])
def test_who_is_nobody_is_refused_as_a_wrong_password_is(opened, username):
    outcome = opened.change_password(username, "same-for-both", NEW)
    assert outcome.change is PasswordChangeStatus.REFUSED
    assert not outcome.refusal.password_correct


@pytest.mark.parametrize(
    ("new", "change"),
    [
        ("", PasswordChangeStatus.UNUSABLE),
        ("a\0b", PasswordChangeStatus.UNUSABLE),
        ("\ud800", PasswordChangeStatus.UNUSABLE),
        ("x" * 1025, PasswordChangeStatus.UNUSABLE),
        (OLD, PasswordChangeStatus.IN_HISTORY),
    ],
)
def test_what_cannot_be_a_new_password_is_not_sent(provider, new, change):
    with HostileServer(silent) as server:
        outcome = provider(reach(server.url)).change_password("alice", OLD, new)
        assert (outcome.change, outcome.rejected, server.connections) == (change, True, 0)


@pytest.mark.parametrize("changes", [{"password_change": False}, {"password_change_url": "https://id.example/new"}])
def test_where_the_settings_say_so_no_password_is_changed(provider, changes):
    with HostileServer(silent) as server:
        outcome = provider(reach(server.url, **changes)).change_password("alice", OLD, NEW)
        assert (outcome.change, server.connections) == (PasswordChangeStatus.IMPOSSIBLE, 0)


def test_an_empty_old_password_opens_no_connection(provider):
    with HostileServer(silent) as server:
        outcome = provider(reach(server.url)).change_password("alice", "", NEW)
        assert (outcome.change, outcome.refusal.counts_as_failure, server.connections) == (
            PasswordChangeStatus.REFUSED,
            False,
            0,
        )


def test_the_connection_that_changed_a_password_proves_the_next_person_only_by_a_bind(directory, provider, hired):
    opened = provider(directory.config(pool_size=1))
    first, second = hired(), hired()
    assert opened.change_password(first, OLD, NEW).change is PasswordChangeStatus.CHANGED
    assert opened.authenticate(second, NEW).reason == "wrong password"
    assert opened.change_password(second, NEW, "yet-another").change is PasswordChangeStatus.REFUSED
    assert opened.authenticate(second, OLD).name == second
    assert opened.authenticate(first, NEW).name == first
    opened.check()


@pytest.mark.long  # the time of another process
def test_an_unknown_user_takes_as_long_as_a_wrong_old_password(opened, hired):
    known = hired()

    def refuse(name):
        assert opened.change_password(name, "wrong", NEW).change is PasswordChangeStatus.REFUSED

    assert alike(*fastest(lambda: refuse(known), lambda: refuse("nobody-here"), tries=60, clock=time.perf_counter))


def test_no_password_is_in_an_outcome_or_a_log(opened, hired, caplog):
    name = hired("picky")
    with caplog.at_level("DEBUG"):
        outcomes = [opened.change_password(name, *tried) for tried in ((OLD, "tiny"), ("wr0ng", NEW), (OLD, NEW))]
    assert [outcome.change for outcome in outcomes] == [
        PasswordChangeStatus.TOO_SHORT,
        PasswordChangeStatus.REFUSED,
        PasswordChangeStatus.CHANGED,
    ]
    assert not any(secret in repr(outcomes) + caplog.text for secret in (OLD, NEW, "tiny", "wr0ng"))


# --- servers that fail or mean harm -----------------------------------------------------------------------------------

BOUND = pureldap.LDAPBindResponse(resultCode=0)
DONE = pureldap.LDAPSearchResultDone(resultCode=0)
ALICE = pureldap.LDAPSearchResultEntry(f"uid=alice,{PEOPLE}", [("uid", ["alice"]), ("entryUUID", ["0-1"])])
PLAIN_ROOT = pureldap.LDAPSearchResultEntry("", [("objectClass", ["top"])])
AD_ROOT = pureldap.LDAPSearchResultEntry("", [("supportedCapabilities", ["1.2.840.113556.1.4.800"])])


def reach(*urls, **changes):
    settings = {"name": "corp", "urls": urls, "user_base": PEOPLE, "connect_timeout": 0.4, "receive_timeout": 0.4}
    service = {"bind_dn": f"cn=fedgate,{BASE}", "bind_password": "lookup-only"}
    return LdapConfig(**{**settings, **service, **changes})


def silent(client):
    client.wait()


def identified(request):
    """Return the message id of a request and what kind of request it is (RFC 4511 4.2 to 4.12)."""
    start = 2 + (request[1] & 0x7F if request[1] & 0x80 else 0)
    end = start + 2 + request[start + 1]
    return int.from_bytes(request[start + 2 : end], "big"), request[end]


BIND, SEARCH, MODIFY, EXTENDED = 0x60, 0x63, 0x66, 0x77


class Directory:
    """A directory of alice alone that answers a change as a test says, or not; ``root`` is its root DSE."""

    def __init__(self, change, root=PLAIN_ROOT, bind=BOUND):
        self.change = change
        self.root = root
        self.bind = bind
        self.changes = []

    def __call__(self, client):
        while True:
            request = client.receive()
            number, kind = identified(request)
            if kind in {MODIFY, EXTENDED}:
                self.changes.append(request)
            answers = self.answers(request, kind)
            client.send(b"".join(pureldap.LDAPMessage(answer, id=number).toWire() for answer in answers))

    def answers(self, request, kind):
        if kind == SEARCH:
            return [ALICE if b"alice" in request else self.root, DONE]
        if kind == BIND:
            return [BOUND if b"fedgate" in request else self.bind]
        return [] if self.change is None else [self.change]


def answered(result, message="", kind=pureldap.LDAPExtendedResponse):
    return kind(resultCode=result, errorMessage=message)


def test_a_directory_that_falls_silent_is_not_asked_again_and_nobody_says_what_became_of_it(provider, caplog):
    first, second = Directory(None), Directory(answered(0))
    with HostileServer(first) as server, HostileServer(second) as other:
        outcome = provider(reach(server.url, other.url)).change_password("alice", OLD, NEW)
        assert (outcome.change, outcome.rejected) == (PasswordChangeStatus.UNKNOWN, False)
        assert (len(first.changes), other.connections) == (1, 0)
    assert NEW not in caplog.text + repr(outcome)
    assert "not known" in caplog.text


def test_kept_connections_that_died_are_found_out_before_the_new_password_is_sent(provider):
    directory, clients = Directory(answered(0)), []

    def treat(client):
        clients.append(client)
        directory(client)

    with HostileServer(treat) as server:
        opened = provider(reach(server.url))
        assert isinstance(opened.authenticate("alice", OLD), Identity)
        for client in clients:
            client.socket.shutdown(socket.SHUT_RDWR)
        assert opened.change_password("alice", OLD, NEW).change is PasswordChangeStatus.CHANGED
        assert len(clients) == 4
    assert len(directory.changes) == 1


@pytest.mark.parametrize("result", [1, 3, 51, 52, 80, 4096])
def test_a_failure_that_is_no_verdict_is_an_outage(provider, result):
    with HostileServer(Directory(answered(result))) as server, pytest.raises(ProviderUnavailable) as caught:
        provider(reach(server.url)).change_password("alice", OLD, NEW)
    assert NEW not in caught.value.log


def test_all_servers_down_is_an_outage(provider):
    with pytest.raises(ProviderUnavailable):
        provider(reach("ldap://127.0.0.1:1")).change_password("alice", OLD, NEW)


class Referral:
    """An ExtendedResponse of RFC 4511 4.12 that names another server (4.1.10)."""

    def __init__(self, url):
        self.url = url

    def toWire(self):  # noqa: N802 - ldaptor's name
        uri = bytes([0x04, len(self.url)]) + self.url
        referral = bytes.fromhex("0a010a04000400") + bytes([0xA3, len(uri)]) + uri
        return bytes([0x78, len(referral)]) + referral


def test_a_referral_is_not_followed(provider):
    with HostileServer(silent) as trap:
        with HostileServer(Directory(Referral(f"{trap.url}/".encode()))) as server:
            assert (
                provider(reach(server.url)).change_password("alice", OLD, NEW).change is PasswordChangeStatus.IMPOSSIBLE
            )
        assert (trap.connections, bytes(trap.received)) == (0, b"")


def test_what_the_directory_says_is_kept_for_the_audit_log_without_the_passwords(provider):
    quoting = f"the dictionary knows {NEW!r}, and {OLD!r} as well; " + "x" * 400
    with HostileServer(Directory(answered(19, quoting))) as server:
        outcome = provider(reach(server.url)).change_password("alice", OLD, NEW)
    assert outcome.change is PasswordChangeStatus.AGAINST_RULES
    assert outcome.detail.startswith("result 19: the dictionary knows '…', and '…' as well")
    assert len(outcome.detail) == 300


@pytest.mark.parametrize("how", ["modify_own_password", "replace_unicode_password"])
def test_a_new_password_is_never_sent_in_clear_text_beyond_this_machine(how):
    transport = Transport(
        tls_context("", insecure_skip_tls_verify=False), start_tls=False, connect_timeout=1.0, receive_timeout=1.0
    )
    with HostileServer(silent) as server:
        # Linux takes this for loopback; as an address it is not.
        connection = LdapConnection(Address("ldap", "0.0.0.0", server.port), transport)
        arguments = (OLD, NEW) if how == "modify_own_password" else (f"uid=alice,{PEOPLE}", OLD, NEW)
        with pytest.raises(LdapConnectionError) as caught:
            getattr(connection, how)(*arguments)
        connection.close()
        assert caught.value.security
        assert bytes(server.received) == b""


# --- Active Directory's answers, which no other server gives ----------------------------------------------------------

MUST_CHANGE = pureldap.LDAPBindResponse(
    resultCode=49, errorMessage="80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 773, v456"
)


def modified(result, message=""):
    return answered(result, message, pureldap.LDAPModifyResponse)


@pytest.mark.parametrize(
    ("result", "message", "change"),
    [
        (0, "", PasswordChangeStatus.CHANGED),
        (
            19,
            "0000052D: AtrErr: DSID-03190F80, #1: 0: 0000052D: DSID-03190F80, problem 1005",
            PasswordChangeStatus.AGAINST_RULES,
        ),
        (
            53,
            "0000052D: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0",
            PasswordChangeStatus.AGAINST_RULES,
        ),
        (
            19,
            "00000056: AtrErr: DSID-03190F80, #1: 0: 00000056: DSID-03190F80, problem 1005",
            PasswordChangeStatus.REFUSED,
        ),
        (19, "00000775: Password change not permitted", PasswordChangeStatus.REFUSED),
        (
            50,
            "00000005: SecErr: DSID-03152D88, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0",
            PasswordChangeStatus.IMPOSSIBLE,
        ),
        (
            53,
            "0000001F: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0",
            PasswordChangeStatus.IMPOSSIBLE,
        ),
        (10, "0000202B: RefErr: DSID-0310082F, data 0, 1 access points", PasswordChangeStatus.IMPOSSIBLE),
    ],
)
def test_active_directorys_codes_are_understood(provider, result, message, change):
    directory = Directory(modified(result, message), AD_ROOT, MUST_CHANGE)
    with HostileServer(directory) as server:
        assert provider(reach(server.url)).change_password("alice", OLD, NEW).change is change
    [request] = directory.changes
    assert f'"{NEW}"'.encode("utf-16-le") in request
    assert f'"{OLD}"'.encode("utf-16-le") in request


def test_active_directory_needs_a_service_account_to_let_somebody_in_again(provider):
    directory = Directory(modified(0), AD_ROOT, MUST_CHANGE)
    with HostileServer(directory) as server:
        anonymous = reach(server.url, bind_dn="", bind_password="")
        outcome = provider(anonymous).change_password("alice", OLD, NEW)
    assert (outcome.change, outcome.refusal.reason) == (PasswordChangeStatus.IMPOSSIBLE, "password must be changed")
    assert directory.changes == []


class Scripted:
    """A connection that takes any bind and answers a change as it is told."""

    def __init__(self, answer):
        self.answer = answer

    def bind(self, *_):
        return LdapResult(0, "", None)

    def modify_own_password(self, *_):
        return self.answer


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (3, PasswordChangeStatus.IMPOSSIBLE),
        (4, PasswordChangeStatus.IMPOSSIBLE),
        (5, PasswordChangeStatus.TOO_WEAK),
        (6, PasswordChangeStatus.TOO_SHORT),
        (7, PasswordChangeStatus.TOO_YOUNG),
        (8, PasswordChangeStatus.IN_HISTORY),
        (9, PasswordChangeStatus.TOO_LONG),
        (None, PasswordChangeStatus.AGAINST_RULES),
        (99, PasswordChangeStatus.AGAINST_RULES),
    ],
)
def test_every_error_of_the_password_policy_has_its_outcome(error, change):
    outcome = change_own_password(
        Scripted(LdapResult(19, "", error)), DirectoryVendor.OTHER, ALICE.objectName, OLD, NEW
    )
    assert outcome.change is change


def test_success_with_an_error_of_the_password_policy_is_success():
    assert (
        change_own_password(Scripted(LdapResult(0, "", 5)), DirectoryVendor.OTHER, "", OLD, NEW).change
        is PasswordChangeStatus.CHANGED
    )


TEXT = st.text(st.characters(blacklist_characters="…", blacklist_categories=["Cs"]), min_size=4, max_size=20)


@given(before=TEXT, new=TEXT, old=TEXT, after=TEXT, result=st.sampled_from([2, 10, 13, 19, 49, 50, 53]))
def test_no_outcome_quotes_a_password(before, new, old, after, result):
    connection = Scripted(LdapResult(result, f"{before}{new} {old}{after}", None))
    outcome = change_own_password(connection, DirectoryVendor.OPENLDAP, "", old, new)
    assert new not in outcome.detail.removeprefix(f"result {result}: ")
