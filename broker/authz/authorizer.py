"""Decides whether a request to a resource may pass: who signed it, what it asks for, what the policies say.

Each step is the one that the query API uses: signatures and sessions by `sts.authenticate`, permissions by
`broker.api.authorization`, one audit record for each decision by `broker.audit`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from broker.api.authorization import authorize
from broker.api.http import HttpRequest
from broker.api.request_ids import new_request_id
from broker.audit.log import AuditLog
from broker.authz.original import OriginalRequest
from broker.authz.request_checks import check_form, check_unsigned, is_unsigned
from broker.authz.resign import resign
from broker.authz.resource import Audited, Resource, ResourceKind
from broker.authz.resource_policies import FindPolicies, owned_permission
from broker.authz.service_record import service_record
from broker.authz.service_request import ServiceRequest
from broker.authz.service_state import ServiceState
from broker.sessions.key_usage import AccessKeyUsage
from iam.arn import Random
from iam.clock import to_milliseconds
from iam.errors import (
    AccessDenied,
    InternalFailure,
    MissingAuthenticationToken,
    NotSignedIn,
    ServiceError,
    SignatureDoesNotMatch,
)
from iam.operations.required_permission import ContextKeys, RequiredPermission
from iam.policy.every_resource import decide_every
from iam.principal import PrincipalKind
from iam.store.store import Store
from sts import callers, sigv4
from sts.authenticate import Authenticator
from sts.callers import Caller
from sts.payload import PAYLOAD_HASH_HEADER, known_hash
from sts.sigv4 import HEAD_ONLY, S3, PresentedSignature, Rules, SignedService
from sts.store.sessions import LiveSessions
from sts.token import Sealer

log = logging.getLogger(__name__)

Reader = Callable[[Resource, HttpRequest], ServiceRequest]

_RULES: Final[Mapping[ResourceKind, Rules]] = {ResourceKind.S3: S3, ResourceKind.HTTP: HEAD_ONLY}
# What is recorded of the requests that pass; denials always are.
_RECORDED: Final[Mapping[Audited, Callable[[ServiceRequest], bool]]] = {
    Audited.ALL: lambda _request: True,
    Audited.WRITES: lambda request: request.writes,
    Audited.DENIALS: lambda _request: False,
}
_NAMED_IN_BODY: Final = (
    " The authorizer does not see the body, which names the keys: this request needs an Allow for every key that begins"
    " so, and no Deny for any of them. Requests for one key each need it for that key alone."
)
_NO_HOST: Final = ": list it in hosts of a [resource.NAME] in the settings, with the port unless that is 80 or 443."
_SIGN_THE_BODY: Final = (
    " The authorizer does not see the body of this request: send its SHA-256 in the header x-amz-content-sha256, and"
    " sign that header."
)
_SIGN_IN_FIRST: Final = "You are not signed in, or your session is over. Sign in, or sign the request."


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """Decides on the requests to all resources.

    ``find_resource`` returns the resource of a host, ``readers`` say what requests of each kind ask for, and
    ``resource_policies`` returns the policy of a resource and one of its buckets. ``signed_in`` returns as whom a
    browser acts that is signed in to a resource.
    """

    find_resource: Callable[[str], Resource | None]
    readers: Mapping[ResourceKind, Reader]
    resource_policies: FindPolicies
    signed_in: Callable[[Resource, HttpRequest], Caller | None]
    store: Store
    authenticate: Authenticator
    sealer: Callable[[], Sealer]
    sessions: LiveSessions
    key_use: AccessKeyUsage
    audit: AuditLog
    now: Callable[[], datetime]
    random: Random
    services: dict[str, SignedService] = field(default_factory=dict)  # by resource

    def decide(self, original: OriginalRequest) -> ServiceState:
        """Return the decision on a request, which is recorded; ``error`` says why a request may not pass."""
        state = ServiceState(original.request, self.now(), self._new_id)
        try:
            self._decide(state, original)
        except ServiceError as error:
            state.error = error
        except Exception:
            log.exception("request %s failed", state.id)
            state.error = InternalFailure("An internal error occurred.")
        self._record(state)
        return state

    def _decide(self, state: ServiceState, original: OriginalRequest) -> None:
        request, state.tls_version = state.request, original.tls_version
        self.store.refresh()
        resource = state.resource = self._resource(request)
        state.sealer = self.sealer()
        check_form(resource.kind, request)
        self._authenticate(state, resource, original)
        asked = state.service_request = self.readers[resource.kind](resource, request)
        self._authorize_or_sign_in(state, resource, asked)
        if resource.backend is not None:
            state.resigned = resign(resource, request, state.now)

    def _resource(self, request: HttpRequest) -> Resource:
        host = request.header("host") or ""
        resource = self.find_resource(host)
        if resource is None:
            raise AccessDenied(f"No resource has the host {host[:255]!a}{_NO_HOST}")
        return resource

    # --- who ----------------------------------------------------------------------------------------------------------

    def _authenticate(self, state: ServiceState, resource: Resource, original: OriginalRequest) -> None:
        request = state.request
        if is_unsigned(request):  # a signature counts alone, whatever cookies come with it
            check_unsigned(resource.kind, request)
            state.caller = self._browser_caller(state, resource)
            return
        presented = sigv4.read(request.method, request.path, request.query, request.headers, b"")
        state.access_key_id, state.region = presented.access_key_id, presented.region
        state.presented = presented
        self._verify(state, resource, presented, original)
        self._note_use(state, presented)

    def _browser_caller(self, state: ServiceState, resource: Resource) -> Caller:
        """Return the caller of a request without a signature: of a person who signed in, or anybody."""
        caller = self.signed_in(resource, state.request)
        if caller is not None:
            self._note_session(state, caller)
            return caller
        if resource.anonymous:
            return callers.anonymous()
        if resource.browser:
            raise NotSignedIn(_SIGN_IN_FIRST)
        raise MissingAuthenticationToken("Missing Authentication Token")

    def _verify(
        self, state: ServiceState, resource: Resource, presented: PresentedSignature, original: OriginalRequest
    ) -> None:
        service = self._service(resource, original.body_hash)
        try:
            state.caller = self.authenticate.verify(presented, service, state.now)
        except SignatureDoesNotMatch as error:
            if service.rules is HEAD_ONLY and PAYLOAD_HASH_HEADER not in presented.headers:
                error.message += _SIGN_THE_BODY
            raise
        state.payload_hash = service.rules.payload_hash(presented)
        # To an HTTP service, without a declared hash, only the empty body passes.
        if service.rules is HEAD_ONLY and original.has_body and PAYLOAD_HASH_HEADER not in presented.headers:
            raise SignatureDoesNotMatch(f"The body of the request is not signed.{_SIGN_THE_BODY}")

    def _service(self, resource: Resource, body_hash: str) -> SignedService:
        if body_hash and resource.kind is ResourceKind.HTTP:
            return SignedService(resource.service, resource.regions, Rules(payload_hash=known_hash(body_hash)))
        service = self.services.get(resource.name)
        if service is None:
            service = self.services[resource.name] = SignedService(
                resource.service, resource.regions, _RULES[resource.kind]
            )
        return service

    def _note_use(self, state: ServiceState, presented: PresentedSignature) -> None:
        caller = state.signer
        if caller.session is None:
            self.key_use.note(caller.access_key_id, state.now, presented.service, presented.region)
        else:
            self._note_session(state, caller)

    def _note_session(self, state: ServiceState, caller: Caller) -> None:
        if caller.session is not None:
            key = caller.session.grant.account_id, caller.session.id
            self.sessions.record_use(key, to_milliseconds(state.now))

    # --- may they -----------------------------------------------------------------------------------------------------

    def _authorize(self, state: ServiceState, resource: Resource, asked: ServiceRequest) -> None:
        keys = s3_keys(state) if resource.kind is ResourceKind.S3 else {}
        for permission in asked.permissions:
            needed = self._of_resource(permission, resource, keys)
            authorize(state, needed, needed.action, random=self.random)
        for permission in asked.every_resource:
            self._authorize_every(state, self._of_resource(permission, resource, keys))

    def _of_resource(self, permission: RequiredPermission, resource: Resource, keys: ContextKeys) -> RequiredPermission:
        owned = owned_permission(permission, resource, self.resource_policies)
        return replace(owned, keys={**keys, **owned.keys}) if keys else owned

    def _authorize_every(self, state: ServiceState, needed: RequiredPermission) -> None:
        """Raise AccessDenied unless the policies allow an action on whatever the body may name."""
        try:
            authorize(state, needed, needed.action, random=self.random, decision_on=decide_every)
        except AccessDenied as error:
            error.message += _NAMED_IN_BODY
            raise

    def _authorize_or_sign_in(self, state: ServiceState, resource: Resource, asked: ServiceRequest) -> None:
        """Raise AccessDenied where the caller may not; NotSignedIn where nobody is signed in and people could be."""
        try:
            self._authorize(state, resource, asked)
        except AccessDenied as error:
            if resource.browser and state.signer.principal.kind is PrincipalKind.ANONYMOUS:
                raise NotSignedIn(_SIGN_IN_FIRST, log=error.log) from error
            raise

    # --- audit --------------------------------------------------------------------------------------------------------

    def _record(self, state: ServiceState) -> None:
        """Record a decision; what cannot be recorded does not pass."""
        if state.error is None and not _is_recorded(state):
            return
        try:
            self.audit.append(service_record(state))
        except ServiceError as error:
            state.error = error
        except Exception:
            log.exception("request %s could not be recorded", state.id)
            state.error = InternalFailure("An internal error occurred.")

    def _new_id(self) -> str:
        return new_request_id(self.random)


def _is_recorded(state: ServiceState) -> bool:
    resource, asked = state.resource, state.service_request
    return resource is None or asked is None or _RECORDED[resource.audit](asked)


def s3_keys(state: ServiceState) -> ContextKeys:
    """Return the condition keys of S3 about the signature of a request and its connection."""
    tls = {"s3:tlsversion": (state.tls_version,)} if state.tls_version else {}
    return {**signature_keys(state), **tls}


def signature_keys(state: ServiceState) -> ContextKeys:
    """Return the condition keys about the signature of a request to S3; none where it has no signature.

    Source: Amazon S3 API reference, "Amazon S3 Signature Version 4 Authentication Specific Policy Keys".
    """
    presented = state.presented
    if presented is None:
        return {}
    age = to_milliseconds(state.now) - to_milliseconds(presented.amz_date)
    return {
        "s3:signatureversion": (sigv4.ALGORITHM,),
        "s3:authtype": ("REST-HEADER" if presented.expires is None else "REST-QUERY-STRING",),
        "s3:signatureage": (str(max(0, age)),),
    }
