"""The commands that list, rotate and remove the keys of the SAML service providers."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import click

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.providers.saml import service_keys
from broker.wiring import now, open_store, random
from iam.clock import iso8601, to_milliseconds
from iam.store.vault import Vault

_SIGNS_AFTER = 7  # days


@click.command()
@installation_options
@json_option
def keys(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the keys of the service providers: all are published, one signs."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        stored = service_keys.load(tx, Vault(settings.master_key))
    at = to_milliseconds(now())
    signing = next((key.id for key in stored if key.signs_from <= at), None)
    rows = [(key.id, format_time(key.created), format_time(key.signs_from), key.id == signing) for key in stored]
    if as_json:
        names = ("id", "created", "signs_from", "signs")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(
            ["key", "created", "signs from", "use"], [(*row[:3], "signs" if row[3] else "decrypts") for row in rows]
        )


@click.command("rotate-key")
@click.option(
    "--signs-after",
    "days",
    type=click.IntRange(0, 365),
    default=_SIGNS_AFTER,
    show_default=True,
    help="Days until the key signs.",
)
@installation_options
@json_option
def rotate_key(days: int, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Create a key; it is published now and signs when identity providers have had time to refresh the metadata."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RotateSAMLServiceKey") as change:
        start = now() + timedelta(days=days)
        key_id = service_keys.rotate(change.tx, Vault(settings.master_key), now=now(), random=random, signs_from=start)
        change.parameters = {"id": key_id, "signsFrom": iso8601(start)}
    facts = {"id": key_id, "signs_from": format_time(to_milliseconds(start))}
    if as_json:
        print_json(facts)
    else:
        print_fields({"new key": key_id, "signs from": facts["signs_from"]})


@click.command("remove-key")
@click.argument("key_id")
@installation_options
@json_option
def remove_key(key_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove a key that no longer signs; assertions encrypted to it can no longer be decrypted."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RemoveSAMLServiceKey") as change:
        service_keys.remove(change.tx, key_id, now())
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"removed": key_id})
    else:
        print_fields({"removed": key_id})
