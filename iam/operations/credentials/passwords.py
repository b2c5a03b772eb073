"""Passwords of users. Source: IAM API Reference, CreateLoginProfile, ChangePassword."""

import json
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, select, update

from iam.arn import iam_arn
from iam.call import Call, Params, Result
from iam.clock import from_milliseconds, to_milliseconds
from iam.credentials import failed_attempts, password_change
from iam.credentials.password_change import CurrentPassword
from iam.credentials.password_hash import hash_password, verify_hash
from iam.credentials.password_policy import policy_of, require_strong
from iam.errors import (
    AccessDenied,
    ConcurrentModification,
    EntityAlreadyExists,
    InternalFailure,
    InvalidUserType,
    NoSuchEntity,
    PasswordPolicyViolation,
    ValidationError,
)
from iam.operations.named_entities import USER, find_named
from iam.operations.required_permission import Preparation, RequiredPermission
from iam.operations.users import on_user_or_caller, user_or_caller
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind
from iam.store.schema import Entity, account, login_profile

_CHANGED_MEANWHILE = (
    "The request was rejected because multiple requests to change this object were submitted simultaneously."
    " Wait a few minutes and submit your request again."
)


class WrongPassword(AccessDenied):
    """The old password is wrong; the attempt was counted before it was judged."""

    def __init__(self, user_id: str) -> None:
        super().__init__("The old password was incorrect.", log=f"wrong old password: {user_id}")


# --- before the transaction: hashes take a tenth of a second each


@dataclass(frozen=True, slots=True)
class NewPassword:
    """The hash of a new password, and the password that it replaces, if there is one."""

    hash: str = field(repr=False)
    present: CurrentPassword | None = None


def hash_first_password(preparation: Preparation, p: Params) -> NewPassword | None:
    """Hash the password of a new login profile; raise NoSuchEntity, EntityAlreadyExists."""
    if "Password" not in p:
        return None
    with preparation.read() as call:
        _user_without_profile(call, p)
        random = call.random
    return NewPassword(preparation.run_in_thread_pool(lambda: hash_password(p["Password"], random)))


def hash_replacement(preparation: Preparation, p: Params) -> NewPassword | None:
    """Hash the password that an administrator sets; raise NoSuchEntity, PasswordPolicyViolation."""
    if "Password" not in p:
        return None
    with preparation.read() as call:
        present, random = _present(call, find_named(call, USER, p)), call.random
    hashed = preparation.run_in_thread_pool(lambda: password_change.hash_new_password(present, p["Password"], random))
    return NewPassword(hashed, present)


def judge_own_password(preparation: Preparation, p: Params) -> NewPassword:
    """Judge the caller's old password and hash the new one; raise WrongPassword, Throttling, PasswordPolicyViolation.

    The attempt is counted first: of parallel guesses, no more are judged than the limit says (THREATS J09).
    """
    with preparation.read() as call:
        present, random = _present(call, _own_user(call)), call.random
    with preparation.write() as call:
        locked = failed_attempts.reserve(call.tx, present.owner, failed_attempts.PASSWORD, call.now)
    password_change.check_lockout(locked, present.owner)

    def judge() -> str:
        if not verify_hash(present.hash, p["OldPassword"]):
            raise WrongPassword(present.owner)
        return password_change.hash_new_password(present, p["NewPassword"], random)

    try:
        return NewPassword(preparation.run_in_thread_pool(judge), present)
    except PasswordPolicyViolation:  # the old password was right
        with preparation.write() as call:
            failed_attempts.forget(call.tx, present.owner, failed_attempts.PASSWORD)
        raise


# --- operations


def create_login_profile(call: Call, p: Params) -> Result:
    """Create a user's login profile with its first password."""
    user = _user_without_profile(call, p)
    if "Password" not in p:
        raise ValidationError("Must specify a password.")
    require_strong(policy_of(call.tx, call.account_id), p["Password"], _names(call, user.name))
    at = to_milliseconds(call.now)
    row = {
        "user_id": user.id,
        "hash": _prepared(call).hash,
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
    profile = _require_profile(call.tx, user)
    if "Password" in p and not _replace(call, user, reset_required=profile.reset_required):
        raise ConcurrentModification(_CHANGED_MEANWHILE)
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


def change_password(call: Call, _p: Params) -> Result:
    """Change the caller's own password; raise WrongPassword where it was changed since the old one was judged."""
    user = _own_user(call)
    _require_profile(call.tx, user)
    if not _replace(call, user, reset_required=False):
        raise WrongPassword(user.id)
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


def _replace(call: Call, user: Entity, *, reset_required: bool) -> bool:
    """Store the prepared password; return False if another one came first."""
    new = _prepared(call)
    if new.present is None or new.present.owner != user.id:
        return False
    return password_change.write(call.tx, new.present, new.hash, call.now, reset_required=reset_required)


def _prepared(call: Call) -> NewPassword:
    if not isinstance(call.prepared, NewPassword):
        raise InternalFailure("An internal error occurred.", log="no password was prepared")
    return call.prepared


def _present(call: Call, user: Entity) -> CurrentPassword:
    present = password_change.stored_of_user(call.tx, call.account_id, user.id)
    if present is None:
        raise NoSuchEntity(f"Login Profile for User {user.name} cannot be found.")
    return present


def _user_without_profile(call: Call, p: Params) -> Entity:
    user = _user(call, p)
    if _profile(call.tx, user.id) is not None:
        raise EntityAlreadyExists(f"Login Profile for user {user.name} already exists.")
    return user


def _own_user(call: Call) -> Entity:
    if call.principal.kind is not PrincipalKind.USER:
        raise InvalidUserType("Only IAM Users can change their own password")
    return _user(call, {})


def _user(call: Call, p: Params) -> Entity:
    row = user_or_caller(call, p)
    if row is None:  # root has no login profile: its password is set by the operator
        raise NoSuchEntity(f"Login Profile for User {call.account_id} cannot be found.")
    return row


def _profile(tx: Connection, user_id: str) -> Entity | None:
    return tx.execute(select(login_profile).where(login_profile.c.user_id == user_id)).one_or_none()


def _require_profile(tx: Connection, user: Entity) -> Entity:
    profile = _profile(tx, user.id)
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
