"""Builds the authorizer, which reverse proxies ask whether requests may pass."""

from broker.authz.authorizer import Authorizer
from broker.authz.endpoints import Endpoints
from broker.authz.http_api.requests import read_http_request
from broker.authz.resource import ResourceKind
from broker.authz.resource_policies import ResourcePolicies
from broker.authz.resource_table import ResourceTable
from broker.authz.s3.requests import read_s3_request
from broker.authz.sign_in.answers import BrowserAnswers
from broker.authz.sign_in.service_sign_in import ServiceSignIn
from broker.authz.tickets import Tickets
from broker.config.settings import Settings
from broker.wiring.api import Api
from broker.wiring.clock_and_random import random
from broker.wiring.storage import Storage


def build_authz(settings: Settings, storage: Storage, api: Api, sign_in: ServiceSignIn) -> Endpoints:
    """Return the endpoints at which proxies ask."""
    gate, find_resource = api.gate, ResourceTable(settings.resources).find
    authorizer = Authorizer(
        find_resource=find_resource,
        readers={ResourceKind.S3: read_s3_request, ResourceKind.HTTP: read_http_request},
        resource_policies=ResourcePolicies(storage.store),
        signed_in=sign_in.caller,
        store=storage.store,
        authenticate=gate.authenticate,
        sealer=gate.sealer,
        sessions=storage.live_sessions,
        key_use=gate.key_use,
        audit=storage.audit,
        now=gate.now,
        random=random,
    )
    return Endpoints(
        authorizer=authorizer,
        browsers=BrowserAnswers(find_resource=find_resource, sign_in=sign_in),
        tickets=Tickets(settings.master_key),
        trusted_proxies=api.trusted_proxies,
        now=gate.now,
        secret=settings.authz_secret,
    )
