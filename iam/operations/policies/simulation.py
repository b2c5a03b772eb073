"""The policy simulator: what policies would decide, without doing anything. The decisions are those of the engine.

Source: IAM API Reference, SimulateCustomPolicy, SimulatePrincipalPolicy, GetContextKeysForCustomPolicy,
GetContextKeysForPrincipalPolicy, ListPoliciesGrantingServiceAccess. For each action there is one result, with one
decision for each resource inside it. Where one resource is asked about, EvalResourceName is that resource, as it was
before AWS changed it to the form of ARN that an action is about.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from iam import guardrails
from iam.arn import ACCOUNT_ID, parse_arn, root_arn
from iam.call import Call, Params, Result
from iam.errors import InvalidInput, MalformedPolicyDocument
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
# How the simulator calls the two kinds of policies whose statements it names.
_OF_AN_IDENTITY, _OF_A_RESOURCE = "IAM Policy", "Resource Policy"
# The most restrictive decision speaks for all resources.
_RANK = (DecisionType.EXPLICIT_DENY, DecisionType.IMPLICIT_DENY, DecisionType.ALLOWED)
# What one request may ask for, so that its answer takes well under a second.
_MOST_DECISIONS = 10_000
_MOST_STATEMENTS = 500_000  # statements, counted once for each decision
_MOST_MATCHED = 10_000  # statements that the answer names
_LARGEST = 1_000_000  # characters of all passed policies together

# Where a statement stands: its policy, and the span in the policy's text.
_Place = tuple[Policy, Span]


@dataclass(frozen=True, slots=True)
class _Simulation:
    """What is simulated: the requester, the condition keys of the request, and the statements' places.

    ``given_keys`` are the ContextEntries. ``owner`` is the account of resources whose ARN names none. ``places`` tell
    where each statement stands, by the statement's `id`.
    """

    requester: SimulatedRequester
    given_keys: ContextKeys
    owner: str
    places: Mapping[int, _Place]


# --- the operations ---------------------------------------------------------------------------------------------------


def simulate_custom_policy(call: Call, p: Params) -> Result:
    """Decide for policies that the request brings; of the simulated request only the parameters are known."""
    layers = Layers(identity=_input_policies(p, "PolicyInputList"), boundary=_input_boundary(p))
    if "ResourcePolicy" in p and "CallerArn" not in p:
        raise InvalidInput("CallerArn is required when a ResourcePolicy is given.")
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _anonymous_caller(call.account_id, layers)
    return _simulate(p, caller)


def simulate_principal_policy(call: Call, p: Params) -> Result:
    """Decide for the policies of a user, group or role, and for those that the request brings in addition."""
    holder = find_holder(call, p["PolicySourceArn"])
    excluded = _exclusions(p)
    granted = [one.policy for one in policies_of(call, holder) if not any(out(one) for out in excluded)]
    boundary = _input_boundary(p)
    if boundary is None and not _is_excluded_kind(p, "permission-boundary"):
        attached = boundary_of(call, holder)
        boundary = PolicySet([attached]) if attached else None
    layers = Layers(
        identity=PolicySet([*granted, *_input_policies(p, "PolicyInputList")]),
        boundary=boundary,
        guardrails=None if _is_excluded_kind(p, "scp") else _guardrails(call),
    )
    caller = _caller_by_arn(p, layers) if "CallerArn" in p else _holder_as_caller(holder, layers)
    return _simulate(p, caller)


def get_context_keys_for_custom_policy(_call: Call, p: Params) -> Result:
    """Return the condition keys that the passed policies ask about."""
    return {"ContextKeyNames": _context_key_names(_input_policies(p, "PolicyInputList"))}


def get_context_keys_for_principal_policy(call: Call, p: Params) -> Result:
    """Return the condition keys that an entity's policies ask about, and those passed in addition."""
    granted = [one.policy for one in policies_of(call, find_holder(call, p["PolicySourceArn"]))]
    return {"ContextKeyNames": _context_key_names([*granted, *_input_policies(p, "PolicyInputList")])}


def list_policies_granting_service_access(call: Call, p: Params) -> Result:
    """Return, for each service, the policies of an entity that allow anything in it."""
    granted = list(policies_of(call, find_holder(call, p["Arn"])))
    shown, paging = paginate_list(list(enumerate(p["ServiceNamespaces"])), p, lambda one: f"{one[0]:03}")
    entries = [
        {
            "ServiceNamespace": service,
            "Policies": [_granting_policy(one) for one in granted if _allows_in(one.policy, service.lower())],
        }
        for _, service in shown
    ]
    return {"PoliciesGrantingServiceAccess": entries, **paging}


