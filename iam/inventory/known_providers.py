"""Which identity providers exist for the roles of an account: one answer for findings of every kind."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from iam.arn import parse_arn
from iam.policy.principals import CONSUMER_ISSUERS

DirectoryAccounts = Mapping[str, Collection[str]]
"""The configured directories, with the accounts whose roles may trust each of them (none: all)."""

_DIRECTORY: Final = "ldap-provider/"


@dataclass(frozen=True, slots=True)
class KnownProviders:
    """The directories, and the providers that accounts have registered; ``is_registered`` is given an ARN."""

    directories: DirectoryAccounts
    is_registered: Callable[[str], bool]

    def exists(self, value: str, account_id: str) -> bool:
        """Return whether a provider, an ARN or the name of an issuer, exists for the roles of an account."""
        arn = parse_arn(value)
        if arn is None:
            return value in CONSUMER_ISSUERS
        if not arn.resource.startswith(_DIRECTORY):
            return self.is_registered(value)
        # People of a directory use the provider of the role's own account.
        accounts = self.directories.get(arn.resource.removeprefix(_DIRECTORY))
        return arn.account == account_id and accounts is not None and (not accounts or account_id in accounts)
