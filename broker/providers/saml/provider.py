"""From a SAML response and a stored provider to an identity: the response checks, with what the provider's record asks.

The clock is an argument.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from broker.providers.saml.addresses import ServiceProviderUrls, is_aws, is_aws_sign_in
from broker.providers.saml.logout import ExpectedLogout
from broker.providers.saml.response_checks import check_response
from broker.providers.saml.response_parts import Assertion, ExpectedResponse
from iam.errors import InvalidIdentityToken
from iam.store.records import SamlProviderRecord
from sts.identity import SamlIdentity

log = logging.getLogger(__name__)

# STS API reference, AssumeRoleWithSAML: "Token must be redeemed within 5 minutes of issuance".
REDEEMED_WITHIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SamlServiceProvider:
    """States what responses of all providers must fit; ``skew`` is how far clocks may differ.

    ``decryption_keys`` gives the service provider's own keys, beside those of each provider.
    """

    public_url: str
    skew: timedelta
    decryption_keys: Callable[[], Sequence[RSAPrivateKey]]

    def addresses(self, provider: SamlProviderRecord) -> ServiceProviderUrls:
        """Return the URLs of the service provider that stands for an identity provider."""
        return ServiceProviderUrls(self.public_url, provider.account_id, provider.name)

    def expected_at_sts(self, provider: SamlProviderRecord, now: datetime) -> ExpectedResponse:
        """Return what a response must fit that is sent to the STS: made for AWS, or for our own address."""
        urls = self.addresses(provider)
        return self._expected(
            provider,
            now,
            lambda name: name in (urls.entity_id, urls.acs) or is_aws(name),
            lambda address: address == urls.acs or is_aws_sign_in(address),
            REDEEMED_WITHIN,
        )

    def expected_at_acs(self, provider: SamlProviderRecord, now: datetime) -> ExpectedResponse:
        """Return what a response must fit that a browser posts: made for our own address alone."""
        urls = self.addresses(provider)
        return self._expected(provider, now, urls.entity_id.__eq__, urls.acs.__eq__, None)

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
    """Raise InvalidIdentityToken where the provider's metadata has expired (Metadata, section 2.3.1: validUntil)."""
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
    assertion = check_response(text, expected)
    for reason in assertion.dropped:
        log.info("an assertion of %s: not used: %a", provider.arn, reason)
    identity = SamlIdentity(
        provider=provider.arn,
        subject=assertion.subject.value,
        name=assertion.subject.value,
        authenticated_at=assertion.authenticated_at,
        attributes=assertion.attributes,
        account_id=provider.account_id,
        provider_id=provider.id,
        provider_name=provider.name,
        issuer=assertion.issuer,
        recipient=assertion.recipient,
        name_format=assertion.subject.format,
        assertion=f"{assertion.issuer}|{assertion.id}",
        issued_at=assertion.issued_at,
        usable_until=assertion.usable_until,
        session_until=assertion.session_until,
        session_index=assertion.session_index,
        map_by_trust=provider.map_by_trust,
    )
    return identity, assertion
