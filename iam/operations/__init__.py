"""Every operation of the IAM API that is built: one table, from the name to what it does and what it asks leave for."""

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
    about,
    about_all,
    about_new,
    about_permissions,
    about_renamed,
)
from iam.operations.policies import attachments, simulation
from iam.operations.policies import inline as inline_policies
from iam.operations.policies import managed as managed_policies
from iam.operations.policies.effective import on_entity
from iam.operations.required_permission import Ask, Operation, anything

_Run = Callable[[Call, Params], Result]
_Asks = Callable[[Call, Params], Ask | tuple[Ask, ...]]


def _change(run: _Run, asks: _Asks) -> Operation:
    return Operation(run, asks, writes=True)


def _read(run: _Run, asks: _Asks) -> Operation:
    return Operation(run, asks, writes=False)


def _both(*asks: Callable[[Call, Params], Ask]) -> _Asks:
    return lambda call, p: tuple(ask(call, p) for ask in asks)


def _tagged(ask: Callable[[Call, Params], Ask], action: str) -> _Asks:
    """Return what asks to make a thing, and, where tags come along, to tag it (IAM User Guide, "Tag IAM resources").

    Policies trust tags: who may make users, but not tag them, must not make one with any tag he likes.
    """

    def asks(call: Call, p: Params) -> tuple[Ask, ...]:
        made = ask(call, p)
        return (made, replace(made, action=action)) if p.get("Tags") else (made,)

    return asks


_user, _group, _role = about(USER), about(GROUP), about(ROLE)
_user_permissions, _group_permissions, _role_permissions = map(about_permissions, (USER, GROUP, ROLE))
_caller_or_user = users.on_user_or_caller
_profile = instance_profiles.on_instance_profile

_USERS = {
    "CreateUser": _change(users.create_user, _tagged(about_new(USER), "iam:TagUser")),
    "GetUser": _read(users.get_user, _caller_or_user),
    "ListUsers": _read(users.list_users, about_all(USER)),
    "UpdateUser": _change(users.update_user, _both(_user, about_renamed(USER))),
    "DeleteUser": _change(users.delete_user, _user),
    "PutUserPermissionsBoundary": _change(users.put_user_permissions_boundary, _user_permissions),
    "DeleteUserPermissionsBoundary": _change(users.delete_user_permissions_boundary, _user_permissions),
    "TagUser": _change(tags.tag_user, _user),
    "UntagUser": _change(tags.untag_user, _user),
    "ListUserTags": _read(tags.list_user_tags, _user),
    "ListGroupsForUser": _read(groups.list_groups_for_user, _user),
    "CreateAccessKey": _change(access_keys.create_access_key, _caller_or_user),
    "ListAccessKeys": _read(access_keys.list_access_keys, _caller_or_user),
    "UpdateAccessKey": _change(access_keys.update_access_key, _caller_or_user),
    "DeleteAccessKey": _change(access_keys.delete_access_key, _caller_or_user),
    "GetAccessKeyLastUsed": _read(access_keys.get_access_key_last_used, access_keys.on_key_owner),
}

_GROUPS = {
    "CreateGroup": _change(groups.create_group, about_new(GROUP)),
    "GetGroup": _read(groups.get_group, _group),
    "ListGroups": _read(groups.list_groups, about_all(GROUP)),
    "UpdateGroup": _change(groups.update_group, _both(_group, about_renamed(GROUP))),
    "DeleteGroup": _change(groups.delete_group, _group),
    "AddUserToGroup": _change(groups.add_user_to_group, _group),
    "RemoveUserFromGroup": _change(groups.remove_user_from_group, _group),
}

_ROLES = {
    "CreateRole": _change(roles.create_role, _tagged(about_new(ROLE), "iam:TagRole")),
    "GetRole": _read(roles.get_role, _role),
    "ListRoles": _read(roles.list_roles, about_all(ROLE)),
    "UpdateRole": _change(roles.update_role, _role),
    "UpdateRoleDescription": _change(roles.update_role_description, _role),
    "DeleteRole": _change(roles.delete_role, _role),
    "UpdateAssumeRolePolicy": _change(roles.update_assume_role_policy, _role),
    "PutRolePermissionsBoundary": _change(roles.put_role_permissions_boundary, _role_permissions),
    "DeleteRolePermissionsBoundary": _change(roles.delete_role_permissions_boundary, _role_permissions),
    "TagRole": _change(tags.tag_role, _role),
    "UntagRole": _change(tags.untag_role, _role),
    "ListRoleTags": _read(tags.list_role_tags, _role),
}

