"""Makes one decision about all resources whose ARN begins with a prefix, for operations whose body names the resources.

Pure. What the body of DeleteObjects names, an authorizer in front of a store cannot see. Whatever it names is allowed
where an Allow covers every resource with the prefix and no Deny can match any of them, in each layer. So the layers are
evaluated as always; only the test of ``Resource`` and ``NotResource`` is another: an Allow must match all of them, a
Deny one of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from iam.policy.decide import Decision, Layers, RequestContext, decide
from iam.policy.document import Policy
from iam.policy.globs import Part, matches_every, matches_some
from iam.policy.grammar import VERSION_WITH_VARIABLES
from iam.policy.partial import map_layers
from iam.policy.patterns import ContextKeys, resource_globs
from iam.policy.policy_set import PolicySet
from iam.policy.statement import Applies, Statement, statement_test

# Returns the globs of a pattern, or None where a variable in it has no value.
ReadGlobs = Callable[[str], list[list[Part]] | None]


def decide_every(context: RequestContext, layers: Layers) -> Decision:
    """Return the decision on all resources whose ARN begins with ``context.resource``; never raises.

    It is allowed only if ``decide`` allows each of them.
    """
    return decide(context, for_every_resource(layers))


def for_every_resource(layers: Layers) -> Layers:
    """Return the layers whose statements are tested against a prefix, for a decision or its explanation."""
    return map_layers(layers, lambda policies: policies.derive(_EveryResource, _EveryResource.of))


class _EveryResource(PolicySet):
    """Policies whose statements are tested against a prefix; a statement about a longer prefix can match as well."""

    __slots__ = ()

    @classmethod
    def of(cls, policies: PolicySet) -> PolicySet:
        return cls(
            policy.with_statements(tuple(_with_prefix_test(policy, statement) for statement in policy.statements))
            for policy in policies
        )

    def find(self, action: str, resource: str) -> tuple[Statement, ...]:  # noqa: ARG002 - the index knows no prefixes
        lower = action.lower()
        return tuple(statement for policy in self.policies for statement in policy.statements_about(lower))


def _with_prefix_test(policy: Policy, statement: Statement) -> Statement:
    test = _prefix_test(statement, variables=policy.version == VERSION_WITH_VARIABLES)
    applies = statement_test(test, statement.conditions, denies=statement.denies)
    return replace(statement, matches_resource=test, applies=applies)


def _prefix_test(statement: Statement, *, variables: bool) -> Applies:
    """Return the test of a statement against a prefix: an Allow must match every resource, a Deny some of them."""
    if not statement.resources and not statement.not_resources:
        return lambda _prefix, _keys: True
    test = _some_match if statement.denies else _all_match

    def matches(prefix: str, keys: ContextKeys) -> bool:
        return test(statement, prefix, lambda text: resource_globs(text, keys, variables=variables))

    return matches


def _some_match(statement: Statement, prefix: str, read: ReadGlobs) -> bool:
    """Return whether a statement can match a resource with the prefix."""
    if statement.not_resources:
        return not any(matches_every(glob, prefix) for glob in _globs(statement.not_resources, read))
    return any(matches_some(glob, prefix) for glob in _globs(statement.resources, read))


def _all_match(statement: Statement, prefix: str, read: ReadGlobs) -> bool:
    """Return whether a statement matches every resource with the prefix."""
    if statement.not_resources:
        excluded = map(read, statement.not_resources)
        # As in a single decision, a pattern whose variable has no value excludes everything from an Allow.
        return all(found is not None and not any(matches_some(glob, prefix) for glob in found) for found in excluded)
    return any(matches_every(glob, prefix) for glob in _globs(statement.resources, read))


def _globs(patterns: tuple[str, ...], read: ReadGlobs) -> Iterator[list[Part]]:
    """Yield the globs of patterns; one whose variable has no value has none."""
    return chain.from_iterable(read(pattern) or () for pattern in patterns)
