"""Directories for tests: a real slapd with TLS, the demonstration directory, and servers that mean harm.

A conftest imports the fixtures that it needs.
"""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.demo.people import BASE, LDIF, SERVICE, service_password
from broker.providers.ldap.config import LdapConfig
from broker.providers.ldap.provider import LdapProvider
from support.servers import HANG, free_port, program, running_program

MOMENT = dt.datetime(2026, 11, 23, 20, 0, tzinfo=dt.UTC)
ROOT_DN = f"cn=root,{BASE}"
ROOT_PASSWORD = "root-of-the-test"
# A name made of all that filters and DNs mind; RFC 4514 escapes it so.
ODD_GROUP = r"cn=\+odd (*)\\ \,group,ou=groups," + BASE

# What every directory of the conformance suite holds besides the demonstration's people.
EXTRA = f"""
dn: ou=elsewhere,ou=people,{BASE}
objectClass: organizationalUnit
ou: elsewhere

dn: uid=twin,ou=people,{BASE}
objectClass: inetOrgPerson
objectClass: person
uid: twin
cn: Twin One
sn: One
userPassword: same-for-both

dn: uid=twin,ou=elsewhere,ou=people,{BASE}
objectClass: inetOrgPerson
objectClass: person
uid: twin
cn: Twin Two
sn: Two
userPassword: same-for-both

dn: cn=Grün\\, Jürgen,ou=people,{BASE}
objectClass: inetOrgPerson
objectClass: person
uid: jürgen
cn: Grün, Jürgen
sn: Grün
mail: juergen@corp.example
userPassword: paßwörter sind schön

dn: cn=loop-a,ou=groups,{BASE}
objectClass: groupOfNames
cn: loop-a
member: uid=dave,ou=people,{BASE}
member: cn=loop-c,ou=groups,{BASE}

dn: cn=loop-b,ou=groups,{BASE}
objectClass: groupOfNames
cn: loop-b
member: cn=loop-a,ou=groups,{BASE}

dn: cn=loop-c,ou=groups,{BASE}
objectClass: groupOfNames
cn: loop-c
member: cn=loop-b,ou=groups,{BASE}
member: cn=loop-c,ou=groups,{BASE}

dn: {ODD_GROUP}
objectClass: groupOfNames
cn: +odd (*)\\ ,group
member: cn=Grün\\, Jürgen,ou=people,{BASE}

dn: cn=Above,ou=groups,{BASE}
objectClass: groupOfNames
cn: Above
member: {ODD_GROUP}
"""

# What only slapd can have: passwords that are slow to check, and a password policy.
ONLY_SLAPD = f"""
dn: ou=policies,{BASE}
objectClass: organizationalUnit
ou: policies

dn: cn=strict,ou=policies,{BASE}
objectClass: device
objectClass: pwdPolicy
cn: strict
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 3
pwdLockoutDuration: 600
pwdMustChange: TRUE

dn: cn=ageing,ou=policies,{BASE}
objectClass: device
objectClass: pwdPolicy
cn: ageing
pwdAttribute: userPassword
pwdMaxAge: 1

dn: uid=slow,ou=people,{BASE}
objectClass: inetOrgPerson
uid: slow
cn: Slow Hash
sn: Hash
userPassword: {{SLOW}}

dn: uid=locked,ou=people,{BASE}
objectClass: inetOrgPerson
uid: locked
cn: Locked Out
sn: Out
userPassword: once-was-right
pwdPolicySubentry: cn=strict,ou=policies,{BASE}

dn: uid=fresh,ou=people,{BASE}
objectClass: inetOrgPerson
uid: fresh
cn: Fresh Start
sn: Start
userPassword: change-me-first
pwdPolicySubentry: cn=strict,ou=policies,{BASE}

dn: uid=stale,ou=people,{BASE}
objectClass: inetOrgPerson
uid: stale
cn: Stale Bread
sn: Bread
userPassword: too-old-by-now
pwdPolicySubentry: cn=ageing,ou=policies,{BASE}

dn: ou=abroad,{BASE}
objectClass: organizationalUnit
ou: abroad

dn: uid=abroad,ou=people,{BASE}
objectClass: inetOrgPerson
uid: abroad
cn: Gone Abroad
sn: Abroad
userPassword: far-away
"""
SLOW_PASSWORD = "argon-is-a-noble-gas"


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, both in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Test {name}")])
        built = self._builder(self._name, self._key, days=(-1, 30)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(*(name in (5, 6) for name in range(9)))
        self.file = folder / f"{name}.pem"
        signed = built.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        hosts: tuple[str, ...] = ("localhost",),
        address: str = "127.0.0.1",
        days: tuple[int, int] = (-1, 30),
    ) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        if "localhost" in hosts:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        built = self._builder(subject, key, days=days).add_extension(x509.SubjectAlternativeName(names), critical=False)
        issued = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        issued.certificate.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        issued.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return issued

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: tuple[int, int]
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        issuer = self._key.public_key()
        # Python 3.13 demands key identifiers of all certificates (RFC 5280 4.2.1.1, 4.2.1.2).
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0] - 30))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        )


