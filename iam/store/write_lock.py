"""A write lock across the threads of a process, and with a file across the processes of this machine, as SQLite needs.

On PostgreSQL it keeps the writers that wait from holding connections. Waiting for SQLite's own lock blocks the thread
inside the C library; under gevent this blocks every request of the worker. This lock waits with short sleeps, during
which gevent runs the other requests.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005  # seconds


class WriteLock:
    """A lock between threads and, with a file, between processes; the kernel releases it when a process dies."""

    def __init__(self, file: Path | None) -> None:
        self._thread_lock = threading.Lock()
        self._fd = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def acquire(self, timeout: float) -> Iterator[bool]:
        """Wait up to ``timeout`` seconds for the lock; yield whether it was acquired."""
        deadline = time.monotonic() + timeout
        if not self._thread_lock.acquire(timeout=timeout):
            yield False
            return
        try:
            # flock belongs to the open file, not to the thread: the thread lock comes first.
            acquired = self._fd is None or _flock_until(self._fd, deadline)
            try:
                yield acquired
            finally:
                if acquired and self._fd is not None:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    def close(self) -> None:
        """Close the lock file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _flock_until(fd: int, deadline: float) -> bool:
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        else:
            return True
