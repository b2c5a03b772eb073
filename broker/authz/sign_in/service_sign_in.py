"""Browsers at a resource: people sign in on Fedgate's pages, and come back to act in the role of the setting `browser`.

A request without a signature leads to the page ``/service/NAME``. That comes back with a code, which this browser
alone can redeem at this resource alone, once. The cookie that it gets for it belongs to the resource's own host and
opens nothing at Fedgate. It is worth as much as what stands behind it: each request asks whether the browser session
goes on (signed out, revoked, password changed, refused by the directory) and whether the session of the role does
(expired, revoked), as for a signed request. What the person may do is decided as for everybody else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from broker.api.dispatch import Gate
from broker.api.http import HttpRequest, HttpResponse
from broker.authz.resource import Resource
from broker.authz.sign_in.addresses import (
    CALLBACK,
    DIRECT,
    INTERRUPTED,
    NONCE_COOKIE,
    PREFIX,
    SESSION_COOKIE,
    SIGN_IN,
    SIGN_OUT,
    SIGNED_OUT,
    ServiceAddresses,
    normal_host,
)
from broker.authz.sign_in.audit_records import SignInAudit
from broker.authz.sign_in.browser_requests import cookie, is_safe, is_same_origin
from broker.authz.sign_in.starts import SignInStart, SignInStarts, kept_target
from broker.sessions.browser import BrowserSession, BrowserSessions
from broker.sessions.renewal import SessionRenewal
from broker.sessions.service import ServiceSession, ServiceSessions
from broker.sessions.validity import SessionValidity
from iam.errors import AccessDenied, ExpiredToken, IDPRejectedClaim, InvalidClientTokenId
from sts.callers import Caller
from sts.identity import Refusal

Headers = tuple[tuple[str, str], ...]

_EVENT: Final = "SignInToService"
_OTHER_ORIGIN: Final = (
    "This request could change something and does not come from a page of this origin, so that the sign-in of the"
    " browser does not count for it."
)
_NO_LONGER_ALLOWED: Final = "The directory no longer allows this person to sign in."
_INTERRUPTED: Final = "The sign-in of this browser to the resource cannot be completed."
_MOST_PARAMETERS: Final = 10
_TOKEN: Final = re.compile(r"[\w-]{43}", re.ASCII)  # as ServiceSessions.new_token makes them
_NO_STORE: Final[Headers] = (("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSignIn:
    """Finds who is signed in at a resource, begins and completes sign-ins, and ends them."""

    gate: Gate
    browser_sessions: BrowserSessions
    validity: SessionValidity
    service_sessions: ServiceSessions
    starts: SignInStarts
    addresses: ServiceAddresses

    # --- who ----------------------------------------------------------------------------------------------------------

    def caller(self, resource: Resource, request: HttpRequest) -> Caller | None:
        """Return the session of a role in which the person of this browser acts, or None where nobody is signed in.

        Raise AccessDenied where a cookie comes with a request that another site may have made.
        """
        token = self._cookie(request, SESSION_COOKIE) if resource.browser else ""
        if not token:
            return None
        if not is_safe(request) and not is_same_origin(request, self.addresses.origin(_host(request))):
            raise AccessDenied(_OTHER_ORIGIN)
        session = self.service_sessions.find(resource.name, token)
        if session is None or self._browser_session(session, request) is None:
            return None
        return self._role_caller(resource, session)

    def _browser_session(self, session: ServiceSession, request: HttpRequest) -> BrowserSession | None:
        """Return the session of the pages behind one of a service, by the same checks as on the pages."""
        now, found = self.gate.now(), self.browser_sessions.find_stored(session.browser_session)
        if found is None:
            return None
        if not self.validity.is_valid(found, now):
            self.browser_sessions.end(found)
            return None
        record = partial(self._record_refusal, request, found)
        return SessionRenewal(self.validity.kinds).renew_if_due(found, now, record)

    def _role_caller(self, resource: Resource, session: ServiceSession) -> Caller | None:
        try:
            caller = self.gate.authenticate.session(session.credentials, self.gate.now())
        except (InvalidClientTokenId, ExpiredToken):  # revoked, expired, or the role is gone: sign in anew
            return None
        # The setting may have changed since.
        return caller if caller.principal.entity_arn == resource.browser else None

    # --- pages of ours at the resource's host -------------------------------------------------------------------------

    def answer(self, resource: Resource, request: HttpRequest) -> HttpResponse | None:
        """Return the answer to a request to one of our own paths at the resource's host; None for all others."""
        if not resource.browser or not request.path.startswith(PREFIX):
            return None
        method, handle = _PAGES.get(request.path, ("", None))
        if handle is None:
            return _empty(HTTPStatus.NOT_FOUND)
        if request.method != method:
            return _empty(HTTPStatus.METHOD_NOT_ALLOWED, (("Allow", method),))
        return handle(self, resource, request)

    def begin(self, resource: Resource, request: HttpRequest) -> HttpResponse:
        """Return the redirect to the sign-in page, which leads back to the page that was asked for."""
        target = f"{request.path}?{request.query}" if request.query else request.path
        return self._begin(resource, request, target)

    def challenge(self, resource: Resource, request: HttpRequest) -> Headers:
        """Return the headers that tell a script where people sign in (RFC 9110, section 11.6.1)."""
        address = f"{self.addresses.origin(_host(request))}{SIGN_IN}"
        return (("WWW-Authenticate", f'Fedgate realm="{resource.name}", sign_in="{address}"'),)

    def _begin_at(self, resource: Resource, request: HttpRequest) -> HttpResponse:
        return self._begin(resource, request, _parameter(request, "to") or "/")

    def _begin(self, resource: Resource, request: HttpRequest, target: str) -> HttpResponse:
        # A browser keeps its nonce: sign-ins that began in several tabs at once can all be completed.
        known = self._cookie(request, NONCE_COOKIE)
        nonce = known or self.service_sessions.new_token()
        start = SignInStart(self.service_sessions.new_token(), _host(request), kept_target(target), nonce)
        state = self.starts.seal(resource.name, start, self.gate.now())
        address = self.addresses.page(resource.name, **{DIRECT: "1", "state": state})
        cookies = () if known else (self._set_cookie(request, NONCE_COOKIE, nonce),)
        return _redirect(HTTPStatus.FOUND, address, cookies)

    def _redeem(self, resource: Resource, request: HttpRequest) -> HttpResponse:
        """Return the redirect to the page that was asked for first, with the cookie of the session that begins."""
        state, nonce = _parameter(request, "state"), self._cookie(request, NONCE_COOKIE)
        opened = self.starts.open(resource.name, state, self.gate.now())
        # First, so that no code is left wherever it was brought.
        session = self.service_sessions.redeem(resource.name, state, _parameter(request, "code"))
        if opened is None or opened.start.host != _host(request) or not nonce:
            return self._interrupted(resource, request)
        start = opened.start
        if not start.is_of(nonce):  # two tabs began at once, before either had a nonce: begin again, with the one kept
            return _redirect(HTTPStatus.FOUND, self.addresses.origin(start.host) + start.target)
        # That a state is used up is committed to SQL: what Redis held can be put there again (THREATS J07).
        if session is None or not self.starts.consume(opened, self.gate.now()):
            return self._already_used(resource, request, start)
        return self._enter(resource, request, session, start.target)

    def _already_used(self, resource: Resource, request: HttpRequest, start: SignInStart) -> HttpResponse:
        """Return the redirect to the page where this browser is signed in already: it went back in its history."""
        if self.caller(resource, request) is None:
            return self._interrupted(resource, request)
        return _redirect(HTTPStatus.FOUND, self.addresses.origin(start.host) + start.target)

    def _enter(self, resource: Resource, request: HttpRequest, session: ServiceSession, target: str) -> HttpResponse:
        found, caller = self._browser_session(session, request), self._role_caller(resource, session)
        if found is None or caller is None:  # ended on the way
            return self._interrupted(resource, request)
        self._audit.record(
            _EVENT,
            request,
            resource.account,
            identity=found.identity,
            resource=resource.name,
            role=resource.browser,
        )
        token = self.service_sessions.start(resource.name, session)
        address = self.addresses.origin(_host(request)) + target
        return _redirect(HTTPStatus.FOUND, address, (self._set_cookie(request, SESSION_COOKIE, token),))

    def _interrupted(self, resource: Resource, request: HttpRequest) -> HttpResponse:
        """Return the redirect to the page that says so; no redirect leads on from there, so that nothing loops."""
        error = AccessDenied(_INTERRUPTED)
        self._audit.record(_EVENT, request, resource.account, error=error, resource=resource.name)
        return _redirect(HTTPStatus.FOUND, self.addresses.page(resource.name, **{INTERRUPTED: "1"}))

    def _sign_out(self, resource: Resource, request: HttpRequest) -> HttpResponse:
        """End the session at the resource, and the one of the pages that it came from: with it end all others."""
        if not is_same_origin(request, self.addresses.origin(_host(request))):
            return _empty(HTTPStatus.FORBIDDEN)
        token = self._cookie(request, SESSION_COOKIE)
        session = self.service_sessions.find(resource.name, token) if token else None
        if session is not None:
            self.service_sessions.end(resource.name, token)
            self._end_browser_session(resource, request, session)
        gone = tuple(self._set_cookie(request, name, "") for name in (SESSION_COOKIE, NONCE_COOKIE))
        return _redirect(HTTPStatus.SEE_OTHER, self.addresses.page(resource.name, **{SIGNED_OUT: "1"}), gone)

    def _end_browser_session(self, resource: Resource, request: HttpRequest, session: ServiceSession) -> None:
        found = self.browser_sessions.find_stored(session.browser_session)
        if found is None:
            return
        self.browser_sessions.end(found)
        identity = found.identity
        self._audit.record(
            "SignOut",
            request,
            identity.account_id,
            identity=identity,
            provider=identity.provider,
            resource=resource.name,
        )

    # --- audit --------------------------------------------------------------------------------------------------------

    def _record_refusal(self, request: HttpRequest, session: BrowserSession, event: str, refusal: Refusal) -> None:
        error = IDPRejectedClaim(_NO_LONGER_ALLOWED, log=f"{refusal.reason}: {refusal.detail}")
        identity = session.identity
        self._audit.record(event, request, "", identity=identity, error=error, provider=identity.provider)

    @property
    def _audit(self) -> SignInAudit:
        return SignInAudit(self.gate)

    # --- cookies ------------------------------------------------------------------------------------------------------

    def _cookie(self, request: HttpRequest, name: str) -> str:
        """Return the value of a cookie, if it can be one of ours."""
        value = cookie(request, self.addresses.cookie_name(name, _host(request)))
        return value if _TOKEN.fullmatch(value) else ""

    def _set_cookie(self, request: HttpRequest, name: str, value: str) -> tuple[str, str]:
        """Return the header that sets a cookie until the browser is closed, or deletes it where it has no value."""
        host = _host(request)
        secure = "; Secure" if self.addresses.is_secure(host) else ""
        age = "" if value else "; Max-Age=0"
        # Lax: links from other sites send it, forms and scripts of other sites do not.
        attributes = f"Path=/; HttpOnly; SameSite=Lax{secure}{age}"
        return "Set-Cookie", f"{self.addresses.cookie_name(name, host)}={value}; {attributes}"


_PAGES: Final[Mapping[str, tuple[str, Callable[[ServiceSignIn, Resource, HttpRequest], HttpResponse]]]] = {
    CALLBACK: ("GET", ServiceSignIn._redeem),  # noqa: SLF001 - the table of this class
    SIGN_IN: ("GET", ServiceSignIn._begin_at),  # noqa: SLF001
    SIGN_OUT: ("POST", ServiceSignIn._sign_out),  # noqa: SLF001
}


def _host(request: HttpRequest) -> str:
    return normal_host(request.header("host") or "")


def _parameter(request: HttpRequest, name: str) -> str:
    """Return a parameter of the query; empty where it is missing or given twice."""
    try:
        values = parse_qs(request.query, max_num_fields=_MOST_PARAMETERS).get(name, [])
    except ValueError:
        return ""
    return values[0] if len(values) == 1 else ""


def _redirect(status: HTTPStatus, address: str, headers: Headers = ()) -> HttpResponse:
    return HttpResponse(status, (("Location", address), *_NO_STORE, *headers), b"")


def _empty(status: HTTPStatus, headers: Headers = ()) -> HttpResponse:
    return HttpResponse(status, (*_NO_STORE, *headers), b"")
