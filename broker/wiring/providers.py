"""Builds what proves identities: LDAP directories, SAML and OpenID Connect, and what fetches their documents."""

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from ipaddress import ip_network

from broker.config.settings import Settings
from broker.providers.ldap.provider import LdapProvider
from broker.providers.oidc.client import OidcClient
from broker.providers.oidc.github import GitHubClient
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.presets import GITHUB, OIDC
from broker.providers.oidc.relying_party import RelyingParty
from broker.providers.saml.metadata_refresh import MetadataRefresh
from broker.providers.saml.provider import SamlServiceProvider
from broker.providers.saml.service_keys import ServiceKeys
from broker.runtime.fetch import Fetcher
from broker.runtime.name_lookups import NameLookups
from broker.runtime.thread_pool import run_in_thread_pool
from broker.signin.web_identity import COGNITO, GOOGLE
from broker.wiring.clock_and_random import random
from broker.wiring.storage import Storage
from iam.inventory.known_providers import DirectoryAccounts
from sts.provider_accounts import ProviderAccounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Providers:
    """What proves identities: LDAP directories, SAML and OpenID Connect, and how their documents are fetched."""

    directories: Mapping[str, LdapProvider]
    fetcher: Fetcher
    jwks_cache: JwksCache
    sign_in_clients: Mapping[str, RelyingParty]  # by kind of provider
    saml_service_provider: SamlServiceProvider
    saml_keys: ServiceKeys
    saml_metadata: MetadataRefresh
    web_identity_skew: timedelta


def build_providers(settings: Settings, storage: Storage, now: Callable[[], datetime]) -> Providers:
    """Return the configured directories, and the clients of SAML and OpenID Connect providers."""
    fetcher = replace(build_fetcher(settings), resolve=NameLookups())
    jwks_cache = JwksCache(fetcher, monotonic=time.monotonic, url_overrides=_issuer_urls(settings))
    saml_keys = ServiceKeys(storage.store, storage.vault, now=now, random=random)
    return Providers(
        directories={name: LdapProvider(config, now=now) for name, config in settings.directories.items()},
        fetcher=fetcher,
        jwks_cache=jwks_cache,
        sign_in_clients=_build_sign_in_clients(settings, fetcher, jwks_cache),
        saml_service_provider=SamlServiceProvider(
            settings.public_url, timedelta(seconds=settings.saml_clock_skew), saml_keys.decryption_keys
        ),
        saml_keys=saml_keys,
        saml_metadata=MetadataRefresh(
            store=storage.store,
            fetcher=fetcher,
            audit=storage.audit,
            single_use=storage.single_use,
            limits=settings.limits,
            run_in_thread_pool=run_in_thread_pool,
            now=now,
            random=random,
        ),
        web_identity_skew=timedelta(seconds=settings.web_identity_clock_skew),
    )


def _build_sign_in_clients(settings: Settings, fetcher: Fetcher, jwks_cache: JwksCache) -> dict[str, RelyingParty]:
    """Return the client for each kind of OAuth provider through which people sign in."""
    return {
        OIDC: OidcClient(jwks_cache, fetcher, timedelta(seconds=settings.web_identity_clock_skew)),
        GITHUB: GitHubClient(fetcher, settings.web_identity_github_url, settings.web_identity_github_api_url),
    }


def _issuer_urls(settings: Settings) -> dict[str, str]:
    """Return where the documents of the issuers are that every account can use without registering them."""
    return {
        f"https://{GOOGLE}": settings.web_identity_google_url,
        f"https://{COGNITO}": settings.web_identity_cognito_url,
    }


def build_fetcher(settings: Settings) -> Fetcher:
    """Return the client that fetches documents from other hosts."""
    networks = tuple(ip_network(text) for text in settings.outbound_allowed_networks)
    ca_file = settings.outbound_ca_file
    context = ssl.create_default_context(cafile=ca_file) if ca_file else _system_ca_context()
    return Fetcher(context, networks, plain=settings.development)


@cache
def _system_ca_context() -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, cached: reading them is slower than all other wiring."""
    return ssl.create_default_context()


def directory_accounts(settings: Settings) -> DirectoryAccounts:
    """Return the configured directories with the accounts whose roles may trust them (none: all)."""
    return {name: config.accounts for name, config in settings.directories.items()}


def build_provider_accounts(settings: Settings) -> ProviderAccounts:
    """Return the rule which accounts' roles a directory serves, as its ``accounts`` setting says."""
    directories = (config for config in settings.directories.values() if config.accounts)
    return ProviderAccounts({config.provider: frozenset(config.accounts) for config in directories})
