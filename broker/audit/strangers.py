"""Refusals of people and programs that nobody knows: one record each up to a rate, and one for all others of a minute.

Of known principals every refusal is kept. Nothing is granted by what is counted here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_MINUTE: Final = 60_000  # milliseconds
_MOST_KINDS, _MOST_SOURCES = 20, 20  # that one record names
_OTHER: Final = "other"
AGGREGATED: Final = "RefusedRequests"
# What one record for all has from the last refusal; it names no account, no person and no request of it.
_OF_LAST: Final = (
    "eventVersion",
    "eventTime",
    "at",
    "eventSource",
    "awsRegion",
    "eventID",
    "readOnly",
    "eventType",
    "managementEvent",
    "eventCategory",
)
_OF_MANY: Final[Mapping[str, Any]] = {
    "eventName": AGGREGATED,
    "userIdentity": {"type": "Unknown"},
    "recipientAccountId": None,
    "sourceIPAddress": "several",
    "userAgent": "",
    "requestParameters": None,
    "responseElements": None,
    "errorCode": "Aggregated",
    "errorMessage": "",
}


def is_refusal_of_stranger(record: Mapping[str, Any]) -> bool:
    """Return whether a record is of a refusal, and nobody has proved who they are.

    A sign-in that was not even looked at proves nothing about the user whom it names. Whoever has proved an identity
    has the access key of the request, or a ``sessionContext``: ``audit.user_identity`` and ``audit.record`` give it to
    nobody else.
    """
    identity = record.get("userIdentity")
    if "errorCode" not in record or not isinstance(identity, Mapping):
        return False
    proved = identity.get("accessKeyId") or identity.get("sessionContext")
    return identity.get("type") == "Unknown" or (record["errorCode"] == "Throttling" and not proved)


@dataclass(slots=True)
class StrangersRefusals:
    """Counts the refusals of a minute, and keeps what a single record says of those above ``per_minute``."""

    per_minute: int
    _minute: int = 0
    _count: int = 0
    _first: Mapping[str, Any] | None = None
    _last: Mapping[str, Any] | None = None
    _kinds: Counter[str] = field(default_factory=Counter)
    _sources: Counter[str] = field(default_factory=Counter)

    def admit(self, record: Mapping[str, Any]) -> bool:
        """Return whether a refusal gets a record of its own; else it is counted for the next ``take``."""
        minute = _at(record) // _MINUTE
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count <= self.per_minute:
            return True
        self._first = self._first or record
        self._last = record
        _count(self._kinds, f"{record.get('eventName')} {record.get('errorCode')}", _MOST_KINDS)
        _count(self._sources, str(record.get("sourceIPAddress")), _MOST_SOURCES)
        return False

    def is_due(self, record: Mapping[str, Any]) -> bool:
        """Return whether what was counted belongs to a minute before that of this record."""
        return self._first is not None and _at(record) // _MINUTE != _at(self._first) // _MINUTE

    def take(self) -> Mapping[str, Any] | None:
        """Return the one record of what was counted since the last time, or None.

        It belongs to no account: a stranger chooses the account of a refusal, whose people would otherwise see the
        addresses of everybody's.
        """
        first, last = self._first, self._last
        if first is None or last is None:
            return None
        facts = {
            "count": self._kinds.total(),
            "first": first.get("eventTime"),
            "last": last.get("eventTime"),
            "kinds": dict(self._kinds),
            "sources": dict(self._sources),
        }
        self._first = self._last = None
        self._kinds, self._sources = Counter(), Counter()
        return {name: last[name] for name in _OF_LAST if name in last} | {**_OF_MANY, "additionalEventData": facts}


def _at(record: Mapping[str, Any]) -> int:
    return int(record.get("at") or 0)


def _count(counter: Counter[str], name: str, most: int) -> None:
    counter[name if name in counter or len(counter) < most else _OTHER] += 1
