"""The way to a provider's own logout, for somebody who has just signed out here."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.providers.oidc.relying_party import RelyingParty
from broker.providers.saml import messages
from broker.providers.saml.provider import SamlServiceProvider
from broker.providers.saml.service_keys import ServiceKeys
from broker.sessions.browser import BrowserSessions
from broker.signin.kinds import ProviderLogout
from iam.arn import Random
from iam.saml.metadata import REDIRECT
from iam.store.store import Store
from sts.identity import SamlIdentity, WebIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlLogout:
    """Requests of single logout (SAML 2.0 Profiles, section 4.4) to the identity providers that take them."""

    store: Store
    sessions: BrowserSessions
    service_provider: SamlServiceProvider
    keys: ServiceKeys
    random: Random

    def __call__(self, identity: SamlIdentity, now: datetime) -> ProviderLogout | None:
        """Return a logout request about the person, or None where the provider takes none."""
        provider = self.store.saml_provider(identity.provider)
        endpoint = messages.choose_binding(provider.metadata.sign_out) if provider is not None else None
        if provider is None or endpoint is None:
            return None
        binding, address = endpoint
        message_id = f"_{self.random(20).hex()}"
        self.sessions.save_logout_request(message_id, provider.arn)
        subject = identity.subject, identity.name_format, identity.session_index
        here, key = self.service_provider.addresses(provider), self.keys.signing_key()
        message = messages.logout_request(here, address, message_id, now, subject)
        if binding == REDIRECT:
            return ProviderLogout(messages.redirect_url(message, key))
        return ProviderLogout(message.address, messages.post_fields(message, key))


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentityLogout:
    """The logout pages of OpenID Connect providers (RP-Initiated Logout); ``clients`` are by kind of provider."""

    store: Store
    clients: Mapping[str, RelyingParty]
    public_url: str

    def __call__(self, identity: WebIdentity, _now: datetime) -> ProviderLogout | None:
        """Return the provider's logout page, or None where it has none."""
        provider = self.store.oidc_provider(identity.provider)
        if provider is None or provider.sign_in is None:
            return None
        back = f"{self.public_url}/oidc/{provider.id}/signed-out"
        url = self.clients[provider.sign_in.kind].logout_url(provider, back)
        return ProviderLogout(url) if url is not None else None
