"""The results of a simulation: a decision for each resource, in the form of EvaluationResult.

Source: IAM API Reference, the types EvaluationResult and ResourceSpecificResult. For a single resource,
EvalResourceName is that resource; AWS now returns the ARN format of the action instead.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from iam.call import Result
from iam.errors import InvalidInput
from iam.operations.request_context import (
    SimulatedRequester,
    account_in_arn,
    build_request,
    simulated_permission,
)
from iam.operations.required_permission import ContextKeys
from iam.policy.context_keys import context_keys_in
from iam.policy.decide import (
    BOUNDARY,
    GUARDRAIL,
    IDENTITY,
    Decision,
    DecisionType,
    LayerResult,
    Layers,
    decide,
)
from iam.policy.document import Policy
from iam.policy.source_positions import Span, statement_spans
from iam.service_data import ServiceData

_SERVICES = ServiceData()
# The values of SourcePolicyType for the two kinds of policies whose statements are listed.
_OF_AN_IDENTITY, _OF_A_RESOURCE = "IAM Policy", "Resource Policy"
# From the most to the least restrictive: EvalDecision of an action is the most restrictive decision on its resources.
_RANK = (DecisionType.EXPLICIT_DENY, DecisionType.IMPLICIT_DENY, DecisionType.ALLOWED)
_LIMITS = (
    (GUARDRAIL, "OrganizationsDecisionDetail", "AllowedByOrganizations"),
    (BOUNDARY, "PermissionsBoundaryDecisionDetail", "AllowedByPermissionsBoundary"),
)
# The place of a statement: its policy, and its span in the text of the policy.
_Place = tuple[Policy, Span]


@dataclass(frozen=True, slots=True)
class Simulation:
    """The simulation: the requester, the condition keys of the request, and the places of statements.

    ``given_keys`` are the ContextEntries. ``owner`` is the account of resources whose ARN names none. ``places`` tell
    where each statement stands, by the statement's `id`.
    """

    requester: SimulatedRequester
    given_keys: ContextKeys
    owner: str
    places: Mapping[int, _Place]


def statement_places(policies: Iterable[Policy]) -> Mapping[int, _Place]:
    """Return where each statement stands, by the statement's `id`."""
    return {
        id(statement): (policy, span)
        for policy in policies
        for statement, span in zip(policy.statements, statement_spans(policy.text), strict=True)
    }


def evaluation_result(simulation: Simulation, action: str, resources: list[str]) -> Result:
    """Return the EvaluationResult of an action on these resources; raise InvalidInput."""
    if ":" not in action:
        raise InvalidInput(f"Invalid API name: {action} must begin with a service, as in iam:CreateUser.")
    results = []
    for resource in resources:
        time.sleep(0)  # under gevent a worker serves other requests between two decisions
        results.append(_decide_on_resource(simulation, action, resource))
    strictest = min(results, key=lambda item: _RANK.index(item.decision.decision_type))
    name = resources[0] if len(resources) == 1 else _SERVICES.resource_template(action)
    result: Result = {
        "EvalActionName": action,
        "EvalResourceName": name,
        "EvalDecision": strictest.decision.decision_type.value,
        "MatchedStatements": _merge_statements(
            item.matched for item in results if item.decision.decision_type is strictest.decision.decision_type
        ),
        "MissingContextValues": list(dict.fromkeys(key for item in results for key in item.missing)),
        **_policy_limits([item.decision for item in results]),
    }
    if resources != ["*"]:
        result["EvalDecisionDetails"] = strictest.details
        result["ResourceSpecificResults"] = [item.shape() for item in results]
    return result


@dataclass(frozen=True, slots=True)
class _ResourceResult:
    """The decision on one resource, with the details that the simulator returns."""

    resource: str
    decision: Decision
    matched: list[Result]
    missing: tuple[str, ...]
    details: Mapping[str, str]

    def shape(self) -> Result:
        limits = _policy_limits([self.decision])
        return {
            "EvalResourceName": self.resource,
            "EvalResourceDecision": self.decision.decision_type.value,
            "MatchedStatements": self.matched,
            "MissingContextValues": list(self.missing),
            "EvalDecisionDetails": dict(self.details),
            **{name: value for name, value in limits.items() if name == "PermissionsBoundaryDecisionDetail"},
        }


def _decide_on_resource(simulation: Simulation, action: str, resource: str) -> _ResourceResult:
    requester = simulation.requester
    owner = account_in_arn(resource) or simulation.owner
    permission = simulated_permission(resource, requester.layers.resource, owner, simulation.given_keys)
    context, layers = build_request(requester, permission, action, {})
    decision = decide(context, layers)
    is_cross_account = layers.resource_account not in ("", requester.principal.account_id)
    return _ResourceResult(
        resource,
        decision,
        list(_matched_statements(decision, simulation.places)),
        _missing_keys(action, layers, simulation.given_keys),
        _details(decision) if is_cross_account else {},
    )


def _matched_statements(decision: Decision, places: Mapping[int, _Place]) -> Iterator[Result]:
    """Yield the statements of identity-based and resource-based policies that determined a decision, with positions."""
    for reason in decision.statements:
        if id(reason.statement) in places:
            policy, span = places[id(reason.statement)]
            yield {
                "SourcePolicyId": policy.label,
                "SourcePolicyType": _OF_AN_IDENTITY if reason.layer == IDENTITY else _OF_A_RESOURCE,
                "StartPosition": {"Line": span.start.line, "Column": span.start.column},
                "EndPosition": {"Line": span.end.line, "Column": span.end.column},
            }


def _merge_statements(lists: Iterable[list[Result]]) -> list[Result]:
    """Return the union of the lists; a statement is identified by its policy and its start."""
    return list(
        {
            (statement["SourcePolicyId"], *statement["StartPosition"].values()): statement
            for statements in lists
            for statement in statements
        }.values()
    )


def _missing_keys(action: str, layers: Layers, keys: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the condition keys that the statements for an action use and that are not in ContextEntries."""
    used_keys = [
        key
        for policy in (*layers.identity, *(layers.resource or ()))
        for key in context_keys_in(policy.statements_about(action.lower()), policy.version)
    ]
    return tuple(key for key in dict.fromkeys(used_keys) if key.lower() not in keys)


def _policy_limits(decisions: list[Decision]) -> Result:
    """Return whether guardrails and permissions boundary, where they exist, allow the action on every resource."""
    limits: Result = {}
    for layer, member, flag in _LIMITS:
        layer_results = [
            result
            for decision in decisions
            for result in decision.layer_results
            if result is not None and result.layer == layer
        ]
        if layer_results:
            limits[member] = {flag: all(result.allows and not result.denies for result in layer_results)}
    return limits


def _details(decision: Decision) -> Mapping[str, str]:
    """Return EvalDecisionDetails: the decision of each type of policy, for cross-account requests."""
    names = {IDENTITY: _OF_AN_IDENTITY, BOUNDARY: "Permissions Boundary Policy"}
    return {
        names.get(result.layer, _OF_A_RESOURCE): _decision_type(result).value
        for result in decision.layer_results
        if result is not None and result.layer != GUARDRAIL
    }


def _decision_type(result: LayerResult) -> DecisionType:
    if result.denies:
        return DecisionType.EXPLICIT_DENY
    return DecisionType.ALLOWED if result.allows else DecisionType.IMPLICIT_DENY
