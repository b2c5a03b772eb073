"""The policy simulator: evaluates policies for requests that are not made, with the code that decides real requests.

Source: IAM API Reference, SimulateCustomPolicy, SimulatePrincipalPolicy, GetContextKeysForCustomPolicy,
GetContextKeysForPrincipalPolicy, ListPoliciesGrantingServiceAccess. Each action has one result, which contains one
decision for each resource. For a single resource, EvalResourceName is that resource; AWS now returns the ARN format of
the action instead.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from iam import guardrails
from iam.arn import ACCOUNT_ID, parse_arn, root_arn
from iam.call import Call, Params, Result
from iam.errors import InvalidInput, MalformedPolicyDocument, excerpt
from iam.operations.named_entities import PAGE, USER, paginate_list
from iam.operations.policies.effective import (
    EffectivePolicy,
    PolicyHolder,
    boundary_of,
    find_holder,
    policies_of,
    split_entity_arn,
)
from iam.operations.request_context import (
    SimulatedRequester,
    account_in_arn,
    build_request,
    simulated_permission,
)
from iam.operations.required_permission import ContextKeys
from iam.policy import conditions
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
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.policy.source_positions import Span, statement_spans
from iam.policy.statement import Statement
from iam.principal import Principal, PrincipalKind, principal_from_arn
from iam.service_data import ServiceData
from iam.store.records import parse_stored_policy

_SERVICES = ServiceData()
# The values of SourcePolicyType for the two kinds of policies whose statements are listed.
_OF_AN_IDENTITY, _OF_A_RESOURCE = "IAM Policy", "Resource Policy"
# From the most to the least restrictive: EvalDecision of an action is the most restrictive decision on its resources.
_RANK = (DecisionType.EXPLICIT_DENY, DecisionType.IMPLICIT_DENY, DecisionType.ALLOWED)
# Limits of one request, so that it takes well under a second: any caller with permission to simulate could otherwise
# keep a worker busy.
_MOST_DECISIONS = 10_000
_MOST_STATEMENTS = 500_000  # statements, counted once for each decision
# Characters of all policies times those of the longest resource, counted once for each decision: what patterns cost.
_MOST_MATCHING = 5_000_000_000
_MOST_MATCHED = 10_000  # matched statements in the response
_LARGEST = 1_000_000  # characters of all policies in the request together

# The place of a statement: its policy, and its span in the text of the policy.
_Place = tuple[Policy, Span]


@dataclass(frozen=True, slots=True)
class _Simulation:
    """The simulation: the requester, the condition keys of the request, and the places of statements.

    ``given_keys`` are the ContextEntries. ``owner`` is the account of resources whose ARN names none. ``places`` tell
    where each statement stands, by the statement's `id`.
    """

    requester: SimulatedRequester
    given_keys: ContextKeys
    owner: str
    places: Mapping[int, _Place]


# --- the operations ---------------------------------------------------------------------------------------------------


def simulate_custom_policy(call: Call, p: Params) -> Result:
    """Simulate the policies in the request; only the condition keys in the request are known."""
    layers = Layers(identity=_input_policies(p, "PolicyInputList"), boundary=_input_boundary(p))
    if "ResourcePolicy" in p and "CallerArn" not in p:
        raise InvalidInput("CallerArn is required when a ResourcePolicy is given.")
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _anonymous_caller(call.account_id, layers)
    return _simulate(p, caller)


def simulate_principal_policy(call: Call, p: Params) -> Result:
    """Simulate the policies of a user, group or role, together with the policies in the request."""
    holder = find_holder(call, p["PolicySourceArn"])
    excluded = _exclusions(p)
    identity_policies = [
        effective.policy
        for effective in policies_of(call, holder)
        if not any(excludes(effective) for excludes in excluded)
    ]
    boundary = _input_boundary(p)
    if boundary is None and not _is_excluded_kind(p, "permission-boundary"):
        attached = boundary_of(call, holder)
        boundary = PolicySet([attached]) if attached else None
    layers = Layers(
        identity=PolicySet([*identity_policies, *_input_policies(p, "PolicyInputList")]),
        boundary=boundary,
        guardrails=None if _is_excluded_kind(p, "scp") else _guardrails(call),
    )
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _holder_as_caller(holder, layers)
    return _simulate(p, caller)


def get_context_keys_for_custom_policy(_call: Call, p: Params) -> Result:
    """Return the condition keys that the policies in the request use."""
    return {"ContextKeyNames": _context_key_names(_input_policies(p, "PolicyInputList"))}


def get_context_keys_for_principal_policy(call: Call, p: Params) -> Result:
    """Return the condition keys that the policies of an entity and those in the request use."""
    identity_policies = [effective.policy for effective in policies_of(call, find_holder(call, p["PolicySourceArn"]))]
    return {"ContextKeyNames": _context_key_names([*identity_policies, *_input_policies(p, "PolicyInputList")])}


def list_policies_granting_service_access(call: Call, p: Params) -> Result:
    """Return, for each service, the policies of an entity that allow any of its actions."""
    policies = list(policies_of(call, find_holder(call, p["Arn"])))
    page, paging = paginate_list(list(enumerate(p["ServiceNamespaces"])), p, lambda item: f"{item[0]:03}")
    entries = [
        {
            "ServiceNamespace": service,
            "Policies": [_granting_policy(policy) for policy in policies if _allows_in(policy.policy, service.lower())],
        }
        for _, service in page
    ]
    return {"PoliciesGrantingServiceAccess": entries, **paging}


def _granting_policy(policy: EffectivePolicy) -> Result:
    if policy.arn is not None:
        return {"PolicyName": policy.name, "PolicyType": "MANAGED", "PolicyArn": policy.arn}
    owner = {"EntityType": policy.holder.entity_type.kind.upper(), "EntityName": policy.holder.row.name}
    return {"PolicyName": policy.name, "PolicyType": "INLINE", **owner}


def _allows_in(policy: Policy, service: str) -> bool:
    """Return whether a policy allows any action of a service."""
    return any(not statement.denies and _is_about(statement, service) for statement in policy.statements)


def _is_about(statement: Statement, service: str) -> bool:
    if statement.not_actions:
        return f"{service}:*" not in map(str.lower, statement.not_actions) and "*" not in statement.not_actions
    return any(action == "*" or action.lower().partition(":")[0] in (service, "*") for action in statement.actions)


# --- the parameters of the request ------------------------------------------------------------------------------------


_DOCUMENTS = ("PolicyInputList", "PermissionsBoundaryPolicyInputList")


def _input_policies(p: Params, name: str) -> PolicySet:
    texts = [text for member in _DOCUMENTS for text in p.get(member, ())]
    if sum(map(len, texts)) + len(p.get("ResourcePolicy", "")) > _LARGEST:
        raise InvalidInput(f"The policies of one request have at most {_LARGEST} characters together.")
    return PolicySet(
        _parse_input(text, PolicyKind.IDENTITY, f"{name}.{number}") for number, text in enumerate(p.get(name, ()), 1)
    )


def _input_boundary(p: Params) -> PolicySet | None:
    name = "PermissionsBoundaryPolicyInputList"
    texts = p.get(name, ())
    if len(texts) > 1:
        raise InvalidInput("An IAM entity can have only one permissions boundary.")
    return PolicySet([_parse_input(texts[0], PolicyKind.BOUNDARY, f"{name}.1")]) if texts else None


def _parse_input(text: str, kind: PolicyKind, label: str) -> Policy:
    try:
        return Policy.parse(text, kind, label=label)
    except MalformedPolicyDocument as error:
        raise InvalidInput(f"Invalid Content Policy:{label}: {error.message}", log=error.log) from error


def _guardrails(call: Call) -> PolicySet | None:
    guardrail_list = guardrails.list_guardrails(call.tx, call.account_id)
    return (
        PolicySet(
            parse_stored_policy(guardrail.document, PolicyKind.GUARDRAIL, guardrail.name)
            for guardrail in guardrail_list
        )
        if guardrail_list
        else None
    )


# The parsers of context key values, by ContextKeyType without "List"; a type without a parser accepts every value.
_READERS: Mapping[str, Callable[[str], Any]] = {
    "numeric": conditions.number,
    "boolean": conditions.parse_boolean,
    "ip": conditions.parse_network,
    "binary": conditions.parse_binary,
    "date": conditions.parse_date,
}


def _context_keys(p: Params) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    for entry in p.get("ContextEntries", ()):
        name, values = entry.get("ContextKeyName", ""), tuple(entry.get("ContextKeyValues", ()))
        kind = entry.get("ContextKeyType", "string")
        read = _READERS.get(kind.removesuffix("List"))
        if len(values) > 1 and not kind.endswith("List"):
            raise InvalidInput(f"The context key {name} of type {kind} has more than one value.")
        for value in values if read else ():
            if read is not None and read(value) is None:
                raise InvalidInput(f"The value {excerpt(value)} of the context key {name} is not of type {kind}.")
        keys[name.lower()] = values
    return keys


_Exclusion = Callable[[EffectivePolicy], bool]


def _exclusions(p: Params) -> list[_Exclusion]:
    """Return the tests whether a policy is excluded by PolicyExclusionList; raise InvalidInput."""
    return [_exclusion(exclusion) for exclusion in p.get("PolicyExclusionList", ())]


def _exclusion(exclusion: Params) -> _Exclusion:
    if "PolicyArn" in exclusion:
        arn = parse_arn(exclusion["PolicyArn"])
        if arn is None or arn.service != "iam" or not arn.resource.startswith("policy/") or "*" in str(arn):
            raise InvalidInput(f"Invalid policy identifier: {exclusion['PolicyArn']}")
        return lambda policy: policy.arn == str(arn)
    if "InlinePolicyIdentifier" in exclusion:
        inline = exclusion["InlinePolicyIdentifier"]
        expected = inline["AttachmentType"], inline["AttachmentName"].lower(), inline["PolicyName"]
        return lambda policy: (
            policy.arn is None
            and (policy.holder.entity_type.kind, policy.holder.row.name.lower(), policy.name) == expected
        )
    return _BY_KIND.get(exclusion.get("PolicyType", ""), lambda _policy: False)


_BY_KIND: Mapping[str, _Exclusion] = {
    "inline": lambda policy: policy.arn is None,
    "aws-managed": lambda policy: policy.arn is not None and policy.arn.startswith("arn:aws:iam::aws:"),
    "user-managed": lambda policy: policy.arn is not None and not policy.arn.startswith("arn:aws:iam::aws:"),
}


def _is_excluded_kind(p: Params, kind: str) -> bool:
    return any(exclusion.get("PolicyType") == kind for exclusion in p.get("PolicyExclusionList", ()))


# --- the simulated caller ---------------------------------------------------------------------------------------------


def _caller_by_arn(p: Params, layers: Layers) -> SimulatedRequester:
    """Return the caller of CallerArn; only its ARN is known."""
    split_entity_arn(p["CallerArn"])  # raises InvalidInput unless it is the ARN of a user, group or role
    return SimulatedRequester(principal_from_arn(p["CallerArn"]), layers, {})


def _holder_as_caller(holder: PolicyHolder, layers: Layers) -> SimulatedRequester:
    """Return the entity of PolicySourceArn as a caller.

    No condition key is filled in for it: as in AWS, a simulation knows the keys that the request gives
    (IAM API Reference, SimulatePrincipalPolicy, ContextEntries and MissingContextValues).
    """
    user_id = holder.row.id if holder.entity_type is USER else ""
    principal = replace(principal_from_arn(holder.arn), entity_id=holder.row.id, user_id=user_id)
    return SimulatedRequester(principal, layers, {})


def _anonymous_caller(account_id: str, layers: Layers) -> SimulatedRequester:
    """Return a caller without an ARN: no resource-based policy names it, and it has no condition keys."""
    return SimulatedRequester(Principal(PrincipalKind.USER, account_id, "", ""), layers, {})


# SimulateCustomPolicy, ResourceHandlingOption: scenarios of RunInstances. All of their resources are in ResourceArns,
# so the value is checked and has no other effect.
_SCENARIOS = (
    "EC2-Classic-InstanceStore",
    "EC2-Classic-EBS",
    "EC2-VPC-InstanceStore",
    "EC2-VPC-InstanceStore-Subnet",
    "EC2-VPC-EBS",
    "EC2-VPC-EBS-Subnet",
)


# --- deciding ---------------------------------------------------------------------------------------------------------


def _simulate(p: Params, requester: SimulatedRequester) -> Result:
    layers = requester.layers
    option = p.get("ResourceHandlingOption", _SCENARIOS[0])
    if option not in _SCENARIOS:
        raise InvalidInput(f"Invalid ResourceHandlingOption: {option}. It is one of {', '.join(_SCENARIOS)}.")
    resources = p.get("ResourceArns") or ["*"]
    for resource in resources:
        if resource != "*" and parse_arn(resource) is None:
            raise InvalidInput(f"Invalid resource ARN: {resource}")
    if "ResourcePolicy" in p:
        layers = layers._replace(
            resource=PolicySet([_parse_input(p["ResourcePolicy"], PolicyKind.RESOURCE, "ResourcePolicy")])
        )
    decision_count = len(resources) * min(len(p["ActionNames"]), p.get("MaxItems", PAGE))
    if decision_count > _MOST_DECISIONS:
        raise InvalidInput(f"One request simulates at most {_MOST_DECISIONS} pairs of an action and a resource.")
    if decision_count * _statements_of(layers) > _MOST_STATEMENTS:
        raise InvalidInput(
            f"One request asks at most {_MOST_STATEMENTS} statements, counted for each action and resource."
        )
    matching = decision_count * _characters_of(layers) * max(map(len, resources))
    if matching > _MOST_MATCHING:
        raise InvalidInput("The policies are too long for so many actions and resources. Simulate fewer at a time.")
    places = _places((*layers.identity, *(layers.resource or ())))
    simulation = _Simulation(
        requester._replace(layers=layers), _context_keys(p), _owner(p, requester.principal), places
    )
    page, paging = paginate_list(list(enumerate(p["ActionNames"])), p, lambda item: f"{item[0]:06}")
    results, matched_count = [], 0
    for _, action in page:
        result = _result(simulation, action, resources)
        results.append(result)
        matched_count += sum(
            len(item["MatchedStatements"]) for item in (result, *result.get("ResourceSpecificResults", ()))
        )
        if matched_count > _MOST_MATCHED:
            raise InvalidInput(f"The answer to one request names at most {_MOST_MATCHED} matched statements.")
    return {"EvaluationResults": results, **paging}


def _statements_of(layers: Layers) -> int:
    return sum(len(policy.statements) for policy in _policies_of(layers))


def _characters_of(layers: Layers) -> int:
    return sum(len(policy.text) for policy in _policies_of(layers))


def _policies_of(layers: Layers) -> Iterator[Policy]:
    for policies in (layers.identity, layers.boundary, layers.guardrails, layers.resource):
        yield from policies or ()


def _places(policies: Iterable[Policy]) -> Mapping[int, _Place]:
    return {
        id(statement): (policy, span)
        for policy in policies
        for statement, span in zip(policy.statements, statement_spans(policy.text), strict=True)
    }


def _owner(p: Params, caller: Principal) -> str:
    """Return the account of resources whose ARN names none."""
    if "ResourceOwner" not in p:
        return caller.account_id
    text: str = p["ResourceOwner"]
    account_id = text if ACCOUNT_ID.fullmatch(text) else text.removeprefix("arn:aws:iam::").removesuffix(":root")
    if not ACCOUNT_ID.fullmatch(account_id) or text not in (account_id, root_arn(account_id)):
        raise InvalidInput(f"Invalid ResourceOwner: {text}")
    return account_id


def _result(simulation: _Simulation, action: str, resources: list[str]) -> Result:
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


def _decide_on_resource(simulation: _Simulation, action: str, resource: str) -> _ResourceResult:
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


def _context_key_names(policies: Iterable[Policy]) -> list[str]:
    names = [name for policy in policies for name in context_keys_in(policy.statements, policy.version)]
    return list({name.lower(): name for name in reversed(names)}.values())[::-1]


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


_LIMITS = (
    (GUARDRAIL, "OrganizationsDecisionDetail", "AllowedByOrganizations"),
    (BOUNDARY, "PermissionsBoundaryDecisionDetail", "AllowedByPermissionsBoundary"),
)


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
