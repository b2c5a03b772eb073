from datetime import UTC
from functools import cache
from importlib.resources import files

import pytest

from iam.policy.decide import Layers, RequestContext, decide
from iam.policy.managed import load
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind

ANN = Principal(PrincipalKind.USER, "1" * 12, "arn:aws:iam::111111111111:user/ann", "AIDAX")
USER = "arn:aws:iam::111111111111:user/"
ROLE = "arn:aws:iam::111111111111:role/"


@cache
def policies():
    return {policy.name: policy for policy in load().values()}


def allowed(name, action, resource="*", **keys):
    found = {"aws:username": ("ann",)} | {key.replace("_", ":"): value for key, value in keys.items()}
    context = RequestContext(action, resource, ANN, found)
    return decide(context, Layers(identity=PolicySet((policies()[name].policy,)))).allowed


# What is allowed (+) and what is not (-), on any resource, or on the one after the "@".
MEANING = """
AdministratorAccess      + iam:CreateUser s3:GetObject sts:AssumeRole
PowerUserAccess          + s3:PutObject ec2:RunInstances iam:ListRoles iam:CreateServiceLinkedRole
PowerUserAccess          + account:GetAccountInformation account:ListRegions organizations:DescribeOrganization
PowerUserAccess          - iam:CreateUser organizations:LeaveOrganization account:CloseAccount account:EnableRegion
ReadOnlyAccess           + s3:GetObject iam:ListUsers ec2:DescribeInstances dynamodb:Scan sqs:GetQueueAttributes
ReadOnlyAccess           + lambda:GetFunction logs:FilterLogEvents kms:DescribeKey secretsmanager:ListSecrets
ReadOnlyAccess           - s3:PutObject iam:CreateUser kms:Decrypt secretsmanager:GetSecretValue sts:AssumeRole
ReadOnlyAccess           - s3:DeleteObject dynamodb:PutItem sqs:DeleteMessage lambda:InvokeFunction sns:Publish
ViewOnlyAccess           + s3:ListAllMyBuckets iam:ListUsers ec2:DescribeInstances dynamodb:DescribeTable kms:ListKeys
ViewOnlyAccess           - s3:GetObject dynamodb:GetItem dynamodb:Scan iam:CreateUser sqs:ReceiveMessage
ViewOnlyAccess           - logs:FilterLogEvents secretsmanager:GetSecretValue kms:DescribeKey iam:GetRole
SecurityAudit            + iam:GetRole iam:GenerateCredentialReport s3:GetBucketPolicy kms:ListKeys kms:GetKeyPolicy
SecurityAudit            - s3:GetObject dynamodb:GetItem sqs:ReceiveMessage lambda:GetFunction iam:CreateUser
SecurityAudit            - secretsmanager:GetSecretValue kms:Decrypt s3:PutBucketPolicy
AWSDenyAll               - iam:ListUsers s3:GetObject sts:GetCallerIdentity
Billing                  + budgets:ModifyBudget ce:CreateReport aws-portal:ViewBilling billing:GetBillingData
Billing                  - iam:ListUsers s3:GetObject ec2:DescribeInstances
AWSBillingReadOnlyAccess + aws-portal:ViewBilling billing:GetBillingData budgets:ViewBudget
AWSBillingReadOnlyAccess - aws-portal:ModifyBilling budgets:ModifyBudget ec2:DescribeInstances
DatabaseAdministrator    + rds:CreateDBInstance dynamodb:DeleteTable s3:GetObject iam:ListRoles
DatabaseAdministrator    - ec2:RunInstances iam:CreateUser iam:PassRole sqs:SendMessage
DataScientist            + s3:PutObject ec2:RunInstances elasticmapreduce:RunJobFlow rds:CreateDBInstance
DataScientist            - iam:CreateUser iam:PassRole s3:DeleteBucket sqs:SendMessage
NetworkAdministrator     + ec2:CreateVpc ec2:CreateSecurityGroup route53:CreateHostedZone directconnect:CreateConnection
NetworkAdministrator     - ec2:RunInstances iam:PassRole s3:GetObject
SupportUser              + support:CreateCase ec2:DescribeInstances iam:ListUsers acm:GetCertificate
SupportUser              - ec2:RunInstances s3:GetObject iam:CreateUser
SystemAdministrator      + ec2:RunInstances s3:PutObject cloudwatch:PutMetricAlarm iam:GetRole sqs:SendMessage
SystemAdministrator      - iam:CreateUser iam:PassRole organizations:ListRoots rds:CreateDBInstance

IAMFullAccess                           + iam:CreateUser iam:PassRole organizations:ListRoots
IAMFullAccess                           - s3:GetObject organizations:CreateAccount sts:AssumeRole
IAMReadOnlyAccess                       + iam:GetUser iam:ListUsers iam:SimulatePrincipalPolicy
IAMReadOnlyAccess                       - iam:CreateUser iam:PassRole
IAMUserChangePassword                   + iam:GetAccountPasswordPolicy
IAMUserChangePassword                   - iam:ChangePassword iam:UpdateAccountPasswordPolicy
IAMUserSSHKeys                          + iam:UploadSSHPublicKey@arn:aws:iam::111111111111:user/ann
IAMUserSSHKeys                          - iam:UploadSSHPublicKey iam:CreateAccessKey@arn:aws:iam::111111111111:user/ann
IAMSelfManageServiceSpecificCredentials + iam:ResetServiceSpecificCredential@arn:aws:iam::111111111111:user/ann
IAMSelfManageServiceSpecificCredentials - iam:ResetServiceSpecificCredential iam:CreateAccessKey
IAMAccessAdvisorReadOnly                + iam:GenerateServiceLastAccessedDetails iam:GetServiceLastAccessedDetails
IAMAccessAdvisorReadOnly                - iam:GetUser iam:CreateUser
IAMAccessAnalyzerFullAccess             + access-analyzer:CreateAnalyzer organizations:ListAccounts
IAMAccessAnalyzerFullAccess             - iam:CreateServiceLinkedRole organizations:CreateAccount
IAMAccessAnalyzerReadOnlyAccess         + access-analyzer:ListFindings access-analyzer:ValidatePolicy
IAMAccessAnalyzerReadOnlyAccess         - access-analyzer:CreateAnalyzer organizations:ListAccounts
AWSAccountManagementFullAccess          + account:CloseAccount account:EnableRegion
AWSAccountManagementFullAccess          - iam:ListUsers organizations:DescribeOrganization
AWSAccountManagementReadOnlyAccess      + account:GetAlternateContact account:ListRegions
AWSAccountManagementReadOnlyAccess      - account:EnableRegion account:PutAlternateContact
AWSOrganizationsFullAccess              + organizations:CreateAccount account:PutAlternateContact account:EnableRegion
AWSOrganizationsFullAccess              - account:CloseAccount iam:CreateServiceLinkedRole iam:ListUsers
AWSOrganizationsReadOnlyAccess          + organizations:DescribeOrganization account:GetAlternateContact
AWSOrganizationsReadOnlyAccess          - organizations:CreateAccount account:PutAlternateContact
AWSSupportAccess                        + support:CreateCase support-console:Anything
AWSSupportAccess                        - iam:ListUsers trustedadvisor:DescribeChecks
AWSKeyManagementServicePowerUser        + kms:CreateKey kms:ListKeys kms:GetKeyPolicy kms:TagResource iam:ListRoles
AWSKeyManagementServicePowerUser        - kms:Encrypt kms:Decrypt kms:PutKeyPolicy kms:ScheduleKeyDeletion
SecretsManagerReadWrite                 + secretsmanager:GetSecretValue kms:ListKeys rds:DescribeDBInstances
SecretsManagerReadWrite                 - kms:Decrypt lambda:InvokeFunction iam:PassRole
SecretsManagerReadWrite                 + lambda:InvokeFunction@arn:aws:lambda:eu-west-1:1:function:SecretsManager1
AWSCertificateManagerFullAccess         + acm:RequestCertificate acm:DeleteCertificate
AWSCertificateManagerFullAccess         - acm-pca:ListCertificateAuthorities iam:GetRole iam:CreateServiceLinkedRole
AWSCertificateManagerReadOnly           + acm:GetCertificate acm:ListCertificates acm:SearchCertificates
AWSCertificateManagerReadOnly           - acm:RequestCertificate acm:ExportCertificate

AmazonS3FullAccess           + s3:PutObject s3:DeleteBucket s3-object-lambda:WriteGetObjectResponse
AmazonS3FullAccess           - s3express:CreateSession iam:ListUsers
AmazonS3ReadOnlyAccess       + s3:GetObject s3:ListBucket
AmazonS3ReadOnlyAccess       - s3:PutObject s3:DeleteObject
AmazonDynamoDBFullAccess     + dynamodb:DeleteTable dax:CreateCluster
AmazonDynamoDBFullAccess     - iam:PassRole kms:Decrypt
AmazonDynamoDBReadOnlyAccess + dynamodb:GetItem dynamodb:Scan dynamodb:PartiQLSelect kms:DescribeKey
AmazonDynamoDBReadOnlyAccess - dynamodb:PutItem dynamodb:DeleteTable dynamodb:PartiQLInsert kms:Decrypt
AmazonSQSFullAccess          + sqs:SendMessage sqs:DeleteQueue
AmazonSQSFullAccess          - sns:Publish
AmazonSQSReadOnlyAccess      + sqs:GetQueueAttributes sqs:ListQueues sqs:ListQueueTags
AmazonSQSReadOnlyAccess      - sqs:ReceiveMessage sqs:SendMessage sqs:PurgeQueue
AmazonSNSFullAccess          + sns:Publish sns:DeleteTopic
AmazonSNSFullAccess          - sqs:SendMessage sms-voice:SendTextMessage
AmazonSNSReadOnlyAccess      + sns:ListTopics sns:GetTopicAttributes
AmazonSNSReadOnlyAccess      - sns:Publish sns:CreateTopic sms-voice:DescribePhoneNumbers
AmazonSESFullAccess          + ses:SendEmail ses:DeleteIdentity
AmazonSESFullAccess          - sns:Publish
AmazonSESReadOnlyAccess      + ses:GetSendQuota ses:ListIdentities ses:BatchGetMetricData
AmazonSESReadOnlyAccess      - ses:SendEmail ses:DeleteIdentity
AmazonKinesisFullAccess      + kinesis:PutRecord kinesis:DeleteStream
AmazonKinesisFullAccess      - firehose:PutRecord
AmazonKinesisReadOnlyAccess  + kinesis:GetRecords kinesis:DescribeStream
AmazonKinesisReadOnlyAccess  - kinesis:PutRecord kinesis:DeleteStream
AmazonRDSFullAccess          + rds:DeleteDBInstance ec2:DescribeVpcs sns:Publish
AmazonRDSFullAccess          - ec2:CreateVpc iam:CreateServiceLinkedRole pi:GetResourceMetrics
AmazonRDSReadOnlyAccess      + rds:DescribeDBInstances rds:ListTagsForResource logs:GetLogEvents
AmazonRDSReadOnlyAccess      - rds:CreateDBInstance rds:DownloadDBLogFilePortion devops-guru:SearchInsights
AmazonAthenaFullAccess       + athena:StartQueryExecution glue:GetTable s3:ListAllMyBuckets
AmazonAthenaFullAccess       - s3:GetObject s3:PutObject@arn:aws:s3:::mine/x
AmazonAthenaFullAccess       + s3:PutObject@arn:aws:s3:::aws-athena-query-results-1/x
AWSGlueConsoleFullAccess     + glue:CreateJob iam:ListRoles s3:PutObject@arn:aws:s3:::aws-glue-scripts/x
AWSGlueConsoleFullAccess     - s3:PutObject iam:PassRole iam:CreateRole s3:GetObject@arn:aws:s3:::mine/x
AWSGlueServiceRole           + glue:StartJobRun s3:ListBucket cloudwatch:PutMetricData
AWSGlueServiceRole           - s3:GetObject s3:DeleteObject@arn:aws:s3:::mine/x iam:PassRole

AmazonEC2FullAccess                   + ec2:TerminateInstances cloudwatch:PutMetricAlarm autoscaling:DeletePolicy
AmazonEC2FullAccess                   - iam:CreateServiceLinkedRole s3:GetObject
AmazonEC2ReadOnlyAccess               + ec2:DescribeInstances autoscaling:DescribePolicies cloudwatch:ListMetrics
AmazonEC2ReadOnlyAccess               - ec2:GetPasswordData ec2:GetConsoleOutput ec2:RunInstances
AmazonVPCFullAccess                   + ec2:CreateVpc ec2:DeleteSubnet ec2:AuthorizeSecurityGroupIngress
AmazonVPCFullAccess                   - ec2:RunInstances ec2:TerminateInstances
AmazonVPCReadOnlyAccess               + ec2:DescribeVpcs ec2:DescribeSubnets ec2:DescribeSecurityGroups
AmazonVPCReadOnlyAccess               - ec2:CreateVpc ec2:DescribeInstances
AmazonRoute53FullAccess               + route53:CreateHostedZone route53domains:RegisterDomain ec2:DescribeVpcs
AmazonRoute53FullAccess               - ec2:CreateVpc apigateway:GET iam:CreateServiceLinkedRole
AmazonRoute53ReadOnlyAccess           + route53:GetHostedZone route53:TestDNSAnswer
AmazonRoute53ReadOnlyAccess           - route53:ChangeResourceRecordSets route53domains:ListDomains
ElasticLoadBalancingFullAccess        + elasticloadbalancing:CreateLoadBalancer ec2:DescribeVpcs
ElasticLoadBalancingFullAccess        - ec2:CreateVpc iam:CreateServiceLinkedRole arc-zonal-shift:StartZonalShift
ElasticLoadBalancingReadOnly          + elasticloadbalancing:DescribeListeners ec2:DescribeInstances
ElasticLoadBalancingReadOnly          - elasticloadbalancing:CreateLoadBalancer
AutoScalingFullAccess                 + autoscaling:CreateAutoScalingGroup cloudwatch:PutMetricAlarm
AutoScalingFullAccess                 - ec2:RunInstances iam:CreateServiceLinkedRole
AutoScalingReadOnlyAccess             + autoscaling:DescribePolicies
AutoScalingReadOnlyAccess             - autoscaling:DeletePolicy ec2:DescribeInstances
AmazonElasticFileSystemFullAccess     + elasticfilesystem:CreateFileSystem elasticfilesystem:TagResource kms:ListAliases
AmazonElasticFileSystemFullAccess     - elasticfilesystem:ClientMount iam:CreateServiceLinkedRole iam:PassRole
AmazonElasticFileSystemReadOnlyAccess + elasticfilesystem:DescribeFileSystems kms:ListAliases
AmazonElasticFileSystemReadOnlyAccess - elasticfilesystem:CreateFileSystem elasticfilesystem:ClientMount
AmazonSSMFullAccess                   + ssm:SendCommand ssm:PutParameter logs:DeleteLogGroup ssmmessages:OpenDataChannel
AmazonSSMFullAccess                   - ec2:RunInstances iam:CreateServiceLinkedRole
AmazonSSMReadOnlyAccess               + ssm:GetParameter ssm:DescribeParameters ssm:ListDocuments
AmazonSSMReadOnlyAccess               - ssm:PutParameter ssm:SendCommand
AmazonSSMManagedInstanceCore          + ssm:GetParameter ssm:UpdateInstanceInformation ssmmessages:OpenControlChannel
AmazonSSMManagedInstanceCore          - ssm:SendCommand ssm:PutParameter s3:GetObject
AmazonEC2ContainerRegistryFullAccess  + ecr:DeleteRepository cloudtrail:LookupEvents
AmazonEC2ContainerRegistryFullAccess  - iam:CreateServiceLinkedRole
AmazonEC2ContainerRegistryPowerUser   + ecr:PutImage ecr:BatchGetImage
AmazonEC2ContainerRegistryPowerUser   - ecr:DeleteRepository ecr:CreateRepository ecr:SetRepositoryPolicy
AmazonEC2ContainerRegistryReadOnly    + ecr:GetAuthorizationToken ecr:BatchGetImage
AmazonEC2ContainerRegistryReadOnly    - ecr:PutImage ecr:DeleteRepository
AmazonECS_FullAccess                  + ecs:CreateCluster ecs:ExecuteCommand elasticloadbalancing:CreateLoadBalancer
AmazonECS_FullAccess                  - iam:PassRole iam:CreateServiceLinkedRole s3:GetObject ssm:GetParameter
AmazonECSTaskExecutionRolePolicy      + ecr:BatchGetImage logs:PutLogEvents
AmazonECSTaskExecutionRolePolicy      - ecr:PutImage logs:CreateLogGroup secretsmanager:GetSecretValue
AmazonEKSClusterPolicy                + ec2:CreateRoute elasticloadbalancing:CreateLoadBalancer kms:DescribeKey
AmazonEKSClusterPolicy                - ec2:DeleteNetworkInterface iam:CreateServiceLinkedRole ec2:RunInstances
AmazonEKSWorkerNodePolicy             + eks:DescribeCluster ec2:DescribeInstances
AmazonEKSWorkerNodePolicy             - eks:CreateCluster ec2:RunInstances
AmazonEKS_CNI_Policy                  + ec2:CreateNetworkInterface ec2:AssignPrivateIpAddresses
AmazonEKS_CNI_Policy                  - ec2:CreateTags ec2:RunInstances
AmazonEKS_CNI_Policy                  + ec2:CreateTags@arn:aws:ec2:eu-west-1:111111111111:network-interface/eni-1

AWSLambda_FullAccess                 + lambda:CreateFunction lambda:InvokeFunction iam:ListRoles kms:ListAliases
AWSLambda_FullAccess                 - iam:PassRole iam:CreateServiceLinkedRole logs:GetLogEvents s3:GetObject
AWSLambda_ReadOnlyAccess             + lambda:GetFunction lambda:ListFunctions iam:GetRole
AWSLambda_ReadOnlyAccess             - lambda:InvokeFunction lambda:CreateFunction logs:GetLogEvents
AWSLambdaBasicExecutionRole          + logs:CreateLogGroup logs:PutLogEvents
AWSLambdaBasicExecutionRole          - logs:GetLogEvents ec2:CreateNetworkInterface
AWSLambdaVPCAccessExecutionRole      + logs:PutLogEvents ec2:CreateNetworkInterface ec2:DescribeSubnets
AWSLambdaVPCAccessExecutionRole      - ec2:RunInstances logs:GetLogEvents
AmazonAPIGatewayAdministrator        + apigateway:POST@arn:aws:apigateway:eu-west-1::/restapis
AmazonAPIGatewayAdministrator        - execute-api:Invoke lambda:InvokeFunction
AmazonAPIGatewayInvokeFullAccess     + execute-api:Invoke@arn:aws:execute-api:eu-west-1:111111111111:a1/prod/GET/pets
AmazonAPIGatewayInvokeFullAccess     - apigateway:GET execute-api:InvalidateCache
AmazonAPIGatewayPushToCloudWatchLogs + logs:CreateLogGroup logs:PutLogEvents logs:FilterLogEvents
AmazonAPIGatewayPushToCloudWatchLogs - logs:DeleteLogGroup
AWSStepFunctionsFullAccess           + states:StartExecution states:DeleteStateMachine
AWSStepFunctionsFullAccess           - iam:PassRole lambda:InvokeFunction
AWSStepFunctionsReadOnlyAccess       + states:DescribeExecution states:ListStateMachines states:GetExecutionHistory
AWSStepFunctionsReadOnlyAccess       - states:StartExecution states:CreateStateMachine
AmazonEventBridgeFullAccess          + events:PutRule schemas:CreateRegistry scheduler:CreateSchedule pipes:CreatePipe
AmazonEventBridgeFullAccess          - iam:PassRole iam:CreateServiceLinkedRole secretsmanager:GetSecretValue
AmazonEventBridgeReadOnlyAccess      + events:DescribeRule schemas:DescribeSchema scheduler:GetSchedule pipes:ListPipes
AmazonEventBridgeReadOnlyAccess      - events:PutRule events:PutEvents scheduler:CreateSchedule
AmazonCognitoPowerUser               + cognito-idp:AdminCreateUser cognito-identity:GetId sns:ListPlatformApplications
AmazonCognitoPowerUser               - iam:PassRole iam:CreateServiceLinkedRole iam:CreateRole
AmazonCognitoReadOnly                + cognito-idp:ListUsers cognito-idp:AdminGetUser cognito-identity:ListIdentityPools
AmazonCognitoReadOnly                - cognito-idp:AdminCreateUser cognito-identity:DeleteIdentityPool

CloudWatchFullAccess            + cloudwatch:PutMetricAlarm logs:DeleteLogGroup sns:Publish iam:GetRole
CloudWatchFullAccess            - iam:PassRole iam:CreateServiceLinkedRole autoscaling:SetDesiredCapacity
CloudWatchFullAccessV2          + cloudwatch:PutMetricAlarm logs:DeleteLogGroup sns:CreateTopic
CloudWatchFullAccessV2          - iam:PassRole sns:Publish sns:DeleteTopic
CloudWatchReadOnlyAccess        + cloudwatch:GetMetricData logs:FilterLogEvents sns:ListTopics
CloudWatchReadOnlyAccess        - cloudwatch:PutMetricData logs:PutLogEvents iam:GetRole
CloudWatchLogsFullAccess        + logs:DeleteLogGroup logs:PutLogEvents cloudwatch:GenerateQuery
CloudWatchLogsFullAccess        - cloudwatch:PutMetricData
CloudWatchLogsReadOnlyAccess    + logs:GetLogEvents logs:StartQuery logs:FilterLogEvents
CloudWatchLogsReadOnlyAccess    - logs:PutLogEvents logs:CreateLogGroup
CloudWatchAgentServerPolicy     + cloudwatch:PutMetricData logs:PutLogEvents ec2:DescribeTags
CloudWatchAgentServerPolicy     - ssm:GetParameter logs:GetLogEvents
CloudWatchAgentServerPolicy     + ssm:GetParameter@arn:aws:ssm:eu-west-1:111111111111:parameter/AmazonCloudWatch-linux
AWSXrayFullAccess               + xray:PutTraceSegments xray:CreateGroup
AWSXrayFullAccess               - cloudwatch:PutMetricData
AWSXrayReadOnlyAccess           + xray:BatchGetTraces xray:GetServiceGraph
AWSXrayReadOnlyAccess           - xray:PutTraceSegments xray:CreateGroup
AWSXrayWriteOnlyAccess          + xray:PutTraceSegments xray:GetSamplingRules
AWSXrayWriteOnlyAccess          - xray:BatchGetTraces xray:GetServiceGraph
AWSXRayDaemonWriteAccess        + xray:PutTelemetryRecords xray:GetSamplingTargets
AWSXRayDaemonWriteAccess        - xray:BatchGetTraces
AWSCloudTrail_FullAccess        + cloudtrail:StopLogging kms:CreateKey s3:ListAllMyBuckets
AWSCloudTrail_FullAccess        - s3:CreateBucket s3:GetObject iam:PassRole
AWSCloudTrail_FullAccess        + s3:CreateBucket@arn:aws:s3:::aws-cloudtrail-logs-1
AWSCloudTrail_ReadOnlyAccess    + cloudtrail:LookupEvents cloudtrail:GetTrailStatus
AWSCloudTrail_ReadOnlyAccess    - cloudtrail:StopLogging s3:GetObject
AWSCloudFormationFullAccess     + cloudformation:CreateStack cloudformation:DeleteStack
AWSCloudFormationFullAccess     - iam:PassRole s3:GetObject
AWSCloudFormationReadOnlyAccess + cloudformation:DescribeStacks cloudformation:DetectStackDrift
AWSCloudFormationReadOnlyAccess - cloudformation:CreateStack
AWSCodeBuildAdminAccess         + codebuild:CreateProject codecommit:ListRepositories logs:GetLogEvents
AWSCodeBuildAdminAccess         - ssm:PutParameter iam:PassRole s3:GetObject codecommit:DeleteRepository
AWSCodeBuildReadOnlyAccess      + codebuild:BatchGetBuilds logs:GetLogEvents
AWSCodeBuildReadOnlyAccess      - codebuild:StartBuild codebuild:DeleteProject
AWSCodeCommitFullAccess         + codecommit:DeleteRepository codecommit:GitPush iam:ListUsers
AWSCodeCommitFullAccess         - events:PutRule iam:UploadSSHPublicKey
AWSCodeCommitFullAccess         + iam:UploadSSHPublicKey@arn:aws:iam::111111111111:user/ann
AWSCodeCommitPowerUser          + codecommit:CreateRepository codecommit:GitPush
AWSCodeCommitPowerUser          - codecommit:DeleteRepository iam:UploadSSHPublicKey
AWSCodeCommitReadOnly           + codecommit:GitPull codecommit:GetBranch
AWSCodeCommitReadOnly           - codecommit:GitPush codecommit:CreateBranch
AWSCodeDeployFullAccess         + codedeploy:CreateDeployment codedeploy:DeleteApplication
AWSCodeDeployFullAccess         - ec2:DescribeInstances iam:PassRole
AWSCodePipeline_FullAccess      + codepipeline:CreatePipeline codebuild:CreateProject iam:ListRoles
AWSCodePipeline_FullAccess      - s3:GetObject iam:PassRole events:PutRule
AWSCodePipeline_ReadOnlyAccess  + codepipeline:GetPipeline codepipeline:ListPipelines
AWSCodePipeline_ReadOnlyAccess  - codepipeline:StartPipelineExecution s3:GetObject
"""
ROWS = [row for row in MEANING.splitlines() if row]


