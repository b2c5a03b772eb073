import json

import pytest
from hypothesis import given
from support.condition_vectors import VECTORS
from support.documents import allow
from support.iam_account import ACCOUNT, TRUST, IamAccount, iam_account
from support.policies import TARGET, USER, USER_ARN, on_resource, policy, statement
from support.policy_strategies import CONTEXTS, LAW, policies

from iam import guardrails
from iam.errors import InvalidInput, NoSuchEntity
from iam.guardrails import Guardrail
from iam.limits import Limits
from iam.operations.groups import add_user_to_group, create_group
from iam.operations.policies.attachments import attach_group_policy, attach_user_policy
from iam.operations.policies.inline import put_group_policy, put_role_policy, put_user_policy
from iam.operations.policies.managed import create_policy
from iam.operations.policies.simulation import (
    get_context_keys_for_custom_policy,
    get_context_keys_for_principal_policy,
    list_policies_granting_service_access,
    simulate_custom_policy,
    simulate_principal_policy,
)
from iam.operations.roles import create_role
from iam.operations.users import create_user, put_user_permissions_boundary
from iam.policy.decide import Layers, decide
from iam.policy.document import PolicyKind
from iam.policy.policy_set import PolicySet

READ_ONLY = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"
ANN = f"arn:aws:iam::{ACCOUNT}:user/ann"
BUCKET = "arn:aws:s3:::b/k"


@pytest.fixture
def iam(tmp_path) -> IamAccount:
    made = iam_account(tmp_path)
    made.run(create_user, UserName="ann")
    return made


def custom(iam, *documents, **p):
    given = {"PolicyInputList": list(documents), "ActionNames": ["s3:GetObject"]} | p
    return iam.run(simulate_custom_policy, **given)["EvaluationResults"]


def principal(iam, arn=ANN, **p):
    given = {"PolicySourceArn": arn, "ActionNames": ["s3:GetObject"]} | p
    return iam.run(simulate_principal_policy, **given)["EvaluationResults"]


def decisions(results):
    return {one["EvalActionName"]: one["EvalDecision"] for one in results}


def ids(result):
    return [one["SourcePolicyId"] for one in result["MatchedStatements"]]


# --- SimulateCustomPolicy ---------------------------------------------------------------------------------------------


def test_each_action_gets_one_result(iam):
    results = custom(iam, allow("s3:Get*"), ActionNames=["s3:GetObject", "s3:PutObject"])
    assert decisions(results) == {"s3:GetObject": "allowed", "s3:PutObject": "implicitDeny"}
    allowed, denied = results
    assert allowed["EvalResourceName"] == "*"
    assert (ids(allowed), denied["MatchedStatements"]) == (["PolicyInputList.1"], [])
    assert "ResourceSpecificResults" not in allowed


def test_a_matched_statement_is_told_with_its_place_in_the_text(iam):
    text = json.dumps(json.loads(allow("s3:*")), indent=4)
    (result,) = custom(iam, allow("iam:*"), text)
    assert result["MatchedStatements"] == [
        {
            "SourcePolicyId": "PolicyInputList.2",
            "SourcePolicyType": "IAM Policy",
            "StartPosition": {"Line": 3, "Column": 17},
            "EndPosition": {"Line": 7, "Column": 6},
        }
    ]


def test_the_most_restrictive_resource_speaks_for_the_action_and_each_is_told(iam):
    deny = json.dumps({"Version": "2012-10-17", "Statement": statement("Deny", Resource="arn:aws:s3:::secret/*")})
    asked = [BUCKET, "arn:aws:s3:::secret/k"]
    (result,) = custom(iam, allow("s3:*"), deny, ResourceArns=asked)
    assert (result["EvalDecision"], ids(result)) == ("explicitDeny", ["PolicyInputList.2"])
    assert result["EvalResourceName"] == "arn:${Partition}:s3:::${BucketName}/${ObjectName}"
    each = result["ResourceSpecificResults"]
    assert [(one["EvalResourceName"], one["EvalResourceDecision"], ids(one)) for one in each] == [
        (BUCKET, "allowed", ["PolicyInputList.1"]),
        ("arn:aws:s3:::secret/k", "explicitDeny", ["PolicyInputList.2"]),
    ]


