"""``fedgate audit``: reading the log, and following its chain."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from broker.audit import log as trail
from broker.commands.options import installation_options, load_settings
from broker.commands.output import escape_unprintable, json_option, print_json, print_table


@click.group()
def audit() -> None:
    """Read and verify the audit log."""


@audit.command()
@click.option(
    "-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0), help="How many to begin with."
)
@click.option("-f", "--follow", is_flag=True, help="Wait for more.")
@installation_options
@json_option
def tail(lines: int, config: Path | None, data: Path | None, *, follow: bool, as_json: bool) -> None:
    """Print the newest records, oldest first; with --json, whole and one a line."""
    folder = load_settings(config, data).audit_dir
    _print(trail.read_last_records(folder, lines), as_json=as_json)
    if follow:
        _print(trail.follow(folder), as_json=as_json)


def _print(records: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    for record in records:
        if as_json:
            print_json(record)
        else:
            click.echo(_line(record))


def _line(record: Mapping[str, Any]) -> str:
    who = record.get("userIdentity") or {}
    name = who.get("arn") or who.get("userName") or who.get("accessKeyId") or who.get("type") or "-"
    outcome = record.get("errorCode") or "ok"
    parts = (record.get("eventTime"), record.get("sourceIPAddress"), name, record.get("eventName"), outcome)
    return "  ".join(escape_unprintable(str(part)) for part in parts)


@audit.command()
@installation_options
@json_option
def verify(config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Follow the chain of every file; exit status 1 where one is broken.

    The head is the hash of a file's last line. Keep it elsewhere: it proves later that nothing was cut off at the end.
    """
    verdicts = [trail.verify(path) for path in trail.log_files(load_settings(config, data).audit_dir)]
    if as_json:
        print_json(
            [{"file": one.path.name, "lines": one.lines, "head": one.head, "fault": one.fault} for one in verdicts]
        )
    else:
        rows = [(one.path.name, one.lines, one.fault or "whole", one.head) for one in verdicts]
        print_table(["file", "lines", "chain", "head"], rows)
    if any(one.fault for one in verdicts):
        raise SystemExit(1)
