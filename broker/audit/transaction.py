"""Changes and their audit records: both are committed in one transaction, so neither exists without the other."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, insert

from broker.audit.abridge import abridge
from broker.audit.envelope import Record
from broker.audit.log import AuditLog
from iam.store.schema import audit_record
from iam.store.store import Store


def store_record(tx: Connection, record: Record) -> None:
    """Write the record of a change into the transaction of the change."""
    row = {
        "event_id": record["eventID"],
        "at": record["at"],
        "account_id": record["recipientAccountId"] or "",  # empty for a person of a directory, who has no account
        "record": json.dumps(abridge(record), separators=(",", ":")),
    }
    tx.execute(insert(audit_record).values(**row))


@contextmanager
def audited_transaction(store: Store, audit: AuditLog, make_record: Callable[[], Record]) -> Iterator[Connection]:
    """Give a transaction for a change; commit it with its record, then append the record to the log.

    ``make_record`` is called after the change, before the commit. Raise AuditUnavailable, before anything is changed,
    where the log cannot be written.
    """
    audit.check()
    with store.write() as tx:
        yield tx
        record = make_record()
        store_record(tx, record)
    audit.append(record)
