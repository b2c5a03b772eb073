"""Why a decision came out as it did: each statement about the action, which of its parts fit, and what is missing.

Pure. It evaluates the same statements as ``decide`` with the same tests, and takes the decision from there: a second
implementation of the rules here could tell another story than the gate.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iam.policy.conditions import Condition, Verdict
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

# Statements that are listed of each layer, the closest first: a caller may have hundreds for one action.
_MOST_STATEMENTS = 10


@dataclass(frozen=True, slots=True)
class EvaluatedCondition:
    """A condition, the request's values for its key, and whether it holds: None where that cannot be determined."""

    condition: Condition
    actual: tuple[str, ...]
    holds: Verdict


@dataclass(frozen=True, slots=True)
class EvaluatedStatement:
    """A statement for the action, evaluated against the request."""

    statement: Statement
    names_principal: bool
    reaches_resource: bool
    conditions: tuple[EvaluatedCondition, ...]
    applies: bool

    @property
    def mismatches(self) -> int:
        """Return how many elements do not match."""
        failed = sum(not _fits(one, self.statement) for one in self.conditions)
        return failed + (not self.names_principal) + (not self.reaches_resource)


@dataclass(frozen=True, slots=True)
class EvaluatedLayer:
    """One layer: ``answer`` is what it says of the request, ``statements`` are all about the action."""

    layer: str
    answer: str  # "denies", "allows" or "is silent"
    statements: tuple[EvaluatedStatement, ...]

    def nearest(self, effect: Effect) -> Iterator[EvaluatedStatement]:
        """Yield the statements of one effect that do not apply, those that miss least first."""
        yield from sorted(
            (one for one in self.statements if one.statement.effect is effect and not one.applies),
            key=lambda one: one.mismatches,
        )


