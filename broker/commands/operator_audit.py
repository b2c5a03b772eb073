"""Changes from the command line: each is committed with its audit record (broker.audit.operator)."""

from contextlib import AbstractContextManager

from broker.audit import operator
from broker.audit.operator import OperatorChange
from broker.config.settings import Settings
from broker.wiring import now, random
from iam.store.store import Store


def audited_change(settings: Settings, store: Store, event: str) -> AbstractContextManager[OperatorChange]:
    """Give a change whose record is committed with it; raise AuditUnavailable before anything is changed."""
    return operator.audited_change(settings.audit_dir, store, event, now=now, random=random)
