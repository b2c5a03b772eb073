"""The operations of the STS: what each asks leave for, and what it then does.

The gate authenticates, decides every Ask, and only then runs the operation. Nothing here sees HTTP, a password or an
assertion: for the unsigned operations the gate hands in the Identity that a provider has just proved.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from iam.arn import Random, account_of_access_key, assumed_role_arn, federated_user_arn, parse_arn
from iam.call import Params, Result
from iam.errors import AccessDenied, ValidationError
from iam.operations.ask import Ask
from iam.policy.document import Policy, PolicyKind
from iam.principal import PrincipalKind
from iam.store import RoleRecord, Store
from sts.authenticate import Caller
from sts.denials import decode
from sts.identity import Identity
from sts.mint import Grant, Minted, Session, SessionKind, Tags, mint
from sts.token import Sealer
from sts.trust import ldap_keys, session_name

ROLE_DEFAULT = 3600
CHAINED_MAX = 3600
TOKEN_DEFAULT = 43_200
ROOT_MAX = 3600
_POLICY_MAX = 2048
_POLICY_ARNS_MAX = 10

# Stands in for the trust policy of a role that does not exist, so that nobody can tell the two apart (THREATS B09).
_NOBODY = Policy.parse(
    '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Principal":"*","Action":"sts:*"}}',
    PolicyKind.TRUST,
    label="no such role",
)


@dataclass(frozen=True, slots=True)
class StsCall:
    """One call: exactly one of ``caller`` (it signed) and ``identity`` (a provider proved it) is there.

    ``mfa_at`` is set when this very request brought a valid MFA code, in milliseconds.
    """

    store: Store
    sealer: Sealer
    random: Random
    now: datetime
    caller: Caller | None = None
    identity: Identity | None = None
    mfa_at: int | None = None

    @property
    def signer(self) -> Caller:
        """Return the caller of a signed operation."""
        if self.caller is None:
            raise AccessDenied("This operation needs a signature.")
        return self.caller

    @property
    def proved(self) -> Identity:
        """Return the identity of an operation that a provider vouches for."""
        if self.identity is None:
            raise AccessDenied("This operation needs a proof of identity.")
        return self.identity


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation answers; ``session`` where it minted one, and ``arn`` is that session's principal."""

    result: Result
    session: Session | None = None
    arn: str = field(default="")


@dataclass(frozen=True, slots=True)
class StsOperation:
    """One row of the table. ``opaque``: a denial never says why, nor whether the role exists."""

    run: Callable[[StsCall, Params], Outcome]
    asks: Callable[[StsCall, Params], tuple[Ask, ...]]
    opaque: bool = False


# --- AssumeRole -------------------------------------------------------------------------------------------------------


def assume_role_asks(call: StsCall, p: Params) -> tuple[Ask, ...]:
    """Ask the role's trust policy for sts:AssumeRole, and for tags and source identity that come along."""
    caller = call.signer
    if caller.principal.kind is PrincipalKind.ROOT:
        raise AccessDenied("Roles may not be assumed by root accounts.")
    _check_tags(p)
    inherited = _inherited(caller)
    if {key.lower() for key, _ in inherited} & {tag["Key"].lower() for tag in p.get("Tags", ())}:
        raise AccessDenied(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from"
            " the calling session.",
        )
    keys = _request_keys(p, p["RoleSessionName"])
    if "ExternalId" in p:
        keys["sts:externalid"] = (p["ExternalId"],)
    return _role_asks(
        call, p["RoleArn"], "sts:AssumeRole", keys, tags=bool(p.get("Tags") or inherited), source=_source(call, p)
    )


def assume_role(call: StsCall, p: Params) -> Outcome:
    """Mint a session of a role for a caller that its trust policy admits (STS API reference, "AssumeRole")."""
    caller = call.signer
    role = _existing(call, p["RoleArn"])
    session = caller.session
    chained = session is not None and session.grant.kind is SessionKind.ROLE
    seconds = _role_seconds(p, role, chained=chained)
    inherited = _inherited(caller)
    own = _tags(p)
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=p["RoleSessionName"],
        provider=session.grant.provider if session else "iam",
        subject=session.grant.subject if session else caller.principal.entity_id,
        policy=_session_policy(p),
        policy_arns=_policy_arns(call, p, role.account_id),
        tags=inherited + own,
        transitive=tuple(key for key, _ in inherited) + tuple(p.get("TransitiveTagKeys", ())),
        source_identity=_source(call, p),
        chained=chained,
    )
    return _role_outcome(call, grant, role, seconds)


