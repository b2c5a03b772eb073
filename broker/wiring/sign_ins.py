"""Builds the ways of signing in, and the table of the kinds of identity."""

from collections.abc import Sequence
from datetime import timedelta

from broker.config.settings import Settings
from broker.providers.oauth import AccessTokenVerifier
from broker.sessions.refresh import DirectoryRefresh
from broker.sessions.web_identity_refresh import WebIdentityRefresh
from broker.signin.built_in import SignedIn, SignIns, built_in_kinds
from broker.signin.iam_password import IamPasswordSignIn
from broker.signin.kinds import IdentityKind, IdentityKinds
from broker.signin.ldap import LdapSignIn
from broker.signin.logout import SamlLogout, WebIdentityLogout
from broker.signin.saml import SamlSignIn
from broker.signin.web_identity import WebIdentitySignIn
from broker.wiring.clock_and_random import random
from broker.wiring.providers import Providers, build_provider_accounts
from broker.wiring.storage import Storage
from iam.operations.federation.outbound import issuer_address
from sts.identity_kinds import STS_IDENTITY_KINDS


def build_sign_ins(settings: Settings, storage: Storage, providers: Providers) -> SignIns:
    """Return the ways in which people and programs prove who they are."""
    return SignIns(
        ldap=LdapSignIn(
            providers=providers.directories,
            throttle=storage.throttle,
            audit=storage.audit,
            store=storage.store,
            provider_accounts=build_provider_accounts(settings),
            password_in_query=settings.allow_password_in_query,
        ),
        saml=SamlSignIn(
            store=storage.store, service_provider=providers.saml_service_provider, single_use=storage.single_use
        ),
        web_identity=_build_web_identity_sign_in(settings, storage, providers),
        iam_password=IamPasswordSignIn(storage.store, storage.throttle),
    )


def _build_web_identity_sign_in(settings: Settings, storage: Storage, providers: Providers) -> WebIdentitySignIn:
    return WebIdentitySignIn(
        store=storage.store,
        jwks_cache=providers.jwks_cache,
        access_tokens=AccessTokenVerifier(
            providers.fetcher, settings.web_identity_amazon_url, settings.web_identity_facebook_url
        ),
        own_issuers=issuer_address(settings.public_url, ""),
        single_use=storage.single_use,
        skew=providers.web_identity_skew,
        max_age=timedelta(seconds=settings.web_identity_max_age),
    )


def build_kinds(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    sign_ins: SignIns,
    additional_kinds: Sequence[IdentityKind],
) -> IdentityKinds:
    """Return the table of the kinds of identity."""
    signed_in = _build_signed_in(settings, storage, providers)
    built_in = built_in_kinds(sign_ins, signed_in, storage.store, providers.directories)
    return IdentityKinds(
        (*STS_IDENTITY_KINDS, *(kind.sts for kind in additional_kinds)),
        (*built_in, *(kind.broker for kind in additional_kinds)),
    )


def _build_signed_in(settings: Settings, storage: Storage, providers: Providers) -> SignedIn:
    store, sessions = storage.store, storage.browser_sessions
    return SignedIn(
        directory_refresh=DirectoryRefresh(sessions, providers.directories, timedelta(seconds=settings.pages_recheck)),
        web_identity_refresh=build_web_identity_refresh(storage, providers),
        saml_logout=SamlLogout(
            store=store,
            sessions=sessions,
            service_provider=providers.saml_service_provider,
            keys=providers.saml_keys,
            random=random,
        ),
        web_identity_logout=WebIdentityLogout(
            store=store, clients=providers.sign_in_clients, public_url=settings.public_url
        ),
    )


def build_web_identity_refresh(storage: Storage, providers: Providers) -> WebIdentityRefresh:
    """Return what asks an OpenID Connect provider again about somebody who is signed in."""
    return WebIdentityRefresh(
        store=storage.store,
        sessions=storage.browser_sessions,
        clients=providers.sign_in_clients,
        vault=storage.vault,
        random=random,
    )