def test_keys_that_were_not_given_are_told_as_their_author_wrote_them(iam):
    mine = allow(
        "s3:GetObject", "arn:aws:s3:::${aws:PrincipalTag/home, 'x'}/*",
        Condition={"StringEquals": {"aws:RequestedRegion": "${aws:username}"}, "Bool": {"aws:SecureTransport": "true"}},
    )  # fmt: skip
    other = allow("iam:GetUser", Condition={"Bool": {"aws:ViaAWSService": "false"}})
    given = [{"ContextKeyName": "AWS:securetransport", "ContextKeyValues": ["true"], "ContextKeyType": "boolean"}]
    (result,) = custom(iam, mine, other, ContextEntries=given)
    assert result["MissingContextValues"] == ["aws:RequestedRegion", "aws:PrincipalTag/home", "aws:username"]
    (result,) = custom(iam, mine, ContextEntries=given, ResourceArns=[BUCKET])
    assert result["ResourceSpecificResults"][0]["MissingContextValues"] == result["MissingContextValues"]


def test_context_entries_decide_conditions(iam):
    mine = allow("s3:*", Condition={"ForAllValues:StringLike": {"s3:x": "a*"}, "NumericLessThan": {"k:n": "5"}})
    entries = [
        {"ContextKeyName": "s3:x", "ContextKeyValues": ["a", "ab"], "ContextKeyType": "stringList"},
        {"ContextKeyName": "k:n", "ContextKeyValues": ["4"], "ContextKeyType": "numeric"},
    ]
    (result,) = custom(iam, mine, ContextEntries=entries)
    assert result["EvalDecision"] == "allowed"
    entries[0]["ContextKeyValues"].append("b")
    (result,) = custom(iam, mine, ContextEntries=entries)
    assert result["EvalDecision"] == "implicitDeny"


def test_a_boundary_limits_and_is_told(iam):
    (result,) = custom(iam, allow("*"), PermissionsBoundaryPolicyInputList=[allow("iam:*")], ResourceArns=[BUCKET])
    limit = {"AllowedByPermissionsBoundary": False}
    assert (result["EvalDecision"], result["PermissionsBoundaryDecisionDetail"]) == ("implicitDeny", limit)
    assert result["ResourceSpecificResults"][0]["PermissionsBoundaryDecisionDetail"] == limit
    (result,) = custom(iam, allow("*"), PermissionsBoundaryPolicyInputList=[allow("*")])
    assert result["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": True}


def test_across_accounts_each_kind_of_policy_tells_what_it_says(iam):
    bucket_policy = on_resource({"AWS": ANN}).text
    given = {"ResourceArns": [BUCKET], "ResourcePolicy": bucket_policy, "CallerArn": ANN}
    (result,) = custom(iam, allow("iam:*"), **given, ResourceOwner="999999999999")
    assert result["EvalDecision"] == "implicitDeny"
    assert result["EvalDecisionDetails"] == {"IAM Policy": "implicitDeny", "Resource Policy": "allowed"}
    (result,) = custom(iam, allow("s3:*"), **given, ResourceOwner="arn:aws:iam::999999999999:root")
    assert (result["EvalDecision"], ids(result)) == ("allowed", ["ResourcePolicy", "PolicyInputList.1"])
    (result,) = custom(iam, allow("iam:*"), **given)
    assert (result["EvalDecision"], result["EvalDecisionDetails"]) == ("allowed", {})


