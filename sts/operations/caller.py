"""GetCallerIdentity, GetSessionToken, GetFederationToken, GetAccessKeyInfo and DecodeAuthorizationMessage.

Source: STS API Reference.
"""

from iam.arn import account_of_access_key, federated_user_arn
from iam.errors import ValidationError
from iam.operations.required_permission import RequiredPermission
from iam.params import Params, Result
from iam.principal import PrincipalKind
from sts.denials import decode
from sts.mint import Grant, SessionKind
from sts.operations.call import Outcome, StsCall
from sts.operations.session_inputs import (
    add_packed_policy_size,
    check_tags,
    credentials_member,
    mint_session,
    policy_arns,
    session_policy,
    session_request_keys,
    session_tags,
)

TOKEN_DEFAULT = 43_200  # seconds, the default of both operations
ROOT_MAX = 3600  # seconds


def get_caller_identity(call: StsCall, _p: Params) -> Outcome:
    """Return the caller; needs no permission, so it works under an explicit Deny as well, as in AWS."""
    principal = call.signer.principal
    return Outcome({"UserId": principal.user_id, "Account": principal.account_id, "Arn": principal.arn})


def get_session_token(call: StsCall, p: Params) -> Outcome:
    """Mint a session of the calling user or root user; needs no permission (STS API reference, "GetSessionToken")."""
    caller = call.signer
    principal = caller.principal
    grant = Grant(
        kind=SessionKind.USER,
        account_id=principal.account_id,
        entity_id=principal.entity_id,
        name=principal.name,
        provider="iam",
        subject=principal.entity_id,
        mfa_at=call.mfa_at,
    )
    minted = mint_session(call, grant, _token_seconds(p, principal.kind))
    return Outcome({"Credentials": credentials_member(minted)}, minted.session, principal.arn)


def get_federation_token_permissions(call: StsCall, p: Params) -> tuple[RequiredPermission, ...]:
    """Require sts:GetFederationToken on the federated user, and sts:TagSession if tags are passed."""
    check_tags(p)
    arn = federated_user_arn(call.signer.principal.account_id, p["Name"])
    keys = session_request_keys(p, None)
    required_permissions = (RequiredPermission(arn, keys),)
    return (
        (*required_permissions, RequiredPermission(arn, keys, action="sts:TagSession"))
        if p.get("Tags")
        else required_permissions
    )


def get_federation_token(call: StsCall, p: Params) -> Outcome:
    """Mint the session of a federated user, limited by the session policies; without any it has no permissions."""
    principal = call.signer.principal
    grant = Grant(
        kind=SessionKind.FEDERATED,
        account_id=principal.account_id,
        entity_id=principal.entity_id,
        name=p["Name"],
        provider="iam",
        subject=principal.entity_id,
        policy=session_policy(p),
        policy_arns=policy_arns(call, p, principal.account_id),
        tags=session_tags(p),
    )
    minted = mint_session(call, grant, _token_seconds(p, principal.kind))
    arn = federated_user_arn(principal.account_id, p["Name"])
    result: Result = {
        "Credentials": credentials_member(minted),
        "FederatedUser": {"FederatedUserId": f"{principal.account_id}:{p['Name']}", "Arn": arn},
    }
    return Outcome(add_packed_policy_size(result, minted), minted.session, arn)


def get_access_key_info(_call: StsCall, p: Params) -> Outcome:
    """Return the account in an access key id, whether or not the key exists."""
    account_id = account_of_access_key(p["AccessKeyId"])
    if account_id is None:
        raise ValidationError(f"Invalid access key ID: {p['AccessKeyId']}")
    return Outcome({"Account": account_id})


def decode_authorization_message(call: StsCall, p: Params) -> Outcome:
    """Return the decoded reasons of a denial in the caller's account."""
    account_id = call.signer.principal.account_id
    return Outcome({"DecodedMessage": decode(p["EncodedMessage"], account_id, sealer=call.sealer)})


def _token_seconds(p: Params, kind: PrincipalKind) -> int:
    """Return the duration; for root at most an hour, whatever was requested (API reference, DurationSeconds)."""
    seconds: int = p.get("DurationSeconds", TOKEN_DEFAULT)
    return min(seconds, ROOT_MAX) if kind is PrincipalKind.ROOT else seconds
