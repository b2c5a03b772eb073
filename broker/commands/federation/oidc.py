"""``fedgate oidc``: lists, configures and checks the OpenID Connect providers of accounts."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row, delete, insert, select, update

from broker.commands.federation.sign_in_names import check_name, require_free_name
from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings, read_text
from broker.commands.output import escape_unprintable, json_option, print_fields, print_json, print_table
from broker.config.settings import Settings
from broker.providers.oidc.key_sets import JwksCache
from broker.providers.oidc.presets import OIDC, PRESETS
from broker.wiring import build_fetcher, open_store, random
from iam.arn import iam_arn
from iam.errors import NoSuchEntity, ServiceError
from iam.store.schema import oidc_provider, sign_in_client
from iam.store.vault import Vault

_COLUMNS = oidc_provider.c


@click.group()
def oidc() -> None:
    """List, configure and check OpenID Connect providers.

    Create them with `aws iam create-open-id-connect-provider`.
    """


@oidc.command("list")
@installation_options
@json_option
def list_(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the providers of all accounts."""
    with closing(open_store(load_settings(config, data))) as store, store.read() as tx:
        rows = tx.execute(select(oidc_provider).order_by(_COLUMNS.account_id, _COLUMNS.url_key)).all()
    listed = [(iam_arn(row.account_id, "oidc-provider/", row.url, ""), row.use_once) for row in rows]
    if as_json:
        print_json([{"provider": arn, "use_once": once} for arn, once in listed])
    else:
        print_table(["provider", "tokens can be used"], [(arn, _token_use(once=once)) for arn, once in listed])


@oidc.command("set")
@click.argument("arn")
@click.option(
    "--use-once/--no-use-once", required=True, help="Whether a token can be exchanged for credentials only once."
)
@installation_options
@json_option
def set_(arn: str, config: Path | None, data: Path | None, *, use_once: bool, as_json: bool) -> None:
    """Set whether a token of a provider can be used once, or until it expires, as in AWS."""
    settings = load_settings(config, data)
    with (
        closing(open_store(settings)) as store,
        audited_change(settings, store, "UpdateOpenIDConnectProvider") as change,
    ):
        row = _row(change.tx, arn)
        change.tx.execute(update(oidc_provider).where(_COLUMNS.id == row.id).values(use_once=use_once))
        change.account_id, change.parameters = row.account_id, {"openIDConnectProviderArn": arn, "useOnce": use_once}
    if as_json:
        print_json({"provider": arn, "use_once": use_once})
    else:
        print_fields({"provider": arn, "tokens can be used": _token_use(once=use_once)})


@oidc.command("sign-in")
@click.argument("arn")
@click.option("--client-id", help="Client ID registered at the provider.")
@click.option(
    "--client-secret-file",
    "file",
    type=click.Path(path_type=Path),
    help="File with the client secret, if the client has one.",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="generic",
    show_default=True,
    help="Product or service of the provider.",
)
@click.option("--scope", "scopes", help="Scopes to request instead of those of the preset.")
@click.option("--name", help="Name of the provider on the sign-in page.")
@click.option("--remove", is_flag=True, help="Disable browser sign-in through the provider.")
@installation_options
@json_option
def sign_in(  # noqa: PLR0913 - one for each option
    arn: str,
    config: Path | None,
    data: Path | None,
    *,
    client_id: str | None,
    file: Path | None,
    preset: str,
    scopes: str | None,
    name: str | None,
    remove: bool,
    as_json: bool,
) -> None:
    """Enable browser sign-in through a provider, and print the URLs to register there."""
    if remove == (client_id is not None):
        raise click.UsageError("Give either --client-id or --remove.")
    chosen = PRESETS[preset]
    scopes = scopes or chosen.scopes
    if chosen.kind == OIDC and "openid" not in scopes.split():
        raise click.BadParameter("openid must be among the scopes", param_hint="--scope")
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "UpdateSignInClient") as change:
        row = _row(change.tx, arn)
        if client_id is not None and not chosen.issuers.fullmatch(row.url):
            raise click.ClickException(f"{row.url} is not an issuer of the preset {preset}.{_hint(row.url)}")
        change.tx.execute(delete(sign_in_client).where(sign_in_client.c.provider_id == row.id))
        if client_id is not None:
            shown = check_name(name or chosen.name or row.url)
            require_free_name(change.tx, shown, row.id)
            secret = _seal_secret(settings, file, row.id)
            client = {"client_id": client_id, "sealed": secret, "scopes": scopes, "name": shown, "kind": chosen.kind}
            change.tx.execute(insert(sign_in_client).values(provider_id=row.id, **client))
        change.account_id = row.account_id
        change.parameters = {"openIDConnectProviderArn": arn, "clientId": client_id, "scopes": scopes}
    urls = {} if remove else _urls(f"{settings.public_url}/oidc/{row.id}") | {"to_set_there": chosen.setup_hint}
    facts = {"provider": arn, "sign_in_at": "", **urls}
    if as_json:
        print_json(facts)
    else:
        print_fields({key.replace("_", " "): value for key, value in facts.items() if value})


def _seal_secret(settings: Settings, file: Path | None, provider_id: str) -> bytes | None:
    """Return the client secret of a file as it is stored; None where there is none."""
    secret = read_text(file).strip().encode() if file else b""
    return Vault(settings.master_key).seal(secret, provider_id, random) if secret else None


def _urls(here: str) -> dict[str, str]:
    """Return the addresses of a provider's pages here, under the names by which they are registered there."""
    return {
        "sign_in_at": f"{here}/login",
        "redirect_uri": f"{here}/callback",
        "post_logout_redirect_uri": f"{here}/signed-out",
        "backchannel_logout_uri": f"{here}/logout",
    }


def _token_use(*, once: bool) -> str:
    return "once" if once else "until they expire"


def _hint(url: str) -> str:
    if url.startswith("login.microsoftonline."):
        return " Entra ID's issuer names one tenant by its id: https://login.microsoftonline.com/ID/v2.0"
    return " Its preset is github." if url == "github.com" else ""


def _row(tx: Connection, arn: str) -> Row[Any]:
    account_id, _, url = arn.removeprefix("arn:aws:iam::").partition(":oidc-provider/")
    mine = (_COLUMNS.account_id == account_id, _COLUMNS.url == url)
    row = tx.execute(select(oidc_provider).where(*mine)).one_or_none()
    if row is None:
        raise NoSuchEntity(f"There is no OpenID Connect provider {arn}.")
    return row


@oidc.command()
@click.argument("issuer")
@installation_options
@json_option
def check(issuer: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Fetch the documents of an issuer (https://...) as the STS does, and list the keys that sign its tokens.

    A key that cannot be used is listed with the reason.
    """
    sets = JwksCache(build_fetcher(load_settings(config, data)), monotonic=lambda: 0.0)
    try:
        found = sets.key_set(issuer)
    except ServiceError as error:
        raise click.ClickException(escape_unprintable(error.log)) from error
    if as_json:
        used: list[dict[str, Any]] = [{"kid": key.kid, "algorithms": list(key.algorithms)} for key in found.usable]
        print_json([*used, *({"kid": key.name, "algorithms": [], "dropped": key.reason} for key in found.dropped)])
        return
    print_table(["key", "algorithms"], [(key.kid or "-", ", ".join(key.algorithms)) for key in found.usable])
    for key in found.dropped:
        click.echo(escape_unprintable(f"not used: {key}"))
