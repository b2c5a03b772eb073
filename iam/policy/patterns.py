"""Wildcards and policy variables, prepared once so that matching a text never compiles, backtracks or raises.

Pure. Source: IAM User Guide, "IAM JSON policy elements: Resource" (wildcards, incomplete ARNs) and "IAM policy
elements: Variables and tags". ``*`` and ``?`` are wildcards only where an author wrote them: a variable's value is
always literal.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import NamedTuple

ContextKeys = Mapping[str, tuple[str, ...]]
Test = Callable[[str], bool]
# Does a text match? None: it does not, and a variable had no value, so that nobody can know.
Match = Callable[[str, ContextKeys], bool | None]

ARN_PARTS = 6
_LAST = ARN_PARTS - 1


class Wildcard(Enum):
    """The two wildcards, and the two forms of them that stop at a colon."""

    RUN = "*"
    ONE = "?"
    RUN_WITHIN = "* within a part"
    ONE_WITHIN = "? within a part"


@dataclass(frozen=True, slots=True)
class Variable:
    """``${key}`` or ``${key, 'default'}``; the key is in lower case."""

    key: str
    default: str | None = None

    def value(self, keys: ContextKeys) -> str | None:
        """Return the key's only value, else the default; a multi-valued key has no value to put in."""
        found = keys.get(self.key, ())
        return found[0] if len(found) == 1 else self.default


Part = str | Wildcard  # what a pattern consists of once its variables have values
Token = str | Wildcard | Variable

_SPLIT_WILD = re.compile(r"([*?])")
_SPLIT_VARIABLES = re.compile(r"(\$\{[^}]*\}?)")
_SPLIT_BOTH = re.compile(r"(\$\{[^}]*\}?|[*?])")
_NOT_IN_A_KEY = frozenset("*?${'\"")
# What makes a pattern more than its letters, by whether variables and wildcards count.
_SPECIALS = {
    (True, True): re.compile(r"[*?]|\$\{"),
    (True, False): re.compile(r"\$\{"),
    (False, True): re.compile(r"[*?]"),
    (False, False): re.compile(r"(?!)"),
}


