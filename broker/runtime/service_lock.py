"""A lock in the data folder that says whether a service uses it: shared by services, exclusive for a moment to look."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = "service.lock"


@contextmanager
def serving(data_dir: Path) -> Iterator[None]:
    """Hold the lock while a service runs; the system releases it when the process ends, however it ends."""
    with (data_dir / _NAME).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def is_served(data_dir: Path) -> bool:
    """Return whether a service that runs on this machine uses the folder."""
    with (data_dir / _NAME).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
