"""Whether a request is allowed: the one place where a permission that an operation requires becomes a decision."""

from collections.abc import Callable
from dataclasses import replace

from broker.api.request_keys import http_keys, mfa_keys
from broker.api.request_state import RequestState
from iam.arn import Random
from iam.errors import AccessDenied
from iam.operations.request_context import AuthorizationRequest, build_request
from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from iam.policy.decide import Decision, DecisionType, Layers, RequestContext, decide, denial_message
from iam.policy.explain import explain
from sts import callers, denials
from sts.operations import StsCall, StsOperation
from sts.trust import federated_principal


def authorize(  # noqa: PLR0913 - three are how strictly and how openly it decides
    state: RequestState,
    permission: RequiredPermission,
    action: str,
    *,
    random: Random,
    mfa_at: int | None = None,
    hide_reasons: bool = False,
    unless_denied: bool = False,
    decision_on: Callable[[RequestContext, Layers], Decision] = decide,
) -> None:
    """Raise AccessDenied where the policies deny an action; the request state keeps the decision and its reasons.

    ``unless_denied``: no Allow is needed, a Deny holds. ``decision_on`` is what decides: about the resource itself, or
    about all whose names begin like it.
    """
    context, layers = authorization_request(state, permission, action, mfa_at)
    decision = decision_on(context, layers)
    state.decisions.append(decision)
    if decision.allowed or (unless_denied and decision.decision_type is not DecisionType.EXPLICIT_DENY):
        _authorize_spellings(state, permission, action, random=random, mfa_at=mfa_at)
        return
    state.denial = explain(context, layers)
    # Who may assume a role is known to the role's account alone: only that account can decode the reasons. With a
    # fixed length the encoded message does not tell either whether the role exists.
    account_id = permission.account_id if hide_reasons else context.principal.account_id
    encoded = denials.encode(state.denial, account_id, fixed_length=hide_reasons, sealer=state.sealer, random=random)
    raise AccessDenied(denial_message(context, decision), encoded=encoded)


def _authorize_spellings(
    state: RequestState, permission: RequiredPermission, action: str, *, random: Random, mfa_at: int | None
) -> None:
    """Raise AccessDenied where the policies deny another spelling of the resource explicitly."""
    for spelling in permission.spellings:
        other = replace(permission, resource=spelling, spellings=())
        decision = decide(*authorization_request(state, other, action, mfa_at))
        if decision.decision_type is DecisionType.EXPLICIT_DENY:
            authorize(state, other, action, random=random, mfa_at=mfa_at)


def is_authorized(state: RequestState, operation: StsOperation, name: str, call: StsCall, p: Params) -> bool:
    """Return whether an operation of the STS would be allowed with these parameters."""
    return all(
        decide(*authorization_request(state, permission, permission.action or f"sts:{name}", call.mfa_at)).allowed
        for permission in operation.required_permissions(call, p)
    )


def authorization_request(
    state: RequestState, permission: RequiredPermission, action: str, mfa_at: int | None
) -> AuthorizationRequest:
    """Return what the policies are asked; ``mfa_at`` is when this very request proved a second factor."""
    caller = state.caller or callers.unsigned(federated_principal(state.proven_identity, permission.account_id))
    mfa_at = caller.mfa_at if mfa_at is None else mfa_at
    keys = http_keys(state.request, state.now, state.region)
    if mfa_at is not None:
        keys |= mfa_keys(state.now, mfa_at)
    elif state.is_interactive and state.caller is None:
        # For a program that gives no code the key is absent, as for a request signed with a long-term key. A browser
        # can be asked for one: here the key says that it was not given yet.
        keys["aws:multifactorauthpresent"] = ("false",)
    return build_request(caller, permission, action, keys)
