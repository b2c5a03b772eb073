"""Accounts and their owners' keys."""

import random
import re

import pytest

from iam.accounts import check_alias, create_account, list_accounts, new_root_key
from iam.arn import account_of_access_key
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError

CHANCE = random.Random(11).randbytes


def made(account, **p):
    with account.store.write() as tx:
        return create_account(tx, **p, now=account.now, random=CHANCE, vault=account.vault)


def test_a_new_account_has_a_random_id_and_a_key_of_its_owner(account):
    new = made(account)
    assert re.fullmatch("[1-9][0-9]{11}", new.account_id)
    key = account.store.access_key(new.root_access_key_id)
    assert (key.account_id, key.user_id, key.secret) == (new.account_id, None, new.root_secret)
    assert account_of_access_key(new.root_access_key_id) == new.account_id
    assert re.fullmatch("[A-Za-z0-9+/]{40}", new.root_secret)
    assert new.root_secret not in repr(new)


@pytest.mark.parametrize("p", [{"account_id": "111122223333"}, {"account_id": "222233334444", "alias": "acme"}])
def test_an_id_or_alias_that_is_taken_is_refused_and_nothing_is_left(account, p):
    with pytest.raises(EntityAlreadyExists):
        made(account, **p)
    with account.store.read() as tx:
        assert [(one.id, one.alias) for one in list_accounts(tx)] == [("111122223333", "acme")]


@pytest.mark.parametrize("account_id", ["1", "12345678901x", "1234567890123", "١٢٣٤٥٦٧٨٩٠١٢"])
def test_an_id_has_twelve_digits(account, account_id):
    with pytest.raises(ValidationError):
        made(account, account_id=account_id)


@pytest.mark.parametrize("alias", ["ab", "-abc", "abc-", "a--b", "Abc", "a_b", "a" * 64, "abc\n", "ábc"])
def test_an_alias_that_aws_would_refuse_is_refused(alias):
    with pytest.raises(ValidationError):
        check_alias(alias)


@pytest.mark.parametrize("alias", ["abc", "a-b-c", "123", "a" * 63])
def test_an_alias_that_aws_would_take_is_taken(alias):
    check_alias(alias)


def test_a_further_root_key_works_beside_the_first(account):
    with account.store.write() as tx:
        key = new_root_key(tx, account.id, now=account.now, random=CHANCE, vault=account.vault)
    assert account.store.access_key(key.access_key_id).secret == key.secret
    assert key.secret not in repr(key)


def test_a_root_key_of_an_unknown_account_is_refused(account):
    with pytest.raises(NoSuchEntity), account.store.write() as tx:
        new_root_key(tx, "999999999999", now=account.now, random=CHANCE, vault=account.vault)