@dataclass(frozen=True, slots=True)
class MissingGrant:
    """A grant that is missing: in which layer, and the smallest statement that would be it."""

    layer: str
    statement: Mapping[str, Any]
    nearest: EvaluatedStatement | None  # an allow that is there and misses least


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with all that was evaluated; ``missing_grants`` are those that are missing once nothing denies."""

    context: RequestContext
    decision: Decision
    layers: tuple[EvaluatedLayer, ...]
    missing_grants: tuple[MissingGrant, ...]


def explain(context: RequestContext, layers: Layers) -> Explanation:
    """Return the decision on a request and its reasons; never raises."""
    decision = decide(context, layers)
    read = tuple(_evaluate_layers(context, layers))
    return Explanation(context, decision, read, tuple(_missing_grants(context, layers, decision.layer_results, read)))


def _evaluate_layers(context: RequestContext, layers: Layers) -> Iterator[EvaluatedLayer]:
    bounded = applicable_layers(context.principal.kind, layers).boundary is not None
    for layer, policies in _layers_in_order(context, layers):
        names = layer in (RESOURCE, TRUST)
        statements = tuple(
            _statement(one, context, named=not names or bool(holds(one, context.principal, bounded=bounded)))
            for one in _about(context, policies)
        )
        yield EvaluatedLayer(layer, _answer(statements), statements)


_WITHOUT_POLICIES = frozenset({PrincipalKind.ROOT, PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


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


def _statement(statement: Statement, context: RequestContext, *, named: bool) -> EvaluatedStatement:
    keys = context.keys
    return EvaluatedStatement(
        statement,
        names_principal=named,
        reaches_resource=bool(statement.matches_resource(context.resource, keys)),
        conditions=tuple(
            EvaluatedCondition(one, keys.get(one.key, ()), one.holds(keys)) for one in statement.conditions
        ),
        applies=named and bool(statement.applies(context.resource, keys)),
    )


def _answer(statements: Iterable[EvaluatedStatement]) -> str:
    effects = {one.statement.effect for one in statements if one.applies}
    return "denies" if Effect.DENY in effects else "allows" if effects else "is silent"


def _fits(tested: EvaluatedCondition, statement: Statement) -> bool:
    return tested.holds is True or (tested.holds is None and statement.denies)


# --- what is missing --------------------------------------------------------------------------------------------------


def _missing_grants(
    context: RequestContext, layers: Layers, layer_results: LayerResults, read: Sequence[EvaluatedLayer]
) -> Iterator[MissingGrant]:
    """Yield the smallest grants that are missing, denies aside; each is taken as given to find the next."""
    while lacking := layer_lacking_allow(context.principal, layers.resource_account, layer_results):
        here = next((one for one in read if one.layer == lacking), None)
        nearest = next(here.nearest(Effect.ALLOW), None) if here else None
        yield MissingGrant(lacking, _smallest_grant(lacking, context), nearest)
        layer_results = _assume_granted(layer_results, lacking, context.principal)


def _smallest_grant(layer: str, context: RequestContext) -> Mapping[str, Any]:
    """Return the smallest statement that would be the missing grant."""
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
    """Return the condition that means one person of an identity provider: the provider alone would mean all of them."""
    if context.principal.kind is not PrincipalKind.FEDERATED:
        return {}
    kind, _, name = context.principal.arn.split(":", 5)[-1].partition("-provider/")
    key = f"{name if kind == 'oidc' else kind}:sub"
    found = context.keys.get(key.lower())
    return {key: found[0]} if found else {}


_ELEMENTS = {PrincipalKind.FEDERATED: "Federated", PrincipalKind.SERVICE: "Service"}
_PLACES = {GUARDRAIL: 0, RESOURCE: 1, TRUST: 1, IDENTITY: 2, BOUNDARY: 3, SESSION: 4}


def _assume_granted(layer_results: LayerResults, layer: str, principal: Principal) -> LayerResults:
    """Return the results as if the layer allowed, by naming the principal where it names one."""
    said = list(layer_results)
    said[_PLACES[layer]] = LayerResult(
        layer, [], [_ANY_ALLOW], _MATCH_BY_KIND.get(principal.kind, PrincipalMatch.CALLER)
    )
    return said[0], said[1], said[2], said[3], said[4]


_MATCH_BY_KIND = {
    PrincipalKind.ROOT: PrincipalMatch.ACCOUNT,
    PrincipalKind.ROLE_SESSION: PrincipalMatch.ENTITY,
    PrincipalKind.FEDERATED_USER: PrincipalMatch.ENTITY,
}
_ANY_ALLOW = Policy.parse(
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}', PolicyKind.IDENTITY
).statements[0]


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_json(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON can hold it: of each layer at most ten statements, those that miss least first."""
    principal = found.context.principal
    return {
        "allowed": found.decision.allowed,
        "decision": found.decision.decision_type.value,
        "layer": found.decision.layer,
        "principal": {"arn": principal.arn, "type": principal.kind.value},
        "action": found.context.action,
        "resource": found.context.resource,
        "layers": [_layer_json(one) for one in found.layers],
        "needed": [missing_grant_json(one) for one in found.missing_grants],
    }


def _layer_json(layer: EvaluatedLayer) -> dict[str, Any]:
    near = sorted(layer.statements, key=lambda one: (not one.applies, one.mismatches))
    told = [statement_json(one) for one in near[:_MOST_STATEMENTS]]
    left_out = len(near) - len(told)
    return {"layer": layer.layer, "answer": layer.answer, "statements": told} | (
        {"leftOut": left_out} if left_out else {}
    )


def missing_grant_json(need: MissingGrant) -> dict[str, Any]:
    """Return a missing grant: the statement that would be it, and the one that is there and misses least."""
    nearest = {"nearest": statement_json(need.nearest)} if need.nearest else {}
    return {"layer": need.layer, "statement": dict(need.statement), **nearest}


def statement_json(read: EvaluatedStatement) -> dict[str, Any]:
    """Return a statement and which of its parts do not fit."""
    statement = read.statement
    return {
        "policy": statement.policy,
        "statement": statement.sid or statement.index,
        "effect": statement.effect.value,
        "applies": read.applies,
        "misses": list(_misses(read)),
    }


def _misses(read: EvaluatedStatement) -> Iterator[dict[str, Any]]:
    statement = read.statement
    if not read.names_principal:
        yield {"part": "principal", "wanted": [one.text for one in statement.all_principals()]}
    if not read.reaches_resource:
        part = "not resource" if statement.not_resources else "resource"
        yield {"part": part, "wanted": [*statement.resources, *statement.not_resources]}
    for one in read.conditions:
        if not _fits(one, statement):
            condition = one.condition
            yield {
                "part": "condition",
                "operator": condition.operator,
                "key": condition.name,
                "wanted": list(condition.values),
                "actual": list(one.actual),
            }
