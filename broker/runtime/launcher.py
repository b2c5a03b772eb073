"""Starts the service (socket, embedded Redis, gunicorn), and stops all of it in order when one part ends."""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Final

from broker.config.loopback import is_loopback, with_host
from broker.config.settings import CONFIG_VARIABLE, Settings, embedded_socket
from broker.runtime.processes import ChildProcess, StartupError, spawn
from broker.runtime.redis_server import EmbeddedRedis
from broker.runtime.service_lock import serving

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is not behind a proxy
_READY_WITHIN: Final = 30.0  # seconds; then the failed checks are reported, and the service goes on
_MUST_BE_READY_WITHIN: Final = 120.0  # seconds for a trial on a busy machine; one that fails ends the wait
_LOOK_EVERY: Final = 0.2
_BACKLOG: Final = 2048
_UNIX: Final = "unix:"
_SOCKET_MODE: Final = 0o660  # proxies run as another user, of the same group

# Every option of gunicorn but the address and the number of workers; deploy/gunicorn.conf.py reads the same table.
GUNICORN: Final[Mapping[str, object]] = MappingProxyType(
    {
        "worker_class": "broker.runtime.worker.Worker",
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108 - the heartbeat must not wait for a disk
        "preload_app": False,  # each worker opens its own database connection and audit file
        "timeout": 30,
        "graceful_timeout": 10,
        "keepalive": 75,
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 16380,
        # The WSGI adapter reads X-Forwarded-*, and only from the proxies in the settings (THREATS B34).
        "forwarded_allow_ips": "",
        # WSGI cannot tell X_A from X-A: headers with an underscore are dropped.
        "header_map": "drop",
        "control_socket_disable": True,
        "accesslog": None,  # a query string may contain a signature or a password
        "loglevel": "warning",
    }
)


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What to start: the settings, their source, and processes that already run and stop with the service.

    With ``must_be_ready``, a service that is not ready in time is stopped; otherwise this is only reported. Where no
    public URL is set and ``localhost`` is true, the pages of a service on a loopback address are at http://localhost.
    """

    settings: Settings
    config: Path | None
    environ: Mapping[str, str]
    parts: Sequence[ChildProcess] = ()
    must_be_ready: bool = False
    localhost: bool = False


def gunicorn_arguments(
    application: str, *, fd: int, workers: int, connections: int = 1000, authz_fds: Sequence[int] = ()
) -> list[str]:
    """Return the command that serves a WSGI application on an inherited listening socket.

    On those of ``authz_fds``, the workers answer requests to the authorizer and nothing else.
    """
    command = [sys.executable, "-m", "gunicorn", application, "--workers", str(workers)]
    for listening in (fd, *authz_fds):  # Worker tells them apart by their order
        command += ["--bind", f"fd://{listening}"]
    command += ["--worker-connections", str(connections)]
    for name, value in GUNICORN.items():
        command += _flag(name, value)
    return command


# Options whose flags have other names.
_FLAGS: Final = {
    "control_socket_disable": "--no-control-socket",
    "preload_app": "--preload",
    "loglevel": "--log-level",
    "accesslog": "--access-logfile",
    "keepalive": "--keep-alive",
    "limit_request_field_size": "--limit-request-field_size",
}


def _flag(name: str, value: object) -> list[str]:
    flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
    if value is None or value is False:
        return []
    return [flag] if value is True else [flag, str(value)]


def listen(bind: str, *, setting: str = "server.bind") -> socket.socket:
    """Return a listening socket on HOST:PORT; raise StartupError."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise StartupError(f"Cannot listen on {bind}: {reason}. Choose another address: {setting}.") from error


@contextmanager
def listen_for_proxies(bind: str) -> Iterator[tuple[socket.socket, ...]]:
    """Give the listening socket of the authorizer at HOST:PORT or unix:/PATH, or none; raise StartupError."""
    if not bind:
        yield ()
        return
    path = bind.removeprefix(_UNIX)
    with _listen_at_path(Path(path)) if bind.startswith(_UNIX) else listen(bind, setting="authz.bind") as listening:
        yield (listening,)


