"""Builds what answers programs: the gate of the query API, and the health checks."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network

from broker.api import model
from broker.api.body_budget import BodyBudget
from broker.api.dispatch import Gate
from broker.api.forwarded import TrustedProxies
from broker.api.known_providers import known_providers
from broker.config.settings import Settings
from broker.runtime.clock_health import ClockCheck
from broker.runtime.health import Checks, RememberedCheck
from broker.sessions.key_usage import AccessKeyUsage
from broker.signin.kinds import IdentityKinds
from broker.signin.second_factor import SecondFactorRule
from broker.web.oauth.clients import ExchangeClients
from broker.wiring.clock_and_random import random, uptime
from broker.wiring.providers import Providers, build_provider_accounts, directory_accounts
from broker.wiring.storage import Storage
from sts.authenticate import Authenticator
from sts.federation.jwt_issuer import JwtIssuer

_DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What answers programs: the gate of the query API, token exchange, our own issuer, and the health checks."""

    gate: Gate
    exchange_clients: ExchangeClients
    trusted_proxies: TrustedProxies
    bodies: BodyBudget
    region: str  # in the signatures of requests that we make in our own name
    health_checks: Mapping[str, Callable[[], None]]


def build_api(settings: Settings, storage: Storage, providers: Providers, gate: Gate) -> Api:
    """Return what answers programs, with the checks of ``/readyz``."""
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


def _build_clock_check(storage: Storage, now: Callable[[], datetime]) -> ClockCheck:
    return ClockCheck(
        now=now,
        monotonic=uptime,
        others={"SQL": storage.store.clock, "Redis": storage.live_sessions.clock},
        started=now(),
        started_monotonic=uptime(),
    )


def _remembered(checks: Checks, *, seconds: float) -> Checks:
    return {name: RememberedCheck(check, monotonic=time.monotonic, seconds=seconds) for name, check in checks.items()}


def build_gate(
    settings: Settings,
    storage: Storage,
    providers: Providers,
    kinds: IdentityKinds,
    api: model.Api,
    now: Callable[[], datetime],
) -> Gate:
    """Return the gate of the query API, which every other way in asks as well."""
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
        provider_accounts=build_provider_accounts(settings),
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
