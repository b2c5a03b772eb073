"""Allowed or not, and why: the policies of every layer against one request.

Pure. Source: IAM User Guide, "Policy evaluation logic": "Determining whether a request is allowed or denied within an
account" and "Cross-account policy evaluation logic". Collect what denies, then what allows; what is left is denied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from iam.arn import root_arn
from iam.policy.document import TRUST_ACTIONS, Policy, PolicyKind, Statement
from iam.policy.principals import Grip, grip, is_left_out
from iam.principal import Principal, PrincipalKind

IDENTITY = "identity-based policy"
RESOURCE = "resource-based policy"
TRUST = "role trust policy"
BOUNDARY = "permissions boundary"
SESSION = "session policy"
GUARDRAIL = "service control policy"


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request: what, on what, by whom; ``keys`` are the condition keys, their names in lower case."""

    action: str
    resource: str
    principal: Principal
    keys: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Layers:
    """The policies that have a say.

    ``session`` and ``guardrails`` are None where there are none, while an empty tuple allows nothing; the policies of
    one layer grant together. ``resource_account`` owns the resource; empty means the caller's own account.
    """

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None
    guardrails: tuple[Policy, ...] | None = None
    resource: Policy | None = None
    resource_account: str = ""


class Why(StrEnum):
    """The kind of answer."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


class Reason(NamedTuple):
    """One statement that decided, and the layer where it stands."""

    layer: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; ``layer`` is the one that decided, ``statements`` are all that denied, or all that allowed."""

    allowed: bool
    why: Why
    layer: str
    statements: tuple[Reason, ...] = ()


class _Found(NamedTuple):
    """What one layer says: None for allows means that the layer does not exist, so that it cannot withhold."""

    layer: str
    denies: Sequence[Statement]
    allows: Sequence[Statement] | None
    grip: Grip = Grip.NOBODY

    @property
    def withholds(self) -> bool:
        return self.allows is not None and not self.allows


_NO_LAYER = {layer: _Found(layer, (), None) for layer in (GUARDRAIL, RESOURCE, IDENTITY, BOUNDARY, SESSION)}
_ROOT, _FEDERATED_USER = PrincipalKind.ROOT, PrincipalKind.FEDERATED_USER
_CALLER, _ENTITY = Grip.CALLER, Grip.ENTITY


def decide(context: RequestContext, layers: Layers) -> Decision:
    """Return whether the request is allowed; never raises. No policies mean no, except for root at home."""
    found = _survey(context, layers)
    denies = tuple(Reason(one.layer, statement) for one in found for statement in one.denies)
    if denies:
        return Decision(allowed=False, why=Why.EXPLICIT_DENY, layer=denies[0].layer, statements=denies)
    missing = _missing(context.principal, layers, found)
    if missing:
        return Decision(allowed=False, why=Why.IMPLICIT_DENY, layer=missing)
    allows = tuple(Reason(one.layer, statement) for one in found for statement in one.allows or ())
    by_resource = found.resource.grip and not found.identity.allows
    layer = found.resource.layer if by_resource else IDENTITY
    return Decision(allowed=True, why=Why.ALLOWED, layer=layer, statements=allows)


class _Survey(NamedTuple):
    """What each layer says, in the order in which AWS asks them."""

    guardrails: _Found
    resource: _Found
    identity: _Found
    boundary: _Found
    session: _Found


def _survey(context: RequestContext, layers: Layers) -> _Survey:
    action = context.action.lower()
    kind = context.principal.kind
    # Root has no policies of its own; a federated user without a session policy may do nothing (GetFederationToken).
    own = kind is not _ROOT
    session = () if layers.session is None and kind is _FEDERATED_USER else layers.session
    boundary = None if layers.boundary is None else (layers.boundary,)
    return _Survey(
        _ask(GUARDRAIL, layers.guardrails, context, action),
        _ask_resource(layers.resource, context, action),
        _ask(IDENTITY, layers.identity if own else (), context, action),
        _ask(BOUNDARY, boundary if own else None, context, action),
        _ask(SESSION, session if own else None, context, action),
    )


