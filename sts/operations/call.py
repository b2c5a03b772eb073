"""What every operation of the STS is given, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from iam.arn import Random
from iam.errors import AccessDenied, InternalFailure
from iam.operations.required_permission import RequiredPermission
from iam.params import Params, Result
from iam.store.store import Store
from sts.callers import Caller
from sts.federation.jwt_issuer import JwtIssuer
from sts.identity import Identity, SamlIdentity, WebIdentity
from sts.mint import Session
from sts.token import Sealer


@dataclass(frozen=True, slots=True)
class StsCall:
    """One call: exactly one of ``caller`` (it signed) and ``identity`` (a provider proved it) is there.

    ``mfa_at`` is set when this very request brought a valid MFA code, in milliseconds, or somebody signed in to the
    pages has given one there; ``keeps_mfa``: a session of a role then knows of it too.
    """

    store: Store
    sealer: Sealer
    random: Random
    now: datetime
    caller: Caller | None = None
    identity: Identity | None = None
    mfa_at: int | None = None
    jwt_issuer: JwtIssuer | None = None
    region: str | None = None  # that the signature names
    role_session_keeps_mfa: bool = False

    @property
    def session_mfa_at(self) -> int | None:
        """Return the moment of MFA that a role's session keeps: by AssumeRole alone none does, as in AWS."""
        return self.mfa_at if self.role_session_keeps_mfa else None

    @property
    def issuer(self) -> JwtIssuer:
        """Return our own issuer."""
        if self.jwt_issuer is None:
            raise InternalFailure("An internal error occurred.", log="no issuer was given")
        return self.jwt_issuer

    @property
    def signer(self) -> Caller:
        """Return the caller of a signed operation."""
        if self.caller is None:
            raise AccessDenied("This operation needs a signature.")
        return self.caller

    @property
    def proven_identity(self) -> Identity:
        """Return the identity of an operation that a provider vouches for."""
        if self.identity is None:
            raise AccessDenied("This operation needs a proof of identity.")
        return self.identity

    @property
    def saml_identity(self) -> SamlIdentity:
        """Return the identity of an operation that a SAML identity provider vouches for."""
        if not isinstance(self.identity, SamlIdentity):
            raise AccessDenied("This operation needs a SAML assertion.")
        return self.identity

    @property
    def web_identity(self) -> WebIdentity:
        """Return the identity of an operation that a web identity provider vouches for."""
        if not isinstance(self.identity, WebIdentity):
            raise AccessDenied("This operation needs a web identity token.")
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
    required_permissions: Callable[[StsCall, Params], tuple[RequiredPermission, ...]]
    hide_reasons: bool = False
