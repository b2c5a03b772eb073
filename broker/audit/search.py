"""Searches the audit log from newest to oldest: reads files backwards, always the one with the newest unread records.

A search reads a limited number of bytes, reports how far back it came, and can be continued there. It pauses between
chunks, so that the worker can serve other requests.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from broker.audit.log import log_files
from broker.audit.query import AuditAccess, AuditFilter, LogCursor, timestamp_ms_of

CHUNK: Final = 256 * 1024
MAX_BYTES_READ: Final = 1024 * CHUNK  # about a quarter of a million records
# A record has the time when its request began, but is written when it ended: later lines may be older by this much.
_MAX_DISORDER: Final = 30_000  # milliseconds
_LAST: Final = "~"  # sorts after every id: no record of this time has been shown yet
_SAMPLED_LINES: Final = 50  # lines at the start of a chunk that show how far back it reaches
_AT: Final = re.compile(rb'"at":(\d{1,13})[,}]')
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class SearchPage:
    """The records that a search found, newest first.

    ``next_cursor`` is where to continue, or None at the end of the log. ``searched_back_to`` is how far back the search
    came, in milliseconds, where it stopped early. ``unreadable`` names files that this process may not read.
    """

    records: tuple[dict[str, Any], ...]
    next_cursor: LogCursor | None
    searched_back_to: int | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(slots=True)
class _BackwardReader:
    """A file read backwards: ``end`` is the start of what has been read, ``frontier`` the newest time before it."""

    fd: int
    end: int
    frontier: float = _FOREVER
    rest: bytes = b""  # of a line whose start has not been read yet

    def chunk(self, size: int) -> bytes:
        """Return the lines before ``end`` that fit into ``size`` bytes, and move ``end`` to their start."""
        start = max(0, self.end - size)
        data = os.pread(self.fd, self.end - start, start) + self.rest
        self.end, self.rest = start, b""
        if start:
            cut = data.find(b"\n") + 1
            data, self.rest = (data[cut:], data[:cut]) if cut else (b"", data)
        if data:  # lines without a time do not move the frontier
            times = [int(match[1]) for match in islice(_AT.finditer(data), _SAMPLED_LINES)]
            self.frontier = min(self.frontier, max(times, default=0 if self.frontier == _FOREVER else self.frontier))
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSearch:
    """Searches the log in a folder; ``pause`` lets other greenlets run, sizes are in bytes.

    ``unlogged`` returns the lines of changes whose records may not be in the log yet.
    """

    folder: Path
    pause: Callable[[], None]
    unlogged: Callable[[], bytes] = bytes
    chunk: int = CHUNK
    max_bytes_read: int = MAX_BYTES_READ

    def find(self, wanted: AuditFilter, view: AuditAccess, *, most: int, before: LogCursor | None = None) -> SearchPage:
        """Return up to ``most`` records that match and may be seen, older than ``before`` where it is given."""
        top = min(_FOREVER if wanted.until is None else wanted.until, _FOREVER if before is None else before.at)
        with ExitStack() as stack:
            readers, unreadable = _open_readers(self.folder, stack, top)
            hits, edge = self._collect(readers, _RecordFilter(wanted, view, before), most, top)
        return _build_page(hits, edge, most, unreadable)

    def _collect(
        self, readers: list[_BackwardReader], record_filter: "_RecordFilter", most: int, top: float
    ) -> tuple[list["_Hit"], float]:
        """Return the matching records, and the time back to which they are complete."""
        hits = list(record_filter.matching_records(self.unlogged()))
        read, oldest = 0, record_filter.wanted.after or 0
        while True:
            unread = [reader for reader in readers if reader.end and reader.frontier + _MAX_DISORDER >= oldest]
            if not unread:
                return hits, -1
            reader = max(unread, key=lambda unread_file: unread_file.frontier)
            enough = len(hits) > most and sum(hit.place.at > reader.frontier for hit in hits) > most
            # A continued search must come further back than the one before, whatever it has to read.
            if enough or (read >= self.max_bytes_read and reader.frontier < top):
                return hits, reader.frontier
            before = reader.end
            hits.extend(record_filter.matching_records(reader.chunk(self.chunk)))
            read += before - reader.end
            self.pause()


@dataclass(frozen=True, slots=True)
class _Hit:
    place: LogCursor
    record: dict[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _RecordFilter:
    """Selects matching lines; a line that has the needles is parsed, and the record alone decides."""

    wanted: AuditFilter
    view: AuditAccess
    before: LogCursor | None

    def matching_records(self, chunk: bytes) -> Iterator[_Hit]:
        """Yield the matching records of a chunk."""
        for line in _lines_containing(chunk, self._needles()):
            record = _parse(line)
            if record is not None and self.view.may_see(record) and self.wanted.matches(record):
                place = LogCursor(timestamp_ms_of(record), str(record.get("eventID", "")))
                if self.before is None or place < self.before:
                    yield _Hit(place, self.view.redact(record))

    def _needles(self) -> tuple[bytes, ...]:
        """Return the needles of the search, and the account of a person who may see only one.

        It is a text of its own in every record that this person may see: the recipient, or one of several looked at.
        """
        own = self.view.accounts if len(self.view.accounts) == 1 and not self.view.all_accounts else ()
        return (*self.wanted.needles(), *(f'"{account_id}"'.encode() for account_id in own))


def _lines_containing(chunk: bytes, needles: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the lines that contain all needles, which are in lower case."""
    if not needles:
        yield from chunk.split(b"\n")
        return
    first, *others = needles
    lower = chunk.lower()
    at = lower.find(first)
    while at >= 0:
        start, end = lower.rfind(b"\n", 0, at) + 1, lower.find(b"\n", at)
        end = len(lower) if end < 0 else end
        if all(lower.find(needle, start, end) >= 0 for needle in others):
            yield chunk[start:end]
        at = lower.find(first, end)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # also invalid UTF-8: one damaged line must not fail the search
        return None
    return record if isinstance(record, dict) else None


