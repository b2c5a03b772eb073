"""Work that keeps a processor busy, done in a thread beside the one that serves everybody else."""

from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def aside(work: Callable[[], T]) -> T:
    """Return what the work returns; other requests go on meanwhile. Argon2 takes a tenth of a second and no lock."""
    found: T = gevent.get_hub().threadpool.apply(work)
    return found
