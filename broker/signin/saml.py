"""The identity provider first: from a SAML response in a request to an Identity, or to a refusal that says why.

The proof never travels further: what comes back are the parameters without it.
"""

from dataclasses import dataclass
from datetime import datetime

from broker.api.request_state import RequestState
from broker.providers.saml.provider import SamlServiceProvider, verify_response
from iam.call import Params
from iam.errors import InvalidIdentityToken
from iam.store.store import Store
from sts.identity import SamlIdentity
from sts.store.single_use import SingleUse

_PROOF = "SAMLAssertion"
_PROOF_KIND, _LOGOUT_KIND = "saml", "saml-logout"  # kinds of proof


@dataclass(frozen=True, slots=True, kw_only=True)
class SamlSignIn:
    """Believes the SAML providers that are stored; knows nothing of roles."""

    store: Store
    service_provider: SamlServiceProvider
    single_use: SingleUse

    def authenticate(self, state: RequestState, p: Params) -> tuple[SamlIdentity, Params]:
        """Return who this is and the parameters without the proof; raise InvalidIdentityToken and its kin."""
        state.params = rest = {key: value for key, value in p.items() if key != _PROOF}
        provider = self.store.saml_provider(p["PrincipalArn"])
        if provider is None:
            raise InvalidIdentityToken("Specified provider doesn't exist")
        found, _ = verify_response(provider, p[_PROOF], self.service_provider.expected_at_sts(provider, state.now))
        state.identity = found
        return found, rest

    def consume(self, state: RequestState, identity: SamlIdentity) -> None:
        """Use the assertion up; raise InvalidIdentityToken where it has been used before."""
        if not self.single_use.consume(
            _PROOF_KIND, identity.assertion, identity.usable_until, state.now, issued=identity.issued_at
        ):
            raise InvalidIdentityToken(
                "The assertion has been used before", log=f"replayed: {identity.assertion[:500]}"
            )

    def consume_logout_message(self, message: str, until: datetime, now: datetime) -> bool:
        """Use up a message of single logout; return whether it is new."""
        return self.single_use.consume(_LOGOUT_KIND, message, until, now)
