"""What browsers are answered in place of the service: on Fedgate's own paths, and on the way to the sign-in page."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from broker.api.errors import status
from broker.api.http import HttpRequest, HttpResponse
from broker.authz.resource import Resource
from broker.authz.sign_in.addresses import PREFIX
from broker.authz.sign_in.browser_requests import is_navigation
from broker.authz.sign_in.service_sign_in import ServiceSignIn
from iam.errors import NotSignedIn, ServiceError, ServiceUnavailable

log = logging.getLogger(__name__)

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserAnswers:
    """Answers for resources with the setting ``browser``; ``find_resource`` returns the resource of a host."""

    find_resource: Callable[[str], Resource | None]
    sign_in: ServiceSignIn

    def is_own_path(self, request: HttpRequest) -> bool:
        """Return whether a request is for a path that is Fedgate's at the host of its resource."""
        return request.path.startswith(PREFIX) and self._resource(request) is not None

    def leads_to_sign_in(self, request: HttpRequest, error: ServiceError) -> bool:
        """Return whether a refused request is answered with the way to the sign-in page."""
        return isinstance(error, NotSignedIn) and is_navigation(request)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Return the answer on a path of our own, and on any other the way to the sign-in page; never raises."""
        resource = self._resource(request)
        if resource is None:
            return _plain(HTTPStatus.NOT_FOUND, HTTPStatus.NOT_FOUND.phrase)
        try:
            return self.sign_in.answer(resource, request) or self.sign_in.begin(resource, request)
        except ServiceError as error:
            log.warning("the sign-in to %s failed: %s", resource.name, error.log)
            more = (("Retry-After", str(error.retry_after)),) if isinstance(error, ServiceUnavailable) else ()
            return _plain(status(error), error.message, more)
        except Exception:
            log.exception("the sign-in to %s failed", resource.name)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "An internal error occurred.")

    def challenge(self, request: HttpRequest, error: ServiceError) -> tuple[tuple[str, str], ...]:
        """Return the headers that tell a script of a refusal where people sign in, if that is what is missing."""
        resource = self._resource(request) if isinstance(error, NotSignedIn) else None
        return self.sign_in.challenge(resource, request) if resource is not None else ()

    def _resource(self, request: HttpRequest) -> Resource | None:
        """Return the resource that a request is for, if people sign in to it."""
        resource = self.find_resource(request.header("host") or "")
        return resource if resource is not None and resource.browser else None


def _plain(code: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> HttpResponse:
    return HttpResponse(code, (*_TEXT, *headers), f"{text}\n".encode())
