"""The endpoints at which proxies ask: /authz/nginx, /authz/forward, /authz/envoy, /authz/haproxy, /authz/middleware.

They are served on a listener of their own and nowhere else. Where a proxy asks in a wrong way the answer is 400 or 404,
which every proxy turns into a refusal; the reason is in the log.
"""

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Final

from broker.api.forwarded import TrustedProxies
from broker.api.http import HttpRequest, HttpResponse
from broker.authz.authorizer import Authorizer
from broker.authz.original import (
    CONVENTIONS,
    PREFIX,
    SECRET_HEADER,
    AuthorizationRequest,
    Convention,
    OriginalRequest,
    WrongAuthorizationRequest,
    read_original,
)
from broker.authz.refusals import Refusal, refusal_of
from broker.authz.resource import ResourceKind
from broker.authz.service_state import ServiceState
from broker.authz.sign_in.answers import BrowserAnswers
from broker.authz.sign_in.browser_requests import foreign_cookies
from broker.authz.tickets import Tickets
from broker.authz.verdict import passed_headers
from iam.errors import ServiceError

log = logging.getLogger(__name__)

_DENIED, _SIGN_IN = "denied", "sign-in"
_TICKETS: Final = "nginx"  # whose headers the requests to these two endpoints have
_TICKET_HEADER: Final = "X-Fedgate-Denied"
_PLAIN_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Answers the authorization requests of proxies; ``secret`` is what they must show, where it is not empty."""

    authorizer: Authorizer
    browsers: BrowserAnswers
    tickets: Tickets
    trusted_proxies: TrustedProxies
    now: Callable[[], datetime]
    secret: str = field(default="", repr=False)

    def answer(self, received: AuthorizationRequest) -> HttpResponse:
        """Return the answer to an authorization request; never raises."""
        name = _endpoint(received.target)
        if not self._shows_secret(received):
            log.warning("a proxy was refused: %s must have the secret of authz.secret_file", SECRET_HEADER)
            return _plain(HTTPStatus.NOT_FOUND)
        if name == _DENIED:
            return self._denied(received)
        if name != _SIGN_IN and name not in CONVENTIONS:
            return _plain(HTTPStatus.NOT_FOUND)
        try:
            original = read_original(_TICKETS if name == _SIGN_IN else name, received, self.trusted_proxies)
        except WrongAuthorizationRequest as error:
            # %a: what a stranger wrote stays on one line (THREATS A07).
            log.warning("a proxy was refused at %s%s: %a (docs/reference/authorizer.md)", PREFIX, name, str(error))
            return _plain(HTTPStatus.BAD_REQUEST, str(error))
        return self.browsers.answer(original.request) if name == _SIGN_IN else self._decide(CONVENTIONS[name], original)

    def _decide(self, convention: Convention, original: OriginalRequest) -> HttpResponse:
        if self.browsers.is_own_path(original.request):
            return self._lead_to_page(convention, original.request)
        state = self.authorizer.decide(original)
        if state.error is None:
            cookies = (convention.cookies, foreign_cookies(original.request))
            return HttpResponse(HTTPStatus.OK, (*passed_headers(state), cookies), b"")
        if self.browsers.leads_to_sign_in(original.request, state.error):
            return self._lead_to_page(convention, original.request)
        return self._refuse(convention, state, state.error)

    def _lead_to_page(self, convention: Convention, request: HttpRequest) -> HttpResponse:
        """Return the answer for a browser, or where the proxy gives it no answer of ours, that there is one."""
        return _ASK_AT_SIGN_IN if convention.ticket else self.browsers.answer(request)

    def _refuse(self, convention: Convention, state: ServiceState, error: ServiceError) -> HttpResponse:
        if error.log != error.message:
            log.info("request %s refused: %s: %a", state.id, error.code, error.log)
        refusal, challenge = refusal_of(state, error), self.browsers.challenge(state.request, error)
        if not convention.ticket:
            return _refused(refusal, challenge)
        headers = (*_told(refusal), (_TICKET_HEADER, self.tickets.write(refusal, self.now())), *challenge)
        # auth_request knows these two statuses and turns every other into 500.
        forbidden = refusal.status == HTTPStatus.FORBIDDEN
        return HttpResponse(HTTPStatus.FORBIDDEN if forbidden else HTTPStatus.UNAUTHORIZED, headers, b"")

    def _denied(self, received: AuthorizationRequest) -> HttpResponse:
        """Return what a ticket says; nothing is decided and nothing recorded."""
        shown = [value for name, value in received.headers if name == _TICKET_HEADER.lower()]
        refusal = self.tickets.read(shown[0], self.now()) if len(shown) == 1 else None
        return _refused(refusal or _UNKNOWN_TICKET)

    def _shows_secret(self, received: AuthorizationRequest) -> bool:
        if not self.secret:
            return True
        shown = [value for name, value in received.headers if name == SECRET_HEADER]
        return len(shown) == 1 and hmac.compare_digest(shown[0].encode("latin-1", "replace"), self.secret.encode())


# To nginx: the request itself goes to /authz/sign-in, whose answer is for the client.
_ASK_AT_SIGN_IN: Final = HttpResponse(
    HTTPStatus.UNAUTHORIZED, (("X-Fedgate-Error", "NotSignedIn"), ("X-Fedgate-Status", "302")), b""
)
_UNKNOWN_TICKET: Final = Refusal(ResourceKind.S3, HTTPStatus.FORBIDDEN, "AccessDenied", "Access Denied", "", "")


def _endpoint(target: str) -> str:
    """Return the name of the endpoint of a target; an original URI may follow that of Envoy."""
    path = target.partition("?")[0]
    name, slash, _ = path.removeprefix(PREFIX).partition("/") if path.startswith(PREFIX) else ("", "", "")
    follows = slash or "?" in target
    return "" if follows and name in CONVENTIONS and CONVENTIONS[name].uri else name


def _refused(refusal: Refusal, challenge: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
    return HttpResponse(refusal.status, (*_told(refusal), *refusal.headers(), *challenge), refusal.body())


def _told(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    return (("X-Fedgate-Error", refusal.code), ("X-Fedgate-Status", str(int(refusal.status))))


def _plain(status: HTTPStatus, text: str = "") -> HttpResponse:
    return HttpResponse(status, _PLAIN_TEXT, f"{text or status.phrase}\n".encode())