def _missing(principal: Principal, layers: Layers, found: _Survey) -> str:
    """Return the layer whose allow is missing, or an empty text when nothing is."""
    grip_here = found.resource.grip
    # These have no policies of their own, so they must be named: with "*" anybody's token would do.
    if principal.kind in _BY_TRUST_ALONE:
        return "" if grip_here is _CALLER else found.resource.layer
    root = principal.kind is _ROOT
    if found.guardrails.withholds and not root:
        return GUARDRAIL
    own = layers.resource_account in {"", principal.account_id}
    if own and (root or grip_here is _CALLER):
        return ""
    # Another account's resource, and every role, must let the caller in by itself.
    if (not own or found.resource.layer == TRUST) and not grip_here:
        return found.resource.layer
    # At home, naming the role behind a session is a grant like one of the role's own, below the session's ceilings.
    granted = found.identity.allows or _is_owner(principal) or (own and grip_here is _ENTITY)
    if not granted:
        return IDENTITY
    return next((one.layer for one in (found.boundary, found.session) if one.withholds), "")


_BY_TRUST_ALONE = frozenset({PrincipalKind.FEDERATED, PrincipalKind.SERVICE})


def _is_owner(principal: Principal) -> bool:
    """Return whether this is root, or a federated user that root made."""
    return principal.kind is _ROOT or (
        principal.kind is _FEDERATED_USER and principal.entity_arn == root_arn(principal.account_id)
    )


def _ask(layer: str, policies: Iterable[Policy] | None, context: RequestContext, action: str) -> _Found:
    if policies is None:
        return _NO_LAYER[layer]
    denies: list[Statement] = []
    allows: list[Statement] = []
    for policy in policies:
        for statement in policy.candidates(action):
            if _applies(statement, context):
                (denies if statement.denies else allows).append(statement)
    return _Found(layer, denies, allows)


def _ask_resource(policy: Policy | None, context: RequestContext, action: str) -> _Found:
    if policy is None:
        return _NO_LAYER[RESOURCE]
    denies: list[Statement] = []
    allows: list[Statement] = []
    firmest = Grip.NOBODY
    for statement in policy.candidates(action):
        held = _grip(statement, context.principal)
        if held and _applies(statement, context):
            (denies if statement.denies else allows).append(statement)
            firmest = firmest if statement.denies else max(firmest, held)
    return _Found(TRUST if policy.kind is PolicyKind.TRUST else RESOURCE, denies, allows, firmest)


def _grip(statement: Statement, principal: Principal) -> Grip:
    if statement.not_principals:
        spared = is_left_out(statement.not_principals, principal, denies=statement.denies)
        return Grip.NOBODY if spared else Grip.ACCOUNT
    return max(grip(one, principal) for one in statement.principals)


def _applies(statement: Statement, context: RequestContext) -> bool:
    """Return whether resource and conditions match; doubt is a match for a Deny alone (G02)."""
    keys = context.keys
    if statement.resources:
        if statement.resource_patterns.match(context.resource, keys) is not True:
            return False
    elif statement.not_resources:
        found = statement.resource_patterns.match(context.resource, keys)
        if found or (found is None and not statement.denies):
            return False
    for condition in statement.conditions:
        holds = condition.holds(keys)
        if not (holds or (holds is None and statement.denies)):
            return False
    return True


# Who may not assume a role must not learn whether it exists: no reason is told for these.
_SILENT = frozenset(action.lower() for action in TRUST_ACTIONS)
_ARTICLE = {IDENTITY: "an"}


def message(context: RequestContext, decision: Decision) -> str:
    """Return what the caller is told of a denial ("Troubleshoot access denied error messages").

    A denial to assume a role has no reason in it, so that an unknown role and a role that distrusts look alike.
    """
    if context.principal.kind is PrincipalKind.FEDERATED:
        return f"Not authorized to perform {context.action}"
    action = context.action
    told = f"User: {context.principal.arn} is not authorized to perform: {action} on resource: {context.resource}"
    if action.lower() in _SILENT:
        return told
    if decision.why is Why.EXPLICIT_DENY:
        return f"{told} with an explicit deny in {_ARTICLE.get(decision.layer, 'a')} {decision.layer}"
    return f"{told} because no {decision.layer} allows the {action} action"