@dataclass(frozen=True)
class RunningDirectory:
    """A directory under test; ``config`` says how to reach it, with changes."""

    url: str
    user_base: str
    bind_password: str
    ldaps: str = ""
    ldapi: str = ""
    ca_file: str = ""
    extra: dict[str, object] = field(default_factory=dict)

    def config(self, **changes: object) -> LdapConfig:
        settings: dict[str, object] = {
            "name": "corp",
            "urls": (self.url,),
            "bind_dn": SERVICE,
            "bind_password": self.bind_password,
            "user_base": self.user_base,
            "group_base": f"ou=groups,{BASE}",
            "group_filter": "(&(objectClass=groupOfNames)(member={dn}))",
            "ca_file": self.ca_file,
            "attributes": ("mail", "departmentNumber"),
        }
        return LdapConfig(**{**settings, **self.extra, **changes})

    def modify(self, ldif: str) -> None:
        """Change entries as the directory's own administrator (slapd only)."""
        ldap_tool("ldapmodify", self.ldapi, ldif)


def as_toml(config: LdapConfig) -> str:
    """Return a directory's section of the configuration file."""
    lines = [f"[directory.{config.name}]", 'type = "ldap"']
    for one in fields(config):
        value = getattr(config, one.name)
        if one.name != "name" and value not in ("", ()):
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"{one.name} = {json.dumps(shown)}")
    return "\n".join(lines) + "\n"


def ldap_tool(tool: str, ldapi: str, ldif: str) -> None:
    command = [tool, "-x", "-H", ldapi, "-D", ROOT_DN, "-w", ROOT_PASSWORD]
    done = subprocess.run(command, input=ldif, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool}: {done.stderr}")


def demo_ldif(folder: Path) -> Path:
    path = folder / "people.ldif"
    path.write_text(LDIF.read_text(encoding="utf-8") + "\n" + EXTRA, encoding="utf-8")
    return path


@contextlib.contextmanager
def running_demo_directory(ldif: Path, bind: str = "127.0.0.1:0") -> Iterator[str]:
    command = [sys.executable, "-m", "broker.demo.directory", "--ldif", str(ldif), "--bind", bind]
    with running_program(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextlib.contextmanager
def running_slapd(folder: Path) -> Iterator[RunningDirectory]:
    slapd_program = program("slapd", "slapd ldap-utils")
    authority = Authority(folder)
    server = authority.issue("server")
    (folder / "db").mkdir()
    config = folder / "slapd.conf"
    config.write_text(_slapd_conf(folder, authority, server))
    port, tls_port = free_port(), free_port()
    ldapi = "ldapi://" + urllib.parse.quote(str(folder / "s"), safe="")
    urls = f"ldap://127.0.0.1:{port} ldaps://127.0.0.1:{tls_port} {ldapi}"
    with (
        (folder / "slapd.log").open("wb") as log,
        running_program([slapd_program, "-f", config, "-h", urls, "-d", "0"], stderr=log, env=_sbin()) as process,
    ):
        _await(folder / "s", process)
        _fill(ldapi)
        yield RunningDirectory(
            url=f"ldap://127.0.0.1:{port}",
            user_base=f"ou=people,{BASE}",
            bind_password=service_password(LDIF),
            ldaps=f"ldaps://127.0.0.1:{tls_port}",
            ldapi=ldapi,
            ca_file=str(authority.file),
        )


def _sbin() -> dict[str, str]:
    return {**os.environ, "PATH": "/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", "")}


