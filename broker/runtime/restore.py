"""Restores a backup into a database that may be in use, and makes sure that nothing ended since then comes back.

All is one transaction: requests see the state before it or the state after it. Sessions, spent proofs and codes are
not taken from the past: every session ends, proofs that were issued before the restore count as used, and recovery
codes come back only where the present database still has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table, delete, func, select, update

from iam.arn import Random
from iam.clock import to_milliseconds
from iam.credentials import totp
from iam.credentials.factors import TOTP
from iam.revocation import INSTALLATION
from iam.store import schema
from iam.store.revocation import raise_generation
from iam.store.transfer import TABLES, add_rows, copy_rows
from iam.store.vault import Vault
from sts.store import sealing_keys
from sts.store.single_use import refuse_issued_before

# Kept as they are: what has been ended, spent or refused stays so. New keys seal sessions, so that no old one opens.
_KEPT = frozenset({schema.revocation_generation, schema.failed_attempt, schema.sealing_key})
_ADDED: Mapping[Table, tuple[tuple[str, ...], tuple[str, ...]]] = {  # unique columns, columns with new values
    schema.used_marker: (("kind", "marker"), ()),
    schema.audit_record: (("event_id",), ("seq",)),
}
_SIGNING_KEYS = frozenset({schema.issuer_key, schema.saml_service_key})
_REPLACED = tuple(table for table in TABLES if table not in _KEPT and table not in _ADDED)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did: rows by table, and what the operator should look at.

    ``revived_keys`` are access keys that are active again, although they were deleted or inactive before the restore;
    it is empty where the database had no account. ``removed_codes`` is the number of recovery codes that were removed,
    because they may have been used since the backup.
    """

    rows: Mapping[str, int]
    revived_keys: tuple[str, ...]
    removed_codes: int


def restore(source: Connection, target: Connection, vault: Vault, *, now: datetime, random: Random) -> RestoreReport:
    """Replace the content of ``target``, in its write transaction, by that of a backup."""
    keys, codes = _active_keys(target), _recovery_codes(target)
    was_empty = target.execute(select(schema.account.c.id).limit(1)).first() is None
    # A signing key that was removed may be known to others. Without any, as on a new machine, the backup's are used.
    kept = {table for table in _SIGNING_KEYS if _count(target, table)}
    copy_rows(source, target, [table for table in _REPLACED if table not in kept])
    for table, (unique, leave_out) in _ADDED.items():
        add_rows(source, target, table, unique=unique, leave_out=leave_out)
    removed = _remove_recovery_codes(target, keep=codes)
    _raise_floors(target, vault, now=now, random=random)
    revived = () if was_empty else tuple(sorted(_active_keys(target) - keys))
    rows = {table.name: _count(target, table) for table in _REPLACED}
    return RestoreReport({name: count for name, count in rows.items() if count}, revived, removed)


def _active_keys(tx: Connection) -> set[str]:
    return set(tx.scalars(select(schema.access_key.c.id).where(schema.access_key.c.active)))


def _recovery_codes(tx: Connection) -> set[tuple[str, str]]:
    table = schema.recovery_code.c
    return {(person, code) for person, code in tx.execute(select(table.person, table.hash))}


def _remove_recovery_codes(tx: Connection, *, keep: set[tuple[str, str]]) -> int:
    table = schema.recovery_code.c
    spent = _recovery_codes(tx) - keep
    for person, code in spent:
        tx.execute(delete(schema.recovery_code).where(table.person == person, table.hash == code))
    return len(spent)


def _raise_floors(tx: Connection, vault: Vault, *, now: datetime, random: Random) -> None:
    raise_generation(tx, INSTALLATION, now_ms=to_milliseconds(now), random=random)
    tx.execute(delete(schema.sealing_key))
    sealing_keys.rotate(tx, vault, now=now, random=random)
    refuse_issued_before(tx, now)
    # Codes of authenticator apps that were accepted after the backup are no longer known: also the first of a device.
    step = totp.step_at(now) + totp.WINDOW
    tx.execute(update(schema.mfa_device).values(last_step=step + schema.mfa_device.c.drift))
    tx.execute(update(schema.second_factor).where(schema.second_factor.c.kind == TOTP).values(last_step=step))


def _count(tx: Connection, table: Table) -> int:
    return int(tx.execute(select(func.count()).select_from(table)).scalar_one())
