"""Look-ups of host names in accounts' URLs, in threads of their own: bounded, with a deadline, few for each account.

A look-up cannot be interrupted, and a name server that does not answer keeps its thread for half a minute. gevent
resolves names in the threads of the hub, ten for everything, so one account's issuer with such a name server would keep
directories, databases and other accounts' issuers from being found.
"""

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

import gevent
from gevent import monkey
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

from broker.runtime.fetch import FetchBusy, FetchError

_MOST: Final = 32  # look-ups at once in one worker, those that were given up included
_OF_ACCOUNTS: Final = 24  # of them of all accounts together: the operator's names are found whatever accounts have
MOST_OF_ONE: Final = 3  # of them of one account

_OPERATOR: Final = ""  # in place of an account's id

LookUp = Callable[[str, int], Sequence[Any]]


@cache
def _pool(hub: Hub) -> ThreadPool:
    return ThreadPool(_MOST, hub=hub)


def _look_up(host: str, port: int) -> Sequence[Any]:
    """Look a name up in this thread: gevent's own function would hand it to the hub's threads."""
    found: Sequence[Any] = monkey.get_original("socket", "getaddrinfo")(host, port, type=socket.SOCK_STREAM)
    return found


class NameLookups:
    """Looks names up on behalf of accounts; ``look_up`` runs in a thread."""

    def __init__(self, look_up: LookUp = _look_up) -> None:
        self._look_up = look_up
        self._running = Counter[str]()
        # Released in threads that gevent does not know, so not one of gevent's locks.
        self._guard = monkey.get_original("_thread", "allocate_lock")()

    def __call__(self, host: str, port: int, account_id: str, within: float) -> Sequence[Any]:
        """Return what ``socket.getaddrinfo`` does; raise FetchBusy, OSError, and FetchError after ``within`` seconds.

        An empty ``account_id`` stands for the operator, whose names are in the settings.
        """
        self._begin(account_id)
        work = _pool(gevent.get_hub()).spawn(self._run, host, port, account_id)
        try:
            found, error = work.get(timeout=within)
        except gevent.Timeout:
            raise FetchError(f"{host} cannot be asked: its name is not resolved in time") from None
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]  # gevent has no types

    def _begin(self, account_id: str) -> None:
        with self._guard:
            of_accounts = self._running.total() - self._running[_OPERATOR]
            is_full = of_accounts >= _OF_ACCOUNTS if account_id else self._running.total() >= _MOST
            if is_full or (account_id and self._running[account_id] >= MOST_OF_ONE):
                raise FetchBusy("too many names are being looked up for accounts")
            self._running[account_id] += 1

    def _run(self, host: str, port: int, account_id: str) -> tuple[Sequence[Any], Exception | None]:
        try:
            return self._look_up(host, port), None
        except Exception as error:  # noqa: BLE001 - raised above; the thread pool would print it
            return (), error
        finally:
            with self._guard:
                self._running[account_id] -= 1
