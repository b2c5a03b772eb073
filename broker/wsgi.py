"""What gunicorn serves: the machine API by its own edge, everything else by Flask."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse

from broker.api import wsgi_adapter
from broker.app import create_app
from broker.config.settings import Settings
from broker.wiring import Services, build_services

log = logging.getLogger(__name__)

_EVERY = 30.0  # seconds


class Application:
    """A WSGI application: calls of the query API go straight to the gate."""

    def __init__(self, parts: Services) -> None:
        self._gate = parts.gate
        self._trusted = parts.trusted_proxies
        self._pages = create_app(parts)

    def __call__(self, environ: wsgi_adapter.Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if not wsgi_adapter.is_api_call(environ):
            return self._pages(environ, start_response)
        try:
            request = wsgi_adapter.read_request(environ, self._trusted)
        except wsgi_adapter.UnreadableRequest as refused:
            return wsgi_adapter.send_response(self._gate.refuse(refused.request, refused.error), start_response)
        return wsgi_adapter.send_response(self._gate.handle(request), start_response)


def _repeat_forever(work: Callable[[], object]) -> None:
    """Do a work every half a minute, as long as the process lives; one failure does not end it."""
    while True:
        time.sleep(_EVERY)
        try:
            work()
        except Exception:
            log.exception("the background work failed")


def __getattr__(name: str) -> Application:
    """Build ``application`` when a server first asks for it: importing this module reads no settings."""
    if name != "application":
        raise AttributeError(name)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parts = build_services(Settings.read())
    threading.Thread(target=_repeat_forever, args=(parts.metadata.run,), daemon=True).start()
    atexit.register(parts.sessions.flush)
    return Application(parts)
