"""Wildcards and policy variables, compiled when the policy is parsed; matching never backtracks and never raises.

Pure. Source: IAM User Guide, "IAM JSON policy elements: Resource" (wildcards, incomplete ARNs) and "IAM policy
elements: Variables and tags". ``*`` and ``?`` are wildcards only where the policy contains them. The value of a policy
variable is always literal: a caller controls tags and session names, and a tag ``*`` must not match every resource.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from iam.errors import excerpt
from iam.policy.globs import Part, Test, Wildcard, compile_glob

ContextKeys = Mapping[str, tuple[str, ...]]
# Does a text match? None: no pattern matches, but one of them has a policy variable without a value.
Match = Callable[[str, ContextKeys], bool | None]

ARN_PARTS = 6
_LAST = ARN_PARTS - 1
_MOST_MADE = 256  # values of the variables of one pattern whose tests are kept


@dataclass(frozen=True, slots=True)
class Variable:
    """``${key}`` or ``${key, 'default'}``; the key is in lower case."""

    key: str
    default: str | None = None

    def value(self, keys: ContextKeys) -> str | None:
        """Return the only value of the key, else the default; a key with several values cannot replace a variable."""
        values = keys.get(self.key, ())
        return values[0] if len(values) == 1 else self.default


Token = str | Wildcard | Variable

_SPLIT_WILD = re.compile(r"([*?])")
_SPLIT_VARIABLES = re.compile(r"(\$\{[^}]*\}?)")
_SPLIT_BOTH = re.compile(r"(\$\{[^}]*\}?|[*?])")
_NOT_IN_A_KEY = frozenset("*?${'\"")
# The first special character of a pattern, by (variables, wildcards) of its dialect.
_SPECIALS = {
    (True, True): re.compile(r"[*?]|\$\{"),
    (True, False): re.compile(r"\$\{"),
    (False, True): re.compile(r"[*?]"),
    (False, False): re.compile(r"(?!)"),
}


def literal_prefix(text: str) -> str:
    """Return the text of a pattern before its first wildcard or variable; every text that it matches begins with it."""
    return _SPECIALS[True, True].split(text, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The syntax of patterns: which characters are special, and whether ARNs match part by part.

    ``fold`` ignores case.
    """

    variables: bool = False
    wildcards: bool = True
    arn: bool = False
    # ARNs as in Resource: missing parts are completed with wildcards, and a * at the end of a part matches colons too.
    resource: bool = False
    fold: bool = False


def tokenize_pattern(text: str, dialect: Dialect) -> tuple[Token, ...]:
    """Return the literals, wildcards and variables of a pattern; raise ValueError for a malformed variable."""
    return tuple(_token(piece, special=bool(index % 2)) for index, piece in enumerate(_split(text, dialect)) if piece)


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
        raise ValueError(f"The variable {excerpt(piece)} has no closing brace")
    inner = piece[2:-1]
    if inner in {"*", "?", "$"}:  # "Specifying special characters": ${*} is a literal star
        return inner
    key, comma, rest = inner.partition(",")
    key, default = key.strip(), rest.strip()
    if ":" not in key or not _NOT_IN_A_KEY.isdisjoint(key):
        raise ValueError(f"The variable {excerpt(piece)} names no condition key")
    if not comma:
        return Variable(key.lower())
    if default[:1] != "'" or default.find("'", 1) != len(default) - 1:
        raise ValueError(f"The default of the variable {excerpt(piece)} must stand in single quotes")
    return Variable(key.lower(), default[1:-1])


def _arn_segments(pattern: Sequence[Token]) -> list[list[Token]]:
    """Split a pattern at its first five literal colons; with fewer than six parts it is an incomplete ARN."""
    segments: list[list[Token]] = [[]]
    for token in pattern:
        pieces = token.split(":", ARN_PARTS - len(segments)) if isinstance(token, str) else [token]
        segments[-1] += [pieces[0]] if pieces[0] else []
        segments += [[piece] if piece else [] for piece in pieces[1:]]
    return segments


def _arn_test(segments: Sequence[Sequence[Part]]) -> Test:
    """Return a test that compares part by part: neither a wildcard nor the value of a variable matches a colon."""
    first = segments[:_LAST]
    if any(isinstance(part, Wildcard) for segment in first for part in segment):
        tests = [compile_glob(segment) for segment in segments]

        def test(text: str) -> bool:
            actual = text.split(":", _LAST)
            return len(actual) == ARN_PARTS and all(matches(part) for matches, part in zip(tests, actual, strict=True))

        return test
    return _never if _has_colon(first) else compile_glob(_join_segments(segments))


def _resource_test(segments: Sequence[Sequence[Part]]) -> Test:
    """Return a test for a pattern of Resource."""
    tests = [compile_glob(glob) for glob in _resource_globs(segments)]
    if not tests:
        return _never
    first, *rest = tests
    return (lambda text: first(text) or rest[0](text)) if rest else first


