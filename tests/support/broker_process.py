"""A served Fedgate: the real `fedgate` program with its children, over a real directory, Redis and database."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.demo.people import BASE
from support.directories import RunningDirectory
from support.installation import FORM, VERSIONS, Answer
from support.servers import HANG, eventually

PROGRAMS = Path(sys.executable).parent
FEDGATE = str(PROGRAMS / "fedgate")
ACCOUNT = "123456789012"
DIRECTORY = "corp"
PASSWORDS = {
    "alice": "wonderland-1865",
    "bob": "builder-can-we-fix-it",
    "carol": "ledger-balances-42",
    "dave": "open-the-pod-bay",
    "erin": "trust-but-verify-7",
    "frank": "first-day-at-work",
}
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_CLIENTS = Config(retries={"total_max_attempts": 1}, connect_timeout=HANG, read_timeout=HANG)
_SESSION = boto3.Session(region_name="us-east-1")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the whole environment of a child: nothing of the caller's reaches it but where programs are."""
    path = f"{PROGRAMS}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **more}


def group(name: str) -> str:
    return f"cn={name},ou=groups,{BASE}"


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def trusting(*groups: str) -> str:
    """Return a trust policy for groups of the directory."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:ldap-provider/{DIRECTORY}"},
        "Action": "sts:AssumeRoleWithLDAPIdentity",
        "Condition": {"ForAnyValue:StringEquals": {"ldap:groups": [group(name) for name in groups]}},
    }
    return document(statement)


def document(*statements: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions: str, resource: str = "*") -> str:
    return document({"Effect": "Allow", "Action": list(actions), "Resource": resource})


def client(service: str, endpoint: str, credentials: Credentials) -> Any:
    """Return a boto3 client that tries once."""
    return _SESSION.client(
        service,
        endpoint_url=endpoint,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
        config=_CLIENTS,
    )


def post(endpoint: str, form: Mapping[str, object], *, timeout: float = HANG) -> Answer:
    """Send an unsigned form and return the answer, whatever its status."""
    body = urllib.parse.urlencode({name: str(value) for name, value in form.items()}).encode()
    return fetch(urllib.request.Request(f"{endpoint}/", body, {"Content-Type": FORM}), timeout=timeout)


def fetch(request: urllib.request.Request | str, *, timeout: float = HANG) -> Answer:
    try:
        with NO_PROXY.open(request, timeout=timeout) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


def sign_in(
    endpoint: str, user: str, *, role: str | None = None, password: str | None = None, **more: object
) -> Answer:
    """Trade a directory password for credentials, by the POST that everybody can send."""
    named = {"RoleArn": role} if role else {}
    form = {"Action": "AssumeRoleWithLDAPIdentity", "Version": VERSIONS["sts"], "LDAPUsername": user}
    return post(endpoint, {**form, "LDAPPassword": password or PASSWORDS[user], **named, **more})


def error_code(call, **parameters: object) -> str:
    """Return the code of the error that a call of boto3 ends in, or nothing where it works."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def converse(endpoint: str, octets: bytes, *, timeout: float = HANG) -> bytes:
    """Send octets to the socket itself and return all that comes back until the server closes."""
    received = bytearray()
    with connected(endpoint, timeout) as wire:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.sendall(octets)
        with contextlib.suppress(ConnectionResetError):
            while octets := wire.recv(65536):
                received += octets
    return bytes(received)


def connected(endpoint: str, timeout: float = HANG) -> socket.socket:
    url = urllib.parse.urlsplit(endpoint)
    return socket.create_connection((url.hostname, url.port), timeout)