def literal_prefix(text: str) -> str:
    """Return a pattern's signs before its first wildcard or variable: every text that it matches begins with them."""
    return _SPECIALS[True, True].split(text, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a list of patterns is written: which signs are special, and whether ARNs match part by part."""

    variables: bool = False
    wildcards: bool = True
    arn: bool = False
    # ARNs as in Resource: missing parts are completed with wildcards, and a * at the end of a part reaches over colons.
    resource: bool = False
    fold: bool = False


def tokenize_pattern(text: str, dialect: Dialect) -> tuple[Token, ...]:
    """Return a pattern's literals, wildcards and variables; ValueError says what is wrong with a variable."""
    return tuple(_token(piece, special=bool(at % 2)) for at, piece in enumerate(_split(text, dialect)) if piece)


def _split(text: str, dialect: Dialect) -> list[str]:
    if dialect.variables and "${" in text:
        return (_SPLIT_BOTH if dialect.wildcards else _SPLIT_VARIABLES).split(text)
    return _SPLIT_WILD.split(text) if dialect.wildcards else [text]


def _token(piece: str, *, special: bool) -> Token:
    if not special:
        return piece
    return Wildcard(piece) if piece in {"*", "?"} else _variable(piece)


def _variable(piece: str) -> str | Variable:
    if not piece.endswith("}"):
        raise ValueError(f"The variable {piece} has no closing brace")
    inner = piece[2:-1]
    if inner in {"*", "?", "$"}:  # "Specifying special characters": ${*} is a literal star
        return inner
    key, comma, rest = inner.partition(",")
    key, default = key.strip(), rest.strip()
    if ":" not in key or not _NOT_IN_A_KEY.isdisjoint(key):
        raise ValueError(f"The variable {piece} names no condition key")
    if not comma:
        return Variable(key.lower())
    if default[:1] != "'" or default.find("'", 1) != len(default) - 1:
        raise ValueError(f"The default of the variable {piece} must stand in single quotes")
    return Variable(key.lower(), default[1:-1])


def compile_glob(parts: Iterable[Part]) -> Test:
    """Return a test for the whole of a text; its time is bounded by text times pattern / 64, whatever the pattern."""
    tidy = _normalize(parts)
    wild = {part for part in tidy if isinstance(part, Wildcard)}
    if not wild:
        return "".join(part for part in tidy if isinstance(part, str)).__eq__
    return _chunk_test(tidy) if wild == {Wildcard.RUN} else _shift_and_test(tidy)


def _normalize(parts: Iterable[Part]) -> list[Part]:
    """Join neighbouring literals, and write each run of wildcards as its question marks and at most one star."""
    tidy: list[Part] = []
    for is_wild, run in groupby((part for part in parts if part), lambda part: isinstance(part, Wildcard)):
        together = list(run)
        if not is_wild:
            tidy.append("".join(part for part in together if isinstance(part, str)))
        elif {Wildcard.RUN, Wildcard.ONE}.issuperset(together):
            tidy += [part for part in together if part is Wildcard.ONE]
            tidy += [Wildcard.RUN] * (Wildcard.RUN in together)
        else:
            tidy += together
    return tidy


def _chunk_test(tidy: Sequence[Part]) -> Test:
    # Leftmost-first search is exact for stars alone: an earlier end of a chunk never leaves less room for the next.
    start = tidy[0] if isinstance(tidy[0], str) else ""
    tail = tidy[-1] if isinstance(tidy[-1], str) else ""
    inner = tidy[bool(start) : len(tidy) - bool(tail)]
    middle = [part for part in inner if isinstance(part, str)]
    least = sum(map(len, middle)) + len(start) + len(tail)

    def test(text: str) -> bool:
        if len(text) < least or not text.startswith(start) or not text.endswith(tail):
            return False
        at, end = len(start), len(text) - len(tail)
        for chunk in middle:
            at = text.find(chunk, at, end)
            if at < 0:
                return False
            at += len(chunk)
        return True

    return test


def _shift_and_test(tidy: Sequence[Part]) -> Test:
    """Shift-And (Baeza-Yates and Gonnet): bit i says that the first i signs of the pattern match up to here."""
    size = 0
    masks = dict.fromkeys(Wildcard, 0)
    signs: dict[str, int] = {}
    for part in tidy:
        if isinstance(part, Wildcard):
            size += part in (Wildcard.ONE, Wildcard.ONE_WITHIN)
            masks[part] |= 1 << size
        else:
            for sign in part:
                size += 1
                signs[sign] = signs.get(sign, 0) | 1 << size
    any_sign = masks[Wildcard.ONE] | masks[Wildcard.ONE_WITHIN]
    moves = {sign: bits | any_sign for sign, bits in signs.items()}
    moves[":"] = signs.get(":", 0) | masks[Wildcard.ONE]
    stars = masks[Wildcard.RUN] | masks[Wildcard.RUN_WITHIN]
    stars_at_colon, accepted = masks[Wildcard.RUN], 1 << size

    def test(text: str) -> bool:
        if len(text) < size:
            return False
        state = 1
        for sign in text:
            state = (state << 1 & moves.get(sign, any_sign)) | (state & (stars if sign != ":" else stars_at_colon))
            if not state:
                return False
        return bool(state & accepted)

    return test


def _arn_segments(pattern: Sequence[Token]) -> list[list[Token]]:
    """Cut a pattern at the first five colons that its author wrote; fewer than six parts are no whole ARN."""
    segments: list[list[Token]] = [[]]
    for token in pattern:
        pieces = token.split(":", ARN_PARTS - len(segments)) if isinstance(token, str) else [token]
        segments[-1] += [pieces[0]] if pieces[0] else []
        segments += [[piece] if piece else [] for piece in pieces[1:]]
    return segments


def _arn_test(segments: Sequence[Sequence[Part]]) -> Test:
    """Return a test that compares part by part: a wildcard or a variable's value never reaches over a colon."""
    first = segments[:_LAST]
    if any(isinstance(part, Wildcard) for segment in first for part in segment):
        tests = [compile_glob(segment) for segment in segments]

        def test(text: str) -> bool:
            actual = text.split(":", _LAST)
            return len(actual) == ARN_PARTS and all(matches(part) for matches, part in zip(tests, actual, strict=True))

        return test
    return _never if _has_colon(first) else compile_glob(_join_segments(segments))


def _resource_test(segments: Sequence[Sequence[Part]]) -> Test:
    """Return a test as Resource has it (IAM User Guide, "Resource", wildcards and incomplete ARNs).

    A star that ends a part also stands for colons, and for all parts that follow; other wildcards stay within theirs.
    """
    if _has_colon(segments[:_LAST]):
        return _never
    whole = len(segments) == ARN_PARTS
    written = [_within(segment) for segment in segments[: _LAST if whole else None]] + list(segments[_LAST:])
    if whole:
        return compile_glob(_join_segments(written))
    completed = compile_glob(_join_segments([*written, *[[Wildcard.RUN]] * (ARN_PARTS - len(written))]))
    if not any(segment and segment[-1] is Wildcard.RUN for segment in written):
        return completed
    reaching = compile_glob(_join_segments(written))
    return lambda text: completed(text) or reaching(text)


def _within(segment: Sequence[Part]) -> list[Part]:
    """Return a part whose wildcards stop at its end, all but a star that stands there."""
    bound = [_WITHIN.get(part, part) if isinstance(part, Wildcard) else part for part in segment]
    return [*bound[:-1], Wildcard.RUN] if segment and segment[-1] is Wildcard.RUN else bound


_WITHIN: Mapping[Wildcard, Wildcard] = {Wildcard.RUN: Wildcard.RUN_WITHIN, Wildcard.ONE: Wildcard.ONE_WITHIN}


def _has_colon(segments: Iterable[Iterable[Part]]) -> bool:
    """Return whether a part has a colon: only a variable's value can bring one, and no ARN has one there."""
    return any(isinstance(part, str) and ":" in part for segment in segments for part in segment)


def _join_segments(segments: Iterable[Iterable[Part]]) -> list[Part]:
    """Return the parts of an ARN as one list, with the colons between them."""
    joined: list[Part] = []
    for at, segment in enumerate(segments):
        joined += [":"] * bool(at)
        joined += segment
    return joined


def _never(_text: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Template:
    """A pattern with variables, in parts; ``make`` returns the test once they have their values."""

    segments: tuple[tuple[Token, ...], ...]
    fold: bool
    make: Callable[[Sequence[Sequence[Part]]], Test]

    def test(self, keys: ContextKeys) -> Test | None:
        """Return the test for this request, or None when a variable has no value."""
        filled = [[self._fill(token, keys) for token in segment] for segment in self.segments]
        known = [[part for part in segment if part is not None] for segment in filled]
        return self.make(known) if known == filled else None

    def _fill(self, token: Token, keys: ContextKeys) -> Part | None:
        value = token.value(keys) if isinstance(token, Variable) else token
        return value.lower() if self.fold and isinstance(value, str) else value


class _SortedPatterns(NamedTuple):
    """Patterns by how cheaply they are asked."""

    literals: list[str]
    prefixes: list[str]
    tests: list[Test]
    templates: list[Template]


def matcher(texts: Iterable[str], dialect: Dialect, *, unknown: bool | None = None) -> Match:
    """Return what tells whether one of the patterns matches; ValueError says which variable or ARN is wrong.

    ``unknown`` is the answer where none matches and a variable had no value: None for doubt, False for certainty.
    """
    kinds = _SortedPatterns([], [], [], [])
    everything = False
    for text in texts:
        if text == "*" and dialect.wildcards:
            everything = True
        else:
            _sort_in(kinds, text.lower() if dialect.fold else text, dialect)
    if everything or "" in kinds.prefixes:
        return _always
    return _ignore_case(_match_any(kinds, unknown)) if dialect.fold else _match_any(kinds, unknown)


def _sort_in(kinds: _SortedPatterns, text: str, dialect: Dialect) -> None:
    special = _SPECIALS[dialect.variables, dialect.wildcards].search(text)
    # Most patterns are a text, or a text and a star; they need no further look, unless an ARN lacks parts.
    if not dialect.arn or text.count(":") >= _LAST:
        if special is None:
            kinds.literals.append(text)
            return
        if special[0] == "*" and special.end() == len(text):
            kinds.prefixes.append(text[:-1])
            return
    _sort_in_tokens(kinds, tokenize_pattern(text, dialect), dialect)


def _sort_in_tokens(kinds: _SortedPatterns, pattern: tuple[Token, ...], dialect: Dialect) -> None:
    if set(pattern) == {Wildcard.RUN}:
        kinds.prefixes.append("")
        return
    segments = _arn_segments(pattern) if dialect.arn else [list(pattern)]
    make = _test_maker(segments, dialect)
    if any(isinstance(token, Variable) for token in pattern):
        kinds.templates.append(Template(tuple(map(tuple, segments)), dialect.fold, make))
    else:
        kinds.tests.append(make([[part for part in one if not isinstance(part, Variable)] for one in segments]))


def _test_maker(segments: Sequence[Sequence[Token]], dialect: Dialect) -> Callable[[Sequence[Sequence[Part]]], Test]:
    """Return what makes the test of a pattern in these parts; ValueError where an ARN lacks some."""
    whole = len(segments) == ARN_PARTS
    alone = len(segments) == 1 and any(isinstance(token, Variable) for token in segments[0])
    if not dialect.arn or (alone and not dialect.resource):
        return lambda parts: compile_glob(
            parts[0]
        )  # no ARN, or one that is a variable's value, such as "${aws:PrincipalArn}"
    if dialect.resource:
        return _resource_test
    if not whole:
        raise ValueError("An ARN has six parts")
    return _arn_test


def _match_any(kinds: _SortedPatterns, unknown: bool | None) -> Match:  # noqa: FBT001 - goes through unchanged
    literals, prefixes, tests = frozenset(kinds.literals), tuple(kinds.prefixes), tuple(kinds.tests)
    templates = tuple(kinds.templates)
    if not (prefixes or tests or templates):
        return lambda text, _keys: text in literals
    if not (literals or tests or templates):
        return lambda text, _keys: text.startswith(prefixes)

    def match(text: str, keys: ContextKeys) -> bool | None:
        if text in literals or text.startswith(prefixes):
            return True
        for test in tests:
            if test(text):
                return True
        return _match_templates(templates, text, keys, unknown) if templates else False

    return match


def _match_templates(
    templates: Sequence[Template],
    text: str,
    keys: ContextKeys,
    unknown: bool | None,  # noqa: FBT001 - goes through unchanged
) -> bool | None:
    found = [template.test(keys) for template in templates]
    if any(test(text) for test in found if test):
        return True
    return unknown if None in found else False


def _ignore_case(match: Match) -> Match:
    return lambda text, keys: match(text.lower(), keys)


def _always(_text: str, _keys: ContextKeys) -> bool:
    return True


def is_everything(match: Match) -> bool:
    """Return whether the patterns hold for every text."""
    return match is _always
