"""Liveness and readiness of the process, for supervisors and load balancers."""

import logging
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
