"""Audit records of sign-ins at resources; what is decided there has records of its own."""

from dataclasses import dataclass

from broker.api.dispatch import Gate
from broker.api.http import HttpRequest
from broker.audit.record import console_event_record
from iam.errors import ServiceError
from sts.identity import Identity


@dataclass(frozen=True, slots=True)
class SignInAudit:
    """Writes records as those of the pages."""

    gate: Gate

    def record(
        self,
        name: str,
        request: HttpRequest,
        account_id: str,
        *,
        identity: Identity | None = None,
        error: ServiceError | None = None,
        **parameters: str,
    ) -> None:
        """Record what was done, or refused with this error, before it is answered; raise AuditUnavailable."""
        state = self.gate.new_request_state(request)
        state.identity = identity
        self.gate.audit.append(console_event_record(state, name, account_id or None, parameters, error=error))
