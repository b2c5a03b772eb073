"""The initial data of the demo: one account, an administrator, and roles that trust groups of the directory."""

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from broker.demo.people import BASE
from iam.accounts import create_account, new_root_key
from iam.arn import Random, iam_arn, root_arn
from iam.call import Call, Params, Result
from iam.credentials.password_policy import policy_of, random_password
from iam.credentials.root_login import root_login_of, set_root_login
from iam.inventory.roles import all_roles
from iam.limits import Limits
from iam.operations import OPERATIONS
from iam.operations.required_permission import Preparation
from iam.policy.document import Policy
from iam.principal import Principal, PrincipalKind
from iam.store.schema import account, login_profile, user
from iam.store.vault import Vault

ACCOUNT_ID: Final = "111122223333"  # an example id of AWS's documentation
ALIAS: Final = "demo"
ADMIN: Final = "admin"
ROOT_EMAIL: Final = "root@demo.example"
DIRECTORY: Final = "demo"
REPORTS: Final = "reports"  # the resource that is an HTTP API of the demo


@dataclass(frozen=True, slots=True)
class DemoRole:
    """A role, the group that it trusts and the AWS managed policy that is attached to it."""

    name: str
    group: str
    policy: str
    description: str

    @property
    def arn(self) -> str:
        """Return the ARN of the role in the demo account."""
        return iam_arn(ACCOUNT_ID, "role", self.name)

    @property
    def trusted_groups(self) -> tuple[str, ...]:
        """Return the distinguished names of the groups that its trust policy admits."""
        return (f"cn={self.group},ou=groups,{BASE}",)


ROLES: Final = (
    DemoRole("Administrator", "platform", "AdministratorAccess", "The platform team runs this account"),
    DemoRole("Developer", "engineering", "PowerUserAccess", "Engineers use all but IAM"),
    DemoRole("SecurityAudit", "security", "IAMReadOnlyAccess", "The security team reads who may do what"),
    DemoRole("ReadOnly", "staff", "ReadOnlyAccess", "Everybody on the staff looks, through nested groups"),
    DemoRole("Archive", "contractors", "AmazonS3ReadOnlyAccess", "Contractors read what is stored"),
)


