"""Child processes that do not outlive their parent and are stopped in order."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StartupError(Exception):
    """The service cannot start, or one of its processes ended; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """One process of the service; ``stop_timeout`` is how many seconds it gets to end after SIGTERM."""

    name: str
    process: "subprocess.Popen[str]"
    stop_timeout: float = 10.0

    def exit_message(self) -> str:
        """Return how the process ended, or an empty text while it runs."""
        code = self.process.poll()
        if code is None:
            return ""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"{self.name} ended {how}"

    def stop(self) -> None:
        """Stop the process: SIGTERM first, SIGKILL after the timeout."""
        self.process.terminate()
        try:
            self.process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def spawn(
    command: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdout: int | IO[str] | None = None,
) -> "subprocess.Popen[str]":
    """Start a program that the kernel stops when this process ends; its output goes to standard error. Raise OSError.

    It has its own process group: Ctrl-C reaches only this process, which then stops its children in order.
    """
    return subprocess.Popen(  # noqa: S603 - fixed commands, run without a shell
        command,
        env=environ,
        pass_fds=tuple(pass_fds),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if stdout is None else stdout,
        text=True,
        process_group=0,
        preexec_fn=_kill_when_parent_exits(os.getpid()),  # noqa: PLW1509 - called before this process starts any thread
    )


def _kill_when_parent_exits(parent: int) -> Callable[[], None]:
    def before_exec() -> None:
        if sys.platform == "linux":
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent ended before prctl
            os._exit(1)

    return before_exec
