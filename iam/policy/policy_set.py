"""Policies that speak together, as one layer of a decision, filed so that only statements that can match are asked.

Pure. By action first, then, where many statements are about one action, by the signs with which their resources begin.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from iam.policy.document import Policy
from iam.policy.patterns import literal_prefix
from iam.policy.statement import PolicyKind, Statement

# Up to so many statements are asked one after the other faster than they are looked up.
_FEW = 8
# Actions of which a set remembers the statements.
_REMEMBERED = 500


class PolicySet:
    """Some policies whose statements count together; two are equal when their policies are."""

    __slots__ = ("_by_action", "policies", "trust")

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self.policies = tuple(policies)
        self.trust = any(policy.kind is PolicyKind.TRUST for policy in self.policies)
        self._by_action: dict[str, tuple[Statement, ...] | _ResourceIndex] = {}

    def find(self, action: str, resource: str) -> Sequence[Statement]:
        """Return the statements about an action that can be about a resource."""
        shelf = self._by_action.get(action)
        if shelf is None:
            shelf = self._file(action)
        return shelf if isinstance(shelf, tuple) else shelf.find(resource)

    def _file(self, action: str) -> "tuple[Statement, ...] | _ResourceIndex":
        lower = action.lower()
        statements_about = tuple(statement for policy in self.policies for statement in policy.statements_about(lower))
        if len(self._by_action) >= _REMEMBERED:
            self._by_action.clear()
        shelf = self._by_action[action] = (
            statements_about if len(statements_about) <= _FEW else _ResourceIndex(statements_about)
        )
        return shelf

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolicySet) and self.policies == other.policies

    def __hash__(self) -> int:
        return hash(self.policies)

    def __repr__(self) -> str:
        return f"PolicySet({self.policies!r})"


class _ResourceIndex:
    """Statements by the signs before the first wildcard or variable of each of their resources.

    ``heads`` are sorted; the head before a text's place among them, or one that this one begins with, is the longest
    with which the text begins; ``shorter`` leads from each head to the longest other one that it begins with.
    """

    __slots__ = ("everywhere", "found", "heads", "places", "shorter", "statements")

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        filed: dict[str, list[int]] = {}
        for place, statement in enumerate(statements):
            for text in _heads(statement):
                filed.setdefault(text, []).append(place)
        self.everywhere = tuple(statements[place] for place in filed.pop("", ()))
        self.heads = sorted(filed)
        self.places = [filed[text] for text in self.heads]
        self.shorter = _shorter(self.heads)
        self.found: dict[int, tuple[Statement, ...]] = {-1: self.everywhere}

    def find(self, resource: str) -> tuple[Statement, ...]:
        """Return the statements of which a resource's head fits."""
        at = bisect_right(self.heads, resource) - 1
        while at >= 0 and not resource.startswith(self.heads[at]):
            at = self.shorter[at]
        return self.found.get(at) or self._collect(at)

    def _collect(self, at: int) -> tuple[Statement, ...]:
        places, longest = set[int](), at
        while longest >= 0:
            places.update(self.places[longest])
            longest = self.shorter[longest]
        found = self.found[at] = (*self.everywhere, *[self.statements[place] for place in sorted(places)])
        return found


def _heads(statement: Statement) -> set[str]:
    # What NotResource names says nothing of where the statement applies; who is everywhere is filed nowhere else.
    found = {literal_prefix(text) for text in statement.resources}
    return found if found and "" not in found else {""}


def _shorter(heads: Sequence[str]) -> list[int]:
    """Return, for each of the sorted heads, the place of the longest other one that it begins with, or -1."""
    open_heads: list[int] = []
    found = []
    for place, text in enumerate(heads):
        while open_heads and not text.startswith(heads[open_heads[-1]]):
            open_heads.pop()
        found.append(open_heads[-1] if open_heads else -1)
        open_heads.append(place)
    return found