def test_results_come_in_pages_of_actions(iam):
    actions = [f"s3:Get{number}" for number in range(5)]
    seen, marker = [], {}
    while True:
        answer = iam.run(
            simulate_custom_policy, PolicyInputList=[allow("s3:*")], ActionNames=actions, MaxItems=2, **marker
        )
        seen += [one["EvalActionName"] for one in answer["EvaluationResults"]]
        if not answer["IsTruncated"]:
            break
        marker = {"Marker": answer["Marker"]}
    assert seen == actions


@pytest.mark.parametrize(
    "wrong",
    [
        {"PolicyInputList": ["{"]},
        {"PolicyInputList": [allow(Principal="*")]},
        {"PolicyInputList": [allow("s3:" + "x" * 600_000)] * 2},
        {"PermissionsBoundaryPolicyInputList": [allow(), allow()]},
        {"ResourcePolicy": allow(), "CallerArn": ANN},
        {"ResourcePolicy": on_resource("*").text},
        {"CallerArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s"},
        {"CallerArn": f"arn:aws:iam::{ACCOUNT}:root"},
        {"ResourceOwner": "arn:aws:iam::1:root"},
        {"ResourceOwner": "ann"},
        {"ResourceArns": ["bucket"]},
        {"ActionNames": ["GetObject"]},
        {"ResourceArns": [BUCKET] * 200, "ActionNames": ["s3:GetObject"] * 100},
        {"ContextEntries": [{"ContextKeyName": "k:n", "ContextKeyValues": ["x"], "ContextKeyType": "numeric"}]},
        {"ContextEntries": [{"ContextKeyName": "k:n", "ContextKeyValues": ["1", "2"], "ContextKeyType": "numeric"}]},
    ],
)
def test_what_cannot_be_simulated_is_refused(iam, wrong):
    with pytest.raises(InvalidInput):
        custom(iam, allow("*"), **wrong)


@pytest.mark.parametrize(("operator", "wanted", "actual", "holds"), VECTORS)
def test_every_vector_of_a_condition_comes_out_as_in_the_engine(operator, wanted, actual, holds):
    entry = {"ContextKeyName": "K:Key", "ContextKeyValues": list(actual or ()), "ContextKeyType": "stringList"}
    p = {
        "PolicyInputList": [allow(Condition={operator: {"k:key": wanted}})],
        "ActionNames": ["s3:GetObject"],
        "ContextEntries": [] if actual is None else [entry],
    }
    (result,) = simulate_custom_policy(NoCall, p)["EvaluationResults"]
    assert result["EvalDecision"] == ("allowed" if holds else "implicitDeny")


class NoCall:
    """All that the simulator needs of a call where the request brings the policies."""

    account_id = USER.account_id


# The engine and the simulator are one: a law over the requests and policies of the other laws.
@LAW
@given(CONTEXTS, policies(), policies(), policies(PolicyKind.RESOURCE))
def test_the_simulator_answers_as_the_engine_decides(context, identity, boundary, resource):
    context = context._replace(principal=USER)
    entries = [
        {"ContextKeyName": name, "ContextKeyValues": list(values), "ContextKeyType": "stringList"}
        for name, values in context.keys.items()
    ]
    p = {
        "PolicyInputList": [identity.text],
        "PermissionsBoundaryPolicyInputList": [boundary.text],
        "ResourcePolicy": resource.text,
        "CallerArn": USER_ARN,
        "ActionNames": [context.action],
        "ResourceArns": [context.resource],
        "ContextEntries": entries,
    }
    (result,) = simulate_custom_policy(NoCall, p)["EvaluationResults"]
    layers = Layers(PolicySet([identity]), PolicySet([boundary]), resource=PolicySet([resource]))
    abroad = context.resource.startswith("arn:aws:iam::1:")
    decision = decide(context, layers._replace(resource_account="" if not abroad else USER.account_id))
    assert result["EvalDecision"] == decision.decision_type


# --- SimulatePrincipalPolicy ------------------------------------------------------------------------------------------


