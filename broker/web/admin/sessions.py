"""/admin/sessions: search and revocation of all users' credentials and browser sessions, for administrators.

An administrator who sees an account sees its credentials; ending them requires other permissions
(broker.sessions.revocation_permissions). Browser sessions of people of a directory, and ending all sessions of one of
them, are for operators.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from flask import Blueprint, Response, request
from sqlalchemy import Connection

from broker.audit.record import console_event_record
from broker.sessions.browser import BrowserSession
from broker.sessions.revocation import (
    ACCOUNT,
    MOST_BROWSERS,
    PERSON,
    ROLE,
    SESSION,
    RevocationTarget,
    SessionRevocation,
)
from broker.sessions.revocation_permissions import (
    REVOKE_ACCOUNT,
    REVOKE_PERSON,
    REVOKE_ROLE,
    Permissions,
    permissions_to_revoke,
    permissions_to_revoke_session,
)
from broker.web.admin.access import AdminAccess, Permission
from broker.web.core.form_fields import form_field
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.clock import iso8601_exact
from iam.errors import AccessDenied, NoSuchEntity, ValidationError
from iam.inventory.pagination import PageRequest, paginate
from sts.store.sessions import LiveSession

# Characters of what is named, by its kind: an id of ours, a person as the database takes one, an ARN, an id or alias.
_LONGEST: Final[Mapping[str, int]] = {SESSION: 64, PERSON: 512, ROLE: 2048, ACCOUNT: 63}
_NOT_YOURS: Final = gettext_noop("Not found, or you lack the permission to revoke these sessions.")
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
        self.admin_access.record_view(session, "sessions", query=scope.query)
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
            revocable=self._revocable(session, page.rows),
            ends_many=self._ends_many(session),
            live=live,
            shown=page.rows,
            found=page.found,
            query=page.query,
            page=page.page,
            pages=page.pages,
            browsers=browsers,
        )

    def _browsers(self, session: BrowserSession, scope: PageRequest) -> Sequence[BrowserSession]:
        """Return the matching browser sessions: all for operators, for others those of their accounts' own people.

        People of a directory are of no account.
        """
        site = self.site
        indexes = ("",) if self.admin_access.is_operator(session) else scope.accounts
        concerning = [browser for index in indexes for browser in site.sessions.newest(MOST_BROWSERS, index)]
        newest_first = sorted(concerning, key=lambda browser: browser.opened_at, reverse=True)
        page = paginate(newest_first[:MOST_BROWSERS], replace(scope, page=1), _browser_text)
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
        target, permissions = self._resolve(session, kind, subject)
        allowing = self._require(session, permissions)  # before the wait for the write lock
        self.revocation.revoke(
            target,
            partial(console_event_record, site.request_state),
            authorize=lambda tx: self._check_still_allowed(tx, session, permissions, allowing),
        )
        return site.responses.redirect_to_page("/admin/sessions")

    def _resolve(self, session: BrowserSession, kind: str, subject: str) -> tuple[RevocationTarget, Permissions]:
        """Return the target of the form, and what must be allowed to end it; raise AccessDenied, NoSuchEntity.

        What does not exist is answered like what belongs to another account, so that nobody can probe for it.
        """
        listing, store = self.revocation.listing, self.site.store
        if kind == SESSION:
            live = listing.find(subject, self.admin_access.accounts(session))
            permissions = permissions_to_revoke_session(live, store) if live else {}
            if live is None or not self.admin_access.is_allowed(session, permissions):
                raise NoSuchEntity(_NO_SESSION)
            return RevocationTarget(SESSION, live.id, live.account_id), permissions
        try:
            target = self.revocation.resolve(kind, subject)
        except NoSuchEntity as error:
            raise AccessDenied(_NOT_YOURS) from error
        return target, permissions_to_revoke(target, store, listing.accounts())

    def _require(self, session: BrowserSession, permissions: Permissions) -> frozenset[str]:
        """Return the ARNs of the roles that allow it; raise AccessDenied."""
        allowing = self.admin_access.allowing_roles(session, permissions)
        if allowing is None:
            raise AccessDenied(_NOT_YOURS)
        return allowing

    def _check_still_allowed(
        self, tx: Connection, session: BrowserSession, permissions: Permissions, allowing: frozenset[str]
    ) -> None:
        self.site.check_still_signed_in(tx, session)
        with self.site.deciding_in(tx, session.identity, allowing):
            self._require(session, permissions)

    def _ends_many(self, session: BrowserSession) -> bool:
        """Return whether the form for many sessions is shown: to whoever may end those of any role, user or account."""
        kinds = ((REVOKE_ROLE, "role/*"), (REVOKE_PERSON, "user/*"), (REVOKE_ACCOUNT, "root"))
        return any(
            self.admin_access.accounts(session, Permission(action, f"arn:aws:iam::{{account_id}}:{resource}"))
            for action, resource in kinds
        )

    def _revocable(self, session: BrowserSession, shown: Sequence[LiveSession]) -> frozenset[str]:
        """Return the ids of those sessions that this administrator may end."""
        of_entity = {live.entity_id: permissions_to_revoke_session(live, self.site.store) for live in shown}
        allowed = {entity for entity, asked in of_entity.items() if self.admin_access.is_allowed(session, asked)}
        return frozenset(live.id for live in shown if live.entity_id in allowed)


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
