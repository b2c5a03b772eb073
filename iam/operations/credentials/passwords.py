"""Passwords of users. Source: IAM API Reference, CreateLoginProfile, ChangePassword."""

import json

from sqlalchemy import Connection, delete, select, update

from iam.arn import iam_arn
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.credentials import failed_attempts
from iam.credentials.password_hash import hash_password, verify_hash
from iam.credentials.password_policy import LONGEST_PASSWORD_HISTORY, REUSE_MESSAGE, policy_of, require_strong
from iam.errors import (
    AccessDenied,
    EntityAlreadyExists,
    InvalidUserType,
    NoSuchEntity,
    PasswordPolicyViolation,
    Throttling,
    ValidationError,
)
from iam.operations.named_entities import USER, find_named
from iam.operations.required_permission import RequiredPermission
from iam.operations.users import on_user_or_caller, user_or_caller
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.store.schema import Entity, account, login_profile


class WrongPassword(AccessDenied):
    """The old password is wrong; the transaction is rolled back, so count it afterwards: ``record_wrong_password``."""

    def __init__(self, user_id: str) -> None:
        super().__init__("The old password was incorrect.", log=f"wrong old password: {user_id}")
        self.user_id = user_id


# --- operations


def create_login_profile(call: Call, p: Params) -> Result:
    """Create a user's login profile with its first password."""
    user = _user(call, p)
    if _profile(call.tx, user.id) is not None:
        raise EntityAlreadyExists(f"Login Profile for user {user.name} already exists.")
    if "Password" not in p:
        raise ValidationError("Must specify a password.")
    require_strong(policy_of(call.tx, call.account_id), p["Password"], _names(call, user.name))
    at = to_milliseconds(call.now)
    row = {
        "user_id": user.id,
        "hash": hash_password(p["Password"], call.random),
        "previous": "[]",
        "created": at,
        "changed": at,
        "reset_required": p.get("PasswordResetRequired", False),
    }
    call.tx.execute(login_profile.insert().values(row))
    return {"LoginProfile": _shape(user.name, at, reset_required=row["reset_required"])}


def get_login_profile(call: Call, p: Params) -> Result:
    """Return when a user's login profile was created, and whether the password must be reset."""
    user = _user(call, p)
    profile = _require_profile(call.tx, user)
    return {"LoginProfile": _shape(user.name, profile.created, reset_required=profile.reset_required)}


def update_login_profile(call: Call, p: Params) -> Result:
    """Set a user's password, or require a new one at the next sign-in."""
    user = find_named(call, USER, p)
    profile = _require_profile(call.tx, user, for_update=True)
    if "Password" in p:
        _replace(call, user.name, profile, p["Password"], reset_required=profile.reset_required)
    if "PasswordResetRequired" in p:
        changed = {"reset_required": p["PasswordResetRequired"]}
        call.tx.execute(update(login_profile).where(login_profile.c.user_id == user.id).values(changed))
    return {}


def delete_login_profile(call: Call, p: Params) -> Result:
    """Delete a user's password; access keys stay valid."""
    user = _user(call, p)
    _require_profile(call.tx, user)
    call.tx.execute(delete(login_profile).where(login_profile.c.user_id == user.id))
    failed_attempts.forget(call.tx, user.id, failed_attempts.PASSWORD)
    return {}


def change_password(call: Call, p: Params) -> Result:
    """Change the caller's own password; raise WrongPassword, and Throttling after five wrong passwords."""
    if call.principal.kind is not PrincipalKind.USER:
        raise InvalidUserType("Only IAM Users can change their own password")
    user_id = call.principal.entity_id
    user = _user(call, {})
    profile = _require_profile(call.tx, user, for_update=True)
    locked = failed_attempts.seconds_locked(call.tx, user_id, failed_attempts.PASSWORD, call.now)
    if locked:
        raise Throttling("Too many wrong passwords. Try again later.", retry_after=locked, log=f"locked: {user_id}")
    if not verify_hash(profile.hash, p["OldPassword"]):
        raise WrongPassword(user_id)
    _replace(call, user.name, profile, p["NewPassword"], reset_required=False)
    failed_attempts.forget(call.tx, user_id, failed_attempts.PASSWORD)
    return {}


