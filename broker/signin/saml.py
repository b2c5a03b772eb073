"""The identity provider first: from a SAML response in a request to an Identity, or to a refusal that says why.

The proof never travels further: what comes back are the parameters without it.
"""

from dataclasses import dataclass
from datetime import datetime

from broker.api.request_state import Exchange
from broker.providers.saml.provider import Reader, identity
from iam.call import Params
from iam.errors import InvalidIdentityToken
from iam.store.store import Store
from sts.identity import SamlIdentity
from sts.store.single_use import SingleUse

_PROOF = "SAMLAssertion"
_USED, _USED_LOGOUT = "saml", "saml-logout"  # kinds of proof


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlSignIn:
    """Believes the SAML providers that are stored; knows nothing of roles."""

    store: Store
    reader: Reader
    single_use: SingleUse

    def prove(self, exchange: Exchange, p: Params) -> tuple[SamlIdentity, Params]:
        """Return who this is and the parameters without the proof; raise InvalidIdentityToken and its kin."""
        exchange.params = rest = {key: value for key, value in p.items() if key != _PROOF}
        provider = self.store.saml_provider(p["PrincipalArn"])
        if provider is None:
            raise InvalidIdentityToken("Specified provider doesn't exist")
        found, _ = identity(provider, p[_PROOF], self.reader.at_sts(provider, exchange.now))
        exchange.identity = found
        return found, rest

    def spend(self, proved: SamlIdentity, now: datetime) -> None:
        """Use the assertion up; raise InvalidIdentityToken where it has been used before."""
        if not self.single_use.spend(_USED, proved.assertion, proved.usable_until, now):
            raise InvalidIdentityToken("The assertion has been used before", log=f"replayed: {proved.assertion[:500]}")

    def spend_logout(self, message: str, until: datetime, now: datetime) -> bool:
        """Use up a message of single logout; return whether it is new."""
        return self.single_use.spend(_USED_LOGOUT, message, until, now)
