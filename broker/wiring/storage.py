"""Opens what keeps state: the SQL store, Redis and the audit log."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.audit.log import AuditLog
from broker.audit.reconciliation import Reconciliation
from broker.config.settings import Settings
from broker.runtime.thread_pool import run_in_thread_pool
from broker.sessions.browser import BrowserSessions
from broker.signin.attempt_slots import AttemptSlots
from broker.signin.throttle import SignInThrottle
from broker.web.core.sealed_fields import SealedFields
from broker.wiring.clock_and_random import now, random
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Identity
from sts.identity_kinds import STS_IDENTITY_KINDS
from sts.store.sealed_values import SealedValues
from sts.store.sealing_keys import SealerCache
from sts.store.sessions import LiveSessions
from sts.store.single_use import SingleUse

_REDIS_TIMEOUT = 0.5  # seconds; Redis is never worth waiting for, tokens verify without it
_GATHER = 0.001  # seconds in which the uses of single-use proofs gather for one commit
BUILT_IN_TYPES: Final = tuple(half.identity_type for half in STS_IDENTITY_KINDS)


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


def build_storage(
    settings: Settings, now: Callable[[], datetime], identity_types: tuple[type[Identity], ...]
) -> Storage:
    """Open what keeps state; ``identity_types`` are those that browser sessions may have."""
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


def build_sealed_fields(storage: Storage, kind: str, lifetime: timedelta) -> SealedFields:
    """Return sealed fields of forms and cookies of one kind, each good for ``lifetime`` at most."""
    return SealedFields(kind=kind, lifetime=lifetime, vault=storage.vault, single_use=storage.single_use, random=random)