def _granting_policy(one: EffectivePolicy) -> Result:
    if one.arn is not None:
        return {"PolicyName": one.name, "PolicyType": "MANAGED", "PolicyArn": one.arn}
    owner = {"EntityType": one.holder.entity_type.kind.upper(), "EntityName": one.holder.row.name}
    return {"PolicyName": one.name, "PolicyType": "INLINE", **owner}


def _allows_in(policy: Policy, service: str) -> bool:
    """Return whether a statement allows some action of a service."""
    return any(not one.denies and _is_about(one, service) for one in policy.statements)


def _is_about(statement: Statement, service: str) -> bool:
    if statement.not_actions:
        return f"{service}:*" not in map(str.lower, statement.not_actions) and "*" not in statement.not_actions
    return any(action == "*" or action.lower().partition(":")[0] in (service, "*") for action in statement.actions)


# --- what the request brings ------------------------------------------------------------------------------------------


_DOCUMENTS = ("PolicyInputList", "PermissionsBoundaryPolicyInputList")


def _input_policies(p: Params, name: str) -> PolicySet:
    texts = [text for each in _DOCUMENTS for text in p.get(each, ())]
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
    found = guardrails.list_guardrails(call.tx, call.account_id)
    return (
        PolicySet(parse_stored_policy(one.document, PolicyKind.GUARDRAIL, one.name) for one in found) if found else None
    )


# How the values of a key are read, by ContextKeyType without List; None reads anything.
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
                raise InvalidInput(f"The value {value} of the context key {name} is not of type {kind}.")
        keys[name.lower()] = values
    return keys


_Exclusion = Callable[[EffectivePolicy], bool]


def _exclusions(p: Params) -> list[_Exclusion]:
    """Return what tells whether a policy is to be left out; raise InvalidInput."""
    return [_exclusion(one) for one in p.get("PolicyExclusionList", ())]


def _exclusion(one: Params) -> _Exclusion:
    if "PolicyArn" in one:
        arn = parse_arn(one["PolicyArn"])
        if arn is None or arn.service != "iam" or not arn.resource.startswith("policy/") or "*" in str(arn):
            raise InvalidInput(f"Invalid policy identifier: {one['PolicyArn']}")
        return lambda granted: granted.arn == str(arn)
    if "InlinePolicyIdentifier" in one:
        inline = one["InlinePolicyIdentifier"]
        wanted = inline["AttachmentType"], inline["AttachmentName"].lower(), inline["PolicyName"]
        return lambda granted: (
            granted.arn is None
            and (granted.holder.entity_type.kind, granted.holder.row.name.lower(), granted.name) == wanted
        )
    return _BY_KIND.get(one.get("PolicyType", ""), lambda _granted: False)


_BY_KIND: Mapping[str, _Exclusion] = {
    "inline": lambda one: one.arn is None,
    "aws-managed": lambda one: one.arn is not None and one.arn.startswith("arn:aws:iam::aws:"),
    "user-managed": lambda one: one.arn is not None and not one.arn.startswith("arn:aws:iam::aws:"),
}


def _is_excluded_kind(p: Params, kind: str) -> bool:
    return any(one.get("PolicyType") == kind for one in p.get("PolicyExclusionList", ()))


# --- who calls --------------------------------------------------------------------------------------------------------


def _caller_by_arn(p: Params, layers: Layers) -> SimulatedRequester:
    """Return the caller of CallerArn, of whom only the ARN is known."""
    split_entity_arn(p["CallerArn"])  # raises where it is no ARN of a user, group or role
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
    """Return a caller whom no resource policy names, and whom no condition key describes."""
    return SimulatedRequester(Principal(PrincipalKind.USER, account_id, "", ""), layers, {})


