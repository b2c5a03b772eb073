"""When an access key was last used, for GetAccessKeyLastUsed: stored in SQL, at most every fifteen minutes per key."""

import logging
from datetime import datetime

from iam.clock import MINUTE, to_milliseconds
from iam.errors import ServiceError
from iam.store.store import Store, record_key_use

log = logging.getLogger(__name__)

_EVERY = 15 * MINUTE  # milliseconds; the time is approximate in AWS, too
_REMEMBERED = 50_000


class AccessKeyUsage:
    """Records uses of access keys; a failure to store one never refuses a request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: dict[str, int] = {}

    def note(self, key_id: str, now: datetime, service: str, region: str) -> None:
        """Record that a key was used now, unless this worker did so recently."""
        at = to_milliseconds(now)
        if at - self._noted.get(key_id, 0) < _EVERY:
            return
        if len(self._noted) >= _REMEMBERED:
            self._noted.clear()
        self._noted[key_id] = at
        try:
            with self._store.write(bump_revision=False) as tx:
                record_key_use(tx, key_id, at, service, region)
        except ServiceError as error:
            log.warning("the use of an access key could not be stored: %s", error.log)
