"""Verifies the hash chains of the audit log, each across its sealed segments.

The oldest segments of a chain may have been archived. The record of that says where the chain goes on, and is itself
part of a chain: files that were taken away without it are missed.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from broker.audit.log import ZERO_HASH, log_files, parse_lines

ARCHIVED: Final = "ArchiveAuditSegments"


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """The number of valid lines at the start of a file, and what is wrong with the next line.

    ``fault`` is empty where the whole file is valid. ``head`` is the hash of the last valid line: stored elsewhere, it
    proves later that no line was removed at the end.
    """

    path: Path
    lines: int
    head: str
    fault: str
    seq: int = 0  # of the last valid line, counted from the first line of the chain


class Anchor(NamedTuple):
    """Where a chain begins or goes on: the number and the hash of the line before."""

    seq: int
    head: str


START: Final = Anchor(0, ZERO_HASH)


def verify(path: Path, after: Anchor = START) -> ChainVerification:
    """Verify the hash chain of a file, whose first line follows the line ``after``; raise OSError."""
    (before, head), count = after, 0
    with path.open("rb") as lines:
        for line in lines:
            fault = _find_fault(line, before + count + 1, head)
            if fault:
                return ChainVerification(path, count, head, fault, before + count)
            head, count = hashlib.sha256(line[:-1]).hexdigest(), count + 1
    return ChainVerification(path, count, head, "", before + count)


def verify_all(folder: Path) -> list[ChainVerification]:
    """Verify every chain across its segments; one whose oldest segments were archived begins where the log says so."""
    results: list[ChainVerification] = []
    archived = archived_anchors(folder)
    for chain, paths in groupby(log_files(folder), key=lambda path: path.stem.partition("-")[0]):
        after = START
        for number, path in enumerate(paths):
            if number == 0 and chain in archived and _claimed_start(path) != START:
                after = archived[chain]
            result = verify(path, after)
            results.append(result)
            # One fault is told once: what follows is verified from where it says that it begins.
            after = _claimed_end(path) if result.fault else Anchor(result.seq, result.head)
    return results


def archived_anchors(folder: Path) -> dict[str, Anchor]:
    """Return where each chain goes on whose oldest segments were archived: what the newest such record says."""
    anchors: dict[str, Anchor] = {}
    for path in log_files(folder):
        with path.open("rb") as lines:
            for record in parse_lines([line for line in lines if ARCHIVED.encode() in line]):
                if record.get("eventName") == ARCHIVED and record.get("eventSource") == "operator.fedgate":
                    chains = record["requestParameters"].get("chains", {})  # an abridged record has none
                    newer = {name: Anchor(int(one["seq"]), str(one["head"])) for name, one in chains.items()}
                    anchors |= {name: one for name, one in newer.items() if one >= anchors.get(name, START)}
    return anchors


def _find_fault(line: bytes, number: int, previous: str) -> str:
    try:
        record = json.loads(line)
        seq, prev = record["seq"], record["prev"]
    except (ValueError, KeyError, TypeError):
        return f"line {number} is not a record"
    if not line.endswith(b"\n"):
        return f"line {number} is incomplete"
    if seq != number:
        return f"line {number} has the number {seq}"
    return "" if prev == previous else f"line {number} does not match the hash of the line before"


def _claimed_start(path: Path) -> Anchor:
    """Return which line the first line of a file says that it follows."""
    with path.open("rb") as lines, contextlib.suppress(ValueError, KeyError, TypeError):
        first = json.loads(lines.readline())
        return Anchor(int(first["seq"]) - 1, str(first["prev"]))
    return START


def _claimed_end(path: Path) -> Anchor:
    """Return the number and hash of the last line of a file, whether or not its chain is whole."""
    last = b""
    with path.open("rb") as lines:
        for line in lines:
            last = line
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return Anchor(int(json.loads(last)["seq"]), hashlib.sha256(last[:-1]).hexdigest())
    return START


def archivable(folder: Path, keep: int) -> dict[str, list[Path]]:
    """Return the sealed segments of each chain but the newest ``keep``, oldest first."""
    chains = groupby(log_files(folder), key=lambda path: path.stem.partition("-")[0])
    sealed = {name: [path for path in paths if "-" in path.stem] for name, paths in chains}
    return {name: paths[: max(0, len(paths) - keep)] for name, paths in sealed.items()}
