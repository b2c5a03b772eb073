"""The state of the request that a page answers: made when it is first needed, and kept for that request."""

from dataclasses import dataclass

from flask import g, request

from broker.api import wsgi_adapter
from broker.api.dispatch import Gate
from broker.api.forwarded import TrustedProxies
from broker.api.request_state import RequestState
from broker.sessions.browser import Client


@dataclass(frozen=True, slots=True)
class RequestStates:
    """Gives each request its state; ``trusted_proxies`` are believed about the client's address."""

    gate: Gate
    trusted_proxies: TrustedProxies

    @property
    def current(self) -> RequestState:
        """Return the state of this request."""
        if "request_state" not in g:
            head = wsgi_adapter.read_request_head(request.environ, self.trusted_proxies)
            g.request_state = self.gate.new_request_state(head)
        state: RequestState = g.request_state
        return state

    @property
    def reference(self) -> str:
        """Return the first eight characters of the request id: short enough to read out, enough to find the record."""
        return self.current.id[:8]

    @property
    def client(self) -> Client:
        """Return the address and the program that sent this request."""
        http_request = self.current.request
        return Client(http_request.source_ip, http_request.header("user-agent") or "")
