"""Why a decision came out as it did: each statement about the action, which of its parts fit, and what is missing.

Pure. It asks the same statements as ``decide`` and never another rule: an explanation is a decision read aloud.
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
    Layers,
    RequestContext,
    Said,
    Survey,
    binding,
    decide,
    holds,
    missing,
)
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.policy.principals import Grip
from iam.policy.statement import Effect, Statement
from iam.principal import Principal, PrincipalKind

# Statements of one layer that are told, the nearest to fitting first: a caller may have hundreds about one action.
_TOLD = 10


@dataclass(frozen=True, slots=True)
class Tested:
    """A condition, the request's values for its key, and whether it holds: None where nobody can know."""

    condition: Condition
    actual: tuple[str, ...]
    holds: Verdict


@dataclass(frozen=True, slots=True)
class Read:
    """A statement about the action, read against the request."""

    statement: Statement
    names_principal: bool
    reaches_resource: bool
    conditions: tuple[Tested, ...]
    applies: bool

    @property
    def misses(self) -> int:
        """Return how many parts do not fit."""
        failed = sum(not _fits(one, self.statement) for one in self.conditions)
        return failed + (not self.names_principal) + (not self.reaches_resource)


@dataclass(frozen=True, slots=True)
class LayerRead:
    """One layer: ``answer`` is what it says of the request, ``statements`` are all about the action."""

    layer: str
    answer: str  # "denies", "allows" or "is silent"
    statements: tuple[Read, ...]

    def nearest(self, effect: Effect) -> Iterator[Read]:
        """Yield the statements of one effect that do not apply, those that miss least first."""
        yield from sorted(
            (one for one in self.statements if one.statement.effect is effect and not one.applies),
            key=lambda one: one.misses,
        )


