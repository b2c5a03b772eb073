"""Globs: texts with wildcards, without variables. Matching never backtracks and never raises.

Pure. A regular expression would backtrack: a tenant's policy such as ``*a*a*a*b`` could block a worker.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import groupby
from typing import NamedTuple

Test = Callable[[str], bool]


class Wildcard(Enum):
    """The two wildcards, and the two forms of them that do not match a colon."""

    RUN = "*"
    ONE = "?"
    RUN_WITHIN = "* within a part"
    ONE_WITHIN = "? within a part"


Part = str | Wildcard


def compile_glob(parts: Iterable[Part]) -> Test:
    """Return a test that matches a pattern against a whole text.

    Its time is at most proportional to length of text times length of pattern / 64, whatever the pattern. A regular
    expression would backtrack: a tenant's policy such as ``*a*a*a*b`` could block a worker.
    """
    normalized = _normalize(parts)
    wildcards = {part for part in normalized if isinstance(part, Wildcard)}
    if not wildcards:
        return "".join(part for part in normalized if isinstance(part, str)).__eq__
    return _chunk_test(normalized) if wildcards == {Wildcard.RUN} else _shift_and_test(normalized)


def _normalize(parts: Iterable[Part]) -> list[Part]:
    """Join adjacent literals, and reduce each run of wildcards to its question marks and at most one star."""
    normalized: list[Part] = []
    for is_wild, run in groupby((part for part in parts if part), lambda part: isinstance(part, Wildcard)):
        wildcards = list(run)
        if not is_wild:
            normalized.append("".join(part for part in wildcards if isinstance(part, str)))
        elif {Wildcard.RUN, Wildcard.ONE}.issuperset(wildcards):
            normalized += [part for part in wildcards if part is Wildcard.ONE]
            normalized += [Wildcard.RUN] * (Wildcard.RUN in wildcards)
        else:
            normalized += wildcards
    return normalized


def _chunk_test(normalized: Sequence[Part]) -> Test:
    # For patterns with stars only, taking the leftmost match of each chunk is exact: it leaves the most text for the
    # next chunk.
    prefix = normalized[0] if isinstance(normalized[0], str) else ""
    suffix = normalized[-1] if isinstance(normalized[-1], str) else ""
    inner = normalized[bool(prefix) : len(normalized) - bool(suffix)]
    middle = [part for part in inner if isinstance(part, str)]
    shortest = sum(map(len, middle)) + len(prefix) + len(suffix)

    def test(text: str) -> bool:
        if len(text) < shortest or not text.startswith(prefix) or not text.endswith(suffix):
            return False
        position, end = len(prefix), len(text) - len(suffix)
        for chunk in middle:
            position = text.find(chunk, position, end)
            if position < 0:
                return False
            position += len(chunk)
        return True

    return test


class _Automaton(NamedTuple):
    """The automaton of a pattern, for the Shift-And algorithm (Baeza-Yates and Gonnet).

    Bit i of a state is set where the first i characters of the pattern match the text up to the current position.
    ``transitions`` are the positions that a character reaches, ``stars`` those that stay at any other character.
    """

    size: int
    transitions: dict[str, int]
    any_char: int
    stars: int
    stars_at_colon: int

    def read(self, text: str) -> int:
        """Return the state after a text; 0 means that no text that begins like this can match."""
        _, transitions, any_char, stars, stars_at_colon = self
        state = 1
        for char in text:
            state = (state << 1 & transitions.get(char, any_char)) | (
                state & (stars if char != ":" else stars_at_colon)
            )
            if not state:
                return 0
        return state


def _automaton(normalized: Sequence[Part]) -> _Automaton:
    size = 0
    masks = dict.fromkeys(Wildcard, 0)
    char_masks: dict[str, int] = {}
    for part in normalized:
        if isinstance(part, Wildcard):
            size += part in (Wildcard.ONE, Wildcard.ONE_WITHIN)
            masks[part] |= 1 << size
        else:
            for char in part:
                size += 1
                char_masks[char] = char_masks.get(char, 0) | 1 << size
    any_char = masks[Wildcard.ONE] | masks[Wildcard.ONE_WITHIN]
    transitions = {char: bits | any_char for char, bits in char_masks.items()}
    transitions[":"] = char_masks.get(":", 0) | masks[Wildcard.ONE]
    return _Automaton(
        size, transitions, any_char, masks[Wildcard.RUN] | masks[Wildcard.RUN_WITHIN], masks[Wildcard.RUN]
    )


def _shift_and_test(normalized: Sequence[Part]) -> Test:
    automaton = _automaton(normalized)
    size, accepted = automaton.size, 1 << automaton.size
    return lambda text: len(text) >= size and bool(automaton.read(text) & accepted)


def matches_some(parts: Iterable[Part], prefix: str) -> bool:
    """Return whether a glob matches at least one text that begins with a prefix."""
    # Whatever is left of the pattern, there is a text for it.
    return _automaton(_normalize(parts)).read(prefix) != 0


def matches_every(parts: Iterable[Part], prefix: str) -> bool:
    """Return whether a glob matches every text that begins with a prefix.

    Where the prefix has used up the pattern to a star at its end. Nothing else does: a text of a character that the
    pattern does not have matches only stars and question marks, and of those one has to take texts of any length.
    """
    automaton = _automaton(_normalize(parts))
    return bool(automaton.read(prefix) & automaton.stars_at_colon & 1 << automaton.size)
