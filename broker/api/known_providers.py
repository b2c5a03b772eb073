"""Which identity providers exist, for findings about the trust policies that requests write."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from iam.arn import parse_arn
from iam.policy.principals import CONSUMER_ISSUERS
from iam.store.store import Store


@dataclass(frozen=True, slots=True)
class KnownProviders:
    """The providers of all accounts, and the directories with the accounts whose roles may trust them (none: all)."""

    store: Store
    directories: Mapping[str, Container[str]]

    def exists(self, value: str, account_id: str) -> bool:
        """Return whether a provider, an ARN or the name of an issuer, exists for the roles of an account."""
        arn = parse_arn(value)
        if arn is None:
            return value in CONSUMER_ISSUERS
        kind, _slash, name = arn.resource.partition("/")
        if kind == "ldap-provider":
            accounts = self.directories.get(name)
            return arn.account == account_id and accounts is not None and (not accounts or account_id in accounts)
        found = self.store.saml_provider(value) if kind == "saml-provider" else self.store.oidc_provider(value)
        return found is not None
