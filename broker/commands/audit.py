"""``fedgate audit``: prints the audit log and verifies its hash chain."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from broker.audit import chain
from broker.audit import log as audit_log
from broker.audit.operator import current_operator, open_operator_log, operator_record
from broker.commands.options import installation_options, load_settings
from broker.commands.output import escape_unprintable, json_option, print_json, print_table
from broker.wiring import now, random


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
    """Verify the hash chain of every file, across its sealed segments; exit status 1 where one is broken.

    The head is the hash of a file's last line. Store it elsewhere, to prove later that no line was removed at the end.
    """
    results = chain.verify_all(load_settings(config, data).audit_dir)
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


@audit.command()
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to move them to.")
@click.option("--keep", default=1, show_default=True, type=click.IntRange(min=0), help="Newest segments that stay.")
@installation_options
@json_option
def archive(to: Path, keep: int, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    """Move the oldest sealed segments of every chain to another folder, where they may be kept or deleted.

    A record says where each chain goes on, so that `fedgate audit verify` misses nothing afterwards. Nothing is moved
    where a chain is broken.
    """
    folder = load_settings(config, data).audit_dir
    results = {result.path: result for result in chain.verify_all(folder)}
    if any(result.fault for result in results.values()):
        raise click.ClickException("A chain is broken: `fedgate audit verify` says where.")
    chosen = {name: paths for name, paths in chain.archivable(folder, keep).items() if paths}
    moved = [path for paths in chosen.values() for path in paths]
    if moved:
        last = {name: results[paths[-1]] for name, paths in chosen.items()}
        ends = chain.archived_anchors(folder) | {name: chain.Anchor(one.seq, one.head) for name, one in last.items()}
        _record_archiving(folder, ends, moved)
        _move(moved, to)
    names = [path.name for path in moved]
    if as_json:
        print_json(names)
    else:
        click.echo("\n".join(names) or "There is no sealed segment to move.")


def _record_archiving(folder: Path, ends: Mapping[str, chain.Anchor], moved: Iterable[Path]) -> None:
    """Record where each chain goes on, before anything is moved."""
    chains = {name: {"seq": anchor.seq, "head": anchor.head} for name, anchor in ends.items()}
    parameters = {"chains": chains, "files": [path.name for path in moved]}
    record = operator_record(chain.ARCHIVED, None, parameters, actor=current_operator(), now=now(), random=random)
    with closing(open_operator_log(folder)) as log:
        log.append(record)


def _move(paths: Iterable[Path], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in paths:
        if (to / path.name).exists():
            raise click.ClickException(f"{to / path.name} exists already.")
        shutil.move(path, to / path.name)