_POLICIES = {
    "PutUserPolicy": _change(inline_policies.put_user_policy, _user_permissions),
    "GetUserPolicy": _read(inline_policies.get_user_policy, _user),
    "DeleteUserPolicy": _change(inline_policies.delete_user_policy, _user_permissions),
    "ListUserPolicies": _read(inline_policies.list_user_policies, _user),
    "PutGroupPolicy": _change(inline_policies.put_group_policy, _group),
    "GetGroupPolicy": _read(inline_policies.get_group_policy, _group),
    "DeleteGroupPolicy": _change(inline_policies.delete_group_policy, _group),
    "ListGroupPolicies": _read(inline_policies.list_group_policies, _group),
    "PutRolePolicy": _change(inline_policies.put_role_policy, _role_permissions),
    "GetRolePolicy": _read(inline_policies.get_role_policy, _role),
    "DeleteRolePolicy": _change(inline_policies.delete_role_policy, _role_permissions),
    "ListRolePolicies": _read(inline_policies.list_role_policies, _role),
    "CreatePolicy": _change(managed_policies.create_policy, _tagged(managed_policies.on_new_policy, "iam:TagPolicy")),
    "GetPolicy": _read(managed_policies.get_policy, managed_policies.on_policy),
    "ListPolicies": _read(managed_policies.list_policies, anything),
    "DeletePolicy": _change(managed_policies.delete_policy, managed_policies.on_policy),
    "CreatePolicyVersion": _change(managed_policies.create_policy_version, managed_policies.on_policy),
    "GetPolicyVersion": _read(managed_policies.get_policy_version, managed_policies.on_policy),
    "ListPolicyVersions": _read(managed_policies.list_policy_versions, managed_policies.on_policy),
    "DeletePolicyVersion": _change(managed_policies.delete_policy_version, managed_policies.on_policy),
    "SetDefaultPolicyVersion": _change(managed_policies.set_default_policy_version, managed_policies.on_policy),
    "TagPolicy": _change(tags.tag_policy, managed_policies.on_policy),
    "UntagPolicy": _change(tags.untag_policy, managed_policies.on_policy),
    "ListPolicyTags": _read(tags.list_policy_tags, managed_policies.on_policy),
    "AttachUserPolicy": _change(attachments.attach_user_policy, _user_permissions),
    "DetachUserPolicy": _change(attachments.detach_user_policy, _user_permissions),
    "ListAttachedUserPolicies": _read(attachments.list_attached_user_policies, _user),
    "AttachGroupPolicy": _change(attachments.attach_group_policy, _group_permissions),
    "DetachGroupPolicy": _change(attachments.detach_group_policy, _group_permissions),
    "ListAttachedGroupPolicies": _read(attachments.list_attached_group_policies, _group),
    "AttachRolePolicy": _change(attachments.attach_role_policy, _role_permissions),
    "DetachRolePolicy": _change(attachments.detach_role_policy, _role_permissions),
    "ListAttachedRolePolicies": _read(attachments.list_attached_role_policies, _role),
    "ListEntitiesForPolicy": _read(attachments.list_entities_for_policy, managed_policies.on_policy),
}

_SIGN_IN = {
    "CreateLoginProfile": _change(passwords.create_login_profile, _caller_or_user),
    "GetLoginProfile": _read(passwords.get_login_profile, _caller_or_user),
    "UpdateLoginProfile": _change(passwords.update_login_profile, _user),
    "DeleteLoginProfile": _change(passwords.delete_login_profile, _caller_or_user),
    "ChangePassword": _change(passwords.change_password, passwords.on_own_password),
    "CreateVirtualMFADevice": _change(mfa.create_virtual_mfa_device, _tagged(mfa.on_new_device, "iam:TagMFADevice")),
    "DeleteVirtualMFADevice": _change(mfa.delete_virtual_mfa_device, mfa.on_device),
    "EnableMFADevice": _change(mfa.enable_mfa_device, mfa.on_owner),
    "ResyncMFADevice": _change(mfa.resync_mfa_device, mfa.on_owner),
    "DeactivateMFADevice": _change(mfa.deactivate_mfa_device, mfa.on_owner),
    "ListMFADevices": _read(mfa.list_mfa_devices, _caller_or_user),
    "ListVirtualMFADevices": _read(mfa.list_virtual_mfa_devices, anything),
    "GetMFADevice": _read(mfa.get_mfa_device, mfa.on_owner_of_device),
    "TagMFADevice": _change(mfa.tag_mfa_device, mfa.on_device),
    "UntagMFADevice": _change(mfa.untag_mfa_device, mfa.on_device),
    "ListMFADeviceTags": _read(mfa.list_mfa_device_tags, mfa.on_device),
}

