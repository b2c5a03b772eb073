"""A caller who loses permission while a write waits its turn tries to have the write done all the same (J08)."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from botocore.credentials import Credentials
from sqlalchemy import delete, insert, update
from support.broker_process import ACCOUNT, allow, error_code, fetch

from broker.config.settings import Settings
from broker.wiring import open_store
from iam.store.revocation import revoke
from iam.store.schema import access_key, inline_policy

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"},
    }
)
DENY = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}})


def deny_everything(tx, user_id, _key_id):
    tx.execute(insert(inline_policy).values(entity_id=user_id, name="deny", document=DENY))


def deactivate_the_key(tx, _user_id, key_id):
    tx.execute(update(access_key).where(access_key.c.id == key_id).values(active=False))


def take_the_policy_away(tx, user_id, _key_id):
    tx.execute(delete(inline_policy).where(inline_policy.c.entity_id == user_id))


def revoke_the_session(tx, user_id, _key_id):
    revoke(tx, "person", f"iam|{user_id}", now_ms=int(time.time() * 1000), random=os.urandom)


LOSSES = {
    "denied": (deny_everything, "AccessDenied"),
    "deactivated": (deactivate_the_key, "InvalidClientTokenId"),
    "bare": (take_the_policy_away, "AccessDenied"),
    "revoked": (revoke_the_session, "InvalidClientTokenId"),
}


@pytest.fixture
def store(attacked):
    with closing(open_store(Settings.read(attacked.config, {}))) as store:
        yield store


def as_role(broker, user, name):
    """Return a client for a session of a new role that a user takes."""
    iam = broker.client("iam")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=allow("iam:*"))
    given = broker.client("sts", user).assume_role(RoleArn=role["Arn"], RoleSessionName=name)["Credentials"]
    return broker.client("iam", Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]))


def administrator(broker, name):
    """Make a user who may create keys for anybody; return a client for one of theirs, and its ids.

    Whose sessions are revoked asks with a session.
    """
    iam = broker.client("iam")
    user_id = iam.create_user(UserName=name)["User"]["UserId"]
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=allow("iam:*", "sts:AssumeRole"))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    own = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
    theirs = as_role(broker, own, name) if name == "revoked" else broker.client("iam", own)
    theirs.list_users()  # every record that the decision needs is cached now
    return theirs, user_id, key["AccessKeyId"]


def test_a_waiting_create_access_key_is_refused_once_its_caller_may_no_more(attacked, store):
    root = attacked.client("iam")
    root.create_user(UserName="target")
    with ThreadPoolExecutor(2) as pool:
        for name, (lose, code) in LOSSES.items():
            client, user_id, key_id = administrator(attacked, name)
            with store.write() as tx:  # the writer's turn is ours: whoever writes waits
                calls = [pool.submit(error_code, client.create_access_key, UserName="target") for _ in range(2)]
                for _ in range(20):  # by then the workers have taken the calls, which were sent before
                    fetch(f"{attacked.endpoint}/healthz")
                lose(tx, user_id, key_id)
            assert {call.result() for call in calls} == {code}, name
    assert root.list_access_keys(UserName="target")["AccessKeyMetadata"] == []
