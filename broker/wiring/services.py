"""Builds all services of one worker from the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.api import model
from broker.authz.endpoints import Endpoints
from broker.authz.sign_in.service_sign_in import ServiceSignIn
from broker.config.settings import Settings
from broker.signin.built_in import SignIns
from broker.signin.kinds import IdentityKind
from broker.wiring.api import Api, build_api, build_gate
from broker.wiring.authz import build_authz
from broker.wiring.clock_and_random import now, random
from broker.wiring.pages import Pages, build_pages
from broker.wiring.providers import Providers, build_providers
from broker.wiring.service_sign_in import build_service_sign_in
from broker.wiring.sign_ins import build_kinds, build_sign_ins
from broker.wiring.site import build_site
from broker.wiring.storage import BUILT_IN_TYPES, Storage, build_storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that answers requests in one worker."""

    storage: Storage
    providers: Providers
    sign_ins: SignIns
    api: Api
    authz: Endpoints
    service_sign_in: ServiceSignIn
    pages: Pages

    def new_reference(self) -> str:
        """Return eight random characters that a person can read out, and that find the line in the log."""
        return random(4).hex()


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
    storage = build_storage(settings, now, (*BUILT_IN_TYPES, *added_types))
    providers = build_providers(settings, storage, now)
    sign_ins = build_sign_ins(settings, storage, providers)
    kinds = build_kinds(settings, storage, providers, sign_ins, additional_kinds)
    gate = build_gate(settings, storage, providers, kinds, model.load_models(tuple(additional_models)), now)
    api = build_api(settings, storage, providers, gate)
    site = build_site(settings, storage, api)
    service_sign_in = build_service_sign_in(settings, storage, gate)
    return Services(
        storage=storage,
        providers=providers,
        sign_ins=sign_ins,
        api=api,
        authz=build_authz(settings, storage, api, service_sign_in),
        service_sign_in=service_sign_in,
        pages=build_pages(settings, storage, providers, sign_ins, site, service_sign_in),
    )
