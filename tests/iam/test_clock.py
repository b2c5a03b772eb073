from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from iam import clock

MOMENT = datetime(2026, 1, 31, 12, 0, 59, 987654, UTC)
WHOLE = MOMENT.replace(microsecond=0)


def test_milliseconds_are_rounded_down_and_come_back_as_whole_seconds():
    stored = clock.to_milliseconds(MOMENT)
    assert stored == 1769860859987
    assert clock.from_milliseconds(stored) == WHOLE
    assert clock.from_milliseconds(stored).tzinfo is UTC


def test_seconds():
    assert clock.to_seconds(MOMENT) == 1769860859
    assert clock.from_seconds(1769860859) == WHOLE
    assert clock.from_seconds(clock.to_fractional_seconds(MOMENT)) == MOMENT


def test_lengths_of_time():
    assert clock.duration_milliseconds(timedelta(days=1, milliseconds=5)) == clock.DAY + 5


def test_formats():
    assert clock.iso8601(MOMENT) == "2026-01-31T12:00:59Z"
    assert clock.iso8601(MOMENT.astimezone(timezone(timedelta(hours=5)))) == "2026-01-31T12:00:59Z"
    assert clock.iso8601_basic(MOMENT) == "20260131T120059Z"
    assert clock.iso_date(MOMENT) == "2026-01-31"
    assert clock.iso8601_exact(MOMENT) == "2026-01-31T12:00:59.987654+00:00"
    assert clock.iso8601_exact(date(2026, 1, 31)) == "2026-01-31"
    assert clock.iso8601_exact(time(12, 30)) == "12:30:00"


def test_what_is_written_exactly_is_read_back():
    assert clock.parse_iso8601(clock.iso8601_exact(MOMENT)) == MOMENT
    assert clock.parse_iso8601(clock.iso8601_basic(MOMENT)) == WHOLE


def test_utc_timestamps():
    assert clock.parse_utc("2026-01-31T12:00:59Z") == WHOLE
    assert clock.parse_utc("2026-01-31T12:00:59.9876549Z") == MOMENT


@pytest.mark.parametrize(
    "text", ["", "2026-01-31", "2026-01-31T12:00:59", "2026-01-31T12:00:59+00:00", "2026-02-30T00:00:00Z"]
)
def test_other_texts_are_no_utc_timestamps(text):
    with pytest.raises(ValueError, match=r"."):
        clock.parse_utc(text)
