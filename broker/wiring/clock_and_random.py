"""The one place where the clocks and the entropy of the machine are read: all else gets them as arguments."""

import secrets
import time
from datetime import UTC, datetime

from iam.arn import Random


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


random: Random = secrets.token_bytes


def uptime() -> float:
    """Return seconds that also pass while the machine is suspended, where the system counts them (Linux)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
