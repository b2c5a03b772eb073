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
        origin, fetch_site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
        if origin not in (None, origin_of(self.public_url)) or fetch_site != "same-origin":
            raise AccessDenied(CSRF_REJECTED)
        if request.mimetype not in _FORM_TYPES:
            raise ValidationError("Send the fields as a form does.")
