"""``fedgate init`` and ``fedgate account``."""

import sys
from contextlib import closing
from pathlib import Path

import click

from broker.commands.operator_audit import audited_change
from broker.commands.options import (
    CONFIG_FILE,
    find_settings_file,
    installation_options,
    installed_settings_file,
    load_settings,
)
from broker.commands.output import format_time, json_option, print_fields, print_json, print_table
from broker.commands.shell_output import EnvCommand
from broker.config.settings import Settings
from broker.doors.credential_formats import access_key_exports
from broker.runtime.install import install
from broker.wiring import now, open_store, random
from iam.accounts import create_account, list_accounts
from iam.credentials.password_policy import policy_of, random_password
from iam.credentials.root_login import set_root_login
from iam.store.vault import Vault

_EXAMPLE = """# Settings of this Fedgate; docs/reference/settings.md explains all of them.

[server]
bind = "127.0.0.1:8080"
# public_url = "https://sts.example.com"     # the address that browsers use, if behind a TLS proxy
# trusted_proxies = ["10.0.0.0/8"]

[data]
dir = "."

# [database]
# url = "postgresql+psycopg://fedgate@db.internal/fedgate"

# [redis]
# url = "redis://:PASSWORD@redis.internal:6379/0"

# [directory.corp]
# type = "ldap"
# urls = ["ldaps://ldap.example.com"]
# user_base = "ou=people,dc=example,dc=com"
# bind_dn = "cn=fedgate,ou=services,dc=example,dc=com"
# bind_password_file = "keys/ldap-password"

# [authz]
# bind = "127.0.0.1:8081"     # where a reverse proxy asks whether a request may pass

# [resource.api]
# kind = "http"
# hosts = ["api.example.com"]
# account = "111122223333"
"""


@click.command()
@installation_options
@json_option
def init(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Create the data folder, the keys, the database and an example of a settings file.

    Existing files are not changed; no example is written where --config or FEDGATE_CONFIG names a settings file. Next:
    `fedgate account create`, then `fedgate run`.
    """
    file, environ = find_settings_file(config, data)
    installed = install(file, environ)
    created = {**installed.created, **_settings_file(installed_settings_file(config, data), installed.settings)}
    if as_json:
        print_json({"data": str(installed.settings.data_dir), "made": created})
    else:
        print_fields(created)


def _settings_file(used: Path | None, settings: Settings) -> dict[str, str]:
    """Write the example of a settings file where none is in use; return which file is used from here on, as a fact."""
    if used is not None:
        return {f"settings {used}": "kept"}
    example = settings.data_dir / CONFIG_FILE
    example.write_text(_EXAMPLE, encoding="utf-8")
    return {f"settings {example}": "created"}


@click.group()
def account() -> None:
    """Create and list accounts, and set the password of their root user."""


@account.command("create", cls=EnvCommand)
@click.option("--id", "account_id", help="Twelve digits; the default is a random id.")
@click.option("--alias", help="A name for the account: 3 to 63 lowercase letters, digits and single hyphens.")
@click.option(
    "--env",
    "as_exports",
    is_flag=True,
    help="Print commands that set the access key and the address of the service in bash and zsh.",
)
@installation_options
@json_option
def account_create(
    account_id: str | None,
    alias: str | None,
    config: Path | None,
    data: Path | None,
    *,
    as_exports: bool,
    as_json: bool,
) -> None:
    """Create an account and print the access key of its root user; the secret is shown only now.

    The service may be running or not. To create an account and act as its root user in this shell:

        eval "$(fedgate account create --env)"
    """
    settings = load_settings(config, data)
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, audited_change(settings, store, "CreateAccount") as change:
        new = create_account(change.tx, account_id=account_id, alias=alias, now=now(), random=random, vault=vault)
        change.account_id, change.parameters = new.account_id, {"alias": alias}
    root = {"access_key_id": new.root_access_key_id, "secret_access_key": new.root_secret}
    if as_exports:
        click.echo(f"Account {new.account_id}; its root user has the access key {new.root_access_key_id}.", err=True)
        click.echo(access_key_exports(settings.public_url, new.root_access_key_id, new.root_secret), nl=False)
    elif as_json:
        print_json({"account_id": new.account_id, "alias": new.alias, "root": root})
    else:
        print_fields({"account": new.account_id, "alias": new.alias or "-", **root})


@account.command("root")
@click.option("--account", "account_id", required=True, help="The account's id.")
@click.option("--email", required=True, help="The e-mail address to sign in with; unique among root users.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of generating one.")
@installation_options
@json_option
def account_root(
    account_id: str, email: str, config: Path | None, data: Path | None, *, password_stdin: bool, as_json: bool
) -> None:
    """Set the e-mail address and password with which the root user of an account signs in to the pages.

    The password is generated and shown only now; it must be changed at the first sign-in. A previous address and
    password of the root user are replaced; its access keys and second factors are not changed.
    """
    settings = load_settings(config, data)
    given = _password_from_stdin() if password_stdin else None
    with closing(open_store(settings)) as store, audited_change(settings, store, "SetRootLogin") as change:
        password = given or random_password(policy_of(change.tx, account_id), random)
        set_root_login(
            change.tx, account_id, email, password, now=now(), random=random, reset_required=not password_stdin
        )
        change.account_id, change.parameters = account_id, {"email": email, "resetRequired": not password_stdin}
    shown = {} if password_stdin else {"password": password}
    if as_json:
        print_json({"account_id": account_id, "email": email, **shown, "reset_required": not password_stdin})
    else:
        print_fields({"account": account_id, "email": email, **shown})


def _password_from_stdin() -> str:
    """Return the first line of standard input; raise UsageError where it is empty."""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("Standard input has no password.")
    return password


@account.command("list")
@installation_options
@json_option
def account_list(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """List the accounts."""
    with closing(open_store(load_settings(config, data))) as store, store.read() as tx:
        accounts = list_accounts(tx)
    if as_json:
        print_json(
            [
                {"account_id": found.id, "alias": found.alias, "created": format_time(found.created)}
                for found in accounts
            ]
        )
    else:
        print_table(
            ["account", "alias", "created"], [(one.id, one.alias or "-", format_time(one.created)) for one in accounts]
        )
