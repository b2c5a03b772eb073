"""I09: a clock that was set, or that differs from SQL's or Redis's, makes the process unready."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from broker.runtime.clock_health import ClockCheck, ClockDiffers, ClockJumped

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Machine:
    """A clock and the seconds since the start, which somebody can let pass or set apart."""

    def __init__(self):
        self.passed, self.set_by = 0.0, timedelta(0)

    def now(self):
        return START + timedelta(seconds=self.passed) + self.set_by

    def check(self, **others):
        return ClockCheck(
            now=self.now, monotonic=lambda: self.passed, others=others, started=START, started_monotonic=0.0
        )


def test_a_clock_that_runs_on_is_right():
    machine = Machine()
    check = machine.check(SQL=lambda: None, Redis=machine.now)
    for machine.passed in (0.0, 59.0, 86_400.0 * 365):
        check()


@pytest.mark.parametrize("hours", [-1, 1, 24 * 3650])
def test_a_clock_that_was_set_fails_until_it_is_right_again(hours):
    machine = Machine()
    check = machine.check()
    machine.set_by = timedelta(hours=hours)
    with pytest.raises(ClockJumped, match=re.escape(f"by {hours * 3600:+d} s")):
        check()
    machine.passed = 7200.0
    with pytest.raises(ClockJumped):
        check()
    machine.set_by = timedelta(seconds=30)  # as far as machines may differ
    check()


@pytest.mark.parametrize(("name", "seconds"), [("SQL", 61), ("Redis", -61), ("SQL", 86_400)])
def test_another_clock_that_differs_fails_and_is_named(name, seconds):
    machine = Machine()
    check = machine.check(**{name: lambda: machine.now() + timedelta(seconds=seconds)})
    with pytest.raises(ClockDiffers, match=re.escape(f"{name} differs from this machine's by {seconds:+d} s")):
        check()


def test_the_skew_that_sessions_are_allowed_is_no_difference():
    machine = Machine()
    machine.check(SQL=lambda: machine.now() + timedelta(seconds=59), Redis=machine.now)()


def test_a_server_that_does_not_answer_is_left_to_its_own_check():
    def away():
        raise OSError("connection refused")

    Machine().check(SQL=away)()
