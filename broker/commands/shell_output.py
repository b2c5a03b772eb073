"""Commands whose output a shell evaluates, as in ``eval "$(fedgate login ann)"``.

``eval ""`` succeeds, so a command that failed and printed nothing would let the next line of a script run with
whatever credentials and addresses the shell has, which may be those of Amazon.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import click

from broker.doors.credential_formats import FORMATS, Shell

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8080"
ENDPOINT_VARIABLE: Final = "FEDGATE_ENDPOINT"
# The values of --format that name a shell, or a file of variables.
SHELLS: Final[Mapping[str, Shell]] = {
    "env" if key == "bash" else key: one.shell for key, one in FORMATS.items() if one.shell is not None
}


class ShellCommand(click.Command):
    """A command that, when it fails, prints what makes the shell fail too, in the shell's own words."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - as click declares it
    ) -> click.Context:
        """Parse the command line; a wrong one is a failure like any other."""
        line = tuple(args) if self.is_evaluated(args) else None
        with _failure_told(line):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[__name__] = line
        return context

    def is_evaluated(self, line: Sequence[str]) -> bool:
        """Return whether a shell evaluates what is printed."""
        del line
        return True

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click declares it
        """Run the command."""
        with _failure_told(ctx.meta[__name__]):
            return super().invoke(ctx)


class EnvCommand(ShellCommand):
    """A command whose output a shell evaluates with ``--env``, and only then."""

    def is_evaluated(self, line: Sequence[str]) -> bool:
        """Return whether the option is given."""
        return "--env" in line


@contextmanager
def _failure_told(line: Sequence[str] | None) -> Iterator[None]:
    """Print what makes the shell fail, whatever ends the command; a person at a terminal has no use for it."""
    try:
        yield
    except click.exceptions.Exit:  # --help
        raise
    except BaseException:  # also Ctrl-C at the question for the password
        if line is not None and not sys.stdout.isatty():
            click.echo(_refused(line), nl=False)
        raise


def _refused(line: Sequence[str]) -> str:
    """Return what the shell of a command line runs after a failure; nothing where no shell reads the format."""
    shell = SHELLS.get(_option(line, "--format", "env"))
    endpoint = _option(line, "--endpoint", os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT)
    return shell.refused(endpoint.rstrip("/")) if shell else ""


def _option(line: Sequence[str], name: str, default: str) -> str:
    """Return the value of an option on a command line that may be wrong elsewhere."""
    values = [value for option, value in pairwise(line) if option == name]
    values += [part.partition("=")[2] for part in line if part.startswith(f"{name}=")]
    return values[-1] if values else default
