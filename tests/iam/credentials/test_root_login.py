"""How the owner of an account signs in to the page."""

import random
from datetime import timedelta

import pytest
from sqlalchemy import select
from support.iam_account import NOW
from support.timing import fastest

from iam.accounts import create_account
from iam.credentials import password_change, root_login
from iam.credentials.password_hash import verify_hash
from iam.errors import EntityAlreadyExists, NoSuchEntity, PasswordPolicyViolation, ValidationError
from iam.operations.account import get_account_summary
from iam.operations.credentials.password_policy import update_account_password_policy
from iam.store.schema import root_login as table

CHANCE = random.Random(5).randbytes
PASSWORD, OTHER = "Quill-of-41-herons", "Nine-brass-kettles-7"
ACCOUNT, SECOND = "111122223333", "222233334444"


@pytest.fixture
def do(any_account):
    return doing(any_account)


def doing(account):
    def do(action, *args, **more):
        with account.store.write(bump_revision=False) as tx:
            return action(tx, *args, **more)

    return do


@pytest.fixture
def give(any_account, do):
    """Gives a root its address and password."""

    def given(email="Root@Example.com", password=PASSWORD, account_id=ACCOUNT, *, reset_required=False, now=None):
        do(
            root_login.set_root_login, account_id, email, password, now=now or any_account.now, random=CHANCE,
            reset_required=reset_required,
        )  # fmt: skip

    return given


def test_a_root_is_found_by_its_address_in_capitals_or_not(do, give, any_account):
    assert do(root_login.root_login_by_email, "root@example.com") is None
    give()
    found = do(root_login.root_login_by_email, " ROOT@example.COM ")
    assert (found.account_id, found.email, found.reset_required) == (ACCOUNT, "Root@Example.com", False)
    assert found.changed == int(any_account.now.timestamp() * 1000)
    assert found == do(root_login.root_login_of, ACCOUNT)
    assert do(root_login.root_login_of, SECOND) is None
    assert do(root_login.root_login_by_email, "oot@example.com") is None
    assert do(root_login.root_login_by_email, "%@example.com") is None


def test_the_password_is_kept_as_a_hash_that_is_shown_nowhere(do, give):
    give()
    stored = do(root_login.root_login_by_email, "root@example.com")
    assert stored.hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert stored.hash not in repr(stored)
    assert verify_hash(stored.hash, PASSWORD)
    for wrong in ("", PASSWORD + " ", PASSWORD.lower(), OTHER):
        assert not verify_hash(stored.hash, wrong)


def test_nobodys_password_takes_as_long_as_a_wrong_one(do, give):
    give()
    stored = do(root_login.root_login_by_email, "root@example.com")

    def refuse(who):
        assert not verify_hash(who and who.hash, "wrong")

    known, unknown = fastest(lambda: refuse(stored), lambda: refuse(None), tries=5)
    assert 0.5 < known / unknown < 2


def test_given_anew_the_earlier_address_and_password_count_no_more(do, give, any_account):
    give()
    do(root_login.record_root_sign_in, ACCOUNT, any_account.now)
    later = any_account.now + timedelta(days=1)
    give("new@example.com", OTHER, reset_required=True, now=later)
    assert do(root_login.root_login_by_email, "root@example.com") is None
    stored = do(root_login.root_login_by_email, "new@example.com")
    assert (stored.reset_required, stored.changed) == (True, int(later.timestamp() * 1000))
    assert verify_hash(stored.hash, OTHER)
    assert not verify_hash(stored.hash, PASSWORD)


def test_the_address_of_another_account_is_refused_in_capitals_too_and_nothing_is_changed(do, give, any_account):
    do(create_account, account_id=SECOND, now=any_account.now, random=CHANCE, vault=any_account.vault)
    give()
    with pytest.raises(EntityAlreadyExists):
        give("ROOT@EXAMPLE.COM", OTHER, SECOND)
    give("second@example.com", OTHER, SECOND)
    with pytest.raises(EntityAlreadyExists):
        give("rooT@example.com", OTHER, SECOND)
    assert do(root_login.root_login_by_email, "root@example.com").account_id == ACCOUNT
    assert do(root_login.root_login_by_email, "second@example.com").account_id == SECOND


def test_an_unknown_account_has_no_root(give):
    with pytest.raises(NoSuchEntity):
        give(account_id="999999999999")


@pytest.mark.parametrize(
    "email", ["", "root", "@", "root@", "@example.com", "a b@example.com", "a@b@c", "a@b\n.c", "x" * 255 + "@b"]
)
def test_what_is_no_address_is_refused(give, email):
    with pytest.raises(ValidationError):
        give(email)


@pytest.mark.parametrize(
    "password", ["", "short", "Passw0rd!", "root@example.com", "Root@Example.com", "letters only here"]
)
def test_a_weak_common_or_obvious_password_is_refused(give, do, password):
    with pytest.raises(PasswordPolicyViolation):
        give(password=password)
    give()
    with pytest.raises(PasswordPolicyViolation):
        change(do, password)


def change(do, password, account_id=ACCOUNT):
    """Replace the password of a root user, as the password page does."""
    current = do(password_change.of_root, account_id)
    new = password_change.hash_new_password(current, password, CHANCE)
    do(password_change.write, current, new, NOW + timedelta(hours=1))


def test_the_password_policy_of_the_account_holds_for_its_root(give, any_account):
    any_account.run(update_account_password_policy, MinimumPasswordLength=30)
    with pytest.raises(PasswordPolicyViolation, match="minimum length of 30"):
        give()


def test_a_changed_password_is_the_owners_own_choice(do, give, any_account):
    give(reset_required=True)
    with pytest.raises(PasswordPolicyViolation, match="different from the current one"):
        change(do, PASSWORD)
    change(do, OTHER)
    stored = do(root_login.root_login_by_email, "root@example.com")
    assert verify_hash(stored.hash, OTHER)
    assert not verify_hash(stored.hash, PASSWORD)
    assert (stored.reset_required, stored.email) == (False, "Root@Example.com")
    assert stored.changed == int((any_account.now + timedelta(hours=1)).timestamp() * 1000)


def test_a_root_without_a_password_has_none_to_change(do):
    assert do(password_change.of_root, ACCOUNT) is None


def test_a_sign_in_is_noted_at_the_account_that_it_was_of(do, give, any_account):
    do(create_account, account_id=SECOND, now=any_account.now, random=CHANCE, vault=any_account.vault)
    give()
    give("second@example.com", OTHER, SECOND)
    do(root_login.record_root_sign_in, SECOND, any_account.now)
    used = do(lambda tx: dict(tx.execute(select(table.c.account_id, table.c.last_used)).all()))
    assert used == {ACCOUNT: None, SECOND: int(any_account.now.timestamp() * 1000)}


def test_the_summary_tells_that_root_has_a_password(give, any_account):
    def present():
        return any_account.run(get_account_summary)["SummaryMap"]["AccountPasswordPresent"]

    assert present() == 0
    give()
    assert present() == 1
