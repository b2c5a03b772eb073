"""Times that mean the same on a fast and on a busy machine: the processor's time, fastest of many tries.

What another process does is not in the processor's time of this one. Tests that wait for a server measure with
``time.perf_counter``, which means something on a quiet machine only: they have the mark ``long``.
"""

import time
from collections.abc import Callable


def fastest(*calls: Callable[[], object], tries: int, clock: Callable[[], float] = time.process_time) -> list[float]:
    """Return the least seconds that each call takes, tried in turn: what else runs only ever adds to the others."""
    best = [float("inf")] * len(calls)
    for _ in range(tries):
        for at, call in enumerate(calls):
            best[at] = min(best[at], _seconds(call, clock))
    return best


def cost(call: Callable[[], object], *, tries: int) -> float:
    """Return how many times the reference work a call takes; that work takes about a millisecond where nothing runs."""
    seconds, reference = fastest(call, _reference_work, tries=tries)
    return seconds / reference


def alike(one: float, other: float) -> bool:
    """Return whether two least times tell an attacker nothing: they differ by a half, or by what a network hides."""
    return abs(one - other) < max(0.010, max(one, other) / 2)


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    call()
    return clock() - began


def _reference_work() -> int:
    return sum(number * number for number in range(15_000))
