"""The kinds of identity, as the STS knows them: one row for each way in which somebody can be proved.

A row is one half of a kind: it says how an identity becomes a session of a role. The other half, how the kind is
proved, recorded, refreshed and signed out, is `broker.signin.kinds`; both halves have the same name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from iam.arn import parse_arn
from iam.params import Params
from iam.policy.document import Effect
from iam.store.records import UserRecord
from iam.store.store import Store
from sts.authenticate import Authenticator
from sts.callers import Caller
from sts.federation.saml import requested_session
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity
from sts.operations import OPERATIONS
from sts.operations.call import StsOperation
from sts.operations.federated import Accounts, roles_of_assertion, roles_trusting_provider
from sts.trust import session_name

AnyIdentity = TypeVar("AnyIdentity", bound=Identity)


def _check_nothing(_identity: Identity) -> None:
    """Accept whatever an identity asks of its sessions: it asks nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StsIdentityKind(Generic[AnyIdentity]):
    """How identities of one type take roles.

    ``operation`` is the STS operation that gives them a role, ``run`` what that does, and ``parameters`` forms its
    parameters for a page, from an identity and the ARN of a role. ``candidate_roles`` are the ARNs of the roles
    that may be theirs, of the accounts that a provider without an account serves; the trust policies then decide.
    ``check_requested_session`` raises InvalidIdentityToken where the proof asks for a session that no role can
    give. ``brings_session_tags``: tags come with the proof, so a person cannot enter any. ``provider_type`` is the
    resource type in the ARN of its providers, such as ``saml-provider``. ``as_caller``: a principal of its account,
    which signs requests and has permissions of its own.
    """

    name: str
    identity_type: type[AnyIdentity]
    operation: str
    run: StsOperation
    parameters: Callable[[AnyIdentity, str], Params]
    candidate_roles: Callable[[AnyIdentity, Store, Accounts], tuple[str, ...]]
    check_requested_session: Callable[[AnyIdentity], object] = _check_nothing
    brings_session_tags: bool = False
    provider_type: str = ""
    as_caller: Callable[[Authenticator, AnyIdentity, int | None], Caller] | None = None


def _role_arn(_identity: Identity, role_arn: str) -> Params:
    return {"RoleArn": role_arn}


def _saml_parameters(identity: SamlIdentity, role_arn: str) -> Params:
    return {"RoleArn": role_arn, "PrincipalArn": identity.provider}


def _named_session_parameters(identity: Identity, role_arn: str) -> Params:
    return {"RoleArn": role_arn, "RoleSessionName": session_name(identity.name, identity.person)}


def _roles_trusting_user(identity: IamIdentity, store: Store, _accounts: Accounts) -> tuple[str, ...]:
    """Return the roles that trust users by name or by account; the owner of an account cannot assume a role."""
    user = None if identity.is_root else store.user(identity.subject)
    if user is None:
        return ()
    accounts, parties = _accounts_of_roles(user), (f"account/{user.account_id}", "account/*")
    return tuple(dict.fromkeys(role.arn for party in parties for role in store.roles_trusting(party, accounts)))


def _accounts_of_roles(user: UserRecord) -> frozenset[str]:
    """Return the accounts whose roles a user is offered: the user's own, and those that the user's policies name.

    Any account can write a trust policy that admits everybody. Were leave for ``*`` enough on the user's side, it could
    put roles among those of other accounts' users, under names that they know, and as many as make their pages slow.
    Such a role can still be taken by whoever names it.
    """
    statements = (one for policy in user.policies for one in policy.statements_about("sts:AssumeRole".lower()))
    named = (parse_arn(text) for one in statements if one.effect is Effect.ALLOW for text in one.resources)
    return frozenset({user.account_id}) | {arn.account for arn in named if arn is not None}


LDAP: Final = StsIdentityKind(
    name="ldap",
    identity_type=Identity,
    operation="AssumeRoleWithLDAPIdentity",
    run=OPERATIONS["AssumeRoleWithLDAPIdentity"],
    parameters=_role_arn,
    candidate_roles=roles_trusting_provider,
    provider_type="ldap-provider",
)
SAML: Final = StsIdentityKind(
    name="saml",
    identity_type=SamlIdentity,
    operation="AssumeRoleWithSAML",
    run=OPERATIONS["AssumeRoleWithSAML"],
    parameters=_saml_parameters,
    candidate_roles=roles_of_assertion,
    check_requested_session=requested_session,
    brings_session_tags=True,
    provider_type="saml-provider",
)
WEB_IDENTITY: Final = StsIdentityKind(
    name="web-identity",
    identity_type=WebIdentity,
    operation="AssumeRoleWithWebIdentity",
    run=OPERATIONS["AssumeRoleWithWebIdentity"],
    parameters=_named_session_parameters,
    candidate_roles=roles_trusting_provider,
    brings_session_tags=True,
    provider_type="oidc-provider",
)
IAM: Final = StsIdentityKind(
    name="iam",
    identity_type=IamIdentity,
    operation="AssumeRole",
    run=OPERATIONS["AssumeRole"],
    parameters=_named_session_parameters,
    candidate_roles=_roles_trusting_user,
    as_caller=Authenticator.signed_in_caller,
)

STS_IDENTITY_KINDS: Final[tuple[StsIdentityKind[Any], ...]] = (LDAP, SAML, WEB_IDENTITY, IAM)