@pytest.mark.parametrize("row", ROWS)
def test_a_managed_policy_means_what_its_name_says(row):
    name, sign, *requests = row.split()
    assert [one for one in requests if allowed(name, *one.split("@")) is not (sign == "+")] == []


def test_the_meaning_of_every_managed_policy_is_tested():
    allows = {row.split()[0] for row in ROWS if row.split()[1] == "+"}
    assert policies().keys() - allows == {"AWSDenyAll"}


def test_a_user_may_change_only_its_own_password():
    assert allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "ann")
    assert allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "staff/ann")
    assert not allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "bob")
    assert not allowed("IAMUserChangePassword", "iam:ChangePassword", USER + "staff/bob")


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("IAMUserSSHKeys", "iam:UploadSSHPublicKey"),
        ("IAMSelfManageServiceSpecificCredentials", "iam:CreateServiceSpecificCredential"),
        ("AWSCodeCommitPowerUser", "iam:UploadSSHPublicKey"),
    ],
)
def test_a_user_may_manage_only_its_own_keys(name, action):
    assert allowed(name, action, USER + "ann")
    assert not allowed(name, action, USER + "bob")


@pytest.mark.parametrize(
    ("name", "service", "role"),
    [
        ("AmazonDynamoDBFullAccess", "dax", "any"),
        ("AWSLambda_FullAccess", "lambda", "any"),
        ("AmazonECS_FullAccess", "ecs-tasks", "any"),
        ("AmazonECS_FullAccess", "ecs", "ecsInfrastructureRole"),
        ("AWSCodePipeline_FullAccess", "codepipeline", "any"),
        ("AWSCloudTrail_FullAccess", "cloudtrail", "any"),
        ("AmazonEventBridgeFullAccess", "scheduler", "any"),
        ("AmazonElasticFileSystemFullAccess", "elasticfilesystem", "any"),
        ("AWSGlueConsoleFullAccess", "glue", "AWSGlueServiceRole-jobs"),
        ("DataScientist", "sagemaker", "any"),
    ],
)
def test_a_role_is_passed_to_the_named_service_alone(name, service, role):
    assert allowed(name, "iam:PassRole", ROLE + role, iam_passedtoservice=(f"{service}.amazonaws.com",))
    assert not allowed(name, "iam:PassRole", ROLE + role, iam_passedtoservice=("rds.amazonaws.com",))
    assert not allowed(name, "iam:PassRole", ROLE + role)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("AWSGlueConsoleFullAccess", "AWSGlueServiceRole-jobs"),
        ("DatabaseAdministrator", "rds-monitoring-role"),
        ("NetworkAdministrator", "flow-logs-all"),
        ("SystemAdministrator", "ec2-sysadmin-web"),
    ],
)
def test_only_a_role_of_the_named_kind_is_passed(name, role):
    service = {"iam_passedtoservice": ("glue.amazonaws.com",)}
    assert allowed(name, "iam:PassRole", ROLE + role, **service)
    assert not allowed(name, "iam:PassRole", ROLE + "admin", **service)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("AmazonEC2FullAccess", "spot"),
        ("AmazonRDSFullAccess", "rds"),
        ("AmazonRoute53FullAccess", "route53healthchecks"),
        ("AmazonEC2ContainerRegistryFullAccess", "replication.ecr"),
        ("AmazonEKSClusterPolicy", "elasticloadbalancing"),
        ("AutoScalingFullAccess", "autoscaling"),
        ("ElasticLoadBalancingFullAccess", "elasticloadbalancing"),
        ("AmazonElasticFileSystemFullAccess", "elasticfilesystem"),
        ("AmazonCognitoPowerUser", "cognito-idp"),
        ("IAMAccessAnalyzerFullAccess", "access-analyzer"),
        ("AWSOrganizationsFullAccess", "organizations"),
        ("NetworkAdministrator", "transitgateway"),
    ],
)
def test_a_service_linked_role_is_created_for_the_named_service_alone(name, service):
    assert allowed(name, "iam:CreateServiceLinkedRole", iam_awsservicename=(f"{service}.amazonaws.com",))
    assert not allowed(name, "iam:CreateServiceLinkedRole", iam_awsservicename=("ssm.amazonaws.com",))


