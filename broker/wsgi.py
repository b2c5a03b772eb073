"""The WSGI application that gunicorn serves: the query API by its own adapter, everything else by Flask."""

import atexit
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse

from broker.api import wsgi_adapter
from broker.api.http import HttpRequest
from broker.app import create_app
from broker.authz.original import AuthorizationRequest
from broker.config.settings import Settings
from broker.web.core.form_fields import MAX_FORM_BYTES
from broker.wiring import Services, build_services
from iam.errors import ServiceError, ServiceUnavailable

log = logging.getLogger(__name__)

_INTERVAL = 30.0  # seconds between two runs of the background work


class Application:
    """A WSGI application that passes calls of the query API to the gate, and all other requests to Flask."""

    def __init__(self, services: Services) -> None:
        self._gate = services.api.gate
        self._trusted_proxies = services.api.trusted_proxies
        self._bodies = services.api.bodies
        self._endpoints = services.authz
        self._pages = create_app(services)

    def __call__(self, environ: wsgi_adapter.Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one WSGI request."""
        if not wsgi_adapter.is_api_call(environ):
            return self._answer_page(environ, start_response)
        try:
            with wsgi_adapter.reading_request(environ, self._trusted_proxies, self._bodies) as request:
                return wsgi_adapter.send_response(self._gate.handle(request), start_response)
        except wsgi_adapter.UnreadableRequest as unreadable:
            return self._refuse(unreadable.request, unreadable.error, start_response)

    def answer_proxy(
        self, method: str, target: str, headers: Iterable[tuple[str, str]]
    ) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
        """Return status line, headers and body of the answer to a proxy; see broker.runtime.worker."""
        lower = tuple((name.lower(), value) for name, value in headers)
        answer = self._endpoints.answer(AuthorizationRequest(method, target, lower))
        return wsgi_adapter.status_line(answer.status), answer.headers, answer.body

    def _answer_page(self, environ: wsgi_adapter.Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Let Flask answer; it refuses forms beyond its own limit without reading them."""
        length = wsgi_adapter.declared_length(environ)
        try:
            with self._bodies.hold(min(MAX_FORM_BYTES if length is None else length, MAX_FORM_BYTES)):
                return self._pages(environ, start_response)
        except ServiceUnavailable as error:
            head = wsgi_adapter.read_request_head(environ, self._trusted_proxies)
            return self._refuse(head, error, start_response)

    def _refuse(self, request: HttpRequest, error: ServiceError, start_response: StartResponse) -> Iterable[bytes]:
        return wsgi_adapter.send_response(self._gate.refuse(request, error), start_response)


def _repeat_forever(work: Callable[[], object]) -> None:
    """Call a function every 30 seconds as long as the process lives; a failure is logged and does not end the loop."""
    while True:
        time.sleep(_INTERVAL)
        try:
            work()
        except Exception:
            log.exception("the background work failed")


def _keep_log_complete(services: Services) -> None:
    """Append to the audit log what a killed worker did not, at the start and from then on; and what was counted."""

    def work() -> None:
        services.storage.audit.append_aggregated()
        services.storage.reconciliation.run()

    with contextlib.suppress(ServiceError):
        work()
    _repeat_forever(work)


def __getattr__(name: str) -> Application:
    """Build ``application`` on first access, so that importing this module reads no settings."""
    if name != "application":
        raise AttributeError(name)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    services = build_services(Settings.read())
    threading.Thread(target=_repeat_forever, args=(services.providers.saml_metadata.run,), daemon=True).start()
    threading.Thread(target=_keep_log_complete, args=(services,), daemon=True).start()
    atexit.register(services.storage.audit.append_aggregated)
    atexit.register(services.storage.live_sessions.flush)
    return Application(services)
