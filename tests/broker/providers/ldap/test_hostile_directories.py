"""Servers that fail or mean harm: the answer is an outage in time, and the password goes nowhere else."""

import ssl
import subprocess
import sys
import textwrap
import time

import pytest
from ldaptor.protocols import pureber, pureldap
from support.directories import (
    Authority,
    HostileServer,
    demo_ldif,
    free_port,
    running_demo_directory,
    server_tls,
)
from support.servers import HANG

from broker.demo.people import BASE, LDIF, service_password
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.connection import Address, LdapConnection, LdapConnectionError, Transport, tls_context
from broker.providers.ldap.pool import ConnectionPool, ServerList
from broker.providers.ldap.provider import LdapProvider
from sts.identity import Identity, ProviderUnavailable, Refusal

PASSWORD = "wonderland-1865"
PEOPLE = f"ou=people,{BASE}"
ALICE_DN = f"uid=alice,{PEOPLE}"
TIMEOUT = 0.4  # seconds that a server gets which never answers
PATIENCE = 4.0  # seconds that a server gets which does


def config(*urls, **changes):
    settings = {
        "name": "corp",
        "urls": urls,
        "user_base": PEOPLE,
        "bind_dn": f"cn=fedgate,ou=services,{BASE}",
        "bind_password": service_password(LDIF),
        "connect_timeout": TIMEOUT,
        "receive_timeout": TIMEOUT,
    }
    return LdapConfig(**{**settings, **changes})


def message(answer, number):
    return pureldap.LDAPMessage(answer, id=number).toWire()


class Scripted:
    """Answers each request in turn, with the request's own message id."""

    def __init__(self, *answers):
        self.answers = answers

    def __call__(self, client):
        for answers in self.answers:
            request = client.receive()
            number = message_id(request)
            octets = b"".join(answer if isinstance(answer, bytes) else message(answer, number) for answer in answers)
            client.send(octets)
        client.wait()


def message_id(request):
    # 30 LEN 02 LEN ID, where the first LEN may take more than one octet.
    start = 2 + (request[1] & 0x7F if request[1] & 0x80 else 0)
    assert request[start] == 2
    return int.from_bytes(request[start + 2 : start + 2 + request[start + 1]], "big")


BOUND = pureldap.LDAPBindResponse(resultCode=0)
DONE = pureldap.LDAPSearchResultDone(resultCode=0)
ALICE = pureldap.LDAPSearchResultEntry(ALICE_DN, [("uid", ["alice"]), ("entryUUID", ["0-1"])])


def silent(client):
    client.wait()


def half_an_answer(client):
    client.send(message(BOUND, message_id(client.receive()))[:6])
    client.wait()


def drip(client):
    answer = message(BOUND, message_id(client.receive()))
    for octet in answer:
        client.send(bytes([octet]))
        time.sleep(TIMEOUT / 4)
    client.wait()


def hang_up(client):
    client.receive()


def garbage(client):
    client.receive()
    client.send(bytes(range(256)) * 8)
    client.wait()


def nonsense_in_ber(client):
    client.receive()
    client.send(bytes.fromhex("300c02010161070a010004000400") + bytes.fromhex("30030201ff"))
    client.wait()


def zeros(client):
    client.receive()
    client.send(b"\0" * 100)
    client.wait()


def endless_length(client):
    client.receive()
    client.send(b"\x30\xff" + b"\xff" * 127)
    client.wait()


def a_hundred_megabytes(client):
    client.send(message(BOUND, message_id(client.receive())))
    client.receive()
    client.send(bytes.fromhex("308406000000"))
    for _ in range(100):
        client.send(b"\0" * 1024 * 1024)


def unknown_result(client):
    client.send(message(pureldap.LDAPBindResponse(resultCode=4096), message_id(client.receive())))
    client.wait()


def answer_to_another_question(client):
    client.send(message(BOUND, message_id(client.receive()) + 7))
    client.wait()


