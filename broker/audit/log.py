"""The audit log: one JSON line per decision, on its way to the disk before the answer leaves, chained by hash.

Each process appends to a file of its own, so that no lock is needed. Each line carries its number and the SHA-256 of
the line before, so that a changed, removed or inserted line shows. The line is handed to the kernel before ``append``
returns: a crash of the process loses nothing, and a power cut at most the flush interval.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gevent.monkey import get_original

from iam.clock import SECOND
from iam.errors import ServiceUnavailable

_ZERO: Final = "0" * 64
_SUFFIX: Final = ".jsonl"
_CHUNK: Final = 64 * 1024
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode

# The flush must not block the greenlets, nor wait for one that hogs its thread: a real thread, whatever gevent patched.
_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")


class AuditUnavailable(ServiceUnavailable):
    """The audit log cannot be written, so nothing may be granted or changed."""


class AuditLog:
    """Appends records to this process's own file in ``folder``; every method is safe among greenlets.

    ``sync`` is "group", which flushes to the disk every ``flush_ms`` milliseconds, or "always", which flushes each
    record before ``append`` returns. Raises AuditUnavailable.
    """

    def __init__(self, folder: Path, *, sync: str = "group", flush_ms: int = 200) -> None:
        self._always = sync == "always"
        self._interval = flush_ms / SECOND
        self._fd, self.path = _open(folder)
        self._seq, self._last = _resume(self._fd, self.path)
        self._size = os.fstat(self._fd).st_size
        self._broken = ""
        self._written = self._synced = 0
        if not self._always:
            _start_thread(self._flush_forever, ())

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; raise AuditUnavailable where it, or one before it, did not reach the disk.

        Between the number and the write nothing switches greenlets: os.write on a file is one call into the kernel.
        """
        if self._broken:
            self._recover()
        line = _encode({"seq": self._seq + 1, "prev": self._last, **record}).encode("ascii") + b"\n"
        try:
            self._write(line)
        except OSError as error:
            self._broken = _error_text(error)
            raise _unavailable(self._broken) from error
        self._seq += 1
        self._last = hashlib.sha256(line[:-1]).hexdigest()

    def check(self) -> None:
        """Raise AuditUnavailable while records cannot be written, or the disk has no room for one."""
        if self._broken:
            self._recover()
        try:
            _reserve(self._fd, self._size)
        except OSError as error:
            self._broken = _error_text(error)
            raise _unavailable(self._broken) from error

    def close(self) -> None:
        """Flush what is written and close the file; nothing may be appended afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(fd)
            os.close(fd)

    def _write(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            # A full disk takes part of a line: cut it off, so that the next line does not continue it.
            os.ftruncate(self._fd, self._size)
            raise OSError(28, "the disk took part of a record")
        self._size += written
        self._written += 1
        if self._always:
            try:
                os.fdatasync(self._fd)
            except OSError:
                os.ftruncate(self._fd, self._size - written)
                self._size -= written
                raise

    def _recover(self) -> None:
        """Try the disk again; raise AuditUnavailable as long as it refuses."""
        try:
            os.ftruncate(self._fd, self._size)
            _reserve(self._fd, self._size)
            os.fdatasync(self._fd)
        except OSError as error:
            self._broken = _error_text(error)
            raise _unavailable(self._broken) from error
        self._broken = ""

    def _flush_forever(self) -> None:
        while self._fd >= 0:
            _sleep(self._interval)
            written = self._written
            if written == self._synced or self._fd < 0:
                continue
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                if self._fd >= 0:
                    self._broken = _error_text(error)
            else:
                self._synced = written


def _error_text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _unavailable(reason: str) -> AuditUnavailable:
    return AuditUnavailable("The service cannot record this request. Try again later.", log=f"audit log: {reason}")


def _reserve(fd: int, size: int) -> None:
    """Raise OSError where the disk has no room for one more record."""
    os.posix_fallocate(fd, size, _CHUNK)
    os.ftruncate(fd, size)


def _open(folder: Path) -> tuple[int, Path]:
    """Return a descriptor of a file that no other living process writes, and its path; raise AuditUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(1, 1000):
            path = folder / f"{number:03}{_SUFFIX}"
            # O_APPEND: whatever else happens, no line overwrites another.
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except PermissionError:
                if not path.exists():
                    raise
                continue  # an operator's, who called the command line as somebody else
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return fd, path
    except OSError as error:
        raise _unavailable(f"{folder}: {_error_text(error)}") from error
    raise _unavailable(f"{folder}: a thousand processes write here already")


