"""/admin/sessions: live credentials and browsers of everybody, for those who administer; search, and revocation.

Whoever sees an account sees its credentials; ending them takes another leave (broker.web.administration). Browsers of
everybody, and a person of a directory as a whole, are the business of those who administer every account.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response, request

from broker.web.administration import REVOKE, Administration
from broker.web.browser_sessions import BrowserSession
from broker.web.ending import ACCOUNT, PERSON, ROLE, SESSION, Cut, Ending
from broker.web.site import Site
from iam.arn import parse_arn
from iam.errors import AccessDenied, NoSuchEntity, ValidationError
from sts.sessions import LiveSession

_ON_A_PAGE: Final = 200
_MOST_BROWSERS: Final = 1000
_NOT_YOURS: Final = "You may not end these sessions: it takes the leave for iam:PutRolePolicy on the account's roles."


@dataclass(frozen=True, slots=True, kw_only=True)
class EveryonesSessions:
    """The page of everybody's sessions."""

    site: Site
    administration: Administration

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        made = Blueprint("everyones_sessions", __name__)
        made.get("/admin/sessions")(self.show)
        made.post("/admin/sessions")(self.end)
        return made

    def show(self) -> Response:
        """Show the sessions that a search finds."""
        site, session = self.site, self.site.required()
        accounts = self.administration.required(session)
        query, page = request.args.get("q", "")[:200], _number(request.args.get("page", "1"))
        live = Ending(site).live(accounts)
        found = [one for one in live.sessions if _fits(query, _text(one))]
        browsers = site.sessions.everybodys(_MOST_BROWSERS) if self.administration.is_operator(session) else ()
        shown = found[(page - 1) * _ON_A_PAGE : page * _ON_A_PAGE]
        if site.wants_json:
            return site.json({"credentials": [one._asdict() for one in shown], "found": len(found)})
        return site.page(
            "everyones_sessions.html",
            session=session,
            administrator=True,
            accounts=accounts,
            revocable=self.administration.accounts(session, REVOKE),
            live=live,
            shown=shown,
            found=len(found),
            query=query,
            page=page,
            pages=max(1, -(-len(found) // _ON_A_PAGE)),
            browsers=[one for one in browsers if _fits(query, _browser_text(one))][:_ON_A_PAGE],
        )

    def end(self) -> Response:
        """End what is named: credentials, or all of a person, a role or an account."""
        site, session = self.site, self.site.posted()
        self.administration.required(session)
        kind, subject = site.field("kind", 16), site.field("subject", 2048).strip()
        ending, may = Ending(site), self.administration.accounts(session, REVOKE)
        if kind not in (SESSION, PERSON, ROLE, ACCOUNT) or not subject:
            raise ValidationError("Say what to end.")
        if kind != SESSION and "sure" not in request.form:
            raise ValidationError("Say that you mean all of it: tick the box.")
        live = ending.live(may)
        cut, account_id = self._cut(kind, subject, live.sessions)
        if not (account_id in may if account_id else self._has_all(may)):
            raise AccessDenied(_NOT_YOURS)
        ending.end(cut, account_id, live.sessions)
        if kind == PERSON:
            ending.end_browsers(site.sessions.of_person(subject))
        return site.found(site.at("/admin/sessions"))

    def _has_all(self, may: Sequence[str]) -> bool:
        """Return whether these are all accounts there are: people of a directory belong to none alone."""
        return set(Ending(self.site).all_accounts()) <= set(may)

    def _cut(self, kind: str, subject: str, live: Sequence[LiveSession]) -> tuple[Cut, str]:
        """Return what to refuse, and the account that it belongs to, or none; raise NoSuchEntity."""
        if kind == SESSION:
            one = next((one for one in live if one.id == subject), None)
            if one is None:
                raise NoSuchEntity("This session has ended already, or is of an account that is not yours.")
            return Cut(kind, subject), one.account_id
        if kind == ROLE:
            role = self.site.store.role(subject)
            if role is None:
                raise NoSuchEntity(f"There is no role {subject[:200]}.")
            return Cut(kind, role.id), role.account_id
        if kind == ACCOUNT:
            account = self.site.store.account(subject) or self.site.store.account_by_alias(subject)
            if account is None:
                raise NoSuchEntity(f"There is no account {subject[:64]}.")
            return Cut(kind, account.id), account.id
        return Cut(kind, subject), self._home_of(subject)

    def _home_of(self, person: str) -> str:
        """Return the account of a person of an account's own provider or of its users; nothing for a directory's."""
        provider, bar, subject = person.partition("|")
        if not bar or not subject:
            raise ValidationError("A person is written as PROVIDER|SUBJECT, as the list shows it.")
        arn = parse_arn(provider)
        if arn is not None:
            return arn.account
        if provider != "iam":
            return ""
        user = self.site.store.user(subject)
        return user.account_id if user else subject


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text[:6]) > 0 else 1


def _fits(query: str, text: str) -> bool:
    return all(part in text for part in query.casefold().split())


def _text(one: LiveSession) -> str:
    return f"{one.arn} {one.person} {one.source_ip} {one.access_key_id} {one.made_by} {one.user_agent}".casefold()


def _browser_text(one: BrowserSession) -> str:
    identity, client = one.identity, one.client
    return f"{identity.name} {identity.person} {client.source_ip} {client.user_agent}".casefold()
