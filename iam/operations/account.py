"""The account's alias, summary and preferences. Source: IAM API Reference, GetAccountSummary."""

from sqlalchemy import ColumnElement, Table, func, select, update
from sqlalchemy.exc import IntegrityError

from iam.accounts import check_alias
from iam.call import Call, Params, Result
from iam.errors import EntityAlreadyExists, NoSuchEntity
from iam.operations.credentials import security_keys
from iam.operations.named_entities import paginate_list
from iam.store.schema import (
    access_key,
    account,
    group,
    instance_profile,
    mfa_device,
    oidc_provider,
    policy,
    policy_version,
    role,
    root_login,
    saml_provider,
    user,
)

# Server and signing certificates are not supported; AWS's quotas are returned.
_CERTIFICATES = {
    "ServerCertificates": 0,
    "ServerCertificatesQuota": 20,
    "SigningCertificatesPerUserQuota": 2,
    "AccountSigningCertificatesPresent": 0,
}
_VERSIONS_IN_USE = 10000  # AWS's PolicyVersionsInUseQuota
_TOKEN_VERSIONS = {"v1Token": 1, "v2Token": 2}
_NEWEST_TOKEN = 2


def create_account_alias(call: Call, p: Params) -> Result:
    """Set the account's alias for its sign-in URL, replacing the previous one."""
    alias = p["AccountAlias"]
    check_alias(alias)
    try:
        _change(call, alias=alias)
    except IntegrityError as error:
        raise EntityAlreadyExists(f"The account alias {alias} already exists.") from error
    return {}


def delete_account_alias(call: Call, p: Params) -> Result:
    """Delete the account's alias; raise NoSuchEntity if the account has a different one."""
    if _alias(call) != p["AccountAlias"]:
        raise NoSuchEntity(f"The account alias {p['AccountAlias']} cannot be found.")
    _change(call, alias=None)
    return {}


def list_account_aliases(call: Call, p: Params) -> Result:
    """Return the account's alias, if it has one."""
    alias = _alias(call)
    shown, paging = paginate_list([alias] if alias else [], p, str)
    return {"AccountAliases": shown, **paging}


def set_security_token_service_preferences(call: Call, p: Params) -> Result:
    """Store the token version, which GetAccountSummary returns; tokens here always have the form of version 2."""
    _change(call, token_version=_TOKEN_VERSIONS[p["GlobalEndpointTokenVersion"]])
    return {}


def get_account_summary(call: Call, _p: Params) -> Result:
    """Return the number of each kind of IAM entity, and the quotas."""
    return {"SummaryMap": {**_CERTIFICATES, **_quotas(call), **_entities(call), **_root(call)}}


def _quotas(call: Call) -> dict[str, int]:
    limits = call.limits
    return {
        "UsersQuota": limits.users_per_account,
        "GroupsQuota": limits.groups_per_account,
        "RolesQuota": limits.roles_per_account,
        "PoliciesQuota": limits.policies_per_account,
        "InstanceProfilesQuota": limits.instance_profiles_per_account,
        "GroupsPerUserQuota": limits.groups_per_user,
        "AccessKeysPerUserQuota": limits.access_keys_per_user,
        "AttachedPoliciesPerUserQuota": limits.attached_policies_per_user,
        "AttachedPoliciesPerGroupQuota": limits.attached_policies_per_group,
        "AttachedPoliciesPerRoleQuota": limits.attached_policies_per_role,
        "UserPolicySizeQuota": limits.inline_policies_size_user,
        "GroupPolicySizeQuota": limits.inline_policies_size_group,
        "RolePolicySizeQuota": limits.inline_policies_size_role,
        "PolicySizeQuota": limits.managed_policy_size,
        "AssumeRolePolicySizeQuota": limits.trust_policy_size,
        "VersionsPerPolicyQuota": limits.versions_per_policy,
        "PolicyVersionsInUseQuota": _VERSIONS_IN_USE,
    }


def _entities(call: Call) -> dict[str, int]:
    versions = select(func.count()).select_from(policy_version.join(policy))
    passkeys = len(security_keys.passkey_owner_ids(call.tx, call.account_id))
    return {
        "Users": _count(call, user),
        "Groups": _count(call, group),
        "Roles": _count(call, role),
        "Policies": _count(call, policy),
        "InstanceProfiles": _count(call, instance_profile),
        "PolicyVersionsInUse": call.tx.scalar(versions.where(policy.c.account_id == call.account_id)) or 0,
        "MFADevices": _count(call, mfa_device) + passkeys,
        "MFADevicesInUse": _count(call, mfa_device, mfa_device.c.enabled.is_not(None)) + passkeys,
        "Providers": _count(call, saml_provider) + _count(call, oidc_provider),
    }


def _root(call: Call) -> dict[str, int]:
    stored = call.tx.scalar(select(account.c.token_version).where(account.c.id == call.account_id))
    devices = _count(call, mfa_device, mfa_device.c.root.is_(True))
    passkeys = len(security_keys.keys_of(call.tx, call.account_id, None))
    return {
        "AccountAccessKeysPresent": min(1, _count(call, access_key, access_key.c.user_id.is_(None))),
        "AccountMFAEnabled": min(1, devices + passkeys),
        "AccountPasswordPresent": _count(call, root_login),
        "GlobalEndpointTokenVersion": stored or _NEWEST_TOKEN,
    }


def _count(call: Call, table: Table, *conditions: ColumnElement[bool]) -> int:
    in_account = table.c.account_id == call.account_id
    return call.tx.scalar(select(func.count()).select_from(table).where(in_account, *conditions)) or 0


def _alias(call: Call) -> str | None:
    return call.tx.scalar(select(account.c.alias).where(account.c.id == call.account_id))


def _change(call: Call, **values: object) -> None:
    call.tx.execute(update(account).where(account.c.id == call.account_id).values(values))