def _slapd_conf(folder: Path, authority: Authority, server: Certificate) -> str:
    schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in ("core", "cosine", "inetorgperson"))
    modules = "\n".join(f"moduleload {name}" for name in ("back_mdb", "memberof", "refint", "ppolicy", "argon2"))
    return f"""
{schemas}
modulepath /usr/lib/ldap
{modules}
TLSCACertificateFile {authority.file}
TLSCertificateFile {server.certificate}
TLSCertificateKeyFile {server.key}
pidfile {folder}/pid
database mdb
suffix "{BASE}"
rootdn "{ROOT_DN}"
rootpw {ROOT_PASSWORD}
directory {folder}/db
dbnosync
index uid,member,objectClass eq
access to attrs=userPassword by anonymous auth by self =xw by * none
access to * by users read by * none
overlay memberof
memberof-refint TRUE
overlay refint
refint_attributes member
overlay ppolicy
ppolicy_use_lockout
"""


def _await(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + HANG
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(0.01)
    pytest.fail(f"slapd did not start: {(path.parent / 'slapd.log').read_text()}")


def _fill(ldapi: str) -> None:
    slow = subprocess.run(
        [
            "slappasswd",
            *(
                "-o",
                "module-path=/usr/lib/ldap",
                "-o",
                "module-load=argon2 m=16384 t=2",
                "-h",
                "{ARGON2}",
                "-s",
                SLOW_PASSWORD,
            ),
        ],
        capture_output=True,
        text=True,
        check=True,
        env=_sbin(),
    ).stdout.strip()
    # entryUUID is slapd's own to give.
    people = re.sub(r"(?m)^entryUUID: .*\n", "", LDIF.read_text(encoding="utf-8"))
    ldap_tool("ldapadd", ldapi, people + "\n" + EXTRA + ONLY_SLAPD.replace("{SLOW}", slow))
    reset = f"dn: uid=fresh,ou=people,{BASE}\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n"
    ldap_tool("ldapmodify", ldapi, reset)


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    with running_slapd(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture(scope="session")
def demo_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    ldif = demo_ldif(tmp_path_factory.mktemp("demo"))
    with running_demo_directory(ldif) as url:
        yield RunningDirectory(url=url, user_base=f"ou=people,{BASE}", bind_password=service_password(LDIF))


@pytest.fixture
def provider() -> Iterator[Callable[[LdapConfig], LdapProvider]]:
    """Opens providers, and closes them at the end."""
    opened: list[LdapProvider] = []

    def open_(config: LdapConfig) -> LdapProvider:
        opened.append(LdapProvider(config, now=lambda: MOMENT))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


class HostileServer:
    """A server on loopback which treats each connection as a test says, and remembers every octet that came in."""

    def __init__(self, treat: Callable[["Client"], None], tls: ssl.SSLContext | None = None) -> None:
        self._treat = treat
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.port = int(self._socket.getsockname()[1])
        self.received = bytearray()
        self.connections = 0

    @property
    def url(self) -> str:
        return f"{'ldaps' if self._tls else 'ldap'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(HANG)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls:
                with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                    self._treat(Client(encrypted, self.received, self._stop))
            else:
                self._treat(Client(connection, self.received, self._stop))


@dataclass
class Client:
    """One connection as a hostile server sees it."""

    socket: socket.socket
    received: bytearray
    stop: threading.Event

    def receive(self) -> bytes:
        """Return what came in; raises OSError at the end of the connection or of the test."""
        self.socket.settimeout(0.1)
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                octets = self.socket.recv(65536)
                if not octets:
                    raise ConnectionResetError
                self.received += octets
                return octets
        raise ConnectionResetError

    def send(self, octets: bytes) -> None:
        self.socket.settimeout(10)
        self.socket.sendall(octets)

    def wait(self) -> None:
        """Say nothing more until the client hangs up or the test ends."""
        with contextlib.suppress(OSError):
            while True:
                self.receive()


def server_tls(certificate: Certificate, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    if newest:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # old on purpose
            context.minimum_version = newest
            context.maximum_version = newest
    return context
