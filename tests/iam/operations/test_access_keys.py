"""Access keys of users and of the account's owner."""

import re

import pytest

from iam.errors import LimitExceeded, NoSuchEntity, ValidationError
from iam.operations.credentials.access_keys import (
    create_access_key,
    delete_access_key,
    get_access_key_last_used,
    list_access_keys,
    on_key_owner,
    update_access_key,
)
from iam.operations.users import create_user
from iam.store.store import record_key_use


@pytest.fixture
def ann(account):
    return account.run(create_user, UserName="ann", Path="/eng/")["User"]


@pytest.fixture
def key(account, ann):
    return account.run(create_access_key, UserName=ann["UserName"])["AccessKey"]


def test_a_secret_is_shown_once(account, key):
    assert re.fullmatch("AKIA[A-Z2-7]{16}", key["AccessKeyId"])
    assert re.fullmatch("[A-Za-z0-9+/]{40}", key["SecretAccessKey"])
    assert (key["UserName"], key["Status"], key["CreateDate"]) == ("ann", "Active", account.now)
    secret = key.pop("SecretAccessKey")
    listed = account.run(list_access_keys, UserName="ann")
    assert listed == {"AccessKeyMetadata": [key], "IsTruncated": False}
    used = account.run(get_access_key_last_used, AccessKeyId=key["AccessKeyId"])
    assert secret not in repr((listed, used))


def test_a_third_key_is_refused_whether_the_others_are_active_or_not(account, key):
    account.run(update_access_key, UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    account.run(create_access_key, UserName="ann")
    with pytest.raises(LimitExceeded) as caught:
        account.run(create_access_key, UserName="ann")
    assert caught.value.message == "Cannot exceed quota for AccessKeysPerUser: 2"


def test_a_key_is_switched_off_and_on(account, key):
    for status, active in (("Inactive", False), ("Active", True)):
        account.run(update_access_key, UserName="ann", AccessKeyId=key["AccessKeyId"], Status=status)
        assert account.store.access_key(key["AccessKeyId"]).active is active
        assert account.run(list_access_keys, UserName="ann")["AccessKeyMetadata"][0]["Status"] == status


def test_a_key_of_somebody_else_cannot_be_found(account, key):
    account.run(create_user, UserName="bob")
    for who in ({"UserName": "bob"}, {}):  # without a name, the caller: the account's owner
        for operation in (update_access_key, delete_access_key):
            with pytest.raises(NoSuchEntity) as caught:
                account.run(operation, **who, AccessKeyId=key["AccessKeyId"], Status="Inactive")
            assert caught.value.message == f"The Access Key with id {key['AccessKeyId']} cannot be found."
    assert account.store.access_key(key["AccessKeyId"]).active


def test_without_a_name_everybody_has_their_own_keys(account, ann):
    own = account.as_user(ann).run(create_access_key)["AccessKey"]
    assert own["UserName"] == "ann"
    root = account.run(create_access_key)["AccessKey"]
    assert "UserName" not in root
    of_root = {one["AccessKeyId"] for one in account.run(list_access_keys)["AccessKeyMetadata"]}
    assert root["AccessKeyId"] in of_root
    assert own["AccessKeyId"] not in of_root
    with pytest.raises(ValidationError):
        account.as_role_session().run(create_access_key)


def test_a_deleted_key_is_gone(account, key):
    account.run(delete_access_key, UserName="ann", AccessKeyId=key["AccessKeyId"])
    assert account.run(list_access_keys, UserName="ann")["AccessKeyMetadata"] == []
    with pytest.raises(NoSuchEntity):
        account.run(get_access_key_last_used, AccessKeyId=key["AccessKeyId"])


def test_the_last_use_of_a_key_is_told(account, key):
    answer = account.run(get_access_key_last_used, AccessKeyId=key["AccessKeyId"])
    assert answer == {"UserName": "ann", "AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}
    at = int(account.now.timestamp() * 1000) + 999
    with account.store.write(bump_revision=False) as tx:
        record_key_use(tx, key["AccessKeyId"], at, "sts", "eu-west-1")
    used = account.run(get_access_key_last_used, AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
    assert used == {"ServiceName": "sts", "Region": "eu-west-1", "LastUsedDate": account.now}


def test_whose_key_it_is_decides_what_is_asked_about(account, ann, key):
    assert account.ask(on_key_owner, AccessKeyId=key["AccessKeyId"]).resource == ann["Arn"]
    assert account.ask(on_key_owner, AccessKeyId="AKIAAAAAAAAAAAAAAAAA").resource == "*"
