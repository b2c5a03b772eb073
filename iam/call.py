"""What every operation is given besides its parameters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from iam.arn import Random
from iam.limits import Limits
from iam.principal import Principal
from iam.vault import Vault

# Parameters as the codec hands them over: names of the service model; str, int, bool, bytes, datetime, list, dict.
Params = dict[str, Any]
# What an operation answers: the members of its output shape, same types; absent members are left out.
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one operation, inside the transaction that the gate opened.

    ``now`` is aware and in UTC; ``random(n)`` gives n random bytes; ``vault`` seals secrets at rest.
    """

    tx: Connection
    principal: Principal
    account_id: str
    now: datetime
    random: Random
    vault: Vault
    limits: Limits