_INSTANCE_PROFILES = {
    "CreateInstanceProfile": _change(
        instance_profiles.create_instance_profile,
        _tagged(instance_profiles.on_new_instance_profile, "iam:TagInstanceProfile"),
    ),
    "GetInstanceProfile": _read(instance_profiles.get_instance_profile, _profile),
    "ListInstanceProfiles": _read(instance_profiles.list_instance_profiles, instance_profiles.on_instance_profiles),
    "ListInstanceProfilesForRole": _read(instance_profiles.list_instance_profiles_for_role, _role),
    "DeleteInstanceProfile": _change(instance_profiles.delete_instance_profile, _profile),
    "AddRoleToInstanceProfile": _change(
        instance_profiles.add_role_to_instance_profile, _both(_profile, instance_profiles.passing_role)
    ),
    "RemoveRoleFromInstanceProfile": _change(instance_profiles.remove_role_from_instance_profile, _profile),
    "TagInstanceProfile": _change(instance_profiles.tag_instance_profile, _profile),
    "UntagInstanceProfile": _change(instance_profiles.untag_instance_profile, _profile),
    "ListInstanceProfileTags": _read(instance_profiles.list_instance_profile_tags, _profile),
}

_ACCOUNT = {
    "CreateAccountAlias": _change(account.create_account_alias, anything),
    "DeleteAccountAlias": _change(account.delete_account_alias, anything),
    "ListAccountAliases": _read(account.list_account_aliases, anything),
    "GetAccountSummary": _read(account.get_account_summary, anything),
    "SetSecurityTokenServicePreferences": _change(account.set_security_token_service_preferences, anything),
    "GetAccountPasswordPolicy": _read(password_policy.get_account_password_policy, passwords.on_password_policy),
    "UpdateAccountPasswordPolicy": _change(password_policy.update_account_password_policy, anything),
    "DeleteAccountPasswordPolicy": _change(password_policy.delete_account_password_policy, anything),
    "GetAccountAuthorizationDetails": _read(reports.get_account_authorization_details, anything),
    "GenerateCredentialReport": _change(reports.generate_credential_report, anything),
    "GetCredentialReport": _read(reports.get_credential_report, anything),
}

_SIMULATION = {
    "SimulateCustomPolicy": _read(simulation.simulate_custom_policy, anything),
    "SimulatePrincipalPolicy": _read(simulation.simulate_principal_policy, on_entity("PolicySourceArn")),
    "GetContextKeysForCustomPolicy": _read(simulation.get_context_keys_for_custom_policy, anything),
    "GetContextKeysForPrincipalPolicy": _read(
        simulation.get_context_keys_for_principal_policy, on_entity("PolicySourceArn")
    ),
    "ListPoliciesGrantingServiceAccess": _read(simulation.list_policies_granting_service_access, on_entity("Arn")),
}

_saml, _oidc = saml_providers.on_provider, oidc_providers.on_provider

_PROVIDERS = {
    "CreateSAMLProvider": _change(
        saml_providers.create_saml_provider, _tagged(saml_providers.on_new_provider, "iam:TagSAMLProvider")
    ),
    "GetSAMLProvider": _read(saml_providers.get_saml_provider, _saml),
    "ListSAMLProviders": _read(saml_providers.list_saml_providers, saml_providers.on_providers),
    "UpdateSAMLProvider": _change(saml_providers.update_saml_provider, _saml),
    "DeleteSAMLProvider": _change(saml_providers.delete_saml_provider, _saml),
    "TagSAMLProvider": _change(tags.tag_saml_provider, _saml),
    "UntagSAMLProvider": _change(tags.untag_saml_provider, _saml),
    "ListSAMLProviderTags": _read(tags.list_saml_provider_tags, _saml),
    "CreateOpenIDConnectProvider": _change(
        oidc_providers.create_oidc_provider,
        _tagged(oidc_providers.on_new_provider, "iam:TagOpenIDConnectProvider"),
    ),
    "GetOpenIDConnectProvider": _read(oidc_providers.get_oidc_provider, _oidc),
    "ListOpenIDConnectProviders": _read(oidc_providers.list_oidc_providers, oidc_providers.on_providers),
    "DeleteOpenIDConnectProvider": _change(oidc_providers.delete_oidc_provider, _oidc),
    "AddClientIDToOpenIDConnectProvider": _change(oidc_providers.add_client_id, _oidc),
    "RemoveClientIDFromOpenIDConnectProvider": _change(oidc_providers.remove_client_id, _oidc),
    "UpdateOpenIDConnectProviderThumbprint": _change(oidc_providers.update_thumbprints, _oidc),
    "TagOpenIDConnectProvider": _change(tags.tag_oidc_provider, _oidc),
    "UntagOpenIDConnectProvider": _change(tags.untag_oidc_provider, _oidc),
    "ListOpenIDConnectProviderTags": _read(tags.list_oidc_provider_tags, _oidc),
    "EnableOutboundWebIdentityFederation": _change(outbound.enable, outbound.on_account),
    "DisableOutboundWebIdentityFederation": _change(outbound.disable, outbound.on_account),
    "GetOutboundWebIdentityFederationInfo": _read(outbound.info, outbound.on_account),
}

OPERATIONS = _USERS | _GROUPS | _ROLES | _POLICIES | _SIGN_IN | _INSTANCE_PROFILES | _ACCOUNT | _SIMULATION | _PROVIDERS
