"""Health checks of the directories, run concurrently: the result takes as long as the slowest one."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from iam.clock import SECOND
from sts.identity import ProviderUnavailable

log = logging.getLogger(__name__)

_AT_MOST: Final = 12.0  # seconds; a directory with several servers may take longer, but a page must not wait for it
_MAX_CONCURRENT: Final = 16


class HealthCheckable(Protocol):
    """A directory that can be checked."""

    def check(self) -> None:
        """Return if the directory responds; raise ProviderUnavailable or any other exception otherwise."""


class DirectoryState(StrEnum):
    """The state of a directory; the message of an exception goes to the log only."""

    GOOD = "good"
    AWAY = "away"
    UNTRUSTED = "untrusted"
    BROKEN = "broken"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class DirectoryHealth:
    """The result of a check: state, class of the error, and duration in milliseconds."""

    name: str
    state: DirectoryState
    error: str
    took: int


def check_directories(
    directories: Mapping[str, HealthCheckable], monotonic: Callable[[], float], *, at_most: float = _AT_MOST
) -> tuple[DirectoryHealth, ...]:
    """Return the health of every directory, by name; takes at most ``at_most`` seconds."""
    if not directories:
        return ()
    pool = ThreadPoolExecutor(min(_MAX_CONCURRENT, len(directories)), thread_name_prefix="directory")
    checks = {name: pool.submit(_check, name, directory, monotonic) for name, directory in sorted(directories.items())}
    wait(checks.values(), timeout=at_most)
    pool.shutdown(wait=False, cancel_futures=True)
    return tuple(
        _result_of(future) or DirectoryHealth(name, DirectoryState.SLOW, "", int(at_most * SECOND))
        for name, future in checks.items()
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
        log.exception("the check of directory %s failed", name)
        return DirectoryState.BROKEN, type(error).__name__
    return DirectoryState.GOOD, ""
