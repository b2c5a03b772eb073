"""Immutable records of users, roles, keys and providers, with parsed policies, for request handling."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iam.arn import parse_arn
from iam.policy.document import Effect, Policy
from iam.policy.policy_set import PolicySet
from iam.policy.principals import EVERYONE, PolicyPrincipal, PrincipalType
from iam.saml.metadata import IdpMetadata

EVERY_BUCKET = "*"  # in place of the name of one: whose policy counts is not known
Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A long-term access key with its decrypted secret; ``user_id`` is None for the account's root."""

    id: str
    account_id: str
    user_id: str | None
    secret: str = field(repr=False)
    active: bool


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account; ``created`` is in milliseconds since 1970, ``guardrails`` is None if it has none."""

    id: str
    alias: str | None
    created: int
    guardrails: PolicySet | None = None


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user with its identity-based policies: inline, attached, and those of its groups."""

    id: str
    account_id: str
    name: str
    path: str
    arn: str
    tags: Tags
    boundary: PolicySet | None
    policies: PolicySet


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """A role with its policies and its trust policy, whose principals are bound to unique ids.

    ``max_session`` is in seconds, ``created`` in milliseconds since 1970; ``description`` is empty if it has none.
    """

    id: str
    account_id: str
    name: str
    path: str
    arn: str
    trust: PolicySet
    max_session: int
    tags: Tags
    boundary: PolicySet | None
    policies: PolicySet
    description: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True)
class SamlProviderRecord:
    """A SAML identity provider with its parsed metadata; ``keys`` decrypt its encrypted assertions.

    ``idp_initiated``: responses without a request from here are accepted. ``map_by_trust``: people without Role
    attributes get the roles whose trust policies allow them.
    """

    id: str
    account_id: str
    name: str
    arn: str
    metadata: IdpMetadata
    keys: tuple[RSAPrivateKey, ...] = field(repr=False)
    encryption_required: bool
    idp_initiated: bool
    map_by_trust: bool


@dataclass(frozen=True, slots=True)
class SignInClient:
    """The OAuth client for sign-in in the browser; a client without a secret is a public client."""

    client_id: str
    secret: str | None = field(repr=False)
    scopes: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class OidcProviderRecord:
    """An OpenID Connect provider; ``url`` is its issuer without https://. ``use_once``: a token is accepted once."""

    id: str
    account_id: str
    url: str
    arn: str
    client_ids: frozenset[str]
    use_once: bool
    sign_in: SignInClient | None = None


def federated_providers(trust: Iterable[Policy]) -> frozenset[str]:
    """Return kind and name of each identity provider that a trust policy allows, such as ``ldap-provider/corp``."""
    return frozenset(
        trusted_party_name(principal.value)
        for policy in trust
        for statement in policy.statements
        if statement.effect is Effect.ALLOW
        for principal in statement.principals
        if principal.principal_type is PrincipalType.PROVIDER
    )


def trusted_parties(policy: Policy) -> frozenset[str]:
    """Return whom a trust policy allows: its identity providers, and ``account/1…2`` for each account that it names.

    ``account/*`` stands for every account. A user, role or session is represented by its account.
    """
    accounts = (
        _account_of(principal)
        for statement in policy.statements
        if statement.effect is Effect.ALLOW
        # An Allow with NotPrincipal allows everybody else.
        for principal in statement.principals or (EVERYONE,)
    )
    return federated_providers((policy,)) | {f"account/{account}" for account in accounts if account}


def _account_of(principal: PolicyPrincipal) -> str:
    if principal.principal_type in {PrincipalType.ACCOUNT, PrincipalType.EVERYONE}:
        return principal.value
    has_arn = principal.principal_type in {PrincipalType.ENTITY, PrincipalType.SESSION}
    arn = parse_arn(principal.value) if has_arn else None
    return arn.account if arn else ""


def trusted_party_name(text: str) -> str:
    """Return kind and name of a trusted party, as the index has it, from that name, an ARN or a host name.

    ``account/1…2`` is returned unchanged; a host name is that of a consumer issuer such as accounts.google.com.
    """
    arn = parse_arn(text)
    if arn is not None:
        return arn.resource
    return text if "-provider/" in text or text.startswith("account/") else f"oidc-provider/{text}"