# What the log says of each, so that none passes for another's reason.
HOSTILE = {
    silent: "timed out",
    half_an_answer: "timed out",
    drip: "timed out",
    hang_up: "terminated by server",
    garbage: "timed out",
    nonsense_in_ber: "invalid messageId",
    zeros: "timed out",
    endless_length: "timed out",
    a_hundred_megabytes: "the answer is too large",
    unknown_result: "result 4096",
    answer_to_another_question: "invalid messageId",
}


@pytest.fixture(scope="module")
def demo_url(tmp_path_factory):
    with running_demo_directory(demo_ldif(tmp_path_factory.mktemp("demo"))) as url:
        yield url


@pytest.mark.parametrize("treat", HOSTILE)
def test_a_server_that_misbehaves_is_an_outage_within_the_limit(treat, provider):
    with HostileServer(treat) as server:
        # Many octets take a busy machine a while to read.
        within = PATIENCE if treat is a_hundred_megabytes else TIMEOUT
        with pytest.raises(ProviderUnavailable) as caught:
            provider(config(server.url, receive_timeout=within)).authenticate("alice", PASSWORD)
        assert HOSTILE[treat] in caught.value.log.replace("took too long", "timed out")
        assert PASSWORD.encode() not in server.received
        assert service_password(LDIF) not in caught.value.log
        assert caught.value.retry_after > 0


@pytest.mark.parametrize("treat", HOSTILE)
def test_the_next_server_is_asked_when_the_first_misbehaves(treat, provider, demo_url):
    with HostileServer(treat) as server:
        # The second server is a good one, and must have the time that it takes on a busy machine.
        opened = provider(config(server.url, demo_url, connect_timeout=PATIENCE, receive_timeout=PATIENCE))
        assert isinstance(opened.authenticate("alice", PASSWORD), Identity)
        before = server.connections
        assert isinstance(opened.authenticate("bob", "builder-can-we-fix-it"), Identity)
        assert server.connections == before, "a server that failed is left alone for a while"


@pytest.mark.parametrize("treat", [silent, hang_up, half_an_answer, garbage])
def test_a_server_that_fails_at_the_persons_bind_is_an_outage(treat, provider):
    def second_connection_fails(client):
        first = server.connections == 1
        Scripted([BOUND], [ALICE, DONE])(client) if first else treat(client)

    with HostileServer(second_connection_fails) as server, pytest.raises(ProviderUnavailable):
        provider(config(server.url)).authenticate("alice", PASSWORD)


def test_all_servers_down_is_an_outage_at_once(provider):
    urls = [f"ldap://127.0.0.1:{free_port()}" for _ in range(3)]
    opened = provider(config(*urls))
    with pytest.raises(ProviderUnavailable) as caught:
        opened.authenticate("alice", PASSWORD)
    with pytest.raises(ProviderUnavailable):
        opened.check()
    assert not caught.value.security
    assert all(url in caught.value.log for url in urls)


def test_a_directory_that_was_restarted_is_used_again_without_a_failed_sign_in(provider, tmp_path):
    ldif, bind = demo_ldif(tmp_path), f"127.0.0.1:{free_port()}"
    opened = provider(config(f"ldap://{bind}", connect_timeout=HANG, receive_timeout=HANG))
    with running_demo_directory(ldif, bind):
        assert isinstance(opened.authenticate("alice", PASSWORD), Identity)
    with pytest.raises(ProviderUnavailable):
        opened.authenticate("alice", PASSWORD)
    with running_demo_directory(ldif, bind):
        assert isinstance(opened.authenticate("alice", PASSWORD), Identity)
    with running_demo_directory(ldif, bind):
        assert isinstance(opened.authenticate("alice", PASSWORD), Identity), "kept connections died unnoticed"


@pytest.mark.parametrize(("seconds", "connections"), [(0, 1), (59, 1), (61, 2)])
def test_a_connection_that_was_idle_for_a_minute_is_not_trusted_to_be_alive(seconds, connections):
    root = pureldap.LDAPSearchResultEntry(PEOPLE, [])
    clock = [1000.0]
    with HostileServer(Scripted([BOUND], [root, DONE], [root, DONE])) as server:
        opened = LdapProvider(config(server.url), now=lambda: None, monotonic=lambda: clock[0])
        opened.check()
        clock[0] += seconds
        opened.check()
        opened.close()
        assert server.connections == connections


