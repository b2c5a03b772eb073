"""Guessing passwords faster than failures are counted."""

import itertools
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from support.broker_process import PASSWORDS, Broker, sign_in
from support.servers import eventually

from broker.providers.ldap.bind_errors import WRONG_PASSWORD
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


def test_a_burst_under_all_names_of_one_person_gets_no_more_judged_than_under_one(new_broker):
    names = ("uid", "mail", "cn")
    any_of = "".join(f"({name}={{username}})" for name in names)
    broker = new_broker(directory_settings={"user_filter": f"(&(objectClass=person)(|{any_of}))"})
    aliases = ["alice", "alice@corp.example", "Alice Ahmadi"]

    burst(broker, [name for name in aliases for _ in range(PER_NAME)])
    told = [sign_in(broker.endpoint, name, password="guess") for name in ("alice@corp.example", "mallory")]

    assert 0 < reasons(broker).count(WRONG_PASSWORD) <= PER_NAME
    assert {answer.code for answer in told} <= {"IDPRejectedClaim", "Throttling"}
    for name in aliases:  # with the right password, from the same address: nobody is told which names are one person's
        assert sign_in(broker.endpoint, name, password=PASSWORDS["alice"]).code in ("IDPRejectedClaim", "Throttling")
    assert broker.sign_in("bob").code != "Throttling"


def burst(broker: Broker, names: Iterable[str]) -> None:
    """Send a wrong password for each name, all at once: to both workers, before any failure is counted."""
    with ThreadPoolExecutor(75) as pool:
        for number, name in enumerate(names):
            pool.submit(sign_in, broker.endpoint, name, password=f"guess-{number}")


def judged(broker: Broker) -> int:
    """Return for how many guesses the directory was asked."""
    records = [line for file in broker.data.glob("audit/*.jsonl") for line in file.read_text().splitlines()]
    return sum('"DirectorySignIn"' in line and '"IDPRejectedClaim"' in line for line in records)


def reasons(broker: Broker) -> list[str]:
    """Return why the directory refused each of the guesses."""
    lines = [line for file in broker.data.glob("audit/*.jsonl") for line in file.read_text().splitlines()]
    records = [json.loads(line) for line in lines if '"DirectorySignIn"' in line and '"IDPRejectedClaim"' in line]
    return [record["additionalEventData"]["reason"] for record in records]
