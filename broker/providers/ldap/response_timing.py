"""Refusals take as long as wrong passwords do, so that the time does not tell which names exist (THREATS E09)."""

from collections.abc import Callable


class ResponseTiming:
    """Delays refusals until a wrong password would have been refused, whose usual time it measures.

    Without it, a directory with a slow password hash would refuse unknown names faster than wrong passwords, and so
    tell which names exist (THREATS E09).
    """

    def __init__(self, monotonic: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._usual = 0.0

    def start(self) -> float:
        """Return the moment at which a request to the directory begins."""
        return self._monotonic()

    def learn(self, started: float) -> None:
        """Measure one attempt with a wrong password that was refused just now."""
        # A moving average: one slow response, which is capped at two seconds, does not delay all refusals after it.
        seconds = min(self._monotonic() - started, 2.0)
        self._usual = seconds if not self._usual else 0.8 * self._usual + 0.2 * seconds

    def wait(self, started: float, attempts: int) -> None:
        """Sleep until a wrong password would have been refused as often as it is tried, once for each of its forms."""
        missing = attempts * self._usual - (self._monotonic() - started)
        # Less than a millisecond cannot be measured: the scheduler's noise is larger.
        if missing > 0.001:  # noqa: PLR2004 - see above
            self._sleep(missing)
