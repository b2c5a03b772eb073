"""The commands that add, change, list and remove SAML identity providers."""

import re
from contextlib import closing
from pathlib import Path

import click
from sqlalchemy import select

from broker.audit.log import AuditLog
from broker.commands.federation.saml.stored import (
    account_option,
    audited_provider_change,
    print_provider,
    provider_facts,
    provider_row,
    read_metadata,
    resolve_account_id,
    set_columns,
)
from broker.commands.federation.sign_in_names import check_name, require_free_name
from broker.commands.options import installation_options, load_settings
from broker.commands.output import escape_unprintable, json_option, print_fields, print_json, print_table
from broker.providers.saml.metadata_refresh import MetadataRefresh, upcoming_expiries
from broker.wiring import build_fetcher, now, open_store, random
from iam.errors import InvalidInput
from iam.operations.federation.saml_providers import (
    arn_of,
    create_saml_provider,
    delete_saml_provider,
    update_saml_provider,
)
from iam.store.schema import SAML_PROVIDER_COLUMNS, saml_provider
from sts.store.single_use import SingleUse

_COLUMNS = saml_provider.c
_idp_initiated = click.option(
    "--idp-initiated/--no-idp-initiated",
    default=None,
    help="Accept IdP-initiated (unsolicited) responses. saml2aws and the portals of identity providers need it.",
)
_map_by_trust = click.option(
    "--map-by-trust/--no-map-by-trust",
    default=None,
    help="Offer users without Role attributes the roles whose trust policies allow them.",
)
_NAME = re.compile(r"[\w._-]{1,128}", re.ASCII)


@click.command()
@click.argument("name")
@click.option(
    "--metadata",
    "source",
    required=True,
    metavar="FILE|URL",
    help="SAML metadata; from a URL, it is refreshed automatically.",
)
@account_option
@_idp_initiated
@_map_by_trust
@installation_options
@json_option
def add(  # noqa: PLR0913 - one for each option
    name: str,
    source: str,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    idp_initiated: bool | None,
    map_by_trust: bool | None,
    as_json: bool,
) -> None:
    """Add an identity provider, and print the values to enter there."""
    if not _NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} must have 1 to 128 of letters, digits and ._-", param_hint="NAME")
    settings = load_settings(config, data)
    text, more = read_metadata(settings, source)
    more |= {"idp_initiated": bool(idp_initiated), "map_by_trust": bool(map_by_trust)}
    with audited_provider_change(settings, account_id, "CreateSAMLProvider") as (call, change):
        create_saml_provider(call, {"Name": name, "SAMLMetadataDocument": text})
        set_columns(call.tx, call.account_id, name, more)
        change.parameters = {"name": name, "from": source, **more}
        row = provider_row(call.tx, call.account_id, name)
    print_provider(settings, row, as_json=as_json)


@click.command("set")
@click.argument("name")
@click.option(
    "--metadata", "source", metavar="FILE|URL", help="New SAML metadata; from a URL, it is refreshed automatically."
)
@account_option
@_idp_initiated
@_map_by_trust
@installation_options
@json_option
def set_(  # noqa: PLR0913 - one for each option
    name: str,
    source: str | None,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    idp_initiated: bool | None,
    map_by_trust: bool | None,
    as_json: bool,
) -> None:
    """Change the given settings of an identity provider."""
    settings = load_settings(config, data)
    text, more = read_metadata(settings, source) if source else ("", {})
    flags = {"idp_initiated": idp_initiated, "map_by_trust": map_by_trust}
    more |= {key: value for key, value in flags.items() if value is not None}
    with audited_provider_change(settings, account_id, "UpdateSAMLProvider") as (call, change):
        row = provider_row(call.tx, call.account_id, name)
        if text:
            update_saml_provider(call, {"SAMLProviderArn": arn_of(row), "SAMLMetadataDocument": text})
        set_columns(call.tx, call.account_id, name, more)
        change.parameters = {"name": name, "from": source, **more}
        row = provider_row(call.tx, call.account_id, name)
    print_provider(settings, row, as_json=as_json)


