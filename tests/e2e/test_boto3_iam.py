"""An administrator's day with boto3 against a served broker: one walk over each noun, lists through paginators."""

import json
import time

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import allow, error_code, trusting
from support.servers import eventually


@pytest.fixture(scope="module")
def iam(served):
    return served.client("iam")


@pytest.fixture
def unique():
    return f"n{time.monotonic_ns()}"


def every(iam, operation: str, member: str, **parameters) -> list:
    pages = iam.get_paginator(operation).paginate(**parameters, PaginationConfig={"PageSize": 3})
    return [one for page in pages for one in page[member]]


def code_of(call, **parameters) -> str:
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    return raised.value.response["Error"]["Code"]


def test_users_are_made_listed_by_pages_renamed_and_removed(iam, unique):
    path = f"/{unique}/"
    names = [f"{unique}-{number}" for number in range(8)]
    for name in names:
        iam.create_user(UserName=name, Path=path)
    assert [user["UserName"] for user in every(iam, "list_users", "Users", PathPrefix=path)] == names
    iam.update_user(UserName=names[0], NewUserName=f"{unique}-renamed")
    assert code_of(iam.get_user, UserName=names[0]) == "NoSuchEntity"
    assert code_of(iam.create_user, UserName=names[1].upper()) == "EntityAlreadyExists"
    for user in every(iam, "list_users", "Users", PathPrefix=path):
        iam.delete_user(UserName=user["UserName"])
    assert every(iam, "list_users", "Users", PathPrefix=path) == []


def test_a_new_user_can_do_nothing_until_a_group_gives_it_a_policy(served, iam, unique):
    iam.create_user(UserName=unique)
    made = iam.create_access_key(UserName=unique)["AccessKey"]
    user = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
    mine = served.client("iam", user)
    assert code_of(mine.list_roles) == "AccessDenied"
    iam.create_group(GroupName=unique)
    iam.attach_group_policy(GroupName=unique, PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
    iam.add_user_to_group(GroupName=unique, UserName=unique)
    # Another worker learns of it within a second.
    eventually(lambda: _allowed(mine.list_roles))
    assert [group["GroupName"] for group in every(iam, "list_groups_for_user", "Groups", UserName=unique)] == [unique]
    assert code_of(iam.delete_user, UserName=unique) == "DeleteConflict"
    assert code_of(iam.delete_group, GroupName=unique) == "DeleteConflict"


def test_an_access_key_shows_its_secret_once_and_stops_when_it_is_switched_off(served, iam, unique):
    iam.create_user(UserName=unique)
    made = iam.create_access_key(UserName=unique)["AccessKey"]
    iam.create_access_key(UserName=unique)
    assert code_of(iam.create_access_key, UserName=unique) == "LimitExceeded"
    listed = every(iam, "list_access_keys", "AccessKeyMetadata", UserName=unique)
    assert len(listed) == 2
    assert made["SecretAccessKey"] not in json.dumps(listed, default=str)
    user = Credentials(made["AccessKeyId"], made["SecretAccessKey"])
    eventually(lambda: served.codes(user) == {""})
    iam.update_access_key(UserName=unique, AccessKeyId=made["AccessKeyId"], Status="Inactive")
    time.sleep(1)
    assert served.codes(user) == {"InvalidClientTokenId"}


def test_policies_have_versions_and_the_default_one_decides(served, iam, unique):
    made = iam.create_policy(PolicyName=unique, PolicyDocument=allow("iam:ListUsers"))["Policy"]
    for number in range(4):
        iam.create_policy_version(PolicyArn=made["Arn"], PolicyDocument=allow(f"iam:List{number}"))
    full = {"PolicyArn": made["Arn"], "PolicyDocument": allow("iam:ListGroups"), "SetAsDefault": True}
    assert code_of(iam.create_policy_version, **full) == "LimitExceeded"
    iam.delete_policy_version(PolicyArn=made["Arn"], VersionId="v2")
    iam.create_policy_version(**full)
    versions = every(iam, "list_policy_versions", "Versions", PolicyArn=made["Arn"])
    assert {one["VersionId"]: one["IsDefaultVersion"] for one in versions} == {
        "v1": False,
        "v3": False,
        "v4": False,
        "v5": False,
        "v6": True,
    }
    reader = served.client("iam", served.role_for("erin", unique))
    iam.attach_role_policy(RoleName=unique, PolicyArn=made["Arn"])
    eventually(lambda: _allowed(reader.list_groups))
    assert code_of(reader.list_users) == "AccessDenied"
    iam.set_default_policy_version(PolicyArn=made["Arn"], VersionId="v1")
    eventually(lambda: _allowed(reader.list_users))
    assert code_of(iam.delete_policy, PolicyArn=made["Arn"]) == "DeleteConflict"


def test_a_role_gives_back_the_trust_that_it_was_given(iam, unique):
    iam.create_role(RoleName=unique, AssumeRolePolicyDocument=trusting("staff"), Tags=[{"Key": "a", "Value": "ü"}])
    role = iam.get_role(RoleName=unique)["Role"]
    assert role["AssumeRolePolicyDocument"] == json.loads(trusting("staff"))
    assert role["Tags"] == [{"Key": "a", "Value": "ü"}]
    iam.create_instance_profile(InstanceProfileName=unique)
    iam.add_role_to_instance_profile(InstanceProfileName=unique, RoleName=unique)
    profiles = every(iam, "list_instance_profiles_for_role", "InstanceProfiles", RoleName=unique)
    assert [one["InstanceProfileName"] for one in profiles] == [unique]
    assert code_of(iam.delete_role, RoleName=unique) == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName=unique, RoleName=unique)
    iam.delete_role(RoleName=unique)


