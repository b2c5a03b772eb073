"""/sessions: the browsers in which somebody is signed in and the credentials they took, each with a way to end it."""

from dataclasses import dataclass

from flask import Blueprint, Response

from broker.sessions.browser import BrowserSession
from broker.sessions.revocation import PERSON, SESSION, Revocation, SessionRevocation
from broker.web.admin.access import AdminAccess
from broker.web.core.form_fields import form_field
from broker.web.core.languages import gettext_noop
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from iam.clock import iso8601_exact
from iam.errors import NoSuchEntity
from sts.store.sessions import LiveSession

_GONE = gettext_noop("This session has ended already.")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSessions:
    """The page of one's own sessions."""

    site: Site
    admin_access: AdminAccess

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("session_list", __name__)
        made.get("/sessions")(self.show)
        made.post("/sessions/credentials")(self.end_credentials)
        made.post("/sessions/browser")(self.end_browser)
        made.post("/sessions/all")(self.end_all)
        return made

    def show(self) -> Response:
        """Show one's own sessions."""
        site, session = self.site, self.site.current_session.require()
        revoker = SessionRevocation(site)
        live = revoker.open_live_sessions(revoker.all_accounts(), session.identity.person)
        browsers = revoker.valid_browsers(site.sessions.of_person(session.identity.person))
        if wants_json():
            return site.responses.json(
                {
                    "browsers": [_browser_json(one, session) for one in browsers],
                    "credentials": [one._asdict() | {"last_used": live.last_used.get(one.id)} for one in live.sessions],
                    "form_token": session.form_token,
                }
            )
        return site.responses.render(
            "sessions.html",
            session=session,
            administrator=self.admin_access.is_administrator(session),
            browsers=browsers,
            live=live,
        )

    def end_credentials(self) -> Response:
        """End credentials of one's own."""
        session, revoker = self.site.current_session.check_csrf(), SessionRevocation(self.site)
        wanted = form_field("session", 64)
        live = revoker.open_live_sessions(revoker.all_accounts(), session.identity.person)
        found = _find_session(live.sessions, wanted)
        revoker.revoke(Revocation(SESSION, found.id), found.account_id, [found])
        return self._back()

    def end_browser(self) -> Response:
        """End the session of a browser of one's own."""
        site, session = self.site, self.site.current_session.check_csrf()
        wanted = form_field("browser", 64)
        found = [one for one in site.sessions.of_person(session.identity.person) if one.handle == wanted]
        if not found:
            raise NoSuchEntity(_GONE)
        site.audit.record("EndBrowserSession", session.identity.account_id, session=wanted)
        for one in found:
            site.sessions.end(one)
        return self._back()

    def end_all(self) -> Response:
        """End everything of one's own: all credentials and all browsers, this one among them."""
        site, session = self.site, self.site.current_session.check_csrf()
        person, revoker = session.identity.person, SessionRevocation(self.site)
        live = revoker.open_live_sessions(revoker.all_accounts(), person)
        revoker.revoke(Revocation(PERSON, person), session.identity.account_id, live.sessions)
        revoker.end_browsers_of(person)
        response = site.responses.render("all_sessions_ended.html")
        site.cookies.clear_session(response)
        return response

    def _back(self) -> Response:
        return self.site.responses.redirect_to_page("/sessions")


def _find_session(sessions: tuple[LiveSession, ...], session_id: str) -> LiveSession:
    found = next((one for one in sessions if one.id == session_id), None)
    if found is None:
        raise NoSuchEntity(_GONE)
    return found


def _browser_json(one: BrowserSession, here: BrowserSession) -> dict[str, object]:
    return {
        "session": one.handle,
        "this_one": one.key == here.key,
        "opened_at": iso8601_exact(one.opened_at),
        "ends_at": iso8601_exact(one.ends_at),
        "source_ip": one.client.source_ip,
        "user_agent": one.client.user_agent,
        "second_factor_at": iso8601_exact(one.mfa_at) if one.mfa_at else None,
    }
