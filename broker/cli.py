"""The command line: one table of commands, each imported only when it is called, so that ``--help`` is quick."""

import importlib
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

import click

from broker.config.source import SettingsError
from broker.runtime.processes import StartupError
from iam.errors import ServiceError


class CommandEntry(NamedTuple):
    """Where a command lives and what it does, in a few words."""

    module: str
    command: str
    summary: str


COMMANDS = {
    "demo": CommandEntry("broker.commands.demo", "demo", "Start everything for a trial, with people and roles."),
    "login": CommandEntry(
        "broker.commands.login", "login", "Sign in with a directory password, print AWS credentials."
    ),
    "init": CommandEntry("broker.commands.installation", "init", "Make the data folder, keys and database."),
    "run": CommandEntry("broker.commands.service", "run", "Serve what the settings say."),
    "check-config": CommandEntry("broker.commands.service", "check_config", "Say whether the settings can be used."),
    "account": CommandEntry("broker.commands.installation", "account", "Create and list accounts, let root sign in."),
    "guardrail": CommandEntry("broker.commands.policy.guardrail", "guardrail", "Set the ceiling of an account."),
    "saml": CommandEntry("broker.commands.federation.saml", "saml", "Add, test and list SAML identity providers."),
    "oidc": CommandEntry("broker.commands.federation.oidc", "oidc", "List and check OpenID Connect providers."),
    "issuer": CommandEntry("broker.commands.federation.issuer", "issuer", "Rotate the keys of our own issuer."),
    "aws-credentials": CommandEntry(
        "broker.commands.federation.aws_credentials",
        "aws_credentials",
        "Trade a session for credentials of another STS.",
    ),
    "keys": CommandEntry("broker.commands.keys", "keys", "Rotate, list and remove the keys that seal sessions."),
    "sessions": CommandEntry("broker.commands.sessions", "sessions", "List and revoke sessions."),
    "second-factor": CommandEntry(
        "broker.commands.second_factor", "second_factor", "List and reset second factors of people."
    ),
    "lint": CommandEntry("broker.commands.policy.lint", "lint_", "Say what is wrong with policies in files."),
    "policy": CommandEntry("broker.commands.policy.cases", "policy", "Test policies by cases."),
    "explain": CommandEntry("broker.commands.policy.explain", "explain_", "Say whether a request is allowed, and why."),
    "who-can": CommandEntry("broker.commands.policy.explain", "who_can", "List who may do something."),
    "audit": CommandEntry("broker.commands.audit", "audit", "Read and verify the audit log."),
    "operations": CommandEntry("broker.commands.operations", "operations", "List the API operations, built or not."),
    "version": CommandEntry("broker.cli", "version", "Print the version."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and whose errors become one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        """Run a command."""
        try:
            return super().invoke(ctx)
        except (ServiceError, SettingsError, StartupError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Trade a directory password for temporary AWS credentials.

    Your directory proves who someone is, an AWS-compatible STS mints credentials that IAM policies limit.
    New here? `fedgate demo --data fedgate-data` starts everything on this machine.

    Exit status: 0 when all went well, 1 when something failed, 2 for a wrong command line.
    """


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(*, as_json: bool) -> None:
    """Print the version of Fedgate."""
    number = version_of("fedgate")
    click.echo(f'{{"version": "{number}"}}' if as_json else f"fedgate {number}")


if __name__ == "__main__":
    main()
