"""Real servers for tests: started as children, in a temporary folder, stopped at the end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from broker.runtime.redis_server import find_binary

PROGRAMS = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
HANG = 120.0  # seconds after which something that is waited for has hung; never how fast it should be


@dataclass
class ServerPermission:
    """Whether the current test may start installed programs: only one with the mark ``server`` may.

    So ``make test-fast``, which leaves those tests out, needs none of the programs, and no mark is forgotten.
    """

    granted: bool = True

    def require(self, name: str) -> None:
        """Fail the current test if it starts a program without the mark."""
        if not self.granted:
            raise RuntimeError(f"this test starts {name}: mark it with pytest.mark.server (tests/README.md)")


SERVERS = ServerPermission()


def program(name: str, package: str) -> str:
    """Return where a server program is; fail with the command that installs it."""
    SERVERS.require(name)
    file = shutil.which(name, path=PROGRAMS)
    if file is None:
        raise RuntimeError(f"{name} is missing: apt-get install --no-install-recommends {package}")
    return file


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def eventually(check, *, within: float = HANG, every: float = 0.02):
    """Return the first true answer of ``check``; fail after ``within`` seconds, which is for hangs alone."""
    end = time.monotonic() + within
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s")
        time.sleep(every)


@contextlib.contextmanager
def running_program(
    command: Sequence[str | Path], *, stop: signal.Signals = signal.SIGTERM, **popen: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Run a program and end it by ``stop``, or by SIGKILL where that does not help.

    Give it no pipe that nobody reads: a program that fills one waits for ever.
    """
    with subprocess.Popen(command, **popen) as process:
        try:
            yield process
        finally:
            end(process, stop)


def end(process: subprocess.Popen[Any], stop: signal.Signals = signal.SIGTERM) -> None:
    """End a process that may have ended already."""
    process.send_signal(stop)
    try:
        process.wait(HANG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[str]:
    """Run a Redis on a unix socket and yield its URL."""
    # A folder outside of pytest's, since a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        path = Path(folder) / "r.sock"
        command = [find_binary(PROGRAMS), "--dir", folder, "--port", "0", "--unixsocket", str(path)]
        command += ["--save", "", "--loglevel", "warning", *arguments]
        with running_program(command, stop=signal.SIGKILL, stdout=subprocess.DEVNULL):
            url = f"unix://{path}"
            eventually(lambda: answers(url))
            yield url


def answers(url: str) -> bool:
    with contextlib.suppress(RedisError), Redis.from_url(url) as client:
        return bool(client.ping())
    return False


POSTGRESQL = Path("/usr/lib/postgresql/15/bin")


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """Run a PostgreSQL on a unix socket and yield the socket's folder."""
    SERVERS.require("PostgreSQL")
    if not (POSTGRESQL / "initdb").exists():
        raise RuntimeError("PostgreSQL is missing: apt-get install --no-install-recommends postgresql-15")
    # initdb refuses root; a path of its own and short, since a socket's path may have 107 bytes.
    owner = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        if owner:
            shutil.chown(folder, "nobody", "nogroup")
        data = f"{folder}/data"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **owner}
        initdb = [POSTGRESQL / "initdb", "-D", data, "-N", "-A", "trust", "-U", "fedgate", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, **quiet)
        command = [POSTGRESQL / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-F"]
        # SIGINT asks for a fast shutdown: it does not wait for clients to leave.
        with running_program(command, stop=signal.SIGINT, **quiet):
            eventually(lambda: _postgresql_answers(folder))
            yield folder


def postgresql_database(folder: str, name: str) -> str:
    """Make an empty database and return its URL."""
    with _postgresql(folder) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://fedgate@/{name}?host={folder}"


def _postgresql_answers(folder: str) -> bool:
    with contextlib.suppress(psycopg.OperationalError), _postgresql(folder):
        return True
    return False


def _postgresql(folder: str):
    return psycopg.connect(host=folder, user="fedgate", dbname="postgres", autocommit=True)
