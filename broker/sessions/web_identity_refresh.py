"""Web identity refresh: asks an OpenID Connect provider again about a signed-in person (THREATS E12).

It happens before credentials are issued, if the provider issued a refresh token at the sign-in.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from broker.providers.oidc.relying_party import RelyingParty, SignInResult
from broker.sessions.browser import BrowserSession, BrowserSessions
from iam.arn import Random
from iam.store.records import OidcProviderRecord
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Refusal, WebIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentityRefresh:
    """Refreshes identities with the refresh tokens of sessions; ``clients`` are by kind of provider."""

    store: Store
    sessions: BrowserSessions
    clients: Mapping[str, RelyingParty]
    vault: Vault
    random: Random

    def refresh_state(self, provider: OidcProviderRecord, result: SignInResult) -> str:
        """Return the refresh token as a session stores it in Redis, sealed for this provider, or an empty text.

        Sealed, because a dump of Redis must not give access to anybody's account (THREATS G09).
        """
        if not result.refresh_token:
            return ""
        return b64encode(self.vault.seal(result.refresh_token.encode(), provider.id, self.random)).decode()

    @property
    def failure_event(self) -> str:
        """Return the event that records whom a provider refuses."""
        return "OidcRefresh"

    def is_due(self, _session: BrowserSession, _now: datetime) -> bool:
        """Return False: the provider is asked before credentials are issued, and not for pages."""
        return False

    def postpone(self, session: BrowserSession, _now: datetime) -> BrowserSession:
        """Return the session as it is."""
        return session

    def refresh(self, session: BrowserSession, now: datetime) -> BrowserSession | Refusal:
        """Return the session with the current identity, and store it; or the refusal of the provider.

        Without a refresh token, the identity of the sign-in is valid until the session ends. Raise
        IDPCommunicationError, InvalidIdentityToken, ServiceUnavailable.
        """
        if not session.refresh_state:
            return session
        provider = self.store.oidc_provider(session.identity.provider)
        if provider is None or provider.sign_in is None:
            return Refusal("no such provider")
        refresh_token = self.vault.open(b64decode(session.refresh_state), provider.id).decode()
        identity = cast("WebIdentity", session.identity)  # the table of kinds asks this for web identities alone
        result = self.clients[provider.sign_in.kind].refresh(provider, identity, refresh_token, now)
        if result is None:
            return Refusal("the provider refuses the refresh token")
        # A provider may issue a new refresh token, or leave the old one valid (RFC 6749, section 6).
        refresh_state = self.refresh_state(provider, result) or session.refresh_state
        current = replace(result.identity, lineage=identity.lineage)
        refreshed = replace(session, identity=current, refresh_state=refresh_state)
        self.sessions.update(refreshed)
        return refreshed
