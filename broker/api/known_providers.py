"""Which identity providers exist, for findings about the trust policies that requests write."""

from functools import partial

from iam.arn import parse_arn
from iam.inventory.known_providers import DirectoryAccounts, KnownProviders
from iam.store.store import Store


def known_providers(store: Store, directories: DirectoryAccounts) -> KnownProviders:
    """Return the providers of all accounts, as the store has them when it is asked, and the directories."""
    return KnownProviders(directories, partial(_is_registered, store))


def _is_registered(store: Store, arn: str) -> bool:
    parts = parse_arn(arn)
    is_saml = parts is not None and parts.resource.startswith("saml-provider/")
    return (store.saml_provider(arn) if is_saml else store.oidc_provider(arn)) is not None
