"""The keys that seal session tokens: created, listed and removed here, stored in SQL, encrypted with the master key.

Every worker reads them again when the store's revision changes, so a removed key stops opening tokens within a second.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from iam.arn import Random
from iam.clock import to_milliseconds
from iam.errors import DeleteConflict, NoSuchEntity
from iam.store.schema import sealing_key
from iam.store.store import Store
from iam.store.vault import Vault
from sts.token import Sealer, SealingKey

PROPAGATION_MS = 2000  # milliseconds until every worker knows a new key


class SealerCache:
    """Returns the sealer with the current keys; it is rebuilt only after a change in the store.

    A new key opens tokens at once and seals after two seconds: by then every worker has it, so none refuses a token
    that another worker has just sealed.
    """

    def __init__(self, store: Store, vault: Vault, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._keys: tuple[SealingKey, ...] = ()
        self._sealer: Sealer | None = None
        self._generation = -1
        self._next: float = 0  # when the order of the keys changes without a change in the store, in milliseconds

    def current(self) -> Sealer:
        """Return the sealer; the same object while the keys are the same."""
        now = to_milliseconds(self._now())
        if self._sealer is None or self._generation != self._store.generation or now >= self._next:
            generation = self._store.generation
            with self._store.read() as tx:
                rows = _rows(tx, self._vault)
            keys, self._next = _sort_keys(rows, now)
            if self._sealer is None or keys != self._keys:
                self._sealer, self._keys = Sealer(keys), keys
            self._generation = generation
        return self._sealer


def _sort_keys(rows: Sequence[tuple[SealingKey, int]], now: int) -> tuple[tuple[SealingKey, ...], float]:
    """Return the keys, with the one that seals first, and the time at which that order changes."""
    sealing = tuple(key for key, created in rows if created <= now - PROPAGATION_MS)
    new = tuple(key for key, created in rows if created > now - PROPAGATION_MS)
    ends = min(
        (created + PROPAGATION_MS for _, created in rows if created > now - PROPAGATION_MS), default=float("inf")
    )
    return sealing + new, ends


def load(tx: Connection, vault: Vault) -> tuple[SealingKey, ...]:
    """Return all keys, newest first."""
    return tuple(key for key, _ in _rows(tx, vault))


def _rows(tx: Connection, vault: Vault) -> list[tuple[SealingKey, int]]:
    columns = sealing_key.c
    rows = tx.execute(select(columns.id, columns.sealed, columns.created).order_by(columns.created.desc()))
    return [(SealingKey(key_id, vault.open(sealed, key_id)), created) for key_id, sealed, created in rows]


def rotate(tx: Connection, vault: Vault, *, now: datetime, random: Random) -> str:
    """Create the key that will seal next, and return its id (8 hexadecimal digits)."""
    key_id = random(4).hex()
    sealed = vault.seal(random(32), key_id, random)
    tx.execute(insert(sealing_key).values(id=key_id, sealed=sealed, created=to_milliseconds(now)))
    return key_id


def remove(tx: Connection, key_id: str) -> None:
    """Remove a key, which ends the sessions sealed with it; raise NoSuchEntity, and DeleteConflict for the last key."""
    ids = set(tx.scalars(select(sealing_key.c.id)))
    if key_id not in ids:
        raise NoSuchEntity(f"There is no sealing key {key_id}.")
    if len(ids) == 1:
        raise DeleteConflict("This is the only sealing key: rotate first, then remove it.")
    tx.execute(delete(sealing_key).where(sealing_key.c.id == key_id))
