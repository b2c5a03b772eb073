import json
from dataclasses import replace

import pytest
from support.policies import (
    AWAY,
    BUCKET,
    FEDERATED,
    FEDERATED_USER,
    HOME,
    PROVIDER,
    ROLE_ARN,
    ROOT,
    ROOT_ARN,
    SERVICE,
    SESSION,
    TARGET,
    USER,
    USER_ARN,
    layers,
    on_resource,
    policy,
    statement,
    trust,
)

from iam.policy.conditions import Condition
from iam.policy.decide import DecisionType, RequestContext
from iam.policy.explain import as_json, explain, wanted_presence

ALLOW, OTHER = policy(statement(), label="allow"), policy(statement(action="iam:GetUser"), label="other")


def told(principal=SESSION, action="s3:GetObject", on=BUCKET, keys=None, **given):
    return as_json(explain(RequestContext(action, on, principal, keys or {}), layers(**given)))


def answers(found):
    return {one["layer"]: one["answer"] for one in found["layers"]}


def test_every_layer_that_has_a_say_says_whether_it_allows_denies_or_is_silent():
    found = told(
        identity=(ALLOW, OTHER), boundary=OTHER, session=(policy(statement("Deny")),), guardrails=(ALLOW,),
        resource=on_resource("*"),
    )  # fmt: skip
    assert answers(found) == {
        "service control policy": "allows",
        "resource-based policy": "allows",
        "identity-based policy": "allows",
        "permissions boundary": "is silent",
        "session policy": "denies",
    }
    assert (found["decision"], found["layer"]) == (DecisionType.EXPLICIT_DENY, "session policy")


def test_root_is_explained_without_layers_that_do_not_bind_it():
    assert answers(told(ROOT, identity=(ALLOW,), boundary=OTHER, session=(OTHER,))) == {}


def test_a_federated_user_without_session_policy_is_told_that_one_is_missing():
    found = told(FEDERATED_USER, identity=(ALLOW,))
    assert answers(found)["session policy"] == "is silent"
    assert [one["layer"] for one in found["needed"]] == ["session policy"]


MFA = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "StringEquals": {"aws:PrincipalTag/team": ["a"]}}}


def test_a_condition_that_fails_is_shown_with_what_it_wants_and_what_the_request_has():
    mine = policy(statement(Sid="Mfa", **MFA), label="mine")
    found = told(keys={"aws:multifactorauthpresent": ("false",), "aws:principaltag/team": ("a",)}, identity=(mine,))
    (one,) = found["layers"][0]["statements"]
    assert one == {
        "policy": "mine",
        "statement": "Mfa",
        "effect": "Allow",
        "applies": False,
        "misses": [
            {
                "part": "condition",
                "operator": "Bool",
                "key": "aws:MultiFactorAuthPresent",
                "wanted": ["true"],
                "actual": ["false"],
            }
        ],
    }


@pytest.mark.parametrize(
    ("given", "misses"),
    [
        (statement(Resource="arn:aws:s3:::c/*"), [{"part": "resource", "wanted": ["arn:aws:s3:::c/*"]}]),
        (
            {"Effect": "Allow", "Action": "*", "NotResource": ["arn:aws:s3:::b/*"]},
            [{"part": "not resource", "wanted": ["arn:aws:s3:::b/*"]}],
        ),
        (
            statement(Condition={"StringNotEquals": {"k:x": "${k:none}"}}),
            [
                {
                    "part": "condition",
                    "operator": "StringNotEquals",
                    "key": "k:x",
                    "wanted": ["${k:none}"],
                    "actual": ["1"],
                }
            ],
        ),
    ],
)  # fmt: skip
def test_each_part_that_does_not_fit_is_named(given, misses):
    (need,) = told(keys={"k:x": ("1",)}, identity=(policy(given),))["needed"]
    assert need["nearest"]["misses"] == misses


def test_doubt_about_a_deny_is_no_miss_for_it_applies():
    deny = policy(statement("Deny", Condition={"NumericLessThan": {"k:n": "1"}}))
    found = told(keys={"k:n": ("many",)}, identity=(ALLOW, deny))
    first = found["layers"][0]["statements"][0]
    assert found["decision"] == DecisionType.EXPLICIT_DENY
    assert [one["misses"] for one in found["layers"][0]["statements"] if one["effect"] == "Deny"] == [[]]
    assert first["applies"]


