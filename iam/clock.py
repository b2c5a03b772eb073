"""Conversions between datetimes, milliseconds as in the database, and ISO 8601. Pure; reads no clock.

Times in the code are timezone-aware datetimes in UTC. Tables and sessions contain milliseconds since 1970, responses
and tokens whole seconds.
"""

import re
from datetime import UTC, date, datetime, time, timedelta

# Durations in milliseconds.
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# Milliseconds by which the clocks of the machines of one installation may differ. A session that began later than that
# in the future is refused, or it would live longer than it may; readiness reports a clock that is further off.
CLOCK_SKEW = MINUTE

_UTC_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)


def to_milliseconds(moment: datetime) -> int:
    """Return a time as stored in the database: milliseconds since 1970, rounded down."""
    return int(moment.timestamp() * 1000)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return a stored time for responses: in UTC, rounded down to whole seconds."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def to_seconds(moment: datetime) -> int:
    """Return a time as whole seconds since 1970, for tokens and condition keys."""
    return int(moment.timestamp())


def to_fractional_seconds(moment: datetime) -> float:
    """Return a time as fractional seconds since 1970, the score of sorted sets in Redis."""
    return moment.timestamp()


def from_seconds(seconds: float) -> datetime:
    """Return the UTC time of seconds since 1970; raise ValueError or OverflowError outside the years 1 to 9999."""
    return datetime.fromtimestamp(seconds, UTC)


def duration_milliseconds(span: timedelta) -> int:
    """Return a duration in milliseconds."""
    return int(span.total_seconds() * 1000)


def iso8601(moment: datetime) -> str:
    """Return a time in AWS's format: ``2026-01-31T12:00:00Z``."""
    return moment.astimezone(UTC).isoformat()[:19] + "Z"  # 25 % faster than strftime, and every request needs it


def iso8601_basic(moment: datetime) -> str:
    """Return a time in the format of Signature Version 4: ``20260131T120000Z``."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def iso8601_exact(moment: date | time) -> str:
    """Return a datetime, date or time with full precision and offset, which ``parse_iso8601`` can read."""
    return moment.isoformat()


def iso_date(moment: datetime) -> str:
    """Return the date of a time: ``2026-01-31``."""
    return moment.isoformat()[:10]


def parse_iso8601(text: str) -> datetime:
    """Parse any ISO 8601 format; the result is timezone-aware only if the text has an offset. Raise ValueError."""
    return datetime.fromisoformat(text)


def parse_utc(text: str) -> datetime:
    """Parse an ``xs:dateTime`` in UTC; digits beyond microseconds are dropped. Raise ValueError."""
    match = _UTC_TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time in UTC")
    microseconds = int(((match[2] or ".")[1:] + "000000")[:6])
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC, microsecond=microseconds)
