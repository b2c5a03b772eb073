"""A real Active Directory for tests: Samba as the domain controller of corp.example.test, on an address of its own.

The domain is provisioned once for a run, whatever the number of workers; each worker that asks starts a copy.
"""

import base64
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.providers.ldap.config import LdapConfig
from support.directories import Authority, Certificate
from support.servers import eventually, program, running_program

PACKAGES = "samba samba-dsdb-modules samba-ad-provision winbind samba-vfs-modules python3-samba ldap-utils"
BASE = "DC=corp,DC=example,DC=test"
PEOPLE = f"CN=Users,{BASE}"
SERVICE = f"CN=fedgate,{PEOPLE}"
SERVICE_PASSWORD = "Lookup-only-please-1"
ADMINISTRATOR_PASSWORD = "Passw0rd!admin"
PASSWORD = "Wonderland-1865"

_NORMAL, _DISABLED, _KEEPS_PASSWORD = 0x200, 0x202, 0x10200  # MS-ADTS 2.2.16: userAccountControl
_LONG_AGO = 116_444_736_000_000_000  # 1970 in the hundreds of nanoseconds that Windows counts since 1601
_SECOND = -10_000_000
_NEVER = -0x8000_0000_0000_0000
# People whose passwords were set in 2013, and the program by which they seem so: LDAP gives no right to.
LONG_UNCHANGED = ("old", "older")
_BACK_DATE = """
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

config, database, *people = sys.argv[1:]
settings = LoadParm()
settings.load(config)
directory = SamDB(url=database, session_info=system_session(), lp=settings)
for dn in people:
    # DSDB_CONTROL_PASSWORD_BYPASS_LAST_SET_OID
    changes = f"dn: {dn}\\nchangetype: modify\\nreplace: pwdLastSet\\npwdLastSet: 130000000000000000\\n"
    directory.modify_ldif(changes, ["local_oid:1.3.6.1.4.1.7165.4.3.20:0"])
"""


def quoted(password: str) -> str:
    """Return a password as unicodePwd takes it, in base64 (MS-ADTS 3.1.1.3.1.5)."""
    return base64.b64encode(f'"{password}"'.encode("utf-16-le")).decode()


def person(name: str, *lines: str, password: str = PASSWORD, control: int = _NORMAL) -> str:
    """Return the LDIF of somebody new."""
    return "\n".join(
        [
            f"dn: CN={name},{PEOPLE}",
            "changetype: add",
            "objectClass: user",
            f"sAMAccountName: {name}",
            f"unicodePwd:: {quoted(password)}",
            f"userAccountControl: {control}",
            *lines,
            "\n",
        ]
    )


def group(name: str, *members: str) -> str:
    """Return the LDIF of a new group of people or groups."""
    lines = [f"dn: CN={name},{PEOPLE}", "changetype: add", "objectClass: group", f"sAMAccountName: {name}"]
    return "\n".join([*lines, *(f"member: CN={member},{PEOPLE}" for member in members), "\n"])


def rules(name: str, min_age: int, *people: str) -> str:
    """Return the LDIF of password settings for some alone (MS-ADTS 6.1.1.4.11.1), without a lockout."""
    settings = {
        "PasswordSettingsPrecedence": 1,
        "PasswordReversibleEncryptionEnabled": "FALSE",
        "PasswordHistoryLength": 3,
        "PasswordComplexityEnabled": "TRUE",
        "MinimumPasswordLength": 12,
        "MinimumPasswordAge": min_age,
        "MaximumPasswordAge": _NEVER,
        "LockoutThreshold": 0,
        "LockoutObservationWindow": 60 * _SECOND,
        "LockoutDuration": 60 * _SECOND,
    }
    dn = f"dn: CN={name},CN=Password Settings Container,CN=System,{BASE}"
    lines = [dn, "changetype: add", "objectClass: msDS-PasswordSettings"]
    lines += [f"msDS-{setting}: {value}" for setting, value in settings.items()]
    return "\n".join([*lines, *(f"msDS-PSOAppliesTo: CN={one},{PEOPLE}" for one in people), "\n"])


DOMAIN = f"""dn: {BASE}
changetype: modify
replace: minPwdAge
minPwdAge: 0
-
replace: lockoutThreshold
lockoutThreshold: 3

"""
LDIF = "".join(
    [
        DOMAIN,
        person("fedgate", password=SERVICE_PASSWORD, control=_KEEPS_PASSWORD),
        person("alice", "mail: alice@corp.example.test"),
        *(person(name) for name in ("grace", "young", "locked", "shut-out", *LONG_UNCHANGED)),
        *(person(name, "pwdLastSet: 0") for name in ("fresh", "newcomer", "picky", "stubborn")),
        person("leaver", control=_DISABLED),
        person("temp", f"accountExpires: {_LONG_AGO}"),
        person("night", "logonHours:: " + base64.b64encode(bytes(21)).decode()),
        person("desk", "userWorkstations: FRONTDESK"),
        group("Engineers", "alice"),
        group("Staff", "Engineers"),
        rules("patient", 86_400 * _SECOND, "young"),
    ]
)


