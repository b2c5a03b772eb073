"""Kept connections to the servers of one directory, with failover."""

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
_RETRY_AFTER: Final = 30.0  # seconds for which a server that failed is asked last
_MAX_IDLE: Final = 60.0  # seconds; firewalls forget a quiet connection without telling either side


class ServerList:
    """The servers of one directory in the order of preference; remembers for a while which of them failed."""

    def __init__(self, addresses: tuple[Address, ...], monotonic: Callable[[], float]) -> None:
        self._addresses = addresses
        self._monotonic = monotonic
        self._failed: dict[Address, float] = {}

    def in_order(self) -> list[Address]:
        """Return all servers, those that failed lately last."""
        now = self._monotonic()
        return sorted(self._addresses, key=lambda address: now < self._failed.get(address, now))

    def mark_failed(self, address: Address, error: LdapConnectionError) -> None:
        """Remember and log that a server failed."""
        self._failed[address] = self._monotonic() + _RETRY_AFTER
        _LOG.log(
            logging.ERROR if error.security else logging.WARNING,
            "ldap server %s %s: %s",
            address,
            "is not to be trusted" if error.security else "failed",
            error,
        )


class ConnectionPool:
    """Connections of one kind, lent to one caller at a time, between threads or greenlets.

    ``open_`` connects to one address and makes the connection ready. A connection that failed is closed, never lent
    again.
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
        """Return what ``use`` makes of a connection, on the next server if one breaks; raises ProviderUnavailable."""
        if not self._slots.acquire(timeout=self._patience):
            raise ProviderUnavailable("too many requests to the directory are in flight")
        try:
            kept = self._take_idle()
            if kept is not None:
                # A kept connection may have died unnoticed, which says nothing about the server.
                with suppress(LdapConnectionError):
                    return self._run_on(kept, use)
                self.close()
            return self._run_on_new_connection(use)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Close the idle connections; the pool stays usable."""
        while self._idle:
            with suppress(IndexError):  # somebody else took the last one
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
