"""Proofs that count once, when many come together and when the store cannot write."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.servers import eventually

from iam.errors import ServiceFailure
from sts.store.single_use import SingleUse, refuse_issued_before

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=5)


class Counting:
    """A store that counts transactions, and fails as long as it is told to."""

    def __init__(self, store):
        self.store = store
        self.commits = 0
        self.failing = False

    @contextmanager
    def write(self, *, bump_revision=True):
        if self.failing:
            raise ServiceFailure("The store cannot answer now.")
        self.commits += 1
        with self.store.write(bump_revision=bump_revision) as tx:
            yield tx


@pytest.fixture
def store(installation):
    return Counting(installation.store)


def test_those_who_come_together_share_a_commit(store):
    # The first one writes when all are waiting.
    single_use = SingleUse(
        store, monotonic=lambda: 0.0, gather=lambda: eventually(lambda: len(single_use._waiting) == 8)
    )

    def consume(number):
        return single_use.consume("saml", f"proof {number // 2}", SOON, NOW)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(consume, range(8)))
    assert answers.count(True) == 4
    assert [sum(answers[number : number + 2]) for number in (0, 2, 4, 6)] == [1, 1, 1, 1]
    assert store.commits == 1


def test_where_nothing_can_be_written_nobody_is_believed_and_nobody_waits_for_ever(store):
    single_use = SingleUse(store, monotonic=lambda: 0.0)
    store.failing = True
    for _ in range(2):
        with pytest.raises(ServiceFailure):
            single_use.consume("saml", "proof", SOON, NOW)
    store.failing = False
    assert single_use.consume("saml", "proof", SOON, NOW)
    assert not single_use.consume("saml", "proof", SOON, NOW)


def test_a_kind_has_proofs_of_its_own(store):
    single_use = SingleUse(store, monotonic=lambda: 0.0)
    assert single_use.consume("saml", "proof", SOON, NOW)
    assert single_use.consume("saml-logout", "proof", SOON, NOW)


def test_what_was_issued_before_a_restore_counts_as_used(store):
    single_use = SingleUse(store, monotonic=lambda: 0.0)
    minute = timedelta(minutes=1)
    for time in (NOW - minute, NOW, NOW):
        with store.write() as tx:
            refuse_issued_before(tx, time)

    def consume(proof, issued):
        return single_use.consume("saml", proof, SOON, NOW, issued=issued)

    assert not consume("old", NOW - minute)
    assert not consume("of that moment", NOW)
    assert consume("new", NOW + minute)
    assert not consume("new", NOW + minute)
    assert consume("a form", None)
