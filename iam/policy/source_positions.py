"""The positions of statements in the text of a policy: line and column, as in the policy simulator of AWS.

Pure. Source: IAM API Reference, "Position". In AWS's examples both count from 1; a statement begins directly after the
character before it (``[``, ``,`` or ``:``) and ends directly after its last brace.
"""

import json
from bisect import bisect_left
from typing import NamedTuple

_DECODER = json.JSONDecoder()
_WHITE_SPACE = " \t\r\n"


class Position(NamedTuple):
    """A line and column of a text, counted from 1."""

    line: int
    column: int


class Span(NamedTuple):
    """The start and end of a statement."""

    start: Position
    end: Position


def statement_spans(text: str) -> tuple[Span, ...]:
    """Return the span of each statement in the text of a policy that was parsed before."""
    offset = _after(text, 0, "{")
    while True:
        name, offset = _DECODER.raw_decode(text, _skip(text, offset))
        offset = _after(text, offset, ":")
        if name == "Statement":
            lines = [-1, *(index for index, char in enumerate(text) if char == "\n")]
            return tuple(
                Span(_position(lines, start), _position(lines, end)) for start, end in _statements(text, offset)
            )
        _, offset = _DECODER.raw_decode(text, _skip(text, offset))
        offset = _after(text, offset, ",")


def _statements(text: str, offset: int) -> list[tuple[int, int]]:
    if text[_skip(text, offset)] != "[":
        return [(offset, _DECODER.raw_decode(text, _skip(text, offset))[1])]
    spans = []
    offset = _after(text, offset, "[")
    while True:
        _, end = _DECODER.raw_decode(text, _skip(text, offset))
        spans.append((offset, end))
        next_char = _skip(text, end)
        if text[next_char] == "]":
            return spans
        offset = next_char + 1


def _skip(text: str, offset: int) -> int:
    while text[offset] in _WHITE_SPACE:
        offset += 1
    return offset


def _after(text: str, offset: int, char: str) -> int:
    """Return the offset after the next ``char``; the text is valid, so it is the next token."""
    return text.index(char, offset) + 1


def _position(lines: list[int], offset: int) -> Position:
    """Return the line and column of an offset; ``lines`` are the offsets of line feeds, with -1 for the first line."""
    line = bisect_left(lines, offset)
    return Position(line, offset - lines[line - 1])
