"""Web identity refresh: asks an OpenID Connect provider again about a signed-in person (THREATS E12).

It happens before credentials are issued, if the provider issued a refresh token at the sign-in.
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

    def refresh_identity(self, session: BrowserSession, now: datetime) -> Identity | None:
        """Return the current identity and store it in the session; None where the provider refuses.

        Without a refresh token, the identity of the sign-in is valid until the session ends. Raise
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
        # A provider may issue a new refresh token, or leave the old one valid (RFC 6749, section 6).
        refresh_state = self.refresh_state(provider, result) or session.refresh_state
        self.sessions.update(replace(session, identity=result.identity, refresh_state=refresh_state))
        return result.identity