def test_more_requests_than_may_be_in_flight_are_an_outage_after_some_patience(demo_url):
    transport = Transport(
        tls_context("", insecure_skip_tls_verify=False), start_tls=False, connect_timeout=HANG, receive_timeout=HANG
    )
    address = Address.parse(demo_url)
    pool = ConnectionPool(
        ServerList((address,), time.monotonic),
        lambda to: LdapConnection(to, transport),
        keep=1,
        in_flight=1,
        patience=0.05,
        monotonic=time.monotonic,
    )
    with pytest.raises(ProviderUnavailable) as caught:
        pool.run(lambda _: pool.run(lambda _: None))
    assert "in flight" in caught.value.log
    assert pool.run(lambda connection: connection.bind(ALICE_DN, PASSWORD).result) == 0, "the slot was given back"
    pool.close()


@pytest.mark.parametrize(("dn", "password"), [("", PASSWORD), (ALICE_DN, ""), ("", "")])
def test_a_bind_that_would_be_anonymous_is_never_sent(dn, password):
    transport = Transport(
        tls_context("", insecure_skip_tls_verify=False), start_tls=False, connect_timeout=HANG, receive_timeout=HANG
    )
    with HostileServer(silent) as server:
        connection = LdapConnection(Address.parse(server.url), transport)
        with pytest.raises(LdapConnectionError):
            connection.bind(dn, password)
        connection.close()
        assert bytes(server.received) == b""


def test_a_referral_at_the_bind_is_not_followed(provider):
    with HostileServer(silent) as trap:
        referral = bytes.fromhex("0a010a04000400") + ber(0xA3, ber(0x04, trap.url.encode() + b"/"))

        def treat(client):
            if server.connections == 1:
                Scripted([BOUND], [ALICE, DONE])(client)
            number = message_id(client.receive())
            client.send(ber(0x30, integer(number) + ber(0x61, referral)))
            client.wait()

        with HostileServer(treat) as server:
            with pytest.raises(ProviderUnavailable):
                provider(config(server.url)).authenticate("alice", PASSWORD)
            assert PASSWORD.encode() in server.received
        assert (trap.connections, bytes(trap.received)) == (0, b"")


@pytest.mark.parametrize("as_reference", [True, False])
def test_a_referral_at_the_search_is_not_followed(provider, as_reference):
    with HostileServer(silent) as trap:
        uri = ber(0x04, trap.url.encode() + b"/ou=people")

        def treat(client):
            client.send(message(BOUND, message_id(client.receive())))
            number = integer(message_id(client.receive()))
            reference = ber(0x30, number + ber(0x73, uri)) + ber(
                0x30, number + ber(0x65, bytes.fromhex("0a010004000400"))
            )
            referral = ber(0x30, number + ber(0x65, bytes.fromhex("0a010a04000400") + ber(0xA3, uri)))
            client.send(reference if as_reference else referral)
            client.wait()

        def treat_all(client):
            treat(client) if server.connections == 1 else Scripted([pureldap.LDAPBindResponse(resultCode=49)])(client)

        with HostileServer(treat_all) as server:
            opened = provider(config(server.url))
            if as_reference:
                assert opened.authenticate("alice", PASSWORD).reason == "unknown user"
            else:
                with pytest.raises(ProviderUnavailable):
                    opened.authenticate("alice", PASSWORD)
        assert (trap.connections, bytes(trap.received)) == (0, b"")


def ber(tag, content):
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def integer(number):
    return pureber.BERInteger(number).toWire()


def test_an_entry_without_a_name_is_nobody(provider):
    """A bind with an empty name is anonymous and always succeeds."""
    nameless = pureldap.LDAPSearchResultEntry("", [("uid", ["alice"]), ("entryUUID", ["0-1"])])

    def treat(client):
        Scripted([BOUND], [nameless, DONE])(client) if server.connections == 1 else Scripted([BOUND])(client)

    with HostileServer(treat) as server:
        assert isinstance(provider(config(server.url)).authenticate("alice", PASSWORD), Refusal)


# passwordExpired in the control of draft-behera-ldap-password-policy-10, section 6.2.
EXPIRED = (b"1.3.6.1.4.1.42.2.27.8.5.1", False, bytes.fromhex("3003810100"))


