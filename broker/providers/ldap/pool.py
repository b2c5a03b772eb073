"""Connection pools for the servers of one directory, with failover."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from broker.providers.ldap.connection import Address, LdapConnection, LdapConnectionError
from sts.identity import ProviderUnavailable

_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)
_RETRY_AFTER: Final = 30.0  # seconds for which a server that failed is tried last
_MAX_IDLE: Final = 60.0  # seconds; firewalls forget a quiet connection without telling either side


class ServerList:
    """The servers of one directory in order of preference, with those that failed recently at the end."""

    def __init__(self, addresses: tuple[Address, ...], monotonic: Callable[[], float]) -> None:
        self._addresses = addresses
        self._monotonic = monotonic
        self._failed: dict[Address, float] = {}

    def in_order(self) -> list[Address]:
        """Return all servers, those that failed recently last."""
        now = self._monotonic()
        return sorted(self._addresses, key=lambda address: now < self._failed.get(address, now))

    def mark_failed(self, address: Address, error: LdapConnectionError) -> None:
        """Log that a server failed, and try it last for a while."""
        self._failed[address] = self._monotonic() + _RETRY_AFTER
        _LOG.log(
            logging.ERROR if error.security else logging.WARNING,
            "ldap server %s %s: %s",
            address,
            "is not to be trusted" if error.security else "failed",
            error,
        )


class ConnectionPool:
    """Connections for one purpose, each used by one caller at a time; safe between threads or greenlets.

    ``open_`` connects to one address and prepares the connection. ``keep`` limits the idle connections, ``in_flight``
    those in use; ``patience`` is how many seconds a caller waits for one. A connection that failed is closed and never
    used again: it may still deliver the response to an earlier request.
    """

    def __init__(
        self,
        servers: ServerList,
        open_: Callable[[Address], LdapConnection],
        *,
        keep: int,
        in_flight: int,
        patience: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._servers = servers
        self._open = open_
        self._keep = keep
        self._slots = threading.BoundedSemaphore(in_flight)
        self._patience = patience
        self._monotonic = monotonic
        self._idle: deque[tuple[float, LdapConnection]] = deque()

    def run(self, use: Callable[[LdapConnection], _T]) -> _T:
        """Call ``use`` with a connection, on the next server if one fails; raise ProviderUnavailable."""
        if not self._slots.acquire(timeout=self._patience):
            raise ProviderUnavailable("too many requests to the directory are in flight")
        try:
            idle = self._take_idle()
            if idle is not None:
                # An idle connection may have been closed by a firewall, which says nothing about the server.
                with suppress(LdapConnectionError):
                    return self._run_on(idle, use)
                self.close()
            return self._run_on_new_connection(use)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close the idle connections; the pool stays usable."""
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                self._idle.pop()[1].close()

    def _run_on_new_connection(self, use: Callable[[LdapConnection], _T]) -> _T:
        reasons: list[str] = []
        security = False
        for address in self._servers.in_order():
            try:
                return self._run_on(self._open(address), use)
            except LdapConnectionError as error:
                self._servers.mark_failed(address, error)
                reasons.append(f"{address}: {error}")
                security = security or error.security
        raise ProviderUnavailable("; ".join(reasons), security=security)

    def _run_on(self, connection: LdapConnection, use: Callable[[LdapConnection], _T]) -> _T:
        try:
            result = use(connection)
        except BaseException:
            connection.close()
            raise
        if len(self._idle) < self._keep:
            self._idle.append((self._monotonic() + _MAX_IDLE, connection))
        else:
            connection.close()
        return result

    def _take_idle(self) -> LdapConnection | None:
        while self._idle:
            with suppress(IndexError):
                until, connection = self._idle.pop()
                if self._monotonic() < until:
                    return connection
                connection.close()
        return None
