"""What every operation is given besides its parameters."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from iam.arn import Random
from iam.limits import Limits
from iam.params import Params, Result
from iam.principal import Principal
from iam.store.vault import Vault

__all__ = ["Call", "Params", "Result"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one operation, inside the transaction that the gate opened.

    ``now`` is aware and in UTC; ``random(n)`` gives n random bytes; ``vault`` seals secrets at rest; ``public_url`` is
    what clients call this installation.
    """

    tx: Connection
    principal: Principal
    account_id: str
    now: datetime
    random: Random
    vault: Vault
    limits: Limits
    public_url: str = ""
