import json
import secrets
from dataclasses import replace

import pytest
from sqlalchemy import select
from support.iam_account import ACCOUNT, IamAccount, iam_account, role_session, root

from iam.credentials import login_profile, password_hash
from iam.credentials.password_policy import (
    DefaultPasswordPolicy,
    PasswordPolicy,
    is_common,
    policy_of,
    random_password,
    require_strong,
)
from iam.errors import (
    AccessDenied,
    ConcurrentModification,
    EntityAlreadyExists,
    InternalFailure,
    InvalidUserType,
    NoSuchEntity,
    PasswordPolicyViolation,
    Throttling,
    ValidationError,
)
from iam.operations.credentials import passwords
from iam.operations.credentials.password_policy import (
    delete_account_password_policy,
    get_account_password_policy,
    update_account_password_policy,
)
from iam.policy.decide import Layers, RequestContext, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.store import schema

GOOD, BETTER, BEST = "Quill-of-41-herons", "Ferry.past.7.islets", "Ochre+lamp=93"
LOCK = 15 * 60


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


@pytest.fixture
def ann(iam):
    who = iam.user("ann")
    iam.run(passwords.create_login_profile, UserName="ann", Password=GOOD)
    return who


def change(iam: IamAccount, who, old: str, new: str) -> None:
    iam.run(passwords.change_password, who, OldPassword=old, NewPassword=new)


def verify_password(iam: IamAccount, name: str, password: str) -> bool:
    with iam.reading() as tx:
        stored = login_profile.load_password(tx, ACCOUNT, name)
    return password_hash.verify_hash(stored and stored.hash, password)


def stored_row(iam: IamAccount):
    with iam.reading() as tx:
        return tx.execute(select(schema.login_profile)).one()


# --- login profiles


def test_a_login_profile_is_made_shown_and_deleted(iam):
    iam.user("ann")
    made = iam.run(passwords.create_login_profile, UserName="ANN", Password=GOOD, PasswordResetRequired=True)
    shape = {"UserName": "ann", "CreateDate": iam.now, "PasswordResetRequired": True}
    assert made == {"LoginProfile": shape}
    assert iam.run(passwords.get_login_profile, UserName="ann") == {"LoginProfile": shape}
    iam.run(passwords.delete_login_profile, UserName="ann")
    with pytest.raises(NoSuchEntity, match=r"Login Profile for User ann cannot be found\."):
        iam.run(passwords.get_login_profile, UserName="ann")
    assert not verify_password(iam, "ann", GOOD)


@pytest.mark.usefixtures("ann")
def test_a_user_has_one_login_profile(iam):
    with pytest.raises(EntityAlreadyExists, match=r"Login Profile for user ann already exists\."):
        iam.run(passwords.create_login_profile, UserName="ann", Password=BETTER)
    assert verify_password(iam, "ann", GOOD)


def test_without_a_name_a_user_means_itself_and_root_has_no_login_profile(iam, ann):
    assert iam.run(passwords.get_login_profile, ann)["LoginProfile"]["UserName"] == "ann"
    with pytest.raises(NoSuchEntity):
        iam.run(passwords.get_login_profile, root())


@pytest.mark.parametrize(
    "operation", [passwords.get_login_profile, passwords.update_login_profile, passwords.delete_login_profile]
)
def test_a_missing_user_and_a_missing_login_profile_are_told_apart(iam, operation):
    with pytest.raises(NoSuchEntity, match=r"The user with name ann cannot be found\."):
        iam.run(operation, UserName="ann")
    iam.user("ann")
    with pytest.raises(NoSuchEntity, match=r"Login Profile for User ann cannot be found\."):
        iam.run(operation, UserName="ann")


def test_a_password_is_needed(iam):
    iam.user("ann")
    with pytest.raises(ValidationError):
        iam.run(passwords.create_login_profile, UserName="ann")


def test_an_administrator_sets_a_password_and_asks_for_a_new_one(iam, ann):
    iam.later(days=1)
    iam.run(passwords.update_login_profile, UserName="ann", Password=BETTER, PasswordResetRequired=True)
    assert verify_password(iam, "ann", BETTER)
    assert not verify_password(iam, "ann", GOOD)
    assert iam.run(passwords.get_login_profile, UserName="ann")["LoginProfile"]["PasswordResetRequired"] is True
    change(iam, ann, BETTER, BEST)
    assert iam.run(passwords.get_login_profile, UserName="ann")["LoginProfile"]["PasswordResetRequired"] is False


