"""Where the statements of a policy stand in its text: line and column, as the policy simulator of AWS tells them.

Pure. Source: IAM API Reference, "Position"; AWS's examples count both from 1, begin a statement right behind the sign
before it (``[``, ``,`` or ``:``) and end it right behind its last brace.
"""

import json
from bisect import bisect_left
from typing import NamedTuple

_DECODER = json.JSONDecoder()
_WHITE_SPACE = " \t\r\n"


class Position(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


class Span(NamedTuple):
    """Where a statement begins and ends."""

    start: Position
    end: Position


def statement_spans(text: str) -> tuple[Span, ...]:
    """Return where each statement stands in the text of a policy that was read before."""
    at = _after(text, 0, "{")
    while True:
        name, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _after(text, at, ":")
        if name == "Statement":
            lines = [-1, *(place for place, sign in enumerate(text) if sign == "\n")]
            return tuple(Span(_position(lines, start), _position(lines, end)) for start, end in _statements(text, at))
        _, at = _DECODER.raw_decode(text, _skip(text, at))
        at = _after(text, at, ",")


def _statements(text: str, at: int) -> list[tuple[int, int]]:
    if text[_skip(text, at)] != "[":
        return [(at, _DECODER.raw_decode(text, _skip(text, at))[1])]
    found = []
    at = _after(text, at, "[")
    while True:
        _, end = _DECODER.raw_decode(text, _skip(text, at))
        found.append((at, end))
        behind = _skip(text, end)
        if text[behind] == "]":
            return found
        at = behind + 1


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITE_SPACE:
        at += 1
    return at


def _after(text: str, at: int, sign: str) -> int:
    """Return the place behind the next sign, which the grammar says is this one."""
    return text.index(sign, at) + 1


def _position(lines: list[int], at: int) -> Position:
    """Return the line and column of a place; ``lines`` are where line feeds stand, as if one stood before the text."""
    line = bisect_left(lines, at)
    return Position(line, at - lines[line - 1])
