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

from broker.web.core.csrf import CSRF_REJECTED
from broker.web.core.form_fields import form_field
from broker.web.core.site import Site
from iam.clock import to_seconds
from iam.errors import AccessDenied, ServiceError, ServiceUnavailable, Throttling, ValidationError
from iam.store.vault import CannotUnseal, Vault

_FORM_LIFETIME: Final = 3600  # seconds that a form stays good
_POLLS, _POLL_INTERVAL = 200, 0.1  # how often a form sent twice looks for the first answer, and the seconds between
_COOKIE: Final = "form"
_LONGEST: Final = 1024
# Answers to what was not even tried, and those that may be others a minute later: nothing of them needs to be kept for
# an hour, for strangers can make as many as they like.
_TRANSIENT_STATUSES: Final = (400, 429, 503)


class FormMessage(NamedTuple):
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

    def render(self, template: str, told: FormMessage | None = None, code: int = 200, **values: Any) -> Response:  # noqa: ANN401 - for templates
        """Return a page with a form: its template finds ``transaction``, ``told``, and the record's ``reference``."""
        site = self.site
        browser = site.cookies.token(_COOKIE) or site.sessions.new_token()
        response = site.responses.render(
            template,
            code=told.code if told else code,
            told=told,
            error=told is not None and told.code >= HTTPStatus.BAD_REQUEST,
            reference=site.reference if site.request_state.refusal_recorded else "",
            transaction=self._transaction(browser),
            **values,
        )
        site.cookies.set_token(response, _COOKIE, browser, same_site="Lax")
        if told and told.retry_after:
            response.headers["Retry-After"] = str(told.retry_after)
        return response

    def answer_once(
        self, render_again: Callable[[FormMessage], Response], answer: Callable[[], Response], *, event: str = "SignIn"
    ) -> Response:
        """Return the answer to the form that was posted, the same however often it comes with the same in it.

        ``again`` shows the form anew, with a word on why: it was open too long, or came without its cookie; that is
        recorded as a failure of the ``event``. Raise AccessDenied for a form of elsewhere (THREATS H01).
        """
        self.site.csrf.check_origin()
        transaction = form_field("transaction", _LONGEST)
        stale = self._check_freshness(transaction)
        if stale is None:
            return self._answer_unless_sent(_fingerprint(transaction), answer) or render_again(
                self._duplicate_message(event)
            )
        told, error = stale
        self.site.audit.record_failure(event, "", error)
        return render_again(told)

    def _answer_unless_sent(self, form: str, answer: Callable[[], Response]) -> Response | None:
        """Return the answer to a form, made now or before; None where it was made and is kept no more."""
        sessions = self.site.sessions
        if not sessions.claim_form(form, _FORM_LIFETIME):
            return self._wait_for_first_answer(form)
        try:
            response = answer()
        except BaseException:
            with suppress(ServiceUnavailable):
                sessions.release_form(form)
            raise
        with suppress(ServiceUnavailable):  # the answer is there; only whoever sent it twice could miss it
            sessions.store_form_response(
                form, self._seal(response, form), anew=response.status_code in _TRANSIENT_STATUSES
            )
        return response

    def _duplicate_message(self, event: str) -> FormMessage:
        self.site.audit.record_failure(event, "", ValidationError("The form was sent before."))
        return FormMessage(_("This form was sent before. Please sign in again."), 409)

    # --- small parts --------------------------------------------------------------------------------------------------

    def _transaction(self, browser: str) -> str:
        now = to_seconds(self.site.request_state.now)
        return urlsafe_b64encode(self.vault.seal(str(now).encode(), f"form|{browser}", self.site.gate.random)).decode()

    def _check_freshness(self, transaction: str) -> tuple[FormMessage, ServiceError] | None:
        """Return what is told and what is recorded of a form that cannot be taken any more; raise AccessDenied."""
        browser = self.site.cookies.token(_COOKIE)
        if browser is None:
            text = _("Your browser sent no cookie with the form. Allow cookies for this site, then sign in again.")
            return FormMessage(text, 403), AccessDenied("The form came without its cookie.")
        try:
            given = int(self.vault.open(urlsafe_b64decode(transaction), f"form|{browser}"))
        except (CannotUnseal, ValueError) as error:
            raise AccessDenied(CSRF_REJECTED) from error
        if to_seconds(self.site.request_state.now) - given > _FORM_LIFETIME:
            text = _("This page was open too long, please sign in again.")
            return FormMessage(text, 400), ValidationError("The form was open too long.")
        return None

    def _seal(self, response: Response, form: str) -> str:
        """Return an answer as it may lie in Redis for a moment: it has a session's cookie, and so is sealed."""
        told: dict[str, Any] = {
            "status": response.status_code,
            "headers": [pair for pair in response.headers.items() if pair[0] != "Content-Length"],
            "body": response.get_data(as_text=True),
        }
        return urlsafe_b64encode(self.vault.seal(json.dumps(told).encode(), form, self.site.gate.random)).decode()

    def _wait_for_first_answer(self, form: str) -> Response | None:
        for _look in range(_POLLS):
            kept = self.site.sessions.find_form_response(form)
            if kept is None:
                return None
            if kept:
                return self._unseal(kept, form)
            self.pause(_POLL_INTERVAL)
        return None

    def _unseal(self, kept: str, form: str) -> Response:
        told = json.loads(self.vault.open(urlsafe_b64decode(kept), form))
        response = make_response(told["body"], told["status"])
        response.headers.clear()
        response.headers.extend(told["headers"])
        return response


def _fingerprint(transaction: str) -> str:
    """Return a form by what is in it: whoever goes back and types another password has sent another form."""
    fields = json.dumps(sorted(request.form.items(multi=True)))
    return f"{transaction} {hashlib.sha256(fields.encode()).hexdigest()}"


def throttling_message(error: Throttling) -> FormMessage:
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
    return FormMessage(text, 429, retry_after=seconds)
