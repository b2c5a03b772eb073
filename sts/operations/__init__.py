"""The operations of the STS: one table, from the name to the permissions that it requires and the function that runs.

The API authenticates the caller, authorizes every RequiredPermission, and only then runs the operation. Nothing here
handles HTTP, passwords or assertions: unsigned operations get the Identity that a provider has just verified.
"""

from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from sts.mint import Session, SessionKind
from sts.operations import caller, federated, roles, web_identity_token
from sts.operations.call import Outcome, StsCall, StsOperation

__all__ = ["NEED_NO_PERMISSION", "OPERATIONS", "Outcome", "StsCall", "StsOperation", "session_may_call"]


def _no_permission(_call: StsCall, _p: Params) -> tuple[RequiredPermission, ...]:
    return ()


def _on_any_resource(_call: StsCall, _p: Params) -> tuple[RequiredPermission, ...]:
    return (RequiredPermission("*"),)


OPERATIONS = {
    "AssumeRole": StsOperation(
        roles.assume_role, roles.assume_role_permissions, hide_reasons=True, plan=roles.plan_assume_role
    ),
    "AssumeRoleWithLDAPIdentity": StsOperation(
        federated.assume_role_with_ldap,
        federated.assume_role_with_ldap_permissions,
        hide_reasons=True,
        plan=federated.plan_ldap_session,
    ),
    "AssumeRoleWithSAML": StsOperation(
        federated.assume_role_with_saml,
        federated.assume_role_with_saml_permissions,
        hide_reasons=True,
        plan=federated.plan_saml_session,
    ),
    "AssumeRoleWithWebIdentity": StsOperation(
        federated.assume_role_with_web_identity,
        federated.assume_role_with_web_identity_permissions,
        hide_reasons=True,
        plan=federated.plan_web_identity_session,
    ),
    "DecodeAuthorizationMessage": StsOperation(caller.decode_authorization_message, _on_any_resource),
    "GetAccessKeyInfo": StsOperation(caller.get_access_key_info, _on_any_resource),
    "GetCallerIdentity": StsOperation(caller.get_caller_identity, _no_permission),
    "GetFederationToken": StsOperation(caller.get_federation_token, caller.get_federation_token_permissions),
    "GetWebIdentityToken": StsOperation(
        web_identity_token.get_web_identity_token, web_identity_token.get_web_identity_token_permissions
    ),
    "GetSessionToken": StsOperation(caller.get_session_token, _no_permission),
}

# Operations that every signed request may call, whatever the policies say.
NEED_NO_PERMISSION = frozenset(
    name for name, operation in OPERATIONS.items() if operation.required_permissions is _no_permission
)

# What sessions may call, whatever their policies say (STS API reference, "Compare AWS STS credentials"; THREATS B27,
# B28). Without these rules a session could renew itself without end.
_USER_SESSION_MAY = {"AssumeRole", "GetCallerIdentity"}
_ROLE_SESSION_MAY_NOT = {"GetSessionToken", "GetFederationToken"}


def session_may_call(session: Session, service: str, operation: str) -> bool:
    """Return whether sessions of this kind may call the operation, before policies are evaluated."""
    kind = session.grant.kind
    if kind is SessionKind.ROLE:
        return operation not in _ROLE_SESSION_MAY_NOT
    if kind is SessionKind.FEDERATED:
        return operation == "GetCallerIdentity"
    if service == "iam":
        return session.grant.mfa_at is not None
    return operation in _USER_SESSION_MAY
