"""The audit log: files of JSON lines, each line linked to the one before it by a hash.

Each process appends to its own file, ``NNN.jsonl``, so no lock is needed. Each line has its number and the SHA-256 of
the line before, so a changed, removed or inserted line is detected (broker.audit.chain). A file that has grown to the
size of a segment is sealed: it becomes read-only under the name ``NNN-SEGMENT.jsonl``, and the chain goes on in a new
file. A record is passed to the kernel before ``append`` returns: a crash of the process loses nothing, and a power
failure loses at most the flush interval.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gevent.monkey import get_original

from broker.audit.abridge import LINK, abridge, max_size
from broker.audit.strangers import StrangersRefusals, is_refusal_of_stranger
from iam.clock import SECOND
from iam.errors import ServiceUnavailable

ZERO_HASH: Final = "0" * 64
_SUFFIX: Final = ".jsonl"
_CHUNK: Final = 128 * 1024  # bytes; larger than any record
# O_APPEND: a line can never overwrite another.
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
SEGMENT_BYTES: Final = 256 * 1024 * 1024
STRANGERS_PER_MINUTE: Final = 300
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode

# The flush must not block greenlets or wait for a busy one, so it runs in an operating system thread.
_start_thread = get_original("_thread", "start_new_thread")
_sleep = get_original("time", "sleep")


class AuditUnavailable(ServiceUnavailable):
    """The audit log cannot be written, so nothing may be granted or changed."""


class AuditLog:
    """Appends records to this process's own file in ``folder``; every method is safe to call from several greenlets.

    ``sync`` is "group", which flushes to the disk every ``flush_ms`` milliseconds, or "always", which flushes each
    record before ``append`` returns. ``segment_bytes`` is the size at which a file is sealed; ``strangers_per_minute``
    is how many refusals of strangers get a record of their own. The constructor raises AuditUnavailable.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sync: str = "group",
        flush_ms: int = 200,
        segment_bytes: int = SEGMENT_BYTES,
        strangers_per_minute: int = STRANGERS_PER_MINUTE,
    ) -> None:
        self._always = sync == "always"
        self._interval = flush_ms / SECOND
        self._segment_bytes = segment_bytes
        self._strangers = StrangersRefusals(strangers_per_minute)
        self._reserve_fd, self._fd, self.path = _open(folder)
        self._seq, self._last = _resume(self._fd, self.path)
        self._size = os.fstat(self._fd).st_size
        self._broken = ""
        self._written = self._synced = 0
        if not self._always:
            _start_thread(self._flush_forever, ())

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record; raise AuditUnavailable where it, or an earlier one, did not reach the disk.

        Refusals of strangers above a rate are counted, and written as one record when a minute has passed.
        """
        if is_refusal_of_stranger(record):
            record = abridge(record)  # also what is only counted is held for a minute
            if self._strangers.is_due(record):
                self.append_aggregated()
            if not self._strangers.admit(record):
                return
        elif self._strangers.is_due(record):
            self.append_aggregated()
        self._append(record)

    def _line(self, record: Mapping[str, Any]) -> bytes:
        # They come first, and no member of the record takes their place.
        link = {"seq": self._seq + 1, "prev": self._last}
        return _encode({**link, **record, **link}).encode("ascii") + b"\n"

    def append_aggregated(self) -> None:
        """Write the one record of the refusals of strangers that were counted; raise AuditUnavailable."""
        aggregated = self._strangers.take()
        if aggregated is not None:
            self._append(aggregated)

    def _append(self, record: Mapping[str, Any]) -> None:
        """Write a line.

        No greenlet switch can occur between taking the number and the write: os.write on a file is one system call.
        """
        if self._broken:
            self._recover()
        if self._size >= self._segment_bytes:
            self._seal()
        line = self._line(record)
        if len(line) > max_size(record) - LINK:
            line = self._line(abridge(record))
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
            self._hold_reserve()
        except OSError as error:
            self._broken = _error_text(error)
            raise _unavailable(self._broken) from error

    def close(self) -> None:
        """Flush and close the file; no record may be appended afterwards."""
        if self._fd >= 0 and not self._broken:
            with contextlib.suppress(AuditUnavailable):
                self.append_aggregated()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(fd)
            os.close(fd)
            os.close(self._reserve_fd)

    def _seal(self) -> None:
        """Seal the file and go on in a new one; where that fails, go on in this one and try again with the next record.

        The last hash of a segment begins the next one, so nothing can be changed in it or taken from it.
        """
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
            sealed, self._fd, self._size = self._fd, self._begin_segment(), 0
            with contextlib.suppress(OSError):
                os.fchmod(sealed, 0o400)
            os.close(sealed)

    def _begin_segment(self) -> int:
        """Give the file the name of a segment, and return a new one; where that fails, the file keeps its name."""
        segments = _segments(self.path)
        number = int(segments[-1].stem.partition("-")[2]) + 1 if segments else 1
        segment = self.path.with_name(f"{self.path.stem}-{number:06}{_SUFFIX}")
        following = self.path.with_suffix(".next")
        fd = os.open(following, _FLAGS, 0o600)
        try:
            self.path.rename(segment)
            try:
                following.rename(self.path)
            except OSError:
                segment.rename(self.path)
                raise
        except OSError:
            os.close(fd)
            raise
        return fd

    def _hold_reserve(self) -> None:
        """Take the space of one more record in a file of its own: readers of the log never see it."""
        os.ftruncate(self._reserve_fd, 0)
        os.posix_fallocate(self._reserve_fd, 0, _CHUNK)

    def _write(self, line: bytes) -> None:
        """Write a line; where the disk is full, into the space that was held for it."""
        try:
            self._write_once(line)
        except OSError:
            if not os.fstat(self._reserve_fd).st_size:
                raise
            os.ftruncate(self._reserve_fd, 0)
            self._write_once(line)

    def _write_once(self, line: bytes) -> None:
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
            self._hold_reserve()
            os.fdatasync(self._fd)
        except OSError as error:
            self._broken = _error_text(error)
            raise _unavailable(self._broken) from error
        self._broken = ""

    def _flush_forever(self) -> None:
        while self._fd >= 0:
            _sleep(self._interval)
            written, fd = self._written, self._fd
            if written == self._synced or fd < 0:
                continue
            try:
                os.fdatasync(fd)
            except OSError as error:
                if self._fd == fd:  # else it was closed, or sealed after a flush
                    self._broken = _error_text(error)
            else:
                self._synced = written


def _error_text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _unavailable(reason: str) -> AuditUnavailable:
    return AuditUnavailable("The service cannot record this request. Try again later.", log=f"audit log: {reason}")


def _open(folder: Path) -> tuple[int, int, Path]:
    """Open a file that no other running process writes; return the descriptors of its reserve and of it, and its path.

    The lock is on the reserve, which stays when the file is sealed. Raise AuditUnavailable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(1, 1000):
            path = folder / f"{number:03}{_SUFFIX}"
            opened: list[int] = []
            try:
                for file in (path.with_suffix(".reserve"), path):
                    opened.append(os.open(file, _FLAGS, 0o600))
                    fcntl.flock(opened[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                for fd in opened:
                    os.close(fd)
                if not isinstance(error, PermissionError | BlockingIOError):
                    raise
                if isinstance(error, PermissionError) and not (path.exists() or path.with_suffix(".reserve").exists()):
                    raise
                continue  # another process writes it, or an operator did who ran a command as another user
            return opened[0], opened[1], path
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
        segments = _segments(path)
        return _last_of(segments[-1]) if segments else (0, ZERO_HASH)
    return _number_and_hash(path, whole)


def _last_of(segment: Path) -> tuple[int, str]:
    """Return number and hash of the last line of a sealed segment; raise AuditUnavailable."""
    lines = _last_lines(segment, 1)
    return _number_and_hash(segment, lines[-1] + b"\n" if lines else b"\n")


def _number_and_hash(path: Path, whole: bytes) -> tuple[int, str]:
    last = whole[:-1].rpartition(b"\n")[2]
    try:
        return int(json.loads(last)["seq"]), hashlib.sha256(last).hexdigest()
    except (ValueError, KeyError, TypeError) as error:
        raise _unavailable(f"{path}: the last line is damaged; move the file away") from error


# --- reading ----------------------------------------------------------------------------------------------------------


def log_files(folder: Path) -> list[Path]:
    """Return the files of the log; of each process the sealed segments, oldest first, then the one that grows."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def _segments(path: Path) -> list[Path]:
    """Return the sealed segments of a process's file, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}-*{_SUFFIX}"))


def read_last_records(folder: Path, last: int) -> list[dict[str, Any]]:
    """Return the newest ``last`` records of all files, oldest first; lines that are not records are skipped."""
    records = [record for path in log_files(folder) for record in parse_lines(_last_lines(path, last))]
    # Each worker has its own file; within a second, ``at`` gives the order.
    records.sort(key=lambda record: (str(record.get("eventTime", "")), int(record.get("at") or 0)))
    return records[-last:] if last else []


def follow(folder: Path, *, every: float = 0.2) -> Iterator[dict[str, Any]]:
    """Yield records as they are written, forever; polls every ``every`` seconds."""
    # By inode: a file that is sealed gets another name.
    offsets = {path.stat().st_ino: path.stat().st_size for path in log_files(folder)}
    while True:
        for path in log_files(folder):
            with path.open("rb") as lines:
                file = os.fstat(lines.fileno()).st_ino
                lines.seek(offsets.get(file, 0))
                whole = lines.read().rpartition(b"\n")[0]
            if whole:
                offsets[file] = offsets.get(file, 0) + len(whole) + 1
                yield from parse_lines(whole.split(b"\n"))
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


def parse_lines(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of lines; lines that are not records are skipped."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
