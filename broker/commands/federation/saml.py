"""``fedgate saml``: manages SAML identity providers and the keys of the service provider, and tests responses."""

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row, select, update

from broker.audit.log import AuditLog
from broker.audit.operator import OperatorChange
from broker.commands.federation.sign_in_names import check_name, require_free_name
from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings, read_text
from broker.commands.output import escape_unprintable, format_time, json_option, print_fields, print_json, print_table
from broker.config.settings import Settings
from broker.providers.saml import response_checks, service_keys
from broker.providers.saml.addresses import ServiceProviderUrls
from broker.providers.saml.metadata_refresh import MetadataRefresh, refresh_interval, upcoming_expiries
from broker.providers.saml.provider import SamlServiceProvider, verify_response
from broker.runtime.fetch import FetchError
from broker.wiring import build_fetcher, now, open_store, random
from iam.arn import iam_arn, root_arn
from iam.call import Call
from iam.clock import iso8601, iso_date, parse_iso8601, to_milliseconds
from iam.errors import InvalidInput, NoSuchEntity, ServiceError
from iam.operations.federation.saml_providers import (
    arn_of,
    create_saml_provider,
    delete_saml_provider,
    parse_metadata_document,
    update_saml_provider,
)
from iam.principal import principal_from_arn
from iam.saml.stored_metadata import load_metadata
from iam.store.records import SamlProviderRecord
from iam.store.schema import SAML_PROVIDER_COLUMNS, account, saml_provider
from iam.store.vault import Vault
from sts.federation.saml import names_roles, requested_session, role_pairs
from sts.store.single_use import SingleUse

_COLUMNS = saml_provider.c
_account = click.option("--account", "account_id", help="Account ID; optional if there is only one account.")
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
_SIGNS_AFTER = 7  # days


@click.group()
def saml() -> None:
    """Manage SAML identity providers.

    Each has its own service provider here; `show` prints the values to enter at the identity provider.
    """


# --- providers --------------------------------------------------------------------------------------------------------


@saml.command()
@click.argument("name")
@click.option(
    "--metadata",
    "source",
    required=True,
    metavar="FILE|URL",
    help="SAML metadata; from a URL, it is refreshed automatically.",
)
@_account
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
    text, more = _metadata(settings, source)
    more |= {"idp_initiated": bool(idp_initiated), "map_by_trust": bool(map_by_trust)}
    with _audited_change(settings, account_id, "CreateSAMLProvider") as (call, change):
        create_saml_provider(call, {"Name": name, "SAMLMetadataDocument": text})
        _set(call.tx, call.account_id, name, more)
        change.parameters = {"name": name, "from": source, **more}
        row = _row(call.tx, call.account_id, name)
    _show(settings, row, as_json=as_json)


@saml.command("set")
@click.argument("name")
@click.option(
    "--metadata", "source", metavar="FILE|URL", help="New SAML metadata; from a URL, it is refreshed automatically."
)
@_account
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
    text, more = _metadata(settings, source) if source else ("", {})
    flags = {"idp_initiated": idp_initiated, "map_by_trust": map_by_trust}
    more |= {key: value for key, value in flags.items() if value is not None}
    with _audited_change(settings, account_id, "UpdateSAMLProvider") as (call, change):
        row = _row(call.tx, call.account_id, name)
        if text:
            update_saml_provider(call, {"SAMLProviderArn": arn_of(row), "SAMLMetadataDocument": text})
        _set(call.tx, call.account_id, name, more)
        change.parameters = {"name": name, "from": source, **more}
        row = _row(call.tx, call.account_id, name)
    _show(settings, row, as_json=as_json)


@saml.command("sign-in")
@click.argument("name")
@click.option("--name", "shown", help="Name of the provider on the sign-in page.", show_default="NAME")
@click.option("--remove", is_flag=True, help="Take the provider off the sign-in page.")
@_account
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
    with _audited_change(settings, account_id, "UpdateSAMLProvider") as (call, change):
        row = _row(call.tx, call.account_id, name)
        sign_in_name = None if remove else check_name(shown or name)
        if sign_in_name is not None:
            require_free_name(call.tx, sign_in_name, row.id)
        _set(call.tx, call.account_id, name, {"sign_in_name": sign_in_name})
        change.parameters = {"name": name, "signInName": sign_in_name}
        row = _row(call.tx, call.account_id, name)
    _show(settings, row, as_json=as_json)