@pytest.mark.usefixtures("ann")
def test_the_flag_alone_leaves_the_password(iam):
    iam.run(passwords.update_login_profile, UserName="ann", PasswordResetRequired=True)
    assert verify_password(iam, "ann", GOOD)
    assert stored_row(iam).changed == stored_row(iam).created


@pytest.mark.usefixtures("ann")
def test_the_database_holds_argon2id_at_the_strength_of_rfc_9106_and_nothing_prints_it(iam):
    row = stored_row(iam)
    assert row.hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert GOOD not in str(tuple(row))
    with iam.reading() as tx:
        found = login_profile.load_password(tx, ACCOUNT, "ann")
    assert row.hash not in repr(found)


def test_an_unknown_name_costs_the_work_of_a_real_one():
    # The same parameters, so the same time: a measurement would only say so on a quiet machine.
    parts = password_hash._DUMMY_HASH.split("$")
    assert parts[1:4] == ["argon2id", "v=19", "m=65536,t=3,p=4"]
    assert not password_hash.verify_hash(None, GOOD)


@pytest.mark.usefixtures("ann")
def test_names_are_alike_without_regard_to_case_and_passwords_are_not(iam):
    assert verify_password(iam, "ANN", GOOD)
    assert not verify_password(iam, "ann", GOOD.upper())
    assert not verify_password(iam, "bob", GOOD)


# --- ChangePassword


def test_a_user_changes_its_own_password(iam, ann):
    change(iam, ann, GOOD, BETTER)
    assert verify_password(iam, "ann", BETTER)
    assert not verify_password(iam, "ann", GOOD)


@pytest.mark.parametrize("who", [root(), role_session()])
def test_only_users_change_their_password(iam, who):
    with pytest.raises(InvalidUserType, match="Only IAM Users can change their own password"):
        change(iam, who, GOOD, BETTER)


def test_a_wrong_old_password_is_an_access_denied_and_changes_nothing(iam, ann):
    with pytest.raises(AccessDenied, match=r"The old password was incorrect\.") as refused:
        change(iam, ann, BETTER, BEST)
    assert refused.value.code == "AccessDenied"
    assert verify_password(iam, "ann", GOOD)


def test_the_sixth_try_waits_a_quarter_of_an_hour_even_when_it_is_right(iam, ann):
    for _ in range(5):
        with pytest.raises(AccessDenied):
            change(iam, ann, BETTER, BEST)
    with pytest.raises(Throttling) as locked:
        change(iam, ann, GOOD, BETTER)
    assert locked.value.retry_after == LOCK
    iam.later(seconds=LOCK - 1)
    with pytest.raises(Throttling):
        change(iam, ann, GOOD, BETTER)
    iam.later(seconds=1)
    change(iam, ann, GOOD, BETTER)
    assert verify_password(iam, "ann", BETTER)


def test_the_wrong_passwords_of_one_user_lock_no_other(iam, ann):
    bob = iam.user("bob")
    iam.run(passwords.create_login_profile, UserName="bob", Password=GOOD)
    for _ in range(5):
        with pytest.raises(AccessDenied):
            change(iam, ann, BETTER, BEST)
    change(iam, bob, GOOD, BETTER)


def test_no_more_guesses_are_judged_at_once_than_the_limit_says(iam, ann):
    waiting = []

    def guess_meanwhile(work):
        waiting.append(work)
        if len(waiting) < 20:
            with pytest.raises((AccessDenied, Throttling)):
                judge()
        return work()

    def judge():
        iam_preparation = iam.preparation(ann, guess_meanwhile)
        passwords.judge_own_password(iam_preparation, {"OldPassword": BETTER, "NewPassword": BEST})

    with pytest.raises(AccessDenied):
        judge()
    assert len(waiting) == 5


def test_a_password_that_was_changed_while_another_was_hashed_stays(iam, ann):
    p = {"OldPassword": GOOD, "NewPassword": BETTER}
    prepared = passwords.judge_own_password(iam.preparation(ann), p)
    reset = passwords.hash_replacement(iam.preparation(), {"UserName": "ann", "Password": BETTER})
    change(iam, ann, GOOD, BEST)
    with pytest.raises(passwords.WrongPassword), iam.call(ann) as call:
        passwords.change_password(replace(call, prepared=prepared), p)
    with pytest.raises(ConcurrentModification), iam.call() as call:
        passwords.update_login_profile(replace(call, prepared=reset), {"UserName": "ann", "Password": BETTER})
    with pytest.raises(InternalFailure), iam.call(ann) as call:
        passwords.change_password(call, p)
    assert verify_password(iam, "ann", BEST)