def expired(number):
    refused = pureldap.LDAPBindResponse(resultCode=49)
    return pureldap.LDAPMessage(refused, controls=[EXPIRED], id=number).toWire()


ROOTS = {
    "OpenLDAProotDSE": ({"objectClass": ["top", "OpenLDAProotDSE"]}, True),
    "of another": ({"objectClass": ["top"], "vendorName": ["Apache Software Foundation"]}, False),
    "that is not there": (None, False),
    "that may not be read": (None, False),
}


@pytest.mark.parametrize("which", ROOTS)
def test_an_expired_password_is_proved_only_by_a_directory_that_is_known_to_compare_it_first(which, provider):
    attributes, proved = ROOTS[which]
    root = [] if attributes is None else [pureldap.LDAPSearchResultEntry("", list(attributes.items()))]
    done = pureldap.LDAPSearchResultDone(resultCode=50 if which == "that may not be read" else 0)

    def treat(client):
        if server.connections == 1:
            Scripted([BOUND], [ALICE, DONE], [*root, done])(client)
        client.send(expired(message_id(client.receive())))
        client.wait()

    with HostileServer(treat) as server:
        refused = provider(config(server.url)).authenticate("alice", PASSWORD)
    assert (refused.reason, refused.password_correct, refused.counts_as_failure) == (
        "password expired",
        proved,
        not proved,
    )


def test_an_empty_password_opens_no_connection(provider):
    with HostileServer(silent) as server:
        assert isinstance(provider(config(server.url)).authenticate("alice", ""), Refusal)
        assert isinstance(provider(config(server.url)).authenticate("", PASSWORD), Refusal)
        assert server.connections == 0


# The octets of RFC 4511 4.14.2: an ExtendedResponse with a result.
def extended(result):
    return lambda number: ber(0x30, integer(number) + ber(0x78, bytes([0x0A, 1, result, 4, 0, 4, 0])))


def test_start_tls_refused_is_an_outage_and_nothing_goes_in_clear_text(provider):
    def treat(client):
        client.send(extended(2)(message_id(client.receive())))
        client.wait()

    with HostileServer(treat) as server, pytest.raises(ProviderUnavailable) as caught:
        provider(config(server.url, start_tls=True)).authenticate("alice", PASSWORD)
    assert caught.value.security
    assert service_password(LDIF).encode() not in server.received