# --- AssumeRoleWithLDAPIdentity ---------------------------------------------------------------------------------------


def assume_role_with_ldap_asks(call: StsCall, p: Params) -> tuple[Ask, ...]:
    """Ask the trust policy of the role that the gate has put into the parameters."""
    _check_tags(p)
    keys = _request_keys(p, session_name(call.proved.name)) | ldap_keys(call.proved)
    return _role_asks(
        call,
        p["RoleArn"],
        "sts:AssumeRoleWithLDAPIdentity",
        keys,
        tags=bool(p.get("Tags")),
        source=p.get("SourceIdentity"),
    )


def assume_role_with_ldap(call: StsCall, p: Params) -> Outcome:
    """Mint a session of a role for a person whom the directory has just proved."""
    identity = call.proved
    role = _existing(call, p["RoleArn"])
    grant = Grant(
        kind=SessionKind.ROLE,
        account_id=role.account_id,
        entity_id=role.id,
        name=session_name(identity.name),
        provider=identity.provider,
        subject=identity.subject,
        policy=_session_policy(p),
        policy_arns=_policy_arns(call, p, role.account_id),
        tags=_tags(p),
        transitive=tuple(p.get("TransitiveTagKeys", ())),
        source_identity=p.get("SourceIdentity"),
        claims=(
            ("ldap:username", identity.name),
            ("ldap:sub", identity.subject),
            ("aws:federatedprovider", f"arn:aws:iam::{role.account_id}:{identity.provider}"),
        ),
    )
    outcome = _role_outcome(call, grant, role, _role_seconds(p, role, chained=False))
    outcome.result["Provider"] = f"arn:aws:iam::{role.account_id}:{identity.provider}"
    outcome.result["Subject"] = identity.subject
    return outcome


# --- the caller's own sessions ----------------------------------------------------------------------------------------


def get_caller_identity(call: StsCall, _p: Params) -> Outcome:
    """Say who signed; needs no permission, so that it also works under an explicit deny."""
    principal = call.signer.principal
    return Outcome({"UserId": principal.user_id, "Account": principal.account_id, "Arn": principal.arn})


def get_session_token(call: StsCall, p: Params) -> Outcome:
    """Mint a session of the calling user or root itself; needs no permission (STS API reference, "GetSessionToken")."""
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
    minted = mint(grant, _token_seconds(p, principal.kind), now=call.now, random=call.random, sealer=call.sealer)
    return Outcome({"Credentials": _credentials(minted)}, minted.session, principal.arn)


def get_federation_token_asks(call: StsCall, p: Params) -> tuple[Ask, ...]:
    """Ask for sts:GetFederationToken on the federated user, and sts:TagSession where tags come along."""
    _check_tags(p)
    arn = federated_user_arn(call.signer.principal.account_id, p["Name"])
    keys = _request_keys(p, None)
    asks = (Ask(arn, keys),)
    return (*asks, Ask(arn, keys, action="sts:TagSession")) if p.get("Tags") else asks


def get_federation_token(call: StsCall, p: Params) -> Outcome:
    """Mint a federated user's session, which the passed policies narrow; without any it may do nothing by itself."""
    principal = call.signer.principal
    grant = Grant(
        kind=SessionKind.FEDERATED,
        account_id=principal.account_id,
        entity_id=principal.entity_id,
        name=p["Name"],
        provider="iam",
        subject=principal.entity_id,
        policy=_session_policy(p),
        policy_arns=_policy_arns(call, p, principal.account_id),
        tags=_tags(p),
    )
    minted = mint(grant, _token_seconds(p, principal.kind), now=call.now, random=call.random, sealer=call.sealer)
    arn = federated_user_arn(principal.account_id, p["Name"])
    result: Result = {
        "Credentials": _credentials(minted),
        "FederatedUser": {"FederatedUserId": f"{principal.account_id}:{p['Name']}", "Arn": arn},
    }
    return Outcome(_with_size(result, minted), minted.session, arn)


