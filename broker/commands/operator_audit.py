"""What an operator changes from the command line is recorded as strictly as what callers change through the API."""

import os
import pwd
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from broker.audit.log import AuditLog
from broker.audit.operator import operator_record, store_record
from broker.config.settings import Settings
from broker.wiring import now, random
from iam.store.store import Store


@dataclass(slots=True)
class OperatorChange:
    """A change in progress: its transaction, and what its record shall say of it."""

    tx: Connection
    account_id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@contextmanager
def audited_change(settings: Settings, store: Store, event: str) -> Iterator[OperatorChange]:
    """Give a transaction whose record is committed with it, and then appended to the audit log.

    Raise AuditUnavailable, before anything is changed, where the log cannot be written.
    """
    with closing(AuditLog(settings.audit_dir, sync="always")) as audit:
        audit.check()
        with store.write() as tx:
            change = OperatorChange(tx)
            yield change
            by = _operator(), "command line"
            record = operator_record(event, change.account_id, change.parameters, by=by, now=now(), random=random)
            store_record(tx, record)
        audit.append(record)


def _operator() -> str:
    """Return who calls, as the operating system knows them; a container's user may have no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
