"""``fedgate issuer``: the keys that sign tokens of our own issuers."""

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

    All keys are published; the newest of each algorithm signs, an hour after it was made, when whoever keeps our keys
    has fetched them anew. Remove an old one when its tokens have expired, an hour after it signed last.
    """


@issuer.command()
@installation_options
@json_option
def keys(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the keys."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        found = jwt_issuer.load(tx, Vault(settings.master_key))
    at = to_milliseconds(now())
    signing = {}
    for one in reversed(found):
        if one.signs_from <= at:
            signing[one.algorithm] = one.kid
    rows = [(one.kid, one.algorithm, format_time(one.signs_from), one.kid in signing.values()) for one in found]
    if as_json:
        print_json([{"id": kid, "algorithm": alg, "signs_from": at_, "signs": signs} for kid, alg, at_, signs in rows])
    else:
        shown = [(*row[:3], "signs" if row[3] else "is published") for row in rows]
        print_table(["key", "algorithm", "signs from", "use"], shown)


@issuer.command("rotate-key")
@click.option("--algorithm", type=click.Choice(jwt_issuer.ALGORITHMS), required=True, help="Of which algorithm.")
@installation_options
@json_option
def rotate_key(algorithm: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Make a new key, which is published at once and signs an hour from now."""
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
    """Remove a key that signs no more: what it has signed can no longer be verified."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RemoveIssuerKey") as change:
        jwt_issuer.remove_key(change.tx, key_id, now())
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"removed": key_id})
    else:
        print_fields({"removed": key_id})
