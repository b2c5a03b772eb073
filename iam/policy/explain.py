"""Explains a decision: each statement for the action, which of its elements match, and which grants are missing.

Pure. It evaluates the same statements as ``decide``, with the same functions, and takes the decision from there: a
second implementation of the rules could explain another decision than the one that is enforced.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iam.policy.conditions import Condition, Verdict, parse_boolean
from iam.policy.decide import (
    BOUNDARY,
    GUARDRAIL,
    IDENTITY,
    RESOURCE,
    SESSION,
    TRUST,
    Decision,
    LayerResult,
    LayerResults,
    Layers,
    RequestContext,
    applicable_layers,
    decide,
    holds,
    layer_lacking_allow,
)
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.policy.principals import PrincipalMatch
from iam.policy.statement import Effect, Statement
from iam.principal import Principal, PrincipalKind

# Statements that are listed for each layer, the closest first; there can be hundreds for one action.
_MOST_STATEMENTS = 10


@dataclass(frozen=True, slots=True)
class EvaluatedCondition:
    """A condition, the request's values for its key, and its result: None where it cannot be evaluated."""

    condition: Condition
    actual: tuple[str, ...]
    holds: Verdict


@dataclass(frozen=True, slots=True)
class EvaluatedStatement:
    """A statement for the action, evaluated against the request; ``reaches_resource``: its resources match."""

    statement: Statement
    names_principal: bool
    reaches_resource: bool
    conditions: tuple[EvaluatedCondition, ...]
    applies: bool

    @property
    def mismatches(self) -> int:
        """Return the number of elements and conditions that do not match."""
        failed = sum(not _fits(condition, self.statement) for condition in self.conditions)
        return failed + (not self.names_principal) + (not self.reaches_resource)


@dataclass(frozen=True, slots=True)
class EvaluatedLayer:
    """One layer: ``answer`` is its result for the request, ``statements`` are all of its statements for the action."""

    layer: str
    answer: str  # "denies", "allows" or "is silent"
    statements: tuple[EvaluatedStatement, ...]

    def nearest(self, effect: Effect) -> Iterator[EvaluatedStatement]:
        """Yield the statements of one effect that do not apply, those with the fewest mismatches first."""
        yield from sorted(
            (
                evaluated
                for evaluated in self.statements
                if evaluated.statement.effect is effect and not evaluated.applies
            ),
            key=lambda evaluated: evaluated.mismatches,
        )


