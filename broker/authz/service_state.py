"""What is learned of one request to a resource on its way through, for the audit record and the answer."""

from dataclasses import dataclass

from broker.api.request_state import RequestState
from broker.authz.resign import Resigned
from broker.authz.resource import Resource
from broker.authz.service_request import ServiceRequest
from iam.errors import ServiceError
from sts.sigv4 import PresentedSignature


@dataclass(slots=True)
class ServiceState(RequestState):
    """One request to a resource in progress; a refusal at any step leaves what was known.

    ``tls_version`` is that of the client's connection, where the proxy tells it; ``payload_hash`` is what the verified
    signature says of the body; ``resigned`` is what goes to a store.
    """

    resource: Resource | None = None
    service_request: ServiceRequest | None = None
    presented: PresentedSignature | None = None
    tls_version: str = ""
    payload_hash: str = ""
    resigned: Resigned | None = None
    error: ServiceError | None = None
