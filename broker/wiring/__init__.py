"""Builds all services from the settings: the only place where constructors meet and the clock and entropy are read.

Each group of services is a frozen dataclass, built by the functions of one module from the groups before it: storage,
providers, sign-ins, the API, the pages.
"""

from broker.wiring.clock_and_random import now, random
from broker.wiring.providers import build_fetcher, directory_accounts
from broker.wiring.services import Services, build_services
from broker.wiring.storage import open_browser_sessions, open_live_sessions, open_redis, open_single_use, open_store

__all__ = [
    "Services",
    "build_fetcher",
    "build_services",
    "directory_accounts",
    "now",
    "open_browser_sessions",
    "open_live_sessions",
    "open_redis",
    "open_single_use",
    "open_store",
    "random",
]
