"""From a SAML response and a stored provider to an Identity: the gate, with what the provider's record asks of it.

The clock is an argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from broker.providers.saml.addresses import ServiceProviderUrls, is_aws, is_aws_sign_in
from broker.providers.saml.logout import ExpectedLogout
from broker.providers.saml.response_checks import Assertion, ExpectedResponse, check_response
from iam.errors import InvalidIdentityToken
from iam.store.records import SamlProviderRecord
from sts.identity import SamlIdentity

# STS API reference, AssumeRoleWithSAML: "Token must be redeemed within 5 minutes of issuance".
REDEEMED_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SamlServiceProvider:
    """Reads responses of all providers; ``skew`` is how far clocks may differ."""

    public_url: str
    skew: timedelta
    decryption_keys: Callable[
        [], Sequence[RSAPrivateKey]
    ]  # of the service provider: they open what is encrypted for it

    def addresses(self, provider: SamlProviderRecord) -> ServiceProviderUrls:
        """Return where the service provider for an identity provider lives."""
        return ServiceProviderUrls(self.public_url, provider.account_id, provider.name)

    def expected_at_sts(self, provider: SamlProviderRecord, now: datetime) -> ExpectedResponse:
        """Return what a response must fit that is handed to the STS: made for AWS, or for our own address."""
        here = self.addresses(provider)
        return self._expected(
            provider,
            now,
            lambda name: name in (here.entity_id, here.acs) or is_aws(name),
            lambda address: address == here.acs or is_aws_sign_in(address),
            REDEEMED_WITHIN,
        )

    def expected_at_acs(self, provider: SamlProviderRecord, now: datetime) -> ExpectedResponse:
        """Return what a response must fit that a browser posts: made for our own address alone."""
        here = self.addresses(provider)
        return self._expected(provider, now, here.entity_id.__eq__, here.acs.__eq__, None)

    def expected_at_logout(self, provider: SamlProviderRecord, now: datetime) -> ExpectedLogout:
        """Return what a message of single logout must fit."""
        return ExpectedLogout(
            entity_id=provider.metadata.entity_id,
            keys=provider.metadata.keys,
            address=self.addresses(provider).logout,
            now=now,
            skew=self.skew,
        )

    def _expected(
        self,
        provider: SamlProviderRecord,
        now: datetime,
        is_audience: Callable[[str], bool],
        is_recipient: Callable[[str], bool],
        max_age: timedelta | None,
    ) -> ExpectedResponse:
        return ExpectedResponse(
            entity_id=provider.metadata.entity_id,
            keys=provider.metadata.keys,
            is_audience=is_audience,
            is_recipient=is_recipient,
            now=now,
            skew=self.skew,
            max_age=max_age,
            decryption=(*provider.keys, *self.decryption_keys()),
            encryption_required=provider.encryption_required,
        )


def require_valid_metadata(provider: SamlProviderRecord, now: datetime) -> None:
    """Raise InvalidIdentityToken where the provider's metadata is over."""
    until = provider.metadata.valid_until
    if until is not None and until <= now:
        raise InvalidIdentityToken(
            "The metadata of the identity provider is over: it must be given anew", log=f"valid until {until}"
        )


def verify_response(
    provider: SamlProviderRecord, text: str, expected: ExpectedResponse
) -> tuple[SamlIdentity, Assertion]:
    """Return who a response is about; raise InvalidIdentityToken, ExpiredTokenException, IDPRejectedClaim."""
    require_valid_metadata(provider, expected.now)
    found = check_response(text, expected)
    made = SamlIdentity(
        provider=provider.arn,
        subject=found.subject.value,
        name=found.subject.value,
        authenticated_at=found.authenticated_at,
        attributes=found.attributes,
        account_id=provider.account_id,
        provider_id=provider.id,
        provider_name=provider.name,
        issuer=found.issuer,
        recipient=found.recipient,
        name_format=found.subject.format,
        assertion=f"{found.issuer}|{found.id}",
        usable_until=found.usable_until,
        session_until=found.session_until,
        session_index=found.session_index,
        map_by_trust=provider.map_by_trust,
    )
    return made, found
