"""Builds all services from the settings: the only place where constructors meet and the clock and entropy are read.

Each group of services is a frozen dataclass, built by one function from the groups before it.
"""

import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_network
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.api import model
from broker.api.body_budget import BodyBudget
from broker.api.dispatch import Gate
from broker.api.forwarded import TrustedProxies
from broker.api.known_providers import known_providers
from broker.audit.log import AuditLog
from broker.audit.reconciliation import Reconciliation
from broker.audit.search import AuditSearch
from broker.config.settings import Settings
from broker.providers.ldap.provider import LdapProvider
from broker.providers.oauth import AccessTokenVerifier
from broker.providers.oidc.client import OidcClient
from broker.providers.oidc.github import GitHubClient
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.presets import GITHUB, OIDC
from broker.providers.oidc.relying_party import RelyingParty
from broker.providers.saml.metadata_refresh import MetadataRefresh
from broker.providers.saml.provider import SamlServiceProvider
from broker.providers.saml.service_keys import ServiceKeys
from broker.providers.saml.signed_metadata import SignedMetadata
from broker.runtime.clock_health import ClockCheck
from broker.runtime.fetch import Fetcher
from broker.runtime.health import Checks, RememberedCheck
from broker.runtime.thread_pool import run_in_thread_pool
from broker.sessions.browser import BrowserSessions
from broker.sessions.key_usage import AccessKeyUsage
from broker.sessions.refresh import DirectoryRefresh
from broker.sessions.revocation import SessionListing, SessionRevocation
from broker.sessions.validity import SessionValidity
from broker.sessions.web_identity_refresh import WebIdentityRefresh
from broker.signin.attempt_slots import AttemptSlots
from broker.signin.built_in import SignedIn, SignIns, built_in_kinds
from broker.signin.iam_password import IamPasswordSignIn
from broker.signin.kinds import IdentityKind, IdentityKinds
from broker.signin.ldap import LdapSignIn
from broker.signin.logout import SamlLogout, WebIdentityLogout
from broker.signin.saml import SamlSignIn
from broker.signin.second_factor import SecondFactorRule
from broker.signin.throttle import SignInThrottle
from broker.signin.web_identity import COGNITO, GOOGLE, WebIdentitySignIn
from broker.web.account.password import Passwords
from broker.web.account.security import SecurityPage
from broker.web.account.sessions import OwnSessions
from broker.web.admin.access import AdminAccess
from broker.web.admin.audit import AuditPages
from broker.web.admin.operators import Operators
from broker.web.admin.pages import AdminPages
from broker.web.admin.sessions import AdminSessions
from broker.web.branding.appearance import Appearance
from broker.web.core.cookies import Cookies
from broker.web.core.csrf import CsrfProtection
from broker.web.core.current_session import CurrentSession
from broker.web.core.forms import Forms
from broker.web.core.page_audit import PageAudit
from broker.web.core.request_states import RequestStates
from broker.web.core.responses import Responses
from broker.web.core.sealed_fields import SealedFields
from broker.web.core.site import Site
from broker.web.core.urls import is_https
from broker.web.login import oidc, saml
from broker.web.login.account import AccountLogin
from broker.web.login.completion import LoginCompletion
from broker.web.login.home_realms import HomeRealms
from broker.web.login.login_page import Login
from broker.web.login.login_starts import LIFETIME_SECONDS, LoginStarts
from broker.web.login.oidc import OidcPages
from broker.web.login.saml import SamlPages
from broker.web.login.sign_out import OFFER_LIFETIME, SignOut
from broker.web.mfa.enrolment import Enrolment
from broker.web.mfa.passkeys import CHALLENGE_SECONDS, Passkeys
from broker.web.mfa.second_factor import SecondFactor
from broker.web.oauth.clients import ExchangeClients
from broker.web.portal.portal import Portal
from broker.web.portal.role_explanation import RoleExplanationPages
from iam.arn import Random
from iam.inventory.known_providers import DirectoryAccounts
from iam.operations.federation.outbound import issuer_address
from iam.store.store import Store
from iam.store.vault import Vault
from sts.authenticate import Authenticator
from sts.federation.jwt_issuer import JwtIssuer
from sts.identity import Identity
from sts.identity_kinds import STS_IDENTITY_KINDS
from sts.provider_accounts import ProviderAccounts
from sts.store.sealed_values import SealedValues
from sts.store.sealing_keys import SealerCache
from sts.store.sessions import LiveSessions
from sts.store.single_use import SingleUse

