"""``fedgate demo``: a complete service with a directory, an account and roles, on this machine."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from textwrap import indent
from typing import Any

import click
from rich.console import Console

from broker.commands.options import DATA_VARIABLE, DEMO_FILE
from broker.commands.output import print_json, print_table
from broker.config.loopback import is_loopback, with_host
from broker.config.settings import Settings, embedded_socket
from broker.demo.people import LDIF, Person, people
from broker.demo.provider import demo_config
from broker.demo.reports import signed_requests
from broker.demo.seed import (
    ACCOUNT_ID,
    ADMIN,
    ALIAS,
    DIRECTORY,
    REPORTS,
    ROOT_EMAIL,
    ListedRole,
    SeedResult,
    listed_roles,
    seed,
)
from broker.doors.credential_formats import access_key_exports
from broker.runtime.install import install
from broker.runtime.launcher import LaunchOptions, endpoint_of, launch, listen, stop_event_on_signals
from broker.runtime.processes import ChildProcess, StartupError, spawn
from broker.wiring import now, open_store, random
from iam.store.vault import Vault

_LDIF = "people.ldif"
_SHOWN_BEFORE = "(shown at the first start; --new-keys replaces it)"


# The settings of the demo that the environment may override.
_OVERRIDABLE = {"FEDGATE_REDIS_URL", "FEDGATE_WORKERS"}


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fedgate-data"),
    show_default=True,
    help="The folder for all data; a later start continues with it.",
)
@click.option(
    "--bind",
    default="127.0.0.1:8080",
    show_default=True,
    help="Address and port to listen on; port 0 selects a free one.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON when the service is ready, and nothing else."
)
@click.option("--new-keys", is_flag=True, help="Replace and print the access keys and passwords of root and admin.")
def demo(data: Path, bind: str, *, as_json: bool, new_keys: bool) -> None:
    """Start a demo and serve until Ctrl-C.

    The demo has a directory with users (edit DATA/people.ldif to change them), an account with an administrator, and
    roles that trust groups of the directory. Not for production: the users' passwords are in that file, in clear text.
    """
    stopping = stop_event_on_signals()
    data = data.absolute()
    if not as_json:
        click.echo(f"Starting Fedgate with the data in {data} ...", err=True)
    ldif, config = _prepare(data)
    _lock_folder(data)
    directory, url = _start_directory(ldif)
    parts = [directory]
    try:
        with _listen_beside(bind) as listening:
            reports_url, authz = _page_address(endpoint_of(listening)), _authz_bind(data)
            parts.append(_start_reports(listening, authz))
        _write_config(config, bind, ldif, url)
        _write_resource(config, reports_url, authz)
        environ = {**_environ_without_settings(), DATA_VARIABLE: str(data)}
        settings = install(config, environ).settings
        seeded, roles = _seed(settings, new_keys=new_keys)
    except BaseException:
        for part in parts:
            part.stop()
        raise

    def announce(endpoint: str) -> None:
        facts = _facts(endpoint, seeded, url, people(ldif), roles) | {"reports_url": reports_url}
        if as_json:
            print_json(facts)
        else:
            _print_welcome(facts, ldif)

    launch(
        LaunchOptions(settings, config, environ, tuple(parts), must_be_ready=True, localhost=True), announce, stopping
    )


def _environ_without_settings() -> dict[str, str]:
    """Return the environment without settings: a demo, whose passwords are public, listens only where --bind says."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("FEDGATE_") or name in _OVERRIDABLE
    }