@dataclass(frozen=True, slots=True)
class MissingGrant:
    """A missing grant: its layer, and the smallest statement that would grant."""

    layer: str
    statement: Mapping[str, Any]
    nearest: EvaluatedStatement | None  # the existing Allow with the fewest mismatches


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and all that was evaluated; ``missing_grants`` are those that are missing apart from any Deny."""

    context: RequestContext
    decision: Decision
    layers: tuple[EvaluatedLayer, ...]
    missing_grants: tuple[MissingGrant, ...]


def explain(context: RequestContext, layers: Layers) -> Explanation:
    """Return the decision on a request with its explanation; never raises."""
    decision = decide(context, layers)
    evaluated = tuple(_evaluate_layers(context, layers))
    return Explanation(
        context, decision, evaluated, tuple(_missing_grants(context, layers, decision.layer_results, evaluated))
    )


def _evaluate_layers(context: RequestContext, layers: Layers) -> Iterator[EvaluatedLayer]:
    bounded = applicable_layers(context.principal.kind, layers).boundary is not None
    for layer, policies in _layers_in_order(context, layers):
        has_principals = layer in (RESOURCE, TRUST)
        statements = tuple(
            _statement(
                statement,
                context,
                names_principal=not has_principals or bool(holds(statement, context.principal, bounded=bounded)),
            )
            for statement in _about(context, policies)
        )
        yield EvaluatedLayer(layer, _answer(statements), statements)


_WITHOUT_POLICIES = frozenset(
    {PrincipalKind.ROOT, PrincipalKind.FEDERATED, PrincipalKind.SERVICE, PrincipalKind.ANONYMOUS}
)


def _layers_in_order(context: RequestContext, layers: Layers) -> Iterator[tuple[str, PolicySet]]:
    """Yield the layers that apply, in the order of evaluation."""
    identity, boundary, session, guardrails, resource, _ = applicable_layers(context.principal.kind, layers)
    where = TRUST if resource is not None and resource.trust else RESOURCE
    present = {GUARDRAIL: guardrails, where: resource, IDENTITY: identity, BOUNDARY: boundary, SESSION: session}
    if context.principal.kind in _WITHOUT_POLICIES and not identity:
        del present[IDENTITY]
    yield from ((layer, policies) for layer, policies in present.items() if policies is not None)


def _about(context: RequestContext, policies: PolicySet) -> Iterator[Statement]:
    for policy in policies:
        yield from policy.statements_about(context.action.lower())


def _statement(statement: Statement, context: RequestContext, *, names_principal: bool) -> EvaluatedStatement:
    keys = context.keys
    return EvaluatedStatement(
        statement,
        names_principal=names_principal,
        reaches_resource=bool(statement.matches_resource(context.resource, keys)),
        conditions=tuple(
            EvaluatedCondition(condition, keys.get(condition.key, ()), condition.holds(keys))
            for condition in statement.conditions
        ),
        applies=names_principal and bool(statement.applies(context.resource, keys)),
    )


def _answer(statements: Iterable[EvaluatedStatement]) -> str:
    effects = {evaluated.statement.effect for evaluated in statements if evaluated.applies}
    return "denies" if Effect.DENY in effects else "allows" if effects else "is silent"


def wanted_presence(condition: Condition) -> tuple[bool, ...]:
    """Return for each value of a Null condition whether it wants the key to be there; nothing for other operators.

    IAM User Guide, "Condition operator to check existence of condition keys": ``true`` wants a key that is absent.
    """
    return tuple(not parse_boolean(value) for value in condition.values) if condition.operator == "Null" else ()


def _fits(condition: EvaluatedCondition, statement: Statement) -> bool:
    return condition.holds is True or (condition.holds is None and statement.denies)


# --- what is missing --------------------------------------------------------------------------------------------------


def _missing_grants(
    context: RequestContext, layers: Layers, layer_results: LayerResults, evaluated: Sequence[EvaluatedLayer]
) -> Iterator[MissingGrant]:
    """Yield the smallest missing grants, apart from any Deny; each is assumed to exist in order to find the next."""
    while missing_layer := layer_lacking_allow(context.principal, layers.resource_account, layer_results):
        layer = next((candidate for candidate in evaluated if candidate.layer == missing_layer), None)
        nearest = next(layer.nearest(Effect.ALLOW), None) if layer else None
        yield MissingGrant(missing_layer, _smallest_grant(missing_layer, context), nearest)
        layer_results = _assume_granted(layer_results, missing_layer, context.principal)


def _smallest_grant(layer: str, context: RequestContext) -> Mapping[str, Any]:
    """Return the smallest statement that grants the request in a layer."""
    statement: dict[str, Any] = {"Effect": "Allow"}
    if layer in (TRUST, RESOURCE):
        statement["Principal"] = _principal_element(context.principal)
    statement["Action"] = context.action
    if layer != TRUST:
        statement["Resource"] = context.resource
    subject = _subject(context) if layer == TRUST else {}
    return statement | ({"Condition": {"StringEquals": subject}} if subject else {})


def _principal_element(principal: Principal) -> Mapping[str, str]:
    return {_ELEMENTS.get(principal.kind, "AWS"): principal.entity_arn or principal.arn}


def _subject(context: RequestContext) -> Mapping[str, str]:
    """Return a condition on the subject of a federated principal.

    Without it, a suggested trust policy would admit every user of the identity provider (THREATS C24).
    """
    if context.principal.kind is not PrincipalKind.FEDERATED:
        return {}
    provider_type, _, name = context.principal.arn.split(":", 5)[-1].partition("-provider/")
    key = f"{name if provider_type == 'oidc' else provider_type}:sub"
    values = context.keys.get(key.lower())
    return {key: values[0]} if values else {}


_ELEMENTS = {PrincipalKind.FEDERATED: "Federated", PrincipalKind.SERVICE: "Service"}
# The index of each layer in LayerResults.
_RESULT_INDEX = {GUARDRAIL: 0, RESOURCE: 1, TRUST: 1, IDENTITY: 2, BOUNDARY: 3, SESSION: 4}


def _assume_granted(layer_results: LayerResults, layer: str, principal: Principal) -> LayerResults:
    """Return the results as if the layer allowed; a resource-based policy then also names the principal."""
    results = list(layer_results)
    results[_RESULT_INDEX[layer]] = LayerResult(
        layer, [], [_ANY_ALLOW], _MATCH_BY_KIND.get(principal.kind, PrincipalMatch.CALLER)
    )
    return results[0], results[1], results[2], results[3], results[4]


_MATCH_BY_KIND = {
    PrincipalKind.ROOT: PrincipalMatch.ACCOUNT,
    PrincipalKind.ROLE_SESSION: PrincipalMatch.ENTITY,
    PrincipalKind.FEDERATED_USER: PrincipalMatch.ENTITY,
    PrincipalKind.ANONYMOUS: PrincipalMatch.ENTITY,
}
_ANY_ALLOW = Policy.parse(
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}', PolicyKind.IDENTITY
).statements[0]


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation for JSON: at most ten statements of each layer, those with the fewest mismatches first."""
    principal = explanation.context.principal
    return {
        "allowed": explanation.decision.allowed,
        "decision": explanation.decision.decision_type.value,
        "layer": explanation.decision.layer,
        "principal": {"arn": principal.arn, "type": principal.identity_type},
        "action": explanation.context.action,
        "resource": explanation.context.resource,
        "layers": [_layer_json(layer) for layer in explanation.layers],
        "needed": [missing_grant_json(grant) for grant in explanation.missing_grants],
    }


