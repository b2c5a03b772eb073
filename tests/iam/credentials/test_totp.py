import secrets
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.credentials import totp

RFC_SEED = b"12345678901234567890"
# RFC 6238, appendix B, the rows of SHA-1: seconds since 1970 and the code of eight digits.
RFC_6238 = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
# RFC 4226, appendix D: the counter and the code of six digits.
RFC_4226 = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]

seeds = st.binary(min_size=16, max_size=40)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - aware by timezones=


def other(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.mark.parametrize(("seconds", "code"), RFC_6238)
def test_the_codes_of_rfc_6238_come_out(seconds, code):
    step = totp.step_at(datetime.fromtimestamp(seconds, UTC))
    assert totp.code_at(RFC_SEED, step, digits=8) == code


@pytest.mark.parametrize(("counter", "code"), list(enumerate(RFC_4226)))
def test_the_codes_of_rfc_4226_come_out(counter, code):
    assert totp.code_at(RFC_SEED, counter) == code


@given(seeds, moments, st.integers(-1, 1))
def test_the_code_of_this_step_and_of_its_neighbors_is_accepted(seed, now, offset):
    step = totp.step_at(now) + offset
    # Two neighboring steps may by chance have one code; then the older is taken, so that the newer stays good.
    found = totp.accepted_step(seed, totp.code_at(seed, step), now, None)
    assert found is not None
    assert totp.code_at(seed, found) == totp.code_at(seed, step)


@given(seeds, moments, st.integers(-1, 1))
def test_no_step_is_accepted_twice(seed, now, offset):
    code = totp.code_at(seed, totp.step_at(now) + offset)
    first = totp.accepted_step(seed, code, now, None)
    second = totp.accepted_step(seed, code, now, first)
    assert second is None or (second > first and totp.code_at(seed, second) == code)


@given(seeds, moments, st.integers(-1, 1))
def test_after_a_step_no_older_one_is_accepted(seed, now, offset):
    code = totp.code_at(seed, totp.step_at(now) + offset)
    assert totp.accepted_step(seed, code, now, totp.step_at(now) + 1) is None


@given(moments, st.one_of(st.integers(2, 40), st.integers(-40, -2)))
def test_a_code_further_off_is_refused(now, offset):
    seed = RFC_SEED
    near = {totp.code_at(seed, totp.step_at(now) + close) for close in (-1, 0, 1)}
    code = totp.code_at(seed, totp.step_at(now) + offset)
    assert (totp.accepted_step(seed, code, now, None) is not None) == (code in near)


@given(seeds, moments, st.integers(-20, 20))
def test_a_known_drift_moves_the_window(seed, now, drift):
    step = totp.step_at(now) + drift
    assert totp.accepted_step(seed, totp.code_at(seed, step), now, step - 1, drift) == step


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "¹²³⁴⁵⁶", "١٢٣٤٥٦"])
def test_what_is_no_code_of_six_digits_is_refused(code):
    assert totp.accepted_step(RFC_SEED, code, datetime.fromtimestamp(59, UTC), None) is None


@given(seeds, moments, st.integers(-2, 0))
def test_two_codes_in_a_row_are_accepted_and_the_second_step_comes_back(seed, now, first):
    step = totp.step_at(now) + first
    codes = (totp.code_at(seed, step), totp.code_at(seed, step + 1))
    assert totp.accepted_pair(seed, codes, now, step - 1) == step + 1


def test_the_same_code_twice_swapped_codes_and_codes_with_a_gap_are_no_pair():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    one, two, three = (totp.code_at(RFC_SEED, totp.step_at(now) + offset) for offset in (-1, 0, 1))
    assert len({one, two, three}) == 3
    for codes in [(one, one), (two, one), (one, three), (two, two), (other(one), two), (one, other(two))]:
        assert totp.accepted_pair(RFC_SEED, codes, now, None) is None, codes


def test_a_window_of_twenty_steps_finds_a_clock_that_is_ten_minutes_off_and_no_more():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    seed = secrets.token_bytes(20)
    for minutes, found in [(10, True), (-10, True), (12, False), (-12, False)]:
        step = totp.step_at(now + timedelta(minutes=minutes))
        codes = (totp.code_at(seed, step - 1), totp.code_at(seed, step))
        assert (totp.accepted_pair(seed, codes, now, None, window=20) == step) == found, minutes