def _resume(fd: int, path: Path) -> tuple[int, str]:
    """Return number and hash of the last line; half a line, after a power cut, is cut off. Raise AuditUnavailable."""
    size = os.fstat(fd).st_size
    tail = b""
    start = size
    while start and tail.count(b"\n") < 2:  # noqa: PLR2004 - the end of the last line and of the one before it
        step = min(start, _CHUNK)
        start -= step
        tail = os.pread(fd, step, start) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    if len(whole) < len(tail):
        os.ftruncate(fd, size - (len(tail) - len(whole)))
    if not whole:
        return 0, _ZERO
    last = whole[:-1].rpartition(b"\n")[2]
    try:
        return int(json.loads(last)["seq"]), hashlib.sha256(last).hexdigest()
    except (ValueError, KeyError, TypeError) as error:
        raise _unavailable(f"{path}: the last line is damaged; move the file away") from error


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """What a file's chain says: how many good lines it begins with, and what is wrong with the next.

    ``fault`` is empty where nothing is wrong. ``head`` is the hash of the last good line: kept elsewhere, it proves
    later that nothing was cut off at the end.
    """

    path: Path
    lines: int
    head: str
    fault: str


def log_files(folder: Path) -> list[Path]:
    """Return the log's files."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def verify(path: Path) -> ChainVerification:
    """Follow a file's chain from its first line; raise OSError."""
    head, count = _ZERO, 0
    with path.open("rb") as lines:
        for line in lines:
            fault = _find_fault(line, count + 1, head)
            if fault:
                return ChainVerification(path, count, head, fault)
            head, count = hashlib.sha256(line[:-1]).hexdigest(), count + 1
    return ChainVerification(path, count, head, "")


def _find_fault(line: bytes, number: int, previous: str) -> str:
    try:
        record = json.loads(line)
        seq, prev = record["seq"], record["prev"]
    except (ValueError, KeyError, TypeError):
        return f"line {number} is no record"
    if not line.endswith(b"\n"):
        return f"line {number} is cut short"
    if seq != number:
        return f"line {number} has the number {seq}"
    return "" if prev == previous else f"line {number} does not follow from the line before"


def read_last_records(folder: Path, last: int) -> list[dict[str, Any]]:
    """Return the newest ``last`` records of all files, oldest first; lines that are no records are left out."""
    found = [record for path in log_files(folder) for record in _parse_lines(_last_lines(path, last))]
    # Workers write files of their own; within a second, the milliseconds tell who was first.
    found.sort(key=lambda record: (str(record.get("eventTime", "")), int(record.get("at") or 0)))
    return found[-last:] if last else []


def follow(folder: Path, *, every: float = 0.2) -> Iterator[dict[str, Any]]:
    """Yield records as they are written, for ever; looks every so many seconds."""
    at = {path: path.stat().st_size for path in log_files(folder)}
    while True:
        for path in log_files(folder):
            with path.open("rb") as lines:
                lines.seek(at.get(path, 0))
                whole = lines.read().rpartition(b"\n")[0]
            if whole:
                at[path] = at.get(path, 0) + len(whole) + 1
                yield from _parse_lines(whole.split(b"\n"))
        time.sleep(every)


def _last_lines(path: Path, count: int) -> list[bytes]:
    size = path.stat().st_size
    with path.open("rb") as lines:
        tail = b""
        while size and tail.count(b"\n") <= count:
            step = min(size, _CHUNK)
            size -= step
            lines.seek(size)
            tail = lines.read(step) + tail
    return tail.split(b"\n")[:-1][-count:] if count else []


def _parse_lines(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
