from datetime import UTC

import pytest

from iam.policy.decide import Layers, RequestContext, decide
from iam.policy.managed import load
from iam.principal import Principal, PrincipalKind

ANN = Principal(PrincipalKind.USER, "1" * 12, "arn:aws:iam::111111111111:user/ann", "AIDAX")
USER = "arn:aws:iam::111111111111:user/"


def allowed(name, action, resource="*", **keys):
    found = {"aws:username": ("ann",)} | {key.replace("_", ":"): value for key, value in keys.items()}
    context = RequestContext(action, resource, ANN, found)
    policy = next(policy for policy in load().values() if policy.name == name)
    return decide(context, Layers(identity=(policy.policy,))).allowed


MEANING = """
AdministratorAccess      + iam:CreateUser s3:GetObject sts:AssumeRole
PowerUserAccess          + s3:PutObject ec2:RunInstances iam:ListRoles iam:CreateServiceLinkedRole
PowerUserAccess          - iam:CreateUser organizations:LeaveOrganization account:CloseAccount
ReadOnlyAccess           + s3:GetObject iam:ListUsers ec2:DescribeInstances dynamodb:Scan
ReadOnlyAccess           - s3:PutObject iam:CreateUser kms:Decrypt secretsmanager:GetSecretValue sts:AssumeRole
ViewOnlyAccess           + s3:ListAllMyBuckets iam:ListUsers ec2:DescribeInstances
ViewOnlyAccess           - s3:GetObject dynamodb:GetItem dynamodb:Scan iam:CreateUser sqs:ReceiveMessage
ViewOnlyAccess           - logs:FilterLogEvents secretsmanager:GetSecretValue
SecurityAudit            + iam:GetRole iam:GenerateCredentialReport s3:GetBucketPolicy kms:ListKeys
SecurityAudit            - s3:GetObject dynamodb:GetItem sqs:ReceiveMessage lambda:GetFunction iam:CreateUser
IAMFullAccess            + iam:CreateUser iam:PassRole organizations:ListRoots
IAMFullAccess            - s3:GetObject organizations:CreateAccount sts:AssumeRole
IAMReadOnlyAccess        + iam:GetUser iam:ListUsers iam:SimulatePrincipalPolicy
IAMReadOnlyAccess        - iam:CreateUser iam:PassRole
AmazonS3FullAccess       + s3:PutObject s3:DeleteBucket
AmazonS3FullAccess       - s3express:CreateSession iam:ListUsers
AmazonS3ReadOnlyAccess   + s3:GetObject s3:ListBucket
AmazonS3ReadOnlyAccess   - s3:PutObject s3:DeleteObject
AmazonEC2FullAccess      + ec2:TerminateInstances cloudwatch:PutMetricAlarm autoscaling:CreateAutoScalingGroup
AmazonEC2FullAccess      - iam:CreateServiceLinkedRole s3:GetObject
AmazonDynamoDBFullAccess + dynamodb:DeleteTable dax:CreateCluster
AmazonDynamoDBFullAccess - iam:PassRole kms:Decrypt
"""


@pytest.mark.parametrize("row", MEANING.strip().splitlines())
def test_a_managed_policy_means_what_its_name_says(row):
    name, sign, *actions = row.split()
    assert [action for action in actions if allowed(name, action) is not (sign == "+")] == []


def test_a_user_may_change_only_its_own_password():
    assert allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "ann")
    assert not allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "bob")
    assert allowed("IAMUserChangePassword", "iam:GetAccountPasswordPolicy")


def test_a_role_is_passed_to_the_named_service_alone():
    assert allowed("AmazonDynamoDBFullAccess", "iam:PassRole", iam_passedtoservice=("dax.amazonaws.com",))
    assert not allowed("AmazonDynamoDBFullAccess", "iam:PassRole", iam_passedtoservice=("ec2.amazonaws.com",))


def test_every_managed_policy_has_its_arn_and_a_lasting_id():
    policies = load()
    assert len(policies) == 12
    assert policies["arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"].path == "/job-function/"
    for arn, policy in policies.items():
        assert arn == policy.arn == policy.policy.label
        assert policy.created.tzinfo == UTC
        assert len(policy.policy_id) == 21
        assert policy.policy_id.startswith("ANPA")
    assert {one.policy_id for one in policies.values()} == {one.policy_id for one in load().values()}
    assert len({one.policy_id for one in policies.values()}) == 12