def _listen_at_path(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():  # left behind by a process that was killed
            path.unlink()
        listening.bind(str(path))
        path.chmod(_SOCKET_MODE)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        reason = os.strerror(error.errno or 0)
        raise StartupError(f"Cannot listen on {path}: {reason}. Choose another path: authz.bind.") from error
    return listening


def endpoint_of(listening: socket.socket) -> str:
    """Return the http:// URL at which this machine reaches a listening socket."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def launch(options: LaunchOptions, announce: Callable[[str], None], stopping: threading.Event) -> None:
    """Serve until ``stopping`` is set; ``announce`` gets the endpoint when ready. Raise StartupError."""
    with serving(options.settings.data_dir):
        _launch(options, announce, stopping)


def _launch(options: LaunchOptions, announce: Callable[[str], None], stopping: threading.Event) -> None:
    settings = options.settings
    running = list(options.parts)
    redis = EmbeddedRedis(embedded_socket(settings.data_dir), settings.data_dir / "redis")
    try:
        with listen(settings.bind) as listening, listen_for_proxies(settings.authz_bind) as for_proxies:
            if settings.redis_embedded:
                redis.start()
            here = endpoint_of(listening)
            running.append(_gunicorn(options, (listening, *for_proxies), here))
        _await_ready(options, here, running, stopping)
        if not stopping.is_set():
            announce(here if options.localhost or settings.bind.endswith(":0") else _public(settings, here))
        _watch(running, redis if settings.redis_embedded else None, stopping)
    finally:
        for child in reversed(running):
            child.stop()
        redis.stop()


def _public(settings: Settings, here: str) -> str:
    return here if settings.public_url == f"http://{settings.bind}" else settings.public_url


def _gunicorn(options: LaunchOptions, listening: Sequence[socket.socket], here: str) -> ChildProcess:
    settings = options.settings
    environ = dict(options.environ)
    if options.config is not None:
        environ[CONFIG_VARIABLE] = str(options.config.absolute())
    by_name = options.localhost and is_loopback(here)
    environ["FEDGATE_PUBLIC_URL"] = _public(settings, with_host(here, "localhost") if by_name else here)
    fds = [one.fileno() for one in listening]
    command = gunicorn_arguments(
        "broker.wsgi:application",
        fd=fds[0],
        workers=settings.workers,
        connections=settings.worker_connections,
        authz_fds=fds[1:],
    )
    stop_timeout = 15.0  # longer than gunicorn's own graceful_timeout
    return ChildProcess("gunicorn", spawn(command, environ=environ, pass_fds=fds), stop_timeout)


def stop_event_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on, instead of terminating this process."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def _await_ready(options: LaunchOptions, here: str, running: Sequence[ChildProcess], stopping: threading.Event) -> None:
    within = _MUST_BE_READY_WITHIN if options.must_be_ready else _READY_WITHIN
    deadline, pause = time.monotonic() + within, 0.05
    while not stopping.is_set():
        reasons = _not_ready(here)
        if not reasons:
            return
        _require_alive(running)
        if time.monotonic() > deadline:
            if options.must_be_ready:
                raise StartupError(f"Not ready after {within:.0f} s: {reasons}")
            sys.stderr.write(f"fedgate serves, but is not ready: {reasons}\n")
            return
        stopping.wait(pause)
        pause = min(2 * pause, 1.0)  # each check logs a line for every part that is not ready


def _not_ready(here: str) -> str:
    """Return the failed checks of /readyz, or an empty text."""
    try:
        with _DIRECT.open(f"{here}/readyz", timeout=5) as response:
            return "" if response.status == 200 else f"status {response.status}"  # noqa: PLR2004 - HTTP's own number
    except urllib.error.HTTPError as error:
        with error:
            return _reasons(error.read()) or f"status {error.code}"
    except OSError as error:
        return f"no answer ({type(error).__name__})"


def _reasons(body: bytes) -> str:
    try:
        checks = json.loads(body)["checks"]
        return ", ".join(f"{name} {result}" for name, result in checks.items() if result != "ok")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _require_alive(running: Sequence[ChildProcess]) -> None:
    for child in running:
        if child.exit_message():
            raise StartupError(f"{child.exit_message()}; its messages are above.")


def _watch(running: Sequence[ChildProcess], redis: EmbeddedRedis | None, stopping: threading.Event) -> None:
    while not stopping.wait(_LOOK_EVERY):
        _require_alive(running)
        if redis is not None:
            # Credentials are issued and verified without Redis, so the service goes on when it dies.
            redis.take_over()
