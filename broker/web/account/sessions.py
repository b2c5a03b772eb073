"""/sessions: list and revoke one's own browser sessions and credentials."""

from dataclasses import dataclass
from functools import partial

from flask import Blueprint, Response
from sqlalchemy import Connection

from broker.audit.record import console_event_record
from broker.sessions.browser import BrowserSession
from broker.sessions.revocation import PERSON, SESSION, ListedSessions, RevocationTarget, SessionRevocation
from broker.sessions.revocation_permissions import own_permission
from broker.web.admin.access import AdminAccess
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.clock import iso8601_exact
from iam.errors import NoSuchEntity

_GONE = gettext_noop("This session has already ended.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSessions:
    """The page of one's own sessions."""

    site: Site
    admin_access: AdminAccess
    revocation: SessionRevocation

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        routes = Blueprint("session_list", __name__)
        routes.get("/sessions")(self.show)
        routes.post("/sessions/credentials")(self.end_credentials)
        routes.post("/sessions/browser")(self.end_browser)
        routes.post("/sessions/all")(self.end_all)
        return routes

    def show(self) -> Response:
        """Show the user's own sessions."""
        site, session = self.site, self.site.current_session.require()
        live = self._list_credentials(session)
        browsers = [
            browser
            for browser in site.sessions.of_person(session.identity.person)
            if site.session_validity.is_valid(browser, site.request_state.now)
        ]
        if wants_json():
            return site.responses.json(
                {
                    "browsers": [_browser_json(browser, session) for browser in browsers],
                    "credentials": [
                        listed.shown() | {"last_used": live.last_used.get(listed.id)} for listed in live.sessions
                    ],
                    "form_token": session.form_token,
                }
            )
        return site.responses.render(
            "account/sessions.html",
            session=session,
            administrator=self.admin_access.is_administrator(session),
            browsers=browsers,
            live=live,
        )

    def _list_credentials(self, session: BrowserSession) -> ListedSessions:
        listing = self.revocation.listing
        return listing.list_live(listing.accounts(), session.identity.person)

    def end_credentials(self) -> Response:
        """Revoke one of the user's credentials."""
        session, session_id = self.site.current_session.check_csrf(), form_field("session", 64)
        live = next((live for live in self._list_credentials(session).sessions if live.id == session_id), None)
        if live is None:
            raise NoSuchEntity(_GONE)
        self._revoke(session, RevocationTarget(SESSION, live.id, live.account_id))
        return self._back()

    def end_browser(self) -> Response:
        """Sign out one of the user's browsers."""
        site, session = self.site, self.site.current_session.check_csrf()
        handle = form_field("browser", 64)
        browsers = [browser for browser in site.sessions.of_person(session.identity.person) if browser.handle == handle]
        if not browsers:
            raise NoSuchEntity(_GONE)
        with site.store.read() as tx:
            self._check_not_denied(session, tx)
        site.audit.record("EndBrowserSession", session.identity.account_id, session=handle)
        for browser in browsers:
            site.sessions.end(browser)
        return self._back()

    def end_all(self) -> Response:
        """Revoke all of the user's credentials and browser sessions, including this one."""
        site, session = self.site, self.site.current_session.check_csrf()
        self._revoke(session, RevocationTarget(PERSON, session.identity.person, session.identity.account_id))
        response = site.responses.render("account/all_sessions_ended.html")
        site.cookies.clear_session(response)
        return response

    def _revoke(self, session: BrowserSession, target: RevocationTarget) -> None:
        record = partial(console_event_record, self.site.request_state)
        self.revocation.revoke(target, record, authorize=partial(self._check_not_denied, session))

    def _check_not_denied(self, session: BrowserSession, tx: Connection) -> None:
        """Raise AccessDenied where a policy denies a user to end sessions of their own; no Allow is needed for that."""
        site, identity = self.site, session.identity
        site.check_still_signed_in(tx, session)
        with site.store.reading_from(tx):
            ask = own_permission(identity.person, identity.account_id, site.store)
        if ask is not None:
            site.own_permissions.require(tx, site.request_state, identity, ask, unless_denied=True)

    def _back(self) -> Response:
        return self.site.responses.redirect_to_page("/sessions")


def _browser_json(session: BrowserSession, current: BrowserSession) -> dict[str, object]:
    return {
        "session": session.handle,
        "this_one": session.key == current.key,
        "opened_at": iso8601_exact(session.opened_at),
        "ends_at": iso8601_exact(session.ends_at),
        "source_ip": session.client.source_ip,
        "user_agent": session.client.user_agent,
        "second_factor_at": iso8601_exact(session.mfa_at) if session.mfa_at else None,
    }