def _layer_json(layer: EvaluatedLayer) -> dict[str, Any]:
    closest_first = sorted(layer.statements, key=lambda statement: (not statement.applies, statement.mismatches))
    listed = [statement_json(statement) for statement in closest_first[:_MOST_STATEMENTS]]
    left_out = len(closest_first) - len(listed)
    return {"layer": layer.layer, "answer": layer.answer, "statements": listed} | (
        {"leftOut": left_out} if left_out else {}
    )


def missing_grant_json(grant: MissingGrant) -> dict[str, Any]:
    """Return a missing grant for JSON: the statement that would grant, and the closest existing statement."""
    nearest = {"nearest": statement_json(grant.nearest)} if grant.nearest else {}
    return {"layer": grant.layer, "statement": dict(grant.statement), **nearest}


def statement_json(evaluated: EvaluatedStatement) -> dict[str, Any]:
    """Return a statement for JSON, with the elements that do not match."""
    statement = evaluated.statement
    return {
        "policy": statement.policy,
        "statement": statement.name,
        "effect": statement.effect.value,
        "applies": evaluated.applies,
        "misses": list(_misses(evaluated)),
    }


def _misses(evaluated: EvaluatedStatement) -> Iterator[dict[str, Any]]:
    statement = evaluated.statement
    if not evaluated.names_principal:
        yield {"part": "principal", "wanted": [principal.text for principal in statement.all_principals()]}
    if not evaluated.reaches_resource:
        part = "not resource" if statement.not_resources else "resource"
        yield {"part": part, "wanted": [*statement.resources, *statement.not_resources]}
    for tested in evaluated.conditions:
        if not _fits(tested, statement):
            condition = tested.condition
            yield {
                "part": "condition",
                "operator": condition.operator,
                "key": condition.name,
                "wanted": list(condition.values),
                "actual": list(tested.actual),
            }