@click.command("sign-in")
@click.argument("name")
@click.option("--name", "shown", help="Name of the provider on the sign-in page.", show_default="NAME")
@click.option("--remove", is_flag=True, help="Take the provider off the sign-in page.")
@account_option
@installation_options
@json_option
def sign_in(  # noqa: PLR0913 - one for each option
    name: str,
    shown: str | None,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    remove: bool,
    as_json: bool,
) -> None:
    """Show an identity provider on the sign-in page, which shows no other one.

    Its users can always start at the URL that `fedgate saml show` prints.
    """
    if remove and shown is not None:
        raise click.UsageError("Give either --name or --remove.")
    settings = load_settings(config, data)
    with audited_provider_change(settings, account_id, "UpdateSAMLProvider") as (call, change):
        row = provider_row(call.tx, call.account_id, name)
        sign_in_name = None if remove else check_name(shown or name)
        if sign_in_name is not None:
            require_free_name(call.tx, sign_in_name, row.id)
        set_columns(call.tx, call.account_id, name, {"sign_in_name": sign_in_name})
        change.parameters = {"name": name, "signInName": sign_in_name}
        row = provider_row(call.tx, call.account_id, name)
    print_provider(settings, row, as_json=as_json)


@click.command()
@click.argument("name")
@account_option
@installation_options
@json_option
def remove(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove an identity provider: its users can no longer sign in; existing sessions continue."""
    with audited_provider_change(load_settings(config, data), account_id, "DeleteSAMLProvider") as (call, change):
        arn = arn_of(provider_row(call.tx, call.account_id, name))
        delete_saml_provider(call, {"SAMLProviderArn": arn})
        change.parameters = {"name": name}
    if as_json:
        print_json({"removed": arn})
    else:
        print_fields({"removed": arn})


@click.command("list")
@account_option
@installation_options
@json_option
def list_(account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List identity providers, with warnings about certificates and metadata that expire within thirty days."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        rows = tx.execute(select(*SAML_PROVIDER_COLUMNS).order_by(_COLUMNS.account_id, _COLUMNS.name_key)).all()
        rows = [row for row in rows if account_id in (None, row.account_id)]
        warnings = [expiry.sentence(now()) for expiry in upcoming_expiries(tx, now())]
    providers = [provider_facts(settings, row) for row in rows]
    if as_json:
        print_json({"providers": providers, "warnings": warnings})
        return
    table = [
        (row.account_id, row.name, provider["entity_id"], provider["certificate_until"])
        for row, provider in zip(rows, providers, strict=True)
    ]
    print_table(["account", "provider", "entity id", "certificate until"], table)
    for warning in warnings:
        click.echo(escape_unprintable(f"warning: {warning}"))


@click.command()
@click.argument("name")
@account_option
@installation_options
@json_option
def show(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Print the metadata of an identity provider, and the values to enter there."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        row = provider_row(tx, resolve_account_id(tx, account_id), name)
    print_provider(settings, row, as_json=as_json)


@click.command()
@click.argument("name")
@account_option
@installation_options
@json_option
def refresh(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Fetch the metadata of an identity provider now."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, closing(AuditLog(settings.audit_dir, sync="always")) as audit:
        with store.read() as tx:
            row = provider_row(tx, resolve_account_id(tx, account_id), name, document=True)
        if row.metadata_url is None:
            raise InvalidInput(f"The metadata of {name} came from a file: replace it with `fedgate saml set`.")
        single_use = SingleUse(store, monotonic=lambda: 0.0)
        refreshing = MetadataRefresh(
            store=store,
            fetcher=build_fetcher(settings),
            audit=audit,
            single_use=single_use,
            limits=settings.limits,
            run_in_thread_pool=lambda work: work(),
            now=now,
            random=random,
        )
        error = refreshing.refresh(row)
        if error:
            raise click.ClickException(f"{row.metadata_url}: {escape_unprintable(error)}")
        with store.read() as tx:
            row = provider_row(tx, row.account_id, name)
    print_provider(settings, row, as_json=as_json)
