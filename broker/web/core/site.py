"""What every page is given: the parts that read requests and make answers, and the way to gate and store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from flask import g
from sqlalchemy import Connection

from broker.api.dispatch import Gate
from broker.api.request_state import RequestState
from broker.sessions.browser import BrowserSession, BrowserSessions, PendingLogin
from broker.sessions.validity import SessionValidity
from broker.signin.own_permissions import OwnPermissions
from broker.signin.role_access import AvailableRoles, RoleAccess
from broker.web.core.cookies import Cookies
from broker.web.core.csrf import CsrfProtection
from broker.web.core.current_session import CurrentSession
from broker.web.core.page_audit import PageAudit
from broker.web.core.request_states import RequestStates
from broker.web.core.responses import Responses
from iam.errors import NotSignedIn
from iam.store.store import Store
from sts.identity import Identity

_NO_ROLES: Final = AvailableRoles([], [], [], [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The parts that pages share; ``public_url`` is the address that browsers use, without a slash at the end."""

    gate: Gate
    sessions: BrowserSessions
    session_validity: SessionValidity
    public_url: str
    maintenance: bool  # nobody can sign in
    requests: RequestStates
    cookies: Cookies
    csrf: CsrfProtection
    audit: PageAudit
    current_session: CurrentSession
    responses: Responses

    @property
    def role_access(self) -> RoleAccess:
        """Return what lists roles and gives them out."""
        return RoleAccess(self.gate)

    @property
    def own_permissions(self) -> OwnPermissions:
        """Return what decides what users and root users may do as they are."""
        return OwnPermissions(self.gate)

    @property
    def store(self) -> Store:
        """Return the durable store."""
        return self.gate.store

    @property
    def request_state(self) -> RequestState:
        """Return the state of this request."""
        return self.requests.current

    @property
    def reference(self) -> str:
        """Return the short form of the request id that pages show."""
        return self.requests.reference

    @contextmanager
    def transaction(self, login_state: BrowserSession | PendingLogin) -> Iterator[Connection]:
        """Open a write transaction for somebody signed in, or half; raise NotSignedIn where they no longer are."""
        with self.store.write(bump_revision=False) as tx:
            self.check_still_signed_in(tx, login_state)
            yield tx

    def check_still_signed_in(self, tx: Connection, login_state: BrowserSession | PendingLogin) -> None:
        """Raise NotSignedIn where somebody is no longer signed in, as a transaction finds it.

        Writers have their turns: while this one waited, the session may have ended, the password been changed, a second
        factor taken away, the person revoked (THREATS J08).
        """
        with self.store.reading_from(tx):
            still = self.session_validity.is_valid(login_state, self.request_state.now)
            if not still or self.sessions.has_ended(login_state):
                raise NotSignedIn("You are not signed in.")

    def session_end(self, session: BrowserSession) -> datetime:
        """Return when the session of this browser ends if nothing more is asked for."""
        return min(session.ends_at, self.request_state.now + self.sessions.idle)

    def available_roles(self, identity: Identity) -> AvailableRoles:
        """Return the roles open to a person, looked up once for each request; raise InvalidIdentityToken."""
        key = identity, self.request_state.mfa_at
        if "available_roles" not in g or g.available_roles[0] != key:
            g.available_roles = key, self.role_access.available_roles(self.request_state, identity)
        roles: AvailableRoles = g.available_roles[1]
        return roles

    @contextmanager
    def deciding_in(self, tx: Connection, identity: Identity, role_arns: frozenset[str]) -> Iterator[None]:
        """Decide by what a write transaction found; what was looked up before it waited its turn may be outdated.

        Of the person's roles only these are judged anew: other writers wait meanwhile, and the person may have many.
        """
        with self.store.reading_from(tx):
            roles = _NO_ROLES
            if role_arns:
                roles = self.role_access.available_roles(self.request_state, identity, role_arns)
            g.available_roles = (identity, self.request_state.mfa_at), roles
            try:
                yield
            finally:
                del g.available_roles
