"""Time-based one-time passwords. Source: RFC 6238 (time steps), RFC 4226 (the code of one step). Pure."""

import hashlib
import hmac
import struct
from datetime import datetime

from iam.clock import to_seconds

STEP = 30  # seconds
DIGITS = 6
WINDOW = (
    1  # steps before and after the current one: RFC 6238 5.2 allows one for network delay; more makes guessing easier
)
_NEVER = -1


def step_at(now: datetime) -> int:
    """Return the number of the time step that contains a moment."""
    return to_seconds(now) // STEP


def code_at(seed: bytes, step: int, digits: int = DIGITS) -> str:
    """Return the code of one step (RFC 4226 5.3, HMAC-SHA-1)."""
    digest = hmac.digest(seed, struct.pack(">Q", step), hashlib.sha1)
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}}"


def accepted_step(seed: bytes, code: str, now: datetime, after_step: int | None, drift: int = 0) -> int | None:
    """Return the step of a valid code; None if it is wrong, outside the window, or not newer than ``after_step``.

    ``drift`` is the number of steps by which the device's clock is ahead. RFC 6238 5.2: a step is accepted once, so
    store the result with a conditional update and pass it as ``after_step`` the next time.
    """
    return _match(seed, (code,), range(step_at(now) + drift - WINDOW, step_at(now) + drift + WINDOW + 1), after_step)


def accepted_pair(
    seed: bytes,
    codes: tuple[str, str],
    now: datetime,
    after_step: int | None,
    *,
    drift: int = 0,
    window: int = WINDOW,
) -> int | None:
    """Return the second of the two consecutive steps that two codes are valid for, or None."""
    # The first code may be one step older, because the person waited for the second.
    newest = step_at(now) + drift + window
    first = _match(seed, codes, range(newest - 2 * window - 1, newest), after_step)
    return None if first is None else first + 1


def _match(seed: bytes, codes: tuple[str, ...], steps: range, after_step: int | None) -> int | None:
    """Return the oldest step at which the codes are valid in sequence.

    Every step is computed and compared in constant time: the response time shows neither the step nor how many
    digits were correct.
    """
    oldest = _NEVER if after_step is None else after_step
    submitted = "".join(codes).encode()
    matched = None
    for step in reversed(steps):
        if step > oldest:
            expected = "".join(code_at(seed, step + offset) for offset in range(len(codes)))
            if hmac.compare_digest(expected.encode(), submitted):
                matched = step
    return matched
