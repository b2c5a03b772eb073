"""``fedgate issuer``: the keys that sign web identity tokens."""

from contextlib import closing
from pathlib import Path

import click

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.wiring import now, open_store, random
from iam.clock import to_milliseconds
from iam.store.vault import Vault
from sts.federation import jwt_issuer


@click.group()
def issuer() -> None:
    """Rotate, list and remove the keys that sign web identity tokens.

    All keys are published. A new key signs an hour after its creation, when relying parties that cache the keys have
    fetched it. Remove the previous key an hour after that, when the tokens that it signed have expired.
    """


@issuer.command()
@installation_options
@json_option
def keys(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the keys."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        keys = jwt_issuer.load(tx, Vault(settings.master_key))
    at = to_milliseconds(now())
    signing = {}
    for key in reversed(keys):
        if key.signs_from <= at:
            signing[key.algorithm] = key.kid
    rows = [(key.kid, key.algorithm, format_time(key.signs_from), key.kid in signing.values()) for key in keys]
    if as_json:
        print_json([{"id": kid, "algorithm": alg, "signs_from": at_, "signs": signs} for kid, alg, at_, signs in rows])
    else:
        shown = [(*row[:3], "signs" if row[3] else "published") for row in rows]
        print_table(["key", "algorithm", "signs from", "use"], shown)


@issuer.command("rotate-key")
@click.option("--algorithm", type=click.Choice(jwt_issuer.ALGORITHMS), required=True, help="Algorithm of the key.")
@installation_options
@json_option
def rotate_key(algorithm: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Create a key; it is published now and signs after an hour."""
    settings = load_settings(config, data)
    at = now() + jwt_issuer.PROPAGATION
    with closing(open_store(settings)) as store, audited_change(settings, store, "RotateIssuerKey") as change:
        vault = Vault(settings.master_key)
        key_id = jwt_issuer.make_key(change.tx, vault, algorithm, now=now(), random=random, at=at)
        change.parameters = {"id": key_id, "algorithm": algorithm}
    facts = {"id": key_id, "signs_from": format_time(to_milliseconds(at))}
    if as_json:
        print_json(facts)
    else:
        print_fields({"new key": key_id, "signs from": facts["signs_from"]})


@issuer.command("remove-key")
@click.argument("key_id")
@installation_options
@json_option
def remove_key(key_id: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove a key that no longer signs; tokens that it signed can no longer be verified."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RemoveIssuerKey") as change:
        jwt_issuer.remove_key(change.tx, key_id, now())
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"removed": key_id})
    else:
        print_fields({"removed": key_id})
