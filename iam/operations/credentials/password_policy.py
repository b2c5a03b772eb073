"""The password policy of an account. Source: IAM API Reference, UpdateAccountPasswordPolicy."""

import json
from dataclasses import asdict

from sqlalchemy import update

from iam.call import Call, Params, Result
from iam.credentials.password_policy import DefaultPasswordPolicy, PasswordPolicy, policy_of
from iam.errors import NoSuchEntity
from iam.store.schema import account


def get_account_password_policy(call: Call, _p: Params) -> Result:
    """Return the account's own policy; raise NoSuchEntity if it uses the default policy."""
    policy = policy_of(call.tx, call.account_id)
    if isinstance(policy, DefaultPasswordPolicy):
        raise _not_found(call)
    members = {name: value for name, value in asdict(policy).items() if value is not None}
    return {"PasswordPolicy": members | {"ExpirePasswords": policy.MaxPasswordAge is not None}}


def update_account_password_policy(call: Call, p: Params) -> Result:
    """Replace the account's policy; omitted parameters get their default values."""
    _store(call, json.dumps(asdict(PasswordPolicy(**p))))
    return {}


def delete_account_password_policy(call: Call, _p: Params) -> Result:
    """Delete the account's own policy; raise NoSuchEntity if it uses the default policy."""
    if isinstance(policy_of(call.tx, call.account_id), DefaultPasswordPolicy):
        raise _not_found(call)
    _store(call, None)
    return {}


def _store(call: Call, policy: str | None) -> None:
    call.tx.execute(update(account).where(account.c.id == call.account_id).values(password_policy=policy))


def _not_found(call: Call) -> NoSuchEntity:
    return NoSuchEntity(f"The Password Policy with domain name {call.account_id} cannot be found.")
