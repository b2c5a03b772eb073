"""Settings to Services: the only place where constructors meet, and where the clock and chance come from."""

import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_network

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.api import model
from broker.api.dispatch import Gate
from broker.api.wsgi_adapter import Networks
from broker.audit.log import AuditLog
from broker.audit.search import AuditSearch
from broker.config.settings import Settings
from broker.providers.oauth import AccessTokenVerifier
from broker.providers.oidc.github import GitHub
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.saml.metadata_refresh import MetadataRefresh
from broker.providers.saml.provider import SamlServiceProvider
from broker.providers.saml.service_keys import ServiceKeys
from broker.runtime.fetch import Fetcher
from broker.sessions.browser import BrowserSessions
from broker.sessions.key_usage import AccessKeyUsage
from broker.sessions.refresh import DirectoryRefresh
from broker.sessions.validity import SessionValidity
from broker.signin.ldap import LdapSignIn
from broker.signin.saml import SamlSignIn
from broker.signin.throttle import SignInThrottle
from broker.signin.web_identity import COGNITO, GOOGLE, WebIdentitySignIn
from broker.web.account.password import Passwords
from broker.web.account.security import SecurityPage
from broker.web.account.sessions import OwnSessions
from broker.web.admin.access import AdminAccess
from broker.web.admin.audit import AuditPages
from broker.web.admin.pages import AdminPages
from broker.web.admin.sessions import AdminSessions
from broker.web.core.appearance import Appearance
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
from broker.web.login.oidc import OidcPages
from broker.web.login.saml import SamlPages
from broker.web.mfa.enrolment import Enrolment
from broker.web.mfa.passkeys import CHALLENGE_SECONDS, Passkeys
from broker.web.mfa.second_factor import SecondFactor
from broker.web.oauth.clients import ExchangeClients
from broker.web.portal.portal import Portal
from broker.web.portal.role_explanation import RoleExplanationPages
from iam.arn import Random
from iam.store.store import Store
from iam.store.vault import Vault
from sts.authenticate import Authenticator
from sts.federation.jwt_issuer import JwtIssuer
from sts.store.sealing_keys import SealerCache
from sts.store.sessions import LiveSessions
from sts.store.single_use import SingleUse

_REDIS_TIMEOUT = 0.5  # seconds; Redis is never worth waiting for, tokens verify without it

_GATHER = 0.001  # seconds in which the uses of single-use proofs gather for one commit


def now() -> datetime:
    """Return this moment, aware and in UTC."""
    return datetime.now(UTC)


random: Random = secrets.token_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that answers requests in one worker."""

    gate: Gate
    store: Store
    sessions: LiveSessions
    audit: AuditLog
    checks: Mapping[str, Callable[[], None]]
    trusted_proxies: Networks
    exchange_clients: ExchangeClients
    endpoint: str
    region: str  # that signatures of our own name
    login: Login
    accounts: AccountLogin
    passwords: Passwords
    own_sessions: OwnSessions
    admin_sessions: AdminSessions
    admin: AdminPages
    admin_audit: AuditPages
    role_explanation: RoleExplanationPages
    second_factor: SecondFactor
    enrolment: Enrolment
    security: SecurityPage
    portal: Portal
    saml: SamlPages
    oidc: OidcPages
    metadata: MetadataRefresh

    def reference(self) -> str:
        """Return eight characters that a person can read out, and that find the log line."""
        return secrets.token_hex(4)


def open_store(settings: Settings) -> Store:
    """Return the durable store of an installation, at the head of its schema."""
    store = Store(
        settings.database_url,
        Vault(settings.master_key),
        monotonic=time.monotonic,
        signal_file=settings.data_dir / "revision.bell",
    )
    store.migrate()
    return store


def open_redis(url: str) -> Redis:
    """Return a Redis client that fails quickly: one try, no waiting."""
    client: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_REDIS_TIMEOUT,
        socket_connect_timeout=_REDIS_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    return client


def open_live_sessions(redis_url: str) -> LiveSessions:
    """Return the list of live sessions in a Redis."""
    return LiveSessions(open_redis(redis_url), monotonic=time.monotonic, pause=time.sleep, spawn=_in_background)


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def build_fetcher(settings: Settings) -> Fetcher:
    """Return what fetches documents from elsewhere."""
    networks = tuple(ip_network(text) for text in settings.outbound_allowed_networks)
    own = settings.outbound_ca_file
    context = ssl.create_default_context(cafile=own) if own else _system_ca_context()
    return Fetcher(context, networks, plain=settings.development)


@cache
def _system_ca_context() -> ssl.SSLContext:
    """Return what believes the system's authorities: reading them takes longer than the rest of the wiring."""
    return ssl.create_default_context()


