"""The keys that seal session tokens: made, listed and removed here, kept in SQL under the master key.

Every worker reads them when the revision moves, so a new key seals, and a removed one stops opening, within a second.
"""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from iam.arn import Random
from iam.errors import DeleteConflict, NoSuchEntity
from iam.schema import sealing_key
from iam.store import Store
from iam.vault import Vault
from sts.token import Sealer, SealingKey


class Sealers:
    """Gives the sealer over the keys of this moment, and a new one only when the store saw a change."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._keys: tuple[SealingKey, ...] = ()
        self._sealer: Sealer | None = None
        self._generation = -1

    def current(self) -> Sealer:
        """Return the sealer; the same object as long as the keys are the same."""
        if self._sealer is None or self._generation != self._store.generation:
            generation = self._store.generation
            with self._store.read() as tx:
                keys = load(tx, self._vault)
            if self._sealer is None or keys != self._keys:
                self._sealer, self._keys = Sealer(keys), keys
            self._generation = generation
        return self._sealer


def load(tx: Connection, vault: Vault) -> tuple[SealingKey, ...]:
    """Return all keys, newest first."""
    rows = tx.execute(select(sealing_key.c.id, sealing_key.c.sealed).order_by(sealing_key.c.created.desc()))
    return tuple(SealingKey(key_id, vault.open(sealed, key_id)) for key_id, sealed in rows)


def rotate(tx: Connection, vault: Vault, *, now: datetime, random: Random) -> str:
    """Make a new key, which from now on seals, and return its id (8 hexadecimal digits)."""
    key_id = random(4).hex()
    sealed = vault.seal(random(32), key_id, random)
    tx.execute(insert(sealing_key).values(id=key_id, sealed=sealed, created=_milliseconds(now)))
    return key_id


def remove(tx: Connection, key_id: str) -> None:
    """Remove a key; sessions sealed with it are refused from then on. The last key stays: raise DeleteConflict."""
    ids = set(tx.scalars(select(sealing_key.c.id)))
    if key_id not in ids:
        raise NoSuchEntity(f"There is no sealing key {key_id}.")
    if len(ids) == 1:
        raise DeleteConflict("This is the only sealing key: rotate first, then remove it.")
    tx.execute(delete(sealing_key).where(sealing_key.c.id == key_id))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
