"""Forms of people who are not signed in: ours, good for one browser and an hour, and answered once.

Nothing is kept for a form that was only looked at: what makes it ours is sealed into it. Flask-WTF ties its token to a
session in a cookie of Flask's own, which the pages do not have; it knows of no answer to a form that was sent twice.
"""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from flask import Response, make_response, request
from flask_babel import gettext as _
from flask_babel import ngettext

from broker.web.core.site import NOT_OURS, Site
from iam.errors import AccessDenied, ServiceError, ServiceUnavailable, Throttling, ValidationError
from iam.store.vault import CannotUnseal, Vault

_OPEN_FOR: Final = 3600  # seconds that a form stays good
_LOOKS, _PAUSE = 200, 0.1  # how often a form sent twice looks for the first answer, and the seconds between
_COOKIE: Final = "form"
_LONGEST: Final = 1024
# Answers to what was not even tried, and those that may be others a minute later: nothing of them needs to be kept for
# an hour, for strangers can make as many as they like.
_PASSING: Final = (400, 429, 503)


class Told(NamedTuple):
    """What a form says above itself; ``wrong``: the fields are to blame. ``link`` leads to where it can be mended."""

    text: str
    code: int = 401
    wrong: bool = False
    retry_after: int = 0
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """Gives forms and takes them back."""

    site: Site
    vault: Vault
    pause: Callable[[float], None]

    def page(self, template: str, told: Told | None = None, code: int = 200, **values: Any) -> Response:  # noqa: ANN401 - for templates
        """Return a page with a form: its template finds ``transaction``, ``told``, and the record's ``reference``."""
        site = self.site
        browser = site.cookie(_COOKIE) or site.sessions.new_token()
        response = site.page(
            template,
            code=told.code if told else code,
            told=told,
            error=told is not None and told.code >= HTTPStatus.BAD_REQUEST,
            reference=site.reference if site.exchange.refusal_recorded else "",
            transaction=self._transaction(browser),
            **values,
        )
        site.set_cookie(response, _COOKIE, browser, same_site="Lax")
        if told and told.retry_after:
            response.headers["Retry-After"] = str(told.retry_after)
        return response

    def take(
        self, again: Callable[[Told], Response], answer: Callable[[], Response], *, event: str = "SignIn"
    ) -> Response:
        """Return the answer to the form that was posted, the same however often it comes with the same in it.

        ``again`` shows the form anew, with a word on why: it was open too long, or came without its cookie; that is
        recorded as a failure of the ``event``. Raise AccessDenied for a form of elsewhere (THREATS H01).
        """
        self.site.check_origin()
        transaction = self.site.field("transaction", _LONGEST)
        stale = self._staleness(transaction)
        if stale is None:
            return self._once(_contents(transaction), answer) or again(self._sent_before(event))
        told, error = stale
        self.site.record_failure(event, "", error)
        return again(told)

    def _once(self, form: str, answer: Callable[[], Response]) -> Response | None:
        """Return the answer to a form, made now or before; None where it was made and is kept no more."""
        sessions = self.site.sessions
        if not sessions.claim(form, _OPEN_FOR):
            return self._first_answer(form)
        try:
            response = answer()
        except BaseException:
            with suppress(ServiceUnavailable):
                sessions.disclaim(form)
            raise
        with suppress(ServiceUnavailable):  # the answer is there; only whoever sent it twice could miss it
            sessions.answer(form, self._sealed(response, form), anew=response.status_code in _PASSING)
        return response

    def _sent_before(self, event: str) -> Told:
        self.site.record_failure(event, "", ValidationError("The form was sent before."))
        return Told(_("This form was sent before. Please sign in again."), 409)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _transaction(self, browser: str) -> str:
        now = int(self.site.exchange.now.timestamp())
        return urlsafe_b64encode(self.vault.seal(str(now).encode(), f"form|{browser}", self.site.gate.random)).decode()

    def _staleness(self, transaction: str) -> tuple[Told, ServiceError] | None:
        """Return what is told and what is recorded of a form that cannot be taken any more; raise AccessDenied."""
        browser = self.site.cookie(_COOKIE)
        if browser is None:
            text = _("Your browser sent no cookie with the form. Allow cookies for this site, then sign in again.")
            return Told(text, 403), AccessDenied("The form came without its cookie.")
        try:
            given = int(self.vault.open(urlsafe_b64decode(transaction), f"form|{browser}"))
        except (CannotUnseal, ValueError) as error:
            raise AccessDenied(NOT_OURS) from error
        if int(self.site.exchange.now.timestamp()) - given > _OPEN_FOR:
            text = _("This page was open too long, please sign in again.")
            return Told(text, 400), ValidationError("The form was open too long.")
        return None

    def _sealed(self, response: Response, form: str) -> str:
        """Return an answer as it may lie in Redis for a moment: it has a session's cookie, and so is sealed."""
        told: dict[str, Any] = {
            "status": response.status_code,
            "headers": [pair for pair in response.headers.items() if pair[0] != "Content-Length"],
            "body": response.get_data(as_text=True),
        }
        return urlsafe_b64encode(self.vault.seal(json.dumps(told).encode(), form, self.site.gate.random)).decode()

    def _first_answer(self, form: str) -> Response | None:
        for _look in range(_LOOKS):
            kept = self.site.sessions.answered(form)
            if kept is None:
                return None
            if kept:
                return self._unsealed(kept, form)
            self.pause(_PAUSE)
        return None

    def _unsealed(self, kept: str, form: str) -> Response:
        told = json.loads(self.vault.open(urlsafe_b64decode(kept), form))
        response = make_response(told["body"], told["status"])
        response.headers.clear()
        response.headers.extend(told["headers"])
        return response


def _contents(transaction: str) -> str:
    """Return a form by what is in it: whoever goes back and types another password has sent another form."""
    fields = json.dumps(sorted(request.form.items(multi=True)))
    return f"{transaction} {hashlib.sha256(fields.encode()).hexdigest()}"


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