def test_a_permissions_boundary_is_a_ceiling(served, iam, unique):
    ceiling = iam.create_policy(PolicyName=unique, PolicyDocument=allow("iam:ListUsers"))["Policy"]["Arn"]
    bounded = served.client("iam", served.role_for("alice", unique, "AdministratorAccess", PermissionsBoundary=ceiling))
    bounded.list_users()
    assert code_of(bounded.list_roles) == "AccessDenied"


def test_the_whole_account_can_be_read_in_one_walk(iam, unique):
    iam.create_user(UserName=unique, Tags=[{"Key": "k", "Value": "v"}])
    iam.put_user_policy(UserName=unique, PolicyName="p", PolicyDocument=allow("s3:GetObject"))
    users = every(iam, "get_account_authorization_details", "UserDetailList")
    mine = next(one for one in users if one["UserName"] == unique)
    assert mine["UserPolicyList"] == [{"PolicyName": "p", "PolicyDocument": json.loads(allow("s3:GetObject"))}]
    assert iam.get_account_summary()["SummaryMap"]["Users"] >= 1
    assert iam.list_account_aliases()["AccountAliases"] == ["acme"]


def test_a_login_profile_follows_the_password_policy_of_the_account(iam, unique):
    iam.create_user(UserName=unique)
    iam.update_account_password_policy(MinimumPasswordLength=14)
    try:
        short = {"UserName": unique, "Password": "Tr0ub4dor&3"}
        assert code_of(iam.create_login_profile, **short) == "PasswordPolicyViolation"
        iam.create_login_profile(UserName=unique, Password="correct horse battery staple", PasswordResetRequired=True)
        assert iam.get_login_profile(UserName=unique)["LoginProfile"]["PasswordResetRequired"] is True
    finally:
        iam.delete_account_password_policy()


def test_a_denial_brings_its_sealed_reasons_and_who_may_reads_them(served, iam, unique):
    iam.create_user(UserName=unique)
    made = iam.create_access_key(UserName=unique)["AccessKey"]
    mine = served.client("iam", Credentials(made["AccessKeyId"], made["SecretAccessKey"]))
    with pytest.raises(ClientError) as raised:
        mine.list_roles()
    encoded = raised.value.response["Error"]["EncodedAuthorizationMessage"]
    found = json.loads(served.client("sts").decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"])
    assert found["context"]["principal"]["name"] == unique
    assert found["failures"]["items"][0]["statement"]["Action"] == "iam:ListRoles"


STATEMENT = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}


def test_policies_are_simulated_and_a_questionable_one_is_told_in_a_header(iam, unique):
    arn = iam.create_user(UserName=unique)["User"]["Arn"]
    condition = {"StringNotEquals": {"aws:username": "x"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [STATEMENT | {"Condition": condition}]})
    written = iam.put_user_policy(UserName=unique, PolicyName="p", PolicyDocument=document)
    told = written["ResponseMetadata"]["HTTPHeaders"]["x-fedgate-policy-findings"]
    assert "NEGATED_OPERATOR_WITH_ALLOW" in told
    actions = [f"s3:Get{number}" for number in range(7)] + ["ec2:RunInstances"]
    results = every(iam, "simulate_principal_policy", "EvaluationResults", PolicySourceArn=arn, ActionNames=actions)
    assert [one["EvalDecision"] for one in results] == ["allowed"] * 7 + ["implicitDeny"]
    assert results[0]["MatchedStatements"][0]["SourcePolicyId"] == f"user_{unique}_p"
    assert results[0]["MissingContextValues"] == ["aws:username"]
    keys = iam.get_context_keys_for_principal_policy(PolicySourceArn=arn)["ContextKeyNames"]
    assert keys == ["aws:username"]
    granting = iam.list_policies_granting_service_access(Arn=arn, ServiceNamespaces=["s3", "ec2"])
    assert [len(one["Policies"]) for one in granting["PoliciesGrantingServiceAccess"]] == [1, 0]


def test_an_operation_that_is_not_built_says_so(iam):
    with pytest.raises(ClientError) as raised:
        iam.list_server_certificates()
    error = raised.value.response
    assert error["Error"]["Code"] == "NotImplemented"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 501


def _allowed(call) -> bool:
    code = error_code(call)
    assert code in ("", "AccessDenied")
    return not code
