"""Filling the audit log, and changes whose worker is killed before it has appended their record."""

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import Broker, document, error_code, post
from support.servers import eventually


def test_strangers_do_not_fill_the_audit_log(new_broker: Callable[..., Broker]):
    broker = new_broker(more="[audit]\nstrangers_per_minute = 5")
    noise = {"Action": "GetCallerIdentity", "Version": "2011-06-15", "Policy": "x" * 20_000}
    before = size(broker)
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(lambda _: post(broker.endpoint, noise), range(200))} == {403}
    assert size(broker) - before < 100_000
    assert broker.stop() == 0
    written = records(broker)
    assert sum(one["eventName"] == "GetCallerIdentity" for one in written) <= 20  # five a minute, two workers
    assert sum(one["additionalEventData"]["count"] for one in written if one["eventName"] == "RefusedRequests") >= 180


def test_whoever_has_one_key_fills_it_no_faster_by_long_requests(served: Broker):
    served.client("iam").create_user(UserName="holder")
    key = served.client("iam").create_access_key(UserName="holder")["AccessKey"]
    iam = served.client("iam", Credentials(key["AccessKeyId"], key["SecretAccessKey"]))
    long = "\u00e9" * 60_000
    answers = [
        error_code(iam.create_saml_provider, Name="Corp", SAMLMetadataDocument="x" * 3_000_000),
        error_code(iam.simulate_custom_policy, PolicyInputList=["x" * 100_000] * 3, ActionNames=["s3:GetObject"]),
        error_code(iam.create_policy, PolicyName="long", PolicyDocument=long),
        error_code(iam.create_role, RoleName="long", AssumeRolePolicyDocument=document(), Description=long),
        error_code(
            iam.tag_user, UserName="holder", Tags=[{"Key": f"k{n}", "Value": "\u00e9" * 256} for n in range(50)]
        ),
    ]
    assert answers == ["AccessDenied"] * 3 + ["ValidationError", "AccessDenied"]
    mine = [line for line in lines(served) if json.loads(line)["userIdentity"].get("userName") == "holder"]
    assert len(mine) == len(answers)  # of known principals every refusal is kept
    assert max(map(len, mine)) <= 4096


def test_an_error_repeats_little_of_what_was_sent(served: Broker):
    digits = {"Effect": "Allow", "Action": "*", "Resource": "*",
              "Condition": {"NumericEquals": {"aws:epochtime": "9" * 4500 + "x"}}}  # fmt: skip
    with pytest.raises(ClientError) as refused:
        served.client("iam").create_policy(PolicyName="digits", PolicyDocument=document(digits))
    assert "is not a valid number" in refused.value.response["Error"]["Message"]
    assert len(refused.value.response["Error"]["Message"]) < 1000


def test_what_a_killed_worker_did_not_append_is_appended_at_the_next_start(new_broker: Callable[..., Broker]):
    broker = new_broker()
    broker.client("iam").create_user(UserName="unrecorded")
    broker.close()  # SIGKILL for the workers that do not end
    lost = next(one for one in records(broker) if one["eventName"] == "CreateUser")
    lost = {name: value for name, value in lost.items() if name not in ("seq", "prev")}
    lost |= {"eventID": "11111111-2222-3333-4444-555555555555", "at": lost["at"] - 60_000}
    with closing(sqlite3.connect(broker.data / "fedgate.db")) as database, database:
        row = (lost["eventID"], lost["at"], "", json.dumps(lost))
        database.execute("INSERT INTO audit_record (event_id, at, account_id, record) VALUES (?, ?, ?, ?)", row)
    broker.start()
    eventually(lambda: lost["eventID"] in [one["eventID"] for one in records(broker)])
    chains = broker.fedgate("audit", "verify")
    assert [one["fault"] for one in chains if one["fault"]] == []


def size(broker: Broker) -> int:
    return sum(file.stat().st_size for file in broker.data.glob("audit/*.jsonl"))


def lines(broker: Broker) -> list[str]:
    return [line for file in sorted(broker.data.glob("audit/*.jsonl")) for line in file.read_text().splitlines()]


def records(broker: Broker) -> list[dict]:
    return [json.loads(line) for line in lines(broker)]
