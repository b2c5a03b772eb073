"""``fedgate lint``: errors and warnings about policies in files, before they are stored anywhere."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from broker.commands.options import installation_options, installed_settings_file, read_text
from broker.commands.output import escape_unprintable, json_option, print_json
from broker.config.directories import directory_names
from iam.arn import parse_arn
from iam.errors import MalformedPolicyDocument
from iam.policy.document import Policy, PolicyKind
from iam.policy.lint.findings import Finding, Level
from iam.policy.lint.policies import lint
from iam.policy.source_positions import statement_spans
from iam.policy.strict_json import load
from iam.service_data import ServiceData

_KINDS = click.Choice([kind.value for kind in PolicyKind])
_SERVICES = ServiceData()
_DIRECTORY = re.compile(r"ldap-provider/[\w-]+", re.ASCII)
_FAILING_LEVELS = (Level.ERROR, Level.SECURITY_WARNING)


@click.command("lint")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--kind", type=_KINDS, help="The type of the policies; by default their elements decide.")
@installation_options
@json_option
def lint_(files: tuple[Path, ...], kind: str | None, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Report errors and warnings about policies in files.

    Policies that AWS rejects are rejected here, with the place. Findings have four levels, named as in IAM Access
    Analyzer. Exit status: 1 where a policy is rejected or a finding is an ERROR or a SECURITY_WARNING.

    No installation is needed. Where there is one, its settings tell which directories exist.
    """
    directories = _directories(config, data)
    findings = [finding for file in files for finding in _lint_file(file, kind, directories)]
    if directories is None:
        _tell_what_was_not_checked(files)
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            where = f"{finding['file']}:{finding['line']}" if finding["line"] else finding["file"]
            click.echo(escape_unprintable(f"{where}: {finding['level']} {finding['code']} ({finding['place']})"))
            click.echo(escape_unprintable(f"    {finding['text']}"))
        click.echo(f"{_count(len(findings), 'finding')} in {_count(len(files), 'file')}")
    if any(finding["level"] in _FAILING_LEVELS for finding in findings):
        raise SystemExit(1)


def _tell_what_was_not_checked(files: tuple[Path, ...]) -> None:
    named = {name for file in files for name in _DIRECTORY.findall(read_text(file))}
    for name in sorted(named):
        text = f"{name} was not checked: no installation is here. Name its settings file with --config."
        click.echo(escape_unprintable(text), err=True)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _directories(config: Path | None, data: Path | None) -> frozenset[str] | None:
    """Return the names of the directories of the installation, or None where there is no installation.

    Only the names are read: whoever writes policies need not be allowed to read the keys of the installation.
    """
    file = installed_settings_file(config, data)
    return None if file is None else frozenset(directory_names(file))


def _exists(directories: frozenset[str] | None, provider: str) -> bool | None:
    """Return whether the directory of an ARN exists; None for other providers, which no settings name."""
    arn = parse_arn(provider)
    kind, _slash, name = arn.resource.partition("/") if arn else ("", "", "")
    return None if directories is None or kind != "ldap-provider" else name in directories


def _lint_file(file: Path, kind: str | None, directories: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    text = read_text(file)
    try:
        policy = Policy.parse(text, PolicyKind(kind) if kind else guess_policy_kind(text))
    except MalformedPolicyDocument as error:
        yield {
            "file": str(file),
            "line": None,
            "level": Level.ERROR,
            "code": error.code,
            "place": "policy",
            "text": error.log,
        }
        return
    lines = [span.start.line + _gap(text, span.start) for span in statement_spans(text)]
    for finding in lint(policy, _SERVICES, partial(_exists, directories)):
        yield _finding(file, finding, None if finding.statement is None else lines[finding.statement])


def _gap(text: str, start: Any) -> int:  # noqa: ANN401 - a Position
    """Return the number of line breaks between the start of a statement's span and its first character."""
    rest = "\n".join(text.split("\n")[start.line - 1 :])[start.column - 1 :]
    return rest[: len(rest) - len(rest.lstrip())].count("\n")


def _finding(file: Path, finding: Finding, line: int | None) -> dict[str, Any]:
    return {
        "file": str(file),
        "line": line,
        "level": finding.level,
        "code": finding.code,
        "place": finding.location,
        "text": finding.text,
    }


def guess_policy_kind(text: str) -> PolicyKind:
    """Return the kind of a policy by its elements: with Principal it is a resource-based or a trust policy."""
    try:
        document = load(text)
    except ValueError:
        return PolicyKind.IDENTITY
    statements = document.get("Statement", []) if isinstance(document, dict) else []
    listed = statements if isinstance(statements, list) else [statements]
    elements = {name for statement in listed if isinstance(statement, dict) for name in statement}
    if not elements & {"Principal", "NotPrincipal"}:
        return PolicyKind.IDENTITY
    return PolicyKind.RESOURCE if elements & {"Resource", "NotResource"} else PolicyKind.TRUST