@dataclass(frozen=True)
class DomainController:
    """A domain controller under test; ``config`` is what the how-to page says, with changes."""

    address: str
    ca_file: str

    def config(self, **changes: object) -> LdapConfig:
        settings: dict[str, object] = {
            "name": "corp",
            "urls": (f"ldaps://{self.address}",),
            "ca_file": self.ca_file,
            "bind_dn": SERVICE,
            "bind_password": SERVICE_PASSWORD,
            "user_base": BASE,
            "user_filter": "(&(objectCategory=person)(objectClass=user)(sAMAccountName={username}))",
            "username_attribute": "sAMAccountName",
            "login_domains": ("CORP", "corp.example.test"),
            "group_base": BASE,
            "group_filter": "(member:1.2.840.113556.1.4.1941:={dn})",
            "member_of_attribute": "",
            "attributes": ("mail",),
        }
        return LdapConfig(**{**settings, **changes})

    def modify(self, ldif: str) -> None:
        """Change entries as the domain's administrator."""
        command = ["ldapmodify", "-x", "-H", f"ldaps://{self.address}", "-D", f"CN=Administrator,{PEOPLE}"]
        environment = {**os.environ, "LDAPTLS_CACERT": self.ca_file}
        command += ["-w", ADMINISTRATOR_PASSWORD]
        done = subprocess.run(command, input=ldif, text=True, capture_output=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"ldapmodify: {done.stderr}")


def provisioned(run: Path) -> Path:
    """Return a folder of the run with a domain that no server has opened; the first worker makes it."""
    domain = run / "active-directory"
    with (run / "active-directory.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not domain.exists():
            made = run / "active-directory.new"
            command = [program("samba-tool", PACKAGES), "domain", "provision", f"--targetdir={made}"]
            command += ["--realm=CORP.EXAMPLE.TEST", "--domain=CORP", "--server-role=dc", "--dns-backend=NONE"]
            command += [f"--adminpass={ADMINISTRATOR_PASSWORD}", "--host-name=dc1", "--host-ip=127.0.0.1"]
            # Containers may not set the file system's attributes in which access lists of files are kept.
            command += ["--option=vfs objects=dfs_samba4 xattr_tdb"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.fail(f"samba-tool domain provision: {done.stderr}")
            made.rename(domain)
    return domain


@contextlib.contextmanager
def running_domain_controller(folder: Path, domain: Path) -> Iterator[DomainController]:
    """Run a copy of a provisioned domain in a folder and yield it with its people."""
    shutil.copytree(domain, folder / "dc")
    address = _free_address()
    authority = Authority(folder)
    config = folder / "smb.conf"
    config.write_text(_smb_conf(folder / "dc", address, authority, authority.issue("dc", address=address)))
    command = [program("samba", PACKAGES), "-F", "--no-process-group", "-M", "single", "--configfile", str(config)]
    with (folder / "samba.log").open("wb") as log, running_program(command, stdout=log, stderr=log) as process:
        eventually(lambda: process.poll() is not None or _listens(address))
        if process.poll() is not None:
            pytest.fail(f"samba did not start: {(folder / 'samba.log').read_text()}")
        controller = DomainController(address, str(authority.file))
        controller.modify(LDIF)
        _back_date(config, folder / "dc/private/sam.ldb")
        yield controller


def _back_date(config: Path, database: Path) -> None:
    # Samba's bindings belong to the system's Python.
    command = ["/usr/bin/python3", "-c", _BACK_DATE, str(config), str(database)]
    command += [f"CN={name},{PEOPLE}" for name in LONG_UNCHANGED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    if done.returncode:
        pytest.fail(f"back-dating a password: {done.stderr}")


def _free_address() -> str:
    """Return an address of loopback whose LDAP ports are free: Active Directory knows no others."""
    for number in range(os.getpid(), os.getpid() + 500):
        address = f"127.77.{number // 250 % 250}.{number % 250 + 1}"
        with contextlib.suppress(OSError), socket.create_server((address, 389)), socket.create_server((address, 636)):
            return address
    pytest.fail(f"no free address, or no right to listen on port 389 (user {os.getuid()} on {sys.platform})")


def _listens(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, 636), 1):
        return True
    return False


def _smb_conf(dc: Path, address: str, authority: Authority, certificate: Certificate) -> str:
    certificate.key.chmod(0o600)
    folders = "\n".join(
        f"{setting} = {dc / folder}"
        for setting, folder in {
            "private dir": "private",
            "state directory": "state",
            "cache directory": "cache",
            "lock directory": ".",
            "pid directory": "run",
            "ncalrpc dir": "run/ncalrpc",
            "winbindd socket directory": "run/winbindd",
            "ntp signd socket directory": "run/ntp_signd",
            "log file": "log",
        }.items()
    )
    for folder in ("cache", "run"):
        (dc / folder).mkdir(exist_ok=True)
    return f"""[global]
netbios name = DC1
realm = CORP.EXAMPLE.TEST
workgroup = CORP
server role = active directory domain controller
server services = ldap
interfaces = {address}/8
bind interfaces only = yes
{folders}
ldap server require strong auth = yes
tls enabled = yes
tls cafile = {authority.file}
tls certfile = {certificate.certificate}
tls keyfile = {certificate.key}
"""


@pytest.fixture(scope="session")
def active_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DomainController]:
    base = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each worker a folder below that of the run.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with running_domain_controller(tmp_path_factory.mktemp("ad"), provisioned(run)) as controller:
        yield controller
