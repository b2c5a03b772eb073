"""What a decision could be where not all of a request is known: the best and the worst that is left open.

Pure. A condition on a key that is not known may hold or not, and so may a resource with such a key as a variable. At
best, those of an Allow hold and those of a Deny do not; at worst it is the other way round. Where both come out alike,
what is unknown makes no difference.
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
    """Return the layers as they would allow most; ``known`` tells of a condition key in lower case."""
    return _each(layers, lambda statement: _assume_open_parts(statement, known, favour=not statement.denies))


def least_permissive(layers: Layers, known: IsKnown) -> Layers:
    """Return the layers as they would allow least."""
    return _each(layers, lambda statement: _assume_open_parts(statement, known, favour=statement.denies))


def unknown_conditions(statement: Statement, known: IsKnown) -> tuple[Condition, ...]:
    """Return the conditions of a statement that nobody can judge."""
    return tuple(one for one in statement.conditions if not _is_judged(one, known))


def _is_judged(condition: Condition, known: IsKnown) -> bool:
    return known(condition.key) and _are_known(condition.values, known)


def _are_known(texts: tuple[str, ...], known: IsKnown) -> bool:
    return all(known(name.lower()) for name in variable_keys(texts))


def _each(layers: Layers, assume: _Assume) -> Layers:
    return Layers(
        identity=_map_statements(layers.identity, assume),
        boundary=layers.boundary and _map_statements(layers.boundary, assume),
        session=layers.session and _map_statements(layers.session, assume),
        guardrails=layers.guardrails and _map_statements(layers.guardrails, assume),
        resource=layers.resource and _map_statements(layers.resource, assume),
        resource_account=layers.resource_account,
    )


def _map_statements(policies: PolicySet, assume: _Assume) -> PolicySet:
    return PolicySet(_policy(policy, assume) for policy in policies)


def _policy(policy: Policy, assume: _Assume) -> Policy:
    return policy.with_statements(tuple(one for one in map(assume, policy.statements) if one is not None))


def _assume_open_parts(statement: Statement, known: IsKnown, *, favour: bool) -> Statement | None:
    """Return a statement whose open parts all fit, or None where they do not."""
    judged = tuple(one for one in statement.conditions if _is_judged(one, known))
    reached = _are_known((*statement.resources, *statement.not_resources), known)
    if reached and judged == statement.conditions:
        return statement
    if not favour:
        return None
    matches_resource = (
        statement.matches_resource if reached else resource_test(None, negated=False, denies=statement.denies)
    )
    return replace(
        statement,
        conditions=judged,
        matches_resource=matches_resource,
        applies=statement_test(matches_resource, judged, denies=statement.denies),
    )
