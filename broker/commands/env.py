"""``fedgate env``: the address of the service, as a shell sets it."""

from pathlib import Path

import click

from broker.commands.options import installation_options, installed_settings_file, load_settings
from broker.commands.shell_output import DEFAULT_ENDPOINT, ENDPOINT_VARIABLE, SHELLS, ShellCommand


@click.command(cls=ShellCommand)
@click.option(
    "--endpoint",
    envvar=ENDPOINT_VARIABLE,
    help=f"URL of the service. Default: that of the installation on this machine, or {DEFAULT_ENDPOINT}.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(SHELLS)),
    default="env",
    show_default=True,
    help="Commands for a shell (env: bash and zsh), or a file for docker --env-file.",
)
@installation_options
def env(endpoint: str | None, form: str, config: Path | None, data: Path | None) -> None:
    """Print the commands that direct the AWS CLI, every AWS SDK and `fedgate login` to this Fedgate.

    They set the address of STS and IAM, which would otherwise be Amazon's, and a region. Other services and credentials
    are not changed. In bash and zsh:

        eval "$(fedgate env)"
    """
    address = (endpoint or _of_installation(config, data) or DEFAULT_ENDPOINT).rstrip("/")
    try:
        click.echo(SHELLS[form].address(address), nl=False)
    except ValueError as error:
        raise click.ClickException(f"{address} is no URL of a service.") from error


def _of_installation(config: Path | None, data: Path | None) -> str:
    """Return the public URL of the installation on this machine, or an empty text where there is none."""
    installed = installed_settings_file(config, data) is not None
    url = load_settings(config, data).public_url if installed else ""
    if url.endswith(":0"):
        raise click.ClickException(
            "The service listens on any free port: give the address that it printed, --endpoint URL."
        )
    return url
