"""The IAM operations: a table from each operation's name to its function and the permissions it requires."""

from collections.abc import Callable
from dataclasses import replace

from iam.call import Call, Params, Result
from iam.operations import account, groups, instance_profiles, reports, roles, tags, users
from iam.operations.credentials import access_keys, mfa, password_policy, passwords
from iam.operations.federation import oidc_providers, outbound, saml_providers
from iam.operations.named_entities import (
    GROUP,
    ROLE,
    USER,
    permission_on,
    permission_on_all,
    permission_on_new,
    permission_on_policies_of,
    permission_on_renamed,
)
from iam.operations.policies import attachments, simulation
from iam.operations.policies import inline as inline_policies
from iam.operations.policies import managed as managed_policies
from iam.operations.policies.effective import on_entity
from iam.operations.required_permission import Operation, Preparation, RequiredPermission, on_any_resource

_Handler = Callable[[Call, Params], Result]
_Prepare = Callable[[Preparation, Params], object]
_PermissionRule = Callable[[Call, Params], RequiredPermission | tuple[RequiredPermission, ...]]


def _write_operation(
    run: _Handler, required_permissions: _PermissionRule, prepare: _Prepare | None = None
) -> Operation:
    return Operation(run, required_permissions, writes=True, prepare=prepare)


def _read_operation(run: _Handler, required_permissions: _PermissionRule) -> Operation:
    return Operation(run, required_permissions, writes=False)


def _require_all(*required_permissions: Callable[[Call, Params], RequiredPermission]) -> _PermissionRule:
    return lambda call, p: tuple(permission(call, p) for permission in required_permissions)


def _with_tagging(permission: Callable[[Call, Params], RequiredPermission], action: str) -> _PermissionRule:
    """Return the permission rule of a create operation: with Tags, tagging is required too ("Tag IAM resources").

    Policies grant access by tags. Without this rule, permission to create users would include any tag on them.
    """

    def required_permissions(call: Call, p: Params) -> tuple[RequiredPermission, ...]:
        creation = permission(call, p)
        return (creation, replace(creation, action=action)) if p.get("Tags") else (creation,)

    return required_permissions


_user, _group, _role = permission_on(USER), permission_on(GROUP), permission_on(ROLE)
_user_permissions, _group_permissions, _role_permissions = map(permission_on_policies_of, (USER, GROUP, ROLE))
_caller_or_user = users.on_user_or_caller
_profile = instance_profiles.on_instance_profile

_USERS = {
    "CreateUser": _write_operation(users.create_user, _with_tagging(permission_on_new(USER), "iam:TagUser")),
    "GetUser": _read_operation(users.get_user, _caller_or_user),
    "ListUsers": _read_operation(users.list_users, permission_on_all(USER)),
    "UpdateUser": _write_operation(users.update_user, _require_all(_user, permission_on_renamed(USER))),
    "DeleteUser": _write_operation(users.delete_user, _user),
    "PutUserPermissionsBoundary": _write_operation(users.put_user_permissions_boundary, _user_permissions),
    "DeleteUserPermissionsBoundary": _write_operation(users.delete_user_permissions_boundary, _user_permissions),
    "TagUser": _write_operation(tags.tag_user, _user),
    "UntagUser": _write_operation(tags.untag_user, _user),
    "ListUserTags": _read_operation(tags.list_user_tags, _user),
    "ListGroupsForUser": _read_operation(groups.list_groups_for_user, _user),
    "CreateAccessKey": _write_operation(access_keys.create_access_key, _caller_or_user),
    "ListAccessKeys": _read_operation(access_keys.list_access_keys, _caller_or_user),
    "UpdateAccessKey": _write_operation(access_keys.update_access_key, _caller_or_user),
    "DeleteAccessKey": _write_operation(access_keys.delete_access_key, _caller_or_user),
    "GetAccessKeyLastUsed": _read_operation(access_keys.get_access_key_last_used, access_keys.on_key_owner),
}

