"""Validates parameters against the constraints of the service model, with the messages of AWS. Pure."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from math import inf
from typing import Any

from broker.api.shape import OperationModel, Shape
from iam.errors import ValidationError, excerpt
from iam.params import Params

# Of the type that its shape defines: str, int, bool, list, dict.
Value = Any
Constraint = tuple[Callable[[Value], bool], str]

# Limits that keep the message short.
_MAX_COUNTED = 1000
_MAX_REPORTED = 16
_MAX_VALUE_LENGTH = 200

# Credentials that the models do not mark as sensitive; they are never recorded.
SECRET_PARAMETERS = frozenset(
    {
        "LDAPUsername",
        "LDAPPassword",
        "SAMLAssertion",
        "WebIdentityToken",
        "TokenCode",
        "AuthenticationCode1",
        "AuthenticationCode2",
        "ContextAssertion",
        "EncodedMessage",
    }
)
# AWS repeats a malformed TokenCode, which is not a code.
_HIDDEN_MEMBERS = frozenset(name[0].lower() + name[1:] for name in SECRET_PARAMETERS - {"TokenCode"})


def validate(model: OperationModel, params: Params) -> None:
    """Check all constraints of the model; raise one ValidationError that lists the violations."""
    violations = list(islice(_violations(model.input, params, ""), _MAX_COUNTED)) if model.input else []
    if violations:
        errors = "error" if len(violations) == 1 else "errors"
        reported = "; ".join(violations[:_MAX_REPORTED])
        raise ValidationError(f"{len(violations)} validation {errors} detected: {reported}")


def _violations(shape: Shape, value: Value, path: str) -> Iterator[str]:
    for holds, constraint in _constraints(shape):
        if not holds(value):
            yield _violation_message(shape, value, path, constraint)
    if shape.kind in _BY_COMPOSITE_KIND:
        yield from _BY_COMPOSITE_KIND[shape.kind](shape, value, path)


def _structure_violations(shape: Shape, value: dict[str, Value], path: str) -> Iterator[str]:
    prefix = path + "." if path else ""
    for name, to in shape.members.items():
        at = prefix + name[0].lower() + name[1:]
        if name in value:
            yield from _violations(to, value[name], at)
        elif name in shape.required:
            yield f"Value null at '{at}' failed to satisfy constraint: Member must not be null"


def _list_violations(shape: Shape, value: list[Value], path: str) -> Iterator[str]:
    member = shape.members["member"]
    if member.kind in _BY_COMPOSITE_KIND:
        for number, element in enumerate(value, 1):
            yield from _violations(member, element, f"{path}.{number}.member")
    elif not all(_satisfies(member, element) for element in value):
        yield _violation_message(
            shape, value, path, f"Member must satisfy constraint: [{_describe_constraints(member)}]"
        )


def _map_violations(shape: Shape, value: dict[str, Value], path: str) -> Iterator[str]:
    key, to = shape.members["key"], shape.members["value"]
    if not all(_satisfies(key, name) for name in value):
        yield _violation_message(
            shape, value, path, f"Map keys must satisfy constraint: [{_describe_constraints(key)}]"
        )
    if to.kind in _BY_COMPOSITE_KIND:
        for name, element in value.items():
            yield from _violations(to, element, f"{path}.{_truncate(name)}.member")
    elif not all(_satisfies(to, element) for element in value.values()):
        yield _violation_message(
            shape, value, path, f"Map value must satisfy constraint: [{_describe_constraints(to)}]"
        )


_BY_COMPOSITE_KIND: dict[str, Callable[[Shape, Value, str], Iterator[str]]] = {
    "structure": _structure_violations,
    "list": _list_violations,
    "map": _map_violations,
}


@cache
def _constraints(shape: Shape) -> tuple[Constraint, ...]:
    """Return the constraints on a value of this shape, each with the text of AWS."""
    measure, noun = (int, "value") if shape.kind == "integer" else (len, "length")
    low = -inf if shape.minimum is None else shape.minimum
    high = inf if shape.maximum is None else shape.maximum
    match = shape.regex.fullmatch if shape.regex else bool
    rows: tuple[tuple[bool, Callable[[Value], bool], str], ...] = (
        (high < inf, lambda v: measure(v) <= high, f"Member must have {noun} less than or equal to {high}"),
        (low > -inf, lambda v: measure(v) >= low, f"Member must have {noun} greater than or equal to {low}"),
        (
            bool(shape.regex),
            lambda v: match(v) is not None,
            f"Member must satisfy regular expression pattern: {shape.pattern}",
        ),
        (bool(shape.enum), lambda v: v in shape.enum, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"),
    )
    return tuple((holds, constraint) for stated, holds, constraint in rows if stated)


def _satisfies(shape: Shape, value: Value) -> bool:
    return all(holds(value) for holds, _ in _constraints(shape))


def _describe_constraints(shape: Shape) -> str:
    return ", ".join(constraint for _, constraint in _constraints(shape))


def _violation_message(shape: Shape, value: Value, path: str, constraint: str) -> str:
    quoted = (
        "" if shape.sensitive or path.rpartition(".")[2] in _HIDDEN_MEMBERS else f" '{_format_value(shape, value)}'"
    )
    return f"Value{quoted} at '{path}' failed to satisfy constraint: {constraint}"


def _format_value(shape: Shape, value: Value) -> str:
    """Return a value for a message: truncated, and only the number of members where one may be secret."""
    if shape.kind not in _BY_COMPOSITE_KIND:
        return _truncate(str(value))
    inside = shape.members.values()
    if any(member.sensitive or member.kind in _BY_COMPOSITE_KIND for member in inside):
        return f"[{len(value)} members]"
    return _truncate(f"[{', '.join(map(str, value))}]")


def _truncate(text: str) -> str:
    return excerpt(text, _MAX_VALUE_LENGTH)