def get_access_key_info(_call: StsCall, p: Params) -> Outcome:
    """Return the account that an access key id names; it says nothing of whether the key exists."""
    account_id = account_of_access_key(p["AccessKeyId"])
    if account_id is None:
        raise ValidationError(f"Invalid access key ID: {p['AccessKeyId']}")
    return Outcome({"Account": account_id})


def decode_authorization_message(call: StsCall, p: Params) -> Outcome:
    """Open the reasons of a denial for somebody who may read them."""
    account_id = call.signer.principal.account_id
    return Outcome({"DecodedMessage": decode(p["EncodedMessage"], account_id, sealer=call.sealer)})


def _nothing(_call: StsCall, _p: Params) -> tuple[Ask, ...]:
    return ()


def _star(_call: StsCall, _p: Params) -> tuple[Ask, ...]:
    return (Ask("*"),)


OPERATIONS = {
    "AssumeRole": StsOperation(assume_role, assume_role_asks, opaque=True),
    "AssumeRoleWithLDAPIdentity": StsOperation(assume_role_with_ldap, assume_role_with_ldap_asks, opaque=True),
    "DecodeAuthorizationMessage": StsOperation(decode_authorization_message, _star),
    "GetAccessKeyInfo": StsOperation(get_access_key_info, _star),
    "GetCallerIdentity": StsOperation(get_caller_identity, _nothing),
    "GetFederationToken": StsOperation(get_federation_token, get_federation_token_asks),
    "GetSessionToken": StsOperation(get_session_token, _nothing),
}

# What a session may not call whatever its policies say (STS API reference, "Compare AWS STS credentials";
# THREATS B27, B28).
_USER_SESSION_MAY = {"AssumeRole", "GetCallerIdentity"}
_ROLE_SESSION_MAY_NOT = {"GetSessionToken", "GetFederationToken"}


def session_may_call(session: Session, service: str, operation: str) -> bool:
    """Return whether sessions of this kind may call the operation at all."""
    kind = session.grant.kind
    if kind is SessionKind.ROLE:
        return operation not in _ROLE_SESSION_MAY_NOT
    if kind is SessionKind.FEDERATED:
        return operation == "GetCallerIdentity"
    if service == "iam":
        return session.grant.mfa_at is not None
    return operation in _USER_SESSION_MAY


# --- what the operations share ----------------------------------------------------------------------------------------


def _role_asks(
    call: StsCall,
    role_arn: str,
    action: str,
    keys: dict[str, tuple[str, ...]],
    *,
    tags: bool,
    source: str | None,
) -> tuple[Ask, ...]:
    arn = parse_arn(role_arn)
    if arn is None:
        raise ValidationError(f"{role_arn} is invalid")
    role = call.store.role(role_arn)
    trust = role.trust if role else _NOBODY
    if role:
        keys |= {f"aws:resourcetag/{key.lower()}": (value,) for key, value in role.tags}
        keys |= {f"iam:resourcetag/{key.lower()}": (value,) for key, value in role.tags}
    if source:
        keys["sts:sourceidentity"] = (source,)
    actions = [action] + ["sts:TagSession"] * tags + ["sts:SetSourceIdentity"] * bool(source)
    return tuple(Ask(role_arn, keys, name, trust, arn.account) for name in actions)


def _existing(call: StsCall, role_arn: str) -> RoleRecord:
    role = call.store.role(role_arn)
    if role is None:
        raise AccessDenied(f"Not authorized to assume {role_arn}", log="the role went away after the decision")
    return role


def _request_keys(p: Params, name: str | None) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {
        f"aws:requesttag/{tag['Key'].lower()}": (tag["Value"],) for tag in p.get("Tags", ())
    }
    if keys:
        keys["aws:tagkeys"] = tuple(tag["Key"] for tag in p["Tags"])
    if p.get("TransitiveTagKeys"):
        keys["sts:transitivetagkeys"] = tuple(p["TransitiveTagKeys"])
    if "DurationSeconds" in p:
        keys["sts:durationseconds"] = (str(p["DurationSeconds"]),)
    if name is not None:
        keys["sts:rolesessionname"] = (name,)
    return keys


