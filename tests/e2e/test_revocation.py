"""Ended means ended: revoked sessions and removed keys, on every worker, after a flush of Redis and after a restart."""

import json
import time

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from redis import Redis
from support.broker_process import ACCOUNT, allow, role_arn
from support.servers import eventually, redis_server

from sts.store.sealing_keys import PROPAGATION_MS

REVOKED = {"InvalidClientTokenId"}
FINE = {""}
# A revocation that the command line commits reaches every worker within a second.
WITHIN = 1.0


@pytest.fixture(scope="module")
def own_redis():
    with redis_server("--appendonly", "yes") as url:
        yield url


def test_one_session_is_revoked_and_the_others_live_on(served):
    first, second = (served.credentials("bob", "Reader") for _ in range(2))
    session = served.session(first)
    assert session["arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob"
    assert served.codes(first) == FINE
    assert served.fedgate("sessions", "revoke", session["id"])["ended"] == [session["id"]]
    time.sleep(WITHIN)
    assert served.codes(first) == REVOKED
    assert served.codes(second) == FINE
    listed = {one["access_key_id"] for one in served.fedgate("sessions", "list")}
    assert (first.access_key in listed, second.access_key in listed) == (False, True)


def test_a_person_is_revoked_in_every_role_and_may_come_again(served):
    mine = [served.credentials("carol", "Reader"), served.credentials("carol", "Reader", Policy=allow("iam:*"))]
    other = served.credentials("erin", "Reader")
    chained = served.client("sts", mine[0]).assume_role(RoleArn=role_arn("Chained"), RoleSessionName="carol")
    served.session(mine[0])
    assert served.fedgate("sessions", "revoke", "--person", "carol")["revoked"][0]["kind"] == "person"
    time.sleep(WITHIN)
    for credentials in mine:
        assert served.codes(credentials) == REVOKED
    assert served.codes(_keys(chained)) == REVOKED
    assert served.codes(other) == FINE
    assert served.codes(served.credentials("carol", "Reader")) == FINE


def test_a_role_is_revoked_for_everybody_and_may_be_taken_again(served):
    name = f"Revoked{time.monotonic_ns()}"
    old = served.role_for("bob", name, allow("iam:ListUsers"))
    other = served.credentials("bob", "Reader")
    served.fedgate("sessions", "revoke", "--role", role_arn(name))
    time.sleep(WITHIN)
    assert served.codes(old) == REVOKED
    assert served.codes(other) == FINE
    assert served.codes(served.credentials("erin", name)) == FINE


def test_a_revoked_session_stays_revoked_after_a_flush_and_after_a_restart(new_broker, own_redis):
    broker = new_broker(redis_url=own_redis)
    revoked, kept, later = (broker.credentials(user, "Reader") for user in ("bob", "erin", "carol"))
    broker.session(revoked)
    broker.fedgate("sessions", "revoke", "--person", "bob")
    time.sleep(WITHIN)
    assert broker.codes(revoked) == REVOKED
    with Redis.from_url(own_redis) as client:
        client.flushall()
    assert broker.codes(revoked) == REVOKED
    assert broker.codes(kept) == FINE
    assert broker.codes(later) == FINE
    assert broker.stop() == 0
    # The list is gone with Redis' data; who the person is stands in the audit log.
    carol = next(person for person in _people(broker) if person["userName"] == "carol")
    broker.fedgate("sessions", "revoke", "--person", carol["sessionContext"]["person"])
    broker.start()
    assert broker.codes(revoked) == REVOKED
    assert broker.codes(later) == REVOKED
    assert broker.codes(kept) == FINE


def test_a_sealing_key_rotates_without_loss_and_its_removal_ends_its_sessions(new_broker, own_redis):
    broker = new_broker(redis_url=own_redis)
    old = broker.credentials("bob", "Reader")
    before = broker.fedgate("keys", "list")
    made = broker.fedgate("keys", "rotate")["id"]
    time.sleep(PROPAGATION_MS / 1000 + WITHIN)
    new = broker.credentials("bob", "Reader")
    assert broker.codes(old) == FINE
    assert [(one["id"], one["seals"]) for one in broker.fedgate("keys", "list")] == [
        (made, True),
        (before[0]["id"], False),
    ]
    broker.fedgate("keys", "remove", before[0]["id"])
    time.sleep(WITHIN)
    assert broker.codes(old) == REVOKED
    assert broker.codes(new) == FINE
    refused = broker.run("keys", "remove", made)
    assert refused.returncode == 1
    assert "only sealing key" in refused.stderr


def test_the_session_of_a_deleted_role_is_refused_though_the_name_is_taken_again(served):
    name = f"Deleted{time.monotonic_ns()}"
    iam = served.client("iam")
    old = served.role_for("bob", name)
    iam.delete_role(RoleName=name)
    new = served.role_for("erin", name)
    time.sleep(WITHIN)
    assert served.codes(old) == REVOKED
    assert served.codes(new) == FINE


def test_a_deny_that_comes_later_counts_at_once_for_living_sessions(served):
    name = f"Later{time.monotonic_ns()}"
    credentials = served.role_for("bob", name, allow("iam:ListUsers"))
    theirs = served.client("iam", credentials)
    theirs.list_users()
    denied = allow("iam:ListUsers").replace("Allow", "Deny")
    served.client("iam").put_role_policy(RoleName=name, PolicyName="no", PolicyDocument=denied)
    eventually(lambda: _denied(theirs.list_users))


def _denied(call) -> bool:
    try:
        call()
    except ClientError as error:
        return "with an explicit deny" in error.response["Error"]["Message"]
    return False


def _keys(answer) -> Credentials:
    made = answer["Credentials"]
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def _people(broker) -> list[dict]:
    """Return who got credentials by a password, as the audit log has it."""
    tail = broker.run("audit", "tail", "-n", "1000").stdout.splitlines()
    records = [json.loads(line) for line in tail]
    return [one["userIdentity"] for one in records if one["eventName"] == "AssumeRoleWithLDAPIdentity"]