def appearance(settings: Settings) -> Appearance:
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


def _realm(text: str) -> tuple[str, str]:
    domain, _, provider = text.partition("=")
    return domain.casefold(), provider


def build_services(settings: Settings, *, now: Callable[[], datetime] = now) -> Services:
    """Build one worker's services from the settings; tests hand in a clock of their own."""
    vault = Vault(settings.master_key)
    store = open_store(settings)
    sealers = SealerCache(store, vault, now=now)
    audit = AuditLog(settings.audit_dir, sync=settings.audit_sync, flush_ms=settings.audit_flush_ms)
    sessions = open_live_sessions(settings.redis_url)
    fetching = build_fetcher(settings)
    jwks_cache = JwksCache(
        fetching,
        monotonic=time.monotonic,
        url_overrides={
            f"https://{GOOGLE}": settings.web_identity_google_url,
            f"https://{COGNITO}": settings.web_identity_cognito_url,
        },
    )
    jwt_issuer = JwtIssuer(store, vault, public_url=settings.public_url, now=now, random=random)
    saml_keys = ServiceKeys(store, vault, now=now, random=random)
    single_use = SingleUse(store, monotonic=time.monotonic, gather=lambda: time.sleep(_GATHER))
    service_provider = SamlServiceProvider(
        settings.public_url, timedelta(seconds=settings.saml_clock_skew), saml_keys.decryption_keys
    )
    providers = {name: config.open(now=now) for name, config in settings.directories.items()}
    throttle = SignInThrottle(store)
    ldap = LdapSignIn(
        providers=providers,
        throttle=throttle,
        audit=audit,
        store=store,
        password_in_query=settings.allow_password_in_query,
    )
    gate = Gate(
        api=model.load_models(),
        store=store,
        vault=vault,
        limits=settings.limits,
        authenticate=Authenticator(store, sealers.current, frozenset(settings.regions) or None),
        sealer=sealers.current,
        sessions=sessions,
        audit=audit,
        ldap=ldap,
        saml=SamlSignIn(
            store=store,
            service_provider=service_provider,
            single_use=single_use,
        ),
        web=WebIdentitySignIn(
            store=store,
            jwks_cache=jwks_cache,
            access_tokens=AccessTokenVerifier(
                fetching, settings.web_identity_amazon_url, settings.web_identity_facebook_url
            ),
            single_use=single_use,
            skew=timedelta(seconds=settings.web_identity_clock_skew),
        ),
        jwt_issuer=jwt_issuer,
        public_url=settings.public_url,
        key_use=AccessKeyUsage(store),
        now=now,
        random=random,
    )
    checks: dict[str, Callable[[], None]] = {"sql": store.check, "redis": sessions.check, "audit": audit.check}
    checks |= {f"directory {name}": provider.check for name, provider in providers.items()}
    trusted = tuple(ip_network(text) for text in settings.trusted_proxies)
    browser_sessions = BrowserSessions(
        open_redis(settings.redis_url),
        now,
        random,
        timedelta(seconds=settings.pages_idle),
        timedelta(seconds=settings.pages_lifetime),
    )
    session_validity = SessionValidity(store, providers)
    directory_refresh = DirectoryRefresh(browser_sessions, providers, timedelta(seconds=settings.pages_recheck))
    requests = RequestStates(gate, trusted)
    cookies = Cookies(is_https(settings.public_url))
    csrf = CsrfProtection(settings.public_url)
    page_audit = PageAudit(audit, requests)
    site = Site(
        gate=gate,
        sessions=browser_sessions,
        session_validity=session_validity,
        directory_refresh=directory_refresh,
        public_url=settings.public_url,
        maintenance=settings.pages_maintenance,
        requests=requests,
        cookies=cookies,
        csrf=csrf,
        audit=page_audit,
        current_session=CurrentSession(
            sessions=browser_sessions,
            validity=session_validity,
            directory_refresh=directory_refresh,
            cookies=cookies,
            csrf=csrf,
            requests=requests,
            audit=page_audit,
            maintenance=settings.pages_maintenance,
        ),
        responses=Responses(
            public_url=settings.public_url, appearance=appearance(settings), cookies=cookies, requests=requests
        ),
    )
    completion = LoginCompletion(site=site, providers_requiring_mfa=frozenset(settings.pages_second_factor))
    admin_access = AdminAccess(site=site)
    portal = Portal(site=site, admin_access=admin_access, other_roles=settings.pages_other_roles)
    forms = Forms(site=site, vault=vault, pause=time.sleep)
    accounts = AccountLogin(site=site, completion=completion, forms=forms, throttle=throttle)
    passkeys = Passkeys(
        public_url=settings.public_url,
        organisation=settings.pages_organisation,
        challenges=SealedFields(
            kind="passkey",
            lifetime=timedelta(seconds=CHALLENGE_SECONDS),
            vault=vault,
            single_use=single_use,
            random=random,
        ),
    )
    seeds = SealedFields(
        kind="totp-seed", lifetime=timedelta(hours=1), vault=vault, single_use=single_use, random=random
    )
    return Services(
        gate=gate,
        store=store,
        sessions=sessions,
        audit=audit,
        checks=checks,
        trusted_proxies=trusted,
        exchange_clients=ExchangeClients(settings.token_exchange_clients, only=settings.token_exchange_registered_only),
        endpoint=settings.public_url,
        region=next(iter(settings.regions), "us-east-1"),
        login=Login(
            site=site,
            completion=completion,
            forms=forms,
            ldap=ldap,
            home_realms=HomeRealms(
                providers,
                lambda: (*saml.login_options(store), *oidc.login_options(store)),
                dict(_realm(text) for text in settings.pages_realms),
            ),
            identifier_first=settings.pages_identifier_first,
        ),
        accounts=accounts,
        passwords=Passwords(site=site, completion=completion, forms=forms, ldap=ldap, accounts=accounts),
        own_sessions=OwnSessions(site=site, admin_access=admin_access),
        admin_sessions=AdminSessions(site=site, admin_access=admin_access),
        admin=AdminPages(
            site=site,
            admin_access=admin_access,
            directories=providers,
            jwks_cache=jwks_cache,
            monotonic=time.monotonic,
        ),
        admin_audit=AuditPages(
            site=site,
            admin_access=admin_access,
            search=AuditSearch(folder=settings.audit_dir, pause=lambda: time.sleep(0)),
        ),
        role_explanation=RoleExplanationPages(
            site=site, admin_access=admin_access, other_roles=settings.pages_other_roles
        ),
        second_factor=SecondFactor(site=site, completion=completion, forms=forms, passkeys=passkeys),
        enrolment=Enrolment(site=site, completion=completion, forms=forms, passkeys=passkeys, seeds=seeds),
        security=SecurityPage(site=site, completion=completion, admin_access=admin_access),
        portal=portal,
        saml=SamlPages(
            site=site, completion=completion, portal=portal, service_provider=service_provider, keys=saml_keys
        ),
        oidc=OidcPages(
            site=site,
            completion=completion,
            portal=portal,
            jwks_cache=jwks_cache,
            fetcher=fetching,
            single_use=single_use,
            skew=timedelta(seconds=settings.web_identity_clock_skew),
            vault=vault,
            github=GitHub(fetching, settings.web_identity_github_url, settings.web_identity_github_api_url),
        ),
        metadata=MetadataRefresh(
            store=store, fetcher=fetching, audit=audit, single_use=single_use, now=now, random=random
        ),
    )
