"""What users and root users may do on the pages as they are: the permissions of the IAM operations for the same thing.

The pages change what the IAM API changes too, such as MFA devices and passwords. Whoever may not do so by the API must
not do so on a page. People of directories and identity providers are not principals of an account: no policy speaks of
what is theirs, and nothing is asked.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from sqlalchemy import Connection

from broker.api.authorization import authorize
from broker.api.dispatch import Gate
from broker.api.request_state import RequestState
from iam.call import Call
from iam.operations import OPERATIONS as IAM
from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from iam.principal import Principal
from sts.identity import Identity


@dataclass(frozen=True, slots=True)
class OwnPermissions:
    """Decides what somebody signed in to the pages may do as they are, inside the transaction of the change."""

    gate: Gate

    def require_operation(
        self,
        tx: Connection,
        state: RequestState,
        identity: Identity,
        operation: str,
        parameters: Params,
        *,
        unless_denied: bool = False,
    ) -> None:
        """Raise AccessDenied unless the identity may call an IAM operation; ``parameters`` are that operation's.

        ``unless_denied``: a setting demands the change, or it only takes away from the person, so that it needs no
        Allow; a Deny holds.
        """
        if not self._is_principal(identity):
            return
        with self.gate.store.reading_from(tx):
            call = self._call(tx, state, self._caller_state(state, identity).signer.principal)
            asked = IAM[operation].required_permissions(call, parameters)
            asks = asked if isinstance(asked, tuple) else (asked,)
            self._authorize(state, identity, [(ask, ask.action or f"iam:{operation}") for ask in asks], unless_denied)

    def require(
        self, tx: Connection, state: RequestState, identity: Identity, ask: RequiredPermission, *, unless_denied: bool
    ) -> None:
        """Raise AccessDenied unless the identity has a permission, which names its action."""
        if self._is_principal(identity):
            with self.gate.store.reading_from(tx):
                self._authorize(state, identity, [(ask, ask.action)], unless_denied)

    def _authorize(
        self,
        state: RequestState,
        identity: Identity,
        asks: Sequence[tuple[RequiredPermission, str]],
        unless_denied: bool,  # noqa: FBT001 - passed on
    ) -> None:
        asking = self._caller_state(state, identity)
        try:
            for ask, action in asks:
                authorize(asking, ask, action, random=self.gate.random, unless_denied=unless_denied)
        finally:
            state.denial = asking.denial  # for the audit record; the decisions are shared

    def _caller_state(self, state: RequestState, identity: Identity) -> RequestState:
        asking, as_caller = copy(state), self.gate.kinds.of(identity).sts.as_caller
        asking.caller = as_caller(self.gate.authenticate, identity, state.mfa_at) if as_caller else None
        return asking

    def _is_principal(self, identity: Identity) -> bool:
        return self.gate.kinds.of(identity).is_principal

    def _call(self, tx: Connection, state: RequestState, principal: Principal) -> Call:
        gate = self.gate
        return Call(
            tx, principal, principal.account_id, state.now, gate.random, gate.vault, gate.limits, gate.public_url
        )