def _build_page(hits: list[_Hit], edge: float, most: int, unreadable: tuple[str, ...]) -> SearchPage:
    """Return the newest hits; those that are not newer than the edge may be incomplete."""
    # By place, which names the event: a change may be in the log and in SQL.
    by_place = {hit.place: hit for hit in hits if hit.place.at > edge}
    complete = [by_place[place] for place in sorted(by_place, reverse=True)]
    shown = tuple(hit.record for hit in complete[:most])
    if len(complete) > most:
        return SearchPage(shown, complete[most - 1].place, None, unreadable)
    if edge < 0:
        return SearchPage(shown, None, None, unreadable)
    return SearchPage(shown, LogCursor(int(edge), _LAST), int(edge), unreadable)


# --- where to start ---------------------------------------------------------------------------------------------------


def _open_readers(folder: Path, stack: ExitStack, top: float) -> tuple[list[_BackwardReader], tuple[str, ...]]:
    readers, unreadable = [], []
    for path in log_files(folder):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # it was sealed or archived meanwhile
            continue
        except OSError:  # the file of an operator who ran a command as another user
            unreadable.append(path.name)
            continue
        stack.callback(os.close, fd)
        readers.append(_BackwardReader(fd, _find_end(fd, os.fstat(fd).st_size, top + _MAX_DISORDER)))
    return readers, tuple(unreadable)


def _find_end(fd: int, size: int, top: float) -> int:
    """Return an offset after which all lines are newer than ``top``, by binary search."""
    low, high = 0, size if top < _FOREVER else 0
    while high - low > CHUNK:
        middle = (low + high) // 2
        at = _time_after(fd, middle, size)
        if at is None or at <= top:
            low = middle
        else:
            high = middle
    # The line at that offset begins before it.
    return _line_end(fd, high, size) if 0 < high < size else size


def _time_after(fd: int, place: int, size: int) -> int | None:
    """Return the time of the first line that begins after an offset."""
    begin = _line_end(fd, place, size)
    match = _AT.search(os.pread(fd, min(CHUNK, size - begin), begin))
    return int(match[1]) if match else None


def _line_end(fd: int, place: int, size: int) -> int:
    while place < size:
        data = os.pread(fd, min(CHUNK, size - place), place)
        at = data.find(b"\n")
        if at >= 0 or not data:
            return place + at + 1
        place += len(data)
    return size
