"""Whose turn it is to write to SQLite: one thread of one process of this machine.

SQLite's own lock blocks the thread that waits for it, and with it, under gevent, every other request of the worker,
for as long as its back-off takes. This one waits by short sleeps, in which others go on.
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
    """A lock over threads and, with a file, over processes; who ends without giving it back has given it back."""

    def __init__(self, file: Path | None) -> None:
        self._thread_lock = threading.Lock()
        self._fd = None if file is None else os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def acquire(self, timeout: float) -> Iterator[bool]:
        """Wait for the turn, so many seconds at most; give whether it is ours."""
        until = time.monotonic() + timeout
        if not self._thread_lock.acquire(timeout=timeout):
            yield False
            return
        try:
            mine = self._fd is None or _flock_until(self._fd, until)
            try:
                yield mine
            finally:
                if mine and self._fd is not None:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _flock_until(fd: int, until: float) -> bool:
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        else:
            return True
