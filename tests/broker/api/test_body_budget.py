"""Which bodies are read, and how many of them at the same time."""

import contextlib

import pytest

from broker.api.body_budget import FREE_BODY, MAX_BODY, MAX_UNSIGNED_BODY, BodyBudget
from broker.api.http import HttpRequest
from iam.errors import RequestTooLarge, ServiceUnavailable

REQUEST = HttpRequest("POST", "/", "", (), b"", "192.0.2.1")


def budget(size: int = 20_000_000, *, known: bool = False) -> BodyBudget:
    return BodyBudget.of(size, lambda _request: known)


@pytest.mark.parametrize(
    ("known", "declared", "most"),
    [(False, 10, MAX_UNSIGNED_BODY), (False, MAX_UNSIGNED_BODY, MAX_UNSIGNED_BODY), (False, None, MAX_UNSIGNED_BODY),
     (True, MAX_BODY, MAX_BODY), (True, None, MAX_BODY)],
)  # fmt: skip
def test_only_who_names_an_access_key_sends_a_large_body(known, declared, most):
    with budget(known=known).admit(REQUEST, declared) as given:
        assert given == most


@pytest.mark.parametrize(("known", "declared"), [(False, MAX_UNSIGNED_BODY + 1), (True, MAX_BODY + 1)])
def test_a_body_that_is_too_large_takes_nothing_of_the_budget(known, declared):
    limited = budget(known=known)
    with pytest.raises(RequestTooLarge), limited.admit(REQUEST, declared):
        pass
    fill(limited, declared - 1)


def test_what_does_not_fit_is_refused_and_fits_once_the_others_are_gone():
    limited = budget()
    with contextlib.ExitStack() as others:
        count = 10_000_000 // MAX_UNSIGNED_BODY
        for _ in range(count):
            others.enter_context(limited.admit(REQUEST, MAX_UNSIGNED_BODY))
        with pytest.raises(ServiceUnavailable), limited.admit(REQUEST, MAX_UNSIGNED_BODY):
            pass
        fill(limited, FREE_BODY)  # whoever signs in with a password is not kept out
    fill(limited, MAX_UNSIGNED_BODY)


def test_strangers_who_fill_their_half_leave_that_of_signers_free():
    is_known: list[bool] = [False]
    limited = BodyBudget.of(20_000_000, lambda _request: is_known[0])
    with contextlib.ExitStack() as strangers:
        for _ in range(10_000_000 // MAX_UNSIGNED_BODY):
            strangers.enter_context(limited.admit(REQUEST, None))
        is_known[0] = True
        fill(limited, MAX_BODY)
        fill(limited, MAX_UNSIGNED_BODY)


def test_a_fault_gives_the_bytes_back():
    limited = budget(known=True)
    for _ in range(3):
        with pytest.raises(RuntimeError), limited.admit(REQUEST, MAX_BODY):
            raise RuntimeError
    fill(limited, MAX_BODY)


def fill(limited: BodyBudget, size: int) -> None:
    with limited.admit(REQUEST, size):
        pass
