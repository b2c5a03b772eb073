"""The session of the browser that sent this request: found, checked, refreshed from the directory, and started."""

import logging
from dataclasses import dataclass
from typing import Final

from flask import Response, g

from broker.sessions.browser import BrowserSession, BrowserSessions
from broker.sessions.records import GivenFactor
from broker.sessions.validity import SessionValidity
from broker.signin.kinds import SessionRefresh
from broker.web.core.cookies import Cookies
from broker.web.core.csrf import CsrfProtection
from broker.web.core.page_audit import PageAudit
from broker.web.core.request_states import RequestStates
from broker.web.i18n.languages import gettext_noop
from iam.clock import to_milliseconds
from iam.errors import IDPRejectedClaim, NotSignedIn, ServiceUnavailable
from sts.identity import Identity, ProviderUnavailable, Refusal

log = logging.getLogger(__name__)

NO_LONGER_ALLOWED: Final = gettext_noop("Your directory no longer allows you to sign in.")
WAS_ENDED: Final = gettext_noop(
    "This session was ended: on the Sessions page, by an administrator, or because your account changed. Sign in again."
)
HAS_EXPIRED: Final = gettext_noop("Your session has expired. Sign in again.")
UNDER_MAINTENANCE: Final = gettext_noop("This service is under maintenance. Try again later.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentSession:
    """Finds and starts the session of this browser; during ``maintenance`` none is started."""

    sessions: BrowserSessions
    validity: SessionValidity
    cookies: Cookies
    csrf: CsrfProtection
    requests: RequestStates
    audit: PageAudit
    maintenance: bool

    def find(self) -> BrowserSession | None:
        """Return the session of this browser, or None without a valid one; raise ServiceUnavailable."""
        session = self.sessions.find(self.cookies.session_token())
        if session is None:
            return None
        state = self.requests.current
        if not self.validity.is_valid(session, state.now):
            self.sessions.end(session)
            return None
        state.identity = session.identity
        state.mfa_at = None if session.mfa_at is None else to_milliseconds(session.mfa_at)
        refresh = self._refresh_of(session)
        is_due = refresh is not None and refresh.is_due(session, state.now)
        g.signed_in = self._refresh_if_available(session, refresh) if refresh is not None and is_due else session
        refreshed: BrowserSession | None = g.signed_in
        return refreshed

    def require(self) -> BrowserSession:
        """Return the session of this browser; raise NotSignedIn where it has none."""
        session = self.find()
        if session is None:
            raise NotSignedIn("You are not signed in.")
        return session

    def reason_of_end(self) -> str:
        """Return why the session of this browser is none any more; "" if the browser had none."""
        token = self.cookies.session_token()
        if token is None:
            return ""
        return WAS_ENDED if self.sessions.was_ended(token) else HAS_EXPIRED

    def check_csrf(self) -> BrowserSession:
        """Return the session whose form was posted; raise NotSignedIn, AccessDenied (THREATS H01)."""
        session = self.require()
        self.csrf.check_token(session)
        return session

    def _refresh_if_available(self, session: BrowserSession, refresh: SessionRefresh) -> BrowserSession | None:
        """Return the session refreshed; an outage of the directory signs nobody out (THREATS E12, E14)."""
        try:
            return self.refresh_identity(session)
        except ProviderUnavailable as error:
            log.warning("page %s keeps the identity read earlier: %s", self.requests.current.id, error.log)
            return refresh.postpone(session, self.requests.current.now)

    def refresh_identity(self, session: BrowserSession) -> BrowserSession | None:
        """Return the session with the identity that its provider gives now; None where it refuses the person.

        A session whose provider cannot be asked stays as it is. Raise ProviderUnavailable.
        """
        refresh = self._refresh_of(session)
        refreshed = session if refresh is None else refresh.refresh(session, self.requests.current.now)
        if isinstance(refreshed, Refusal):
            if refresh is not None and refresh.failure_event:
                error = IDPRejectedClaim(NO_LONGER_ALLOWED, log=f"{refreshed.reason}: {refreshed.detail}")
                self.audit.record_failure(refresh.failure_event, "", error, provider=session.identity.provider)
            return None
        self.requests.current.identity = refreshed.identity
        return refreshed

    def _refresh_of(self, session: BrowserSession) -> SessionRefresh | None:
        return self.validity.kinds.of(session.identity).broker.refresh

    def start(
        self, response: Response, identity: Identity, refresh_state: str = "", *, mfa: GivenFactor | None = None
    ) -> BrowserSession:
        """Start a session in this browser under a new id, ending the one it had (THREATS H02); return it.

        Raise ServiceUnavailable during maintenance.
        """
        if self.maintenance:
            raise ServiceUnavailable(UNDER_MAINTENANCE)
        previous = self.sessions.find(self.cookies.session_token())
        if previous is not None:
            self.sessions.end(previous)
        identity = self.validity.bind(identity)
        mfa_at, mfa_factors = mfa or (None, ())
        token, session = self.sessions.open(
            identity, refresh_state, mfa_at=mfa_at, mfa_factors=mfa_factors, client=self.requests.client
        )
        self.cookies.set_session(response, token)
        return session
