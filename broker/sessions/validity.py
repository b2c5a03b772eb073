"""Whether a browser session is still valid: the person, the provider and the password are unchanged (THREATS H03).

One check for each kind of identity; the table of kinds names it.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.sessions.browser import BrowserSession, PendingLogin
from broker.signin.kinds import IdentityKinds
from iam.clock import CLOCK_SKEW
from iam.credentials.factors import factor_versions
from iam.credentials.password_version import mark_of, stored_version
from iam.store.store import Store
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity
from sts.lineage import begin, refusal, scopes_to_read, session_scopes, watched

_SKEW: Final = timedelta(milliseconds=CLOCK_SKEW)


@dataclass(frozen=True, slots=True)
class SessionValidity:
    """Asks the kind of the identity, and the revocations."""

    store: Store
    kinds: IdentityKinds

    def is_valid(self, session: BrowserSession | PendingLogin, now: datetime) -> bool:
        """Return whether, since the sign-in, the person was not revoked and their provider or password not changed."""
        identity = session.identity
        kind = self.kinds.find(identity)
        if kind is None or session.opened_at > now + _SKEW or not kind.broker.is_valid(identity, now):
            return False
        if isinstance(session, BrowserSession) and not self._has_factors(session):
            return False
        lineage = identity.lineage.with_scopes(_scopes(identity))
        return not refusal(lineage, "", self.store.generations(watched(lineage), minted_at=lineage.revision))

    def _has_factors(self, session: BrowserSession) -> bool:
        """Return whether the second factors that the person had when one was given are all still theirs."""
        if not session.mfa_factors:
            return True
        with self.store.read() as tx:
            return frozenset(session.mfa_factors) <= frozenset(factor_versions(tx, session.identity.person))

    def bind(self, identity: Identity) -> Identity:
        """Return the identity of a session that begins, with the generations that hold now (THREATS J01).

        An identity that has them keeps them: a sign-in with a second factor began with the first.
        """
        if identity.lineage.generations:
            return identity
        scopes = _scopes(identity)
        now = self.store.current_generations(scopes_to_read(scopes, None))
        return replace(identity, lineage=begin(scopes, None, now))


def _scopes(identity: Identity) -> tuple[str, ...]:
    return session_scopes(identity.account_id, None, identity.person)


@dataclass(frozen=True, slots=True)
class ProviderValidity:
    """Whether the password, provider or client that proved an identity is still the one that is stored."""

    store: Store

    def is_iam_valid(self, identity: IamIdentity, _now: datetime) -> bool:
        """Return whether the password is the one that was judged: a change signs other browsers out (THREATS J02)."""
        with self.store.read() as tx:
            stored = stored_version(tx, identity.subject, is_root=identity.is_root)
        return stored is not None and stored == identity.password_version

    def is_directory_valid(self, identity: Identity, _now: datetime) -> bool:
        """Return whether the password was not changed here since it was judged.

        A change elsewhere shows when the directory is asked again (`broker.sessions.refresh`).
        """
        with self.store.read() as tx:
            return mark_of(tx, identity.person) == identity.password_mark

    def is_saml_valid(self, identity: SamlIdentity, now: datetime) -> bool:
        """Return whether the provider is the same, with the same entity id, and its metadata is valid."""
        provider = self.store.saml_provider(identity.provider)
        if provider is None or provider.id != identity.provider_id:
            return False
        until = provider.metadata.valid_until
        return provider.metadata.entity_id == identity.issuer and (until is None or until > now)

    def is_web_identity_valid(self, identity: WebIdentity, _now: datetime) -> bool:
        """Return whether the provider is the same, and people sign in to it through the same client."""
        provider = self.store.oidc_provider(identity.provider)
        if provider is None or provider.sign_in is None:
            return False
        return provider.id == identity.provider_id and provider.sign_in.client_id == identity.audience
