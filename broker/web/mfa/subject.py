"""The user whose second factor is verified: of a pending sign-in, or of a session that steps up."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flask import Response, request

from broker.sessions.browser import BrowserSession, PendingLogin
from broker.web.core.responses import HOME
from broker.web.login.completion import LoginCompletion, LoginStep, return_fields, return_to
from iam.credentials.factors import factor_versions
from iam.errors import NotSignedIn
from sts.identity import Identity

MFA_FRESHNESS: Final = timedelta(minutes=5)  # for so long after a second factor may somebody change what proves them


@dataclass(frozen=True, slots=True)
class MfaSubject:
    """A user who verifies a second factor; ``login_state``: the pending sign-in or session, ``to``: the next page.

    ``factors`` are the versions of those that the user had before any was judged: one that is taken away meanwhile
    begins no session that lasts.
    """

    login_state: PendingLogin | BrowserSession
    to: str
    factors: tuple[str, ...]

    @property
    def identity(self) -> Identity:
        """Return the identity."""
        return self.login_state.identity

    @property
    def session(self) -> BrowserSession | None:
        """Return the session, or None during a pending sign-in."""
        return self.login_state if isinstance(self.login_state, BrowserSession) else None

    @property
    def form_fields(self) -> Mapping[str, str]:
        """Return the hidden fields for each form."""
        return {"form_token": self.login_state.form_token} | self.query

    @property
    def query(self) -> dict[str, str]:
        """Return what addresses of the pages say of where they lead."""
        return return_fields(self.to) if self.session is None else {"to": self.to}

    @property
    def way_back(self) -> str:
        """Return the page to which somebody with a session goes back without a second factor."""
        return self.to if self.to.partition("?")[0] in (HOME, "/why") else HOME

    @property
    def owner(self) -> str:
        """Return the owner for sealed form fields: this person in this browser."""
        return f"{self.identity.person}|{self.login_state.form_token}"

    def complete(self, completion: LoginCompletion, response: Response, mfa_at: datetime) -> None:
        """Start the session, or give it a new ID, after the second factor; raise NotSignedIn."""
        if isinstance(self.login_state, BrowserSession):
            completion.step_up(self.login_state, response, mfa_at, self.factors)
        else:
            completion.finish_pending_login(self.login_state, response, mfa_at, self.factors)


def require_mfa_subject(completion: LoginCompletion, step: LoginStep) -> MfaSubject:
    """Return the user who has to verify a second factor in this browser; raise NotSignedIn.

    A page that says where it leads is for somebody signed in, whoever else has begun to sign in here.
    """
    wish = request.values.get("to")
    if wish is None:
        with suppress(NotSignedIn):
            waiting = completion.require_pending_login(step)
            return _subject(completion, waiting, waiting.return_to)
    return _subject(completion, completion.site.current_session.require(), return_to(wish))


def _subject(completion: LoginCompletion, login_state: PendingLogin | BrowserSession, to: str) -> MfaSubject:
    with completion.site.store.read() as tx:
        return MfaSubject(login_state, to, factor_versions(tx, login_state.identity.person))


def has_fresh_mfa(session: BrowserSession, now: datetime) -> bool:
    """Return whether the last second factor is recent enough to change second factors."""
    return session.mfa_at is not None and now - session.mfa_at <= MFA_FRESHNESS
