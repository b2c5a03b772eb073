"""The rules that routes of an HTTP API must follow, and which route is the more specific of two.

Pure. A path template has literal segments, ``{name}`` for one segment, and ``{name+}`` at its end for the rest of the
path. Segments are compared from the left: a literal one is more specific than ``{name}``, and this than ``{name+}``.
Among routes of the same shape, the one with more conditions is the more specific; where this does not order two routes
that a request could both fit, they are ambiguous and refused, so that no request depends on their order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from broker.authz.resource import Route

ANY_VALUE = "*"  # of a condition
_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\+?)\}")
_METHOD = re.compile(r"[A-Z]+", re.ASCII)
_ACTION = re.compile(r"(?P<service>[a-z0-9][a-z0-9-]*):[A-Za-z0-9]+", re.ASCII)
_KEY = re.compile(r"[a-z0-9-]+:[a-z0-9][a-z0-9._/-]*", re.ASCII)
_HEADER = re.compile(r"[a-z0-9-]+", re.ASCII)
_ARN = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12})?:[^\s]+", re.ASCII)
_OWN_SERVICES = frozenset({"iam", "sts"})
# Verified by the signature itself, or rewritten by proxies: a condition on one of them would not mean what it says.
_NO_CONDITIONS = frozenset({"authorization", "host", "connection", "content-length", "transfer-encoding"})


class Problem(NamedTuple):
    """What is wrong with a route: the setting, and how to mend it."""

    key: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Template:
    """A path template: its segments, in which ``names`` has the positions of ``{name}``; ``rest`` is ``{name+}``."""

    segments: tuple[str, ...]
    names: tuple[tuple[int, str], ...]
    rest: str = ""

    @classmethod
    def parse(cls, path: str) -> "Template":
        """Return the template of a text; raise ValueError with the remedy."""
        if not path.startswith("/"):
            raise ValueError('must begin with "/"')
        segments = path[1:].split("/")
        if any(segment in {".", ".."} for segment in segments) or "" in segments[:-1]:
            raise ValueError("must have no empty segment and no . or .., since such requests are refused")
        matches = [_NAME.fullmatch(segment) for segment in segments]
        for segment, match in zip(segments, matches, strict=True):
            if match is None and not {"{", "}"}.isdisjoint(segment):
                raise ValueError(f"{segment}: a name takes a whole segment, as in /teams/{{team}}/reports")
        if any(match and match[2] for match in matches[:-1]):
            raise ValueError("{name+} takes the rest of the path, so nothing can follow it")
        found = tuple((position, match[1]) for position, match in enumerate(matches) if match)
        _require_distinct([name for _position, name in found])
        last = matches[-1]
        if last and last[2]:
            return cls(tuple(segments[:-1]), found[:-1], last[1])
        return cls(tuple(segments), found)

    @property
    def shape(self) -> tuple[str, ...]:
        """Return the segments with every name replaced, so that templates of the same requests are equal."""
        named = {position for position, _name in self.names}
        shape = tuple("{}" if index in named else f"={one}" for index, one in enumerate(self.segments))
        return (*shape, "{+}") if self.rest else shape

    @property
    def order(self) -> tuple[int, ...]:
        """Return the kind of each segment: of the templates that a path fits, the most specific one comes first."""
        return tuple({"{}": 1, "{+}": 2}.get(one, 0) for one in self.shape)

    def match(self, segments: Sequence[str]) -> Mapping[str, str] | None:
        """Return the parts of a path by name, or None where the path does not fit."""
        fixed = len(self.segments)
        if len(segments) < fixed + bool(self.rest) or (len(segments) > fixed and not self.rest):
            return None
        parts = {name: segments[position] for position, name in self.names}
        named = {position for position, _name in self.names}
        literals = (one == segments[index] for index, one in enumerate(self.segments) if index not in named)
        if not all(literals) or "" in parts.values():
            return None
        rest = "/".join(segments[fixed:])
        return {**parts, self.rest: rest} if self.rest and rest else None if self.rest else parts


def _require_distinct(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise ValueError(f"{{{twice}}} stands there twice")


def names_in(template: str) -> frozenset[str]:
    """Return the names in a template of an ARN or a condition key's value."""
    return frozenset(match[1] for match in _NAME.finditer(template))


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with its names replaced; the values are not searched for names again."""
    return _NAME.sub(lambda match: parts[match[1]], template)


# --- one route --------------------------------------------------------------------------------------------------------


def route_problems(route: Route, account: str) -> Iterator[Problem]:
    """Yield what is wrong with a route of a resource that this account owns."""
    yield from _method_problems(route)
    try:
        template = Template.parse(route.path)
    except ValueError as error:
        yield Problem("path", str(error))
        return
    known = {name for _position, name in template.names} | ({template.rest} if template.rest else set())
    yield from _action_problems(route)
    yield from _resource_problems(route, account, known)
    yield from _key_problems(route, known)
    yield from _condition_problems(route)


def _method_problems(route: Route) -> Iterator[Problem]:
    wrong = sorted(method for method in route.methods if not _METHOD.fullmatch(method))
    if wrong or not route.methods:
        yield Problem("methods", 'must be a list of methods in capitals, such as ["GET", "HEAD"]')


def _action_problems(route: Route) -> Iterator[Problem]:
    action = _ACTION.fullmatch(route.action)
    if action is None:
        yield Problem("action", "must be service:Action without wildcards, such as reports:GetReport")
    elif action["service"] in _OWN_SERVICES:
        yield Problem("action", f"{action['service']}: is Fedgate's own API: take a name of your service")


def _resource_problems(route: Route, account: str, known: set[str]) -> Iterator[Problem]:
    arn = _ARN.fullmatch(route.resource)
    if arn is None or not {"*", "?", "$"}.isdisjoint(route.resource):
        example = f"arn:aws:reports:us-east-1:{account}:team/{{team}}"
        yield Problem("resource", f"must be one ARN with names in its last part only, such as {example}")
    elif arn[1] not in {None, account}:
        yield Problem("resource", f"is in account {arn[1]}, but the resource belongs to {account}")
    yield from _name_problems("resource", route.resource, known)


def _key_problems(route: Route, known: set[str]) -> Iterator[Problem]:
    service = route.action.partition(":")[0]
    for key, value in route.keys.items():
        # A key of another prefix, such as aws:PrincipalTag/x, would replace what is known about the caller.
        if not _KEY.fullmatch(key) or not key.startswith(f"{service}:"):
            yield Problem("keys", f"{key} must begin with the action's service, such as {service}:Team")
        yield from _name_problems("keys", value, known)


def _name_problems(key: str, template: str, known: set[str]) -> Iterator[Problem]:
    unknown = sorted(names_in(template) - known)
    if unknown:
        yield Problem(key, f"{{{unknown[0]}}} is no name of the path")
    elif not {"{", "}"}.isdisjoint(_NAME.sub("", template)) or any(one[2] for one in _NAME.finditer(template)):
        yield Problem(key, "has braces that are no name: write {name}, without the + of the path")


def _condition_problems(route: Route) -> Iterator[Problem]:
    for name in route.headers:
        if not _HEADER.fullmatch(name) or name in _NO_CONDITIONS:
            yield Problem("headers", f"{name} cannot be a condition")
    if "" in route.query:
        yield Problem("query", "a parameter has a name")


# --- two routes -------------------------------------------------------------------------------------------------------


def ambiguous(routes: Sequence[Route]) -> Iterator[tuple[int, int]]:
    """Yield the positions of each two routes that one request can fit while neither is more specific."""
    shapes = [Template.parse(route.path).shape for route in routes]
    for first, second in combinations(range(len(routes)), 2):
        if shapes[first] == shapes[second] and _are_ambiguous(routes[first], routes[second]):
            yield first, second


def _are_ambiguous(first: Route, second: Route) -> bool:
    one, other = conditions(first), conditions(second)
    if first.methods.isdisjoint(second.methods) or _exclude_each_other(one, other):
        return False
    return one == other or not (_refines(one, other) or _refines(other, one))


def conditions(route: Route) -> Mapping[tuple[str, str], str]:
    """Return the conditions of a route on query and headers, by kind and name."""
    query = {("query", name): value for name, value in route.query.items()}
    return query | {("header", name): value for name, value in route.headers.items()}


def _exclude_each_other(one: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]) -> bool:
    both = one.keys() & other.keys()
    return any(one[name] != other[name] and ANY_VALUE not in {one[name], other[name]} for name in both)


def _refines(one: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]) -> bool:
    """Return whether every request that meets the first conditions meets the second ones too."""
    return all(name in one and value in {ANY_VALUE, one[name]} for name, value in other.items())


def by_specificity(route: Route) -> tuple[tuple[int, ...], int, int]:
    """Return a key for sorting: of the routes that a request fits, the most specific one comes first."""
    values = conditions(route).values()
    return Template.parse(route.path).order, -sum(value != ANY_VALUE for value in values), -len(values)
