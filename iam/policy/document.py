"""A parsed policy: its text, unchanged, and its statements, indexed by action.

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iam.policy.grammar import TRUST_ACTIONS, VERSION_WITH_VARIABLES, read
from iam.policy.principals import arns_to_resolve, bind
from iam.policy.statement import Effect, PolicyKind, Statement

__all__ = ["TRUST_ACTIONS", "VERSION_WITH_VARIABLES", "Effect", "Policy", "PolicyKind", "Statement", "size"]

_WHITE_SPACE = dict.fromkeys(map(ord, " \t\r\n"))
# Actions whose statements a policy caches. APIs have some hundreds of actions, but a caller can send any string as an
# action: without a limit the cache would grow until memory is used up (THREATS J10).
_MOST_CACHED_ACTIONS = 2_000


def size(text: str) -> int:
    """Return the length of a policy in characters without white space, as IAM quotas count it."""
    return len(text.translate(_WHITE_SPACE))


@dataclass(frozen=True, slots=True)
class _ActionIndex:
    """Statements by the actions that they can match.

    ``exact`` holds statements without wildcards by action, ``wild`` the others by service, ``anywhere`` those that can
    match every service; each tuple of ``wild`` includes ``anywhere``. ``cache`` holds earlier results by action.
    """

    exact: Mapping[str, tuple[Statement, ...]]
    wild: Mapping[str, tuple[Statement, ...]]
    anywhere: tuple[Statement, ...]
    cache: dict[str, tuple[Statement, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, statements: Iterable[Statement]) -> "_ActionIndex":
        exact: dict[str, list[Statement]] = {}
        wild: dict[str, list[Statement]] = {}
        anywhere: list[Statement] = []
        for statement in statements:
            actions = [action.lower() for action in statement.actions]
            if actions and not any("*" in action or "?" in action for action in actions):
                _add_to_index(exact, statement, actions)
            elif not actions or any(_service_of(action) == "*" for action in actions):
                anywhere.append(statement)
            else:
                _add_to_index(wild, statement, map(_service_of, actions))
        return cls(
            {action: tuple(matching) for action, matching in exact.items()},
            {service: (*anywhere, *matching) for service, matching in wild.items()},
            tuple(anywhere),
        )

    def statements_about(self, action: str) -> tuple[Statement, ...]:
        cached = self.cache.get(action)
        if cached is not None:
            return cached
        wild = self.wild.get(_service_of(action), self.anywhere)
        matching = (*self.exact.get(action, ()), *[statement for statement in wild if statement.covers(action)])
        if len(self.cache) >= _MOST_CACHED_ACTIONS:
            self.cache.clear()
        self.cache[action] = matching
        return matching


def _add_to_index(index: dict[str, list[Statement]], statement: Statement, names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        index.setdefault(name, []).append(statement)


def _service_of(action: str) -> str:
    return action.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: its text, unchanged, and its statements."""

    text: str
    kind: PolicyKind
    label: str
    version: str
    id: str
    statements: tuple[Statement, ...]
    by_action: _ActionIndex = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, kind: PolicyKind, *, label: str = "") -> "Policy":
        """Return the policy of a text; raise MalformedPolicyDocument with AWS's message where it is invalid."""
        version, identifier, statements = read(text, kind, label)
        return cls(text, kind, label, version, identifier, statements, _ActionIndex.of(statements))

    def statements_about(self, action: str) -> Sequence[Statement]:
        """Return the statements that match an action, given in lower case."""
        return self.by_action.statements_about(action)

    def principal_arns(self) -> frozenset[str]:
        """Return the ARNs of users, roles and role sessions in the policy; they are resolved to IDs when it is stored.

        So a principal that is deleted and created again under the same name does not inherit the grant (THREATS B05).
        """
        return arns_to_resolve(element for statement in self.statements for element in statement.all_principals())

    def bind(self, ids: Mapping[str, str]) -> "Policy":
        """Return the policy with each ARN bound to the unique ID that it had; it then names only that principal."""
        return self.with_statements(
            tuple(
                replace(
                    statement,
                    principals=bind(statement.principals, ids),
                    not_principals=bind(statement.not_principals, ids),
                )
                for statement in self.statements
            )
        )

    def with_statements(self, statements: tuple[Statement, ...]) -> "Policy":
        """Return a policy with the same text and other statements."""
        return replace(self, statements=statements, by_action=_ActionIndex.of(statements))
