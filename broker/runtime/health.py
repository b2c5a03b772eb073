"""Liveness and readiness of the process, for supervisors and load balancers."""

import logging
import threading
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

Checks = Mapping[str, Callable[[], None]]
Report = tuple[int, dict[str, object]]


def liveness() -> Report:
    """Return status and body for /healthz: a process that can answer is alive."""
    return 200, {"status": "ok"}


def readiness(checks: Checks) -> Report:
    """Return status and body for /readyz: 200 when every check returns, else 503 with the class of each exception.

    Messages of exceptions go to the log only: they may contain addresses or credentials, and the endpoint is public.
    """
    results = {name: _result(name, check) for name, check in checks.items()}
    ready = all(result == "ok" for result in results.values())
    return (200 if ready else 503), {"status": "ready" if ready else "not ready", "checks": results}


def _result(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:
        log.warning("%s is not ready: %s", name, error, exc_info=log.isEnabledFor(logging.DEBUG))
        return f"failed: {type(error).__name__}"
    return "ok"


class RememberedCheck:
    """A check whose outcome counts for some seconds, whoever asks, and that runs once at a time.

    /readyz is public: without this, every request of a stranger would be one to each directory, to the database and to
    Redis, and a write to the disk.
    """

    def __init__(self, check: Callable[[], None], *, monotonic: Callable[[], float], seconds: float = 10.0) -> None:
        self._check = check
        self._monotonic = monotonic
        self._seconds = seconds
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._error: Exception | None = None

    def __call__(self) -> None:
        """Raise the exception of the last check, which is repeated when it is too old; wait only for the first one."""
        first = self._checked_at == float("-inf")
        if self._monotonic() - self._checked_at >= self._seconds and self._lock.acquire(blocking=first):
            try:
                self._repeat()
            finally:
                self._lock.release()
        if self._error is not None:
            raise self._error.with_traceback(None)  # else it would grow with each request

    def _repeat(self) -> None:
        if self._monotonic() - self._checked_at < self._seconds:  # another thread has just checked
            return
        try:
            self._check()
        except Exception as error:  # noqa: BLE001 - raised for whoever asks
            self._error = error
        else:
            self._error = None
        self._checked_at = self._monotonic()
