"""/admin/sessions: live credentials and browsers of everybody, for those who administer; search, and revocation.

Whoever sees an account sees its credentials; ending them takes another leave (broker.web.admin.access). Browsers of
everybody, and a person of a directory as a whole, are the business of those who administer every account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flask import Blueprint, Response, request
from redis.exceptions import RedisError

from broker.sessions.browser import BrowserSession
from broker.sessions.revocation import ACCOUNT, PERSON, ROLE, SESSION, Revocation, SessionRevocation
from broker.web.admin.access import REVOKE_SESSIONS, AdminAccess
from broker.web.core.form_fields import form_field
from broker.web.core.languages import gettext_noop
from broker.web.core.responses import wants_json
from broker.web.core.site import Site
from iam.arn import parse_arn
from iam.clock import iso8601_exact
from iam.errors import AccessDenied, NoSuchEntity, ServiceUnavailable, ValidationError
from iam.inventory.pagination import PageRequest, paginate
from sts.store.sessions import LiveSession

_MOST_BROWSERS: Final = 1000
_NO_ACCOUNT: Final = "none"  # in the place of an account that there is not
# Characters of what is named, by its kind: an id of ours, a person as the database takes one, an ARN, an id or alias.
_LONGEST: Final[Mapping[str, int]] = {SESSION: 64, PERSON: 512, ROLE: 2048, ACCOUNT: 63}
_NOT_YOURS: Final = gettext_noop(
    "You may not end these sessions, or there is nothing of this name. It takes the leave for iam:PutRolePolicy on the"
    " account's roles."
)
_NO_SESSION: Final = gettext_noop("This session has ended already, or is of an account that is not yours.")
_NO_PERSON: Final = gettext_noop("A person is written as PROVIDER|SUBJECT, as the list shows it.")
_LIST_UNAVAILABLE: Final = gettext_noop("The list of credentials cannot be read now. Try again later.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSessions:
    """The page of everybody's sessions."""

    site: Site
    admin_access: AdminAccess

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("everyones_sessions", __name__)
        made.get("/admin/sessions")(self.show)
        made.post("/admin/sessions")(self.end)
        return made

    def show(self) -> Response:
        """Show the sessions that a search finds."""
        site, session = self.site, self.site.current_session.require()
        accounts = self.admin_access.require_accounts(session)
        scope = PageRequest.of(accounts, request.args.get("q", ""), request.args.get("page", ""))
        live = SessionRevocation(site).open_live_sessions(accounts)
        page = paginate(live.sessions, scope, _text)
        browsers = self._browsers(session, scope)
        if wants_json():
            told = {"credentials": [one._asdict() for one in page.rows], "found": page.found}
            return site.responses.json(
                told | {"browsers": list(map(_browser_json, browsers)), "form_token": session.form_token}
            )
        return site.responses.render(
            "admin_sessions.html",
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
        """Return the browsers that a search finds, for those who see every account: people sign in to none alone."""
        if not self.admin_access.is_operator(session):
            return ()
        found = paginate(self.site.sessions.newest(_MOST_BROWSERS), replace(scope, page=1), _browser_text)
        return SessionRevocation(self.site).valid_browsers(found.rows)

    def end(self) -> Response:
        """End what is named: credentials, or all of a person, a role or an account."""
        site, session = self.site, self.site.current_session.check_csrf()
        self.admin_access.require_accounts(session)
        kind = form_field("kind", 16)
        subject = form_field("subject", _LONGEST.get(kind, 0)).strip()
        if not subject:
            raise ValidationError(gettext_noop("Say what to end."))
        if kind != SESSION and "sure" not in request.form:
            raise ValidationError(gettext_noop("Say that you mean all of it: tick the box."))
        revoker, may = SessionRevocation(site), self.admin_access.accounts(session, REVOKE_SESSIONS)
        revocation, account_id = self._resolve_revocation(kind, subject, may)
        if not (account_id in may if account_id else self.admin_access.is_operator(session, REVOKE_SESSIONS)):
            raise AccessDenied(_NOT_YOURS)
        revoker.revoke(
            revocation, account_id, revoker.open_live_sessions(may if kind == PERSON else (account_id,)).sessions
        )
        if kind == PERSON:
            revoker.end_browsers_of(subject)
        return site.responses.redirect_to_page("/admin/sessions")

    def _resolve_revocation(self, kind: str, subject: str, may: Sequence[str]) -> tuple[Revocation, str]:
        """Return what to refuse, and the account that it belongs to, or none; raise NoSuchEntity.

        What is not there and what is of another account's are one to whoever may not see it.
        """
        if kind == SESSION:
            return Revocation(kind, subject), self._account_of_session(subject, may)
        if kind == ROLE:
            role = self.site.store.role(subject)
            return (Revocation(kind, role.id), role.account_id) if role else (Revocation(kind, subject), _NO_ACCOUNT)
        if kind == ACCOUNT:
            account = self.site.store.account(subject) or self.site.store.account_by_alias(subject)
            return Revocation(kind, account.id if account else subject), account.id if account else _NO_ACCOUNT
        return Revocation(kind, subject), self._account_of_person(subject)

    def _account_of_session(self, session_id: str, may: Sequence[str]) -> str:
        """Return the one of these accounts that a live session is of; raise NoSuchEntity, ServiceUnavailable."""
        listing = self.site.gate.sessions
        try:
            return next(account_id for account_id in may if listing.find(account_id, session_id))
        except StopIteration as error:
            raise NoSuchEntity(_NO_SESSION) from error
        except RedisError as error:
            raise ServiceUnavailable(_LIST_UNAVAILABLE, log=str(error)) from error

    def _account_of_person(self, person: str) -> str:
        """Return the account of a person of an account's own provider or of its users; nothing for a directory's."""
        provider, bar, subject = person.partition("|")
        if not bar or not subject:
            raise ValidationError(_NO_PERSON)
        arn = parse_arn(provider)
        if arn is not None:
            return arn.account
        if provider != "iam":
            return ""
        user = self.site.store.user(subject)
        return user.account_id if user else subject


def _browser_json(one: BrowserSession) -> dict[str, object]:
    return {
        "person": one.identity.person,
        "name": one.identity.name,
        "opened_at": iso8601_exact(one.opened_at),
        "ends_at": iso8601_exact(one.ends_at),
        "source_ip": one.client.source_ip,
        "user_agent": one.client.user_agent,
    }


def _text(one: LiveSession) -> str:
    return f"{one.arn} {one.person} {one.source_ip} {one.access_key_id} {one.made_by} {one.user_agent}"


def _browser_text(one: BrowserSession) -> str:
    identity, client = one.identity, one.client
    return f"{identity.name} {identity.person} {client.source_ip} {client.user_agent}"
