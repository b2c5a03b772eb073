"""The one gate: every call of every operation passes here, in one order, and none can skip a step.

Find the operation, verify who signed, read and validate the parameters, prove the identity where the operation
carries a proof, decide each required permission, run, write the audit record, answer. Operations themselves hold no
permission checks.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from broker.api import query
from broker.api.authorization import authorize, is_authorized
from broker.api.errors import is_sender_fault, status
from broker.api.http import HttpRequest, HttpResponse
from broker.api.model import Api, OperationModel
from broker.api.request_ids import new_request_id
from broker.api.request_state import RequestState
from broker.audit import record as audit_record
from broker.audit.log import AuditLog
from broker.audit.transaction import audited_transaction
from broker.runtime.thread_pool import run_in_thread_pool
from broker.sessions.key_usage import AccessKeyUsage
from broker.signin.kinds import IdentityKinds
from broker.signin.second_factor import SecondFactorRule
from iam.arn import Random
from iam.call import Call, Params, Result
from iam.clock import to_milliseconds
from iam.credentials.virtual_mfa import consume_code
from iam.errors import (
    AccessDenied,
    ExpiredToken,
    InternalFailure,
    InvalidAction,
    InvalidClientTokenId,
    MissingAction,
    MissingAuthenticationToken,
    NotImplementedHere,
    ServiceError,
    ServiceUnavailable,
    Throttling,
    ValidationError,
)
from iam.inventory.known_providers import KnownProviders
from iam.limits import Limits
from iam.operations import OPERATIONS as IAM
from iam.operations.policies.submitted import findings
from iam.operations.required_permission import Operation, Preparation, RequiredPermission
from iam.policy.lint.findings import Finding
from iam.principal import PrincipalKind
from iam.store.store import Store, found_revision
from iam.store.vault import Vault
from sts import sigv4
from sts.authenticate import Authenticator
from sts.federation.jwt_issuer import JwtIssuer
from sts.mint import Credentials, Session
from sts.operations import StsCall, StsOperation, session_may_call
from sts.provider_accounts import ProviderAccounts
from sts.store.sessions import LiveSession, LiveSessions
from sts.token import Sealer

log = logging.getLogger(__name__)

_LONGEST_ROLE_NAME = 64  # characters: IAM API reference, CreateRole
_FINDINGS_HEADER, _MAX_FINDINGS_HEADER = "x-fedgate-policy-findings", 1024
_MAX_USER_AGENT = 120  # characters of its user agent: enough to tell a browser from a program, and which
STS_VERSION = "2011-06-15"
_MAX_ECHOED = 128  # characters of a name that nobody knows: an answer stays short however long the request is


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Answers requests of the query API."""

    api: Api
    store: Store
    vault: Vault
    limits: Limits
    authenticate: Authenticator
    sealer: Callable[[], Sealer]
    sessions: LiveSessions
    audit: AuditLog
    kinds: IdentityKinds
    provider_accounts: ProviderAccounts
    contact_issuer: Callable[[str, str], object] | None
    second_factor: SecondFactorRule
    known_providers: KnownProviders
    jwt_issuer: JwtIssuer
    public_url: str
    key_use: AccessKeyUsage
    now: Callable[[], datetime]
    random: Random

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to one request; never raises."""
        state = RequestState(request, self.now(), self._new_id, self.kinds.describe)
        try:
            return self._render_result(state, self._run(state))
        except ServiceError as error:
            return self._render_refusal(state, error)
        except Exception:
            # The last resort: the operator gets the traceback, the caller a request id.
            log.exception("request %s failed", state.id)
            return self._render_refusal(state, InternalFailure("An internal error occurred."))

    def call(
        self,
        request: HttpRequest,
        operation: str,
        parameters: Mapping[str, str],
        *,
        credentials: Credentials | None = None,
        region: str | None = None,
        before_consuming: Callable[[Result], None] | None = None,
    ) -> Result:
        """Run an operation of the STS for another endpoint of this server; raise ServiceError.

        The same checks in the same order and the same audit record as for a request over HTTP: only the form, the
        signature and the rendered answer are left out. ``request`` is what the client sent to that endpoint, without a
        body; ``parameters`` are named and spelled as in the query protocol. An operation that must be signed runs as
        the session of ``credentials``; ``region`` is the one that a signature would name. ``before_consuming`` may
        still refuse the result before the proof is used up.
        """
        state = RequestState(request, self.now(), self._new_id, self.kinds.describe)
        state.before_consuming, state.region = before_consuming, region
        try:
            self._refresh(state)
            model = self._find_operation(state, operation, STS_VERSION)
            if not model.unsigned:
                self._authenticate_session(state, model, credentials)
            return self._run_operation(state, model, tuple(parameters.items()))
        except ServiceError as error:
            refused = error
        except Exception:
            log.exception("request %s failed", state.id)
            refused = InternalFailure("An internal error occurred.")
        raise self.record_refusal(state, refused)

    def check(
        self,
        request: HttpRequest,
        operation: str,
        parameters: Mapping[str, str],
        *,
        credentials: Credentials,
        region: str | None = None,
    ) -> None:
        """Raise the error with which ``call`` would answer an operation that changes nothing; nothing is recorded."""
        state = RequestState(request, self.now(), self._new_id, self.kinds.describe)
        self._refresh(state)
        model = self._find_operation(state, operation, STS_VERSION)
        state.region, state.caller = region, self.authenticate.session(credentials, state.now)
        p = state.params = query.parse(model, tuple(parameters.items()))
        query.validate(model, p)
        call, found = self.sts_call(state, None), self.kinds.sts_operations[model.name]
        for ask in found.required_permissions(call, p):
            authorize(state, ask, _action(model, ask), random=self.random)
        found.run(call, p)

    def knows_signer(self, request: HttpRequest) -> bool:
        """Return whether a request, whose body was not read yet, names an access key that exists."""
        try:
            presented = sigv4.read(request.method, request.path, request.query, request.headers, b"")
            return self.authenticate.knows(presented.access_key_id, presented.token)
        except ServiceError:
            return False

    def refuse(self, request: HttpRequest, error: ServiceError) -> HttpResponse:
        """Return the answer to a request that the edge could not read, recorded like every other refusal."""
        return self._render_refusal(RequestState(request, self.now(), self._new_id, self.kinds.describe), error)

    def _new_id(self) -> str:
        return new_request_id(self.random)

    # --- for the pages ------------------------------------------------------------------------------------------------

    def new_request_state(self, request: HttpRequest) -> RequestState:
        """Return the state of a request in which a page proves an identity and assumes roles for it."""
        state = RequestState(request, self.now(), self._new_id, self.kinds.describe)
        self._refresh(state)
        return state

    def record_refusal(self, state: RequestState, error: ServiceError) -> ServiceError:
        """Record a refusal and return it; or, where it cannot be recorded, return that we are out of order."""
        state.result = None
        try:
            self.audit.append(audit_record.request_record(state, error))
            state.refusal_recorded = True
        except ServiceError as unwritable:
            error = unwritable
        except Exception:
            log.exception("request %s could not be recorded", state.id)
            error = InternalFailure("An internal error occurred.")
        if error.log != error.message:
            # %a: what a stranger wrote stays on one line (THREATS A07).
            log.info("request %s refused: %s: %a", state.id, error.code, error.log)
        return error

    # --- the order of the checks --------------------------------------------------------------------------------------

    def _run(self, state: RequestState) -> Result:
        request = state.request
        self._refresh(state)
        parameters = query.parameters(request.query, request.body, request.header("content-type") or "")
        model = self._find_operation(state, query.first(parameters, "Action"), query.first(parameters, "Version"))
        if not model.unsigned:
            self._authenticate(state, model)
        return self._run_operation(state, model, parameters)

    def _refresh(self, state: RequestState) -> None:
        self.store.refresh()
        state.revision = self.store.generation
        # Once, before any transaction: to look for keys inside one would take a second connection of the pool.
        state.sealer = self.sealer()

    def _run_operation(self, state: RequestState, model: OperationModel, parameters: query.Parameters) -> Result:
        p = state.params = query.parse(model, parameters)
        query.validate(model, p)
        if model.service == "sts":
            return self._run_sts(state, model, p)
        return self._run_iam(state, model)

    def _find_operation(self, state: RequestState, action: str | None, version: str | None) -> OperationModel:
        if not action:
            raise MissingAction("The request must contain the parameter Action.")
        model = state.model = self.api.find(action, version)
        if model is None:
            named = (version or "")[:_MAX_ECHOED] or "NO_VERSION_SPECIFIED"
            raise InvalidAction(f"Could not find operation {action[:_MAX_ECHOED]} for version {named}")
        return model

    def _authenticate(self, state: RequestState, model: OperationModel) -> None:
        request = state.request
        presented = sigv4.read(request.method, request.path, request.query, request.headers, request.body)
        state.access_key_id, state.region = presented.access_key_id, presented.region
        try:
            caller = state.caller = self.authenticate(presented, model.service, state.now)
        except (InvalidClientTokenId, ExpiredToken):
            state.ended_session = self.authenticate.identify(presented, model.service)
            raise
        if caller.session is None:
            self.key_use.note(caller.access_key_id, state.now, model.service, presented.region)
        else:
            self._check_session(state, model, caller.session)

    def _authenticate_session(
        self, state: RequestState, model: OperationModel, credentials: Credentials | None
    ) -> None:
        """Authenticate a call of our own by the credentials themselves: a signature to ourselves proves no more."""
        if credentials is None:
            raise MissingAuthenticationToken("Request is missing Authentication Token")
        state.access_key_id = credentials.access_key_id
        caller = state.caller = self.authenticate.session(credentials, state.now)
        if caller.session is not None:
            self._check_session(state, model, caller.session)

    def _check_session(self, state: RequestState, model: OperationModel, session: Session) -> None:
        """Note that a session is used; raise where sessions of its kind may not call the operation at all."""
        self.sessions.record_use((session.grant.account_id, session.id), to_milliseconds(state.now))
        if not session_may_call(session, model.service, model.name):
            if model.service == "iam":
                raise InvalidClientTokenId(
                    "The security token included in the request is invalid.", log="kind of session"
                )
            raise AccessDenied(f"Cannot call {model.name} with session credentials")

    # --- STS ----------------------------------------------------------------------------------------------------------

    def _run_sts(self, state: RequestState, model: OperationModel, p: Params) -> Result:
        operation = self.kinds.sts_operations.get(model.name)
        if operation is None:
            raise _not_implemented(model)
        authenticate, mfa_at = self.kinds.proof_of(model.name), None
        if authenticate is not None:
            state.identity, state.params = authenticate(state, p)
        if "TokenCode" in p or "SerialNumber" in p:
            mfa_at = self._verify_mfa(state, p)
        # Whoever signs in with the code of an app has it in the session, as somebody who gives it on the pages.
        call = self.sts_call(state, mfa_at, keeps_mfa=authenticate is not None)
        return self.authorize_and_run(state, model, operation, call, proof=True)

    def sts_call(self, state: RequestState, mfa_at: int | None, *, keeps_mfa: bool = False) -> StsCall:
        """Return the call of the caller who signed, or of the identity that a provider proved."""
        return StsCall(
            self.store,
            state.sealer,
            self.random,
            state.now,
            state.caller,
            identity=None if state.caller else state.identity,
            mfa_at=mfa_at,
            jwt_issuer=self.jwt_issuer,
            region=state.region,
            role_session_keeps_mfa=keeps_mfa,
            provider_accounts=self.provider_accounts,
        )

    def authorize_and_run(
        self, state: RequestState, model: OperationModel, operation: StsOperation, call: StsCall, *, proof: bool
    ) -> Result:
        """Decide, run and record an operation of the STS; ``proof``: what proved the identity counts once."""
        if state.identity is not None:
            by_code = "TokenCode" in model.input.members if model.input else False
            self.second_factor.check(state.identity, call.mfa_at, by_code=by_code)
        if self.kinds.proof_of(model.name) is not None and _leaves_role_open(model, state.params):
            state.params = self._select_role(state, model, operation, call)
        self._authorize_sts(state, model, operation, call)
        outcome = operation.run(call, state.params)
        if state.before_consuming is not None:
            state.before_consuming(outcome.result)
        if proof and call.identity is not None:  # last of all: what was refused for another reason is not used up
            self.kinds.of(call.identity).broker.consume(state, call.identity)
            if self._has_moved(state):  # while the proof waited to be written, the role may have been closed
                self._authorize_sts(state, model, operation, call)
        state.result = outcome.result
        for record in audit_record.granted_records(state):
            self.audit.append(record)
        if outcome.session is not None:
            self.sessions.add(_live_session(outcome.session, outcome.arn, model.name, state))
        return outcome.result

    def _authorize_sts(
        self, state: RequestState, model: OperationModel, operation: StsOperation, call: StsCall
    ) -> None:
        state.decisions.clear()
        for ask in operation.required_permissions(call, state.params):
            authorize(
                state,
                ask,
                _action(model, ask),
                random=self.random,
                mfa_at=call.mfa_at,
                hide_reasons=operation.hide_reasons,
            )

    def _has_moved(self, state: RequestState) -> bool:
        self.store.refresh()
        return self.store.generation != state.revision

    def _select_role(
        self, state: RequestState, model: OperationModel, operation: StsOperation, call: StsCall
    ) -> Params:
        """Return the parameters with the one role that trusts the person and has the name, if the request has one.

        Only roles that trust the person are told.
        """
        identity = call.proven_identity
        first = self.store.first_account()
        accounts = None if identity.account_id else self.provider_accounts.accounts_of_choice(identity.provider, first)
        candidates = self.kinds.of(identity).sts.candidate_roles(identity, self.store, accounts)
        eligible = (role_arn for role_arn in candidates if self.provider_accounts.chooses(identity, role_arn, first))
        choices = [state.params | {"RoleArn": role_arn} for role_arn in eligible]
        allowed = [choice for choice in choices if is_authorized(state, operation, model.name, call, choice)]
        if not allowed:
            raise AccessDenied(f"Not authorized to perform sts:{model.name}", log="no role trusts this person")
        name, arns = state.params.get("RoleArn", ""), ", ".join(sorted(choice["RoleArn"] for choice in allowed))
        named = [choice for choice in allowed if name in ("", choice["RoleArn"].rpartition("/")[2])]
        if not named:
            text = f"no role of the name {name[:_LONGEST_ROLE_NAME]} trusts this identity, but these do: {arns}"
            raise AccessDenied(f"Not authorized to perform sts:{model.name}: {text}")
        if len(named) > 1:
            raise ValidationError(f"Several roles trust this identity; name one of them with RoleArn: {arns}")
        return named[0]

    def _verify_mfa(self, state: RequestState, p: Params) -> int:
        """Use up the MFA code of a request and return when it was given, in milliseconds; raise AccessDenied."""
        serial, code = p.get("SerialNumber"), p.get("TokenCode")
        if state.identity is not None:
            return self.second_factor.verify_code(state, serial, code)
        principal = state.signer.principal
        user_id = principal.entity_id if principal.kind is PrincipalKind.USER else None
        if serial is None or code is None or principal.kind not in (PrincipalKind.USER, PrincipalKind.ROOT):
            raise AccessDenied(
                "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
            )
        with self.store.write(bump_revision=False) as tx:
            self.renew_caller(tx, state)
            good = consume_code(tx, user_id, principal.account_id, serial, code, state.now, self.vault)
        if not good:
            raise AccessDenied("MultiFactorAuthentication failed with invalid MFA one time pass code.")
        return to_milliseconds(state.now)

    # --- IAM ----------------------------------------------------------------------------------------------------------

    def _run_iam(self, state: RequestState, model: OperationModel) -> Result:
        operation = IAM.get(model.name)
        if operation is None:
            raise _not_implemented(model)
        if not operation.writes:
            with self.store.read() as tx:
                self._authorize(tx, state, model, operation)
                result = state.result = operation.run(self._iam_call(tx, state), state.params)
            self.audit.append(audit_record.request_record(state))
            return result
        with self.store.read() as tx:
            # A caller without permission does not wait for the write lock.
            self._authorize(tx, state, model, operation)
        self.audit.check()  # a change that could not be audited is not made: also nothing is prepared for it
        known = partial(self.known_providers.exists, account_id=state.signer.principal.account_id)
        state.findings = findings(model.name, state.params, known)
        prepared = operation.prepare(self._preparation(state), state.params) if operation.prepare else None
        with audited_transaction(self.store, self.audit, lambda: audit_record.request_record(state)) as tx:
            self.renew_caller(tx, state)
            self._authorize(tx, state, model, operation)
            call = replace(self._iam_call(tx, state), prepared=prepared)
            result = state.result = operation.run(call, state.params)
        return result

    def renew_caller(self, tx: Connection, state: RequestState) -> None:
        """Build the caller anew if anything changed since the request began: it waited its turn (THREATS J08).

        Raise InvalidClientTokenId, ExpiredToken where the caller is no more.
        """
        if state.revision == found_revision(tx):
            return
        with self.store.reading_from(tx):
            state.caller = self.authenticate.renewed(state.signer, state.now)

    def _preparation(self, state: RequestState) -> Preparation:
        contact, account_id = self.contact_issuer, state.signer.principal.account_id
        return Preparation(
            state.now,
            run_in_thread_pool,
            partial(self._call_in, self.store.read, state),
            partial(self._call_in, partial(self.store.write, bump_revision=False), state),
            None if contact is None else lambda issuer: contact(issuer, account_id),
        )

    @contextmanager
    def _call_in(
        self, transaction: Callable[[], AbstractContextManager[Connection]], state: RequestState
    ) -> Iterator[Call]:
        with transaction() as tx:
            yield self._iam_call(tx, state)

    def _iam_call(self, tx: Connection, state: RequestState) -> Call:
        principal = state.signer.principal
        return Call(
            tx, principal, principal.account_id, state.now, self.random, self.vault, self.limits, self.public_url
        )

    def _authorize(self, tx: Connection, state: RequestState, model: OperationModel, operation: Operation) -> None:
        state.decisions.clear()
        required_permissions = operation.required_permissions(self._iam_call(tx, state), state.params)
        for ask in required_permissions if isinstance(required_permissions, tuple) else (required_permissions,):
            authorize(state, ask, _action(model, ask), random=self.random)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _render_result(self, state: RequestState, result: Result) -> HttpResponse:
        if state.model is None:
            raise InternalFailure("An internal error occurred.", log="an answer without an operation")
        as_json = _wants_json(state.request)
        body = query.render(state.model, result, state.id, as_json=as_json)
        return _response(200, body, state.id, _findings_header(state.findings), as_json=as_json)

    def _render_refusal(self, state: RequestState, error: ServiceError) -> HttpResponse:
        """Return the error answer, after its audit record."""
        error = self.record_refusal(state, error)
        as_json = _wants_json(state.request)
        namespace = state.model.namespace if state.model else self.api.default_namespace
        body = query.render_error(error, is_sender_fault(error), state.id, namespace, as_json=as_json)
        headers = (
            (("Retry-After", str(error.retry_after)),) if isinstance(error, Throttling | ServiceUnavailable) else ()
        )
        return _response(status(error), body, state.id, headers, as_json=as_json)


def _action(model: OperationModel, ask: RequiredPermission) -> str:
    return ask.action or f"{model.service}:{model.name}"


def _response(
    code: int,
    body: bytes,
    request_id: str,
    headers: tuple[tuple[str, str], ...] = (),
    *,
    as_json: bool,
) -> HttpResponse:
    kind = ("Content-Type", "application/json" if as_json else "text/xml")
    # The answers may hold credentials: nobody on the way keeps them (THREATS H06).
    return HttpResponse(code, (("x-amzn-RequestId", request_id), kind, ("Cache-Control", "no-store"), *headers), body)


def _leaves_role_open(model: OperationModel, p: Params) -> bool:
    """Return whether the person who is proved decides the role: the request has none, or a name without an account."""
    if model.input is None or "RoleArn" in model.input.required:
        return False
    return not p.get("RoleArn", "").startswith("arn:")


def _findings_header(found: tuple[Finding, ...]) -> tuple[tuple[str, str], ...]:
    """Return the header that tells what is questionable about a policy just written; it fits into any client's head."""
    if not found:
        return ()
    told = "; ".join(map(str, found))
    return ((_FINDINGS_HEADER, told.encode("ascii", "backslashreplace").decode("ascii")[:_MAX_FINDINGS_HEADER]),)


def _wants_json(request: HttpRequest) -> bool:
    return "application/json" in (request.header("accept") or "")


def _not_implemented(model: OperationModel) -> NotImplementedHere:
    return NotImplementedHere(
        f"The operation {model.name} is not built yet. `fedgate operations` lists those that are."
    )


def _live_session(session: Session, arn: str, made_by: str, state: RequestState) -> LiveSession:
    grant, request = session.grant, state.request
    return LiveSession(
        id=session.id,
        account_id=grant.account_id,
        arn=arn,
        person=grant.person,
        entity_id=grant.entity_id,
        access_key_id=session.access_key_id,
        issued_at=session.issued_at,
        expires_at=session.expires_at,
        source_ip=request.source_ip,
        made_by=made_by,
        user_agent=(request.header("user-agent") or "")[:_MAX_USER_AGENT],
        lineage=session.lineage.dump(),
        login_name=_login_name(state),
    )


def _login_name(state: RequestState) -> str:
    """Return how somebody is called by who proved them; never the name of a session, which callers choose."""
    if state.identity is not None:
        return state.identity.name
    principal = state.signer.principal
    return principal.name if principal.kind is PrincipalKind.USER else ""
