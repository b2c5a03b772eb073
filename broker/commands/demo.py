"""``fedgate demo``: everything on this machine, from an empty folder to working credentials."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from broker.commands.options import DATA_VARIABLE, DEMO_FILE
from broker.commands.output import print_json, print_table
from broker.config.settings import Settings
from broker.demo.people import LDIF, Person, people
from broker.demo.provider import demo_config
from broker.demo.seed import ACCOUNT_ID, ADMIN, ALIAS, DIRECTORY, ROLES, ROOT_EMAIL, SeedResult, seed
from broker.runtime.install import install
from broker.runtime.launcher import LaunchOptions, launch, stop_event_on_signals
from broker.runtime.processes import ChildProcess, StartupError, spawn
from broker.wiring import now, open_store, random
from iam.store.vault import Vault

_LDIF = "people.ldif"
_SHOWN_BEFORE = "(shown at the first start; --new-keys replaces it)"


# What the environment may choose for a trial: a Redis of one's own, and how many workers.
_MAY_BE_CHOSEN = {"FEDGATE_REDIS_URL", "FEDGATE_WORKERS"}


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fedgate-data"),
    show_default=True,
    help="Where everything is kept; started again, it is found again.",
)
@click.option("--bind", default="127.0.0.1:8080", show_default=True, help="Address and port; port 0 takes a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, and nothing else.")
@click.option("--new-keys", is_flag=True, help="Replace keys and passwords of root and admin, and show the new ones.")
def demo(data: Path, bind: str, *, as_json: bool, new_keys: bool) -> None:
    """Start everything for a trial, and serve until Ctrl-C.

    A directory with a handful of people (DATA/people.ldif: change it as you like), an account with an administrator,
    and roles that trust groups of the directory. Not for production: the directory's passwords stand in a file.
    """
    stopping = stop_event_on_signals()
    data = data.absolute()
    ldif, config = _prepare(data)
    _lock_folder(data)
    directory, url = _start_directory(ldif)
    try:
        _write_config(config, bind, ldif, url)
        environ = {**_environ_without_settings(), DATA_VARIABLE: str(data)}
        settings = install(config, environ).settings
        seeded = _seed(settings, new_keys=new_keys)
    except BaseException:
        directory.stop()
        raise

    def announce(endpoint: str) -> None:
        facts = _facts(endpoint, seeded, url, people(ldif))
        if as_json:
            print_json(facts)
        else:
            _welcome(facts, ldif)

    launch(LaunchOptions(settings, config, environ, (directory,), must_be_ready=True), announce, stopping)


def _environ_without_settings() -> dict[str, str]:
    """Return the environment without settings: with passwords that all know, it serves where it was told to."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("FEDGATE_") or name in _MAY_BE_CHOSEN
    }


def _prepare(data: Path) -> tuple[Path, Path]:
    """Make the folder and the file of people; return where people and settings are."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        ldif = data / _LDIF
        if not ldif.exists():
            shutil.copyfile(LDIF, ldif)
            ldif.chmod(0o600)
    except OSError as error:
        raise StartupError(f"{error.filename} cannot be made: {error.strerror}") from error
    return ldif, data / DEMO_FILE


def _lock_folder(data: Path) -> None:
    """Take the folder until this process ends, however it ends; raise NotStarted where another has taken it."""
    lock = os.open(data / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise StartupError(
            f"Another `fedgate demo` serves from {data}: stop it, or choose another folder with --data."
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


def _write_config(path: Path, bind: str, ldif: Path, url: str) -> None:
    config = demo_config(ldif, url, DIRECTORY)
    lines = ["# Written anew at each start of `fedgate demo`.", "[server]", f"bind = {_toml(bind)}"]
    lines += ["development = true", "allow_password_in_query = true", f"[directory.{DIRECTORY}]", 'type = "ldap"']
    for one in fields(config):
        value = getattr(config, one.name)
        if one.name != "name" and (one.default is MISSING or value != one.default):
            lines.append(f"{one.name} = {_toml(value)}")
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    # JSON's texts, lists, numbers and truth values are written in the same way in TOML.
    return json.dumps(value, ensure_ascii=False)


def _seed(settings: Settings, *, new_keys: bool) -> SeedResult:
    vault = Vault(settings.master_key)
    with closing(open_store(settings)) as store, store.write() as tx:
        return seed(tx, now=now(), random=random, vault=vault, limits=settings.limits, new_keys=new_keys)


def _facts(endpoint: str, seeded: SeedResult, url: str, known: list[Person]) -> dict[str, Any]:
    users = [{"name": one.name, "password": one.password, "groups": list(one.groups)} for one in known]
    return {
        "endpoint": endpoint,
        "sign_in_url": f"{endpoint}/login",
        "account_id": ACCOUNT_ID,
        "root": asdict(seeded.root) | {"email": seeded.root_email, "password": seeded.root_password},
        "admin": asdict(seeded.admin) | {"password": seeded.admin_password},
        "directory": {"url": url, "users": users},
        "roles": [{"arn": role.arn, "trusted_groups": list(role.trusted_groups)} for role in ROLES],
    }


def _welcome(facts: dict[str, Any], ldif: Path) -> None:
    endpoint, admin = facts["endpoint"], facts["admin"]
    groups = {dn: role["arn"].rpartition("/")[2] for role in facts["roles"] for dn in role["trusted_groups"]}
    rows = [
        (one["name"], one["password"], ", ".join(groups[dn] for dn in one["groups"] if dn in groups) or "none")
        for one in facts["directory"]["users"]
    ]
    click.echo(f"\nFedgate serves {endpoint}   (Ctrl-C stops everything)\n")
    print_table(["person", "password", "roles open to them"], rows, title=f"The directory, from {ldif}")
    print_table(["role"], [(role["arn"],) for role in facts["roles"]], title=f"Roles of account {ACCOUNT_ID}")
    _say_how_to_sign_in(facts)
    click.echo("The administrator's access key:")
    secret = admin["secret_access_key"] or _SHOWN_BEFORE
    click.echo(f"    AWS_ACCESS_KEY_ID={admin['access_key_id']}\n    AWS_SECRET_ACCESS_KEY={secret}\n")
    one = next((row for row in rows if row[2] != "none" and "," not in row[2]), rows[0])
    program = Path(sys.argv[0]).name if shutil.which("fedgate") else sys.argv[0]
    click.echo("Try, in another terminal:")
    click.echo(f"    eval \"$(FEDGATE_PASSWORD='{one[1]}' {program} login {one[0]} --endpoint {endpoint})\"")
    click.echo("    aws sts get-caller-identity")
    click.echo("    aws iam list-roles --query 'Roles[].Arn'\n")
    Console().file.flush()


def _say_how_to_sign_in(facts: dict[str, Any]) -> None:
    admin, root = facts["admin"]["password"] or _SHOWN_BEFORE, facts["root"]
    click.echo("In the browser:")
    click.echo(f"    sign in: {facts['sign_in_url']}, {facts['endpoint']}/signin/{ALIAS} ({ADMIN})")
    click.echo(f"    {ADMIN}: {admin}")
    click.echo(f"    root, {root['email'] or ROOT_EMAIL}: {root['password'] or _SHOWN_BEFORE}\n")
