"""JSON as a policy may use it: no member twice, no NaN, no lone surrogate, little depth, numbers as they were written.

Pure. Source: RFC 8259, which leaves duplicate names to the reader; a gate must not read another value than its author.
"""

import json
import re
from typing import Any

# A policy needs six levels: document, statements, statement, Condition, operator, values.
MAX_DEPTH = 16

# Possessive throughout, and an unterminated text runs to the end: one pass over any input.
_TEXT_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


class Number(str):
    """A JSON number, as written; what needs a text must not take it for one."""

    __slots__ = ()


def load(text: str) -> Any:  # noqa: ANN401 - JSON is any value; the caller checks every type
    """Return the value of a JSON text; every failure is a ValueError."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError("The document is nested too deeply")
    found = json.loads(text, object_pairs_hook=_members, parse_constant=_constant, parse_int=Number, parse_float=Number)
    # A \ud800 escape alone is no character; it could neither be stored nor signed. UnicodeEncodeError is a ValueError.
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _depth(text: str) -> int:
    deepest = depth = 0
    for sign in _TEXT_OR_BRACKET.findall(text):
        depth += _STEP.get(sign, 0)
        deepest = max(deepest, depth)
    return deepest


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A member is named twice")
    return members


def _constant(name: str) -> Any:  # noqa: ANN401 - never returns
    raise ValueError(f"{name} is not JSON")