def test_text_messages_are_sent_only_through_sns():
    assert allowed("AmazonSNSFullAccess", "sms-voice:SendTextMessage", aws_calledvialast=("sns.amazonaws.com",))
    assert not allowed("AmazonSNSFullAccess", "sms-voice:SendTextMessage", aws_calledvialast=("ses.amazonaws.com",))
    assert not allowed("AmazonSNSReadOnlyAccess", "sms-voice:SendTextMessage", aws_calledvialast=("sns.amazonaws.com",))


def test_insights_are_searched_for_rds_alone():
    names = "devops-guru_servicenames"
    assert allowed("AmazonRDSReadOnlyAccess", "devops-guru:SearchInsights", **{names: ("RDS",)})
    assert not allowed("AmazonRDSReadOnlyAccess", "devops-guru:SearchInsights", **{names: ("RDS", "EKS")})


def test_eks_deletes_only_the_network_interfaces_of_its_own_plugin():
    owner = "ec2_resourcetag/eks:eni:owner"
    assert allowed("AmazonEKSClusterPolicy", "ec2:DeleteNetworkInterface", **{owner: ("amazon-vpc-cni",)})
    assert not allowed("AmazonEKSClusterPolicy", "ec2:DeleteNetworkInterface", **{owner: ("ann",)})


def test_a_data_scientist_does_not_manage_the_domains_of_sagemaker():
    arn = "arn:aws:sagemaker:eu-west-1:111111111111:"
    assert allowed("DataScientist", "sagemaker:CreateModel", arn + "model/one")
    assert allowed("DataScientist", "sagemaker:DescribeDomain", arn + "domain/one")
    assert not allowed("DataScientist", "sagemaker:DeleteDomain", arn + "domain/one")


def test_every_file_is_a_managed_policy_with_its_arn_and_a_lasting_id():
    found = load()
    names = {file.name for file in files("iam.policy.managed").iterdir() if file.name.endswith(".json")}
    assert {f"{policy.name}.json" for policy in found.values()} == names
    assert len(found) == len(names)
    assert found["arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"].path == "/job-function/"
    assert found["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"].path == "/service-role/"
    for arn, policy in found.items():
        assert arn == policy.arn == policy.policy.label
        assert policy.created.tzinfo == UTC
        assert len(policy.policy_id) == 21
        assert policy.policy_id.startswith("ANPA")
    assert {one.policy_id for one in found.values()} == {one.policy_id for one in load().values()}
    assert len({one.policy_id for one in found.values()}) == len(names)
