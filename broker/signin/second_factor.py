"""Who must give a second factor before taking a role, and whether a code that a program sends is one.

Every way in asks here: the pages before they start a session, and the gate before it gives a role to anybody whom a
provider has proved. What the pages demand would otherwise be skipped by calling the STS with the password alone.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from broker.api.request_state import RequestState
from broker.signin.kinds import IdentityKinds
from broker.signin.throttle import SignInThrottle, throttle_source
from iam.clock import to_milliseconds
from iam.credentials import factors
from iam.errors import AccessDenied, Throttling
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Identity

MISSING = "A second factor is required. Sign in on the sign-in page."
CODE_MISSING = "MultiFactorAuthentication failed, must provide a one time pass code (TokenCode)"
ConsumeCode = Callable[[Connection, str, str, datetime, Vault], bool]
INVALID_CODE = "MultiFactorAuthentication failed with invalid MFA one time pass code."
NO_APP = (
    "MultiFactorAuthentication failed, you have no authenticator app. Sign in on the sign-in page and set one up on the"
    " page Security."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactorRule:
    """Decides who must give a second factor; both settings name providers as ``Identity.provider_in_settings``.

    ``demanding`` (pages.second_factor) are the providers whose people must have one, ``exempt``
    (pages.second_factor_exempt) those whose people may take roles by a program without it.
    """

    store: Store
    vault: Vault
    throttle: SignInThrottle
    kinds: IdentityKinds
    demanding: Container[str]
    exempt: Container[str]

    def is_demanded(self, identity: Identity) -> bool:
        """Return whether a setting demands a second factor of this identity; it always is of root users."""
        return identity.is_root or identity.provider_in_settings in self.demanding

    def is_asked(self, identity: Identity) -> bool:
        """Return whether whoever signs in as this identity must give a second factor: demanded, or enrolled here."""
        asks_enrolled = self.kinds.of(identity).broker.asks_for_enrolled_mfa
        return self.is_demanded(identity) or (asks_enrolled and self.has_factor(identity))

    def has_factor(self, identity: Identity) -> bool:
        """Return whether a second factor of this identity is enrolled here."""
        with self.store.read() as tx:
            return bool(factors.factors_of(tx, identity.person))

    def is_missing(self, identity: Identity, mfa_at: int | None) -> bool:
        """Return whether no role may be given yet; ``mfa_at`` is when the second factor was given, if it was."""
        if mfa_at is not None or identity.provider_in_settings in self.exempt:
            return False
        return self.is_asked(identity)

    def has_app(self, person: str) -> bool:
        """Return whether a person has an authenticator app, whose codes programs can send; a passkey is none."""
        with self.store.read() as tx:
            return any(factor.kind == factors.TOTP for factor in factors.factors_of(tx, person))

    def check(self, identity: Identity, mfa_at: int | None, *, by_code: bool = False) -> None:
        """Raise AccessDenied where a second factor is missing; ``by_code``: the request could have had a code."""
        if self.is_missing(identity, mfa_at):
            message = self._how_to_prove(identity.person) if by_code else MISSING
            raise AccessDenied(message, log="a second factor is required")

    def _how_to_prove(self, person: str) -> str:
        return CODE_MISSING if self.has_app(person) else NO_APP

    def verify_code(self, state: RequestState, serial: str | None, code: str | None) -> int:
        """Use up a code of an authenticator app and return when it was given, in milliseconds; raise AccessDenied.

        ``serial`` names one app by its ID, as the JSON of ``/security`` has it; without it any app of the person will
        do. Wrong codes count together with those on the pages.
        """
        if code is None:
            raise AccessDenied(CODE_MISSING, log="a serial number without a code")
        person = state.proven_identity.person
        if not self.consume(state, person, code, partial(factors.consume_totp, factor_id=serial)):
            raise AccessDenied(INVALID_CODE if self.has_app(person) else NO_APP)
        return to_milliseconds(state.now)

    def consume(self, state: RequestState, person: str, code: str, consume: ConsumeCode) -> bool:
        """Return whether a code is valid, and use it up; a wrong one counts. Raise Throttling while none is judged.

        ``consume`` uses the code up in a transaction that commits whatever the result.
        """
        source = throttle_source(state.request.counted_address)
        with self.throttle.attempt(f"mfa:{person}", source, code, state.now) as attempt:
            with self.store.write(bump_revision=False) as tx:
                locked = factors.seconds_locked(tx, person, state.now)
                good = not locked and consume(tx, person, code, state.now, self.vault)
            if locked:
                raise Throttling("Too many tries.", retry_after=locked)
            (attempt.succeed if good else attempt.fail)()
        return good