def _check_tags(p: Params) -> None:
    """Raise ValidationError for tags that the model lets through (IAM User Guide, "Pass session tags in AWS STS")."""
    keys = [tag["Key"] for tag in p.get("Tags", ())]
    if len({key.lower() for key in keys}) != len(keys):
        raise ValidationError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise ValidationError("Tag keys that begin with aws: are reserved for internal use.")
    if not set(p.get("TransitiveTagKeys", ())) <= set(keys):
        raise ValidationError("The specified transitive tag key must be included in the requested tags.")


def _tags(p: Params) -> Tags:
    return tuple((tag["Key"], tag["Value"]) for tag in p.get("Tags", ()))


def _inherited(caller: Caller) -> Tags:
    """Return the transitive tags of the calling session, which its chained sessions keep."""
    if caller.session is None:
        return ()
    transitive = set(caller.session.grant.transitive)
    return tuple(pair for pair in caller.session.grant.tags if pair[0] in transitive)


def _source(call: StsCall, p: Params) -> str | None:
    """Return the source identity: the one that was set first stays over all hops."""
    asked: str | None = p.get("SourceIdentity")
    session = call.signer.session
    known = session.grant.source_identity if session else None
    if known is not None and asked not in (None, known):
        raise ValidationError("The source identity is already set for this assume role session")
    return known or asked


def _role_seconds(p: Params, role: RoleRecord, *, chained: bool) -> int:
    seconds: int = p.get("DurationSeconds", ROLE_DEFAULT)
    if seconds > role.max_session:
        raise ValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
    if chained and seconds > CHAINED_MAX:
        raise ValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
        )
    return seconds


def _token_seconds(p: Params, kind: PrincipalKind) -> int:
    """Return the term; an account owner's is an hour at most, whatever was asked (API reference, DurationSeconds)."""
    seconds: int = p.get("DurationSeconds", TOKEN_DEFAULT)
    return min(seconds, ROOT_MAX) if kind is PrincipalKind.ROOT else seconds


def _session_policy(p: Params) -> str | None:
    policy: str | None = p.get("Policy")
    if policy is None:
        return None
    if len(policy) > _POLICY_MAX:
        raise ValidationError(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint:"
            f" Member must have length less than or equal to {_POLICY_MAX}",
        )
    Policy.parse(policy, PolicyKind.SESSION)
    return policy


def _policy_arns(call: StsCall, p: Params, account_id: str) -> tuple[str, ...]:
    arns = tuple(item["arn"] for item in p.get("PolicyArns", ()) if "arn" in item)
    if len(arns) > _POLICY_ARNS_MAX:
        raise ValidationError(
            "1 validation error detected: Value at 'policyArns' failed to satisfy constraint:"
            f" Member must have length less than or equal to {_POLICY_ARNS_MAX}",
        )
    _check_policy_arns(call.store, arns, account_id)
    return arns


def _check_policy_arns(store: Store, arns: Iterable[str], account_id: str) -> None:
    for text in arns:
        arn = parse_arn(text)
        if arn is None or arn.account not in ("aws", account_id) or store.managed_policy(text) is None:
            raise ValidationError(f"The policy {text} does not exist or belongs to another account.")


def _role_outcome(call: StsCall, grant: Grant, role: RoleRecord, seconds: int) -> Outcome:
    minted = mint(grant, seconds, now=call.now, random=call.random, sealer=call.sealer)
    arn = assumed_role_arn(role.account_id, role.name, grant.name)
    result: Result = {
        "Credentials": _credentials(minted),
        "AssumedRoleUser": {"AssumedRoleId": f"{role.id}:{grant.name}", "Arn": arn},
    }
    if grant.source_identity is not None:
        result["SourceIdentity"] = grant.source_identity
    return Outcome(_with_size(result, minted), minted.session, arn)


def _with_size(result: Result, minted: Minted) -> Result:
    if minted.packed_policy_size is not None:
        result["PackedPolicySize"] = minted.packed_policy_size
    return result


def _credentials(minted: Minted) -> Result:
    credentials = minted.credentials
    return {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
        "Expiration": credentials.expiration,
    }
