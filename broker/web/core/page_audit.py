"""Audit records of the pages: what was done, and what was refused, exactly once for each request."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from flask import Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from broker.audit.log import AuditLog, AuditUnavailable
from broker.audit.record import console_event_record
from broker.sessions.browser import BrowserSessions
from broker.web.core.cookies import Cookies
from broker.web.core.request_states import RequestStates
from iam.errors import (
    AccessDenied,
    InternalFailure,
    NoSuchEntity,
    NotSignedIn,
    RequestTooLarge,
    ServiceError,
    ServiceUnavailable,
    Throttling,
    ValidationError,
)
from sts.identity import Identity

_MAX_PATH: Final = 200  # characters of a path in a record
# The error under which an answer is recorded that no error led to.
_ERRORS: Final[Mapping[int, Callable[[str], ServiceError]]] = {
    401: NotSignedIn,
    403: AccessDenied,
    404: NoSuchEntity,
    413: RequestTooLarge,
    429: partial(Throttling, retry_after=0),
    500: InternalFailure,
    503: ServiceUnavailable,
}


@dataclass(frozen=True, slots=True)
class PageAudit:
    """Writes the records of pages to the audit log.

    A refusal names whom this request has proved, or else the person whose session its cookie names, also where that was
    ended or the form has not its token: whoever signed in once is no stranger.
    """

    log: AuditLog
    requests: RequestStates
    cookies: Cookies
    sessions: BrowserSessions

    def record(self, name: str, account_id: str, **parameters: object) -> None:
        """Record what a page did, before it answers; raise AuditUnavailable."""
        self.log.append(console_event_record(self.requests.current, name, account_id or None, parameters))

    def record_failure(self, name: str, account_id: str, error: ServiceError, **parameters: object) -> None:
        """Record what a page refused; raise AuditUnavailable."""
        state = self.requests.current
        self.log.append(
            console_event_record(
                state, name, account_id or None, parameters, error=error, user_identity=self._described_bearer()
            )
        )
        state.refusal_recorded = True

    @contextmanager
    def record_failures(self, name: str, account_id: str = "", **parameters: object) -> Iterator[None]:
        """Record any exception raised in the block as a failure of this event, unless it was recorded already."""
        try:
            yield
        except Exception as error:
            self._record_once(name, account_id, error, **parameters)
            raise

    def record_refusal(self, error: ServiceError) -> ServiceError:
        """Record that this request was refused, if it was not yet; return the error to show.

        That is the given one, or the one that kept it from being recorded: a reference must find its record.
        """
        try:
            state = self.requests.current
            if state.refusal_recorded:
                return error
            identity = state.identity or self._bearer()
            account_id = identity.account_id if identity else ""  # whose administrators find the reference
            path = request.path[:_MAX_PATH]
            self._record_once("PageRequest", account_id, error, method=request.method, path=path)
        except ServiceError as audit_error:
            return audit_error
        return error

    def record_answer(self, response: Response) -> None:
        """Record the refusal that an answer is, where nothing has: none of 400 or more is without a record.

        Somebody unknown who opens a page and is asked to sign in was refused nothing. Nothing was granted, so that it
        is answered all the same where it cannot be recorded.
        """
        code = response.status_code
        if code >= HTTPStatus.BAD_REQUEST and "refusal_recorded" not in g and not self._only_asks_to_sign_in(code):
            self.record_refusal(_ERRORS.get(code, ValidationError)(response.status))

    def _only_asks_to_sign_in(self, code: int) -> bool:
        if code != HTTPStatus.UNAUTHORIZED or request.method not in ("GET", "HEAD"):
            return False
        with suppress(ServiceError):
            return self.requests.current.identity is None and self._bearer() is None
        return False

    def _described_bearer(self) -> dict[str, Any] | None:
        state, bearer = self.requests.current, self._bearer()
        return None if bearer is None else state.describe_identity(bearer).user_identity

    def _bearer(self) -> Identity | None:
        """Return whose session, or half a sign-in, this browser has or had; None where the request proves somebody."""
        state = self.requests.current
        if state.identity is None and state.caller is None:
            with suppress(ServiceError):
                session = self.sessions.identify(self.cookies.session_token())
                found = session or self.sessions.find_pending_login(self.cookies.token("step"))
                return found.identity if found else None
        return None

    def _record_once(self, name: str, account_id: str, error: Exception, **parameters: object) -> None:
        if not self.requests.current.refusal_recorded and not isinstance(error, AuditUnavailable):
            self.record_failure(name, account_id, _as_service_error(error), **parameters)


def note_recorded() -> None:
    """Note that the refusal of this request is recorded, by what knows nothing of the pages' request states."""
    g.refusal_recorded = True


def _as_service_error(error: Exception) -> ServiceError:
    """Return the error under which an exception is recorded."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return RequestTooLarge("The form is too large.")
    return InternalFailure("An internal error occurred.")
