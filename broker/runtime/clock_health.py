"""Whether the clock of this machine can be trusted: sessions begin and end by it (THREATS I09)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from iam.clock import CLOCK_SKEW

_SKEW: Final = timedelta(milliseconds=CLOCK_SKEW)


class ClockJumped(Exception):
    """The clock was set while this process ran."""


class ClockDiffers(Exception):
    """The clock of SQL or Redis says another time, so that one of them is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockCheck:
    """Compares the clock with the seconds since the start of the process, and with the clocks of others.

    ``monotonic`` counts seconds, also while the machine is suspended. ``others`` return the time of a server by its
    name, None where it has no clock of its own; one that does not answer is not compared, for its own check says so.
    After a jump the check fails until the clock is right again, or the process is restarted with it.
    """

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    others: Mapping[str, Callable[[], datetime | None]]
    started: datetime
    started_monotonic: float

    def __call__(self) -> None:
        """Raise ClockJumped or ClockDiffers where a difference is larger than the skew that sessions are allowed."""
        passed = timedelta(seconds=self.monotonic() - self.started_monotonic)
        jump = self.now() - self.started - passed
        if abs(jump) > _SKEW:
            raise ClockJumped(f"the clock was set by {jump.total_seconds():+.0f} s since the start; restart when right")
        for name, read in self.others.items():
            self._compare(name, read)

    def _compare(self, name: str, read: Callable[[], datetime | None]) -> None:
        before = self.now()
        try:
            theirs = read()
        except Exception:  # noqa: BLE001 - whatever it is, the check of that server reports it
            return
        if theirs is not None and not before - _SKEW <= theirs <= self.now() + _SKEW:
            difference = (theirs - before).total_seconds()
            raise ClockDiffers(f"the clock of {name} differs from this machine's by {difference:+.0f} s")
