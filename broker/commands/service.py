"""``fedgate run`` and ``fedgate check-config``."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from broker.commands.options import find_settings_file, installation_options
from broker.commands.output import escape_unprintable, json_option, print_fields, print_json
from broker.commands.resource.checks import resource_findings
from broker.commands.role_checks import directory_findings, role_findings
from broker.config.settings import CONFIG_VARIABLE, Settings
from broker.runtime.launcher import LaunchOptions, launch, stop_event_on_signals
from broker.runtime.redis_server import RedisStartupError, find_binary
from broker.wiring import open_store


@click.command()
@installation_options
def run(config: Path | None, data: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Without a settings file, FEDGATE_... environment variables and defaults apply. Run `fedgate init` first.
    """
    stopping = stop_event_on_signals()
    file, environ = find_settings_file(config, data)
    settings = Settings.read(file, environ)
    open_store(settings).close()  # migrates the schema once, not in every worker
    for finding in resource_findings(settings):
        sys.stderr.write(escape_unprintable(f"finding: {finding}") + "\n")

    def announce(endpoint: str) -> None:
        sys.stderr.write(f"fedgate serves {endpoint}\n")
        sys.stderr.flush()

    launch(LaunchOptions(settings, file, environ), announce, stopping)


@click.command("check-config")
@installation_options
@json_option
def check_config(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Read the settings as `run` does, and print errors or the effective values, without secrets.

    Findings follow: no Redis server on this machine where one is to be started, directories that serve every account of
    several, accounts and roles of resources that do not exist, and stored roles with identity providers that do not
    exist or groups that the directories do not have. They are no errors of the settings.
    """
    file, environ = find_settings_file(config, data)
    settings = Settings.read(file, environ)
    facts = {
        "settings": str(file or environ.get(CONFIG_VARIABLE) or "environment and defaults"),
        "bind": settings.bind,
        "public_url": settings.public_url,
        "data": str(settings.data_dir),
        "database": _without_password(settings.database_url),
        "redis": "embedded" if settings.redis_embedded else _without_password(settings.redis_url),
        "directories": ", ".join(settings.directories) or "none",
        "authz": settings.authz_bind or "off",
        "resources": _resources(settings),
        "second_factor": ", ".join(settings.pages_second_factor) or "nobody must have one",
        "second_factor_exempt": _exempt(settings),
        "operators": ", ".join(settings.pages_operators) or "none: administrators see their own account only",
    }
    findings = (
        *_redis_findings(settings),
        *directory_findings(settings),
        *resource_findings(settings),
        *role_findings(settings),
    )
    if as_json:
        print_json(facts | {"findings": findings})
        return
    print_fields(facts)
    for finding in findings:
        click.echo(escape_unprintable(f"finding: {finding}"))


def _redis_findings(settings: Settings) -> Iterator[str]:
    """Yield what keeps `fedgate run` from starting the embedded Redis, if the settings name no other."""
    if settings.redis_embedded:
        try:
            find_binary()
        except RedisStartupError as error:
            yield str(error)


def _resources(settings: Settings) -> str:
    """Return the resources, each with its kind and its hosts."""
    resources = settings.resources.values()
    return "; ".join(f"{one.name} ({one.kind}: {', '.join(one.hosts)})" for one in resources) or "none"


def _exempt(settings: Settings) -> str:
    """Return whose people can take roles without a second factor, though the pages ask them for one."""
    exempt = ", ".join(settings.pages_second_factor_exempt)
    return f"{exempt}: at the STS, at /oauth2/token and with IdP-initiated SAML" if exempt else "none"


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{at}{host}"
