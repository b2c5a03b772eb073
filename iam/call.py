"""The call of an operation: the transaction, the caller and the environment."""

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
    """A call of an operation, inside the transaction in which it was authorized.

    ``now`` is timezone-aware, in UTC; ``random(n)`` returns n random bytes; ``vault`` seals secrets at rest;
    ``public_url`` is the URL of this installation for clients; ``prepared`` is what ``Operation.prepare`` returned.
    """

    tx: Connection
    principal: Principal
    account_id: str
    now: datetime
    random: Random
    vault: Vault
    limits: Limits
    public_url: str = ""
    prepared: object = None
