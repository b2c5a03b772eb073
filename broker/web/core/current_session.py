"""The session of the browser that sent this request: found, checked, refreshed from the directory, and started."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from flask import Response, g

from broker.sessions.browser import BrowserSession, BrowserSessions
from broker.sessions.records import GivenFactor
from broker.sessions.renewal import SessionRenewal
from broker.sessions.validity import SessionValidity
from broker.web.core.cookies import Cookies
from broker.web.core.csrf import CsrfProtection
from broker.web.core.page_audit import PageAudit
from broker.web.core.request_states import RequestStates
from broker.web.i18n.languages import gettext_noop
from iam.clock import to_milliseconds
from iam.errors import IDPRejectedClaim, NotSignedIn, ServiceUnavailable
from sts.identity import Identity, Refusal

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
        renewed = self._renewal.renew_if_due(session, state.now, partial(self._record_refusal, session))
        if renewed is not None:
            state.identity = renewed.identity
        g.signed_in = renewed
        return renewed

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

    def refresh_identity(self, session: BrowserSession) -> BrowserSession | None:
        """Return the session with the identity that its provider gives now; None where it refuses the person.

        A session whose provider cannot be asked stays as it is. Raise ProviderUnavailable.
        """
        state = self.requests.current
        refreshed = self._renewal.renew(session, state.now, partial(self._record_refusal, session))
        if refreshed is not None:
            state.identity = refreshed.identity
        return refreshed

    @property
    def _renewal(self) -> SessionRenewal:
        return SessionRenewal(self.validity.kinds)

    def _record_refusal(self, session: BrowserSession, event: str, refusal: Refusal) -> None:
        error = IDPRejectedClaim(NO_LONGER_ALLOWED, log=f"{refusal.reason}: {refusal.detail}")
        self.audit.record_failure(event, session.identity.account_id, error, provider=session.identity.provider)

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
