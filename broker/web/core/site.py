"""What all pages share: who asks, with which cookie, and how an answer looks.

Every answer forbids scripts, frames and styles of others, and nothing that is kept on the way (THREATS H). Addresses
come from the settings, never from a request.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from flask import Response, current_app, g, make_response, render_template, request
from flask_babel import get_locale, gettext
from werkzeug.exceptions import RequestEntityTooLarge

from broker.api import wsgi_adapter
from broker.api.dispatch import Gate
from broker.api.errors import status
from broker.api.request_state import RequestState
from broker.audit import record as audit_record
from broker.audit.log import AuditUnavailable
from broker.sessions.browser import BrowserSession, BrowserSessions, Client, PendingLogin
from broker.sessions.refresh import DirectoryRefresh
from broker.sessions.validity import SessionValidity
from broker.signin.role_access import AvailableRoles, RoleAccess
from broker.web.core.appearance import Appearance
from broker.web.core.languages import LANGUAGE_COOKIE, LANGUAGES, gettext_noop
from iam.errors import (
    AccessDenied,
    IDPRejectedClaim,
    InternalFailure,
    NotSignedIn,
    RequestTooLarge,
    ServiceError,
    ServiceUnavailable,
    Throttling,
    ValidationError,
)
from iam.operations.times_and_tags import to_milliseconds
from iam.store.store import Store
from sts.identity import Identity, ProviderUnavailable, Refusal

log = logging.getLogger(__name__)

MAX_FORM_BYTES = 300_000  # bytes: a SAML response has 100,000 characters at most, and three bytes each when encoded
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)
_A_YEAR = 366 * 86_400  # seconds
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_USUAL_PORTS = {"http": 80, "https": 443}
_LONGEST_PATH = 200  # characters of a path in a record


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The pages' way to everything else; ``public_url`` is what browsers call us, ``maintenance`` lets nobody in."""

    gate: Gate
    sessions: BrowserSessions
    session_validity: SessionValidity
    directory_refresh: DirectoryRefresh
    trusted_proxies: wsgi_adapter.Networks
    public_url: str
    appearance: Appearance
    maintenance: bool

    @property
    def role_access(self) -> RoleAccess:
        """Return where roles are given out."""
        return RoleAccess(self.gate)

    @property
    def store(self) -> Store:
        """Return the durable store."""
        return self.gate.store

    @property
    def request_state(self) -> RequestState:
        """Return the state of this request, made when it is first asked for."""
        if "request_state" not in g:
            g.request_state = self.gate.new_request_state(
                wsgi_adapter.read_request_head(request.environ, self.trusted_proxies)
            )
        found: RequestState = g.request_state
        return found

    @property
    def reference(self) -> str:
        """Return eight characters that a person can read out, and that begin the id of the audit record."""
        return self.request_state.id[:8]

    def url_path(self, path: str) -> str:
        """Return a path of ours as browsers ask for it: the public URL may have one in front."""
        return f"{urlsplit(self.public_url).path}{path}"

    @property
    def has_public_host(self) -> bool:
        """Return whether a browser came to our public address, as its forms must."""
        parts = urlsplit(self.public_url)
        host = request.headers.get("Host", parts.netloc).lower()
        return host in (parts.netloc, f"{parts.netloc}:{_USUAL_PORTS[parts.scheme]}")

    @property
    def client(self) -> Client:
        """Return the browser that asks."""
        asked = self.request_state.request
        return Client(asked.source_ip, asked.header("user-agent") or "")

    # --- cookies ------------------------------------------------------------------------------------------------------

    @property
    def secure(self) -> bool:
        """Return whether browsers come over TLS."""
        return self.public_url.startswith("https://")

    def _cookie(self, name: str) -> str:
        # __Host-: no other host and no plain http can have set it (RFC 6265bis, section 4.1.3.2).
        return f"__Host-fedgate-{name}" if self.secure else f"fedgate-{name}"

    def cookie(self, name: str) -> str | None:
        """Return one of our cookies, where it looks like one."""
        return _token(request.cookies.get(self._cookie(name)))

    def session(self) -> BrowserSession | None:
        """Return the session of this browser, as long as what it rests on stands; raise ServiceUnavailable."""
        found = self.sessions.find(self.cookie("session"))
        if found is None:
            return None
        if not self.session_validity.is_valid(found, self.request_state.now):
            self.sessions.end(found)
            return None
        self.request_state.identity = found.identity
        self.request_state.mfa_at = None if found.mfa_at is None else to_milliseconds(found.mfa_at)
        g.signed_in = (
            self._refresh_if_available(found) if self.directory_refresh.is_due(found, self.request_state.now) else found
        )
        still: BrowserSession | None = g.signed_in
        return still

    def _refresh_if_available(self, session: BrowserSession) -> BrowserSession | None:
        """Return the session with what the directory says by now; its outage signs nobody out (THREATS E12, E14)."""
        try:
            return self.refresh_identity(session)
        except ProviderUnavailable as error:
            log.warning("page %s goes on with what a directory said before: %s", self.request_state.id, error.log)
            return self.directory_refresh.postpone(session, self.request_state.now)

    def refresh_identity(self, session: BrowserSession) -> BrowserSession | None:
        """Return the session with what the directory says by now, or None for whom it knows no more, who is signed out.

        Raise ProviderUnavailable.
        """
        found = self.directory_refresh.refresh_identity(session, self.request_state.now)
        if isinstance(found, Refusal):
            error = IDPRejectedClaim(NO_LONGER_ALLOWED, log=f"{found.reason}: {found.detail}")
            self.record_failure("DirectoryLookUp", "", error, provider=session.identity.provider)
            return None
        self.request_state.identity = found.identity
        return found

    def require_session(self) -> BrowserSession:
        """Return the session of this browser; raise NotSignedIn where it has none."""
        found = self.session()
        if found is None:
            raise NotSignedIn("You are not signed in.")
        return found

    def check_csrf(self) -> BrowserSession:
        """Return the session whose form was just posted; raise NotSignedIn, AccessDenied."""
        found = self.require_session()
        self.check_form_token(found)
        return found

    def choices(self, identity: Identity) -> AvailableRoles:
        """Return the roles that could be a person's, found once for each request; raise InvalidIdentityToken."""
        wanted = identity, self.request_state.mfa_at
        if "available_roles" not in g or g.available_roles[0] != wanted:
            g.available_roles = wanted, self.role_access.available_roles(self.request_state, identity)
        found: AvailableRoles = g.available_roles[1]
        return found

    def start_session(
        self, response: Response, identity: Identity, refresh_state: str = "", *, mfa_at: datetime | None = None
    ) -> None:
        """Begin a session in this browser, under a new id, whatever cookie it brought (THREATS H02).

        Raise ServiceUnavailable during maintenance.
        """
        if self.maintenance:
            raise ServiceUnavailable(UNDER_MAINTENANCE)
        before = self.sessions.find(self.cookie("session"))
        if before is not None:
            self.sessions.end(before)
        token, _ = self.sessions.open(identity, refresh_state, mfa_at=mfa_at, client=self.client)
        self.set_session_cookie(response, token)

    def set_session_cookie(self, response: Response, token: str) -> None:
        """Give the browser its session; links from elsewhere bring it along, forms from elsewhere do not."""
        self.set_cookie(response, "session", token, same_site="Lax")

    def clear_session_cookie(self, response: Response) -> None:
        """Take the session's cookie away."""
        self.clear_cookie(response, "session")

    def browser_cookie(self) -> str | None:
        """Return the cookie that ties the answer of an identity provider to the browser that was sent there."""
        return self.cookie("browser")

    def set_browser_cookie(self, response: Response, token: str) -> None:
        """Set that cookie: the answer is a form from elsewhere, and must bring it along."""
        self.set_cookie(response, "browser", token, same_site="None" if self.secure else None)

    def set_cookie(self, response: Response, name: str, token: str, *, same_site: str | None) -> None:
        """Set one of our cookies, for as long as the browser runs."""
        response.set_cookie(self._cookie(name), token, secure=self.secure, httponly=True, samesite=same_site, path="/")

    def clear_cookie(self, response: Response, name: str) -> None:
        """Take one of our cookies away."""
        response.delete_cookie(self._cookie(name), secure=self.secure, httponly=True, samesite="Lax")

    def preference(self, name: str) -> str:
        """Return what this browser was told to remember under a name: nobody's secret, and anybody's invention."""
        return request.cookies.get(self._cookie(name), "")

    def set_preference(self, response: Response, name: str, text: str, seconds: int) -> None:
        """Let a browser remember something that is no secret."""
        response.set_cookie(
            self._cookie(name), text, max_age=seconds, secure=self.secure, httponly=True, samesite="Lax", path="/"
        )

    # --- forms --------------------------------------------------------------------------------------------------------

    def check_form_token(self, session: BrowserSession | PendingLogin) -> None:
        """Raise AccessDenied unless the form that was posted is one that we gave to this session (THREATS H01)."""
        self.check_origin()
        if not compare_digest(request.form.get("form_token", "").encode(), session.form_token.encode()):
            raise AccessDenied(CSRF_REJECTED)

    def check_origin(self) -> None:
        """Raise AccessDenied where a browser says that a form is of another site; programs say nothing.

        Raise ValidationError for what no form sends (THREATS H11).
        """
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
        if origin not in (None, origin_of(self.public_url)) or site != "same-origin":
            raise AccessDenied(CSRF_REJECTED)
        if request.mimetype not in _FORMS:
            raise ValidationError("Send the fields as a form does.")

    def field(self, name: str, longest: int = 1024) -> str:
        """Return one field of the form, or nothing; raise ValidationError where no form of ours can have sent it."""
        values = request.form.getlist(name)
        text = values[0] if values else ""
        if len(values) > 1 or len(text) > longest or not is_valid_form_text(text):
            raise ValidationError(f"The field {name} cannot be read.")
        return text

    # --- answers ------------------------------------------------------------------------------------------------------

    @property
    def wants_html(self) -> bool:
        """Return whether a browser asks; programs take anything."""
        accepted = request.accept_mimetypes
        return bool(accepted["text/html"] > accepted["text/plain"])

    @property
    def wants_json(self) -> bool:
        """Return whether the client would rather have JSON than a page."""
        best = request.accept_mimetypes.best_match(["text/html", "application/json"])
        return bool(best == "application/json") or request.path.startswith("/api/")

    def render(self, template: str, *, code: int = 200, forms_to: str = "'self'", **values: object) -> Response:
        """Return a page; ``forms_to`` is where its forms may lead, as form-action says it."""
        locale = get_locale()
        shared = {
            "root": self.url_path(""),
            "look": self.appearance,
            "languages": LANGUAGES,
            "language": str(locale),
            "direction": locale.text_direction,
            "this_page": self._this_page,
            "kept": {name: value for name, value in request.args.items() if name != "lang"},
            "error": code >= HTTPStatus.BAD_REQUEST,
        }
        response = make_response(render_template(template, **shared | values), code)
        if request.args.get("lang") in LANGUAGES:
            self.set_preference(response, LANGUAGE_COOKIE, request.args["lang"], _A_YEAR)
        response.vary.update(("Cookie", "Accept-Language"))
        return self.add_security_headers(response, forms_to)

    @property
    def _this_page(self) -> str:
        """Return where the links to other languages lead: this page, or where it only answers forms, the first one."""
        shown = request.method in ("GET", "HEAD")
        if not shown and (urls := current_app.create_url_adapter(request)) is not None:
            shown = urls.test(method="GET")
        return self.url_path(request.path if shown else "/portal")

    def redirect(self, address: str) -> Response:
        """Return the answer that sends a browser on with GET."""
        return self.add_security_headers(
            Response("", 303, {"Location": address}, content_type="text/plain; charset=utf-8")
        )

    def json(self, value: Mapping[str, Any], code: int = 200) -> Response:
        """Return a JSON object."""
        text = json.dumps(value, indent=2) + "\n"
        return self.add_security_headers(Response(text, code, content_type="application/json"))

    def add_security_headers(self, response: Response, forms_to: str = "'self'") -> Response:
        """Add what keeps an answer to the browser that asked."""
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
            f"form-action {forms_to}; frame-ancestors 'none'; base-uri 'none'"
        )
        response.headers["Cache-Control"] = "no-store"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"  # no page of elsewhere keeps a hand on ours
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["x-amzn-RequestId"] = self.request_state.id
        if self.secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    def render_error(self, error: ServiceError) -> Response:
        """Return the answer to a request that was refused, which is recorded where it was not yet."""
        error = self._record_refusal(error)
        code = status(error)
        if error.log != error.message:
            log.info("page %s refused: %s: %a", self.request_state.id, error.code, error.log)
        if self.wants_json:
            response = self.json({"code": error.code, "message": error.message, "reference": self.reference}, code)
        else:
            response = self.render_error_page(
                gettext(error.message), code
            )  # translated where it is one of our sentences
        if isinstance(error, Throttling | ServiceUnavailable):
            response.headers["Retry-After"] = str(error.retry_after)
        return response

    def render_error_page(self, message: str, code: int, *, elsewhere: str = "") -> Response:
        """Return the page that says why there is no other page, or that it is ``elsewhere``."""
        return self.render(
            "error.html",
            code=code,
            message=message,
            reference=self.reference,
            elsewhere=elsewhere or self.url_path(""),
            session=g.get("signed_in"),
            administrator=request.path.startswith("/admin"),
        )

    # --- records ------------------------------------------------------------------------------------------------------

    def record(self, name: str, account_id: str, **told: object) -> None:
        """Record what a page did, before it answers; raise AuditUnavailable."""
        self.gate.audit.append(audit_record.console_event_record(self.request_state, name, account_id or None, told))

    def record_failure(self, name: str, account_id: str, error: ServiceError, **told: object) -> None:
        """Record what a page refused; raise AuditUnavailable."""
        self.gate.audit.append(
            audit_record.console_event_record(self.request_state, name, account_id or None, told, error=error)
        )
        self.request_state.refusal_recorded = True

    @contextmanager
    def record_failures(self, name: str, account_id: str = "", **told: object) -> Iterator[None]:
        """Record whatever ends the work within as a failure of this event, unless it was recorded already."""
        try:
            yield
        except Exception as error:
            self._record_once(name, account_id, error, **told)
            raise

    def _record_refusal(self, error: ServiceError) -> ServiceError:
        """Return an error that the reference on its page finds; or where it cannot be recorded, why not."""
        path = request.path[:_LONGEST_PATH]
        try:
            self._record_once("PageRequest", "", error, method=request.method, path=path)
        except ServiceError as unwritable:
            return unwritable
        return error

    def _record_once(self, name: str, account_id: str, error: Exception, **told: object) -> None:
        if not self.request_state.refusal_recorded and not isinstance(error, AuditUnavailable):
            self.record_failure(name, account_id, _as_service_error(error), **told)


def _as_service_error(error: Exception) -> ServiceError:
    """Return how the record of a page calls an error."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return RequestTooLarge("The form is too large.")
    return InternalFailure("An internal error occurred.")


NO_LONGER_ALLOWED = gettext_noop("Your directory does not let you in any more.")
UNDER_MAINTENANCE = gettext_noop("This service is being maintained. Try again later.")
CSRF_REJECTED = gettext_noop("This form is not from this site, or too old. Go back, load the page anew and try again.")


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address, as browsers name them."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def is_valid_form_text(text: str) -> bool:
    """Return whether a form can have been meant so: without NUL, and in UTF-8 (THREATS H11)."""
    return "\0" not in text and "\ufffd" not in text and not any("\ud800" <= sign <= "\udfff" for sign in text)


def _token(text: str | None) -> str | None:
    return text if text and _TOKEN.fullmatch(text) else None
