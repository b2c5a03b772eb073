"""A search of the audit log, newest first: each file is read backwards, the one that has the newest unread first.

A search reads so many bytes at most, tells how far back it came, and can be taken up there. Between two chunks it
pauses, so that other requests of the worker go on.
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
# A record bears the time when its request began and stands where it ended: so much may later lines be older.
_MAX_DISORDER: Final = 30_000  # milliseconds
_LAST: Final = "~"  # after every id: at this moment nothing has been shown yet
_SAMPLED_LINES: Final = 50  # lines at the edge of a chunk that tell how far back it comes
_AT: Final = re.compile(rb'"at":(\d{1,13})[,}]')
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What a search found, newest first.

    ``older`` is where to go on, None at the end of the log. ``cut`` is how far back the search came, in milliseconds,
    where it stopped early. ``unreadable`` names files that this process may not read.
    """

    records: tuple[dict[str, Any], ...]
    next_cursor: LogCursor | None
    searched_back_to: int | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(slots=True)
class _BackwardReader:
    """A file, read backwards: from ``end`` on it has been read. ``frontier`` is the newest time before that."""

    fd: int
    end: int
    frontier: float = _FOREVER
    rest: bytes = b""  # of a line whose beginning has not been read yet

    def chunk(self, size: int) -> bytes:
        """Return the lines before ``end``, as many as fit, and move there."""
        start = max(0, self.end - size)
        data = os.pread(self.fd, self.end - start, start) + self.rest
        self.end, self.rest = start, b""
        if start:
            cut = data.find(b"\n") + 1
            data, self.rest = (data[cut:], data[:cut]) if cut else (b"", data)
        if data:  # lines without a time stand where they stand
            times = [int(one[1]) for one in islice(_AT.finditer(data), _SAMPLED_LINES)]
            self.frontier = min(self.frontier, max(times, default=0 if self.frontier == _FOREVER else self.frontier))
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSearch:
    """Searches one folder; ``pause`` lets others go on, ``chunk`` and ``most_read`` are in bytes."""

    folder: Path
    pause: Callable[[], None]
    chunk: int = CHUNK
    max_bytes_read: int = MAX_BYTES_READ

    def find(self, wanted: AuditFilter, view: AuditAccess, *, most: int, before: LogCursor | None = None) -> SearchPage:
        """Return up to ``most`` records that somebody wants and may see, older than a place where one is given."""
        top = min(_FOREVER if wanted.until is None else wanted.until, _FOREVER if before is None else before.at)
        with ExitStack() as stack:
            tails, unreadable = _open_readers(self.folder, stack, top)
            gathered, edge = self._collect(tails, _RecordFilter(wanted, view, before), most, top)
        return _build_page(gathered, edge, most, unreadable)

    def _collect(
        self, tails: list[_BackwardReader], sieve: "_RecordFilter", most: int, top: float
    ) -> tuple[list["_Hit"], float]:
        """Return what was found, and the time down to which nothing is missing."""
        hits: list[_Hit] = []
        read, oldest = 0, sieve.wanted.after or 0
        while True:
            unread = [one for one in tails if one.end and one.frontier + _MAX_DISORDER >= oldest]
            if not unread:
                return hits, -1
            tail = max(unread, key=lambda one: one.frontier)
            enough = len(hits) > most and sum(one.place.at > tail.frontier for one in hits) > most
            # Whoever goes on where a search stopped comes further than that, whatever it takes.
            if enough or (read >= self.max_bytes_read and tail.frontier < top):
                return hits, tail.frontier
            before = tail.end
            hits.extend(sieve.matching_records(tail.chunk(self.chunk)))
            read += before - tail.end
            self.pause()


@dataclass(frozen=True, slots=True)
class _Hit:
    place: LogCursor
    record: dict[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _RecordFilter:
    """Tells which lines are wanted; what is parsed is judged by the record alone, never by its bytes."""

    wanted: AuditFilter
    view: AuditAccess
    before: LogCursor | None

    def matching_records(self, chunk: bytes) -> Iterator[_Hit]:
        """Yield what is wanted of some lines."""
        for line in _lines_containing(chunk, self._needles()):
            record = _parse(line)
            if record is not None and self.view.may_see(record) and self.wanted.matches(record):
                place = LogCursor(timestamp_ms_of(record), str(record.get("eventID", "")))
                if self.before is None or place < self.before:
                    yield _Hit(place, self.view.redact(record))

    def _needles(self) -> tuple[bytes, ...]:
        """Return the needles of the search, and that of the account of somebody who sees one alone."""
        own = self.view.accounts if len(self.view.accounts) == 1 and not self.view.all_accounts else ()
        return (*self.wanted.needles(), *(f'"recipientaccountid":"{one}"'.encode() for one in own))


def _lines_containing(chunk: bytes, needles: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the lines that hold all of the needles, which are in lower case."""
    if not needles:
        yield from chunk.split(b"\n")
        return
    first, *others = needles
    lower = chunk.lower()
    at = lower.find(first)
    while at >= 0:
        start, end = lower.rfind(b"\n", 0, at) + 1, lower.find(b"\n", at)
        end = len(lower) if end < 0 else end
        if all(lower.find(one, start, end) >= 0 for one in others):
            yield chunk[start:end]
        at = lower.find(first, end)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:  # also what is no UTF-8: a damaged line is no reason to find nothing
        return None
    return record if isinstance(record, dict) else None


def _build_page(hits: list[_Hit], edge: float, most: int, unreadable: tuple[str, ...]) -> SearchPage:
    """Return the newest of what was found; what is not newer than the edge may be incomplete."""
    whole = sorted((one for one in hits if one.place.at > edge), key=lambda one: one.place, reverse=True)
    shown = tuple(one.record for one in whole[:most])
    if len(whole) > most:
        return SearchPage(shown, whole[most - 1].place, None, unreadable)
    if edge < 0:
        return SearchPage(shown, None, None, unreadable)
    return SearchPage(shown, LogCursor(int(edge), _LAST), int(edge), unreadable)


# --- where to begin ---------------------------------------------------------------------------------------------------


def _open_readers(folder: Path, stack: ExitStack, top: float) -> tuple[list[_BackwardReader], tuple[str, ...]]:
    tails, unreadable = [], []
    for path in log_files(folder):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # an operator's, who called the command line as somebody else
            unreadable.append(path.name)
            continue
        stack.callback(os.close, fd)
        tails.append(_BackwardReader(fd, _find_end(fd, os.fstat(fd).st_size, top + _MAX_DISORDER)))
    return tails, tuple(unreadable)


def _find_end(fd: int, size: int, top: float) -> int:
    """Return a place in a file after which all lines are newer than a moment, by halving."""
    low, high = 0, size if top < _FOREVER else 0
    while high - low > CHUNK:
        middle = (low + high) // 2
        at = _time_after(fd, middle, size)
        if at is None or at <= top:
            low = middle
        else:
            high = middle
    # The line in which that lies begins before it.
    return _line_end(fd, high, size) if 0 < high < size else size


def _time_after(fd: int, place: int, size: int) -> int | None:
    """Return the time of the first line that begins after a place."""
    begin = _line_end(fd, place, size)
    found = _AT.search(os.pread(fd, min(CHUNK, size - begin), begin))
    return int(found[1]) if found else None


def _line_end(fd: int, place: int, size: int) -> int:
    while place < size:
        data = os.pread(fd, min(CHUNK, size - place), place)
        at = data.find(b"\n")
        if at >= 0 or not data:
            return place + at + 1
        place += len(data)
    return size
