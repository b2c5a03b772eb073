"""The command line: one table of commands, each imported only when it is called, so that ``--help`` is fast."""

import importlib
from importlib.metadata import version as version_of
from typing import Any, NamedTuple

import click

from broker.config.source import SettingsError
from broker.runtime.processes import StartupError
from iam.errors import ServiceError


class CommandEntry(NamedTuple):
    """The module and name of a command, and its line in ``--help``."""

    module: str
    command: str
    summary: str


COMMANDS = {
    "demo": CommandEntry("broker.commands.demo", "demo", "Start a complete trial with demo users and roles."),
    "login": CommandEntry(
        "broker.commands.login", "login", "Sign in with a directory password and print AWS credentials."
    ),
    "env": CommandEntry("broker.commands.env", "env", "Print the commands that direct a shell to this service."),
    "init": CommandEntry("broker.commands.installation", "init", "Create the data folder, keys and database."),
    "run": CommandEntry("broker.commands.service", "run", "Start the service."),
    "check-config": CommandEntry("broker.commands.service", "check_config", "Check the settings."),
    "account": CommandEntry("broker.commands.installation", "account", "Create and list accounts; set root passwords."),
    "guardrail": CommandEntry("broker.commands.policy.guardrail", "guardrail", "Set guardrail policies of an account."),
    "resource": CommandEntry(
        "broker.commands.resource", "resource", "List, show and test resources, and set their policies."
    ),
    "saml": CommandEntry("broker.commands.federation.saml", "saml", "Add, test and list SAML identity providers."),
    "oidc": CommandEntry("broker.commands.federation.oidc", "oidc", "List and check OpenID Connect providers."),
    "issuer": CommandEntry(
        "broker.commands.federation.issuer", "issuer", "Rotate the keys of Fedgate's own token issuer."
    ),
    "aws-credentials": CommandEntry(
        "broker.commands.federation.aws_credentials",
        "aws_credentials",
        "Exchange a session for credentials of another STS.",
    ),
    "backup": CommandEntry("broker.commands.backup", "backup", "Write a backup of the database while it is in use."),
    "restore": CommandEntry("broker.commands.backup", "restore", "Replace the database's content by a backup."),
    "migrate-database": CommandEntry(
        "broker.commands.backup", "migrate_database", "Copy everything to another database."
    ),
    "keys": CommandEntry("broker.commands.keys", "keys", "Rotate, list and remove the keys that seal sessions."),
    "sessions": CommandEntry("broker.commands.sessions", "sessions", "List and revoke sessions."),
    "second-factor": CommandEntry("broker.commands.second_factor", "second_factor", "List and reset second factors."),
    "lint": CommandEntry("broker.commands.policy.lint", "lint_", "Check policy files."),
    "policy": CommandEntry("broker.commands.policy.cases", "policy", "Test policies with test cases."),
    "explain": CommandEntry("broker.commands.policy.explain", "explain_", "Explain whether a request is allowed."),
    "who-can": CommandEntry(
        "broker.commands.policy.explain", "who_can", "List the principals that are allowed an action."
    ),
    "audit": CommandEntry("broker.commands.audit", "audit", "Read and verify the audit log."),
    "operations": CommandEntry(
        "broker.commands.operations", "operations", "List the API operations and whether they are supported."
    ),
    "version": CommandEntry("broker.cli", "version", "Print the version."),
}


class LazyGroup(click.Group):
    """A command group that imports a command when it is called, and turns expected errors into exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the command names in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        """Run a command; raise ClickException for errors that users can mend."""
        try:
            return super().invoke(ctx)
        except ServiceError as error:
            raise click.ClickException(_for_operator(error)) from error
        except (SettingsError, StartupError) as error:
            raise click.ClickException(str(error)) from error


def _for_operator(error: ServiceError) -> str:
    """Return the message with what callers of the API are not shown, such as why the database cannot be reached."""
    return error.message if error.log == error.message else f"{error.message} ({error.log.strip()})"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Exchange a directory password for temporary AWS credentials.

    Your directory authenticates people; an AWS-compatible STS issues credentials that IAM policies limit.
    New here? `fedgate demo --data fedgate-data` starts everything on this machine.

    Exit status: 0 for success, 1 for an error, 2 for a wrong command line.
    """


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(*, as_json: bool) -> None:
    """Print the version of Fedgate."""
    number = version_of("fedgate")
    click.echo(f'{{"version": "{number}"}}' if as_json else f"fedgate {number}")


if __name__ == "__main__":
    main()
