"""Forms of people who are not signed in: ours, good for one browser and an hour, and answered once.

Nothing is kept for a form that was only looked at: what makes it ours is sealed into it. Flask-WTF ties its token to a
session in a cookie of Flask's own, which the pages do not have; it knows of no answer to a form that was sent twice.
"""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flask import Response, make_response
from flask_babel import gettext as _
from flask_babel import ngettext

from broker.web.site import NOT_OURS, Site
from iam.errors import AccessDenied, Throttling
from iam.vault import CannotUnseal, Vault

_OPEN_FOR: Final = 3600  # seconds that a form stays good
_LOOKS, _PAUSE = 50, 0.1  # how often a form sent twice looks for the first answer, and the seconds between
_COOKIE: Final = "form"
_LONGEST: Final = 1024


class Told(NamedTuple):
    """What a form says above itself; ``wrong``: the fields are to blame."""

    text: str
    code: int = 401
    wrong: bool = False
    retry_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """Gives forms and takes them back."""

    site: Site
    vault: Vault

    def page(self, template: str, told: Told | None = None, code: int = 200, **values: Any) -> Response:  # noqa: ANN401 - for templates
        """Return a page with a form: its template finds ``transaction``, ``told`` and ``reference``."""
        site = self.site
        browser = site.cookie(_COOKIE) or site.sessions.new_token()
        response = site.page(
            template,
            code=told.code if told else code,
            told=told,
            reference=site.reference,
            transaction=self._transaction(browser),
            **values,
        )
        site.set_cookie(response, _COOKIE, browser, same_site="Lax")
        if told and told.retry_after:
            response.headers["Retry-After"] = str(told.retry_after)
        return response

    def take(self, again: Callable[[Told], Response], answer: Callable[[], Response]) -> Response:
        """Return the answer to the form that was posted, the same however often it comes.

        ``again`` shows the form anew, with a word on why: it was open too long, or came without its cookie. Raise
        AccessDenied for a form of elsewhere (THREATS H01).
        """
        self.site.check_origin()
        transaction = self.site.field("transaction", _LONGEST)
        stale = self._staleness(transaction)
        if stale is not None:
            return again(stale)
        if not self.site.sessions.claim(transaction):
            return self._first_answer(transaction) or again(
                Told(_("This form was sent before. Please sign in again."), 409)
            )
        response = answer()
        self.site.sessions.answer(transaction, self._sealed(response, transaction))
        return response

    # --- small parts --------------------------------------------------------------------------------------------------

    def _transaction(self, browser: str) -> str:
        now = int(self.site.exchange.now.timestamp())
        return urlsafe_b64encode(self.vault.seal(str(now).encode(), f"form|{browser}", self.site.gate.random)).decode()

    def _staleness(self, transaction: str) -> Told | None:
        browser = self.site.cookie(_COOKIE)
        if browser is None:
            return Told(
                _("Your browser sent no cookie with the form. Allow cookies for this site, then sign in again."), 403
            )
        try:
            given = int(self.vault.open(urlsafe_b64decode(transaction), f"form|{browser}"))
        except (CannotUnseal, ValueError) as error:
            raise AccessDenied(NOT_OURS) from error
        if int(self.site.exchange.now.timestamp()) - given > _OPEN_FOR:
            return Told(_("This page was open too long, please sign in again."), 400)
        return None

    def _sealed(self, response: Response, transaction: str) -> str:
        """Return an answer as it may lie in Redis for a moment: it has a session's cookie, and so is sealed."""
        told: dict[str, Any] = {
            "status": response.status_code,
            "headers": [pair for pair in response.headers.items() if pair[0] != "Content-Length"],
            "body": response.get_data(as_text=True),
        }
        return urlsafe_b64encode(
            self.vault.seal(json.dumps(told).encode(), transaction, self.site.gate.random)
        ).decode()

    def _first_answer(self, transaction: str) -> Response | None:
        for _look in range(_LOOKS):
            kept = self.site.sessions.answered(transaction)
            if kept:
                told = json.loads(self.vault.open(urlsafe_b64decode(kept), transaction))
                response = make_response(told["body"], told["status"])
                response.headers.clear()
                response.headers.extend(told["headers"])
                return response
            time.sleep(_PAUSE)
        return None


def throttled(error: Throttling) -> Told:
    """Return what a form says to somebody who must wait."""
    seconds = error.retry_after
    if seconds < 60:  # noqa: PLR2004 - a minute
        text = ngettext(
            "Too many tries. Try again in %(num)d second.", "Too many tries. Try again in %(num)d seconds.", seconds
        )
    else:
        text = ngettext(
            "Too many tries. Try again in %(num)d minute.",
            "Too many tries. Try again in %(num)d minutes.",
            -(-seconds // 60),
        )
    return Told(text, 429, retry_after=seconds)
