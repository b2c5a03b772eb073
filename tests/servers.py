"""Real servers for tests: started as children, in a temporary folder, stopped at the end."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError


def program(name: str, package: str) -> str:
    """Return where a server program is; fail with the command that installs it."""
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{name} is missing: apt-get install --no-install-recommends {package}")
    return found


def eventually(check, *, within: float = 10.0, every: float = 0.02):
    """Return the first true answer of ``check``; fail after ``within`` seconds."""
    end = time.monotonic() + within
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s")
        time.sleep(every)


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[str]:
    """Run a Redis on a unix socket and yield its URL."""
    # A path of its own, short: a socket's path may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="fg-") as folder:
        socket = Path(folder) / "r.sock"
        command = [program("redis-server", "redis-server"), "--dir", folder, "--port", "0", "--unixsocket", str(socket)]
        command += ["--save", "", "--loglevel", "warning", *arguments]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            url = f"unix://{socket}"
            eventually(lambda: answers(url))
            try:
                yield url
            finally:
                child.kill()


def answers(url: str) -> bool:
    with contextlib.suppress(RedisError), Redis.from_url(url) as client:
        return bool(client.ping())
    return False
