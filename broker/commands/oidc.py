"""``fedgate oidc``: OpenID Connect providers of accounts, and whether their issuers can be believed."""

from contextlib import closing
from pathlib import Path

import click
from sqlalchemy import select, update

from broker.commands.choosing import installation_options, settings_of
from broker.commands.printing import json_option, plain, print_facts, print_json, print_table
from broker.commands.recording import recorded
from broker.providers.oidc.key_sets import KeySets
from broker.wiring import fetcher, open_store
from iam.arn import iam_arn
from iam.errors import NoSuchEntity, ServiceError
from iam.schema import oidc_provider

_COLUMNS = oidc_provider.c


@click.group()
def oidc() -> None:
    """List and check OpenID Connect providers; make them with `aws iam create-open-id-connect-provider`."""


@oidc.command("list")
@installation_options
@json_option
def list_(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the providers of all accounts."""
    with closing(open_store(settings_of(config, data))) as store, store.read() as tx:
        listed = tx.execute(select(oidc_provider).order_by(_COLUMNS.account_id, _COLUMNS.url_key)).all()
    found = [(iam_arn(row.account_id, "oidc-provider/", row.url, ""), row.use_once) for row in listed]
    if as_json:
        print_json([{"provider": arn, "use_once": once} for arn, once in found])
    else:
        print_table(
            ["provider", "a token counts"], [(arn, "once" if once else "until it expires") for arn, once in found]
        )


@oidc.command("set")
@click.argument("arn")
@click.option("--use-once/--no-use-once", required=True, help="Whether a token gets credentials once.")
@installation_options
@json_option
def set_(arn: str, config: Path | None, data: Path | None, *, use_once: bool, as_json: bool) -> None:
    """Say whether tokens of a provider count once, or until they expire, as in AWS."""
    settings = settings_of(config, data)
    with closing(open_store(settings)) as store, recorded(settings, store, "UpdateOpenIDConnectProvider") as change:
        account_id, _, url = arn.removeprefix("arn:aws:iam::").partition(":oidc-provider/")
        mine = (_COLUMNS.account_id == account_id, _COLUMNS.url == url)
        if not change.tx.execute(update(oidc_provider).where(*mine).values(use_once=use_once)).rowcount:
            raise NoSuchEntity(f"There is no OpenID Connect provider {arn}.")
        change.account_id, change.parameters = account_id, {"openIDConnectProviderArn": arn, "useOnce": use_once}
    if as_json:
        print_json({"provider": arn, "use_once": use_once})
    else:
        print_facts({"provider": arn, "a token counts": "once" if use_once else "until it expires"})


@oidc.command()
@click.argument("issuer")
@installation_options
@json_option
def check(issuer: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Fetch the documents of an issuer (https://...) as the STS would, and list the keys that may sign its tokens."""
    sets = KeySets(fetcher(settings_of(config, data)), monotonic=lambda: 0.0)
    try:
        keys = sets.keys(issuer)
    except ServiceError as error:
        raise click.ClickException(plain(error.log)) from error
    if as_json:
        print_json([{"kid": key.kid, "algorithms": list(key.algorithms)} for key in keys])
    else:
        print_table(["key", "algorithms"], [(key.kid or "-", ", ".join(key.algorithms)) for key in keys])
