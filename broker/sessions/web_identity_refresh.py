"""Whether an OpenID Connect provider still knows somebody who is signed in, and what it says of them by now.

It is asked before credentials are given, where it gave a refresh token at the sign-in (THREATS E12).
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from broker.providers.oidc.relying_party import RelyingParty, SignInResult
from broker.sessions.browser import BrowserSession, BrowserSessions
from iam.arn import Random
from iam.store.records import OidcProviderRecord
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Identity, WebIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentityRefresh:
    """Asks providers with the refresh tokens of sessions; ``clients`` are by kind of provider."""

    store: Store
    sessions: BrowserSessions
    clients: Mapping[str, RelyingParty]
    vault: Vault
    random: Random

    def refresh_state(self, provider: OidcProviderRecord, result: SignInResult) -> str:
        """Return what a session keeps in Redis: the refresh token, sealed for this provider, or nothing."""
        if not result.refresh_token:
            return ""
        return b64encode(self.vault.seal(result.refresh_token.encode(), provider.id, self.random)).decode()

    def refresh_identity(self, session: BrowserSession, now: datetime) -> Identity | None:
        """Return the person as the provider knows them now, and keep that in the session; None where it refuses.

        Without a refresh token, what was said at the sign-in stands until the session ends. Raise
        IDPCommunicationError, InvalidIdentityToken, ServiceUnavailable.
        """
        identity = session.identity
        if not session.refresh_state or not isinstance(identity, WebIdentity):
            return identity
        provider = self.store.oidc_provider(identity.provider)
        if provider is None or provider.sign_in is None:
            return None
        refresh_token = self.vault.open(b64decode(session.refresh_state), provider.id).decode()
        result = self.clients[provider.sign_in.kind].refresh(provider, identity, refresh_token, now)
        if result is None:
            return None
        # A provider may give a new refresh token each time, or let the old one go on (RFC 6749, section 6).
        refresh_state = self.refresh_state(provider, result) or session.refresh_state
        self.sessions.update(replace(session, identity=result.identity, refresh_state=refresh_state))
        return result.identity