_REDIS_TIMEOUT = 0.5  # seconds; Redis is never worth waiting for, tokens verify without it

_GATHER = 0.001  # seconds in which the uses of single-use proofs gather for one commit
_SEED_LIFETIME = timedelta(hours=1)  # between the page that shows a TOTP seed and the first code
_DEFAULT_REGION = "us-east-1"
BUILT_IN_TYPES: Final = tuple(half.identity_type for half in STS_IDENTITY_KINDS)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


random: Random = secrets.token_bytes


# --- groups of services -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What keeps state: the SQL store, Redis, the audit log, and what is built directly on them."""

    store: Store
    vault: Vault
    sealers: SealerCache
    audit: AuditLog
    reconciliation: Reconciliation
    live_sessions: LiveSessions
    browser_sessions: BrowserSessions
    single_use: SingleUse
    throttle: SignInThrottle


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What answers programs: the gate of the query API, token exchange, our own issuer, and the health checks."""

    gate: Gate
    exchange_clients: ExchangeClients
    trusted_proxies: TrustedProxies
    bodies: BodyBudget
    region: str  # in the signatures of requests that we make in our own name
    health_checks: Mapping[str, Callable[[], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPages:
    """The pages of somebody who is signing in."""

    login: Login
    accounts: AccountLogin
    saml: SamlPages
    oidc: OidcPages
    second_factor: SecondFactor
    sign_out: SignOut
    enrolment: Enrolment


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPages:
    """The pages on which people see and change what is theirs."""

    passwords: Passwords
    security: SecurityPage
    sessions: OwnSessions


@dataclass(frozen=True, slots=True, kw_only=True)
class RolePages:
    """The pages on which people take roles, and see why they can or cannot."""

    portal: Portal
    explanation: RoleExplanationPages


@dataclass(frozen=True, slots=True, kw_only=True)
class AdministrationPages:
    """The pages of administrators."""

    accounts: AdminPages
    sessions: AdminSessions
    audit: AuditPages


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """All pages, and what they share."""

    site: Site
    login: LoginPages
    account: AccountPages
    roles: RolePages
    administration: AdministrationPages


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that answers requests in one worker."""

    storage: Storage
    providers: Providers
    sign_ins: SignIns
    api: Api
    pages: Pages

    def new_reference(self) -> str:
        """Return eight random characters that a person can read out, and that find the line in the log."""
        return secrets.token_hex(4)


# --- opening what keeps state and what fetches ------------------------------------------------------------------------


def open_store(settings: Settings) -> Store:
    """Return the SQL store, migrated to the newest schema."""
    store = Store(
        settings.database_url,
        Vault(settings.master_key),
        monotonic=time.monotonic,
        # The name is older than the class; processes of two versions that run side by side must agree on it.
        signal_file=settings.data_dir / "revision.bell",
    )
    store.migrate()
    return store


def open_redis(url: str) -> Redis:
    """Return a Redis client that fails at once: one try, no waiting."""
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def open_live_sessions(settings: Settings) -> LiveSessions:
    """Return the list of live sessions in Redis."""
    redis, values = open_redis(settings.redis_url), SealedValues(settings.master_key, random)
    return LiveSessions(redis, values, monotonic=time.monotonic, pause=time.sleep, spawn=_in_background)


def open_single_use(store: Store) -> SingleUse:
    """Return the markers of what was used or ended."""
    return SingleUse(store, monotonic=time.monotonic, gather=lambda: time.sleep(_GATHER))


def open_browser_sessions(
    settings: Settings,
    single_use: SingleUse,
    *,
    now: Callable[[], datetime] = now,
    identity_types: tuple[type[Identity], ...] = BUILT_IN_TYPES,
) -> BrowserSessions:
    """Return the browser sessions in an installation's Redis."""
    idle, lifetime = timedelta(seconds=settings.pages_idle), timedelta(seconds=settings.pages_lifetime)
    redis, values = open_redis(settings.redis_url), SealedValues(settings.master_key, random)
    return BrowserSessions(redis, values, single_use, now, random, idle, lifetime, identity_types=identity_types)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


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


# --- building, in the order of the groups -----------------------------------------------------------------------------


