"""The audit record of what the operator does, or the service on its own: not asked for through the API."""

import json
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from iam.arn import Random
from iam.clock import iso8601, to_milliseconds
from iam.store.schema import audit_record

Record = dict[str, Any]


def operator_record(
    event: str,
    account_id: str | None,
    parameters: dict[str, Any] | None,
    *,
    by: tuple[str, str],
    now: datetime,
    random: Random,
) -> Record:
    """Return the record of a change; ``by`` is who made it, and from where."""
    name, source = by
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "Operator", "userName": name},
        "eventTime": iso8601(now),
        "at": to_milliseconds(now),
        "eventSource": "operator.fedgate",
        "eventName": event,
        "awsRegion": "us-east-1",
        "sourceIPAddress": source,
        "userAgent": "fedgate",
        "requestParameters": parameters or None,
        "responseElements": None,
        "requestID": _new_id(random),
        "eventID": _new_id(random),
        "readOnly": False,
        "eventType": "OperatorCommand",
        "managementEvent": True,
        "recipientAccountId": account_id,
        "eventCategory": "Management",
    }


def store_record(tx: Connection, record: Record) -> None:
    """Write a record into the transaction of its change."""
    row = {
        "event_id": record["eventID"],
        "at": record["at"],
        "account_id": record["recipientAccountId"] or "",
        "record": json.dumps(record, separators=(",", ":")),
    }
    tx.execute(insert(audit_record).values(**row))


def _new_id(random: Random) -> str:
    return str(uuid.UUID(bytes=random(16), version=4))
