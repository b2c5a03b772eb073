"""Audit records of the pages: what was done, and what was refused, exactly once for each request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from broker.audit.log import AuditLog, AuditUnavailable
from broker.audit.record import console_event_record
from broker.web.core.request_states import RequestStates
from iam.errors import InternalFailure, RequestTooLarge, ServiceError

_MAX_PATH: Final = 200  # characters of a path in a record


@dataclass(frozen=True, slots=True)
class PageAudit:
    """Writes the records of pages to the audit log."""

    log: AuditLog
    requests: RequestStates

    def record(self, name: str, account_id: str, **parameters: object) -> None:
        """Record what a page did, before it answers; raise AuditUnavailable."""
        self.log.append(console_event_record(self.requests.current, name, account_id or None, parameters))

    def record_failure(self, name: str, account_id: str, error: ServiceError, **parameters: object) -> None:
        """Record what a page refused; raise AuditUnavailable."""
        state = self.requests.current
        self.log.append(console_event_record(state, name, account_id or None, parameters, error=error))
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
        path, identity = request.path[:_MAX_PATH], self.requests.current.identity
        account_id = identity.account_id if identity else ""  # whose administrators find the reference
        try:
            self._record_once("PageRequest", account_id, error, method=request.method, path=path)
        except ServiceError as audit_error:
            return audit_error
        return error

    def _record_once(self, name: str, account_id: str, error: Exception, **parameters: object) -> None:
        if not self.requests.current.refusal_recorded and not isinstance(error, AuditUnavailable):
            self.record_failure(name, account_id, _as_service_error(error), **parameters)


def _as_service_error(error: Exception) -> ServiceError:
    """Return the error under which an exception is recorded."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return RequestTooLarge("The form is too large.")
    return InternalFailure("An internal error occurred.")
