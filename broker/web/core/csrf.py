"""Protection against forms of other sites: the session's token in each form, and the Origin header (THREATS H01)."""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from flask import request

from broker.sessions.browser import BrowserSession, PendingLogin
from broker.web.core.urls import origin_of
from broker.web.i18n.languages import gettext_noop
from iam.errors import AccessDenied, ValidationError

CSRF_REJECTED: Final = gettext_noop(
    "This form has expired or is not from this site. Go back, reload the page and try again."
)
_FORM_TYPES: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(frozen=True, slots=True)
class CsrfProtection:
    """Refuses forms that our own pages did not send; ``public_url`` is the address of those pages."""

    public_url: str

    def check_token(self, session: BrowserSession | PendingLogin) -> None:
        """Raise AccessDenied unless the posted form holds this session's token."""
        self.check_origin()
        if not compare_digest(request.form.get("form_token", "").encode(), session.form_token.encode()):
            raise AccessDenied(CSRF_REJECTED)

    def check_origin(self) -> None:
        """Raise AccessDenied if the browser names another site as the form's origin; programs send no origin.

        Raise ValidationError for a body that no HTML form sends (THREATS H11).
        """
        if not self._is_own_origin(request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
            raise AccessDenied(CSRF_REJECTED)
        if request.mimetype not in _FORM_TYPES:
            raise ValidationError("Send the fields as a form does.")

    def _is_own_origin(self, origin: str | None, fetch_site: str | None) -> bool:
        """Return whether a form may come from our own pages.

        A page under ``Referrer-Policy: no-referrer``, which a proxy may add, sends the origin ``null`` (Fetch, "append
        a request Origin header"); so does a sandboxed frame of anybody. Fetch metadata tells them apart.
        """
        if origin == "null":
            return fetch_site == "same-origin"
        return origin in (None, origin_of(self.public_url)) and fetch_site in (None, "same-origin")
