"""Audit records of changes that are not asked for through the API: an operator's commands and background work.

They are as strict as those of API requests: a change and its record are committed together, or not at all.
"""

import os
import pwd
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection

from broker.audit import envelope
from broker.audit.envelope import Event, Origin, Record
from broker.audit.log import AuditLog
from broker.audit.transaction import audited_transaction
from iam.arn import Random
from iam.store.store import Store


class Actor(NamedTuple):
    """Who made a change, and from where: the latter stands in the place of the client's address."""

    name: str
    source: str


BACKGROUND = Actor("fedgate", "background")


@dataclass(slots=True)
class OperatorChange:
    """A change in progress: its transaction, and the account and parameters that its record will name."""

    account_id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tx: Connection = field(init=False)


def operator_record(
    name: str,
    account_id: str | None,
    parameters: Mapping[str, Any] | None,
    *,
    actor: Actor,
    now: datetime,
    random: Random,
) -> Record:
    """Return the record of a change that an operator or the service itself made."""
    event = Event(
        name=name,
        source="operator.fedgate",
        type=envelope.OPERATOR_COMMAND,
        account_id=account_id,
        user_identity={"type": "Operator", "userName": actor.name},
        parameters=parameters or None,
    )
    origin = Origin(
        source_ip=actor.source, user_agent="fedgate", region=envelope.DEFAULT_REGION, request_id=_new_id(random)
    )
    return envelope.build_record(event, origin, now=now, event_id=_new_id(random))


@contextmanager
def audited_change(
    audit_dir: Path, store: Store, name: str, *, now: Callable[[], datetime], random: Random
) -> Iterator[OperatorChange]:
    """Give a change to the operator who runs this process; commit it with its record.

    Raise AuditUnavailable, before anything is changed, where the log cannot be written.
    """
    change = OperatorChange()

    def make_record() -> Record:
        actor = current_operator()
        return operator_record(name, change.account_id, change.parameters, actor=actor, now=now(), random=random)

    with (
        closing(open_operator_log(audit_dir)) as audit,
        audited_transaction(store, audit, make_record) as tx,
    ):
        change.tx = tx
        yield change


def open_operator_log(audit_dir: Path) -> AuditLog:
    """Return the audit log of one command: each record is on the disk before the command goes on."""
    return AuditLog(audit_dir, sync="always")


def current_operator() -> Actor:
    """Return who runs this command, as the operating system knows them; a container's user may have no name."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Actor(name, "command line")


def _new_id(random: Random) -> str:
    return str(uuid.UUID(bytes=random(16), version=4))
