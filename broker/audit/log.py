"""The audit log: files of JSON lines, each line linked to the one before it by a hash.

Each process appends to its own file, so no lock is needed. Each line has its number and the SHA-256 of the line before,
so a changed, removed or inserted line is detected. A record is passed to the kernel before ``append`` returns: a crash
of the process loses nothing, and a power failure loses at most the flush interval.
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

# The flush must not block greenlets or wait for a busy one, so it runs in an operating system thread.
_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")


class AuditUnavailable(ServiceUnavailable):
    """The audit log cannot be written, so nothing may be granted or changed."""


class AuditLog:
    """Appends records to this process's own file in ``folder``; every method is safe to call from several greenlets.

    ``sync`` is "group", which flushes to the disk every ``flush_ms`` milliseconds, or "always", which flushes each
    record before ``append`` returns. The constructor raises AuditUnavailable.
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
        """Write a record; raise AuditUnavailable where it, or an earlier one, did not reach the disk.

        No greenlet switch can occur between taking the number and the write: os.write on a file is one system call.
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
        """Flush and close the file; no record may be appended afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(fd)
            os.close(fd)

    def _write(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            # A full disk accepted part of the line: remove it, so that the next line does not continue it.
            os.ftruncate(self._fd, self._size)
            raise OSError(28, "the disk accepted only part of a record")
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
        """Try to write again; raise AuditUnavailable while the disk refuses."""
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
    """Open a file that no other running process writes; return its descriptor and path. Raise AuditUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(1, 1000):
            path = folder / f"{number:03}{_SUFFIX}"
            # O_APPEND: a line can never overwrite another.
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except PermissionError:
                if not path.exists():
                    raise
                continue  # the file of an operator who ran a command as another user
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return fd, path
    except OSError as error:
        raise _unavailable(f"{folder}: {_error_text(error)}") from error
    raise _unavailable(f"{folder}: a thousand processes already write here")


def _resume(fd: int, path: Path) -> tuple[int, str]:
    """Return number and hash of the last line, and remove a partial one after it. Raise AuditUnavailable."""
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
    """The number of valid lines at the start of a file, and what is wrong with the next line.

    ``fault`` is empty where the whole file is valid. ``head`` is the hash of the last valid line: stored elsewhere, it
    proves later that no line was removed at the end.
    """

    path: Path
    lines: int
    head: str
    fault: str


def log_files(folder: Path) -> list[Path]:
    """Return the files of the log."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def verify(path: Path) -> ChainVerification:
    """Verify the hash chain of a file from its first line; raise OSError."""
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
        return f"line {number} is not a record"
    if not line.endswith(b"\n"):
        return f"line {number} is incomplete"
    if seq != number:
        return f"line {number} has the number {seq}"
    return "" if prev == previous else f"line {number} does not match the hash of the line before"


def read_last_records(folder: Path, last: int) -> list[dict[str, Any]]:
    """Return the newest ``last`` records of all files, oldest first; lines that are not records are skipped."""
    records = [record for path in log_files(folder) for record in _parse_lines(_last_lines(path, last))]
    # Each worker has its own file; within a second, ``at`` gives the order.
    records.sort(key=lambda record: (str(record.get("eventTime", "")), int(record.get("at") or 0)))
    return records[-last:] if last else []


def follow(folder: Path, *, every: float = 0.2) -> Iterator[dict[str, Any]]:
    """Yield records as they are written, forever; polls every ``every`` seconds."""
    offsets = {path: path.stat().st_size for path in log_files(folder)}
    while True:
        for path in log_files(folder):
            with path.open("rb") as lines:
                lines.seek(offsets.get(path, 0))
                whole = lines.read().rpartition(b"\n")[0]
            if whole:
                offsets[path] = offsets.get(path, 0) + len(whole) + 1
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