@dataclass(frozen=True, slots=True)
class Need:
    """A grant that is missing: in which layer, and the smallest statement that would be it."""

    layer: str
    statement: Mapping[str, Any]
    nearest: Read | None  # an allow that is there and misses least


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with everything that it looked at; ``needed`` is what is missing once no statement denies."""

    context: RequestContext
    decision: Decision
    layers: tuple[LayerRead, ...]
    needed: tuple[Need, ...]


def explain(context: RequestContext, layers: Layers) -> Explanation:
    """Return the decision on a request and its reasons; never raises."""
    decision = decide(context, layers)
    read = tuple(_read(context, layers))
    return Explanation(context, decision, read, tuple(_needed(context, layers, decision.survey, read)))


def _read(context: RequestContext, layers: Layers) -> Iterator[LayerRead]:
    bounded = binding(context.principal.kind, layers).boundary is not None
    for layer, policies in _present(context, layers):
        names = layer in (RESOURCE, TRUST)
        statements = tuple(
            _statement(one, context, named=not names or bool(holds(one, context.principal, bounded=bounded)))
            for one in _about(context, policies)
        )
        yield LayerRead(layer, _answer(statements), statements)


_WITHOUT_POLICIES = frozenset({PrincipalKind.ROOT, PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _present(context: RequestContext, layers: Layers) -> Iterator[tuple[str, PolicySet]]:
    """Yield the layers that have a say, in the order in which they are asked."""
    identity, boundary, session, guardrails, resource, _ = binding(context.principal.kind, layers)
    where = TRUST if resource is not None and resource.trust else RESOURCE
    present = {GUARDRAIL: guardrails, where: resource, IDENTITY: identity, BOUNDARY: boundary, SESSION: session}
    if context.principal.kind in _WITHOUT_POLICIES and not identity:
        del present[IDENTITY]
    yield from ((layer, policies) for layer, policies in present.items() if policies is not None)


def _about(context: RequestContext, policies: PolicySet) -> Iterator[Statement]:
    for policy in policies:
        yield from policy.about(context.action.lower())


def _statement(statement: Statement, context: RequestContext, *, named: bool) -> Read:
    keys = context.keys
    return Read(
        statement,
        names_principal=named,
        reaches_resource=bool(statement.reaches(context.resource, keys)),
        conditions=tuple(Tested(one, keys.get(one.key, ()), one.holds(keys)) for one in statement.conditions),
        applies=named and bool(statement.applies(context.resource, keys)),
    )


def _answer(statements: Iterable[Read]) -> str:
    effects = {one.statement.effect for one in statements if one.applies}
    return "denies" if Effect.DENY in effects else "allows" if effects else "is silent"


def _fits(tested: Tested, statement: Statement) -> bool:
    return tested.holds is True or (tested.holds is None and statement.denies)


# --- what is missing --------------------------------------------------------------------------------------------------


def _needed(context: RequestContext, layers: Layers, survey: Survey, read: Sequence[LayerRead]) -> Iterator[Need]:
    """Yield the smallest grants that are missing, denies aside; each is taken as given to find the next."""
    while lacking := missing(context.principal, layers.resource_account, survey):
        here = next((one for one in read if one.layer == lacking), None)
        nearest = next(here.nearest(Effect.ALLOW), None) if here else None
        yield Need(lacking, _grant(lacking, context), nearest)
        survey = _granted(survey, lacking, context.principal)


def _grant(layer: str, context: RequestContext) -> Mapping[str, Any]:
    """Return the smallest statement that would be the missing grant."""
    statement: dict[str, Any] = {"Effect": "Allow"}
    if layer in (TRUST, RESOURCE):
        statement["Principal"] = _named(context.principal)
    statement["Action"] = context.action
    if layer != TRUST:
        statement["Resource"] = context.resource
    subject = _subject(context) if layer == TRUST else {}
    return statement | ({"Condition": {"StringEquals": subject}} if subject else {})


def _named(principal: Principal) -> Mapping[str, str]:
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


def _granted(survey: Survey, layer: str, principal: Principal) -> Survey:
    """Return the survey as if the layer allowed, by naming the principal where it names one."""
    said = list(survey)
    said[_PLACES[layer]] = Said(layer, [], [_ANY_ALLOW], _GRIPS.get(principal.kind, Grip.CALLER))
    return said[0], said[1], said[2], said[3], said[4]


_GRIPS = {
    PrincipalKind.ROOT: Grip.ACCOUNT,
    PrincipalKind.ROLE_SESSION: Grip.ENTITY,
    PrincipalKind.FEDERATED_USER: Grip.ENTITY,
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
        "decision": found.decision.why.value,
        "layer": found.decision.layer,
        "principal": {"arn": principal.arn, "type": principal.kind.value},
        "action": found.context.action,
        "resource": found.context.resource,
        "layers": [_layer_json(one) for one in found.layers],
        "needed": [need_json(one) for one in found.needed],
    }


def _layer_json(layer: LayerRead) -> dict[str, Any]:
    near = sorted(layer.statements, key=lambda one: (not one.applies, one.misses))
    told = [read_json(one) for one in near[:_TOLD]]
    left_out = len(near) - len(told)
    return {"layer": layer.layer, "answer": layer.answer, "statements": told} | (
        {"leftOut": left_out} if left_out else {}
    )


def need_json(need: Need) -> dict[str, Any]:
    """Return a missing grant: the statement that would be it, and the one that is there and misses least."""
    nearest = {"nearest": read_json(need.nearest)} if need.nearest else {}
    return {"layer": need.layer, "statement": dict(need.statement), **nearest}


def read_json(read: Read) -> dict[str, Any]:
    """Return a statement and which of its parts do not fit."""
    statement = read.statement
    return {
        "policy": statement.policy,
        "statement": statement.sid or statement.index,
        "effect": statement.effect.value,
        "applies": read.applies,
        "misses": list(_misses(read)),
    }


def _misses(read: Read) -> Iterator[dict[str, Any]]:
    statement = read.statement
    if not read.names_principal:
        yield {"part": "principal", "wanted": [one.text for one in statement.everybody()]}
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