def status_of(received: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", received)
    assert found, received[:200]
    return int(found[1])


# --- processes --------------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    numbered = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(int(entry.name) for entry in numbered if _parent(entry) == pid)


def descendants(pid: int) -> list[int]:
    return [one for child in children(pid) for one in (child, *descendants(child))]


def alive(pid: int) -> bool:
    """Return whether a process still runs; one that only waits to be reaped does not."""
    return _state(Path(f"/proc/{pid}")) not in ("", "Z", "X")


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _parent(entry: Path) -> int:
    fields = _stat(entry)
    return int(fields[1]) if fields else -1


def _state(entry: Path) -> str:
    fields = _stat(entry)
    return fields[0] if fields else ""


def _stat(entry: Path) -> list[str]:
    # proc(5): what follows the name in parentheses begins with state and parent.
    with contextlib.suppress(OSError):
        return (entry / "stat").read_text().rpartition(")")[2].split()
    return []


# --- an installation --------------------------------------------------------------------------------------------------


@dataclass
class Broker:
    """An installation in a folder of its own, and `fedgate run` over it when it is started."""

    folder: Path
    directory: RunningDirectory
    redis_url: str = ""
    database_url: str = ""
    server: Mapping[str, object] = field(default_factory=dict)
    directory_settings: Mapping[str, object] = field(default_factory=dict)
    more: str = ""  # further sections of the settings
    process: subprocess.Popen[bytes] | None = None
    endpoint: str = ""
    root: Credentials | None = None

    @property
    def config(self) -> Path:
        return self.folder / "fedgate.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "broker.log"

    def make(self) -> "Broker":
        """Write the settings, make what `fedgate init` makes, and an account whose root's key is kept."""
        self.config.write_text(self._toml(), encoding="utf-8")
        self.fedgate("init")
        made = self.fedgate("account", "create", "--id", ACCOUNT, "--alias", "acme")
        assert (made["account_id"], made["alias"]) == (ACCOUNT, "acme")
        self.root = Credentials(made["root"]["access_key_id"], made["root"]["secret_access_key"])
        return self

    def like(self, made: "Broker") -> "Broker":
        """Write the settings, and begin with the data of an installation that is stopped."""
        self.config.write_text(self._toml(), encoding="utf-8")
        # Redis has a socket there, and nothing that must not be lost.
        shutil.copytree(made.data, self.data, ignore=shutil.ignore_patterns("redis"))
        self.root = made.root
        return self

    def fedgate(self, *arguments: str) -> Any:
        """Run a command over this installation and return the JSON that it prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [FEDGATE, *arguments, "--config", str(self.config), "--json"]
        environ = environment(self.folder, **more)
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG, check=False)

    def start(self) -> "Broker":
        """Start `fedgate run` and wait until it serves."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [FEDGATE, "run", "--config", str(self.config)],
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.endpoint = eventually(self._served, within=HANG)
        return self

    def stop(self) -> int:
        """End it as an operator does, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(HANG)
        self.process = None
        return status

    def restart(self) -> None:
        assert self.stop() == 0
        self.start()

    def close(self) -> None:
        """End it in any case, with all that it started."""
        if self.process is None:
            return
        family = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(HANG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process = None

    def master(self) -> int:
        """Return the process that watches over the workers."""
        assert self.process is not None
        return next(pid for pid in children(self.process.pid) if "gunicorn" in command_line(pid))

    def workers(self) -> list[int]:
        return children(self.master())

    def client(self, service: str, credentials: Credentials | None = None) -> Any:
        credentials = credentials or self.root
        assert credentials is not None
        return client(service, self.endpoint, credentials)

    def sign_in(self, user: str, role: str | None = None, **more: object) -> Answer:
        return sign_in(self.endpoint, user, role=role_arn(role) if role else None, **more)

    def credentials(self, user: str, role: str | None = None, **more: object) -> Credentials:
        """Return the credentials of somebody who signs in."""
        answer = self.sign_in(user, role, **more)
        assert answer.status == 200, answer.body
        return answer.credentials

    def role_for(self, user: str, name: str, *policies: str, **more: object) -> Credentials:
        """Make a role for somebody and return their credentials of it, once the worker that is asked knows of it."""
        groups = {"alice": "platform", "dave": "contractors"}
        self.role(name, trusting(groups.get(user, "staff")), *policies, **more)
        return eventually(lambda: self.credentials_if_trusted(user, name))

    def credentials_if_trusted(self, user: str, name: str) -> Credentials | None:
        answer = self.sign_in(user, name)
        assert answer.code in (None, "AccessDenied"), answer.body
        return answer.credentials if answer.status == 200 else None

    def session(self, credentials: Credentials) -> dict[str, Any]:
        """Return the session of credentials as the list of live sessions shows it, which is written behind."""
        return eventually(lambda: self._sessions().get(credentials.access_key))

    def _sessions(self) -> dict[str, dict[str, Any]]:
        return {one["access_key_id"]: one for one in self.fedgate("sessions", "list")}

    def code(self, credentials: Credentials) -> str:
        """Return the error code of GetCallerIdentity over a new connection, or nothing where it works."""
        with contextlib.closing(self.client("sts", credentials)) as sts:
            return error_code(sts.get_caller_identity)

    def codes(self, credentials: Credentials) -> set[str]:
        """Return what GetCallerIdentity is answered, after every worker was asked."""
        before, told = self.trails(), set()
        with ThreadPoolExecutor(8) as pool:
            for _ in range(25):
                with contextlib.closing(self.client("sts", credentials)) as sts:
                    told |= set(pool.map(lambda _: error_code(sts.get_caller_identity), range(8)))
                if all(size > before.get(pid, 0) for pid, size in self.trails().items()):
                    return told
        raise AssertionError("a worker was never asked")

    def trails(self) -> dict[int, int]:
        """Return how long each worker's audit file is: each request leaves a line in one of them."""
        sizes = {}
        for pid in self.workers():
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if fd.readlink().suffix == ".jsonl":
                        sizes[pid] = fd.stat().st_size
        assert sizes
        return sizes

    def ready(self) -> tuple[int, dict[str, str]]:
        answer = fetch(f"{self.endpoint}/readyz")
        return answer.status, json.loads(answer.body)["checks"]

    def role(self, name: str, trust: str, *policies: str, **more: object) -> str:
        """Make a role and return its ARN; a policy is AWS-managed by name, or a document."""
        iam = self.client("iam")
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust, **more)["Role"]["Arn"]
        for number, policy in enumerate(policies):
            if policy.startswith("{"):
                iam.put_role_policy(RoleName=name, PolicyName=f"inline-{number}", PolicyDocument=policy)
            else:
                iam.attach_role_policy(RoleName=name, PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
        return str(made)

    def _served(self) -> str:
        assert self.process is not None
        said = self.log.read_text(encoding="utf-8", errors="replace")
        assert self.process.poll() is None, said
        found = re.search(r"^fedgate serves (http://\S+)$", said, re.MULTILINE)
        return found[1] if found else ""

    def _toml(self) -> str:
        password = self.folder / "ldap-password"
        password.touch(mode=0o600)
        password.write_text(self.directory.bind_password + "\n", encoding="utf-8")
        server = {"bind": "127.0.0.1:0", **self.server}
        lines = ["[server]", *_entries(server), "[data]", f"dir = {json.dumps(str(self.data))}"]
        lines += ["[redis]", f"url = {json.dumps(self.redis_url)}"] if self.redis_url else []
        lines += ["[database]", f"url = {json.dumps(self.database_url)}"] if self.database_url else []
        config = self.directory.config(name=DIRECTORY, urls=(self.directory.url,), nested_groups=True)
        given = {
            one.name: getattr(config, one.name)
            for one in fields(config)
            if one.name not in ("name", "bind_password")
            and (one.default is MISSING or getattr(config, one.name) != one.default)
        }
        lines += [f"[directory.{DIRECTORY}]", 'type = "ldap"', 'bind_password_file = "ldap-password"']
        return "\n".join([*lines, *_entries({**given, **self.directory_settings}), self.more]) + "\n"


def _entries(values: Mapping[str, object]) -> list[str]:
    # JSON's texts, lists, numbers and truth values are written in the same way in TOML.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]


# --- the demonstration ------------------------------------------------------------------------------------------------


@dataclass
class Demo:
    """`fedgate demo` over one folder; ``facts`` is what it printed."""

    folder: Path
    process: subprocess.Popen[bytes]
    line: bytes
    facts: dict[str, Any]

    @property
    def endpoint(self) -> str:
        return str(self.facts["endpoint"])

    @property
    def admin(self) -> Credentials:
        return Credentials(self.facts["admin"]["access_key_id"], self.facts["admin"]["secret_access_key"])

    @property
    def root(self) -> Credentials:
        return Credentials(self.facts["root"]["access_key_id"], self.facts["root"]["secret_access_key"])

    def rest(self) -> bytes:
        """Return what came on standard output after the line, once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.read()


@contextlib.contextmanager
def running_demo(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None, fedgate: str = FEDGATE
) -> Iterator[Demo]:
    """Run `fedgate demo` and yield it when it has said that it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [fedgate, "demo", "--data", str(folder / "data"), "--bind", "127.0.0.1:0", "--json", *arguments]
    with (folder / "demo.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=environment(folder, **(environ or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    family: list[int] = []
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "demo.log").read_text()
        family = descendants(process.pid)
        yield Demo(folder, process, line, json.loads(line))
    finally:
        process.terminate()
        try:
            process.wait(HANG)
        finally:
            process.kill()
            process.wait()
            for pid in family:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            process.stdout.close()
