"""A new password in the place of the one that was proved: judged as by the API, written where nobody was quicker."""

import secrets
import unicodedata

import argon2
import pytest
from support.iam_account import ACCOUNT, iam_account

from iam.credentials import failed_attempts, login_profile, password_change, password_hash
from iam.credentials.password_hash import verify_hash
from iam.errors import PasswordPolicyViolation, Throttling
from iam.operations.credentials import passwords
from iam.operations.credentials.password_policy import update_account_password_policy
from iam.operations.users import delete_user

GOOD, BETTER, BEST = "Quill-of-41-herons", "Ferry.past.7.islets", "Ochre+lamp=93"


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


@pytest.fixture
def ann(iam):
    who = iam.user("ann")
    iam.run(passwords.create_login_profile, UserName="ann", Password=GOOD, PasswordResetRequired=True)
    return who


def present(iam, who):
    with iam.reading() as tx:
        return password_change.of_user(tx, ACCOUNT, who.entity_id, iam.now)


def change(iam, who, new):
    found = present(iam, who)
    made = password_change.hash_new_password(found, new, secrets.token_bytes)
    with iam.writing() as tx:
        return password_change.write(tx, found, made, iam.now)


def stored(iam):
    with iam.reading() as tx:
        return login_profile.load_password(tx, ACCOUNT, "ann")


def test_the_new_password_is_the_owner_s_choice_and_counts_from_now(iam, ann):
    iam.later(days=1)
    assert change(iam, ann, BETTER)
    found = stored(iam)
    assert verify_hash(found.hash, BETTER)
    assert not verify_hash(found.hash, GOOD)
    assert (found.reset_required, found.changed) == (False, int(iam.now.timestamp() * 1000))


def test_earlier_passwords_are_remembered_as_the_api_remembers_them(iam, ann):
    iam.run(update_account_password_policy, PasswordReusePrevention=2)
    assert change(iam, ann, BETTER)
    for barred in (GOOD, BETTER):
        with pytest.raises(PasswordPolicyViolation, match="reuse prevention"):
            change(iam, ann, barred)
    assert change(iam, ann, BEST)
    assert change(iam, ann, GOOD), "two back, and so free again"
    with pytest.raises(PasswordPolicyViolation, match="reuse prevention"):
        iam.run(passwords.update_login_profile, UserName="ann", Password=BEST)


@pytest.mark.parametrize("weak", ["", "short", "ann", "password1!", ACCOUNT, "example-corp"])
def test_what_the_policy_refuses_is_not_hashed(iam, ann, weak):
    with pytest.raises(PasswordPolicyViolation):
        password_change.hash_new_password(present(iam, ann), weak, lambda _count: pytest.fail("hashed"))


@pytest.mark.parametrize("character", ["\t", "\u202e", "\ue000"])
def test_a_character_that_no_password_may_have_is_refused(iam, ann, character):
    with pytest.raises(PasswordPolicyViolation, match="control characters"):
        change(iam, ann, BETTER + character)


def test_a_password_is_the_same_composed_and_decomposed(iam, ann):
    composed = f"{BETTER}-\u00fc"
    decomposed = unicodedata.normalize("NFD", composed)
    assert change(iam, ann, decomposed)
    assert verify_hash(stored(iam).hash, composed)
    assert verify_hash(stored(iam).hash, decomposed)
    assert not verify_hash(stored(iam).hash, f"{BETTER}-u")


def test_a_password_that_was_hashed_as_it_was_typed_is_still_right():
    typed = "m\u00b2 u\u0308"
    for earlier in (typed, unicodedata.normalize("NFC", typed)):
        assert verify_hash(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(earlier), typed)
    assert not verify_hash(None, typed)


def test_whoever_was_overtaken_writes_nothing(iam, ann):
    found = present(iam, ann)
    assert change(iam, ann, BETTER)
    with iam.writing() as tx:
        assert not password_change.write(tx, found, password_hash.hash_password(BEST, secrets.token_bytes), iam.now)
    assert verify_hash(stored(iam).hash, BETTER)


def test_a_user_whom_wrong_passwords_at_the_api_have_locked_waits_here_too(iam, ann):
    for _ in range(5):
        with iam.writing() as tx:
            failed_attempts.count(tx, ann.entity_id, failed_attempts.PASSWORD, iam.now)
    with pytest.raises(Throttling):
        present(iam, ann)
    iam.later(minutes=15, seconds=1)
    assert change(iam, ann, BETTER)


def test_nobody_has_no_password(iam, ann):
    iam.run(passwords.delete_login_profile, UserName="ann")
    assert present(iam, ann) is None
    iam.run(delete_user, UserName="ann")
    assert present(iam, ann) is None
    with iam.reading() as tx:
        assert password_change.of_root(tx, ACCOUNT) is None


def test_no_hash_is_shown(iam, ann):
    assert "argon2" not in repr(present(iam, ann))