def _resource_globs(segments: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Return the globs of a pattern of Resource (IAM User Guide, "Resource": wildcards and incomplete ARNs).

    A star at the end of a part also matches colons and all parts that follow; other wildcards match within their part.
    """
    if _has_colon(segments[:_LAST]):
        return []
    complete = len(segments) == ARN_PARTS
    bounded = [_within(segment) for segment in segments[: _LAST if complete else None]] + list(segments[_LAST:])
    if complete:
        return [_join_segments(bounded)]
    completed = _join_segments([*bounded, *[[Wildcard.RUN]] * (ARN_PARTS - len(bounded))])
    reaching = any(segment and segment[-1] is Wildcard.RUN for segment in bounded)
    return [completed, _join_segments(bounded)] if reaching else [completed]


def resource_globs(text: str, keys: ContextKeys, *, variables: bool) -> list[list[Part]] | None:
    """Return globs of which one matches exactly where a pattern of Resource does, or None without a variable's value.

    ``variables`` is whether the version of the policy has variables.
    """
    pattern = tokenize_pattern(text, Dialect(variables, arn=True, resource=True))
    if set(pattern) == {Wildcard.RUN}:
        return [[Wildcard.RUN]]
    segments = Template(tuple(map(tuple, _arn_segments(pattern))), fold=False, make=_resource_test).fill(keys)
    return None if segments is None else _resource_globs(segments)


def _within(segment: Sequence[Part]) -> list[Part]:
    """Return a part whose wildcards do not match colons, except a star at its end."""
    bounded = [_WITHIN.get(part, part) if isinstance(part, Wildcard) else part for part in segment]
    return [*bounded[:-1], Wildcard.RUN] if segment and segment[-1] is Wildcard.RUN else bounded


_WITHIN: Mapping[Wildcard, Wildcard] = {Wildcard.RUN: Wildcard.RUN_WITHIN, Wildcard.ONE: Wildcard.ONE_WITHIN}


def _has_colon(segments: Iterable[Iterable[Part]]) -> bool:
    """Return whether a part contains a colon.

    Only the value of a variable can contain one here. It must not match: with it a caller could shift the parts of the
    ARN, for example insert an account ID.
    """
    return any(isinstance(part, str) and ":" in part for segment in segments for part in segment)


def _join_segments(segments: Iterable[Iterable[Part]]) -> list[Part]:
    """Return the parts of an ARN joined with colons."""
    joined: list[Part] = []
    for index, segment in enumerate(segments):
        joined += [":"] * bool(index)
        joined += segment
    return joined


def _never(_text: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Template:
    """A pattern with policy variables, by segments; ``make`` returns the test once the variables are replaced.

    ``made`` keeps the tests of the latest values: a session asks with the same ones again and again.
    """

    segments: tuple[tuple[Token, ...], ...]
    fold: bool
    make: Callable[[Sequence[Sequence[Part]]], Test]
    variables: tuple[Variable, ...] = ()
    made: dict[tuple[str | None, ...], Test] = field(default_factory=dict, compare=False, repr=False)

    def test(self, keys: ContextKeys) -> Test | None:
        """Return the test for this request, or None where a variable has no value."""
        values = tuple([variable.value(keys) for variable in self.variables])
        test = self.made.get(values)
        return self._make(values, keys) if test is None else test

    def _make(self, values: tuple[str | None, ...], keys: ContextKeys) -> Test | None:
        resolved = self.fill(keys)
        if resolved is None:
            return None
        if len(self.made) >= _MOST_MADE:
            self.made.clear()
        test = self.made[values] = self.make(resolved)
        return test

    def fill(self, keys: ContextKeys) -> list[list[Part]] | None:
        """Return the segments with values for variables, or None where a variable has none."""
        segments = [[self._value(token, keys) for token in segment] for segment in self.segments]
        resolved = [[part for part in segment if part is not None] for segment in segments]
        return resolved if resolved == segments else None

    def _value(self, token: Token, keys: ContextKeys) -> Part | None:
        value = token.value(keys) if isinstance(token, Variable) else token
        return value.lower() if self.fold and isinstance(value, str) else value


class _SortedPatterns(NamedTuple):
    """Patterns by the cost of matching them."""

    literals: list[str]
    prefixes: list[str]
    tests: list[Test]
    templates: list[Template]


def matcher(texts: Iterable[str], dialect: Dialect, *, unknown: bool | None = None) -> Match:
    """Return a function that tells whether a pattern matches; raise ValueError for a malformed variable or ARN.

    ``unknown`` is its result where no pattern matches and a variable has no value: None (unknown) or False.
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
    # Most patterns are a literal, or a literal and a star; they need no tokens, unless an ARN is incomplete.
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
    variables = tuple(token for token in pattern if isinstance(token, Variable))
    if variables:
        kinds.templates.append(Template(tuple(map(tuple, segments)), dialect.fold, make, variables))
    else:
        kinds.tests.append(make([[part for part in segment if not isinstance(part, Variable)] for segment in segments]))


def _test_maker(segments: Sequence[Sequence[Token]], dialect: Dialect) -> Callable[[Sequence[Sequence[Part]]], Test]:
    """Return the function that makes the test of a pattern; raise ValueError for an incomplete ARN in a condition."""
    complete = len(segments) == ARN_PARTS
    is_variable = len(segments) == 1 and any(isinstance(token, Variable) for token in segments[0])
    if not dialect.arn or (is_variable and not dialect.resource):
        return lambda parts: compile_glob(
            parts[0]
        )  # no ARN, or one that is a variable's value, such as "${aws:PrincipalArn}"
    if dialect.resource:
        return _resource_test
    if not complete:
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
    tests = [template.test(keys) for template in templates]
    if any(test(text) for test in tests if test):
        return True
    return unknown if None in tests else False


def _ignore_case(match: Match) -> Match:
    return lambda text, keys: match(text.lower(), keys)


def _always(_text: str, _keys: ContextKeys) -> bool:
    return True


def is_everything(match: Match) -> bool:
    """Return whether the patterns match every text."""
    return match is _always
