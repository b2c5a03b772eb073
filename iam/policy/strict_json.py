"""Strict JSON for policies: no duplicate names, no NaN, no lone surrogates, limited depth, numbers kept as text.

Pure. Source: RFC 8259. Section 4 leaves the meaning of duplicate names to the implementation: with two "Effect" members
a reviewer could see Deny where the evaluation reads Allow.
"""

import json
import re
from typing import Any

# A policy needs six levels: document, statements, statement, Condition, operator, values.
MAX_DEPTH = 16

# All quantifiers are possessive, and an unterminated string runs to the end: any input takes one pass, no backtracking.
_TEXT_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


class Number(str):
    """A JSON number, as written; where the grammar requires a string, it is refused."""

    __slots__ = ()


def load(text: str) -> Any:  # noqa: ANN401 - JSON is any value; the caller checks every type
    """Return the value of a JSON text; raise ValueError where it is invalid."""
    # The depth is checked first: json.loads is recursive and would raise RecursionError.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError("The document is nested too deeply")
    value = json.loads(text, object_pairs_hook=_members, parse_constant=_constant, parse_int=Number, parse_float=Number)
    # A lone surrogate such as \ud800 is not a character and cannot be encoded as UTF-8, so it could be neither stored
    # nor signed. UnicodeEncodeError is a ValueError.
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _TEXT_OR_BRACKET.findall(text):
        depth += _STEP.get(token, 0)
        deepest = max(deepest, depth)
    return deepest


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A member is named twice")
    return members


def _constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"{name} is not JSON")