def _prepare(data: Path) -> tuple[Path, Path]:
    """Create the data folder and the LDIF file; return the paths of the LDIF file and the settings file."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        ldif = data / _LDIF
        if not ldif.exists():
            shutil.copyfile(LDIF, ldif)
            ldif.chmod(0o600)
    except OSError as error:
        raise StartupError(f"{error.filename} cannot be created: {error.strerror}") from error
    return ldif, data / DEMO_FILE


def _lock_folder(data: Path) -> None:
    """Lock the folder until this process ends, however it ends; raise StartupError where another process has it."""
    lock = os.open(data / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StartupError(
            f"Another `fedgate demo` uses {data}: stop it, or choose another folder with --data."
        ) from error


def _start_directory(ldif: Path) -> tuple[ChildProcess, str]:
    process = spawn(
        [sys.executable, "-m", "broker.demo.directory", "--ldif", str(ldif), "--bind", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
    )
    child = ChildProcess("demonstration directory", process, stop_timeout=5)
    url = process.stdout.readline().strip() if process.stdout else ""
    if not url:
        child.stop()
        raise StartupError("The demonstration directory did not start; its messages are above.")
    return child, url


def _listen_beside(bind: str) -> socket.socket:
    """Return a listening socket for the API of the demo: on the next port where that is free."""
    host, _, port = bind.rpartition(":")
    with suppress(StartupError, OverflowError):
        return listen(f"{host}:{int(port) + 1 if int(port) else 0}")
    return listen(f"{host}:0")


def _authz_bind(data: Path) -> str:
    """Return where the authorizer of the demo listens; the folder of its socket is private."""
    path = embedded_socket(data).with_name("authz.sock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return f"unix:{path}"


def _start_reports(listening: socket.socket, authz: str) -> ChildProcess:
    fd = listening.fileno()
    command = [sys.executable, "-m", "broker.demo.reports", "--fd", str(fd), "--authorizer", authz]
    return ChildProcess("API of the demo", spawn(command, pass_fds=(fd,)), stop_timeout=5)


def _write_resource(path: Path, url: str, authz: str) -> None:
    """Add the API of the demo to the settings."""
    port = url.rpartition(":")[2]
    lines = ["[authz]", f"bind = {_toml(authz)}", f"[resource.{REPORTS}]", 'kind = "http"']
    lines += [f"hosts = {_toml([f'localhost:{port}', f'127.0.0.1:{port}'])}", f"account = {_toml(ACCOUNT_ID)}"]
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _write_config(path: Path, bind: str, ldif: Path, url: str) -> None:
    config = demo_config(ldif, url, DIRECTORY)
    lines = ["# `fedgate demo` overwrites this file at each start.", "[server]", f"bind = {_toml(bind)}"]
    if not bind.endswith(":0") and is_loopback(f"http://{bind}"):
        # Commands such as `fedgate saml show` tell the addresses that the pages have.
        lines.append(f"public_url = {_toml(_page_address(f'http://{bind}'))}")
    lines += ["development = true", "allow_password_in_query = true", f"[directory.{DIRECTORY}]", 'type = "ldap"']
    for setting in fields(config):
        value = getattr(config, setting.name)
        if setting.name != "name" and (setting.default is MISSING or value != setting.default):
            lines.append(f"{setting.name} = {_toml(value)}")
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    # JSON's strings, arrays, numbers and booleans are valid TOML.
    return json.dumps(value, ensure_ascii=False)


def _seed(settings: Settings, *, new_keys: bool) -> tuple[SeedResult, tuple[ListedRole, ...]]:
    """Create what is not there yet; return the keys, and the roles that the account has now."""
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, store.write() as tx:
        seeded = seed(tx, now=now(), random=random, vault=vault, limits=settings.limits, new_keys=new_keys)
        return seeded, listed_roles(tx)


def _facts(
    endpoint: str, seeded: SeedResult, url: str, users: list[Person], roles: tuple[ListedRole, ...]
) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "sign_in_url": f"{_page_address(endpoint)}/login",
        "account_id": ACCOUNT_ID,
        "root": asdict(seeded.root) | {"email": seeded.root_email, "password": seeded.root_password},
        "admin": asdict(seeded.admin) | {"password": seeded.admin_password},
        "directory": {
            "url": url,
            "users": [{"name": user.name, "password": user.password, "groups": list(user.groups)} for user in users],
        },
        "roles": [{"arn": role.arn, "trusted_groups": list(role.trusted_groups)} for role in roles],
    }


def _page_address(endpoint: str) -> str:
    """Return the address of the pages: by name, because passkeys do not work under an IP address."""
    return with_host(endpoint, "localhost") if is_loopback(endpoint) else endpoint


def _print_welcome(facts: dict[str, Any], ldif: Path) -> None:
    endpoint = _page_address(facts["endpoint"])
    rows = [
        (user["name"], user["password"], ", ".join(_roles_of(user, facts)) or "none")
        for user in facts["directory"]["users"]
    ]
    click.echo(f"\nFedgate serves {endpoint}   (stop with Ctrl-C)\n")
    print_table(["user", "password", "roles"], rows, title=f"Directory users, from {ldif}")
    print_table(["role"], [(role["arn"],) for role in facts["roles"]], title=f"Roles of account {ACCOUNT_ID}")
    _print_sign_in(facts)
    _print_access_key(facts)
    name, password, _ = next((row for row in rows if row[2] != "none" and "," not in row[2]), rows[0])
    program = Path(sys.argv[0]).name if shutil.which("fedgate") else sys.argv[0]
    click.echo("To try it as one of the directory users, in another terminal:")
    click.echo(f"    eval \"$(FEDGATE_PASSWORD='{password}' {program} login {name} --endpoint {endpoint})\"")
    click.echo("    aws sts get-caller-identity")
    click.echo("    aws iam list-roles --query 'Roles[].Arn'\n")
    _print_reports(facts["reports_url"])
    Console().file.flush()


def _roles_of(user: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return the names of the roles that trust a group of somebody."""
    groups = set(user["groups"])
    return [role["arn"].rpartition("/")[2] for role in facts["roles"] if groups & set(role["trusted_groups"])]


def _print_access_key(facts: Mapping[str, Any]) -> None:
    """Print the key of the administrator, ready to paste, together with the address where it is valid."""
    admin = facts["admin"]
    if not admin["secret_access_key"]:
        click.echo(f"Access key of the IAM user {ADMIN}: {admin['access_key_id']} {_SHOWN_BEFORE}\n")
        return
    click.echo(f"Access key of the IAM user {ADMIN}; paste this into another terminal to act as {ADMIN}:")
    exports = access_key_exports(facts["endpoint"], admin["access_key_id"], admin["secret_access_key"])
    click.echo(indent(exports, "    "))


def _print_reports(url: str) -> None:
    """Print how the same credentials open an HTTP API: once allowed, once denied, and from Python."""
    click.echo("Then open an HTTP API with these credentials; its policy lets ReadOnly read, and not delete:")
    read, deletion, by_boto3 = signed_requests(url)
    click.echo(indent(f"{read}\n{deletion}", "    "))
    click.echo(f"{by_boto3}\n")  # from the first column: shell and Python read the spaces


def _print_sign_in(facts: dict[str, Any]) -> None:
    admin, root = facts["admin"]["password"] or _SHOWN_BEFORE, facts["root"]
    email, password = root["email"] or ROOT_EMAIL, root["password"] or _SHOWN_BEFORE
    click.echo("Sign in with a browser:")
    click.echo(f"    directory users: {facts['sign_in_url']}")
    endpoint = _page_address(facts["endpoint"])
    click.echo(f"    IAM user {ADMIN}: {endpoint}/signin/{ALIAS}, password {admin}")
    click.echo(f"    root user {email}: {endpoint}/root, password {password}\n")
