"""Which accounts' roles a provider serves that belongs to no account, such as a directory, as the operator has set it.

A trust policy is written by the role's account. Without this setting, an account could trust a directory that others
share, and so have part in how their people sign in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from iam.arn import parse_arn
from sts.identity import Identity


@dataclass(frozen=True, slots=True)
class ProviderAccounts:
    """The accounts of each provider, such as ``ldap-provider/corp``; one that is not listed serves every account."""

    by_provider: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def serves(self, identity: Identity, role_arn: str) -> bool:
        """Return whether somebody of a provider may have a role at all."""
        accounts = self.accounts_of(identity)
        return accounts is None or _account_of(role_arn) in accounts

    def accounts_of(self, identity: Identity) -> frozenset[str] | None:
        """Return the accounts whose roles somebody of a provider may have; None: those of every account."""
        return self.by_provider.get(identity.provider)

    def chooses(self, identity: Identity, role_arn: str, first_account: str) -> bool:
        """Return whether a role may be chosen for somebody who names none.

        Where the provider's accounts are not set, only roles of the installation's first account are: no account that
        is added later can make the choice another one, or ambiguous.
        """
        if identity.account_id:
            return self.serves(identity, role_arn)
        return _account_of(role_arn) in self.accounts_of_choice(identity.provider, first_account)

    def accounts_of_choice(self, provider: str, first_account: str) -> frozenset[str]:
        """Return the accounts among whose roles one may be chosen for people of a provider that is in no account."""
        return self.by_provider.get(provider, frozenset({first_account}))


def _account_of(role_arn: str) -> str:
    arn = parse_arn(role_arn)
    return arn.account if arn is not None else ""
