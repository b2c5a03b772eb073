"""The members that every audit record has, whoever acts; nothing else builds them.

Source: CloudTrail User Guide, "CloudTrail record contents". docs/reference/audit-record.md describes each member.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from iam.clock import iso8601, to_milliseconds

Record = dict[str, Any]

_VERSION: Final = "1.11"
_READ_ONLY: Final = ("Get", "List", "Simulate", "Decode")  # how the names of operations that change nothing begin
_MANAGEMENT: Final = "Management"
_DATA: Final = "Data"

SIGN_IN_SOURCE: Final = "signin.fedgate"  # the eventSource of what the pages record
AUTHORIZER_SOURCE: Final = "authorizer.fedgate"  # of requests to a host that is no resource
DEFAULT_REGION: Final = "us-east-1"  # where no signature names a region
# Values of eventType.
API_CALL, CONSOLE_SIGN_IN, OPERATOR_COMMAND = "AwsApiCall", "AwsConsoleSignIn", "OperatorCommand"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataEvent:
    """What only the record of a request to a resource has: the ARNs in it, and whether it changes anything."""

    read_only: bool
    resources: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened, and to which account; ``account_id`` is None where no account is concerned."""

    name: str
    source: str
    type: str
    account_id: str | None
    user_identity: Record
    parameters: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    data: "DataEvent | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the request came from; ``source_ip`` is not an address where no client sent it."""

    source_ip: str
    user_agent: str
    region: str
    request_id: str


def build_record(event: Event, origin: Origin, *, now: datetime, event_id: str) -> Record:
    """Return the record of an event."""
    record = {
        "eventVersion": _VERSION,
        "userIdentity": event.user_identity,
        "eventTime": iso8601(now),
        "at": to_milliseconds(now),
        "eventSource": event.source,
        "eventName": event.name,
        "awsRegion": origin.region,
        "sourceIPAddress": origin.source_ip,
        "userAgent": origin.user_agent,
        "requestParameters": event.parameters,
        "responseElements": event.response,
        "requestID": origin.request_id,
        "eventID": event_id,
        "readOnly": event.name.startswith(_READ_ONLY),
        "eventType": event.type,
        "managementEvent": True,
        "recipientAccountId": event.account_id,
        "eventCategory": _MANAGEMENT,
    }
    return record if event.data is None else record | _data_members(event.data)


def _data_members(data: DataEvent) -> Record:
    """Return the members of a data event (CloudTrail User Guide, "Logging data events")."""
    return {
        "readOnly": data.read_only,
        "resources": list(data.resources),
        "managementEvent": False,
        "eventCategory": _DATA,
    }
