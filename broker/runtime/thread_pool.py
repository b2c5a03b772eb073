"""CPU-bound work, run in a thread so that the worker can serve other requests."""

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

import gevent
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

T = TypeVar("T")
# gevent resolves names in the threads of the hub: a name server that does not answer must not keep passwords waiting.
_MOST_THREADS: Final = 10


@cache
def _pool(hub: Hub) -> ThreadPool:
    return ThreadPool(_MOST_THREADS, hub=hub)


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

    outcome: tuple[T, None] | tuple[None, Exception] = _pool(gevent.get_hub()).apply(capture_result)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
