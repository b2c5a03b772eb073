from dataclasses import replace

import pytest
from sqlalchemy import select, text
from support.documents import allow

from iam import guardrails
from iam.errors import LimitExceeded, MalformedPolicyDocument, NoSuchEntity, ValidationError
from iam.guardrails import Guardrail
from iam.limits import Limits
from iam.store import migrations, schema

MINE = Guardrail("111122223333", "no-keys", allow("*"), 1)


def put(account, new=MINE, **limits):
    with account.store.write() as tx:
        guardrails.put(tx, new, Limits(**limits))


def names(account):
    with account.store.read() as tx:
        return [one.name for one in guardrails.list_guardrails(tx, account.id)]


def test_a_guardrail_is_set_replaced_listed_and_removed(any_account):
    put(any_account)
    put(any_account, replace(MINE, name="another", created=2))
    put(any_account, replace(MINE, document=allow("s3:*"), created=3))
    assert names(any_account) == ["another", "no-keys"]
    with any_account.store.read() as tx:
        assert guardrails.list_guardrails(tx, None)[1] == replace(MINE, document=allow("s3:*"), created=3)
    with any_account.store.write() as tx:
        guardrails.remove(tx, any_account.id, "no-keys")
    assert names(any_account) == ["another"]
    with pytest.raises(NoSuchEntity), any_account.store.write() as tx:
        guardrails.remove(tx, any_account.id, "no-keys")


def test_an_account_is_given_with_its_guardrails_from_the_request_after_they_were_set(any_account):
    assert any_account.store.account(any_account.id).guardrails is None
    put(any_account)
    found = any_account.store.account(any_account.id).guardrails
    assert [policy.label for policy in found] == ["no-keys"]


@pytest.mark.parametrize(
    ("changes", "limits", "error"),
    [
        ({"account_id": "999999999999"}, {}, NoSuchEntity),
        ({"name": "a b"}, {}, ValidationError),
        ({"name": ""}, {}, ValidationError),
        ({"name": "x" * 129}, {}, ValidationError),
        ({"document": "{"}, {}, MalformedPolicyDocument),
        ({"document": allow(Principal="*")}, {}, MalformedPolicyDocument),
        ({"document": allow(resource=["arn:aws:s3:::" + "b" * 200])}, {"guardrail_size": 200}, LimitExceeded),
        ({"name": "second"}, {"guardrails_per_account": 1}, LimitExceeded),
    ],
)
def test_what_is_no_guardrail_is_refused(any_account, changes, limits, error):
    put(any_account)
    with pytest.raises(error):
        put(any_account, replace(MINE, **changes), **limits)
    assert names(any_account) == ["no-keys"]


def test_a_stored_guardrail_that_cannot_be_read_refuses_rather_than_lets_through(any_account):
    put(any_account)
    with any_account.store.write() as tx:
        tx.execute(schema.guardrail.update().values(document="{"))
    with pytest.raises(Exception, match="cannot be read"):
        any_account.store.account(any_account.id)


def test_a_database_from_before_guardrails_gets_their_table_and_keeps_what_it_has(any_account):
    with any_account.store.write() as tx:
        schema.guardrail.drop(tx)
        tx.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    any_account.store.migrate()
    put(any_account)
    assert names(any_account) == ["no-keys"]
    with any_account.store.read() as tx:
        assert migrations.is_current(tx)
        assert tx.execute(select(schema.account.c.id)).scalars().all() == [any_account.id]
