"""A policy: its author's text, byte for byte, and what it means, indexed by action.

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iam.policy.grammar import TRUST_ACTIONS, VERSION_WITH_VARIABLES, read
from iam.policy.principals import arns_to_resolve, bind
from iam.policy.statement import Effect, PolicyKind, Statement

__all__ = ["TRUST_ACTIONS", "VERSION_WITH_VARIABLES", "Effect", "Policy", "PolicyKind", "Statement", "size"]

_WHITE_SPACE = dict.fromkeys(map(ord, " \t\r\n"))
# Actions whose statements a policy remembers: an API has some hundreds, but strangers may ask for any text.
_REMEMBERED = 2_000


def size(text: str) -> int:
    """Return a policy's length in characters, without white space, as quotas count it."""
    return len(text.translate(_WHITE_SPACE))


@dataclass(frozen=True, slots=True)
class _ActionIndex:
    """Statements by what they can match: an exact action, a service, or anything; those of a service include the last.

    ``known`` keeps the answers that were given before.
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
            {action: tuple(found) for action, found in exact.items()},
            {service: (*anywhere, *found) for service, found in wild.items()},
            tuple(anywhere),
        )

    def statements_about(self, action: str) -> tuple[Statement, ...]:
        cache = self.cache.get(action)
        if cache is not None:
            return cache
        wild = self.wild.get(_service_of(action), self.anywhere)
        found = (*self.exact.get(action, ()), *[one for one in wild if one.covers(action)])
        if len(self.cache) >= _REMEMBERED:
            self.cache.clear()
        self.cache[action] = found
        return found


def _add_to_index(index: dict[str, list[Statement]], statement: Statement, names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        index.setdefault(name, []).append(statement)


def _service_of(action: str) -> str:
    return action.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: its author's text byte for byte, and what it means."""

    text: str
    kind: PolicyKind
    label: str
    version: str
    id: str
    statements: tuple[Statement, ...]
    by_action: _ActionIndex = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, kind: PolicyKind, *, label: str = "") -> "Policy":
        """Return the policy that a text is; MalformedPolicyDocument says in AWS's words why it is none."""
        version, identifier, statements = read(text, kind, label)
        return cls(text, kind, label, version, identifier, statements, _ActionIndex.of(statements))

    def statements_about(self, action: str) -> Sequence[Statement]:
        """Return the statements about an action, given in lower case."""
        return self.by_action.statements_about(action)

    def principal_arns(self) -> frozenset[str]:
        """Return the ARNs of users, roles and role sessions that the policy names, to be resolved when it is stored."""
        return arns_to_resolve(one for statement in self.statements for one in statement.all_principals())

    def bind(self, ids: Mapping[str, str]) -> "Policy":
        """Return the policy with each ARN bound to the unique id that it had: it then means that principal alone."""
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
        """Return a policy of the same text that means other statements."""
        return replace(self, statements=statements, by_action=_ActionIndex.of(statements))
