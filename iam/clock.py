"""Conversions of time: datetimes, milliseconds as the tables keep them, and ISO 8601. Pure; reads no clock.

Everywhere else a moment is an aware datetime in UTC. Tables and sessions hold whole milliseconds since 1970, answers
and tokens whole seconds.
"""

import re
from datetime import UTC, date, datetime, time, timedelta

# Lengths of time in milliseconds.
SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_UTC_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)


def to_milliseconds(moment: datetime) -> int:
    """Return a moment as the tables keep it: milliseconds since 1970, rounded down."""
    return int(moment.timestamp() * 1000)


def from_milliseconds(milliseconds: int) -> datetime:
    """Return a stored moment as answers show it: in UTC, rounded down to whole seconds."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def to_seconds(moment: datetime) -> int:
    """Return a moment as whole seconds since 1970, as tokens and condition keys have it."""
    return int(moment.timestamp())


def to_fractional_seconds(moment: datetime) -> float:
    """Return a moment as seconds since 1970 with their fraction: the score of a sorted set in Redis."""
    return moment.timestamp()


def from_seconds(seconds: float) -> datetime:
    """Return the moment, in UTC, of seconds since 1970; raise ValueError or OverflowError outside years 1 to 9999."""
    return datetime.fromtimestamp(seconds, UTC)


def duration_milliseconds(span: timedelta) -> int:
    """Return a length of time in milliseconds."""
    return int(span.total_seconds() * 1000)


def iso8601(moment: datetime) -> str:
    """Return a moment as AWS writes it: ``2026-01-31T12:00:00Z``."""
    return moment.astimezone(UTC).isoformat()[:19] + "Z"  # a quarter faster than strftime, and every request has it


def iso8601_basic(moment: datetime) -> str:
    """Return a moment as Signature Version 4 writes it: ``20260131T120000Z``."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def iso8601_exact(moment: date | time) -> str:
    """Return a moment, a date or a time of day with all its digits and its offset, as ``parse_iso8601`` reads it."""
    return moment.isoformat()


def iso_date(moment: datetime) -> str:
    """Return the day of a moment: ``2026-01-31``."""
    return moment.isoformat()[:10]


def parse_iso8601(text: str) -> datetime:
    """Return the moment of a text in any form of ISO 8601; aware only where the text names a zone; raise ValueError."""
    return datetime.fromisoformat(text)


def parse_utc(text: str) -> datetime:
    """Return the moment of an ``xs:dateTime`` in UTC; digits beyond microseconds are cut off; raise ValueError."""
    match = _UTC_TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time in UTC")
    microseconds = int(((match[2] or ".")[1:] + "000000")[:6])
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC, microsecond=microseconds)
