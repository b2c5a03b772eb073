"""Laws of the decision, over random policies and requests; and the engine against the plain specification."""

import json

from hypothesis import given
from hypothesis import strategies as st
from support import policy_specification as specification
from support.policies import GOOGLE, policy
from support.policy_strategies import CONTEXTS, LAW, LAYERS, policies, statements

from iam.policy.decide import DecisionType, decide, denial_message
from iam.policy.document import Policy, PolicyKind
from iam.policy.explain import as_json, explain
from iam.policy.partial import least_permissive, most_permissive
from iam.policy.policy_set import PolicySet
from iam.principal import PrincipalKind


def with_more(found, *more):
    return PolicySet((*(found or ()), *more))


@LAW
@given(CONTEXTS, LAYERS)
def test_the_engine_decides_as_the_specification_says(context, layers):
    found = decide(context, layers)
    assert (found.decision_type, found.layer) == specification.decide(context, layers)


@LAW
@given(CONTEXTS, LAYERS)
def test_the_engine_names_exactly_the_statements_that_apply(context, layers):
    found = decide(context, layers)
    identity = [one for one in found.statements if one.layer == "identity-based policy"]
    expected = [
        one
        for one in specification.applying(layers.identity, context)
        if (one[2] == "Deny") is (found.decision_type is DecisionType.EXPLICIT_DENY)
    ]
    if found.decision_type is not DecisionType.IMPLICIT_DENY and context.principal.kind is not PrincipalKind.ROOT:
        assert len(identity) == len(expected)


@LAW
@given(CONTEXTS, LAYERS, statements(effect="Deny"))
def test_a_deny_never_grants(context, layers, deny):
    if not decide(context, layers).allowed:
        denied = policy(deny)
        assert not decide(context, layers._replace(identity=with_more(layers.identity, denied))).allowed
        assert not decide(context, layers._replace(guardrails=with_more(layers.guardrails, denied))).allowed


@LAW
@given(CONTEXTS, LAYERS, policies())
def test_a_ceiling_only_narrows(context, layers, ceiling):
    unlimited = layers._replace(boundary=None, session=None, guardrails=None)
    for name in ("boundary", "session", "guardrails"):
        # A federated user has no session without a session policy: for it, one is a grant.
        is_its_grant = name == "session" and context.principal.kind is PrincipalKind.FEDERATED_USER
        if not is_its_grant and not decide(context, unlimited).allowed:
            assert not decide(context, unlimited._replace(**{name: PolicySet((ceiling,))})).allowed


@LAW
@given(CONTEXTS, LAYERS, statements(effect="Allow"))
def test_adding_an_allow_never_removes_access(context, layers, allow):
    if decide(context, layers).allowed:
        assert decide(context, layers._replace(identity=with_more(layers.identity, policy(allow)))).allowed


@LAW
@given(CONTEXTS, LAYERS)
def test_order_is_irrelevant(context, layers):
    def backwards(found):
        if found is None:
            return None
        return PolicySet(Policy.parse(turned(one.text), one.kind) for one in reversed(found.policies))

    def turned(text):
        document = json.loads(text)
        return json.dumps(document | {"Statement": document["Statement"][::-1]})

    other = layers._replace(
        **{name: backwards(getattr(layers, name)) for name in ("identity", "boundary", "session", "guardrails")}
    )
    one, two = decide(context, layers), decide(context, other)
    assert (one.allowed, one.decision_type, one.layer) == (two.allowed, two.decision_type, two.layer)


@LAW
@given(CONTEXTS, LAYERS)
def test_a_decision_agrees_with_its_reasons(context, layers):
    found = decide(context, layers)
    assert found.allowed is (found.decision_type is DecisionType.ALLOWED)
    effects = {reason.statement.effect for reason in found.statements}
    assert effects <= {"Allow"} if found.allowed else effects <= {"Deny"}
    assert bool(effects) is (found.decision_type is DecisionType.EXPLICIT_DENY) or found.allowed
    assert denial_message(context, found)


@LAW
@given(st.one_of(*(policies(kind) for kind in (PolicyKind.IDENTITY, PolicyKind.TRUST, PolicyKind.RESOURCE))))
def test_a_policy_read_from_its_own_text_is_the_same_policy(found):
    assert Policy.parse(found.text, found.kind) == found
    tidy = json.dumps(json.loads(found.text), indent=3)
    assert Policy.parse(tidy, found.kind).statements == found.statements


def given_the_needs(layers, missing_grants):
    """Return the layers with the missing grants added, or None where one cannot be written as a policy."""
    places = {
        "service control policy": "guardrails",
        "resource-based policy": "resource",
        "role trust policy": "resource",
        "identity-based policy": "identity",
        "permissions boundary": "boundary",
        "session policy": "session",
    }
    for need in missing_grants:
        name = places[need.layer]
        kind = {"role trust policy": PolicyKind.TRUST, "resource-based policy": PolicyKind.RESOURCE}.get(
            need.layer, PolicyKind.IDENTITY
        )
        if kind is PolicyKind.TRUST and not need.statement["Action"].startswith("sts:"):
            return None  # no role's trust policy can grant it
        if need.statement.get("Principal") == {"Federated": GOOGLE}:
            return None  # a shared issuer, and the request does not say whose token it is
        document = json.dumps({"Version": "2012-10-17", "Statement": need.statement})
        layers = layers._replace(**{name: with_more(getattr(layers, name), Policy.parse(document, kind))})
    return layers


@LAW
@given(CONTEXTS, LAYERS)
def test_with_the_missing_grants_the_request_is_allowed_and_without_any_of_them_it_is_not(context, layers):
    missing_grants = explain(context, layers).missing_grants
    complete = given_the_needs(layers, missing_grants)
    if complete is None or decide(context, layers).decision_type is DecisionType.EXPLICIT_DENY:
        return
    assert decide(context, complete).allowed
    for number in range(len(missing_grants)):
        lacking = given_the_needs(layers, missing_grants[:number] + missing_grants[number + 1 :])
        assert not decide(context, lacking).allowed


@LAW
@given(CONTEXTS, LAYERS)
def test_an_explanation_says_what_the_decision_says(context, layers):
    found = explain(context, layers)
    assert found.decision == decide(context, layers)
    applying = {
        id(one.statement) for layer in found.layers for one in layer.statements if one.applies and one.mismatches == 0
    }
    assert {id(reason.statement) for reason in found.decision.statements} <= applying
    answers = {one.layer: one.answer for one in found.layers}
    if found.decision.decision_type is DecisionType.EXPLICIT_DENY:
        assert answers[found.decision.layer] == "denies"
    assert bool(found.missing_grants) or found.decision.decision_type is not DecisionType.IMPLICIT_DENY
    json.dumps(as_json(found))


@LAW
@given(CONTEXTS, LAYERS, st.sampled_from([{"k:one"}, {"k:two"}, {"k:one", "k:two"}, set()]))
def test_what_is_unknown_lies_between_the_worst_and_the_best(context, layers, unknown):
    def known(key):
        return key not in unknown

    worst, found, best = (
        decide(context, one).allowed
        for one in (least_permissive(layers, known), layers, most_permissive(layers, known))
    )
    assert worst <= found <= best
    if not unknown:
        assert worst == best


@LAW
@given(CONTEXTS, LAYERS)
def test_the_worst_and_the_best_do_not_ask_what_is_unknown(context, layers):
    def known(_key):
        return False

    nothing = context._replace(keys={})
    for suppose in (least_permissive, most_permissive):
        assert (
            decide(context, suppose(layers, known)).decision_type
            == decide(nothing, suppose(layers, known)).decision_type
        )
