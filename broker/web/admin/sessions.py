"""/admin/sessions: search and revocation of all users' credentials and browser sessions, for administrators.

An administrator who sees an account sees its credentials; ending them requires another permission
(broker.web.admin.access). All browser sessions, and all sessions of a person of a directory, are for administrators of
every account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from flask import Blueprint, Response, request

from broker.audit.record import console_event_record
from broker.sessions.browser import BrowserSession
from broker.sessions.revocation import ACCOUNT, PERSON, ROLE, SESSION, RevocationTarget, SessionRevocation
from broker.web.admin.access import REVOKE_SESSIONS, AdminAccess
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.clock import iso8601_exact
from iam.errors import AccessDenied, NoSuchEntity, ValidationError
from iam.inventory.pagination import PageRequest, paginate
from sts.store.sessions import LiveSession

_MOST_BROWSERS: Final = 1000
# Characters of what is named, by its kind: an id of ours, a person as the database takes one, an ARN, an id or alias.
_LONGEST: Final[Mapping[str, int]] = {SESSION: 64, PERSON: 512, ROLE: 2048, ACCOUNT: 63}
_NOT_YOURS: Final = gettext_noop("Not found, or you lack iam:PutRolePolicy on the account's roles.")
_NO_SESSION: Final = gettext_noop("This session has already ended, or you do not administer its account.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSessions:
    """The page of all users' sessions."""

    site: Site
    admin_access: AdminAccess
    revocation: SessionRevocation

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("everyones_sessions", __name__)
        blueprint.get("/admin/sessions")(self.show)
        blueprint.post("/admin/sessions")(self.end)
        return blueprint

    def show(self) -> Response:
        """Show the sessions that match the search."""
        site, session = self.site, self.site.current_session.require()
        accounts = self.admin_access.require_accounts(session)
        scope = PageRequest.of(accounts, request.args.get("q", ""), request.args.get("page", ""))
        live = self.revocation.listing.list_live(accounts)
        page = paginate(live.sessions, scope, _text)
        browsers = self._browsers(session, scope)
        if wants_json():
            body = {"credentials": [row.shown() for row in page.rows], "found": page.found}
            return site.responses.json(
                body | {"browsers": list(map(_browser_json, browsers)), "form_token": session.form_token}
            )
        return site.responses.render(
            "admin/sessions.html",
            session=session,
            administrator=True,
            accounts=accounts,
            revocable=self.admin_access.accounts(session, REVOKE_SESSIONS),
            live=live,
            shown=page.rows,
            found=page.found,
            query=page.query,
            page=page.page,
            pages=page.pages,
            browsers=browsers,
        )

    def _browsers(self, session: BrowserSession, scope: PageRequest) -> Sequence[BrowserSession]:
        """Return the matching browser sessions, only for operators: a browser session belongs to no single account."""
        if not self.admin_access.is_operator(session):
            return ()
        site = self.site
        page = paginate(site.sessions.newest(_MOST_BROWSERS), replace(scope, page=1), _browser_text)
        return [browser for browser in page.rows if site.session_validity.is_valid(browser, site.request_state.now)]

    def end(self) -> Response:
        """Revoke one session, or all sessions of a person, a role or an account."""
        site, session = self.site, self.site.current_session.check_csrf()
        self.admin_access.require_accounts(session)
        kind = form_field("kind", 16)
        subject = form_field("subject", _LONGEST.get(kind, 0)).strip()
        if not subject:
            raise ValidationError(gettext_noop("Choose what to revoke."))
        if kind != SESSION and "sure" not in request.form:
            raise ValidationError(gettext_noop("Select the check box to confirm."))
        target = self._resolve(session, kind, subject)
        self.revocation.revoke(target, partial(console_event_record, site.request_state))
        return site.responses.redirect_to_page("/admin/sessions")

    def _resolve(self, session: BrowserSession, kind: str, subject: str) -> RevocationTarget:
        """Return the target of the form if this administrator may revoke it; raise AccessDenied, NoSuchEntity.

        What does not exist is answered like what belongs to another account, so that nobody can probe for it.
        """
        allowed = self.admin_access.accounts(session, REVOKE_SESSIONS)
        if kind == SESSION:
            live = self.revocation.listing.find(subject, allowed)
            if live is None:
                raise NoSuchEntity(_NO_SESSION)
            return RevocationTarget(SESSION, live.id, live.account_id)
        try:
            target = self.revocation.resolve(kind, subject)
        except NoSuchEntity as error:
            raise AccessDenied(_NOT_YOURS) from error
        if not self._may_revoke(session, target.account_id, allowed):
            raise AccessDenied(_NOT_YOURS)
        return target

    def _may_revoke(self, session: BrowserSession, account_id: str, allowed: Sequence[str]) -> bool:
        """Return whether an account is among the allowed ones; a person of no account needs all of them."""
        return account_id in allowed if account_id else self.admin_access.is_operator(session, REVOKE_SESSIONS)


def _browser_json(session: BrowserSession) -> dict[str, object]:
    return {
        "person": session.identity.person,
        "name": session.identity.name,
        "opened_at": iso8601_exact(session.opened_at),
        "ends_at": iso8601_exact(session.ends_at),
        "source_ip": session.client.source_ip,
        "user_agent": session.client.user_agent,
    }


def _text(session: LiveSession) -> str:
    texts = (session.arn, session.person, session.source_ip, session.access_key_id, session.made_by, session.user_agent)
    return " ".join(map(str, texts))


def _browser_text(session: BrowserSession) -> str:
    identity, client = session.identity, session.client
    return f"{identity.name} {identity.person} {client.source_ip} {client.user_agent}"