@pytest.fixture
def staffed(iam):
    iam.run(put_user_policy, UserName="ann", PolicyName="own", PolicyDocument=allow("s3:GetObject"))
    iam.run(attach_user_policy, UserName="ann", PolicyArn=READ_ONLY)
    iam.run(create_group, GroupName="staff")
    iam.run(add_user_to_group, GroupName="staff", UserName="ann")
    iam.run(put_group_policy, GroupName="staff", PolicyName="theirs", PolicyDocument=allow("sqs:SendMessage"))
    made = iam.run(create_policy, PolicyName="shared", PolicyDocument=allow("sns:Publish"))["Policy"]
    iam.run(attach_group_policy, GroupName="staff", PolicyArn=made["Arn"])
    return iam


def test_a_user_is_simulated_with_own_attached_and_group_policies_named_as_aws_names_them(staffed):
    results = principal(
        staffed, ActionNames=["s3:GetObject", "iam:GetUser", "sqs:SendMessage", "sns:Publish", "ec2:RunInstances"]
    )
    assert {one["EvalActionName"]: ids(one) for one in results} == {
        "s3:GetObject": ["user_ann_own"],
        "iam:GetUser": ["IAMReadOnlyAccess"],
        "sqs:SendMessage": ["group_staff_theirs"],
        "sns:Publish": ["shared"],
        "ec2:RunInstances": [],
    }


def test_a_group_and_a_role_are_simulated_with_their_own(staffed):
    (result,) = principal(staffed, f"arn:aws:iam::{ACCOUNT}:group/staff", ActionNames=["sns:Publish"])
    assert result["EvalDecision"] == "allowed"
    staffed.run(create_role, RoleName="ops", AssumeRolePolicyDocument=TRUST)
    staffed.run(put_role_policy, RoleName="ops", PolicyName="p", PolicyDocument=allow("s3:*"))
    (result,) = principal(staffed, f"arn:aws:iam::{ACCOUNT}:role/ops")
    assert ids(result) == ["role_ops_p"]


def test_passed_policies_come_in_addition(staffed):
    (result,) = principal(staffed, ActionNames=["ec2:RunInstances"], PolicyInputList=[allow("ec2:*")])
    assert ids(result) == ["PolicyInputList.1"]


def test_the_attached_boundary_counts_unless_another_is_passed_or_it_is_excluded(staffed):
    staffed.run(put_user_permissions_boundary, UserName="ann", PermissionsBoundary=READ_ONLY)
    assert principal(staffed)[0]["EvalDecision"] == "implicitDeny"
    passed = principal(staffed, PermissionsBoundaryPolicyInputList=[allow("s3:*")])
    assert passed[0]["EvalDecision"] == "allowed"
    excluded = principal(staffed, PolicyExclusionList=[{"PolicyType": "permission-boundary"}])
    assert "PermissionsBoundaryDecisionDetail" not in excluded[0]


def test_a_boundary_that_is_gone_allows_nothing_in_the_simulator_either(staffed):
    gone = staffed.run(create_policy, PolicyName="gone", PolicyDocument=allow("*"))["Policy"]["Arn"]
    staffed.run(put_user_permissions_boundary, UserName="ann", PermissionsBoundary=gone)
    with staffed.writing() as tx:
        tx.exec_driver_sql(
            "DELETE FROM policy_version WHERE policy_id IN (SELECT id FROM iam_policy WHERE name='gone')"
        )
    assert principal(staffed)[0]["EvalDecision"] == "explicitDeny"


def test_the_guardrails_of_the_account_count_and_are_told(staffed):
    assert "OrganizationsDecisionDetail" not in principal(staffed)[0]
    with staffed.writing() as tx:
        guardrails.put(tx, Guardrail(ACCOUNT, "g", allow("sqs:*"), 0), Limits())
    (result,) = principal(staffed)
    assert (result["EvalDecision"], result["MatchedStatements"]) == ("implicitDeny", [])
    assert result["OrganizationsDecisionDetail"] == {"AllowedByOrganizations": False}
    assert principal(staffed, PolicyExclusionList=[{"PolicyType": "scp"}])[0]["EvalDecision"] == "allowed"


