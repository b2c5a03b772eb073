import json
from dataclasses import replace

import pytest
from sqlalchemy import event, text
from support.documents import allow, trust

from iam import resource_policies
from iam.errors import LimitExceeded, MalformedPolicyDocument, NoSuchEntity, ServiceFailure, ValidationError
from iam.limits import Limits
from iam.operations.users import create_user, delete_user, update_user
from iam.policy.statement import PolicyKind
from iam.resource_policies import ResourcePolicy
from iam.store import schema
from iam.store.records import EVERY_BUCKET

OBJECTS = "arn:aws:s3:::photos/*"
PUBLIC = allow(resource=OBJECTS, Principal="*")
MINE = ResourcePolicy("store", "photos", PUBLIC, 1)


WITHOUT_RESOURCE = trust("*", "s3:GetObject")


def nobody(resource):
    return allow(resource=resource, Principal={"AWS": "arn:aws:iam::123456789012:user/nobody"})


def put(account, new=MINE, **limits):
    with account.store.write() as tx:
        return resource_policies.put(tx, new, Limits(**limits))


def listed(account):
    with account.store.read() as tx:
        return resource_policies.list_policies(tx, "store")


def labels(policies):
    return policies and [policy.label for policy in policies]


def test_a_policy_is_set_replaced_shown_and_removed(any_account):
    put(any_account)
    put(any_account, replace(MINE, bucket="", created=2))
    put(any_account, replace(MINE, resource="other", created=3))
    wide = replace(MINE, document=allow("s3:*", OBJECTS, Principal="*"), created=4)
    assert put(any_account, wide).kind is PolicyKind.RESOURCE
    assert listed(any_account) == (("", 2), ("photos", 4))
    with any_account.store.read() as tx:
        assert resource_policies.get(tx, "store", "") == replace(MINE, bucket="", created=2)
        assert resource_policies.get(tx, "store", "photos") == wide
    with any_account.store.write() as tx:
        resource_policies.remove(tx, "store", "photos")
    assert listed(any_account) == (("", 2),)


@pytest.mark.parametrize(("bucket", "told"), [("", "store has no policy"), ("b-1", "The bucket b-1 of store has no")])
@pytest.mark.parametrize("act", [resource_policies.get, resource_policies.remove])
def test_what_has_no_policy_is_named(account, act, bucket, told):
    with pytest.raises(NoSuchEntity, match=told), account.store.write() as tx:
        act(tx, "store", bucket)


@pytest.mark.parametrize(
    "resource", ["arn:aws:s3:::photos", OBJECTS, "arn:aws:s3:::photos*", "arn:aws:s3:::photos/${aws:username}/?"]
)
def test_a_bucket_policy_is_about_the_bucket_and_what_is_in_it(account, resource):
    put(account, replace(MINE, document=allow(resource=resource, Principal="*")))
    put(account, replace(MINE, bucket="", document=WITHOUT_RESOURCE))


@pytest.mark.parametrize(
    ("changes", "limits", "error"),
    [
        ({"bucket": "a"}, {}, ValidationError),
        ({"bucket": "a/b"}, {}, ValidationError),
        ({"document": "{"}, {}, MalformedPolicyDocument),
        ({"document": allow()}, {}, MalformedPolicyDocument),  # names no principal
        ({"document": nobody(OBJECTS)}, {}, MalformedPolicyDocument),
        ({"document": allow(Principal="*")}, {}, MalformedPolicyDocument),  # every resource
        ({"document": allow(resource=[OBJECTS, "arn:aws:s3:::other/*"], Principal="*")}, {}, MalformedPolicyDocument),
        ({"document": allow(resource="arn:aws:s3:::photos2/*", Principal="*")}, {}, MalformedPolicyDocument),
        ({"document": allow(resource="arn:aws:s3:::*", Principal="*")}, {}, MalformedPolicyDocument),
        ({"document": WITHOUT_RESOURCE}, {}, MalformedPolicyDocument),
        ({}, {"resource_policy_size": 20}, LimitExceeded),
    ],
)
def test_what_is_no_resource_policy_is_refused(account, changes, limits, error):
    with pytest.raises(error):
        put(account, replace(MINE, **changes), **limits)
    assert listed(account) == ()


def test_principals_are_the_ones_that_they_were_when_the_policy_was_set(account):
    user = account.run(create_user, UserName="ann")["User"]
    document = allow(resource=OBJECTS, Principal={"AWS": user["Arn"]})
    put(account, replace(MINE, document=document))
    (policy,) = account.store.resource_policy("store", "photos")
    assert policy.statements[0].principals[0].bound_id == user["UserId"]
    account.run(update_user, UserName="ann", NewUserName="anna")
    assert shown_principal(account) == user["Arn"].replace("ann", "anna")
    account.run(delete_user, UserName="anna")
    account.run(create_user, UserName="ann")
    assert shown_principal(account) == user["UserId"]


def shown_principal(account):
    with account.store.read() as tx:
        document = json.loads(resource_policies.get(tx, "store", "photos").document)
    return document["Statement"]["Principal"]["AWS"]


def test_a_bucket_has_the_policy_of_its_resource_and_its_own(account):
    assert account.store.resource_policy("store", "photos") is None
    put(account)
    assert labels(account.store.resource_policy("store", "photos")) == ["store/photos"]
    put(account, replace(MINE, bucket=""))
    assert labels(account.store.resource_policy("store", "photos")) == ["store", "store/photos"]
    assert labels(account.store.resource_policy("store", "other")) == ["store"]
    assert labels(account.store.resource_policy("store", "")) == ["store"]
    assert account.store.resource_policy("other", "photos") is None
    put(account, replace(MINE, resource="other"))
    assert labels(account.store.resource_policy("store", EVERY_BUCKET)) == ["store", "store/photos"]
    assert labels(account.store.resource_policy("other", EVERY_BUCKET)) == ["other/photos"]


def test_a_policy_is_read_once_and_so_is_that_there_is_none(account):
    put(account)
    statements = []
    account.store.refresh()
    event.listen(account.store.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    for _ in range(3):
        assert account.store.resource_policy("store", "photos")
        assert account.store.resource_policy("store", "none") is None
    assert len([one for one in statements if "resource_policy" in one]) == 2


def test_a_stored_policy_that_cannot_be_read_refuses_rather_than_lets_through(account):
    put(account)
    with account.store.write() as tx:
        tx.execute(schema.resource_policy.update().values(document="{"))
    with pytest.raises(ServiceFailure, match="cannot be read"):
        account.store.resource_policy("store", "photos")


def test_a_database_from_before_resource_policies_gets_their_table_and_keeps_what_it_has(any_account):
    with any_account.store.write() as tx:
        schema.resource_policy.drop(tx)
        tx.execute(text("UPDATE alembic_version SET version_num = '0013'"))
    any_account.store.migrate()
    put(any_account)
    assert listed(any_account) == (("photos", 1),)