_GROUPS = {
    "CreateGroup": _write_operation(groups.create_group, permission_on_new(GROUP)),
    "GetGroup": _read_operation(groups.get_group, _group),
    "ListGroups": _read_operation(groups.list_groups, permission_on_all(GROUP)),
    "UpdateGroup": _write_operation(groups.update_group, _require_all(_group, permission_on_renamed(GROUP))),
    "DeleteGroup": _write_operation(groups.delete_group, _group),
    "AddUserToGroup": _write_operation(groups.add_user_to_group, _group),
    "RemoveUserFromGroup": _write_operation(groups.remove_user_from_group, _group),
}

_ROLES = {
    "CreateRole": _write_operation(roles.create_role, _with_tagging(permission_on_new(ROLE), "iam:TagRole")),
    "GetRole": _read_operation(roles.get_role, _role),
    "ListRoles": _read_operation(roles.list_roles, permission_on_all(ROLE)),
    "UpdateRole": _write_operation(roles.update_role, _role),
    "UpdateRoleDescription": _write_operation(roles.update_role_description, _role),
    "DeleteRole": _write_operation(roles.delete_role, _role),
    "UpdateAssumeRolePolicy": _write_operation(roles.update_assume_role_policy, _role),
    "PutRolePermissionsBoundary": _write_operation(roles.put_role_permissions_boundary, _role_permissions),
    "DeleteRolePermissionsBoundary": _write_operation(roles.delete_role_permissions_boundary, _role_permissions),
    "TagRole": _write_operation(tags.tag_role, _role),
    "UntagRole": _write_operation(tags.untag_role, _role),
    "ListRoleTags": _read_operation(tags.list_role_tags, _role),
}

_POLICIES = {
    "PutUserPolicy": _write_operation(inline_policies.put_user_policy, _user_permissions),
    "GetUserPolicy": _read_operation(inline_policies.get_user_policy, _user),
    "DeleteUserPolicy": _write_operation(inline_policies.delete_user_policy, _user_permissions),
    "ListUserPolicies": _read_operation(inline_policies.list_user_policies, _user),
    "PutGroupPolicy": _write_operation(inline_policies.put_group_policy, _group),
    "GetGroupPolicy": _read_operation(inline_policies.get_group_policy, _group),
    "DeleteGroupPolicy": _write_operation(inline_policies.delete_group_policy, _group),
    "ListGroupPolicies": _read_operation(inline_policies.list_group_policies, _group),
    "PutRolePolicy": _write_operation(inline_policies.put_role_policy, _role_permissions),
    "GetRolePolicy": _read_operation(inline_policies.get_role_policy, _role),
    "DeleteRolePolicy": _write_operation(inline_policies.delete_role_policy, _role_permissions),
    "ListRolePolicies": _read_operation(inline_policies.list_role_policies, _role),
    "CreatePolicy": _write_operation(
        managed_policies.create_policy, _with_tagging(managed_policies.on_new_policy, "iam:TagPolicy")
    ),
    "GetPolicy": _read_operation(managed_policies.get_policy, managed_policies.on_policy),
    "ListPolicies": _read_operation(managed_policies.list_policies, on_any_resource),
    "DeletePolicy": _write_operation(managed_policies.delete_policy, managed_policies.on_policy),
    "CreatePolicyVersion": _write_operation(managed_policies.create_policy_version, managed_policies.on_policy),
    "GetPolicyVersion": _read_operation(managed_policies.get_policy_version, managed_policies.on_policy),
    "ListPolicyVersions": _read_operation(managed_policies.list_policy_versions, managed_policies.on_policy),
    "DeletePolicyVersion": _write_operation(managed_policies.delete_policy_version, managed_policies.on_policy),
    "SetDefaultPolicyVersion": _write_operation(
        managed_policies.set_default_policy_version, managed_policies.on_policy
    ),
    "TagPolicy": _write_operation(tags.tag_policy, managed_policies.on_policy),
    "UntagPolicy": _write_operation(tags.untag_policy, managed_policies.on_policy),
    "ListPolicyTags": _read_operation(tags.list_policy_tags, managed_policies.on_policy),
    "AttachUserPolicy": _write_operation(attachments.attach_user_policy, _user_permissions),
    "DetachUserPolicy": _write_operation(attachments.detach_user_policy, _user_permissions),
    "ListAttachedUserPolicies": _read_operation(attachments.list_attached_user_policies, _user),
    "AttachGroupPolicy": _write_operation(attachments.attach_group_policy, _group_permissions),
    "DetachGroupPolicy": _write_operation(attachments.detach_group_policy, _group_permissions),
    "ListAttachedGroupPolicies": _read_operation(attachments.list_attached_group_policies, _group),
    "AttachRolePolicy": _write_operation(attachments.attach_role_policy, _role_permissions),
    "DetachRolePolicy": _write_operation(attachments.detach_role_policy, _role_permissions),
    "ListAttachedRolePolicies": _read_operation(attachments.list_attached_role_policies, _role),
    "ListEntitiesForPolicy": _read_operation(attachments.list_entities_for_policy, managed_policies.on_policy),
}