def build_services(
    settings: Settings,
    *,
    now: Callable[[], datetime] = now,
    additional_kinds: Sequence[IdentityKind] = (),
    additional_models: Sequence[bytes] = (),
) -> Services:
    """Build one worker's services from the settings; tests pass a clock of their own.

    ``additional_kinds`` are kinds of identity beside the built-in ones, ``additional_models`` service models of the STS
    with their operations, in the format of ``broker/api/models/sts-extra.json``.
    """
    added_types = tuple(kind.sts.identity_type for kind in additional_kinds)
    storage = _build_storage(settings, now, (*BUILT_IN_TYPES, *added_types))
    providers = _build_providers(settings, storage, now)
    sign_ins = _build_sign_ins(settings, storage, providers)
    kinds = _build_kinds(settings, storage, providers, sign_ins, additional_kinds)
    gate = _build_gate(settings, storage, providers, kinds, model.load_models(additional_models), now)
    api = _build_api(settings, storage, providers, gate)
    site = _build_site(settings, storage, api)
    return Services(
        storage=storage,
        providers=providers,
        sign_ins=sign_ins,
        api=api,
        pages=_build_pages(settings, storage, providers, sign_ins, site),
    )


def _build_storage(
    settings: Settings, now: Callable[[], datetime], identity_types: tuple[type[Identity], ...]
) -> Storage:
    vault = Vault(settings.master_key)
    store, audit = open_store(settings), _open_audit_log(settings)
    single_use = open_single_use(store)
    return Storage(
        store=store,
        vault=vault,
        sealers=SealerCache(store, vault, now=now),
        audit=audit,
        reconciliation=Reconciliation(store, audit, settings.audit_dir, now, run_in_thread_pool),
        live_sessions=open_live_sessions(settings),
        browser_sessions=open_browser_sessions(settings, single_use, now=now, identity_types=identity_types),
        single_use=single_use,
        throttle=SignInThrottle(store, AttemptSlots(open_redis(settings.redis_url), store, random)),
    )


def _open_audit_log(settings: Settings) -> AuditLog:
    return AuditLog(
        settings.audit_dir,
        sync=settings.audit_sync,
        flush_ms=settings.audit_flush_ms,
        segment_bytes=settings.audit_segment_megabytes * 1_000_000,
        strangers_per_minute=settings.audit_strangers_per_minute,
    )