READER: Final = "ReadOnly"
# API Gateway Developer Guide, "Control access for invoking an API": REGION:ACCOUNT:API/STAGE/METHOD/PATH.
_READ_REPORTS: Final[Mapping[str, object]] = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": f"arn:aws:execute-api:*:{ACCOUNT_ID}:{REPORTS}/*/GET/*",
    },
}


@dataclass(frozen=True, slots=True)
class ListedRole:
    """A role of the account, and the distinguished names of the groups that its trust policy admits."""

    arn: str
    trusted_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownKey:
    """An access key; the secret is None where it was shown before."""

    access_key_id: str
    secret_access_key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The credentials of the root user and the administrator; a password is None where it was shown before.

    ``root_email`` is None for an account that was created before sign-in pages existed.
    """

    root: ShownKey
    admin: ShownKey
    root_email: str | None = None
    root_password: str | None = field(default=None, repr=False)
    admin_password: str | None = field(default=None, repr=False)


def seed(
    tx: Connection, *, now: datetime, random: Random, vault: Vault, limits: Limits, new_keys: bool = False
) -> SeedResult:
    """Create the demo account if it does not exist; ``new_keys`` replaces the keys and passwords of one that does."""
    root = Principal(
        PrincipalKind.ROOT, ACCOUNT_ID, root_arn(ACCOUNT_ID), ACCOUNT_ID, root_arn(ACCOUNT_ID), ACCOUNT_ID, "root"
    )
    call = Call(tx, root, ACCOUNT_ID, now, random, vault, limits)
    if tx.execute(select(account.c.id).where(account.c.id == ACCOUNT_ID)).one_or_none() is None:
        new = create_account(tx, account_id=ACCOUNT_ID, alias=ALIAS, now=now, random=random, vault=vault)
        return _with_passwords(call, ShownKey(new.root_access_key_id, new.root_secret), _create_users_and_roles(call))
    if new_keys:
        return _replace_keys(call)
    root_login = root_login_of(tx, ACCOUNT_ID)
    root_key, admin_key = _first_key(call, {}), _first_key(call, {"UserName": ADMIN})
    return SeedResult(ShownKey(root_key, None), ShownKey(admin_key, None), root_login.email if root_login else None)


def listed_roles(tx: Connection) -> tuple[ListedRole, ...]:
    """Return the roles of the demo account as they are now, by name."""
    found = all_roles(tx, (ACCOUNT_ID,), {DIRECTORY: ()})
    return tuple(ListedRole(role.arn, tuple(_groups_of(role.trust))) for role in found)


def _groups_of(trust: Policy) -> Iterator[str]:
    """Yield the groups that an Allow of a trust policy names."""
    for statement in trust.statements:
        for condition in () if statement.denies else statement.conditions:
            if condition.key == "ldap:groups" and "Not" not in condition.operator:
                yield from condition.values


def _with_passwords(call: Call, root: ShownKey, admin: ShownKey) -> SeedResult:
    """Set new passwords of both users, and return them with the keys."""
    passwords = [random_password(policy_of(call.tx, ACCOUNT_ID), call.random) for _ in range(2)]
    set_root_login(
        call.tx, ACCOUNT_ID, ROOT_EMAIL, passwords[0], now=call.now, random=call.random, reset_required=False
    )
    is_admin = (user.c.account_id == ACCOUNT_ID, user.c.name == ADMIN)
    has_profile = call.tx.execute(select(login_profile.c.user_id).join(user).where(*is_admin)).first()
    _run(call, "UpdateLoginProfile" if has_profile else "CreateLoginProfile", UserName=ADMIN, Password=passwords[1])
    return SeedResult(root, admin, ROOT_EMAIL, *passwords)


def _create_users_and_roles(call: Call) -> ShownKey:
    _run(call, "CreateUser", UserName=ADMIN)
    _run(call, "AttachUserPolicy", UserName=ADMIN, PolicyArn=_managed("AdministratorAccess"))
    for role in ROLES:
        _run(
            call,
            "CreateRole",
            RoleName=role.name,
            Description=role.description,
            AssumeRolePolicyDocument=json.dumps(_trust(role)),
        )
        _run(call, "AttachRolePolicy", RoleName=role.name, PolicyArn=_managed(role.policy))
    _run(call, "PutRolePolicy", RoleName=READER, PolicyName="ReadReports", PolicyDocument=json.dumps(_READ_REPORTS))
    return _new_admin_key(call)


def _trust(role: DemoRole) -> Mapping[str, object]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": iam_arn(ACCOUNT_ID, "ldap-provider/", DIRECTORY, "")},
                "Action": "sts:AssumeRoleWithLDAPIdentity",
                "Condition": {"ForAnyValue:StringEquals": {"ldap:groups": list(role.trusted_groups)}},
            }
        ],
    }


def _managed(name: str) -> str:
    return f"arn:aws:iam::aws:policy/{name}"


def _replace_keys(call: Call) -> SeedResult:
    for owner in ({}, {"UserName": ADMIN}):
        for key_id in _key_ids(call, owner):
            _run(call, "DeleteAccessKey", AccessKeyId=key_id, **owner)
    new = new_root_key(call.tx, ACCOUNT_ID, now=call.now, random=call.random, vault=call.vault)
    return _with_passwords(call, ShownKey(new.access_key_id, new.secret), _new_admin_key(call))


def _new_admin_key(call: Call) -> ShownKey:
    key = _run(call, "CreateAccessKey", UserName=ADMIN)["AccessKey"]
    return ShownKey(key["AccessKeyId"], key["SecretAccessKey"])


def _key_ids(call: Call, owner: Params) -> list[str]:
    return [key["AccessKeyId"] for key in _run(call, "ListAccessKeys", **owner)["AccessKeyMetadata"]]


def _first_key(call: Call, owner: Params) -> str:
    """Return the id of the first key of a user, or an empty text where all keys were deleted."""
    return next(iter(_key_ids(call, owner)), "")


def _run(call: Call, operation: str, **parameters: object) -> Result:
    """Run an IAM operation without authorization: the operator of the machine runs this, not a caller of the API."""
    entry = OPERATIONS[operation]
    if entry.prepare is not None:
        # Nobody else uses the database yet: what is prepared may hold the transaction.
        preparation = Preparation(call.now, lambda work: work(), lambda: nullcontext(call), lambda: nullcontext(call))
        call = replace(call, prepared=entry.prepare(preparation, parameters))
    return entry.run(call, parameters)