_SIGN_IN = {
    "CreateLoginProfile": _write_operation(
        passwords.create_login_profile, _caller_or_user, passwords.hash_first_password
    ),
    "GetLoginProfile": _read_operation(passwords.get_login_profile, _caller_or_user),
    "UpdateLoginProfile": _write_operation(passwords.update_login_profile, _user, passwords.hash_replacement),
    "DeleteLoginProfile": _write_operation(passwords.delete_login_profile, _caller_or_user),
    "ChangePassword": _write_operation(
        passwords.change_password, passwords.on_own_password, passwords.judge_own_password
    ),
    "CreateVirtualMFADevice": _write_operation(
        mfa.create_virtual_mfa_device, _with_tagging(mfa.on_new_device, "iam:TagMFADevice")
    ),
    "DeleteVirtualMFADevice": _write_operation(mfa.delete_virtual_mfa_device, mfa.on_device),
    "EnableMFADevice": _write_operation(mfa.enable_mfa_device, mfa.on_owner),
    "ResyncMFADevice": _write_operation(mfa.resync_mfa_device, mfa.on_owner),
    "DeactivateMFADevice": _write_operation(mfa.deactivate_mfa_device, mfa.on_owner),
    "ListMFADevices": _read_operation(mfa.list_mfa_devices, _caller_or_user),
    "ListVirtualMFADevices": _read_operation(mfa.list_virtual_mfa_devices, on_any_resource),
    "GetMFADevice": _read_operation(mfa.get_mfa_device, mfa.on_owner_of_device),
    "TagMFADevice": _write_operation(mfa.tag_mfa_device, mfa.on_device),
    "UntagMFADevice": _write_operation(mfa.untag_mfa_device, mfa.on_device),
    "ListMFADeviceTags": _read_operation(mfa.list_mfa_device_tags, mfa.on_device),
}

_INSTANCE_PROFILES = {
    "CreateInstanceProfile": _write_operation(
        instance_profiles.create_instance_profile,
        _with_tagging(instance_profiles.on_new_instance_profile, "iam:TagInstanceProfile"),
    ),
    "GetInstanceProfile": _read_operation(instance_profiles.get_instance_profile, _profile),
    "ListInstanceProfiles": _read_operation(
        instance_profiles.list_instance_profiles, instance_profiles.on_instance_profiles
    ),
    "ListInstanceProfilesForRole": _read_operation(instance_profiles.list_instance_profiles_for_role, _role),
    "DeleteInstanceProfile": _write_operation(instance_profiles.delete_instance_profile, _profile),
    "AddRoleToInstanceProfile": _write_operation(
        instance_profiles.add_role_to_instance_profile, _require_all(_profile, instance_profiles.on_passed_role)
    ),
    "RemoveRoleFromInstanceProfile": _write_operation(instance_profiles.remove_role_from_instance_profile, _profile),
    "TagInstanceProfile": _write_operation(instance_profiles.tag_instance_profile, _profile),
    "UntagInstanceProfile": _write_operation(instance_profiles.untag_instance_profile, _profile),
    "ListInstanceProfileTags": _read_operation(instance_profiles.list_instance_profile_tags, _profile),
}