def _build_providers(settings: Settings, storage: Storage, now: Callable[[], datetime]) -> Providers:
    fetcher = build_fetcher(settings)
    jwks_cache = JwksCache(fetcher, monotonic=time.monotonic, url_overrides=_issuer_urls(settings))
    saml_keys = ServiceKeys(storage.store, storage.vault, now=now, random=random)
    return Providers(
        directories={name: config.open(now=now) for name, config in settings.directories.items()},
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


def _build_sign_ins(settings: Settings, storage: Storage, providers: Providers) -> SignIns:
    return SignIns(
        ldap=LdapSignIn(
            providers=providers.directories,
            throttle=storage.throttle,
            audit=storage.audit,
            store=storage.store,
            provider_accounts=_build_provider_accounts(settings),
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


def _build_kinds(
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
        web_identity_refresh=_build_web_identity_refresh(storage, providers),
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


def _build_web_identity_refresh(storage: Storage, providers: Providers) -> WebIdentityRefresh:
    return WebIdentityRefresh(
        store=storage.store,
        sessions=storage.browser_sessions,
        clients=providers.sign_in_clients,
        vault=storage.vault,
        random=random,
    )


def _build_api(settings: Settings, storage: Storage, providers: Providers, gate: Gate) -> Api:
    return Api(
        gate=gate,
        exchange_clients=ExchangeClients(
            settings.token_exchange_clients, storage.throttle, only=settings.token_exchange_registered_only
        ),
        trusted_proxies=TrustedProxies(tuple(map(ip_network, settings.trusted_proxies)), settings.forwarded_headers),
        bodies=BodyBudget.of(settings.body_memory * 1_000_000, gate.knows_signer),
        region=next(iter(settings.regions), _DEFAULT_REGION),
        health_checks={
            **_remembered(_local_checks(storage, gate.now), seconds=1.0),
            **_remembered(
                {f"directory {name}": one.check for name, one in providers.directories.items()}, seconds=10.0
            ),
        },
    )


def _local_checks(storage: Storage, now: Callable[[], datetime]) -> Checks:
    return {
        "sql": storage.store.check,
        "redis": storage.live_sessions.check,
        "audit": storage.audit.check,
        "clock": _build_clock_check(storage, now),
    }


def _remembered(checks: Checks, *, seconds: float) -> Checks:
    return {name: RememberedCheck(check, monotonic=time.monotonic, seconds=seconds) for name, check in checks.items()}


def directory_accounts(settings: Settings) -> DirectoryAccounts:
    """Return the configured directories with the accounts whose roles may trust them (none: all)."""
    return {name: config.accounts for name, config in settings.directories.items()}


def _build_provider_accounts(settings: Settings) -> ProviderAccounts:
    directories = (config for config in settings.directories.values() if config.accounts)
    return ProviderAccounts({config.provider: frozenset(config.accounts) for config in directories})


def _build_gate(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    kinds: IdentityKinds,
    api: model.Api,
    now: Callable[[], datetime],
) -> Gate:
    store, sealers = storage.store, storage.sealers
    return Gate(
        api=api,
        store=store,
        vault=storage.vault,
        limits=settings.limits,
        authenticate=Authenticator(store, sealers.current, frozenset(settings.regions) or None),
        sealer=sealers.current,
        sessions=storage.live_sessions,
        audit=storage.audit,
        kinds=kinds,
        provider_accounts=_build_provider_accounts(settings),
        contact_issuer=providers.jwks_cache.keys if settings.web_identity_contact_issuers else None,
        second_factor=SecondFactorRule(
            store=store,
            vault=storage.vault,
            throttle=storage.throttle,
            kinds=kinds,
            demanding=frozenset(settings.pages_second_factor),
            exempt=frozenset(settings.pages_second_factor_exempt),
        ),
        known_providers=known_providers(store, directory_accounts(settings)),
        jwt_issuer=JwtIssuer(store, storage.vault, public_url=settings.public_url, now=now, random=random),
        public_url=settings.public_url,
        key_use=AccessKeyUsage(store),
        now=now,
        random=random,
    )


# --- building the pages -----------------------------------------------------------------------------------------------


def _build_site(settings: Settings, storage: Storage, api: Api) -> Site:
    sessions, validity = storage.browser_sessions, SessionValidity(storage.store, api.gate.kinds)
    requests = RequestStates(api.gate, api.trusted_proxies)
    cookies = Cookies(is_https(settings.public_url))
    csrf = CsrfProtection(settings.public_url)
    audit = PageAudit(storage.audit, requests)
    return Site(
        gate=api.gate,
        sessions=sessions,
        session_validity=validity,
        public_url=settings.public_url,
        maintenance=settings.pages_maintenance,
        requests=requests,
        cookies=cookies,
        csrf=csrf,
        audit=audit,
        current_session=CurrentSession(
            sessions=sessions,
            validity=validity,
            cookies=cookies,
            csrf=csrf,
            requests=requests,
            audit=audit,
            maintenance=settings.pages_maintenance,
        ),
        responses=Responses(
            public_url=settings.public_url, appearance=build_appearance(settings), cookies=cookies, requests=requests
        ),
    )


def build_appearance(settings: Settings) -> Appearance:
    """Return how the pages look."""
    return Appearance(
        organisation=settings.pages_organisation,
        logo_file=settings.pages_logo_file,
        colours=settings.pages_colours,
        help_url=settings.pages_help_url,
        status_url=settings.pages_status_url,
        privacy_url=settings.pages_privacy_url,
        notice=settings.pages_notice,
    )


def _build_pages(settings: Settings, storage: Storage, providers: Providers, sign_ins: SignIns, site: Site) -> Pages:
    access = AdminAccess(site=site, operators=Operators.of(settings.pages_operators))
    revocation = _build_revocation(storage, site)
    completion = LoginCompletion(site=site)
    roles = RolePages(
        portal=Portal(site=site, admin_access=access, other_roles=settings.pages_other_roles),
        explanation=RoleExplanationPages(site=site, admin_access=access, other_roles=settings.pages_other_roles),
    )
    login = _build_login_pages(settings, storage, providers, sign_ins, completion, roles.portal)
    return Pages(
        site=site,
        login=login,
        account=AccountPages(
            passwords=Passwords(
                site=site,
                completion=completion,
                forms=_build_forms(storage, site),
                ldap=sign_ins.ldap,
                iam_password=sign_ins.iam_password,
            ),
            security=SecurityPage(site=site, completion=completion, admin_access=access),
            sessions=OwnSessions(site=site, admin_access=access, revocation=revocation),
        ),
        roles=roles,
        administration=_build_administration_pages(settings, storage, providers, access, revocation),
    )


def _build_login_pages(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    sign_ins: SignIns,
    completion: LoginCompletion,
    portal: Portal,
) -> LoginPages:
    site, passkeys = completion.site, _build_passkeys(settings, storage)
    offers = _build_sealed_fields(storage, "sign-out", OFFER_LIFETIME)
    sign_out = SignOut(site=site, revocation=_build_revocation(storage, site), offers=offers)
    forms = _build_forms(storage, site)
    login_starts = LoginStarts(
        cookies=site.cookies,
        requests=site.requests,
        sealed=_build_sealed_fields(storage, "login-start", timedelta(seconds=LIFETIME_SECONDS)),
    )
    return LoginPages(
        login=Login(
            site=site,
            completion=completion,
            forms=forms,
            ldap=sign_ins.ldap,
            home_realms=_build_home_realms(settings, storage, providers),
            identifier_first=settings.pages_identifier_first,
        ),
        accounts=AccountLogin(site=site, completion=completion, forms=forms, sign_in=sign_ins.iam_password),
        saml=SamlPages(
            site=site,
            completion=completion,
            portal=portal,
            sign_out=sign_out,
            sign_in=sign_ins.saml,
            service_provider=providers.saml_service_provider,
            keys=providers.saml_keys,
            signed_metadata=SignedMetadata(),
            login_starts=login_starts,
        ),
        oidc=OidcPages(
            site=site,
            completion=completion,
            portal=portal,
            sign_out=sign_out,
            clients=providers.sign_in_clients,
            refresh=_build_web_identity_refresh(storage, providers),
            single_use=storage.single_use,
            login_starts=login_starts,
        ),
        sign_out=sign_out,
        second_factor=SecondFactor(site=site, completion=completion, forms=forms, passkeys=passkeys),
        enrolment=Enrolment(
            site=site,
            completion=completion,
            forms=forms,
            passkeys=passkeys,
            seeds=_build_sealed_fields(storage, "totp-seed", _SEED_LIFETIME),
        ),
    )


def _build_forms(storage: Storage, site: Site) -> Forms:
    return Forms(site=site, vault=storage.vault, pause=time.sleep)


def _build_home_realms(settings: Settings, storage: Storage, providers: Providers) -> HomeRealms:
    store = storage.store
    return HomeRealms(
        providers.directories,
        lambda: (*saml.login_options(store), *oidc.login_options(store)),
        lambda arn: saml.find_login_option(store, arn) or oidc.find_login_option(store, arn),
        dict(_parse_realm(text) for text in settings.pages_realms),
    )


def _parse_realm(text: str) -> tuple[str, str]:
    """Return the domain and the provider of a DOMAIN=PROVIDER setting."""
    domain, _, provider = text.partition("=")
    return domain.casefold(), provider


def _build_passkeys(settings: Settings, storage: Storage) -> Passkeys:
    return Passkeys(
        public_url=settings.public_url,
        organisation=settings.pages_organisation,
        challenges=_build_sealed_fields(storage, "passkey", timedelta(seconds=CHALLENGE_SECONDS)),
    )


def _build_sealed_fields(storage: Storage, kind: str, lifetime: timedelta) -> SealedFields:
    return SealedFields(kind=kind, lifetime=lifetime, vault=storage.vault, single_use=storage.single_use, random=random)


def _build_clock_check(storage: Storage, now: Callable[[], datetime]) -> ClockCheck:
    return ClockCheck(
        now=now,
        monotonic=_uptime,
        others={"SQL": storage.store.clock, "Redis": storage.live_sessions.clock},
        started=now(),
        started_monotonic=_uptime(),
    )


def _uptime() -> float:
    """Return seconds that also pass while the machine is suspended, where the system counts them (Linux)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _build_revocation(storage: Storage, site: Site) -> SessionRevocation:
    listing = SessionListing(store=storage.store, live_sessions=storage.live_sessions, now=site.gate.now)
    return SessionRevocation(
        store=storage.store,
        listing=listing,
        browser_sessions=site.sessions,
        audit=storage.audit,
        now=site.gate.now,
        random=random,
    )


def _build_administration_pages(
    settings: Settings, storage: Storage, providers: Providers, access: AdminAccess, revocation: SessionRevocation
) -> AdministrationPages:
    return AdministrationPages(
        accounts=AdminPages(
            site=access.site,
            admin_access=access,
            directories=providers.directories,
            jwks_cache=providers.jwks_cache,
            monotonic=time.monotonic,
        ),
        sessions=AdminSessions(site=access.site, admin_access=access, revocation=revocation),
        audit=AuditPages(
            site=access.site,
            admin_access=access,
            search=AuditSearch(
                folder=settings.audit_dir, pause=lambda: time.sleep(0), unlogged=storage.reconciliation.unlogged_lines
            ),
        ),
    )
