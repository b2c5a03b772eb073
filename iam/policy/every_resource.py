"""Decides about all resources whose ARN begins with a prefix at once, for operations whose body names the resources.

Pure. What the body of DeleteObjects names, an authoriser in front of a store cannot see. Whatever it names is allowed
where an Allow covers every resource with the prefix and no Deny can match any of them, in each layer. So the layers are
evaluated as they always are, with two other tests: "matches every" for an Allow, "matches some" for a Deny.
"""

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
    """Return the test whether a statement matches every resource with a prefix, or, for a Deny, some of them."""
    if not statement.resources and not statement.not_resources:
        return lambda _prefix, _keys: True

    def globs(texts: tuple[str, ...], keys: ContextKeys) -> list[list[list[Part]] | None]:
        return [resource_globs(text, keys, variables=variables) for text in texts]

    def some(prefix: str, keys: ContextKeys) -> bool:
        if statement.not_resources:
            excluded = chain.from_iterable(found or () for found in globs(statement.not_resources, keys))
            return not any(matches_every(glob, prefix) for glob in excluded)
        named = chain.from_iterable(found or () for found in globs(statement.resources, keys))
        return any(matches_some(glob, prefix) for glob in named)

    def every(prefix: str, keys: ContextKeys) -> bool:
        if statement.not_resources:
            excluded = globs(statement.not_resources, keys)
            # As in a single decision, a pattern whose variable has no value excludes everything from an Allow.
            return all(
                found is not None and not any(matches_some(glob, prefix) for glob in found) for found in excluded
            )
        named = chain.from_iterable(found or () for found in globs(statement.resources, keys))
        return any(matches_every(glob, prefix) for glob in named)

    return some if statement.denies else every
