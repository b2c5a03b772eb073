"""Guessing passwords faster than failures are counted."""

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from support.broker_process import Broker, sign_in
from support.servers import eventually

from broker.signin.throttle import PER_NAME, PER_SOURCE


def test_a_burst_of_guesses_from_one_address_gets_no_more_judged_than_the_limit(attacked):
    burst(attacked, ["alice"] * 40)
    assert 0 < judged(attacked) <= PER_NAME

    burst(attacked, (f"nobody-{number}" for number in range(150)))
    assert judged(attacked) <= PER_SOURCE

    more = itertools.count()
    eventually(lambda: sign_in(attacked.endpoint, f"more-{next(more)}", password="guess").code == "Throttling")
    assert judged(attacked) == PER_SOURCE
    locked_out = attacked.sign_in("erin")  # with the right password, from the same address
    assert (locked_out.status, locked_out.code) == (429, "Throttling")


def burst(broker: Broker, names: Iterable[str]) -> None:
    """Send a wrong password for each name, all at once: to both workers, before any failure is counted."""
    with ThreadPoolExecutor(75) as pool:
        for number, name in enumerate(names):
            pool.submit(sign_in, broker.endpoint, name, password=f"guess-{number}")


def judged(broker: Broker) -> int:
    """Return for how many guesses the directory was asked."""
    records = [line for file in broker.data.glob("audit/*.jsonl") for line in file.read_text().splitlines()]
    return sum('"DirectorySignIn"' in line and '"IDPRejectedClaim"' in line for line in records)