@saml.command()
@click.argument("name")
@_account
@installation_options
@json_option
def remove(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove an identity provider: its users can no longer sign in; existing sessions continue."""
    with _audited_change(load_settings(config, data), account_id, "DeleteSAMLProvider") as (call, change):
        arn = arn_of(_row(call.tx, call.account_id, name))
        delete_saml_provider(call, {"SAMLProviderArn": arn})
        change.parameters = {"name": name}
    if as_json:
        print_json({"removed": arn})
    else:
        print_fields({"removed": arn})


@saml.command("list")
@_account
@installation_options
@json_option
def list_(account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List identity providers, with warnings about certificates and metadata that expire within thirty days."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        rows = tx.execute(select(*SAML_PROVIDER_COLUMNS).order_by(_COLUMNS.account_id, _COLUMNS.name_key)).all()
        rows = [row for row in rows if account_id in (None, row.account_id)]
        warnings = [expiry.sentence(now()) for expiry in upcoming_expiries(tx, now())]
    providers = [_facts(settings, row) for row in rows]
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


@saml.command()
@click.argument("name")
@_account
@installation_options
@json_option
def show(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Print the metadata of an identity provider, and the values to enter there."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        row = _row(tx, _account_id(tx, account_id), name)
    _show(settings, row, as_json=as_json)


@saml.command()
@click.argument("name")
@_account
@installation_options
@json_option
def refresh(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Fetch the metadata of an identity provider now."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, closing(AuditLog(settings.audit_dir, sync="always")) as audit:
        with store.read() as tx:
            row = _row(tx, _account_id(tx, account_id), name, document=True)
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
            row = _row(tx, row.account_id, name)
    _show(settings, row, as_json=as_json)


# --- testing a response -----------------------------------------------------------------------------------------


@saml.command()
@click.argument("name")
@click.option(
    "--response",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help="File with the SAMLResponse, in base64 or XML.",
)
@click.option(
    "--at",
    "endpoint",
    type=click.Choice(["sts", "acs"]),
    default="sts",
    help="Check it for AssumeRoleWithSAML, or for the sign-in page.",
)
@click.option("--time", "text", metavar="MOMENT", help="Check it as of this time, such as 2026-01-31T12:00:00Z.")
@_account
@installation_options
@json_option
def test(  # noqa: PLR0913 - one for each option
    name: str,
    file: Path,
    account_id: str | None,
    config: Path | None,
    data: Path | None,
    *,
    endpoint: str,
    text: str | None,
    as_json: bool,
) -> None:
    """Run every check on a SAML response and print the results, the roles and the session settings that it asks for.

    The response can still be used afterwards. A browser's developer tools show it as the form field SAMLResponse. Exit
    status: 1 where it is refused.
    """
    settings = load_settings(config, data)
    response = read_text(file).strip()
    if response.startswith("<"):
        response = b64encode(response.encode()).decode()
    at = _moment(text)
    with closing(open_store(settings)) as store:
        with store.read() as tx:
            arn = arn_of(_row(tx, _account_id(tx, account_id), name))
            keys = service_keys.load(tx, Vault(settings.master_key))
        provider = store.saml_provider(arn)
        if provider is None:
            raise NoSuchEntity(f"There is no SAML provider {arn}.")
    service_provider = SamlServiceProvider(
        settings.public_url, timedelta(seconds=settings.saml_clock_skew), lambda: [key.private for key in keys]
    )
    expected = (
        service_provider.expected_at_sts(provider, at)
        if endpoint == "sts"
        else service_provider.expected_at_acs(provider, at)
    )
    results = [*_not_used("metadata", "Metadata, 2.4", provider.metadata.dropped), *_steps(response, expected)]
    if not results[-1]["refused"]:
        results += _session_settings(provider, response, expected)
    if as_json:
        print_json(results)
    else:
        for result in results:
            _print_step(result)
    if any(result["refused"] for result in results):
        raise SystemExit(1)


def _print_step(result: dict[str, Any]) -> None:
    outcome = "FAIL" if result["refused"] else "pass"
    click.echo(escape_unprintable(f"{outcome}  {result['step']}  [{result['clause']}]"))
    for key in ("refused", "detail", "told"):
        if result.get(key):
            click.echo(escape_unprintable(f"      {result[key]}"))


def _moment(text: str | None) -> datetime:
    if text is None:
        return now()
    try:
        return parse_iso8601(text).astimezone(UTC)
    except ValueError as error:
        raise click.BadParameter(f"{text} is not a time such as 2026-01-31T12:00:00Z") from error


def _steps(response: str, expected: response_checks.ExpectedResponse) -> Iterator[dict[str, Any]]:
    for step, error in response_checks.run_checks(response, expected):
        refused = "" if error is None else str(error)
        detail = error.log if isinstance(error, ServiceError) and error.log != error.message else ""
        yield {"step": step.name, "clause": step.clause, "refused": refused, "detail": detail}


def _not_used(step: str, clause: str, reasons: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what of the metadata or the assertion is left out, which refuses nothing."""
    for reason in reasons:
        yield {"step": step, "clause": clause, "refused": "", "told": f"not used: {reason}"}


def _session_settings(
    provider: SamlProviderRecord, response: str, expected: response_checks.ExpectedResponse
) -> Iterator[dict[str, Any]]:
    """Yield the roles, the session settings and the subject that the attributes ask for."""
    assertion, verified = verify_response(provider, response, expected)
    yield from _not_used("attributes that are not used", "Core, 2.7.3", verified.dropped)
    pairs = role_pairs(assertion)
    roles = ", ".join(role for role, other in pairs if other == provider.arn)
    by_trust = provider.map_by_trust and not names_roles(assertion)
    yield {
        "step": "roles",
        "clause": "IAM User Guide, SAML assertions",
        "refused": "" if roles or by_trust else "no Role of this provider",
        "told": roles or "by trust",
    }
    try:
        session, refused = str(requested_session(assertion)._asdict()), ""
    except ServiceError as error:
        session, refused = "", error.message
    yield {"step": "session", "clause": "IAM User Guide, SAML assertions", "refused": refused, "told": session}
    subject = f"{assertion.subject} ({assertion.name_format})"
    yield {"step": "subject", "clause": "Core, 2.2.3", "refused": "", "told": subject}


# --- service provider keys -------------------------------------------------------------------------------------------


@saml.command()
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


@saml.command("rotate-key")
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


@saml.command("remove-key")
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


# --- accounts and providers -------------------------------------------------------------------------------------------


def _metadata(settings: Settings, source: str) -> tuple[str, dict[str, Any]]:
    """Return the metadata, and the columns that say where it comes from and when to fetch it again."""
    if "://" not in source:
        return read_text(Path(source)), {"metadata_url": None, "refresh_at": None, "refresh_error": None}
    try:
        text = build_fetcher(settings).get(source).decode()
    except (FetchError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{source}: {escape_unprintable(str(error))}") from error
    metadata = parse_metadata_document(text, now())
    at = to_milliseconds(now() + refresh_interval(metadata, now()))
    return text, {"metadata_url": source, "refresh_at": at, "refresh_error": None}


@contextmanager
def _audited_change(settings: Settings, account_id: str | None, event: str) -> Iterator[tuple[Call, OperatorChange]]:
    """Give a call as the root user of an account, and the change that is recorded."""
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, audited_change(settings, store, event) as change:
        account_id = change.account_id = _account_id(change.tx, account_id)
        root = principal_from_arn(root_arn(account_id))
        yield Call(change.tx, root, account_id, now(), random, vault, settings.limits), change


def _account_id(tx: Connection, account_id: str | None) -> str:
    ids = list(tx.scalars(select(account.c.id)))
    if account_id is None and len(ids) == 1:
        return str(ids[0])
    if account_id is None:
        raise click.UsageError("There are several accounts: select one with --account.")
    if account_id not in ids:
        raise NoSuchEntity(f"There is no account {account_id}.")
    return account_id


def _row(tx: Connection, account_id: str, name: str, *, document: bool = False) -> Row[Any]:
    """Return a provider, with the text of its metadata only where that is asked for; raise NoSuchEntity."""
    mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
    columns = tuple(_COLUMNS) if document else SAML_PROVIDER_COLUMNS
    row = tx.execute(select(*columns).where(*mine)).one_or_none()
    if row is None:
        raise NoSuchEntity(f"There is no SAML provider {iam_arn(account_id, 'saml-provider/', name, '')}.")
    return row


def _set(tx: Connection, account_id: str, name: str, values: dict[str, Any]) -> None:
    if values:
        mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
        tx.execute(update(saml_provider).where(*mine).values(values))


def _facts(settings: Settings, row: Row[Any]) -> dict[str, Any]:
    metadata = load_metadata(row.parsed)
    service_provider = ServiceProviderUrls(settings.public_url, row.account_id, row.name)
    return {
        "provider": arn_of(row),
        "entity_id": metadata.entity_id,
        "certificate_until": iso_date(max(certificate.until for certificate in metadata.certificates)),
        "metadata_from": row.metadata_url or "a file",
        "refresh_error": row.refresh_error or "",
        "idp_initiated": row.idp_initiated,
        "map_by_trust": row.map_by_trust,
        "sign_in_name": row.sign_in_name or "",
        "our_entity_id": service_provider.entity_id,
        "our_acs": service_provider.acs,
        "our_logout": service_provider.logout,
        "sign_in_at": service_provider.login,
        "not_used": list(metadata.dropped),
    }


_NAMES = {
    "provider": "provider",
    "entity_id": "entity id",
    "certificate_until": "certificate until",
    "metadata_from": "metadata from",
    "idp_initiated": "IdP-initiated sign-in",
    "map_by_trust": "roles by trust policy",
    "sign_in_name": "on the sign-in page as",
    "our_entity_id": "our entity id and metadata",
    "our_acs": "our ACS",
    "our_logout": "our logout",
    "sign_in_at": "sign in at",
}


def _show(settings: Settings, row: Row[Any], *, as_json: bool) -> None:
    facts = _facts(settings, row)
    if as_json:
        print_json(facts)
        return
    shown = {label: {True: "yes", False: "no", "": "-"}.get(facts[key], facts[key]) for key, label in _NAMES.items()}
    shown |= {f"not used ({number})": reason for number, reason in enumerate(facts["not_used"], 1)}
    print_fields(shown | ({"last refresh failed": facts["refresh_error"]} if facts["refresh_error"] else {}))
