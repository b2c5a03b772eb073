"""``fedgate backup``, ``fedgate restore`` and ``fedgate migrate-database``."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.metadata import version as version_of
from pathlib import Path

import click
from sqlalchemy import Connection, select

from broker.commands.operator_audit import audited_change
from broker.commands.options import installation_options, load_settings
from broker.commands.output import json_option, print_fields, print_json
from broker.config.settings import Settings
from broker.runtime.backup import BackupError, opened_backup, write_backup
from broker.runtime.restore import RestoreReport
from broker.runtime.restore import restore as restore_rows
from broker.runtime.service_lock import is_served
from broker.wiring import now, open_store, random
from iam.store.schema import account
from iam.store.store import Store
from iam.store.transfer import copy_revision, copy_rows, differences, digests
from iam.store.vault import Vault

# What each table of the database holds, in the words of the API and the pages.
TABLE_CONTENTS: Mapping[str, str] = {
    "account": "accounts",
    "iam_user": "users",
    "iam_group": "groups",
    "membership": "group memberships",
    "iam_role": "roles",
    "role_federated": "trusted identity providers of roles",
    "iam_policy": "managed policies",
    "policy_version": "versions of managed policies",
    "attachment": "policy attachments",
    "inline_policy": "inline policies",
    "resource_policy": "resource policies",
    "guardrail": "guardrails",
    "instance_profile": "instance profiles",
    "tag": "tags",
    "access_key": "access keys",
    "root_login": "passwords of root users",
    "login_profile": "passwords of users",
    "password_mark": "password changes of directory users",
    "mfa_device": "second factors",
    "second_factor": "second factors",
    "recovery_code": "recovery codes",
    "role_mark": "pinned and recently used roles",
    "saml_provider": "SAML identity providers",
    "saml_private_key": "keys of SAML identity providers",
    "saml_service_key": "SAML signing keys",
    "oidc_provider": "OpenID Connect identity providers",
    "sign_in_client": "OpenID Connect clients",
    "outbound_issuer": "token issuers",
    "issuer_key": "signing keys of token issuers",
    "sealing_key": "sealing keys of sessions",
    "revocation_generation": "revocations",
    "used_marker": "used proofs",
    "failed_attempt": "counts of failed sign-ins",
    "audit_record": "audit records",
}

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_file
@installation_options
@json_option
def backup(file: Path, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Write the database into FILE, a SQLite database; the service may be running.

    FILE holds users, roles, policies, keys and the records of changes. It does not hold the master key, the settings
    and the audit folder: copy them too, the master key to another place. Secrets in FILE are encrypted under the
    master key. An existing FILE is not replaced.
    """
    settings = load_settings(config, data)
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, _plain_errors():
        manifest = write_backup(store, vault, file.absolute(), version=version_of("fedgate"), now=now(), random=random)
    rows = sum(table.rows for table in manifest.tables.values())
    accounts = manifest.tables["account"].rows
    if as_json:
        print_json({"file": str(file), "created": manifest.created, "accounts": accounts, "rows": rows})
    else:
        master_key = "FEDGATE_MASTER_KEY" if not settings.master_key_file.exists() else str(settings.master_key_file)
        print_fields(
            {
                "backup": str(file),
                "accounts": str(accounts),
                "rows": str(rows),
                "also keep": f"the master key ({master_key}), in another place: without it the backup is of no use",
            }
        )


@click.command()
@_file
@click.option("--yes", is_flag=True, help="Do not ask before the present content of the database is replaced.")
@installation_options
@json_option
def restore(file: Path, config: Path | None, data: Path | None, *, yes: bool, as_json: bool) -> None:
    """Replace the content of the database by that of FILE, which `fedgate backup` wrote.

    The service may be running; its requests see the state before or after. Every session ends, and proofs that were
    issued before the restore are not accepted again. Users, policies, passwords and access keys are as they were when
    the backup was made: also those that were deleted or replaced since then.
    """
    settings = load_settings(config, data)
    vault = Vault(settings.master_key)
    with (
        _plain_errors(),
        closing(open_store(settings)) as store,
        opened_backup(file, vault, settings.data_dir) as (manifest, source),
    ):
        if not yes:
            _confirm(store, manifest.created)
        with audited_change(settings, store, "RestoreBackup") as change:
            report = restore_rows(source, change.tx, vault, now=now(), random=random)
            change.parameters = {"file": str(file), "created": manifest.created, "by": manifest.version}
    _print_report(report, manifest.created, as_json=as_json)


