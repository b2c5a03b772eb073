"""What lies between a proof and a session: a second factor where there is one or must be one, and a new id."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from flask import Response

from broker.audit import console_login
from broker.sessions.browser import BrowserSession, Waiting
from broker.web.core.site import Site
from iam.credentials import factors
from iam.errors import NotSignedIn
from sts.identity import IamIdentity, Identity

# Where a sign-in may lead: our own pages alone, so that no link sends anybody elsewhere (ASVS 3.7.2).
_RETURN_TO: Final = re.compile(
    r"/(?:portal|sessions|security|mfa/enrol|why|admin(?:/[a-z]{1,20})?)(?:\?[\w.~%=&:/@+,-]{0,2500})?", re.ASCII
)
HOME: Final = "/portal"


class Step(StrEnum):
    """What somebody has still to do before a session begins."""

    PROVE = "prove"  # a second factor
    ENROL = "enrol"  # a first second factor


_PAGES = {Step.PROVE: "/mfa", Step.ENROL: "/mfa/enrol"}


def return_to(wish: str | None) -> str:
    """Return where a sign-in leads: to the page that was wished for, where it is one of ours."""
    return wish if wish and _RETURN_TO.fullmatch(wish) else HOME


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Lets people in; ``demanding`` names the providers whose people must have a second factor."""

    site: Site
    demanding: Container[str]

    def admit(
        self, identity: Identity, to: str, *, renewal: str = "", told: Mapping[str, Any] | None = None
    ) -> Response:
        """Return the answer to somebody just proved: on to a page, or to a second factor first.

        Programs that ask for JSON get what is ``told`` instead of being sent on.
        """
        site, step = self.site, self._step(identity)
        as_json = told is not None and site.wants_json
        if step is None:
            response = site.json(told or {}) if as_json else site.found(site.at(return_to(to)))
            self._open(response, identity, renewal, return_to(to), None)
            return response
        if isinstance(identity, IamIdentity):
            site.record("CheckPassword", identity.account_id)
        token, _ = site.sessions.wait(step, identity, return_to(to), renewal)
        more = site.at(_PAGES[step])
        response = site.json({"code": "SecondFactorNeeded", "address": more}, 401) if as_json else site.found(more)
        site.set_cookie(response, "step", token, same_site="Lax")
        return response

    def _step(self, identity: Identity) -> Step | None:
        with self.site.store.read() as tx:
            has = bool(factors.factors_of(tx, identity.person))
        demanded = self.demands(identity)
        if has and (demanded or not identity.account_id or isinstance(identity, IamIdentity)):
            return Step.PROVE
        return Step.ENROL if demanded else None

    def demands(self, identity: Identity) -> bool:
        """Return whether this person must have a second factor; the owner of an account always must."""
        if isinstance(identity, IamIdentity):
            return identity.is_root or "iam" in self.demanding
        return identity.provider.removeprefix("ldap-provider/") in self.demanding

    def waiting(self, *steps: Step) -> Waiting:
        """Return who waits in this browser for one of these steps, as long as their proof stands; raise NotSignedIn."""
        found = self.site.sessions.waiting(self.site.cookie("step"))
        if found is None or found.step not in steps or not self.site.standing.holds(found, self.site.exchange.now):
            raise NotSignedIn("You are not signed in.")
        self.site.exchange.identity = found.identity
        return found

    def pass_on(self, waiting: Waiting, response: Response, mfa_at: datetime) -> None:
        """Open the session of somebody who has done what was missing; raise NotSignedIn where it was done before."""
        if not self.site.sessions.end_waiting(waiting):
            raise NotSignedIn("You are not signed in.")
        self.site.drop_cookie(response, "step")
        self._open(response, waiting.identity, waiting.memo, waiting.return_to, mfa_at)

    def _open(self, response: Response, identity: Identity, renewal: str, to: str, mfa_at: datetime | None) -> None:
        """Open the session of somebody who has done all that is asked."""
        if isinstance(identity, IamIdentity):
            console_login.arrived(self.site, identity, to, mfa=mfa_at is not None)
        self.site.open(response, identity, renewal, mfa_at=mfa_at)

    def step_up(self, session: BrowserSession, response: Response, mfa_at: datetime) -> None:
        """Give the session a new id, now that a second factor was given; raise NotSignedIn where it ended meanwhile."""
        stepped = self.site.sessions.step_up(session, mfa_at)
        if stepped is None:
            raise NotSignedIn("You are not signed in.")
        self.site.set_session(response, stepped[0])
