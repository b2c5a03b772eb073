"""Builds what signs browsers in to resources."""

from broker.api.dispatch import Gate
from broker.authz.sign_in.addresses import ServiceAddresses
from broker.authz.sign_in.service_sign_in import ServiceSignIn
from broker.authz.sign_in.starts import LIFETIME, SignInStarts
from broker.config.settings import Settings
from broker.sessions.service import ServiceSessions
from broker.sessions.validity import SessionValidity
from broker.wiring.clock_and_random import random
from broker.wiring.storage import Storage, build_sealed_fields, open_redis
from sts.store.sealed_values import SealedValues


def build_service_sign_in(settings: Settings, storage: Storage, gate: Gate) -> ServiceSignIn:
    """Return what finds, begins and ends the sign-ins of browsers at resources."""
    values = SealedValues(settings.master_key, random)
    return ServiceSignIn(
        gate=gate,
        browser_sessions=storage.browser_sessions,
        validity=SessionValidity(storage.store, gate.kinds),
        service_sessions=ServiceSessions(open_redis(settings.redis_url), values, gate.now, random),
        starts=SignInStarts(build_sealed_fields(storage, "service-start", LIFETIME)),
        addresses=ServiceAddresses(settings.public_url, settings.development),
    )
