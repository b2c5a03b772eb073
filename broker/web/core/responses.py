"""What pages answer with: HTML, JSON and redirects, each with the security headers (THREATS H)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from flask import Response, current_app, make_response, render_template, request
from flask_babel import get_locale

from broker.web.branding.appearance import Appearance
from broker.web.core.cookies import Cookies
from broker.web.core.request_states import RequestStates
from broker.web.core.urls import is_https, path_below
from broker.web.i18n.languages import LANGUAGE_COOKIE, LANGUAGES

HOME: Final = "/portal"  # where everybody begins
_A_YEAR: Final = 366 * 86_400  # seconds


def wants_html() -> bool:
    """Return whether a browser sent this request; programs accept anything."""
    accepted = request.accept_mimetypes
    return bool(accepted["text/html"] > accepted["text/plain"])


def wants_json() -> bool:
    """Return whether the client prefers JSON to a page."""
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return bool(best == "application/json") or request.path.startswith("/api/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """Makes the answers of pages; redirects lead below ``public_url``."""

    public_url: str
    appearance: Appearance
    cookies: Cookies
    requests: RequestStates

    def url_path(self, path: str) -> str:
        """Return the path under which browsers reach one of our pages."""
        return path_below(self.public_url, path)

    def render(self, template: str, *, code: int = 200, forms_to: str = "'self'", **values: object) -> Response:
        """Return a page; ``forms_to`` is where its forms may be sent, as form-action in the CSP."""
        response = make_response(render_template(template, **self._shared_values(code) | values), code)
        for language in request.args.getlist("lang")[:1]:
            if language in LANGUAGES:
                self.cookies.set_preference(response, LANGUAGE_COOKIE, language, _A_YEAR)
        response.vary.update(("Cookie", "Accept-Language"))
        return self.add_security_headers(response, forms_to)

    def _shared_values(self, code: int) -> dict[str, object]:
        """Return what every template finds."""
        locale = get_locale()
        return {
            "root": self.url_path(""),
            "look": self.appearance,
            "languages": LANGUAGES,
            "language": str(locale),
            "direction": locale.text_direction,
            "this_page": self._this_page(),
            "kept": {name: value for name, value in request.args.items() if name != "lang"},
            "error": code >= HTTPStatus.BAD_REQUEST,
        }

    def _this_page(self) -> str:
        """Return where the links to other languages lead: this page, or the portal where it only answers forms."""
        can_get = request.method in ("GET", "HEAD")
        if not can_get and (urls := current_app.create_url_adapter(request)) is not None:
            can_get = urls.test(method="GET")
        return self.url_path(request.path if can_get else HOME)

    def redirect(self, url: str) -> Response:
        """Return a redirect to any address; the browser follows it with GET."""
        return self.add_security_headers(Response("", 303, {"Location": url}, content_type="text/plain; charset=utf-8"))

    def redirect_to_page(self, path: str) -> Response:
        """Return a redirect to one of our pages."""
        return self.redirect(self.url_path(path))

    def json(self, value: Mapping[str, Any], code: int = 200) -> Response:
        """Return a JSON object."""
        text = json.dumps(value, indent=2) + "\n"
        return self.add_security_headers(Response(text, code, content_type="application/json"))

    def add_security_headers(self, response: Response, forms_to: str = "'self'") -> Response:
        """Add the headers that forbid content of other sites, framing, sniffing and caching."""
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            f"form-action {forms_to}; frame-ancestors 'none'; base-uri 'none'"
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # A page of another site that opens ours gets no handle to its window.
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["x-amzn-RequestId"] = self.requests.current.id
        if is_https(self.public_url):
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response
