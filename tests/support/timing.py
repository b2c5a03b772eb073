"""Times that mean the same on a fast and on a busy machine: fastest of many tries, and in units of measured work."""

import time
from collections.abc import Callable


def fastest(*calls: Callable[[], object], tries: int) -> list[float]:
    """Return the least seconds that each call takes, tried in turn: what else runs only ever adds to the others."""
    best = [float("inf")] * len(calls)
    for _ in range(tries):
        for at, call in enumerate(calls):
            best[at] = min(best[at], _seconds(call))
    return best


def cost(call: Callable[[], object], *, tries: int) -> float:
    """Return how many times the reference work a call takes; that work takes about a millisecond where nothing runs."""
    seconds, reference = fastest(call, _reference_work, tries=tries)
    return seconds / reference


def alike(one: float, other: float) -> bool:
    """Return whether two least times tell an attacker nothing: they differ by a half, or by what a network hides."""
    return abs(one - other) < max(0.010, max(one, other) / 2)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _reference_work() -> int:
    return sum(number * number for number in range(15_000))
