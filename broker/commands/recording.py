"""What an operator changes from the command line is recorded as strictly as what callers change through the API."""

import json
import os
import pwd
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert

from broker.audit import AuditLog
from broker.settings import Settings
from broker.wiring import now, random
from iam.schema import audit_record
from iam.store import Store


@dataclass(slots=True)
class Change:
    """A change in progress: its transaction, and what its record shall say of it."""

    tx: Connection
    account_id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@contextmanager
def recorded(settings: Settings, store: Store, event: str) -> Iterator[Change]:
    """Give a transaction whose record is committed with it, and then appended to the audit log.

    Raise AuditUnavailable, before anything is changed, where the log cannot be written.
    """
    with closing(AuditLog(settings.audit_dir, sync="always")) as audit:
        audit.check()
        with store.write() as tx:
            change = Change(tx)
            yield change
            record = _record(event, change)
            tx.execute(insert(audit_record).values(**_row(record)))
        audit.append(record)


def _record(event: str, change: Change) -> dict[str, Any]:
    at = now()
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "Operator", "userName": _operator()},
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "at": int(at.timestamp() * 1000),
        "eventSource": "operator.fedgate",
        "eventName": event,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "command line",
        "userAgent": "fedgate",
        "requestParameters": change.parameters or None,
        "responseElements": None,
        "requestID": _new_id(),
        "eventID": _new_id(),
        "readOnly": False,
        "eventType": "OperatorCommand",
        "managementEvent": True,
        "recipientAccountId": change.account_id,
        "eventCategory": "Management",
    }


def _operator() -> str:
    """Return who calls, as the operating system knows them; a container's user may have no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _row(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "event_id": record["eventID"],
        "at": int(now().timestamp() * 1000),
        "account_id": record["recipientAccountId"] or "",
        "record": json.dumps(record, separators=(",", ":")),
    }


def _new_id() -> str:
    return str(uuid.UUID(bytes=random(16), version=4))
