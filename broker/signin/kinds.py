"""The table of the kinds of identity: one row for each way of being signed in.

A row has two halves of one name. The half of the STS (`sts.identity_kinds`) says how an identity takes roles; the half
here says how it is proved, and what becomes of the proof. Whatever depends on how somebody was proved looks it up here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol

from broker.api.request_state import IdentityRecord, RequestState
from broker.sessions.browser import BrowserSession
from iam.errors import InternalFailure
from iam.params import Params
from sts.identity import Identity, Refusal
from sts.identity_kinds import AnyIdentity, StsIdentityKind
from sts.operations import OPERATIONS, StsOperation

Authenticate = Callable[[RequestState, Params], tuple[AnyIdentity, Params]]


class SessionRefresh(Protocol):
    """Asks a provider what it says of somebody who is signed in (THREATS E12)."""

    @property
    def failure_event(self) -> str:
        """Return the event that records a refusal."""
        ...

    def is_due(self, session: BrowserSession, now: datetime) -> bool:
        """Return whether the provider is to be asked while the person looks at pages."""
        ...

    def refresh(self, session: BrowserSession, now: datetime) -> BrowserSession | Refusal:
        """Return the session with what the provider says now, or its refusal; raise ProviderUnavailable."""
        ...

    def postpone(self, session: BrowserSession, now: datetime) -> BrowserSession:
        """Return the session as it is, due again later: the provider does not answer now."""
        ...


class ProviderLogout(NamedTuple):
    """Where the browser of somebody who signed out here goes to sign out there, and the fields that it posts if any."""

    url: str
    fields: Mapping[str, str] | None = None


def _no_details(_identity: Identity) -> dict[str, Any]:
    return {}


def _no_logout(_identity: Identity, _now: datetime) -> ProviderLogout | None:
    return None


def _consume_nothing(_state: RequestState, _identity: Identity) -> None:
    """Leave a proof that may be used again as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerIdentityKind(Generic[AnyIdentity]):
    """How identities of one kind are proved, recorded, refreshed and signed out.

    ``authenticate`` proves the identity of an API request from its parameters and returns them without the proof; it is
    None where requests of the kind are signed. ``consume`` uses the proof up and raises where it was used before.
    ``user_identity`` and ``audit_details`` are what the audit log says. ``is_valid`` tells whether what proved the
    identity still stands. ``refresh`` is None where a provider cannot be asked again. ``provider_logout`` returns the
    way to the provider's logout. ``asks_for_enrolled_mfa``: whoever has a second factor here must give it at each
    sign-in, also where no setting demands one; other providers ask for their own.
    """

    name: str
    user_identity: Callable[[AnyIdentity], dict[str, Any]]
    is_valid: Callable[[AnyIdentity, datetime], bool]
    audit_details: Callable[[AnyIdentity], dict[str, Any]] = _no_details
    refresh: SessionRefresh | None = None
    provider_logout: Callable[[AnyIdentity, datetime], ProviderLogout | None] = _no_logout
    asks_for_enrolled_mfa: bool = False
    authenticate: Authenticate[AnyIdentity] | None = None
    consume: Callable[[RequestState, AnyIdentity], None] = _consume_nothing


@dataclass(frozen=True, slots=True)
class IdentityKind:
    """One row: both halves of a kind."""

    sts: StsIdentityKind[Any]
    broker: BrokerIdentityKind[Any]

    @property
    def name(self) -> str:
        """Return the name that both halves have."""
        return self.sts.name

    @property
    def is_principal(self) -> bool:
        """Return whether these are principals of an account, with permissions of their own."""
        return self.sts.as_caller is not None


class IdentityKinds:
    """The rows, found by an identity or by an operation of the STS."""

    def __init__(
        self, sts_halves: Iterable[StsIdentityKind[Any]], broker_halves: Iterable[BrokerIdentityKind[Any]]
    ) -> None:
        """Join the halves; raise ValueError where one is missing, or two kinds share a name, a type or an operation."""
        sts_by_name, broker_by_name = _unique(sts_halves), _unique(broker_halves)
        if missing := sts_by_name.keys() ^ broker_by_name.keys():
            raise ValueError(f"kinds of identity with one half only: {', '.join(sorted(missing))}")
        self.rows = tuple(IdentityKind(sts, broker_by_name[name]) for name, sts in sts_by_name.items())
        self._by_type: dict[type[Identity], IdentityKind] = {row.sts.identity_type: row for row in self.rows}
        self._by_operation: dict[str, IdentityKind] = {row.sts.operation: row for row in self.rows}
        if not len(self._by_type) == len(self._by_operation) == len(self.rows):
            raise ValueError("two kinds of identity share a type or an operation")
        if any(OPERATIONS.get(row.sts.operation, row.sts.run) is not row.sts.run for row in self.rows):
            raise ValueError("a kind of identity replaces an operation of the STS")
        self.sts_operations: Mapping[str, StsOperation] = OPERATIONS | {
            row.sts.operation: row.sts.run for row in self.rows
        }

    def find(self, identity: Identity) -> IdentityKind | None:
        """Return the row of an identity, or None: a type without a row is not taken for that of its parent class."""
        return self._by_type.get(type(identity))

    def of(self, identity: Identity) -> IdentityKind:
        """Return the row of an identity; raise InternalFailure where its type has none."""
        row = self.find(identity)
        if row is None:
            raise InternalFailure("An internal error occurred.", log=f"no kind of {type(identity).__name__}")
        return row

    def describe(self, identity: Identity) -> IdentityRecord:
        """Return how the audit log records an identity."""
        half = self.of(identity).broker
        return IdentityRecord(half.user_identity(identity), half.audit_details(identity))

    def proof_of(self, operation: str) -> Authenticate[Any] | None:
        """Return what proves the identity of requests of an operation of the STS; None where their callers sign."""
        row = self._by_operation.get(operation)
        return row.broker.authenticate if row is not None else None


def _unique(halves: Iterable[Any]) -> dict[str, Any]:
    """Return the halves by name; raise ValueError where two have the same."""
    listed = tuple(halves)
    by_name = {half.name: half for half in listed}
    if len(by_name) != len(listed):
        raise ValueError("two kinds of identity have the same name")
    return by_name
