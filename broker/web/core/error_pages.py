"""Answers to requests that fail: refusals, unknown pages and methods, forms that are too large, and internal errors.

Browsers get a page in their language, everybody else a line of text or JSON; nobody gets a traceback (THREATS H13).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from flask import Response, g, request
from flask_babel import gettext
from werkzeug.exceptions import HTTPException, InternalServerError, MisdirectedRequest, RequestEntityTooLarge

from broker.api.errors import status
from broker.sessions.browser import BrowserSession
from broker.web.core.responses import HOME, wants_html, wants_json
from broker.web.core.site import Site
from broker.web.i18n.languages import gettext_noop
from iam.errors import InternalFailure, RequestTooLarge, ServiceError, ServiceUnavailable, Throttling

log = logging.getLogger(__name__)

_MESSAGES: Final = {
    404: gettext_noop("Page not found."),
    405: gettext_noop("This page does not accept this request method."),
    421: gettext_noop("This page is at another address."),
}
_UNREADABLE: Final = gettext_noop("This request could not be processed.")
_TOO_LARGE: Final = gettext_noop("The form is too large.")
_INTERNAL_ERROR: Final = gettext_noop("Something went wrong.")
_KEPT_HEADERS: Final = ("Allow", "Retry-After")  # RFC 9110, sections 10.2.1 and 10.2.3


@dataclass(frozen=True, slots=True)
class ErrorPages:
    """Makes the answers; ``new_reference`` is for requests that fail before they have an id.

    ``interrupted_page`` returns the path of the page that the request stood on; ``is_administrator`` tells whether
    somebody administers any account.
    """

    site: Site
    new_reference: Callable[[], str]
    interrupted_page: Callable[[], str]
    is_administrator: Callable[[BrowserSession], bool]

    def handle_service_error(self, error: ServiceError) -> Response:
        """Return the answer to a request that was refused, recorded if it was not yet."""
        site, error = self.site, self.site.audit.record_refusal(error)
        code = status(error)
        if error.log != error.message:
            log.info("page %s refused: %s: %a", site.request_state.id, error.code, error.log)
        if wants_json():
            body = {"code": error.code, "message": error.message, "reference": site.reference}
            response = site.responses.json(body, code)
        else:
            response = self._render(gettext(error.message), code)  # translated where it is in the catalog
        if isinstance(error, Throttling | ServiceUnavailable):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def handle_http_error(self, error: HTTPException) -> Response:
        """Return the answer to a request that reached no page."""
        code = error.code or 500
        if isinstance(error, InternalServerError):  # not even the error page could be rendered
            response = self._plain_text_error(error.original_exception)
        elif not wants_html():
            response = text_response(code, f"{error.name}. Reference: {self._reference}\n")
        elif isinstance(error, RequestEntityTooLarge):
            response = self.handle_service_error(RequestTooLarge(_TOO_LARGE))
        else:
            response = self._http_error_page(error, code)
        response.headers.update({name: value for name, value in error.get_headers() if name in _KEPT_HEADERS})
        return response

    def handle_exception(self, error: Exception) -> Response:
        """Return the answer to a request that failed by a fault of ours."""
        reference = self.site.reference if wants_html() else self._reference
        log.error("%s %a failed, reference %s", request.method, request.path, reference, exc_info=error)
        if wants_html():
            return self.handle_service_error(InternalFailure(_INTERNAL_ERROR))
        return text_response(500, f"{_INTERNAL_ERROR} Reference: {reference}\n")

    def _http_error_page(self, error: HTTPException, code: int) -> Response:
        log.info("page %s refused: %d %a", self.site.request_state.id, code, request.path)
        page = self._requested_page() if isinstance(error, MisdirectedRequest) else ""
        return self._render(gettext(_MESSAGES.get(code, _UNREADABLE)), code, elsewhere=page)

    def _requested_page(self) -> str:
        """Return path and query of the page that was asked for at an address that is not ours."""
        if request.method not in ("GET", "HEAD"):
            return self.interrupted_page()
        return requested_target()

    def _render(self, message: str, code: int, *, elsewhere: str = "") -> Response:
        """Return the error page; ``elsewhere`` is the path of a page that is at the public URL alone."""
        session, back = g.get("signed_in"), self.interrupted_page()
        is_portal = back.partition("?")[0] == HOME
        return self.site.responses.render(
            "core/error.html",
            code=code,
            message=message,
            reference=self.site.reference,
            elsewhere=elsewhere,
            public_url=self.site.public_url,
            back=back if is_portal else HOME,
            to=back,
            session=session,
            administrator=session is not None and self._is_administrator(session),
        )

    def _is_administrator(self, session: BrowserSession) -> bool:
        """Return whether to link the pages of administrators; what failed may also keep this from being known."""
        try:
            return self.is_administrator(session)
        except ServiceError:
            return False

    def _plain_text_error(self, error: BaseException | None) -> Response:
        """Return a line of text for an error that kept the error page itself from being rendered."""
        shown = error if isinstance(error, ServiceError) else InternalFailure(_INTERNAL_ERROR)
        response = text_response(status(shown), f"{shown.message} Reference: {self._reference}\n")
        if isinstance(shown, ServiceUnavailable):
            response.headers["Retry-After"] = str(shown.retry_after)
        return response

    @property
    def _reference(self) -> str:
        try:
            return self.site.reference
        except ServiceError:  # nothing can be read, and nothing recorded that a reference would find
            return self.new_reference()


def requested_target() -> str:
    """Return path and query of this request, as a URL has them."""
    query = request.query_string.decode("ascii", "replace")
    return f"{quote(request.path)}?{query}" if query else quote(request.path)


def text_response(status: int, line: str) -> Response:
    """Return a line of text that is not cached."""
    return Response(line, status, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"})