@click.command("migrate-database")
@click.argument("url")
@installation_options
@json_option
def migrate_database(url: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Copy everything to the empty database at URL, such as postgresql+psycopg://fedgate@db.internal/fedgate.

    Stop the service first. The number of rows and a checksum of each table are compared before the copy is committed.
    The present database is not changed. Set database.url to URL afterwards.
    """
    settings = load_settings(config, data)
    _require_stopped(settings)
    vault = Vault(settings.master_key)
    with _plain_errors(), closing(open_store(settings)) as source, closing(_open_target(url, vault)) as target:
        rows = _copy(settings, source, target)
    if as_json:
        print_json({"url": _without_password(target), "rows": rows})
    else:
        print_fields({"copied to": _without_password(target), **_counts(rows)})
        click.echo("Set database.url (FEDGATE_DATABASE_URL) to this URL, then start the service.", err=True)


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except BackupError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _confirm(store: Store, created: str) -> None:
    with store.read() as tx:
        accounts = len(tx.scalars(select(account.c.id)).all())
    if accounts:
        click.confirm(
            f"Accounts in the database: {accounts}. Replace everything by the backup of {created}?",
            abort=True,
            err=True,
        )


def _print_report(report: RestoreReport, created: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "created": created,
                "rows": report.rows,
                "revived_access_keys": report.revived_keys,
                "removed_recovery_codes": report.removed_codes,
            }
        )
        return
    print_fields({"backup of": created, **_counts(report.rows)})
    click.echo("All sessions have ended. People sign in again; programs get new credentials.", err=True)
    if report.removed_codes:
        click.echo(f"{report.removed_codes} recovery codes that may have been used since were removed.", err=True)
    if report.revived_keys:
        click.echo(f"Active again, though deleted or inactive before: {', '.join(report.revived_keys)}", err=True)


def _counts(rows: Mapping[str, int]) -> Mapping[str, str]:
    """Return how many there are of each thing that the tables hold, in the order of ``TABLE_CONTENTS``."""
    counts: dict[str, int] = {}
    for table, content in TABLE_CONTENTS.items():
        if table in rows:
            counts[content] = counts.get(content, 0) + rows[table]
    return {content: str(count) for content, count in counts.items()}


def _open_target(url: str, vault: Vault) -> Store:
    try:
        return Store(url, vault, monotonic=lambda: 0.0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from error


def _copy(settings: Settings, source: Store, target: Store) -> Mapping[str, int]:
    target.migrate()
    # The write transaction keeps other writers out until the copy is complete.
    with source.write(bump_revision=False) as original, audited_change(settings, target, "MigrateDatabase") as change:
        _require_empty(change.tx)
        copy_rows(original, change.tx)
        copy_revision(original, change.tx)
        expected = digests(original)
        different = differences(expected, digests(change.tx))
        if different:
            raise BackupError(f"The copy differs from the original in these tables: {', '.join(different)}.")
        change.parameters = {"to": _without_password(target)}
    return {name: digest.rows for name, digest in expected.items() if digest.rows}


def _require_empty(tx: Connection) -> None:
    if tx.execute(select(account.c.id).limit(1)).first() is not None:
        raise BackupError("The database at URL has accounts already. Give an empty database.")


def _require_stopped(settings: Settings) -> None:
    """Refuse while the service runs: what it wrote after the copy would be lost."""
    if is_served(settings.data_dir):
        raise click.ClickException("The service is running. Stop the service first.")


def _without_password(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=True)