@pytest.mark.parametrize("afterwards", [message(BOUND, 2), b"", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_start_tls_that_is_agreed_to_and_then_left_out_is_an_outage(provider, afterwards):
    def treat(client):
        client.send(extended(0)(message_id(client.receive())))
        client.receive()
        client.send(afterwards)
        client.wait()

    with HostileServer(treat) as server, pytest.raises(ProviderUnavailable):
        provider(config(server.url, start_tls=True)).authenticate("alice", PASSWORD)
    assert service_password(LDIF).encode() not in server.received


def test_an_answer_smuggled_in_before_start_tls_is_not_taken(provider):
    def treat(client):
        number = message_id(client.receive())
        client.send(extended(0)(number) + message(BOUND, number + 1))
        client.wait()

    with HostileServer(treat) as server, pytest.raises(ProviderUnavailable) as caught:
        provider(config(server.url, start_tls=True)).authenticate("alice", PASSWORD)
    assert caught.value.security


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


CERTIFICATES = {
    "of an unknown authority": ("stranger", {}),
    "of another name": ("authority", {"hosts": ("other.example",)}),
    "that has expired": ("authority", {"days": (-10, -1)}),
    "that is not valid yet": ("authority", {"days": (35, 60)}),
}


@pytest.mark.parametrize("which", CERTIFICATES)
def test_a_certificate_that_does_not_verify_is_a_security_event(which, authority, request, provider, caplog):
    issuer, how = CERTIFICATES[which]
    certificate = request.getfixturevalue(issuer).issue("bad", **how)
    with HostileServer(silent, server_tls(certificate)) as server:
        with pytest.raises(ProviderUnavailable) as caught:
            provider(config(server.url, ca_file=str(authority.file))).authenticate("alice", PASSWORD)
        assert bytes(server.received) == b""
    assert caught.value.security
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.log
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(version, authority, provider):
    tls = server_tls(authority.issue("old"), ssl.TLSVersion[version])
    with HostileServer(silent, tls) as server, pytest.raises(ProviderUnavailable) as caught:
        provider(config(server.url, ca_file=str(authority.file))).authenticate("alice", PASSWORD)
    assert caught.value.security
    assert "VERSION" in caught.value.log.upper()


def test_skipping_verification_is_possible_for_a_development_machine_and_says_so_in_its_name(stranger, provider):
    with HostileServer(Scripted([BOUND], [DONE]), server_tls(stranger.issue("dev"))) as server:
        opened = provider(config(server.url, insecure_skip_tls_verify=True))
        with pytest.raises(ProviderUnavailable, match="cannot be reached"):
            opened.check()
        assert service_password(LDIF).encode() in server.received


def test_greenlets_share_a_provider(demo_url):
    program = textwrap.dedent(
        f"""
        from gevent import monkey; monkey.patch_all()
        import datetime, gevent, warnings
        from broker.demo.people import LDIF
        from broker.demo.provider import demo_config
        from broker.providers.ldap.provider import LdapProvider
        provider = LdapProvider(demo_config(LDIF, {demo_url!r}), now=lambda: datetime.datetime.now(datetime.UTC))
        right = {{"alice": "wonderland-1865", "bob": "builder-can-we-fix-it"}}
        def sign_in(number):
            name = ("alice", "bob")[number % 2]
            good, bad = provider.authenticate(name, right[name]), provider.authenticate(name, "wrong")
            return good.name == name and bad.reason == "wrong password"
        jobs = [gevent.spawn(sign_in, number) for number in range(64)]
        gevent.joinall(jobs)
        assert all(job.get() for job in jobs)
        print("all", len(jobs))
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=HANG)
    assert done.stdout.strip() == "all 64", done.stderr


class Refusing:
    """A directory of alice alone, which refuses every password of people, and advances a clock at each bind.

    It takes longer for a person who exists, as one with a slow password hash does.
    """

    def __init__(self):
        self.clock = 1000.0
        self.binds = []

    def __call__(self, client):
        while True:
            request = client.receive()
            number = message_id(request)
            answers = [self.bind(request)] if b"\x60" in request[2:8] else self.search(request)
            client.send(b"".join(message(answer, number) for answer in answers))

    def bind(self, request):
        if b"ou=services" in request:
            return BOUND
        name = "alice" if b"uid=alice" in request else "nobody"
        self.binds.append(name)
        self.clock += 1.0 if name == "alice" else 0.125
        return pureldap.LDAPBindResponse(resultCode=49)

    def search(self, request):
        return [ALICE, DONE] if b"alice" in request else [DONE]

    def open(self, url):
        settings = config(url, receive_timeout=HANG, connect_timeout=HANG)
        return LdapProvider(settings, now=lambda: None, monotonic=lambda: self.clock, sleep=self.sleep)

    def sleep(self, seconds):
        self.clock += seconds


FORMS = {"plain": 1, "scho\u0308n": 2, "scho\u0308n\u00b2": 3}  # passwords, and in how many forms they are tried


def sign_in(opened, name, password):
    return opened.authenticate(name, password)


def change(opened, name, password):
    return opened.change_password(name, password, "new-and-still-secret").refusal


@pytest.mark.parametrize("attempt", [sign_in, change])
@pytest.mark.parametrize("password", FORMS)
def test_a_name_that_nobody_has_costs_as_many_binds_and_as_long_as_a_wrong_password(attempt, password):
    directory = Refusing()
    with HostileServer(directory) as server:
        opened = directory.open(server.url)
        seconds = {}
        for name in ("alice", "nobody"):
            started = directory.clock
            assert isinstance(attempt(opened, name, password), Refusal)
            seconds[name] = directory.clock - started
        opened.close()
    assert directory.binds == ["alice"] * FORMS[password] + ["nobody"] * FORMS[password]
    assert seconds["nobody"] == seconds["alice"] == FORMS[password]
