"""The policies of one layer, indexed so that a decision evaluates only the statements that can match.

Pure. The index is by action, and then, where many statements match one action, by the literal prefix of the resources.
"""

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from iam.policy.document import Policy
from iam.policy.patterns import literal_prefix
from iam.policy.statement import PolicyKind, Statement

# Up to this number, evaluating all statements is faster than a lookup by resource.
_FEW_STATEMENTS = 8
# Actions whose statements a set caches; a caller can send any string as an action, so the cache is limited.
_MOST_CACHED_ACTIONS = 500
# The sets that are derived from a set; the keys come from the program's own tables.
_MOST_DERIVED = 100


class PolicySet:
    """The policies of one layer, evaluated together; two sets are equal when their policies are equal."""

    __slots__ = ("_by_action", "_derived", "policies", "trust")

    def __init__(self, policies: Iterable[Policy] = ()) -> None:
        self.policies = tuple(policies)
        self.trust = any(policy.kind is PolicyKind.TRUST for policy in self.policies)
        self._by_action: dict[str, tuple[Statement, ...] | _ResourceIndex] = {}
        self._derived: dict[Hashable, PolicySet] = {}

    def find(self, action: str, resource: str) -> Sequence[Statement]:
        """Return the statements that match an action and can match a resource."""
        candidates = self._by_action.get(action)
        if candidates is None:
            candidates = self._index(action)
        return candidates if isinstance(candidates, tuple) else candidates.find(resource)

    def _index(self, action: str) -> "tuple[Statement, ...] | _ResourceIndex":
        lower = action.lower()
        statements = tuple(statement for policy in self.policies for statement in policy.statements_about(lower))
        if len(self._by_action) >= _MOST_CACHED_ACTIONS:
            self._by_action.clear()
        candidates = self._by_action[action] = (
            statements if len(statements) <= _FEW_STATEMENTS else _ResourceIndex(statements)
        )
        return candidates

    def derive(self, key: Hashable, make: "Callable[[PolicySet], PolicySet]") -> "PolicySet":
        """Return what is made of this set, made once for each key."""
        made = self._derived.get(key)
        if made is None:
            if len(self._derived) >= _MOST_DERIVED:
                self._derived.clear()
            made = self._derived[key] = make(self)
        return made

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
    """Statements by the literal prefixes of their resources: the text before the first wildcard or policy variable.

    ``prefixes`` are sorted, and ``indexes`` are the statements of each. ``parents`` holds for each prefix the index of
    the longest other prefix that it begins with, or -1. The prefixes of a resource are those on the path of parents
    from the longest one, and that one is found by bisection. ``everywhere`` are statements without a literal prefix.
    """

    __slots__ = ("cache", "everywhere", "indexes", "parents", "prefixes", "statements")

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        by_prefix: dict[str, list[int]] = {}
        for index, statement in enumerate(statements):
            for prefix in _literal_prefixes(statement):
                by_prefix.setdefault(prefix, []).append(index)
        self.everywhere = tuple(statements[index] for index in by_prefix.pop("", ()))
        self.prefixes = sorted(by_prefix)
        self.indexes = [by_prefix[prefix] for prefix in self.prefixes]
        self.parents = _parents(self.prefixes)
        self.cache: dict[int, tuple[Statement, ...]] = {-1: self.everywhere}

    def find(self, resource: str) -> tuple[Statement, ...]:
        """Return the statements that have a prefix of this resource."""
        index = bisect_right(self.prefixes, resource) - 1
        while index >= 0 and not resource.startswith(self.prefixes[index]):
            index = self.parents[index]
        return self.cache.get(index) or self._collect(index)

    def _collect(self, index: int) -> tuple[Statement, ...]:
        matching, current = set[int](), index
        while current >= 0:
            matching.update(self.indexes[current])
            current = self.parents[current]
        statements = self.cache[index] = (*self.everywhere, *[self.statements[number] for number in sorted(matching)])
        return statements


def _literal_prefixes(statement: Statement) -> set[str]:
    # NotResource matches what it does not list, so its patterns say nothing about where the statement applies: such a
    # statement, like one with a pattern without a literal prefix, is indexed under the empty prefix only.
    prefixes = {literal_prefix(text) for text in statement.resources}
    return prefixes if prefixes and "" not in prefixes else {""}


def _parents(prefixes: Sequence[str]) -> list[int]:
    """Return, for each of the sorted prefixes, the index of the longest other one that it begins with, or -1."""
    open_prefixes: list[int] = []
    result = []
    for index, prefix in enumerate(prefixes):
        while open_prefixes and not prefix.startswith(prefixes[open_prefixes[-1]]):
            open_prefixes.pop()
        result.append(open_prefixes[-1] if open_prefixes else -1)
        open_prefixes.append(index)
    return result
