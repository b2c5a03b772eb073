import pytest

from broker.runtime.health import RememberedCheck, liveness, readiness


def fails():
    raise ConnectionError("redis://:secret@10.0.0.1 refused")


def test_whoever_answers_is_alive():
    assert liveness() == (200, {"status": "ok"})


def test_ready_means_that_every_check_returns():
    assert readiness({"sql": lambda: None, "redis": lambda: None}) == (
        200,
        {"status": "ready", "checks": {"sql": "ok", "redis": "ok"}},
    )


def test_one_failing_check_makes_it_unready_with_a_reason_and_without_details():
    status, body = readiness({"sql": lambda: None, "redis": fails})
    assert status == 503
    assert body == {"status": "not ready", "checks": {"sql": "ok", "redis": "failed: ConnectionError"}}


def test_the_outcome_of_a_remembered_check_counts_for_ten_seconds_whoever_asks():
    asked, at, outcomes = [], [100.0], [None, ConnectionError("away"), None]

    def check():
        asked.append(at[0])
        if (outcome := outcomes[len(asked) - 1]) is not None:
            raise outcome

    remembered = RememberedCheck(check, monotonic=lambda: at[0])
    for _ in range(1000):
        remembered()
    assert len(asked) == 1
    at[0] += 10
    for _ in range(1000):
        with pytest.raises(ConnectionError):
            remembered()
    assert len(asked) == 2
    at[0] += 10
    remembered()
    assert len(asked) == 3


def test_while_a_remembered_check_is_repeated_others_get_the_last_outcome():
    at, inside = [0.0], []
    remembered = RememberedCheck(lambda: inside and inside.pop()(), monotonic=lambda: at[0])
    remembered()
    at[0] += 10
    nested = []
    inside.append(lambda: nested.append(remembered()))
    remembered()
    assert nested == [None]