def test_a_new_password_that_the_policy_refuses_is_no_wrong_guess(iam, ann):
    for _ in range(6):
        with pytest.raises(PasswordPolicyViolation):
            change(iam, ann, GOOD, "weak")
    change(iam, ann, GOOD, BETTER)


def test_a_right_password_forgets_the_wrong_ones(iam, ann):
    for old, new in [(GOOD, BETTER), (BETTER, BEST)]:
        for _ in range(4):
            with pytest.raises(AccessDenied):
                change(iam, ann, "nonsense", new)
        change(iam, ann, old, new)


def test_reuse_prevention_looks_as_far_back_as_the_policy_says(iam, ann):
    iam.run(update_account_password_policy, PasswordReusePrevention=2)
    for new in (GOOD, GOOD):
        with pytest.raises(PasswordPolicyViolation, match="reuse"):
            change(iam, ann, GOOD, new)
    change(iam, ann, GOOD, BETTER)
    with pytest.raises(PasswordPolicyViolation, match="reuse"):
        change(iam, ann, BETTER, GOOD)
    with pytest.raises(PasswordPolicyViolation, match="reuse"):
        iam.run(passwords.update_login_profile, UserName="ann", Password=GOOD)
    change(iam, ann, BETTER, BEST)
    change(iam, ann, BEST, GOOD)


# --- the account's policy


def test_the_default_policy_is_not_found_and_yet_holds(iam, ann):
    text = f"The Password Policy with domain name {ACCOUNT} cannot be found."
    for operation in (get_account_password_policy, delete_account_password_policy):
        with pytest.raises(NoSuchEntity, match=text):
            iam.run(operation)
    with pytest.raises(PasswordPolicyViolation, match="at least three of"):
        change(iam, ann, GOOD, "onlysmallletters")


def test_an_update_replaces_the_policy_as_a_whole(iam):
    iam.run(update_account_password_policy, MinimumPasswordLength=12, RequireSymbols=True, MaxPasswordAge=90)
    iam.run(update_account_password_policy, MaxPasswordAge=30, PasswordReusePrevention=24, HardExpiry=True)
    assert iam.run(get_account_password_policy) == {
        "PasswordPolicy": {
            "MinimumPasswordLength": 6,
            "RequireSymbols": False,
            "RequireNumbers": False,
            "RequireUppercaseCharacters": False,
            "RequireLowercaseCharacters": False,
            "AllowUsersToChangePassword": False,
            "ExpirePasswords": True,
            "MaxPasswordAge": 30,
            "PasswordReusePrevention": 24,
            "HardExpiry": True,
        }
    }
    iam.run(delete_account_password_policy)
    with iam.reading() as tx:
        assert policy_of(tx, ACCOUNT) == DefaultPasswordPolicy()


def test_the_policy_of_one_account_binds_no_other(iam):
    other = iam.another("999999999999")
    iam.run(update_account_password_policy, MinimumPasswordLength=20)
    with pytest.raises(NoSuchEntity):
        iam.run(get_account_password_policy, other)


def test_expiry_counts_from_the_last_change(iam, ann):
    iam.run(update_account_password_policy, MaxPasswordAge=10, HardExpiry=True)
    iam.later(days=3)
    change(iam, ann, GOOD, BETTER)
    with iam.reading() as tx:
        found = login_profile.load_password(tx, ACCOUNT, "ann")
    assert found.expires == found.changed + 10 * 86_400_000 == int(iam.now.timestamp() * 1000) + 10 * 86_400_000
    assert found.hard_expiry


