"""``fedgate audit``: prints the audit log and verifies its hash chain."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from broker.audit import log as audit_log
from broker.commands.options import installation_options, load_settings
from broker.commands.output import escape_unprintable, json_option, print_json, print_table


@click.group()
def audit() -> None:
    """Read and verify the audit log."""


@audit.command()
@click.option(
    "-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0), help="Number of records to print."
)
@click.option("-f", "--follow", is_flag=True, help="Print new records as they are written.")
@installation_options
@json_option
def tail(lines: int, config: Path | None, data: Path | None, *, follow: bool, as_json: bool) -> None:
    """Print the newest records, oldest first; with --json, complete records, one per line."""
    folder = load_settings(config, data).audit_dir
    _print(audit_log.read_last_records(folder, lines), as_json=as_json)
    if follow:
        _print(audit_log.follow(folder), as_json=as_json)


def _print(records: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    for record in records:
        if as_json:
            print_json(record)
        else:
            click.echo(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    identity = record.get("userIdentity") or {}
    name = identity.get("arn") or identity.get("userName") or identity.get("accessKeyId") or identity.get("type") or "-"
    outcome = record.get("errorCode") or "ok"
    parts = (record.get("eventTime"), record.get("sourceIPAddress"), name, record.get("eventName"), outcome)
    return "  ".join(escape_unprintable(str(part)) for part in parts)


@audit.command()
@installation_options
@json_option
def verify(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Verify the hash chain of every file; exit status 1 where one is broken.

    The head is the hash of a file's last line. Store it elsewhere, to prove later that no line was removed at the end.
    """
    results = [audit_log.verify(path) for path in audit_log.log_files(load_settings(config, data).audit_dir)]
    if as_json:
        print_json(
            [
                {"file": result.path.name, "lines": result.lines, "head": result.head, "fault": result.fault}
                for result in results
            ]
        )
    else:
        rows = [(result.path.name, result.lines, result.fault or "intact", result.head) for result in results]
        print_table(["file", "lines", "chain", "head"], rows)
    if any(result.fault for result in results):
        raise SystemExit(1)
