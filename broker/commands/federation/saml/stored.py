"""The stored SAML identity providers, as the commands find, change and print them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Row, select, update

from broker.audit.operator import OperatorChange
from broker.commands.operator_audit import audited_change
from broker.commands.options import read_text
from broker.commands.output import escape_unprintable, print_fields, print_json
from broker.config.settings import Settings
from broker.providers.saml.addresses import ServiceProviderUrls
from broker.providers.saml.metadata_refresh import refresh_interval
from broker.runtime.fetch import FetchError
from broker.wiring import build_fetcher, now, open_store, random
from iam.arn import iam_arn, root_arn
from iam.call import Call
from iam.clock import iso_date, to_milliseconds
from iam.errors import NoSuchEntity
from iam.operations.federation.saml_providers import arn_of, parse_metadata_document
from iam.principal import principal_from_arn
from iam.saml.stored_metadata import load_metadata
from iam.store.schema import SAML_PROVIDER_COLUMNS, account, saml_provider
from iam.store.vault import Vault

_COLUMNS = saml_provider.c
account_option = click.option("--account", "account_id", help="Account ID; optional if there is only one account.")


def read_metadata(settings: Settings, source: str) -> tuple[str, dict[str, Any]]:
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
def audited_provider_change(
    settings: Settings, account_id: str | None, event: str
) -> Iterator[tuple[Call, OperatorChange]]:
    """Give a call as the root user of an account, and the change that is recorded."""
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, audited_change(settings, store, event) as change:
        account_id = change.account_id = resolve_account_id(change.tx, account_id)
        root = principal_from_arn(root_arn(account_id))
        yield Call(change.tx, root, account_id, now(), random, vault, settings.limits), change


def resolve_account_id(tx: Connection, account_id: str | None) -> str:
    """Return the chosen account, or the only one; raise UsageError where there are several, and NoSuchEntity."""
    ids = list(tx.scalars(select(account.c.id)))
    if account_id is None and len(ids) == 1:
        return str(ids[0])
    if account_id is None:
        raise click.UsageError("There are several accounts: select one with --account.")
    if account_id not in ids:
        raise NoSuchEntity(f"There is no account {account_id}.")
    return account_id


def provider_row(tx: Connection, account_id: str, name: str, *, document: bool = False) -> Row[Any]:
    """Return a provider, with the text of its metadata only where that is asked for; raise NoSuchEntity."""
    mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
    columns = tuple(_COLUMNS) if document else SAML_PROVIDER_COLUMNS
    row = tx.execute(select(*columns).where(*mine)).one_or_none()
    if row is None:
        raise NoSuchEntity(f"There is no SAML provider {iam_arn(account_id, 'saml-provider/', name, '')}.")
    return row


def set_columns(tx: Connection, account_id: str, name: str, values: dict[str, Any]) -> None:
    """Change columns of a provider, if any are given."""
    if values:
        mine = (_COLUMNS.account_id == account_id, _COLUMNS.name == name)
        tx.execute(update(saml_provider).where(*mine).values(values))


def provider_facts(settings: Settings, row: Row[Any]) -> dict[str, Any]:
    """Return what is shown of a provider, under the keys of the JSON output."""
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


def print_provider(settings: Settings, row: Row[Any], *, as_json: bool) -> None:
    """Print a provider, with the values to enter at the identity provider."""
    facts = provider_facts(settings, row)
    if as_json:
        print_json(facts)
        return
    shown = {label: {True: "yes", False: "no", "": "-"}.get(facts[key], facts[key]) for key, label in _NAMES.items()}
    shown |= {f"not used ({number})": reason for number, reason in enumerate(facts["not_used"], 1)}
    print_fields(shown | ({"last refresh failed": facts["refresh_error"]} if facts["refresh_error"] else {}))
