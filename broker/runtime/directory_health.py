"""Whether the directories answer: all asked at the same time, so that a page waits for the slowest and no longer."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from iam.clock import SECOND
from sts.identity import ProviderUnavailable

log = logging.getLogger(__name__)

_AT_MOST: Final = 12.0  # seconds: a directory of several servers may take longer, and the page does not wait for it
_TOGETHER: Final = 16


class HealthCheckable(Protocol):
    """A directory that can say whether it answers."""

    def check(self) -> None:
        """Return when it answers; raise whatever is wrong."""


class DirectoryState(StrEnum):
    """How a directory is; what an exception says stays in the log."""

    GOOD = "good"
    AWAY = "away"
    UNTRUSTED = "untrusted"
    BROKEN = "broken"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class DirectoryHealth:
    """How a directory is: its state, the class of the error, and how many milliseconds the answer took."""

    name: str
    state: DirectoryState
    error: str
    took: int


def check_directories(
    directories: Mapping[str, HealthCheckable], monotonic: Callable[[], float], *, at_most: float = _AT_MOST
) -> tuple[DirectoryHealth, ...]:
    """Return the state of every directory, by name; takes as long as the slowest, and so many seconds at most."""
    if not directories:
        return ()
    together = ThreadPoolExecutor(min(_TOGETHER, len(directories)), thread_name_prefix="directory")
    asked = {name: together.submit(_check, name, one, monotonic) for name, one in sorted(directories.items())}
    wait(asked.values(), timeout=at_most)
    together.shutdown(wait=False, cancel_futures=True)
    return tuple(
        _result_of(future) or DirectoryHealth(name, DirectoryState.SLOW, "", int(at_most * SECOND))
        for name, future in asked.items()
    )


def _result_of(future: Future[DirectoryHealth]) -> DirectoryHealth | None:
    return future.result() if future.done() and not future.cancelled() else None


def _check(name: str, directory: HealthCheckable, monotonic: Callable[[], float]) -> DirectoryHealth:
    started = monotonic()
    state, error = _state(name, directory)
    return DirectoryHealth(name, state, error, round((monotonic() - started) * SECOND))


def _state(name: str, directory: HealthCheckable) -> tuple[DirectoryState, str]:
    try:
        directory.check()
    except ProviderUnavailable as error:
        log.warning("the directory %s does not answer: %s", name, error.log)
        return (DirectoryState.UNTRUSTED if error.security else DirectoryState.AWAY), type(error).__name__
    except Exception as error:
        log.exception("the directory %s cannot be asked", name)
        return DirectoryState.BROKEN, type(error).__name__
    return DirectoryState.GOOD, ""