INLINE = {"PolicyName": "own", "AttachmentType": "user", "AttachmentName": "ann"}


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ({"PolicyType": "inline"}, {"iam:GetUser", "sns:Publish"}),
        ({"PolicyType": "aws-managed"}, {"s3:GetObject", "sqs:SendMessage", "sns:Publish"}),
        ({"PolicyType": "user-managed"}, {"s3:GetObject", "sqs:SendMessage", "iam:GetUser"}),
        ({"PolicyArn": READ_ONLY}, {"s3:GetObject", "sqs:SendMessage", "sns:Publish"}),
        ({"InlinePolicyIdentifier": INLINE}, {"iam:GetUser", "sqs:SendMessage", "sns:Publish"}),
        ({"PolicyType": "rcp"}, {"s3:GetObject", "sqs:SendMessage", "sns:Publish", "iam:GetUser"}),
    ],
)
def test_policies_can_be_left_out(staffed, excluded, left):
    results = principal(
        staffed,
        ActionNames=["s3:GetObject", "iam:GetUser", "sqs:SendMessage", "sns:Publish"],
        PolicyExclusionList=[excluded],
    )
    assert {one["EvalActionName"] for one in results if one["EvalDecision"] == "allowed"} == left


@pytest.mark.parametrize("arn", ["policy", "arn:aws:iam::aws:user/x", "arn:aws:iam::aws:policy/*"])
def test_a_malformed_exclusion_is_refused(staffed, arn):
    with pytest.raises(InvalidInput):
        principal(staffed, PolicyExclusionList=[{"PolicyArn": arn}])


@pytest.mark.parametrize(
    ("arn", "error"),
    [
        (f"arn:aws:iam::{ACCOUNT}:user/nobody", NoSuchEntity),
        ("arn:aws:iam::999999999999:user/ann", NoSuchEntity),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/r/s", InvalidInput),
        (f"arn:aws:iam::{ACCOUNT}:policy/p", InvalidInput),
        (TARGET.replace("role/target", "role/"), InvalidInput),
        ("nonsense", InvalidInput),
    ],
)
def test_who_cannot_be_simulated_is_refused(iam, arn, error):
    with pytest.raises(error):
        principal(iam, arn)


# --- keys, and policies by service ------------------------------------------------------------------------------------


def test_the_keys_that_policies_ask_about_are_listed_once_whatever_their_case(staffed):
    mine = allow(resource="arn:aws:s3:::${aws:username}/*", Condition={"StringLike": {"AWS:UserName": "${s3:prefix}"}})
    names = staffed.run(get_context_keys_for_custom_policy, PolicyInputList=[mine])["ContextKeyNames"]
    assert names == ["AWS:UserName", "s3:prefix"]
    staffed.run(put_user_policy, UserName="ann", PolicyName="own", PolicyDocument=mine)
    names = staffed.run(get_context_keys_for_principal_policy, PolicySourceArn=ANN)["ContextKeyNames"]
    assert names == ["AWS:UserName", "s3:prefix"]
    both = staffed.run(
        get_context_keys_for_principal_policy,
        PolicySourceArn=ANN,
        PolicyInputList=[allow(Condition={"Bool": {"aws:SecureTransport": "true"}})],
    )
    assert both["ContextKeyNames"] == ["AWS:UserName", "s3:prefix", "aws:SecureTransport"]


def test_the_older_language_has_no_variables_to_ask_about():
    older = policy(statement(Resource="arn:aws:s3:::${aws:username}/*")).text.replace("2012-10-17", "2008-10-17")
    assert get_context_keys_for_custom_policy(None, {"PolicyInputList": [older]}) == {"ContextKeyNames": []}


