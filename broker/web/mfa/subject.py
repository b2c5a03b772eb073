"""Whose second factor a page asks for: somebody who waits to be let in, or somebody signed in who steps up."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flask import Response, request

from broker.sessions.browser import BrowserSession, Waiting
from broker.web.login.completion import Entrance, Step, return_to
from iam.errors import NotSignedIn
from sts.identity import Identity

FRESH: Final = timedelta(minutes=5)  # for so long after a second factor may somebody change what proves them


@dataclass(frozen=True, slots=True)
class Claimant:
    """Somebody who proves a second factor; ``known`` is what this browser has of them, ``to`` where it goes then."""

    known: Waiting | BrowserSession
    to: str

    @property
    def identity(self) -> Identity:
        """Return who it is."""
        return self.known.identity

    @property
    def session(self) -> BrowserSession | None:
        """Return the session of somebody signed in."""
        return self.known if isinstance(self.known, BrowserSession) else None

    @property
    def form_fields(self) -> Mapping[str, str]:
        """Return what each form of theirs brings back."""
        fields = {"form_token": self.known.form_token}
        return fields if self.session is None else fields | {"to": self.to}

    @property
    def owner(self) -> str:
        """Return what the sealed fields of their forms are sealed for: this person, in this browser."""
        return f"{self.identity.person}|{self.known.form_token}"

    def let_in(self, entrance: Entrance, response: Response, mfa_at: datetime) -> None:
        """Open the session, or give it a new id, now that a second factor was given; raise NotSignedIn."""
        if isinstance(self.known, BrowserSession):
            entrance.step_up(self.known, response, mfa_at)
        else:
            entrance.pass_on(self.known, response, mfa_at)


def claimant(entrance: Entrance, step: Step) -> Claimant:
    """Return who is to prove themselves in this browser; raise NotSignedIn.

    A page that says where it leads is for somebody signed in, whoever else has begun to sign in here.
    """
    wish = request.values.get("to")
    if wish is None:
        with suppress(NotSignedIn):
            waiting = entrance.waiting(step)
            return Claimant(waiting, waiting.return_to)
    return Claimant(entrance.site.required(), return_to(wish))


def is_fresh(session: BrowserSession, now: datetime) -> bool:
    """Return whether somebody signed in gave a second factor so lately that they may change what proves them."""
    return session.mfa_at is not None and now - session.mfa_at <= FRESH
