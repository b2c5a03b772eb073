"""``fedgate keys``: the keys that seal session tokens."""

from contextlib import closing
from pathlib import Path

import click
from sqlalchemy import select

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.wiring import now, open_store, random
from iam.store.schema import sealing_key
from iam.store.vault import Vault
from sts.store import sealing_keys


@click.group()
def keys() -> None:
    """Rotate, list and remove the keys that seal session tokens.

    The newest key seals new tokens; every listed key opens existing ones. Rotate, wait until the sessions of the old
    key have expired (after 12 hours at most for roles, 36 for others), then remove it. Removing a key ends the sessions
    that it sealed within a second.
    """


@keys.command()
@installation_options
@json_option
def rotate(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Create a key; it seals after two seconds, when every worker knows it."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RotateSealingKey") as change:
        key_id = sealing_keys.rotate(change.tx, Vault(settings.master_key), now=now(), random=random)
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"id": key_id})
    else:
        print_fields({"new key": key_id})


@keys.command("list")
@installation_options
@json_option
def list_(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the keys; the first one seals."""
    table = sealing_key.c
    with closing(open_store(load_settings(config, data))) as store, store.read() as tx:
        rows = tx.execute(select(table.id, table.created).order_by(table.created.desc())).all()
    keys = [(key_id, format_time(created), number == 0) for number, (key_id, created) in enumerate(rows)]
    if as_json:
        print_json([{"id": key_id, "created": created, "seals": seals} for key_id, created, seals in keys])
    else:
        print_table(
            ["key", "created", "use"], [(key_id, at, "seals" if seals else "opens") for key_id, at, seals in keys]
        )


@keys.command()
@click.argument("key_id")
@installation_options
@json_option
def remove(key_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove a key and end the sessions that it sealed."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RemoveSealingKey") as change:
        sealing_keys.remove(change.tx, key_id)
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"removed": key_id})
    else:
        print_fields({"removed": key_id})