POLICY_VECTORS = [
    (DefaultPasswordPolicy(), "Ab1!xyz", "Password should have a minimum length of 8"),
    (DefaultPasswordPolicy(), "Ab1!xyzq", ""),
    (DefaultPasswordPolicy(), "abcdXYZ1", ""),
    (DefaultPasswordPolicy(), "zyxwvuts1", "three of"),
    (DefaultPasswordPolicy(), "zyxw ÄÖÜ 1", "three of"),  # only letters of the basic Latin alphabet and 33 signs count
    (PasswordPolicy(), "zyxwvu", ""),
    (PasswordPolicy(), "zyxwv", "minimum length of 6"),
    (PasswordPolicy(MinimumPasswordLength=128), "x" * 127, "minimum length of 128"),
    (PasswordPolicy(RequireUppercaseCharacters=True), "zyxwvu", "Password should have at least one uppercase letter"),
    (PasswordPolicy(RequireLowercaseCharacters=True), "ZYXWVU", "Password should have at least one lowercase letter"),
    (PasswordPolicy(RequireNumbers=True), "zyxwvu²", "Password should have at least one number"),
    (PasswordPolicy(RequireSymbols=True), "zyxwvu~", "Password should have at least one symbol"),
    *((PasswordPolicy(RequireSymbols=True), f"zyxwvu{sign}", "") for sign in "!@#$%^&*()_+-=[]{}|'"),
]


@pytest.mark.parametrize(("policy", "password", "lacking"), POLICY_VECTORS)
def test_a_policy_says_what_a_password_lacks(policy, password, lacking):
    said = policy.weakness(password)
    assert lacking in said
    assert bool(lacking) == bool(said)


@pytest.mark.parametrize(
    "password", ["password", "P@ssw0rd", "Password123!", "Welcome2026", "qwerty", "Summer2025!", "dragon1"]
)
def test_common_passwords_are_refused_whatever_the_policy_and_the_year_behind_them(password):
    assert is_common(password)
    with pytest.raises(PasswordPolicyViolation, match="most common"):
        require_strong(PasswordPolicy(), password, ())


@pytest.mark.parametrize("password", [GOOD, BETTER, BEST, "dragon-20260301", "correct horse battery staple"])
def test_others_are_not_common(password):
    assert not is_common(password)


@pytest.mark.parametrize("password", ["marguerite.B1", "MARGUERITE.b1", ACCOUNT, "example-corp"])
def test_the_names_of_user_and_account_are_no_passwords(iam, password):
    iam.run(update_account_password_policy)
    iam.user("Marguerite.B1")
    with pytest.raises(PasswordPolicyViolation, match="name of the user or of the account"):
        iam.run(passwords.create_login_profile, UserName="Marguerite.B1", Password=password)


# --- AllowUsersToChangePassword


def allowed(iam: IamAccount, who, ask, action: str, *, denies: bool = False) -> bool:
    """Decide as the gate does, for a user without policies, or with one that denies everything of IAM."""
    asked = iam.required_permissions(ask, who)
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iam:*", "Resource": "*"}]}
    identity = PolicySet([Policy.parse(json.dumps(deny), PolicyKind.IDENTITY)] if denies else [])
    layers = Layers(identity=identity, resource=asked.trust, resource_account=asked.account_id or who.account_id)
    return decide(RequestContext(action, asked.resource, who, dict(asked.keys)), layers).allowed


@pytest.mark.parametrize(
    ("ask", "action"),
    [
        (passwords.on_own_password, "iam:ChangePassword"),
        (passwords.on_password_policy, "iam:GetAccountPasswordPolicy"),
    ],
)
def test_users_change_their_password_without_a_policy_only_where_the_account_lets_them(iam, ann, ask, action):
    assert not allowed(iam, ann, ask, action)
    iam.run(update_account_password_policy, AllowUsersToChangePassword=True)
    assert allowed(iam, ann, ask, action)
    assert not allowed(iam, ann, ask, action, denies=True)
    assert not allowed(iam, ann, ask, "iam:UpdateLoginProfile")
    assert not allowed(iam, role_session(), ask, action)
    iam.run(update_account_password_policy)
    assert not allowed(iam, ann, ask, action)


def test_change_password_asks_about_the_caller(iam):
    who = iam.user("ann", Path="/eng/")
    assert iam.required_permissions(passwords.on_own_password, who).resource == f"arn:aws:iam::{ACCOUNT}:user/eng/ann"


@pytest.mark.parametrize("length", [6, 24, 25, 128])
def test_a_password_of_ours_is_strong_by_every_policy_and_long_enough_for_it(length):
    asked = ("RequireSymbols", "RequireNumbers", "RequireUppercaseCharacters", "RequireLowercaseCharacters")
    policy = PasswordPolicy(MinimumPasswordLength=length, **dict.fromkeys(asked, True))
    made = {random_password(policy, secrets.token_bytes) for _ in range(100)}
    assert len(made) == 100
    for password in made:
        require_strong(policy, password, ())
        assert max(24, length) <= len(password) < max(25, length + 5)
        assert not set(password) & set("01OIl")
