"""Allowed or not, and why: the policies of every layer against one request.

Pure. Source: IAM User Guide, "Policy evaluation logic": "Determining whether a request is allowed or denied within an
account" and "Cross-account policy evaluation logic". Collect what denies, then what allows; what is left is denied.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from iam.arn import root_arn
from iam.policy.grammar import TRUST_ACTIONS
from iam.policy.policy_set import PolicySet
from iam.policy.principals import PrincipalMatch, is_excluded, principal_match
from iam.policy.statement import Statement
from iam.principal import Principal, PrincipalKind

IDENTITY = "identity-based policy"
RESOURCE = "resource-based policy"
TRUST = "role trust policy"
BOUNDARY = "permissions boundary"
SESSION = "session policy"
GUARDRAIL = "service control policy"


class RequestContext(NamedTuple):
    """One request: what, on what, by whom; ``keys`` are the condition keys, their names in lower case."""

    action: str
    resource: str
    principal: Principal
    keys: Mapping[str, tuple[str, ...]]


_NO_POLICIES = PolicySet()


class Layers(NamedTuple):
    """The policies that apply to a request.

    ``boundary``, ``session`` and ``guardrails`` are None where there are none, while an empty set allows nothing; the
    policies of one layer grant together. ``resource_account`` owns the resource; empty means the caller's own account.
    """

    identity: PolicySet = _NO_POLICIES
    boundary: PolicySet | None = None
    session: PolicySet | None = None
    guardrails: PolicySet | None = None
    resource: PolicySet | None = None
    resource_account: str = ""


class DecisionType(StrEnum):
    """The kind of answer."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


class Reason(NamedTuple):
    """One statement that decided, and the layer where it stands."""

    layer: str
    statement: Statement


class LayerResult(NamedTuple):
    """The statements of one layer that apply; ``principal_match``: how exactly a resource's policy names the caller."""

    layer: str
    denies: list[Statement]
    allows: list[Statement]
    principal_match: PrincipalMatch


# The result of each layer, in the order in which AWS evaluates them: guardrails, resource, identity, boundary, session.
# None where a layer does not exist: an absent limit withholds nothing, while one that exists and allows nothing denies.
LayerResults = tuple[LayerResult | None, LayerResult | None, LayerResult | None, LayerResult | None, LayerResult | None]


class Decision(NamedTuple):
    """The answer, and the layer that decided; ``layer_results`` are the results of all layers."""

    decision_type: DecisionType
    layer: str
    layer_results: LayerResults

    @property
    def allowed(self) -> bool:
        """Return whether the request is allowed."""
        return self.decision_type is DecisionType.ALLOWED

    @property
    def statements(self) -> tuple[Reason, ...]:
        """Return the statements that decided: all that denied, or all that allowed; none where an allow is missing."""
        if self.decision_type is DecisionType.IMPLICIT_DENY:
            return ()
        return tuple(
            Reason(said.layer, statement)
            for said in self.layer_results
            if said is not None
            for statement in (said.allows if self.decision_type is DecisionType.ALLOWED else said.denies)
        )


_ROOT, _FEDERATED_USER = PrincipalKind.ROOT, PrincipalKind.FEDERATED_USER
_CALLER, _ENTITY, _NOBODY = PrincipalMatch.CALLER, PrincipalMatch.ENTITY, PrincipalMatch.NOBODY
# A named tuple's own constructor takes three times as long, and a decision is a matter of two microseconds.
_new = tuple.__new__


def decide(context: RequestContext, layers: Layers) -> Decision:
    """Return whether the request is allowed; never raises. No policies mean no, except for root at home."""
    layer_results = _evaluate_layers(context, layers)
    for said in layer_results:
        if said is not None and said.denies:
            return _new(Decision, (DecisionType.EXPLICIT_DENY, said.layer, layer_results))
    lacking = layer_lacking_allow(context.principal, layers.resource_account, layer_results)
    if lacking:
        return _new(Decision, (DecisionType.IMPLICIT_DENY, lacking, layer_results))
    return _new(Decision, (DecisionType.ALLOWED, _granting_layer(context.principal, layer_results), layer_results))


def _evaluate_layers(context: RequestContext, layers: Layers) -> LayerResults:
    identity, boundary, session, guardrails, resource, _ = applicable_layers(context.principal.kind, layers)
    return (
        None if guardrails is None else _evaluate(GUARDRAIL, guardrails, context),
        None if resource is None else _evaluate_resource_policy(resource, context, bounded=boundary is not None),
        _evaluate(IDENTITY, identity, context),
        None if boundary is None else _evaluate(BOUNDARY, boundary, context),
        None if session is None else _evaluate(SESSION, session, context),
    )


