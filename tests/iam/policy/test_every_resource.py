"""Decisions about all resources with a prefix, for operations whose body names them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.policies import AWAY, ROOT, SESSION, USER_ARN, layers, on_resource, policy, statement, trust
from support.policy_strategies import CONTEXTS, LAW, LAYERS

from iam.policy.decide import DecisionType, RequestContext, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.every_resource import decide_every, for_every_resource
from iam.policy.explain import explain
from iam.policy.globs import Wildcard, compile_glob, matches_every, matches_some

PREFIX = "arn:aws:s3:::b/"
ACTION = "s3:DeleteObject"
RUN, ONE, RUN_WITHIN, ONE_WITHIN = Wildcard


def decision(*, keys=(), prefix=PREFIX, principal=SESSION, **given_layers):
    context = RequestContext(ACTION, prefix, principal, dict(keys))
    return decide_every(context, layers(**given_layers)).decision_type.value


def allow(**more):
    return policy(statement(action="s3:Delete*", **more))


def deny(**more):
    return policy(statement(), statement("Deny", "s3:*", **more), statement(action="*"))


# --- an Allow has to cover every key ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("*", "allowed"),
        ("arn:aws:s3:::b/*", "allowed"),
        ("arn:aws:s3:::*", "allowed"),
        ("arn:aws:s3:::b*", "allowed"),
        ("arn:aws:s3:::*/*", "allowed"),
        ("arn:aws:s3:::?/*", "allowed"),
        ("arn:aws:s3:::b?*", "allowed"),
        ("arn:*:s3:::b/*", "allowed"),
        ("arn:aws:s3:*", "allowed"),
        ("arn:aws:s3", "allowed"),
        ("arn:aws:s3:::${aws:PrincipalTag/bucket}/*", "allowed"),
        ("arn:aws:s3:::b/a*", "implicitDeny"),
        ("arn:aws:s3:::b/*.txt", "implicitDeny"),
        ("arn:aws:s3:::b/?*", "implicitDeny"),  # not the empty key: nobody means it, and refusing is safe
        ("arn:aws:s3:::b/", "implicitDeny"),
        ("arn:aws:s3:::b", "implicitDeny"),
        ("arn:aws:s3:::bb/*", "implicitDeny"),
        ("arn:aws:s3:::a*", "implicitDeny"),
        ("arn:aws:s3:::b/${aws:PrincipalTag/bucket}/*", "implicitDeny"),
        ("arn:aws:s3:::${aws:PrincipalTag/absent}/*", "implicitDeny"),
        ("arn:aws:s3:::b/${*}", "implicitDeny"),
        ("arn:aws:s3:us-east-1::b/*", "implicitDeny"),
    ],
)
def test_an_allow_counts_where_it_covers_every_key(resource, expected):
    keys = {"aws:principaltag/bucket": ("b",)}
    assert decision(keys=keys, identity=allow(Resource=resource)) == expected


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ("arn:aws:s3:::c/*", "allowed"),
        ("arn:aws:s3:::bb*", "allowed"),
        ("arn:aws:s3:::b/secret/*", "implicitDeny"),
        ("arn:aws:s3:::*/secret", "implicitDeny"),
        ("arn:aws:s3:::b/*", "implicitDeny"),
        ("*", "implicitDeny"),
        ("arn:aws:s3:::${aws:PrincipalTag/absent}/*", "implicitDeny"),
    ],
)
def test_an_allow_with_not_resource_counts_where_it_excludes_no_key(excluded, expected):
    found = policy({"Effect": "Allow", "Action": "s3:*", "NotResource": [excluded, "arn:aws:s3:::x/*"]})
    assert decision(identity=found) == expected


def test_one_of_several_patterns_has_to_cover_all_keys():
    assert decision(identity=allow(Resource=["arn:aws:s3:::b/a*", "arn:aws:s3:::b/*"])) == "allowed"
    halves = ["arn:aws:s3:::b/a*", "arn:aws:s3:::b/b*"]
    assert decision(identity=allow(Resource=halves)) == "implicitDeny"


# --- no Deny may match any key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("*", "explicitDeny"),
        ("arn:aws:s3:::b/*", "explicitDeny"),
        ("arn:aws:s3:::b/secret/*", "explicitDeny"),
        ("arn:aws:s3:::*/secret/*", "explicitDeny"),
        ("arn:aws:s3:::*.pdf", "explicitDeny"),
        ("arn:aws:s3:::?/x", "explicitDeny"),
        ("arn:aws:s3:::b/${aws:PrincipalTag/bucket}", "explicitDeny"),
        ("arn:aws:s3:::b/a:b", "explicitDeny"),
        ("arn:aws:s3", "explicitDeny"),
        ("arn:aws:s3:::b", "allowed"),
        ("arn:aws:s3:::bb/*", "allowed"),
        ("arn:aws:s3:::a*", "allowed"),
        ("arn:aws:s3:::c/*", "allowed"),
        ("arn:aws:iam:*", "allowed"),
        ("arn:aws:s3:us-*::b/*", "allowed"),
        ("arn:aws:s3:::b/${aws:PrincipalTag/absent}", "allowed"),  # as in a single decision: it matches nothing
    ],
)
def test_a_deny_counts_where_it_can_match_a_key(resource, expected):
    keys = {"aws:principaltag/bucket": ("b",)}
    assert decision(keys=keys, identity=deny(Resource=resource)) == expected


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ("arn:aws:s3:::b/*", "allowed"),
        ("*", "allowed"),
        ("arn:aws:s3:::b/public/*", "explicitDeny"),
        ("arn:aws:s3:::c/*", "explicitDeny"),
        ("arn:aws:s3:::${aws:PrincipalTag/absent}/*", "explicitDeny"),
    ],
)
def test_a_deny_with_not_resource_counts_unless_it_excludes_every_key(excluded, expected):
    found = policy({"Effect": "Deny", "Action": "s3:*", "NotResource": excluded}, statement(action="*"))
    assert decision(identity=found) == expected


def test_a_deny_among_many_statements_is_found():
    many = [statement("Deny", "s3:*", Resource=f"arn:aws:s3:::b/{number}/*") for number in range(20)]
    assert decision(identity=policy(statement(action="*"), *many)) == "explicitDeny"


# --- conditions, layers, principals -----------------------------------------------------------------------------------


def test_conditions_hold_as_in_any_decision():
    tls = {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}
    assert decision(identity=allow(**tls), keys={"aws:securetransport": ("true",)}) == "allowed"
    assert decision(identity=allow(**tls), keys={"aws:securetransport": ("false",)}) == "implicitDeny"
    insecure = {"Resource": PREFIX + "x", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    assert decision(identity=deny(**insecure), keys={"aws:securetransport": ("true",)}) == "allowed"
    assert decision(identity=deny(**insecure), keys={"aws:securetransport": ("false",)}) == "explicitDeny"


@pytest.mark.parametrize("layer", ["boundary", "session", "guardrails"])
def test_every_layer_has_to_cover_every_key(layer):
    everything = policy(statement(action="*"))
    assert decision(identity=everything, **{layer: everything}) == "allowed"
    assert decision(identity=everything, **{layer: allow(Resource=PREFIX + "a*")}) == "implicitDeny"
    assert decision(identity=everything, **{layer: deny(Resource=PREFIX + "a*")}) == "explicitDeny"


def test_a_resource_policy_grants_and_denies_too():
    everybody = on_resource("*", action=ACTION, Resource=PREFIX + "*")
    assert decision(resource=everybody) == "allowed"
    some = on_resource({"AWS": USER_ARN}, "Deny", action=ACTION, Resource=PREFIX + "a")
    assert decision(identity=allow(), resource=some) == "allowed"
    assert (
        decision(identity=allow(), resource=on_resource("*", "Deny", action="*", Resource=PREFIX + "a"))
        == "explicitDeny"
    )
    assert decision(identity=allow(), resource=some, resource_account=AWAY) == "implicitDeny"


def test_the_root_user_is_limited_by_guardrails_alone():
    assert decision(principal=ROOT) == "allowed"
    assert decision(principal=ROOT, guardrails=deny(Resource=PREFIX + "a")) == "explicitDeny"


def test_a_policy_without_resources_is_about_all():
    denies = policy({"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}, kind=PolicyKind.TRUST)
    context = RequestContext("sts:AssumeRole", PREFIX, SESSION, {})
    trusting = layers(identity=policy(statement(action="*")), resource=(denies, trust("*")))
    assert decide_every(context, trusting).decision_type is DecisionType.EXPLICIT_DENY
    trusting = layers(identity=policy(statement(action="*")), resource=trust("*"))
    assert decide_every(context, trusting).allowed


def test_in_the_older_version_a_variable_is_text():
    text = {"Version": "2008-10-17", "Statement": [statement(action=ACTION, Resource="arn:aws:s3:::${a:b}/*")]}
    older = Policy.parse(json.dumps(text), PolicyKind.IDENTITY)
    assert decision(identity=older, prefix="arn:aws:s3:::${a:b}/") == "allowed"
    assert decision(identity=older, keys={"a:b": ("b",)}) == "implicitDeny"


def test_an_explanation_says_the_same_as_the_decision():
    context = RequestContext(ACTION, PREFIX, SESSION, {})
    found = layers(identity=policy(statement(action="*"), statement("Deny", "s3:*", Resource=PREFIX + "a")))
    explained = explain(context, for_every_resource(found))
    assert explained.decision == decide_every(context, found)
    assert not explained.decision.allowed
    assert explain(context, found).decision.allowed


def test_what_was_made_for_a_prefix_is_made_once():
    found = layers(identity=allow())
    context = RequestContext(ACTION, PREFIX, SESSION, {})
    first, second = (decide_every(context, found).layer_results[2].allows[0] for _ in range(2))
    assert first is second


# --- laws -------------------------------------------------------------------------------------------------------------

PREFIXES = st.sampled_from(
    ["arn:aws:s3:::b/", "arn:aws:s3:::", "arn:aws:s3:::b", "arn:aws:iam::1:user/", "arn:aws:s3:::c/"]
)
KEYS = st.text("bk/:*x", max_size=5)


@LAW
@given(CONTEXTS, LAYERS, PREFIXES, KEYS)
def test_what_is_allowed_for_every_resource_is_allowed_for_each(context, layers, prefix, key):
    every = decide_every(context._replace(resource=prefix), layers)
    each = decide(context._replace(resource=prefix + key), layers)
    assert each.allowed or not every.allowed
    for of_every, of_each in zip(every.layer_results, each.layer_results, strict=True):
        if of_each is not None:
            assert all(found in of_each.allows for found in of_every.allows)
            assert all(found in of_every.denies for found in of_each.denies)


PARTS = st.lists(st.sampled_from([*Wildcard, "a", "b", ":", "ab"]), max_size=6)


@LAW
@given(PARTS, st.text("ab:", max_size=4), st.text("ab:c", max_size=6))
def test_a_glob_matches_every_or_some_text_with_a_prefix(parts, prefix, rest):
    matches = compile_glob(parts)(prefix + rest)
    assert matches or not matches_every(parts, prefix)
    assert matches_some(parts, prefix) or not matches


@pytest.mark.parametrize(
    ("parts", "prefix", "some", "every"),
    [
        ([], "", True, False),
        ([], "a", False, False),
        ([RUN], "a", True, True),
        (["a", RUN], "ab", True, True),
        (["ab"], "a", True, False),
        (["a", RUN, "b"], "ax", True, False),
        (["a", RUN_WITHIN], "a", True, False),
        (["a", RUN_WITHIN], "a:", False, False),
        ([ONE_WITHIN, RUN], ":", False, False),
        ([RUN, ONE], "a", True, True),
        ([RUN, ONE], "", True, False),
    ],
)
def test_globs_and_prefixes(parts, prefix, some, every):
    assert (matches_some(parts, prefix), matches_every(parts, prefix)) == (some, every)
