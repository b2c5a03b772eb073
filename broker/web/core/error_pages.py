"""Errors that no page raises on purpose: no such page, no such method, a form that is too large, and faults of ours.

Browsers get a page in their reader's language, everybody else a line of text; nobody gets a traceback (THREATS H13).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Response, g, request
from flask_babel import gettext
from werkzeug.exceptions import HTTPException, InternalServerError, MisdirectedRequest, RequestEntityTooLarge

from broker.api.errors import status
from broker.web.core.languages import gettext_noop
from broker.web.core.site import Site
from iam.errors import InternalFailure, RequestTooLarge, ServiceError, ServiceUnavailable

log = logging.getLogger(__name__)

_MESSAGES: Final = {
    404: gettext_noop("There is no such page."),
    405: gettext_noop("Nothing can be sent to this address in this way."),
    421: gettext_noop("This page has another address."),
}
_UNREADABLE: Final = gettext_noop("This request cannot be answered.")
_TOO_LARGE: Final = gettext_noop("The form is too large.")
_INTERNAL_ERROR: Final = gettext_noop("Something went wrong here.")
_KEPT_HEADERS: Final = (
    "Allow",
    "Retry-After",
)  # RFC 9110, sections 10.2.1 and 10.2.3


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """Answers what nobody else does; ``new_reference`` is for requests that have no id of their own."""

    site: Site
    new_reference: Callable[[], str]

    def handle_http_error(self, error: HTTPException) -> Response:
        """Return the answer to a request that reached no page."""
        site, code = self.site, error.code or 500
        if isinstance(error, InternalServerError):  # not even the page of an error could be made
            response = self._plain_text_error(error.original_exception)
        elif not site.wants_html:
            response = text_response(code, f"{error.name}. Reference: {self._reference}\n")
        elif isinstance(error, RequestEntityTooLarge):
            response = site.render_error(RequestTooLarge(_TOO_LARGE))
        else:
            log.info("page %s refused: %d %a", site.request_state.id, code, request.path)
            elsewhere = site.public_url if isinstance(error, MisdirectedRequest) else ""
            response = site.render_error_page(gettext(_MESSAGES.get(code, _UNREADABLE)), code, elsewhere=elsewhere)
        response.headers.update({name: value for name, value in error.get_headers() if name in _KEPT_HEADERS})
        return response

    def handle_exception(self, error: Exception) -> Response:
        """Return the answer to a request at which we failed."""
        reference = self.site.reference if self.site.wants_html else self._reference
        log.error("%s %a failed, reference %s", request.method, request.path, reference, exc_info=error)
        if self.site.wants_html:
            return self.site.render_error(InternalFailure(_INTERNAL_ERROR))
        return text_response(500, f"{_INTERNAL_ERROR} Reference: {reference}\n")

    def _plain_text_error(self, error: BaseException | None) -> Response:
        """Return a line for an error that the store, or a template, lets no page tell."""
        told = error if isinstance(error, ServiceError) else InternalFailure(_INTERNAL_ERROR)
        response = text_response(status(told), f"{told.message} Reference: {self._reference}\n")
        if isinstance(told, ServiceUnavailable):
            response.headers["Retry-After"] = str(told.retry_after)
        return response

    @property
    def _reference(self) -> str:
        return self.site.reference if "request_state" in g else self.new_reference()


def text_response(status: int, line: str) -> Response:
    """Return a line of text that nobody keeps."""
    return Response(line, status, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
