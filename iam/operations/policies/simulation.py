"""The policy simulator: evaluates policies for requests that are not made, with the code that decides real requests.

Source: IAM API Reference, SimulateCustomPolicy, SimulatePrincipalPolicy, GetContextKeysForCustomPolicy,
GetContextKeysForPrincipalPolicy, ListPoliciesGrantingServiceAccess. Each action has one result, which contains one
decision for each resource.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from iam import guardrails
from iam.arn import parse_arn
from iam.call import Call, Params, Result
from iam.errors import InvalidInput
from iam.operations.named_entities import PAGE, USER, paginate_list
from iam.operations.policies.effective import (
    EffectivePolicy,
    PolicyHolder,
    boundary_of,
    find_holder,
    policies_of,
    split_entity_arn,
)
from iam.operations.policies.simulation_parameters import (
    exclusions,
    given_context_keys,
    input_boundary,
    input_policies,
    is_excluded_kind,
    parse_input,
    resource_owner,
)
from iam.operations.policies.simulation_results import Simulation, evaluation_result, statement_places
from iam.operations.request_context import SimulatedRequester
from iam.policy.context_keys import context_keys_in
from iam.policy.decide import Layers
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.policy.statement import Statement
from iam.principal import Principal, PrincipalKind, principal_from_arn
from iam.store.record_reader import parse_stored_policy

# Limits of one request, so that it takes well under a second: any caller with permission to simulate could otherwise
# keep a worker busy.
_MOST_DECISIONS = 10_000
_MOST_STATEMENTS = 500_000  # statements, counted once for each decision
# Characters of all policies times those of the longest resource, counted once for each decision: what patterns cost.
_MOST_MATCHING = 5_000_000_000
_MOST_MATCHED = 10_000  # matched statements in the response
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


def simulate_custom_policy(call: Call, p: Params) -> Result:
    """Simulate the policies in the request; only the condition keys in the request are known."""
    layers = Layers(identity=input_policies(p, "PolicyInputList"), boundary=input_boundary(p))
    if "ResourcePolicy" in p and "CallerArn" not in p:
        raise InvalidInput("CallerArn is required when a ResourcePolicy is given.")
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _anonymous_caller(call.account_id, layers)
    return _simulate(p, caller)


def simulate_principal_policy(call: Call, p: Params) -> Result:
    """Simulate the policies of a user, group or role, together with the policies in the request."""
    holder = find_holder(call, p["PolicySourceArn"])
    excluded = exclusions(p)
    identity_policies = [
        effective.policy
        for effective in policies_of(call, holder)
        if not any(excludes(effective) for excludes in excluded)
    ]
    boundary = input_boundary(p)
    if boundary is None and not is_excluded_kind(p, "permission-boundary"):
        attached = boundary_of(call, holder)
        boundary = PolicySet([attached]) if attached else None
    layers = Layers(
        identity=PolicySet([*identity_policies, *input_policies(p, "PolicyInputList")]),
        boundary=boundary,
        guardrails=None if is_excluded_kind(p, "scp") else _guardrails(call),
    )
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _holder_as_caller(holder, layers)
    return _simulate(p, caller)


def get_context_keys_for_custom_policy(_call: Call, p: Params) -> Result:
    """Return the condition keys that the policies in the request use."""
    return {"ContextKeyNames": _context_key_names(input_policies(p, "PolicyInputList"))}


def get_context_keys_for_principal_policy(call: Call, p: Params) -> Result:
    """Return the condition keys that the policies of an entity and those in the request use."""
    identity_policies = [effective.policy for effective in policies_of(call, find_holder(call, p["PolicySourceArn"]))]
    return {"ContextKeyNames": _context_key_names([*identity_policies, *input_policies(p, "PolicyInputList")])}


def _context_key_names(policies: Iterable[Policy]) -> list[str]:
    names = [name for policy in policies for name in context_keys_in(policy.statements, policy.version)]
    return list({name.lower(): name for name in reversed(names)}.values())[::-1]


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


def _simulate(p: Params, requester: SimulatedRequester) -> Result:
    layers = requester.layers
    option = p.get("ResourceHandlingOption", _SCENARIOS[0])
    if option not in _SCENARIOS:
        raise InvalidInput(f"Invalid ResourceHandlingOption: {option}. It is one of {', '.join(_SCENARIOS)}.")
    resources = _resources(p)
    if "ResourcePolicy" in p:
        layers = layers._replace(
            resource=PolicySet([parse_input(p["ResourcePolicy"], PolicyKind.RESOURCE, "ResourcePolicy")])
        )
    _check_size(layers, resources, min(len(p["ActionNames"]), p.get("MaxItems", PAGE)))
    places = statement_places((*layers.identity, *(layers.resource or ())))
    simulation = Simulation(
        requester._replace(layers=layers), given_context_keys(p), resource_owner(p, requester.principal), places
    )
    page, paging = paginate_list(list(enumerate(p["ActionNames"])), p, lambda item: f"{item[0]:06}")
    results, matched_count = [], 0
    for _, action in page:
        result = evaluation_result(simulation, action, resources)
        results.append(result)
        matched_count += sum(
            len(item["MatchedStatements"]) for item in (result, *result.get("ResourceSpecificResults", ()))
        )
        if matched_count > _MOST_MATCHED:
            raise InvalidInput(f"The answer to one request names at most {_MOST_MATCHED} matched statements.")
    return {"EvaluationResults": results, **paging}


def _resources(p: Params) -> list[str]:
    """Return ResourceArns, without them ``*``; raise InvalidInput."""
    resources: list[str] = p.get("ResourceArns") or ["*"]
    for resource in resources:
        if resource != "*" and parse_arn(resource) is None:
            raise InvalidInput(f"Invalid resource ARN: {resource}")
    return resources


def _check_size(layers: Layers, resources: list[str], actions: int) -> None:
    """Raise InvalidInput where a request would keep a worker busy for long."""
    decision_count = len(resources) * actions
    if decision_count > _MOST_DECISIONS:
        raise InvalidInput(f"One request simulates at most {_MOST_DECISIONS} pairs of an action and a resource.")
    if decision_count * _statements_of(layers) > _MOST_STATEMENTS:
        raise InvalidInput(
            f"One request asks at most {_MOST_STATEMENTS} statements, counted for each action and resource."
        )
    matching = decision_count * _characters_of(layers) * max(map(len, resources))
    if matching > _MOST_MATCHING:
        raise InvalidInput("The policies are too long for so many actions and resources. Simulate fewer at a time.")


def _statements_of(layers: Layers) -> int:
    return sum(len(policy.statements) for policy in _policies_of(layers))


def _characters_of(layers: Layers) -> int:
    return sum(len(policy.text) for policy in _policies_of(layers))


def _policies_of(layers: Layers) -> Iterator[Policy]:
    for policies in (layers.identity, layers.boundary, layers.guardrails, layers.resource):
        yield from policies or ()
