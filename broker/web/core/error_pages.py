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
from broker.web.core.languages import to_translate
from broker.web.core.site import Site
from iam.errors import InternalFailure, RequestTooLarge, ServiceError, ServiceUnavailable

log = logging.getLogger(__name__)

_SENTENCES: Final = {
    404: to_translate("There is no such page."),
    405: to_translate("Nothing can be sent to this address in this way."),
    421: to_translate("This page has another address."),
}
_UNREADABLE: Final = to_translate("This request cannot be answered.")
_TOO_LARGE: Final = to_translate("The form is too large.")
_FAULT: Final = to_translate("Something went wrong here.")
_KEPT: Final = (
    "Allow",
    "Retry-After",
)  # RFC 9110, sections 10.2.1 and 10.2.3


@dataclass(frozen=True, slots=True)
class Mishaps:
    """Answers what nobody else does; ``new_reference`` is for requests that have no id of their own."""

    site: Site
    new_reference: Callable[[], str]

    def refused(self, error: HTTPException) -> Response:
        """Return the answer to a request that reached no page."""
        site, code = self.site, error.code or 500
        if isinstance(error, InternalServerError):  # not even the page of an error could be made
            response = self._bare(error.original_exception)
        elif not site.wants_page:
            response = text(code, f"{error.name}. Reference: {self._reference}\n")
        elif isinstance(error, RequestEntityTooLarge):
            response = site.refused(RequestTooLarge(_TOO_LARGE))
        else:
            log.info("page %s refused: %d %a", site.exchange.id, code, request.path)
            elsewhere = site.public_url if isinstance(error, MisdirectedRequest) else ""
            response = site.trouble(gettext(_SENTENCES.get(code, _UNREADABLE)), code, elsewhere=elsewhere)
        response.headers.update({name: value for name, value in error.get_headers() if name in _KEPT})
        return response

    def failed(self, error: Exception) -> Response:
        """Return the answer to a request at which we failed."""
        reference = self.site.reference if self.site.wants_page else self._reference
        log.error("%s %a failed, reference %s", request.method, request.path, reference, exc_info=error)
        if self.site.wants_page:
            return self.site.refused(InternalFailure(_FAULT))
        return text(500, f"{_FAULT} Reference: {reference}\n")

    def _bare(self, error: BaseException | None) -> Response:
        """Return a line for an error that the store, or a template, lets no page tell."""
        told = error if isinstance(error, ServiceError) else InternalFailure(_FAULT)
        response = text(status(told), f"{told.message} Reference: {self._reference}\n")
        if isinstance(told, ServiceUnavailable):
            response.headers["Retry-After"] = str(told.retry_after)
        return response

    @property
    def _reference(self) -> str:
        return self.site.reference if "exchange" in g else self.new_reference()


def text(status: int, line: str) -> Response:
    """Return a line of text that nobody keeps."""
    return Response(line, status, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
