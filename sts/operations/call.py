"""What every operation of the STS is given, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from iam.arn import Random
from iam.errors import AccessDenied, InternalFailure
from iam.operations.required_permission import RequiredPermission
from iam.params import Params, Result
from iam.store.records import RoleRecord
from iam.store.store import Store
from sts.callers import Caller
from sts.federation.jwt_issuer import JwtIssuer
from sts.identity import Identity
from sts.lineage import Parent
from sts.mint import Grant, Session
from sts.provider_accounts import ProviderAccounts
from sts.token import Sealer

AnyIdentity = TypeVar("AnyIdentity", bound=Identity)


@dataclass(frozen=True, slots=True)
class StsCall:
    """One call: exactly one of ``caller`` (it signed) and ``identity`` (a provider proved it) is there.

    ``mfa_at`` is set when this very request brought a valid MFA code, in milliseconds, or somebody signed in to the
    pages has given one there; ``role_session_keeps_mfa``: a session of a role then has it too.
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
    provider_accounts: ProviderAccounts = field(default_factory=ProviderAccounts)

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
        """Return the identity that a provider proved for this operation."""
        if self.identity is None:
            raise AccessDenied("This operation needs a proof of identity.")
        return self.identity

    @property
    def parent(self) -> Parent | None:
        """Return the session that a new one is made from.

        The caller's, the browser session of the identity, or the session that asked for the identity's token.
        """
        session = self.caller.session if self.caller else None
        if session is not None:
            return Parent(session.lineage, session.id)
        if self.identity is not None and self.identity.lineage.generations:
            return Parent(self.identity.lineage, self.identity.session_id)
        return None

    def identity_of(self, identity_type: type[AnyIdentity]) -> AnyIdentity:
        """Return the proven identity of an operation that takes one type of identity alone; raise AccessDenied."""
        if not isinstance(self.identity, identity_type):
            raise AccessDenied("This operation needs a proof of identity.")
        return self.identity


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operation answers; ``session`` where it minted one, and ``arn`` is that session's principal."""

    result: Result
    session: Session | None = None
    arn: str = field(default="")


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """A session of a role, decided and not minted: nobody has credentials of it."""

    grant: Grant
    role: RoleRecord
    seconds: int


@dataclass(frozen=True, slots=True)
class StsOperation:
    """One row of the table. ``hide_reasons``: a denial never says why, nor whether the role exists.

    ``plan`` is what an operation that begins a session of a role would mint.
    """

    run: Callable[[StsCall, Params], Outcome]
    required_permissions: Callable[[StsCall, Params], tuple[RequiredPermission, ...]]
    hide_reasons: bool = False
    plan: Callable[[StsCall, Params], PlannedSession] | None = None