def test_whom_a_trust_policy_names_instead_is_shown():
    (need,) = told(USER, "sts:AssumeRole", TARGET, resource=trust({"AWS": AWAY}))["needed"]
    assert need["layer"] == "role trust policy"
    assert need["nearest"]["misses"] == [{"part": "principal", "wanted": [AWAY]}]


# The smallest statement that would be the missing grant, layer by layer.
S3 = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": BUCKET}
NEEDS = [
    (USER, {}, [("identity-based policy", S3)]),
    (USER, {"boundary": OTHER}, [("identity-based policy", S3), ("permissions boundary", S3)]),
    (
        SESSION,
        {"guardrails": (OTHER,), "session": ()},
        [("service control policy", S3), ("identity-based policy", S3), ("session policy", S3)],
    ),
    (
        SESSION,
        {"resource_account": AWAY},
        [("resource-based policy", S3 | {"Principal": {"AWS": ROLE_ARN}}), ("identity-based policy", S3)],
    ),
    (ROOT, {"resource_account": AWAY}, [("resource-based policy", S3 | {"Principal": {"AWS": ROOT_ARN}})]),
    (ROOT, {}, []),
    (USER, {"identity": (ALLOW,)}, []),
    (FEDERATED, {}, [("resource-based policy", S3 | {"Principal": {"Federated": PROVIDER}})]),
    (SERVICE, {}, [("resource-based policy", S3 | {"Principal": {"Service": "ec2.amazonaws.com"}})]),
]


@pytest.mark.parametrize(("principal", "given", "needs"), NEEDS)
def test_the_smallest_missing_grant_of_each_layer_is_told(principal, given, needs):
    found = told(principal, **given)["needed"]
    assert [(one["layer"], one["statement"]) for one in found] == needs


@pytest.mark.parametrize(
    ("provider", "key"),
    [
        ("ldap-provider/corp", "ldap:sub"),
        ("saml-provider/idp", "saml:sub"),
        ("oidc-provider/id.example/x", "id.example/x:sub"),
    ],
)
def test_somebody_of_a_provider_needs_a_trust_policy_that_means_this_one_person(provider, key):
    who = replace(FEDERATED, arn=f"arn:aws:iam::{HOME}:{provider}")
    keys = {key: ("ann-1",)}
    (need,) = told(who, "sts:AssumeRoleWithSAML", TARGET, keys, resource=trust({"AWS": HOME}))["needed"]
    assert need["statement"]["Principal"] == {"Federated": who.arn}
    assert need["statement"]["Condition"] == {"StringEquals": {key: "ann-1"}}


def test_a_role_needs_only_that_its_trust_policy_names_the_user():
    (need,) = told(USER, "sts:AssumeRole", TARGET, resource=trust({"AWS": AWAY}))["needed"]
    assert need["statement"] == {"Effect": "Allow", "Principal": {"AWS": USER_ARN}, "Action": "sts:AssumeRole"}
    found = told(USER, "sts:AssumeRole", TARGET, resource=trust({"AWS": HOME}))["needed"]
    assert [one["layer"] for one in found] == ["identity-based policy"]


def test_under_an_explicit_deny_it_is_still_told_what_else_is_missing():
    found = told(USER, guardrails=(ALLOW, policy(statement("Deny"))))
    assert (found["decision"], [one["layer"] for one in found["needed"]]) == (
        DecisionType.EXPLICIT_DENY,
        ["identity-based policy"],
    )


def test_the_nearest_of_many_statements_is_told_first_and_the_rest_is_counted():
    many = policy(
        *[statement(Resource=f"arn:aws:s3:::x{number}/*", **MFA) for number in range(20)],
        statement(Sid="near", Resource="arn:aws:s3:::y/*"),
    )
    found = told(identity=(many,))
    assert found["needed"][0]["nearest"]["statement"] == "near"
    assert len(found["layers"][0]["statements"]) == 10
    assert found["layers"][0]["leftOut"] == 11
    json.dumps(found)


def test_null_wants_a_key_to_be_there_or_not_and_other_operators_want_values():
    both = Condition.of("Null", "aws:sourceip", ("true", "False"), variables=True)
    assert wanted_presence(both) == (False, True)
    assert wanted_presence(Condition.of("StringEquals", "aws:username", ("true",), variables=True)) == ()
