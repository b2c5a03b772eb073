"""Work that keeps a processor busy, done in a thread beside the one that serves everybody else."""

from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def run_in_thread_pool(work: Callable[[], T]) -> T:
    """Return what the work returns, or raise what it raises; other requests go on meanwhile.

    Argon2 takes a tenth of a second and no lock. The work knows nothing of the request, and holds no transaction.
    """

    def capture_result() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001 - raised below; the thread pool would print it
            return None, error

    found: tuple[T, None] | tuple[None, Exception] = gevent.get_hub().threadpool.apply(capture_result)
    if found[1] is not None:
        raise found[1]
    return found[0]
