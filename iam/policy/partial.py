"""Partial evaluation: the most and the least permissive policies where some condition keys are unknown.

Pure. A condition with an unknown key may be true or false, and a resource with it as a policy variable may match or
not. Most permissive: those of an Allow match, those of a Deny do not. Least permissive is the opposite. Where both give
the same decision, the unknown keys do not affect it.

``close`` is the least permissive for keys that are never known, such as ``s3:ExistingObjectTag`` outside the store.
"""

from collections.abc import Callable
from dataclasses import replace

from iam.policy.conditions import Condition
from iam.policy.context_keys import variable_keys
from iam.policy.decide import Layers
from iam.policy.document import Policy
from iam.policy.policy_set import PolicySet
from iam.policy.statement import Statement, resource_test, statement_test

IsKnown = Callable[[str], bool]
_Assume = Callable[[Statement], Statement | None]


def most_permissive(layers: Layers, known: IsKnown) -> Layers:
    """Return the layers at their most permissive; ``known`` is whether a condition key, in lower case, is known."""
    return _each(layers, lambda statement: _assume_open_parts(statement, known, assume_match=not statement.denies))


def least_permissive(layers: Layers, known: IsKnown) -> Layers:
    """Return the layers at their least permissive."""
    return _each(layers, lambda statement: _assume_open_parts(statement, known, assume_match=statement.denies))


def close(layers: Layers, unknown: frozenset[str]) -> Layers:
    """Return the layers at their least permissive for unknown keys, given in lower case.

    A name with a slash at its end stands for all keys that begin with it. What changes nothing is the same object, and
    each set of policies is made once, so that a decision takes no longer for it.
    """
    if not unknown:
        return layers
    prefixes = tuple(name for name in unknown if name.endswith("/"))

    def make(policies: PolicySet) -> PolicySet:
        def known(key: str) -> bool:
            return key not in unknown and not key.startswith(prefixes)

        closed = _map_statements(
            policies, lambda statement: _assume_open_parts(statement, known, assume_match=statement.denies)
        )
        return policies if closed == policies else closed

    return map_layers(layers, lambda policies: policies.derive(unknown, make))


def map_layers(layers: Layers, change: Callable[[PolicySet], PolicySet]) -> Layers:
    """Return the layers with each set of policies changed."""
    return Layers(
        identity=change(layers.identity),
        boundary=None if layers.boundary is None else change(layers.boundary),
        session=None if layers.session is None else change(layers.session),
        guardrails=None if layers.guardrails is None else change(layers.guardrails),
        resource=None if layers.resource is None else change(layers.resource),
        resource_account=layers.resource_account,
    )


def unknown_conditions(statement: Statement, known: IsKnown) -> tuple[Condition, ...]:
    """Return the conditions of a statement that use unknown keys."""
    return tuple(condition for condition in statement.conditions if not _uses_known_keys(condition, known))


def _uses_known_keys(condition: Condition, known: IsKnown) -> bool:
    return known(condition.key) and _are_known(condition.values, known)


def _are_known(texts: tuple[str, ...], known: IsKnown) -> bool:
    return all(known(name.lower()) for name in variable_keys(texts))


def _each(layers: Layers, assume: _Assume) -> Layers:
    return map_layers(layers, lambda policies: _map_statements(policies, assume))


def _map_statements(policies: PolicySet, assume: _Assume) -> PolicySet:
    return PolicySet(_policy(policy, assume) for policy in policies)


def _policy(policy: Policy, assume: _Assume) -> Policy:
    return policy.with_statements(
        tuple(statement for statement in map(assume, policy.statements) if statement is not None)
    )


def _assume_open_parts(statement: Statement, known: IsKnown, *, assume_match: bool) -> Statement | None:
    """Return the statement without its unknown parts if they are assumed to match, else None."""
    known_conditions = tuple(condition for condition in statement.conditions if _uses_known_keys(condition, known))
    resource_is_known = _are_known((*statement.resources, *statement.not_resources), known)
    if resource_is_known and known_conditions == statement.conditions:
        return statement
    if not assume_match:
        return None
    matches_resource = (
        statement.matches_resource if resource_is_known else resource_test(None, negated=False, denies=statement.denies)
    )
    return replace(
        statement,
        resources=statement.resources if resource_is_known else ("*",),
        not_resources=statement.not_resources if resource_is_known else (),
        conditions=known_conditions,
        matches_resource=matches_resource,
        applies=statement_test(matches_resource, known_conditions, denies=statement.denies),
    )
