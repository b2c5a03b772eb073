"""What a request asks of the policies, and what they say: the one place where an Ask becomes a decision."""

from broker.api.request_keys import request_keys
from broker.api.request_state import RequestState
from iam.arn import Random
from iam.errors import AccessDenied
from iam.operations.required_permission import RequiredPermission
from iam.params import Params
from iam.policy.decide import Layers, RequestContext, decide, denial_message
from iam.policy.explain import explain
from sts import denials
from sts.operations import StsCall, StsOperation
from sts.trust import federated_principal


def authorize(
    state: RequestState,
    ask: RequiredPermission,
    action: str,
    *,
    random: Random,
    mfa_at: int | None = None,
    hide_reasons: bool = False,
) -> None:
    """Raise AccessDenied where the decision on an Ask is no; the exchange keeps the decision and the reasons."""
    context, layers = decision_inputs(state, ask, action, mfa_at)
    decision = decide(context, layers)
    state.decisions.append(decision)
    if decision.allowed:
        return
    state.denial = explain(context, layers)
    # Who may be assumed is the business of the role's account: it may read why somebody was not let in.
    account_id = ask.account_id if hide_reasons else context.principal.account_id
    encoded = denials.encode(state.denial, account_id, fixed_length=hide_reasons, sealer=state.sealer, random=random)
    raise AccessDenied(denial_message(context, decision), encoded=encoded)


def is_authorized(state: RequestState, operation: StsOperation, name: str, call: StsCall, p: Params) -> bool:
    """Return whether an operation of the STS would be let through with these parameters."""
    return all(
        decide(*decision_inputs(state, ask, ask.action or f"sts:{name}", call.mfa_at)).allowed
        for ask in operation.required_permissions(call, p)
    )


def decision_inputs(
    state: RequestState, ask: RequiredPermission, action: str, mfa_at: int | None
) -> tuple[RequestContext, Layers]:
    """Return what is asked of the policies, and the policies that have a say."""
    caller = state.caller
    mfa_at = mfa_at if mfa_at is not None else caller.mfa_at if caller else None
    keys = request_keys(state.request, state.now, state.region, mfa_at)
    if caller is None:
        principal = federated_principal(state.proven_identity, ask.account_id)
        keys["aws:resourceaccount"] = (ask.account_id,)
        if state.is_interactive:  # a program brings no second factor and lacks the key; here it could be given
            keys["aws:multifactorauthpresent"] = ("false" if mfa_at is None else "true",)
        context = RequestContext(action, ask.resource, principal, {**keys, **ask.keys})
        return context, Layers(resource=ask.trust, resource_account=ask.account_id)
    keys |= caller.keys
    keys["aws:resourceaccount"] = (ask.account_id or caller.principal.account_id,)
    keys |= ask.keys
    if mfa_at is not None:
        keys["aws:multifactorauthpresent"] = ("true",)
    context = RequestContext(action, ask.resource, caller.principal, keys)
    layers = caller.layers
    if ask.trust is not None or ask.account_id:
        layers = layers._replace(resource=ask.trust, resource_account=ask.account_id)
    return context, layers