# SimulateCustomPolicy, ResourceHandlingOption: what RunInstances touches, all of which is given in ResourceArns.
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
    asked_for = len(resources) * min(len(p["ActionNames"]), p.get("MaxItems", PAGE))
    if asked_for > _MOST_DECISIONS:
        raise InvalidInput(f"One request simulates at most {_MOST_DECISIONS} pairs of an action and a resource.")
    if asked_for * _statements_of(layers) > _MOST_STATEMENTS:
        raise InvalidInput(
            f"One request asks at most {_MOST_STATEMENTS} statements, counted for each action and resource."
        )
    places = _places((*layers.identity, *(layers.resource or ())))
    simulation = _Simulation(
        requester._replace(layers=layers), _context_keys(p), _owner(p, requester.principal), places
    )
    shown, paging = paginate_list(list(enumerate(p["ActionNames"])), p, lambda one: f"{one[0]:06}")
    results, named = [], 0
    for _, action in shown:
        result = _result(simulation, action, resources)
        results.append(result)
        named += sum(len(one["MatchedStatements"]) for one in (result, *result.get("ResourceSpecificResults", ())))
        if named > _MOST_MATCHED:
            raise InvalidInput(f"The answer to one request names at most {_MOST_MATCHED} matched statements.")
    return {"EvaluationResults": results, **paging}


def _statements_of(layers: Layers) -> int:
    sets = (layers.identity, layers.boundary, layers.guardrails, layers.resource)
    return sum(len(policy.statements) for policies in sets if policies for policy in policies)


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
    each = [_decide_on_resource(simulation, action, resource) for resource in resources]
    gravest = min(each, key=lambda one: _RANK.index(one.decision.decision_type))
    name = resources[0] if len(resources) == 1 else _SERVICES.resource_template(action)
    result: Result = {
        "EvalActionName": action,
        "EvalResourceName": name,
        "EvalDecision": gravest.decision.decision_type.value,
        "MatchedStatements": _merge_statements(
            one.matched for one in each if one.decision.decision_type is gravest.decision.decision_type
        ),
        "MissingContextValues": list(dict.fromkeys(key for one in each for key in one.missing)),
        **_policy_limits([one.decision for one in each]),
    }
    if resources != ["*"]:
        result["EvalDecisionDetails"] = gravest.details
        result["ResourceSpecificResults"] = [one.shape() for one in each]
    return result


@dataclass(frozen=True, slots=True)
class _ResourceResult:
    """The decision on one resource, with what the simulator tells of it."""

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
    """Yield the statements of identity and resource policies that decided, and where they stand."""
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
    """Return the union of lists, each statement once."""
    return list(
        {(one["SourcePolicyId"], *one["StartPosition"].values()): one for each in lists for one in each}.values()
    )


def _missing_keys(action: str, layers: Layers, keys: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the keys that the statements about an action use and that no ContextEntries gave."""
    statements_about = [
        key
        for policy in (*layers.identity, *(layers.resource or ()))
        for key in context_keys_in(policy.statements_about(action.lower()), policy.version)
    ]
    return tuple(key for key in dict.fromkeys(statements_about) if key.lower() not in keys)


def _context_key_names(policies: Iterable[Policy]) -> list[str]:
    names = [name for policy in policies for name in context_keys_in(policy.statements, policy.version)]
    return list({name.lower(): name for name in reversed(names)}.values())[::-1]


def _policy_limits(decisions: list[Decision]) -> Result:
    """Return whether guardrails and boundary, where there are any, allow on every resource."""
    found: Result = {}
    for layer, member, flag in _CEILINGS:
        said = [
            one for decision in decisions for one in decision.layer_results if one is not None and one.layer == layer
        ]
        if said:
            found[member] = {flag: all(one.allows and not one.denies for one in said)}
    return found


_CEILINGS = (
    (GUARDRAIL, "OrganizationsDecisionDetail", "AllowedByOrganizations"),
    (BOUNDARY, "PermissionsBoundaryDecisionDetail", "AllowedByPermissionsBoundary"),
)


def _details(decision: Decision) -> Mapping[str, str]:
    """Return what each kind of policy says, across accounts."""
    names = {IDENTITY: _OF_AN_IDENTITY, BOUNDARY: "Permissions Boundary Policy"}
    return {
        names.get(said.layer, _OF_A_RESOURCE): _decision_type(said).value
        for said in decision.layer_results
        if said is not None and said.layer != GUARDRAIL
    }


def _decision_type(said: LayerResult) -> DecisionType:
    if said.denies:
        return DecisionType.EXPLICIT_DENY
    return DecisionType.ALLOWED if said.allows else DecisionType.IMPLICIT_DENY
