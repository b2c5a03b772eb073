"""Complete a sign-in: from the verified identity, through the second factor if required, to a new session."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlencode

from flask import Response

from broker.sessions.browser import BrowserSession, PendingLogin
from broker.sessions.records import GivenFactor
from broker.web.core.responses import HOME, wants_json
from broker.web.core.site import Site
from broker.web.login import console_login
from iam.errors import NotSignedIn
from sts.identity import Identity

# Where a sign-in may lead: our own pages alone, so that no link sends anybody elsewhere (ASVS 3.7.2).
_RETURN_TO: Final = re.compile(
    r"/(?:portal|sessions|security|password|mfa/enrol|why|admin(?:/[a-z]{1,20})?|service/[A-Za-z0-9][\w-]{0,63})"
    r"(?:\?[\w.~%=&:/@+,-]{0,3900})?",
    re.ASCII,
)
RETURN_TO: Final = "return_to"  # the field in which pages of a pending sign-in repeat where it leads, should it expire


class LoginStep(StrEnum):
    """A step that is required before the session begins."""

    VERIFY = "prove"  # a second factor
    ENROL = "enrol"  # a first second factor


_PAGES = {LoginStep.VERIFY: "/mfa", LoginStep.ENROL: "/mfa/enrol"}


def return_to(wish: str | None) -> str:
    """Return the page to open after sign-in: the requested one if it is ours, otherwise the portal."""
    return wish if wish and _RETURN_TO.fullmatch(wish) else HOME


def return_fields(to: str) -> dict[str, str]:
    """Return the fields with which pages of a pending sign-in repeat where it leads; none for the portal."""
    return {RETURN_TO: to} if to != HOME else {}


def _query_of(to: str) -> str:
    fields = return_fields(to)
    return f"?{urlencode(fields)}" if fields else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCompletion:
    """Completes sign-ins."""

    site: Site

    def complete_login(
        self, identity: Identity, to: str, *, refresh_state: str = "", told: Mapping[str, Any] | None = None
    ) -> Response:
        """Return the response to a verified identity: a redirect to the page, or to the second factor first.

        Programs that ask for JSON get what is ``told`` instead of being sent on.
        """
        site, step = self.site, self._step(identity)
        identity = site.session_validity.bind(identity)
        as_json = told is not None and wants_json()
        if step is None:
            response = site.responses.json(told or {}) if as_json else site.responses.redirect_to_page(return_to(to))
            self._start_session(response, identity, refresh_state, return_to(to), None)
            return response
        if site.gate.kinds.of(identity).is_principal:
            site.audit.record("CheckPassword", identity.account_id)
        token, _ = site.sessions.start_pending_login(step, identity, return_to(to), refresh_state)
        next_page = site.responses.url_path(_PAGES[step] + _query_of(return_to(to)))
        response = (
            site.responses.json({"code": "SecondFactorNeeded", "address": next_page}, 401)
            if as_json
            else site.responses.redirect(next_page)
        )
        site.cookies.set_token(response, "step", token, same_site="Lax")
        return response

    def _step(self, identity: Identity) -> LoginStep | None:
        rule = self.site.gate.second_factor
        if not rule.is_asked(identity):
            return None
        return LoginStep.VERIFY if rule.has_factor(identity) else LoginStep.ENROL

    def requires_mfa(self, identity: Identity) -> bool:
        """Return whether this identity must use a second factor; root users always must."""
        return self.site.gate.second_factor.is_demanded(identity)

    def require_pending_login(self, *steps: LoginStep) -> PendingLogin:
        """Return this browser's pending sign-in if it waits for one of these steps and is valid; raise NotSignedIn."""
        pending = self.site.sessions.find_pending_login(self.site.cookies.token("step"))
        if (
            pending is None
            or pending.step not in steps
            or not self.site.session_validity.is_valid(pending, self.site.request_state.now)
        ):
            raise NotSignedIn("You are not signed in.")
        self.site.request_state.identity = pending.identity
        return pending

    def finish_pending_login(
        self, pending: PendingLogin, response: Response, mfa_at: datetime, factors: tuple[str, ...] = ()
    ) -> None:
        """Start the session of a pending sign-in; raise NotSignedIn if it was already completed, or ended meanwhile."""
        if not self.site.sessions.consume_pending_login(pending):
            raise NotSignedIn("You are not signed in.")
        self.site.cookies.clear(response, "step")
        given = GivenFactor(mfa_at, factors)
        session = self._start_session(response, pending.identity, pending.refresh_state, pending.return_to, given)
        # Whoever ends a person's sessions and pending sign-ins at this moment may have seen neither.
        if self.site.sessions.has_ended(pending):
            self.site.sessions.end(session)
            raise NotSignedIn("You are not signed in.")

    def _start_session(
        self, response: Response, identity: Identity, refresh_state: str, to: str, mfa: GivenFactor | None
    ) -> BrowserSession:
        """Start a session after all steps are completed; return it."""
        if self.site.gate.kinds.of(identity).is_principal:
            console_login.record_login(self.site, identity, to, mfa=mfa is not None)
        return self.site.current_session.start(response, identity, refresh_state, mfa=mfa)

    def step_up(
        self, session: BrowserSession, response: Response, mfa_at: datetime, factors: tuple[str, ...] = ()
    ) -> None:
        """Give the session a new ID after a second factor; raise NotSignedIn if it has ended."""
        stepped = self.site.sessions.step_up(session, mfa_at, factors)
        if stepped is None:
            raise NotSignedIn("You are not signed in.")
        self.site.cookies.set_session(response, stepped[0])