def applicable_layers(kind: PrincipalKind, layers: Layers) -> Layers:
    """Return the layers that apply to a principal of this kind."""
    if kind is _ROOT:  # it has no policies of its own
        return layers._replace(identity=_NO_POLICIES, boundary=None, session=None)
    if kind is _FEDERATED_USER and layers.session is None:  # without a session policy it may do nothing
        return layers._replace(session=_NO_POLICIES)
    return layers


def _granting_layer(principal: Principal, layer_results: LayerResults) -> str:
    """Return the layer that granted what nothing withholds: the caller's own policies before the resource's."""
    _, resource, identity, _, _ = layer_results
    if resource is None or not resource.principal_match:
        return IDENTITY
    own = identity is not None and identity.allows and principal.kind not in _BY_TRUST_ALONE
    return IDENTITY if own else resource.layer


def layer_lacking_allow(principal: Principal, resource_account: str, layer_results: LayerResults) -> str:
    """Return the layer whose allow is missing, or an empty text when nothing is."""
    guardrails, resource, identity, boundary, session = layer_results
    held, where = (_NOBODY, RESOURCE) if resource is None else (resource.principal_match, resource.layer)
    kind = principal.kind
    # These have no policies of their own, so they must be named: with "*" anybody's token would do.
    if kind in _BY_TRUST_ALONE:
        return "" if held is _CALLER else where
    if guardrails is not None and not guardrails.allows:
        return GUARDRAIL
    own = not resource_account or resource_account == principal.account_id
    if own and (kind is _ROOT or held is _CALLER):
        return ""
    # Another account's resource, and every role, must let the caller in by itself.
    if not held and (not own or where == TRUST):
        return where
    # At home, naming the role behind a session is a grant like one of the role's own, below the session's ceilings.
    if not (identity and identity.allows) and not (own and held is _ENTITY) and not _is_owner(principal):
        return IDENTITY
    return _withholding_layer(boundary, session)


def _withholding_layer(*limits: LayerResult | None) -> str:
    for ceiling in limits:
        if ceiling is not None and not ceiling.allows:
            return ceiling.layer
    return ""


_BY_TRUST_ALONE = frozenset({PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _is_owner(principal: Principal) -> bool:
    """Return whether this is root, or a federated user that root made."""
    return principal.kind is _ROOT or (
        principal.kind is _FEDERATED_USER and principal.entity_arn == root_arn(principal.account_id)
    )


def _evaluate(layer: str, policies: PolicySet, context: RequestContext) -> LayerResult:
    action, resource, _, keys = context
    denies: list[Statement] = []
    allows: list[Statement] = []
    for statement in policies.find(action, resource):
        if statement.applies(resource, keys):
            (denies if statement.denies else allows).append(statement)
    return _new(LayerResult, (layer, denies, allows, _NOBODY))


def _evaluate_resource_policy(policies: PolicySet, context: RequestContext, *, bounded: bool) -> LayerResult:
    action, resource, principal, keys = context
    denies: list[Statement] = []
    allows: list[Statement] = []
    firmest = _NOBODY
    for statement in policies.find(action, resource):
        held = holds(statement, principal, bounded=bounded)
        if held and statement.applies(resource, keys):
            (denies if statement.denies else allows).append(statement)
            firmest = firmest if statement.denies else max(firmest, held)
    return _new(LayerResult, (TRUST if policies.trust else RESOURCE, denies, allows, firmest))


def holds(statement: Statement, principal: Principal, *, bounded: bool) -> PrincipalMatch:
    """Return how exactly a resource's statement names the caller; ``bounded``: it has a permissions boundary."""
    if statement.not_principals:
        # "NotPrincipal": a Deny spares nobody who has a permissions boundary, whomever it lists.
        denied = bounded and statement.denies
        spared = not denied and is_excluded(statement.not_principals, principal, denies=statement.denies)
        return _NOBODY if spared else PrincipalMatch.ACCOUNT
    held = max([principal_match(one, principal) for one in statement.principals], default=_NOBODY)
    return _CALLER if held is _ENTITY and statement.limited_by_arn else held


# Who may not assume a role must not learn whether it exists: no reason is told for these.
_WITHOUT_REASON = frozenset(action.lower() for action in TRUST_ACTIONS)
_ARTICLE = {IDENTITY: "an"}


def denial_message(context: RequestContext, decision: Decision) -> str:
    """Return what the caller is told of a denial ("Troubleshoot access denied error messages").

    A denial to assume a role has no reason in it, so that an unknown role and a role that distrusts look alike.
    """
    if context.principal.kind is PrincipalKind.FEDERATED:
        return f"Not authorized to perform {context.action}"
    action = context.action
    told = f"User: {context.principal.arn} is not authorized to perform: {action} on resource: {context.resource}"
    if action.lower() in _WITHOUT_REASON:
        return told
    if decision.decision_type is DecisionType.EXPLICIT_DENY:
        return f"{told} with an explicit deny in {_ARTICLE.get(decision.layer, 'a')} {decision.layer}"
    return f"{told} because no {decision.layer} allows the {action} action"