_ACCOUNT = {
    "CreateAccountAlias": _write_operation(account.create_account_alias, on_any_resource),
    "DeleteAccountAlias": _write_operation(account.delete_account_alias, on_any_resource),
    "ListAccountAliases": _read_operation(account.list_account_aliases, on_any_resource),
    "GetAccountSummary": _read_operation(account.get_account_summary, on_any_resource),
    "SetSecurityTokenServicePreferences": _write_operation(
        account.set_security_token_service_preferences, on_any_resource
    ),
    "GetAccountPasswordPolicy": _read_operation(
        password_policy.get_account_password_policy, passwords.on_password_policy
    ),
    "UpdateAccountPasswordPolicy": _write_operation(password_policy.update_account_password_policy, on_any_resource),
    "DeleteAccountPasswordPolicy": _write_operation(password_policy.delete_account_password_policy, on_any_resource),
    "GetAccountAuthorizationDetails": _read_operation(reports.get_account_authorization_details, on_any_resource),
    "GenerateCredentialReport": _write_operation(reports.generate_credential_report, on_any_resource),
    "GetCredentialReport": _read_operation(reports.get_credential_report, on_any_resource),
}

_SIMULATION = {
    "SimulateCustomPolicy": _read_operation(simulation.simulate_custom_policy, on_any_resource),
    "SimulatePrincipalPolicy": _read_operation(simulation.simulate_principal_policy, on_entity("PolicySourceArn")),
    "GetContextKeysForCustomPolicy": _read_operation(simulation.get_context_keys_for_custom_policy, on_any_resource),
    "GetContextKeysForPrincipalPolicy": _read_operation(
        simulation.get_context_keys_for_principal_policy, on_entity("PolicySourceArn")
    ),
    "ListPoliciesGrantingServiceAccess": _read_operation(
        simulation.list_policies_granting_service_access, on_entity("Arn")
    ),
}

_saml, _oidc = saml_providers.on_provider, oidc_providers.on_provider

_PROVIDERS = {
    "CreateSAMLProvider": _write_operation(
        saml_providers.create_saml_provider,
        _with_tagging(saml_providers.on_new_provider, "iam:TagSAMLProvider"),
        saml_providers.prepare_document,
    ),
    "GetSAMLProvider": _read_operation(saml_providers.get_saml_provider, _saml),
    "ListSAMLProviders": _read_operation(saml_providers.list_saml_providers, saml_providers.on_providers),
    "UpdateSAMLProvider": _write_operation(saml_providers.update_saml_provider, _saml, saml_providers.prepare_document),
    "DeleteSAMLProvider": _write_operation(saml_providers.delete_saml_provider, _saml),
    "TagSAMLProvider": _write_operation(tags.tag_saml_provider, _saml),
    "UntagSAMLProvider": _write_operation(tags.untag_saml_provider, _saml),
    "ListSAMLProviderTags": _read_operation(tags.list_saml_provider_tags, _saml),
    "CreateOpenIDConnectProvider": _write_operation(
        oidc_providers.create_oidc_provider,
        _with_tagging(oidc_providers.on_new_provider, "iam:TagOpenIDConnectProvider"),
        oidc_providers.contact_issuer,
    ),
    "GetOpenIDConnectProvider": _read_operation(oidc_providers.get_oidc_provider, _oidc),
    "ListOpenIDConnectProviders": _read_operation(oidc_providers.list_oidc_providers, oidc_providers.on_providers),
    "DeleteOpenIDConnectProvider": _write_operation(oidc_providers.delete_oidc_provider, _oidc),
    "AddClientIDToOpenIDConnectProvider": _write_operation(oidc_providers.add_client_id, _oidc),
    "RemoveClientIDFromOpenIDConnectProvider": _write_operation(oidc_providers.remove_client_id, _oidc),
    "UpdateOpenIDConnectProviderThumbprint": _write_operation(oidc_providers.update_thumbprints, _oidc),
    "TagOpenIDConnectProvider": _write_operation(tags.tag_oidc_provider, _oidc),
    "UntagOpenIDConnectProvider": _write_operation(tags.untag_oidc_provider, _oidc),
    "ListOpenIDConnectProviderTags": _read_operation(tags.list_oidc_provider_tags, _oidc),
    "EnableOutboundWebIdentityFederation": _write_operation(outbound.enable, outbound.on_account),
    "DisableOutboundWebIdentityFederation": _write_operation(outbound.disable, outbound.on_account),
    "GetOutboundWebIdentityFederationInfo": _read_operation(outbound.info, outbound.on_account),
}

OPERATIONS = _USERS | _GROUPS | _ROLES | _POLICIES | _SIGN_IN | _INSTANCE_PROFILES | _ACCOUNT | _SIMULATION | _PROVIDERS
