"""``fedgate saml``: identity providers that speak SAML, what is wrong with a response, and our own signing keys."""

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
from iam.saml.metadata import parse_metadata
from iam.store.records import SamlProviderRecord
from iam.store.schema import account, saml_provider
from iam.store.vault import Vault
from sts.federation.saml import names_roles, requested_session, role_pairs
from sts.store.single_use import SingleUse

_COLUMNS = saml_provider.c
_account = click.option("--account", "account_id", help="The account's id; may be left out where there is only one.")
_idp_initiated = click.option(
    "--idp-initiated/--no-idp-initiated",
    default=None,
    help="Accept responses that nobody here had asked for. saml2aws and portals of identity providers need it.",
)
_map_by_trust = click.option(
    "--map-by-trust/--no-map-by-trust",
    default=None,
    help="People without Role attributes get the roles whose trust policies let them in.",
)
_NAME = re.compile(r"[\w._-]{1,128}", re.ASCII)
_SIGNS_AFTER = 7  # days


@click.group()
def saml() -> None:
    """Look after SAML identity providers.

    Each has a service provider of its own here; `show` prints what the identity provider's administrator enters.
    """


# --- providers --------------------------------------------------------------------------------------------------------


@saml.command()
@click.argument("name")
@click.option(
    "--metadata", "source", required=True, metavar="FILE|URL", help="Its metadata; from a URL it stays fresh."
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
    """Add an identity provider, and print what to enter there."""
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
@click.option("--metadata", "source", metavar="FILE|URL", help="New metadata; from a URL it stays fresh.")
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
    """Change an identity provider; what is not named stays."""
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


@saml.command()
@click.argument("name")
@_account
@installation_options
@json_option
def remove(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Remove an identity provider: its people are let in no more, sessions that they have stay."""
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
    """List identity providers; what ends within thirty days is told below."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        rows = tx.execute(select(saml_provider).order_by(_COLUMNS.account_id, _COLUMNS.name_key)).all()
        rows = [row for row in rows if account_id in (None, row.account_id)]
        warnings = [one.sentence(now()) for one in upcoming_expiries(tx, now())]
    found = [_facts(settings, row) for row in rows]
    if as_json:
        print_json({"providers": found, "warnings": warnings})
        return
    table = [
        (row.account_id, row.name, one["entity_id"], one["certificate_until"])
        for row, one in zip(rows, found, strict=True)
    ]
    print_table(["account", "provider", "entity id", "certificate until"], table)
    for one in warnings:
        click.echo(escape_unprintable(f"warning: {one}"))


@saml.command()
@click.argument("name")
@_account
@installation_options
@json_option
def show(name: str, account_id: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Print what an identity provider says of itself, and what to enter there about us."""
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
            row = _row(tx, _account_id(tx, account_id), name)
        if row.metadata_url is None:
            raise InvalidInput(f"{name} has its metadata from a file: give it anew with `fedgate saml set`.")
        single_use = SingleUse(store, monotonic=lambda: 0.0)
        refreshing = MetadataRefresh(
            store=store,
            fetcher=build_fetcher(settings),
            audit=audit,
            single_use=single_use,
            now=now,
            random=random,
        )
        wrong = refreshing.refresh(row)
        if wrong:
            raise click.ClickException(f"{row.metadata_url}: {escape_unprintable(wrong)}")
        with store.read() as tx:
            row = _row(tx, row.account_id, name)
    _show(settings, row, as_json=as_json)


# --- a response, step by step -----------------------------------------------------------------------------------------


@saml.command()
@click.argument("name")
@click.option(
    "--response", "file", required=True, type=click.Path(path_type=Path), help="The SAMLResponse: base64 or XML."
)
@click.option(
    "--at",
    "door",
    type=click.Choice(["sts", "acs"]),
    default="sts",
    help="For AssumeRoleWithSAML, or for the sign-in page.",
)
@click.option("--time", "text", metavar="MOMENT", help="As if it were this moment: 2026-01-31T12:00:00Z.")
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
    door: str,
    text: str | None,
    as_json: bool,
) -> None:
    """Say what each step of the gate thinks of a response, and what it would ask of a session.

    Nothing is used up. A browser's developer tools show the response as the form field SAMLResponse. Exit status: 1
    where it is refused.
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
        settings.public_url, timedelta(seconds=settings.saml_clock_skew), lambda: [one.private for one in keys]
    )
    expected = (
        service_provider.expected_at_sts(provider, at)
        if door == "sts"
        else service_provider.expected_at_acs(provider, at)
    )
    found = [*_steps(response, expected)]
    if not found[-1]["refused"]:
        found += _expectations(provider, response, expected)
    if as_json:
        print_json(found)
    else:
        for one in found:
            click.echo(escape_unprintable(f"{'FAIL' if one['refused'] else 'pass'}  {one['step']}  [{one['clause']}]"))
            for key in ("refused", "detail", "told"):
                if one.get(key):
                    click.echo(escape_unprintable(f"      {one[key]}"))
    if any(one["refused"] for one in found):
        raise SystemExit(1)


def _moment(text: str | None) -> datetime:
    if text is None:
        return now()
    try:
        return parse_iso8601(text).astimezone(UTC)
    except ValueError as error:
        raise click.BadParameter(f"{text} is no moment such as 2026-01-31T12:00:00Z") from error


def _steps(response: str, expected: response_checks.ExpectedResponse) -> Iterator[dict[str, Any]]:
    for step, error in response_checks.run_checks(response, expected):
        refused = "" if error is None else str(error)
        detail = error.log if isinstance(error, ServiceError) and error.log != error.message else ""
        yield {"step": step.name, "clause": step.clause, "refused": refused, "detail": detail}


def _expectations(
    provider: SamlProviderRecord, response: str, expected: response_checks.ExpectedResponse
) -> Iterator[dict[str, Any]]:
    """Yield what the attributes ask of a session."""
    found, _ = verify_response(provider, response, expected)
    pairs = role_pairs(found)
    roles = ", ".join(role for role, other in pairs if other == provider.arn)
    lacking = "" if roles or (provider.map_by_trust and not names_roles(found)) else "no Role of this provider"
    yield {
        "step": "roles",
        "clause": "IAM User Guide, SAML assertions",
        "refused": lacking,
        "told": roles or "by trust",
    }
    try:
        told, wrong = str(requested_session(found)._asdict()), ""
    except ServiceError as error:
        told, wrong = "", error.message
    yield {"step": "session", "clause": "IAM User Guide, SAML assertions", "refused": wrong, "told": told}
    yield {"step": "subject", "clause": "Core, 2.2.3", "refused": "", "told": f"{found.subject} ({found.name_format})"}


# --- our own keys -----------------------------------------------------------------------------------------------------


@saml.command()
@installation_options
@json_option
def keys(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the keys of our service providers: all are published, one signs."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, store.read() as tx:
        found = service_keys.load(tx, Vault(settings.master_key))
    at = to_milliseconds(now())
    signing = next((one.id for one in found if one.signs_from <= at), None)
    rows = [(one.id, format_time(one.created), format_time(one.signs_from), one.id == signing) for one in found]
    if as_json:
        print_json(
            [{"id": key, "created": made, "signs_from": start, "signs": now_} for key, made, start, now_ in rows]
        )
    else:
        print_table(
            ["key", "created", "signs from", "use"], [(*row[:3], "signs" if row[3] else "opens") for row in rows]
        )


@saml.command("rotate-key")
@click.option(
    "--signs-after", "days", type=click.IntRange(0, 365), default=_SIGNS_AFTER, show_default=True, help="Days."
)
@installation_options
@json_option
def rotate_key(days: int, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Make a new key: published at once, signing when identity providers have had time to read our metadata anew."""
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
    """Remove a key that signs no more; what is still encrypted for it cannot be opened from then on."""
    settings = load_settings(config, data)
    with closing(open_store(settings)) as store, audited_change(settings, store, "RemoveSAMLServiceKey") as change:
        service_keys.remove(change.tx, key_id, now())
        change.parameters = {"id": key_id}
    if as_json:
        print_json({"removed": key_id})
    else:
        print_fields({"removed": key_id})


# --- small parts ------------------------------------------------------------------------------------------------------


def _metadata(settings: Settings, source: str) -> tuple[str, dict[str, Any]]:
    """Return metadata and, as columns, where it comes from and when it is fetched again."""
    if "://" not in source:
        return read_text(Path(source)), {"metadata_url": None, "refresh_at": None, "refresh_error": None}
    try:
        text = build_fetcher(settings).get(source).decode()
    except (FetchError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{source}: {escape_unprintable(str(error))}") from error
    found = parse_metadata_document(text, now())
    at = to_milliseconds(now() + refresh_interval(found, now()))
    return text, {"metadata_url": source, "refresh_at": at, "refresh_error": None}


@contextmanager
def _audited_change(settings: Settings, account_id: str | None, event: str) -> Iterator[tuple[Call, OperatorChange]]:
    """Give a call of the account's owner, and its record."""
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
        raise click.UsageError("There are several accounts: name one with --account.")
    if account_id not in ids:
        raise NoSuchEntity(f"There is no account {account_id}.")
    return account_id


def _row(tx: Connection, account_id: str, name: str) -> Row[Any]:
    mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
    row = tx.execute(select(saml_provider).where(*mine)).one_or_none()
    if row is None:
        raise NoSuchEntity(f"There is no SAML provider {iam_arn(account_id, 'saml-provider/', name, '')}.")
    return row


def _set(tx: Connection, account_id: str, name: str, values: dict[str, Any]) -> None:
    if values:
        mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
        tx.execute(update(saml_provider).where(*mine).values(values))


def _facts(settings: Settings, row: Row[Any]) -> dict[str, Any]:
    found = parse_metadata(row.metadata.encode())
    here = ServiceProviderUrls(settings.public_url, row.account_id, row.name)
    return {
        "provider": arn_of(row),
        "entity_id": found.entity_id,
        "certificate_until": iso_date(max(one.until for one in found.certificates)),
        "metadata_from": row.metadata_url or "a file",
        "refresh_error": row.refresh_error or "",
        "idp_initiated": row.idp_initiated,
        "map_by_trust": row.map_by_trust,
        "our_entity_id": here.entity_id,
        "our_acs": here.acs,
        "our_logout": here.logout,
        "sign_in_at": here.login,
    }


_NAMES = {
    "provider": "provider",
    "entity_id": "entity id",
    "certificate_until": "certificate until",
    "metadata_from": "metadata from",
    "idp_initiated": "unasked sign-in",
    "map_by_trust": "roles by trust",
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
    shown = {label: {True: "yes", False: "no"}.get(facts[key], facts[key]) for key, label in _NAMES.items()}
    print_fields(shown | ({"last refresh failed": facts["refresh_error"]} if facts["refresh_error"] else {}))
