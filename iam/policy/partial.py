"""What a decision could be where not all of a request is known: the best and the worst that is left open.

Pure. A condition on a key that is not known may hold or not, and so may a resource with such a key as a variable. At
best, those of an Allow hold and those of a Deny do not; at worst it is the other way round. Where both come out alike,
what is unknown makes no difference.
"""

from collections.abc import Callable
from dataclasses import replace

from iam.policy.conditions import Condition
from iam.policy.context_keys import variables
from iam.policy.decide import Layers
from iam.policy.document import Policy
from iam.policy.policy_set import PolicySet
from iam.policy.statement import Statement, applying, reaching

Known = Callable[[str], bool]
_Suppose = Callable[[Statement], Statement | None]


def at_best(layers: Layers, known: Known) -> Layers:
    """Return the layers as they would allow most; ``known`` tells of a condition key in lower case."""
    return _each(layers, lambda statement: _supposed(statement, known, favour=not statement.denies))


def at_worst(layers: Layers, known: Known) -> Layers:
    """Return the layers as they would allow least."""
    return _each(layers, lambda statement: _supposed(statement, known, favour=statement.denies))


def open_conditions(statement: Statement, known: Known) -> tuple[Condition, ...]:
    """Return the conditions of a statement that nobody can judge."""
    return tuple(one for one in statement.conditions if not _is_judged(one, known))


def _is_judged(condition: Condition, known: Known) -> bool:
    return known(condition.key) and _are_known(condition.values, known)


def _are_known(texts: tuple[str, ...], known: Known) -> bool:
    return all(known(name.lower()) for name in variables(texts))


def _each(layers: Layers, suppose: _Suppose) -> Layers:
    return Layers(
        identity=_supposing(layers.identity, suppose),
        boundary=layers.boundary and _supposing(layers.boundary, suppose),
        session=layers.session and _supposing(layers.session, suppose),
        guardrails=layers.guardrails and _supposing(layers.guardrails, suppose),
        resource=layers.resource and _supposing(layers.resource, suppose),
        resource_account=layers.resource_account,
    )


def _supposing(policies: PolicySet, suppose: _Suppose) -> PolicySet:
    return PolicySet(_policy(policy, suppose) for policy in policies)


def _policy(policy: Policy, suppose: _Suppose) -> Policy:
    return policy.with_statements(tuple(one for one in map(suppose, policy.statements) if one is not None))


def _supposed(statement: Statement, known: Known, *, favour: bool) -> Statement | None:
    """Return a statement whose open parts all fit, or None where they do not."""
    judged = tuple(one for one in statement.conditions if _is_judged(one, known))
    reached = _are_known((*statement.resources, *statement.not_resources), known)
    if reached and judged == statement.conditions:
        return statement
    if not favour:
        return None
    reaches = statement.reaches if reached else reaching(None, spares=False, denies=statement.denies)
    return replace(
        statement, conditions=judged, reaches=reaches, applies=applying(reaches, judged, denies=statement.denies)
    )
