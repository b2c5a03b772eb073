"""CPU-bound work, run in a thread so that the worker can serve other requests."""

from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def run_in_thread_pool(work: Callable[[], T]) -> T:
    """Run a function in a thread and return or raise its outcome; other requests are served meanwhile.

    Used for Argon2, which takes a tenth of a second and releases the GIL. The function must not use the request or hold
    a transaction.
    """

    def capture_result() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001 - raised below; the thread pool would print it
            return None, error

    outcome: tuple[T, None] | tuple[None, Exception] = gevent.get_hub().threadpool.apply(capture_result)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
