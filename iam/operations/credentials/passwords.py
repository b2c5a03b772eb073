"""Passwords of users. Source: IAM API Reference, CreateLoginProfile and its kin, ChangePassword."""

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
    """The old password is wrong; whoever rolls the transaction back counts it: ``count_wrong_password``."""

    def __init__(self, user_id: str) -> None:
        super().__init__("The old password was incorrect.", log=f"wrong old password: {user_id}")
        self.user_id = user_id


# --- operations


def create_login_profile(call: Call, p: Params) -> Result:
    """Give a user a first password."""
    who = _user(call, p)
    if _profile(call.tx, who.id) is not None:
        raise EntityAlreadyExists(f"Login Profile for user {who.name} already exists.")
    if "Password" not in p:
        raise ValidationError("Must specify a password.")
    require_strong(policy_of(call.tx, call.account_id), p["Password"], _names(call, who.name))
    at = to_milliseconds(call.now)
    row = {
        "user_id": who.id,
        "hash": hash_password(p["Password"], call.random),
        "previous": "[]",
        "created": at,
        "changed": at,
        "reset_required": p.get("PasswordResetRequired", False),
    }
    call.tx.execute(login_profile.insert().values(row))
    return {"LoginProfile": _shape(who.name, at, reset_required=row["reset_required"])}


def get_login_profile(call: Call, p: Params) -> Result:
    """Tell that a user has a password, and since when."""
    who = _user(call, p)
    found = _require_profile(call.tx, who)
    return {"LoginProfile": _shape(who.name, found.created, reset_required=found.reset_required)}


def update_login_profile(call: Call, p: Params) -> Result:
    """Set another user's password, or ask them for a new one at the next sign-in."""
    who = find_named(call, USER, p)
    found = _require_profile(call.tx, who, for_update=True)
    if "Password" in p:
        _replace(call, who.name, found, p["Password"], reset_required=found.reset_required)
    if "PasswordResetRequired" in p:
        changed = {"reset_required": p["PasswordResetRequired"]}
        call.tx.execute(update(login_profile).where(login_profile.c.user_id == who.id).values(changed))
    return {}


def delete_login_profile(call: Call, p: Params) -> Result:
    """Take a user's password away; access keys stay."""
    who = _user(call, p)
    _require_profile(call.tx, who)
    call.tx.execute(delete(login_profile).where(login_profile.c.user_id == who.id))
    failed_attempts.forget(call.tx, who.id, failed_attempts.PASSWORD)
    return {}


def change_password(call: Call, p: Params) -> Result:
    """Let a user replace the own password; raise WrongPassword, and Throttling after five of these."""
    if call.principal.kind is not PrincipalKind.USER:
        raise InvalidUserType("Only IAM Users can change their own password")
    user_id = call.principal.entity_id
    who = _user(call, {})
    found = _require_profile(call.tx, who, for_update=True)
    locked = failed_attempts.seconds_locked(call.tx, user_id, failed_attempts.PASSWORD, call.now)
    if locked:
        raise Throttling("Too many wrong passwords. Try again later.", retry_after=locked, log=f"locked: {user_id}")
    if not verify_hash(found.hash, p["OldPassword"]):
        raise WrongPassword(user_id)
    _replace(call, who.name, found, p["NewPassword"], reset_required=False)
    failed_attempts.forget(call.tx, user_id, failed_attempts.PASSWORD)
    return {}


def on_own_password(call: Call, _p: Params) -> RequiredPermission:
    """Ask about the caller; where the account's policy lets users change their password, this is the permission."""
    permission = on_user_or_caller(call, {})
    own_policy = self_service(call.tx, call.principal)
    if own_policy is None:
        return permission
    return RequiredPermission(permission.resource, permission.keys, trust=own_policy, account_id=call.account_id)


def on_password_policy(call: Call, _p: Params) -> RequiredPermission:
    """Ask to read the account's policy; AllowUsersToChangePassword lets each user read it as well."""
    own_policy = self_service(call.tx, call.principal)
    if own_policy is None:
        return RequiredPermission("*")
    return RequiredPermission("*", trust=own_policy, account_id=call.account_id)


def self_service(tx: Connection, principal: Principal) -> PolicySet | None:
    """Return the policy that lets a user change its own password, where the account's password policy says so."""
    if principal.kind is not PrincipalKind.USER or not policy_of(tx, principal.account_id).AllowUsersToChangePassword:
        return None
    return self_service_policy(principal.entity_id)


# AllowUsersToChangePassword as a policy on each user, who is the one principal that it is bound to.
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
    """Return what lets one user change its own password; an explicit deny still wins."""
    return PolicySet((_SELF_SERVICE.bind({_SELF: user_id}),))


# --- one password


def _replace(call: Call, user_name: str, found: Entity, password: str, *, reset_required: bool) -> None:
    policy = policy_of(call.tx, call.account_id)
    require_strong(policy, password, _names(call, user_name))
    earlier = [found.hash, *json.loads(found.previous)][:LONGEST_PASSWORD_HISTORY]
    if any(verify_hash(one, password) for one in earlier[: policy.PasswordReusePrevention or 0]):
        raise PasswordPolicyViolation(REUSE_MESSAGE)
    new = {
        "hash": hash_password(password, call.random),
        "previous": json.dumps(earlier),
        "changed": to_milliseconds(call.now),
        "reset_required": reset_required,
    }
    call.tx.execute(update(login_profile).where(login_profile.c.user_id == found.user_id).values(new))


def _user(call: Call, p: Params) -> Entity:
    found = user_or_caller(call, p)
    if found is None:  # root's way in is no login profile
        raise NoSuchEntity(f"Login Profile for User {call.account_id} cannot be found.")
    return found


def _profile(tx: Connection, user_id: str, *, for_update: bool = False) -> Entity | None:
    query = select(login_profile).where(login_profile.c.user_id == user_id)
    # Locked, so that guesses at one password come one after the other.
    return tx.execute(query.with_for_update() if for_update else query).one_or_none()


def _require_profile(tx: Connection, who: Entity, *, for_update: bool = False) -> Entity:
    found = _profile(tx, who.id, for_update=for_update)
    if found is None:
        raise NoSuchEntity(f"Login Profile for User {who.name} cannot be found.")
    return found


def _names(call: Call, user_name: str) -> tuple[str | None, ...]:
    alias = call.tx.execute(select(account.c.alias).where(account.c.id == call.account_id)).scalar_one_or_none()
    return user_name, call.account_id, alias


def _shape(user_name: str, created: int, *, reset_required: object) -> Result:
    return {
        "UserName": user_name,
        "CreateDate": from_milliseconds(created),
        "PasswordResetRequired": bool(reset_required),
    }
