from broker.runtime.health import liveness, readiness


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