def on_own_password(call: Call, _p: Params) -> RequiredPermission:
    """Require permission on the caller; AllowUsersToChangePassword of the password policy grants it."""
    permission = on_user_or_caller(call, {})
    own_policy = self_service(call.tx, call.principal)
    if own_policy is None:
        return permission
    return RequiredPermission(permission.resource, permission.keys, trust=own_policy, account_id=call.account_id)


def on_password_policy(call: Call, _p: Params) -> RequiredPermission:
    """Require permission on ``*``; AllowUsersToChangePassword grants it too."""
    own_policy = self_service(call.tx, call.principal)
    if own_policy is None:
        return RequiredPermission("*")
    return RequiredPermission("*", trust=own_policy, account_id=call.account_id)


def self_service(tx: Connection, principal: Principal) -> PolicySet | None:
    """Return the policy that lets a user change its password, if the account's password policy allows it."""
    if principal.kind is not PrincipalKind.USER or not policy_of(tx, principal.account_id).AllowUsersToChangePassword:
        return None
    return self_service_policy(principal.entity_id)


# AllowUsersToChangePassword as a resource-based policy, whose only principal is bound to the user's unique id.
_SELF = iam_arn("0" * 12, "user", "self", "/")
_SELF_SERVICE = Policy.parse(
    json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Allow",
                "Principal": {"AWS": _SELF},
                "Action": ["iam:ChangePassword", "iam:GetAccountPasswordPolicy"],
            },
        }
    ),
    PolicyKind.RESOURCE,
    label="AllowUsersToChangePassword",
)


def self_service_policy(user_id: str) -> PolicySet:
    """Return the policy that lets a user change its own password; an explicit deny still overrides it."""
    return PolicySet((_SELF_SERVICE.bind({_SELF: user_id}),))


# --- one password


def _replace(call: Call, user_name: str, profile: Entity, password: str, *, reset_required: bool) -> None:
    policy = policy_of(call.tx, call.account_id)
    require_strong(policy, password, _names(call, user_name))
    remembered = [profile.hash, *json.loads(profile.previous)][:LONGEST_PASSWORD_HISTORY]
    if any(verify_hash(old_hash, password) for old_hash in remembered[: policy.PasswordReusePrevention or 0]):
        raise PasswordPolicyViolation(REUSE_MESSAGE)
    new = {
        "hash": hash_password(password, call.random),
        "previous": json.dumps(remembered),
        "changed": to_milliseconds(call.now),
        "reset_required": reset_required,
    }
    call.tx.execute(update(login_profile).where(login_profile.c.user_id == profile.user_id).values(new))


def _user(call: Call, p: Params) -> Entity:
    row = user_or_caller(call, p)
    if row is None:  # root has no login profile: its password is set by the operator
        raise NoSuchEntity(f"Login Profile for User {call.account_id} cannot be found.")
    return row


def _profile(tx: Connection, user_id: str, *, for_update: bool = False) -> Entity | None:
    query = select(login_profile).where(login_profile.c.user_id == user_id)
    # The row is locked, so that simultaneous guesses cannot exceed the limit of wrong passwords.
    return tx.execute(query.with_for_update() if for_update else query).one_or_none()


def _require_profile(tx: Connection, user: Entity, *, for_update: bool = False) -> Entity:
    profile = _profile(tx, user.id, for_update=for_update)
    if profile is None:
        raise NoSuchEntity(f"Login Profile for User {user.name} cannot be found.")
    return profile


def _names(call: Call, user_name: str) -> tuple[str | None, ...]:
    alias = call.tx.execute(select(account.c.alias).where(account.c.id == call.account_id)).scalar_one_or_none()
    return user_name, call.account_id, alias


def _shape(user_name: str, created: int, *, reset_required: object) -> Result:
    return {
        "UserName": user_name,
        "CreateDate": from_milliseconds(created),
        "PasswordResetRequired": bool(reset_required),
    }