def test_the_policies_that_grant_access_to_a_service_are_listed(staffed):
    entries = staffed.run(
        list_policies_granting_service_access, Arn=ANN, ServiceNamespaces=["s3", "iam", "sqs", "sns", "ec2"]
    )["PoliciesGrantingServiceAccess"]
    own = {"PolicyName": "own", "PolicyType": "INLINE", "EntityType": "USER", "EntityName": "ann"}
    theirs = {"PolicyName": "theirs", "PolicyType": "INLINE", "EntityType": "GROUP", "EntityName": "staff"}
    assert {one["ServiceNamespace"]: one["Policies"] for one in entries} == {
        "s3": [own],
        "iam": [{"PolicyName": "IAMReadOnlyAccess", "PolicyType": "MANAGED", "PolicyArn": READ_ONLY}],
        "sqs": [theirs],
        "sns": [
            {"PolicyName": "shared", "PolicyType": "MANAGED", "PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/shared"}
        ],
        "ec2": [],
    }


def test_not_action_grants_every_service_but_those_it_names_whole(iam):
    document = {"Effect": "Allow", "NotAction": ["iam:*", "s3:GetObject"], "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": document})
    iam.run(put_user_policy, UserName="ann", PolicyName="own", PolicyDocument=text)
    entries = iam.run(list_policies_granting_service_access, Arn=ANN, ServiceNamespaces=["s3", "iam", "ec2"])
    granting = {one["ServiceNamespace"]: len(one["Policies"]) for one in entries["PoliciesGrantingServiceAccess"]}
    assert granting == {"s3": 1, "iam": 0, "ec2": 1}


def test_one_request_passes_at_most_a_million_characters_of_policies(iam):
    half = allow("s3:*") + " " * 400_000
    for more in ({"PermissionsBoundaryPolicyInputList": [half]}, {"ResourcePolicy": half, "CallerArn": ANN}):
        with pytest.raises(InvalidInput, match="at most 1000000 characters"):
            custom(iam, half, half, **more)


def test_one_request_asks_a_bounded_number_of_statements(iam):
    many = json.dumps({"Version": "2012-10-17", "Statement": [statement()] * 2_000})
    asked = [f"s3:Get{number}" for number in range(251)]
    assert len(custom(iam, many, ActionNames=asked[:250])) == 100  # a page
    with pytest.raises(InvalidInput, match="at most 500000 statements"):
        custom(iam, many, ActionNames=asked, MaxItems=1_000)


def test_long_policies_are_matched_with_a_bounded_number_of_long_resources(iam):
    patterns = [f"arn:aws:s3:::*a*b*c{number}%d*d*e" for number in range(1_000)]
    long = json.dumps({"Version": "2012-10-17", "Statement": [statement(Resource=patterns)]})
    resources = [f"arn:aws:s3:::{'ab' * 450}{number}" for number in range(16)]
    assert custom(iam, long, ActionNames=["s3:GetObject"], ResourceArns=resources[:2])
    with pytest.raises(InvalidInput, match="too long for so many actions and resources"):
        custom(iam, *[long] * 4, ActionNames=["s3:GetObject"] * 16, ResourceArns=resources)


def test_an_answer_names_a_bounded_number_of_statements_and_each_once(iam):
    many = json.dumps({"Version": "2012-10-17", "Statement": [statement()] * 2_000})
    (one,) = custom(iam, many, ResourceArns=[BUCKET, f"{BUCKET}2"])
    assert len(one["MatchedStatements"]) == 2_000
    with pytest.raises(InvalidInput, match="at most 10000 matched statements"):
        custom(iam, many, ActionNames=["s3:GetObject"] * 6)


def test_a_scenario_of_run_instances_is_one_that_aws_names(iam):
    assert custom(iam, allow(), ActionNames=["ec2:RunInstances"], ResourceHandlingOption="EC2-VPC-EBS-Subnet")
    with pytest.raises(InvalidInput, match="Invalid ResourceHandlingOption: EC2"):
        custom(iam, allow(), ActionNames=["ec2:RunInstances"], ResourceHandlingOption="EC2")
