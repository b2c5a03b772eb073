"""Forms of people who are not signed in: bound to one browser, valid for an hour, and answered once.

Rendering a form stores nothing: its sealed ``transaction`` field proves that it is ours. Flask-WTF is not used: it ties
its token to Flask's session cookie, which the pages do not have, and does not answer a form that is sent twice.
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
from broker.web.core.page_audit import note_recorded
from broker.web.core.site import Site
from iam.clock import to_seconds
from iam.errors import AccessDenied, ServiceError, ServiceUnavailable, Throttling, ValidationError
from iam.store.vault import CannotUnseal, Vault

_FORM_LIFETIME: Final = 3600  # seconds
# A duplicate waits for the first response: so many looks, and so many seconds between two.
_POLLS, _POLL_INTERVAL = 200, 0.1
_COOKIE: Final = "form"
_MAX_TRANSACTION: Final = 1024
# Responses to forms that were refused before anything was tried, or whose answer can differ a minute later.
_TRANSIENT_STATUSES: Final = (400, 429, 503)


class FormMessage(NamedTuple):
    """The message above a form. ``wrong``: the typed values are to blame; ``link`` leads to a page that helps."""

    text: str
    code: int = 401
    wrong: bool = False
    retry_after: int = 0
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forms:
    """Renders forms, and answers each one that is posted exactly once."""

    site: Site
    vault: Vault
    pause: Callable[[float], None]

    def render(self, template: str, message: FormMessage | None = None, code: int = 200, **values: Any) -> Response:  # noqa: ANN401 - for templates
        """Return a page with a form; its template gets ``transaction``, ``message``, and the record's ``reference``."""
        site = self.site
        browser = site.cookies.token(_COOKIE) or site.sessions.new_token()
        response = site.responses.render(
            template,
            code=message.code if message else code,
            message=message,
            error=message is not None and message.code >= HTTPStatus.BAD_REQUEST,
            reference=site.reference if site.request_state.refusal_recorded else "",
            transaction=self._transaction(browser),
            **values,
        )
        site.cookies.set_token(response, _COOKIE, browser, same_site="Lax")
        if message and message.retry_after:
            response.headers["Retry-After"] = str(message.retry_after)
        return response

    def answer_once(
        self, render_again: Callable[[FormMessage], Response], answer: Callable[[], Response], *, event: str = "SignIn"
    ) -> Response:
        """Return the response to the posted form; the same form with the same values gets the same response again.

        ``render_again`` shows the form with a message: it was open too long, or came without its cookie. That is
        recorded as a failure of ``event``. Raise AccessDenied for a form of another site (THREATS H01).
        """
        self.site.csrf.check_origin()
        transaction = form_field("transaction", _MAX_TRANSACTION)
        stale = self._check_freshness(transaction)
        if stale is None:
            return self._answer_unless_sent(_fingerprint(transaction), answer) or render_again(
                self._duplicate_message(event)
            )
        message, error = stale
        self.site.audit.record_failure(event, "", error)
        return render_again(message)

    def _answer_unless_sent(self, form: str, answer: Callable[[], Response]) -> Response | None:
        """Return the response to a form, made now or before; None if it was made before and is no longer kept."""
        sessions = self.site.sessions
        if not sessions.claim_form(form, _FORM_LIFETIME):
            return self._wait_for_first_answer(form)
        try:
            response = answer()
        except BaseException:
            with suppress(ServiceUnavailable):
                sessions.release_form(form)
            raise
        with suppress(ServiceUnavailable):  # the response is ready; only a duplicate would miss the stored copy
            sessions.store_form_response(form, _serialize(response), anew=self._may_be_sent_again(response))
        return response

    def _may_be_sent_again(self, response: Response) -> bool:
        """Return whether a form may be sent again soon after this response, so that its mark need not be kept.

        Only a form with which somebody was proved can sign in or change something twice; strangers can send any number
        of others, each of which would be a key in Redis for an hour.
        """
        return self.site.request_state.identity is None or response.status_code in _TRANSIENT_STATUSES

    def _duplicate_message(self, event: str) -> FormMessage:
        self.site.audit.record_failure(event, "", ValidationError("The form was sent before."))
        return FormMessage(_("This form was already submitted. Sign in again."), 409)

    def _transaction(self, browser: str) -> str:
        now = to_seconds(self.site.request_state.now)
        return urlsafe_b64encode(self.vault.seal(str(now).encode(), f"form|{browser}", self.site.gate.random)).decode()

    def _check_freshness(self, transaction: str) -> tuple[FormMessage, ServiceError] | None:
        """Return message and error for a form that is too old or lacks its cookie; raise AccessDenied for others."""
        browser = self.site.cookies.token(_COOKIE)
        if browser is None:
            text = _(
                "Your browser did not send a cookie with the form. Allow cookies for this site, then sign in again."
            )
            return FormMessage(text, 403), AccessDenied("The form came without its cookie.")
        try:
            rendered_at = int(self.vault.open(urlsafe_b64decode(transaction), f"form|{browser}"))
        except (CannotUnseal, ValueError) as error:
            raise AccessDenied(CSRF_REJECTED) from error
        if to_seconds(self.site.request_state.now) - rendered_at > _FORM_LIFETIME:
            text = _("This page was open too long, please sign in again.")
            return FormMessage(text, 400), ValidationError("The form was open too long.")
        return None

    def _wait_for_first_answer(self, form: str) -> Response | None:
        for _attempt in range(_POLLS):
            text = self.site.sessions.find_form_response(form)
            if text is None:
                return None
            if text:
                note_recorded()  # as what it was the first time
                return _parse(text)
            self.pause(_POLL_INTERVAL)
        return None


def _serialize(response: Response) -> str:
    parts: dict[str, Any] = {
        "status": response.status_code,
        "headers": [pair for pair in response.headers.items() if pair[0] != "Content-Length"],
        "body": response.get_data(as_text=True),
    }
    return json.dumps(parts)


def _parse(text: str) -> Response:
    parts = json.loads(text)
    response = make_response(parts["body"], parts["status"])
    response.headers.clear()
    response.headers.extend(parts["headers"])
    return response


def _fingerprint(transaction: str) -> str:
    """Return the identity of a form with its values: going back and typing another password makes another form."""
    fields = json.dumps(sorted(request.form.items(multi=True)))
    return f"{transaction} {hashlib.sha256(fields.encode()).hexdigest()}"


def throttling_message(error: Throttling) -> FormMessage:
    """Return the message for somebody who must wait before the next try."""
    seconds = error.retry_after
    if seconds < 60:  # noqa: PLR2004 - a minute
        text = ngettext(
            "Too many attempts. Try again in %(num)d second.",
            "Too many attempts. Try again in %(num)d seconds.",
            seconds,
        )
    else:
        text = ngettext(
            "Too many attempts. Try again in %(num)d minute.",
            "Too many attempts. Try again in %(num)d minutes.",
            -(-seconds // 60),
        )
    return FormMessage(text, 429, retry_after=seconds)
