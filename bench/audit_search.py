"""How long a search of the audit log takes, and for how long at a time it keeps a worker from everybody else.

`python bench/audit_search.py --help` for the knobs; the log is made once, in a folder that is given or for this run.
"""

import argparse
import json
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

from broker.audit.query import AuditAccess, AuditFilter
from broker.audit.search import AuditSearch

BEGIN = 1_760_000_000_000
APART = 100  # milliseconds
ACCOUNTS = [str(111122223333 + number) for number in range(5)]
EVERYTHING, ONE = AuditAccess(frozenset(), all_accounts=True), AuditAccess(frozenset(ACCOUNTS[:1]))
TWO, STRANGERS = AuditAccess(frozenset(ACCOUNTS[:2])), AuditAccess(frozenset({"999999999998", "999999999999"}))
SEARCHES = {
    "the newest 200": (AuditFilter(), EVERYTHING),
    "a reference that nobody has": (AuditFilter(reference="ffffffff"), EVERYTHING),
    "one person": (AuditFilter(who="USER4999"), EVERYTHING),
    "errors of one account": (AuditFilter(error="*"), ONE),
    "from a network": (AuditFilter(source=ip_network("10.1.0.0/16")), EVERYTHING),
    "an hour in the middle": (AuditFilter(after=BEGIN + 3_600_000, until=BEGIN + 7_200_000), EVERYTHING),
    "nothing, by one who sees two accounts": (AuditFilter(role="no-such-role"), TWO),
    "nothing, every record parsed": (AuditFilter(), STRANGERS),
}


def records(count: int) -> Iterator[dict[str, object]]:
    chance = random.Random(1)
    for number in range(count):
        account = chance.choice(ACCOUNTS)
        user = f"user{chance.randrange(5000)}"
        issuer = {"type": "Role", "arn": f"arn:aws:iam::{account}:role/Dev", "accountId": account, "userName": "Dev"}
        yield {
            "seq": number,
            "prev": "0" * 64,
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "AssumedRole",
                "principalId": f"AROAXXXXXXXXXXXXXXXXX:{user}",
                "arn": f"arn:aws:sts::{account}:assumed-role/Dev/{user}",
                "accountId": account,
                "sessionContext": {"person": f"ldap-provider/corp|{some_id(chance)}", "sessionIssuer": issuer},
            },
            "at": BEGIN + number * APART,
            "eventSource": "iam.amazonaws.com",
            "eventName": chance.choice(["GetUser", "ListUsers", "CreateUser", "AssumeRole"]),
            "sourceIPAddress": f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
            "userAgent": "Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11",
            "requestParameters": {"userName": "somebody", "path": "/"},
            "requestID": some_id(chance),
            "eventID": some_id(chance),
            "recipientAccountId": account,
            **({"errorCode": "AccessDenied", "errorMessage": "x" * 200} if chance.random() < 0.05 else {}),
        }


def some_id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128)))


def written(folder: Path, count: int) -> None:
    """Write a log as four workers would."""
    chance = random.Random(2)
    files = [(folder / f"{number:03}.jsonl").open("w") for number in range(1, 5)]
    for record in records(count):
        chance.choice(files).write(json.dumps(record, separators=(",", ":")) + "\n")
    for file in files:
        file.close()


def measure(folder: Path, wanted: AuditFilter, view: AuditAccess) -> tuple[float, float, int]:
    """Return seconds for all, seconds between two pauses at most, and how many were found."""
    moments = [time.perf_counter()]
    found = AuditSearch(folder=folder, pause=lambda: moments.append(time.perf_counter())).find(wanted, view, most=200)
    moments.append(time.perf_counter())
    steps = [later - earlier for earlier, later in pairwise(moments)]
    return moments[-1] - moments[0], max(steps), len(found.records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where the log is, or shall be")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if not list(folder.glob("*.jsonl")):
            written(folder, given.records)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{given.records} records, {size / 1e6:.0f} MB")
        for name, (wanted, view) in SEARCHES.items():
            whole, step, count = min(measure(folder, wanted, view) for _ in range(3))
            print(f"{name:40} {whole * 1000:7.0f} ms, at most {step * 1000:5.1f} ms at a time, {count} found")


if __name__ == "__main__":
    main()
