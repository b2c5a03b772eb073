"""Things that happen at the same time, and an end for whatever waits."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from support.servers import HANG

T = TypeVar("T")


def at_once(*works: Callable[[], T]) -> list[T]:
    """Return what each of these returns, all begun at the same moment; raise what the first of them raised."""
    start = threading.Barrier(len(works), timeout=HANG)

    def run(work: Callable[[], T]) -> T:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        futures: list[Future[T]] = [pool.submit(run, work) for work in works]
        return [future.result(HANG) for future in futures]


def ended(*threads: threading.Thread) -> bool:
    """Wait until all of these have ended; return False where one hangs."""
    for thread in threads:
        thread.join(HANG)
    return not any(thread.is_alive() for thread in threads)
