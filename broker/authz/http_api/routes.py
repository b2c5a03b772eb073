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
_ARN = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:(?P<account>(?:[0-9]{12})?):(?P<resource>\S+)", re.ASCII)
_OWN_SERVICES = frozenset({"iam", "sts"})
# Verified by the signature itself, or rewritten by proxies: a condition on one of them would not mean what it says.
_NO_CONDITIONS = re.compile(
    r"authorization|host|connection|content-length|expect|forwarded|te|trailer|transfer-encoding|upgrade|via"
    r"|x-(?:amz|envoy|fedgate|forwarded|original)-.*|x-real-ip"
)


class Problem(NamedTuple):
    """What is wrong with a route: the setting, and how to mend it."""

    key: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Template:
    """A path template: its literal segments and its names by position; ``rest`` is ``{name+}`` at its end.

    ``length`` is the number of segments without the rest.
    """

    length: int
    literals: tuple[tuple[int, str], ...]
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
        matches = [_segment_name(segment) for segment in segments]
        if any(match and match[2] for match in matches[:-1]):
            raise ValueError("{name+} takes the rest of the path, so nothing can follow it")
        names = [(position, match[1]) for position, match in enumerate(matches) if match]
        _require_distinct([name for _position, name in names])
        last = matches[-1]
        rest = names.pop()[1] if last and last[2] else ""
        literals = [(position, segments[position]) for position, match in enumerate(matches) if not match]
        return cls(len(segments) - bool(rest), tuple(literals), tuple(names), rest)

    @property
    def all_names(self) -> frozenset[str]:
        """Return the names, that of the rest among them."""
        return frozenset(name for _position, name in self.names) | ({self.rest} if self.rest else frozenset())

    @property
    def order(self) -> tuple[int, ...]:
        """Return the kind of each segment: of the templates that a path fits, the most specific one has the least."""
        literal = {position for position, _text in self.literals}
        return (*(int(position not in literal) for position in range(self.length)), *((2,) if self.rest else ()))

    def takes_the_same(self, other: "Template") -> bool:
        """Return whether both take the same paths, whatever the names are called."""
        return (self.order, self.literals) == (other.order, other.literals)

    def match(self, segments: Sequence[str]) -> Mapping[str, str] | None:
        """Return the parts of a path by name, or None where the path does not fit."""
        if len(segments) != self.length and not (self.rest and len(segments) > self.length):
            return None
        for position, text in self.literals:
            if segments[position] != text:
                return None
        parts = {name: segments[position] for position, name in self.names}
        if self.rest:
            parts[self.rest] = "/".join(segments[self.length :])
        return None if "" in parts.values() else parts


def _segment_name(segment: str) -> "re.Match[str] | None":
    match = _NAME.fullmatch(segment)
    if match is None and not {"{", "}"}.isdisjoint(segment):
        raise ValueError(f"{segment}: a name takes a whole segment, as in /teams/{{team}}/reports")
    return match


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
    yield from _action_problems(route)
    yield from _resource_problems(route, account, template)
    yield from _key_problems(route, template)
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


def _resource_problems(route: Route, account: str, template: Template) -> Iterator[Problem]:
    arn = _ARN.fullmatch(route.resource)
    if arn is None or not {"*", "?", "$"}.isdisjoint(route.resource):
        example = f"arn:aws:reports:us-east-1:{account}:team/{{team}}"
        yield Problem("resource", f"must be one ARN with names in its last part only, such as {example}")
        return
    if arn["account"] not in {"", account}:
        yield Problem("resource", f"is in account {arn['account']}, but the resource belongs to {account}")
    # Otherwise two paths could have one ARN: {a}-{b} is x-y-z for x-y and z, and for x and y-z.
    if any(len(_NAME.findall(part)) > 1 for part in re.split("[/:]", arn["resource"])):
        yield Problem("resource", "must have / or : between two names")
    yield from _name_problems("resource", route.resource, template)


def _key_problems(route: Route, template: Template) -> Iterator[Problem]:
    service = route.action.partition(":")[0]
    for key, value in route.keys.items():
        # A key of another prefix, such as aws:PrincipalTag/x, would replace what is known about the caller.
        if not _KEY.fullmatch(key) or not key.startswith(f"{service}:"):
            yield Problem("keys", f"{key} must begin with the action's service, such as {service}:Team")
        # A name can have a colon, which in keys stands as it is.
        if any(len(_NAME.findall(part)) > 1 for part in value.split("/")):
            yield Problem("keys", f"{key} must have / between two names")
        yield from _name_problems("keys", value, template)


def _name_problems(key: str, text: str, template: Template) -> Iterator[Problem]:
    unknown = sorted(names_in(text) - template.all_names)
    if unknown:
        yield Problem(key, f"{{{unknown[0]}}} is no name of the path")
    elif template.rest in names_in(text.removesuffix(f"{{{template.rest}}}")):
        yield Problem(key, f"{{{template.rest}}}, the rest of the path, must stand at the end, and once")
    elif not {"{", "}"}.isdisjoint(_NAME.sub("", text)) or any(one[2] for one in _NAME.finditer(text)):
        yield Problem(key, "has braces that are no name: write {name}, without the + of the path")


def _condition_problems(route: Route) -> Iterator[Problem]:
    for name in route.headers:
        if not _HEADER.fullmatch(name) or _NO_CONDITIONS.fullmatch(name):
            yield Problem("headers", f"{name} cannot be a condition")
    if "" in route.query:
        yield Problem("query", "a parameter has a name")


# --- two routes -------------------------------------------------------------------------------------------------------


def ambiguous(routes: Sequence[Route]) -> Iterator[tuple[int, int]]:
    """Yield the positions of each two routes that one request can fit while neither is more specific."""
    templates = [Template.parse(route.path) for route in routes]
    for first, second in combinations(range(len(routes)), 2):
        if templates[first].takes_the_same(templates[second]) and _are_ambiguous(routes[first], routes[second]):
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
