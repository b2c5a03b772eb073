"""What the gate tells of policies: findings when one is written, the simulator, and what a denial lacks."""

import json

import pytest
from support.administrator import Administrator, allow, deny, refused, statements, trust


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation)


def last_record(installation):
    lines = [line for file in installation.settings.audit_dir.glob("*.jsonl") for line in file.read_text().splitlines()]
    return max(map(json.loads, lines), key=lambda record: record["seq"])


QUESTIONABLE = allow("s3:GetObjet", Condition={"StringNotEquals": {"aws:username": "a"}})
WRITES = {
    "CreatePolicy": {"PolicyName": "p", "PolicyDocument": QUESTIONABLE},
    "PutUserPolicy": {"UserName": "ann", "PolicyName": "p", "PolicyDocument": QUESTIONABLE},
    "PutGroupPolicy": {"GroupName": "g", "PolicyName": "p", "PolicyDocument": QUESTIONABLE},
    "PutRolePolicy": {"RoleName": "r", "PolicyName": "p", "PolicyDocument": QUESTIONABLE},
    "CreatePolicyVersion": {"PolicyArn": "", "PolicyDocument": QUESTIONABLE},
    "CreateRole": {"RoleName": "open", "AssumeRolePolicyDocument": trust("*")},
    "UpdateAssumeRolePolicy": {"RoleName": "r", "PolicyDocument": trust("*")},
}


@pytest.mark.parametrize("operation", WRITES)
def test_whoever_writes_a_questionable_policy_is_told_and_it_is_recorded(installation, admin, operation):
    admin.do("CreateUser", UserName="ann")
    admin.do("CreateGroup", GroupName="g")
    admin.role("r")
    shared = admin.policy("shared", allow("s3:GetObject"))
    given = WRITES[operation] | ({"PolicyArn": shared} if "PolicyArn" in WRITES[operation] else {})
    told = admin.do(operation, **given).headers["x-fedgate-policy-findings"]
    grave = "TRUST_TO_EVERYONE Statement[0].Principal"
    if "AssumeRole" not in operation and operation != "CreateRole":
        grave = "NEGATED_OPERATOR_WITH_ALLOW Statement[0].Condition.StringNotEquals.aws:username"
        assert told.startswith("ERROR INVALID_ACTION Statement[0].Action; ")
    assert f"SECURITY_WARNING {grave}" in told
    assert f"SECURITY_WARNING {grave}" in last_record(installation)["additionalEventData"]["policyFindings"]


def test_a_policy_without_a_fault_and_a_call_that_writes_none_have_no_such_header(admin):
    answer = admin.do("CreatePolicy", PolicyName="p", PolicyDocument=allow("s3:GetObject", "arn:aws:s3:::b/*"))
    assert "x-fedgate-policy-findings" not in answer.headers
    assert "x-fedgate-policy-findings" not in admin.do("ListPolicies").headers


def test_the_header_is_one_short_line_of_ascii_whatever_the_author_wrote(admin):
    many = {f"aws:é\n{number}": "x" for number in range(100)}
    document = allow(Condition={"StringEquals": many})
    told = admin.do("CreatePolicy", PolicyName="p", PolicyDocument=document).headers["x-fedgate-policy-findings"]
    assert told.isascii()
    assert told.isprintable()
    assert len(told) == 1024


def test_the_record_tells_some_findings_and_counts_the_rest(installation, admin):
    document = allow([f"nowhere:Do{number}" for number in range(40)])
    admin.do("CreatePolicy", PolicyName="p", PolicyDocument=document)
    *told, rest = last_record(installation)["additionalEventData"]["policyFindings"]
    assert (len(told), rest) == (20, "and 20 more")


def test_a_policy_that_no_quota_has_room_for_is_refused_unread(installation, admin):
    document = allow([f"nowhere:Do{number}" for number in range(1_000)])
    answer = installation.call("CreatePolicy", admin.root, PolicyName="p", PolicyDocument=document)
    refused(answer, 409, "LimitExceeded")
    assert "x-fedgate-policy-findings" not in answer.headers
    assert "policyFindings" not in last_record(installation).get("additionalEventData", {})


def test_a_malformed_policy_is_refused_by_the_operation_itself(installation, admin):
    answer = installation.call("CreatePolicy", admin.root, PolicyName="p", PolicyDocument="{")
    refused(answer, 400, "MalformedPolicyDocument", "Syntax errors in policy.")
    assert "x-fedgate-policy-findings" not in answer.headers


def simulate(installation, credentials, **more):
    given = {"ActionNames.member.1": "s3:GetObject"} | more
    return installation.call("SimulatePrincipalPolicy", credentials, **given)


def test_whoever_simulates_another_s_policies_needs_leave_for_that_one(installation, admin):
    admin.do("CreateUser", UserName="ann", Path="/eng/")
    ann = admin.arn("user", "eng/ann")
    curious = admin.user("curious", allow("iam:SimulatePrincipalPolicy", admin.arn("user", "other")))
    refused(simulate(installation, curious, PolicySourceArn=ann), 403, "AccessDenied", f"on resource: {ann}")
    allowed = admin.user("allowed", allow("iam:SimulatePrincipalPolicy", admin.arn("user", "eng/*")))
    answer = simulate(installation, allowed, PolicySourceArn=ann)
    assert (answer.status, answer.text("EvalDecision")) == (200, "implicitDeny")
    stranger = Administrator.of_a_new_account(installation)
    refused(simulate(installation, stranger.root, PolicySourceArn=ann), 404, "NoSuchEntity")
    refused(simulate(installation, admin.root, PolicySourceArn="arn:aws:sts::111122223333:assumed-role/r/s"), 400,
            "InvalidInput", "does not clearly define entity type and name")  # fmt: skip


def test_the_audit_record_of_a_denial_says_what_was_missing(installation, admin):
    joe = admin.user("joe", allow("iam:ListUsers", Condition={"Bool": {"aws:SecureTransport": "true"}}))
    refused(installation.call("ListUsers", joe), 403, "AccessDenied")
    more = last_record(installation)["additionalEventData"]
    (missing,) = more["missing"]
    assert missing["layer"] == "identity-based policy"
    assert missing["statement"] == {
        "Effect": "Allow",
        "Action": "iam:ListUsers",
        "Resource": admin.arn("user", ""),
    }
    assert missing["nearest"]["misses"][0]["actual"] == ["false"]


def test_the_audit_record_of_a_refused_assume_role_has_the_reason_that_the_caller_does_not_get(installation, admin):
    ann = admin.user("ann", allow("sts:*"))
    role = admin.role("closed", trust({"Service": "ec2.amazonaws.com"}))
    answer = installation.call("AssumeRole", ann, RoleArn=role, RoleSessionName="x1")
    refused(answer, 403, "AccessDenied")
    assert "because" not in answer.message
    more = last_record(installation)["additionalEventData"]
    assert more["decisions"][0]["layer"] == "role trust policy"
    assert more["missing"][0]["nearest"]["misses"] == [{"part": "principal", "wanted": ["ec2.amazonaws.com"]}]


def test_an_explicit_deny_is_decoded_with_the_statement_that_denies(installation, admin):
    """As AWS's documentation of DecodeAuthorizationMessage shows a matched statement."""
    guarded = statements(allow("*"), deny("iam:ListUsers", Condition={"Bool": {"aws:SecureTransport": "false"}}))
    joe = admin.user("joe", guarded)
    encoded = installation.call("ListUsers", joe).text("EncodedAuthorizationMessage")
    answer = installation.call("DecodeAuthorizationMessage", joe, EncodedMessage=encoded)
    found = json.loads(answer.text("DecodedMessage"))
    assert found["explicitDeny"] is True
    (matched,) = found["matchedStatements"]["items"]
    assert matched["effect"] == "DENY"
    assert matched["actions"] == {"items": [{"value": "iam:ListUsers"}]}
    assert matched["conditions"] == {
        "items": [{"key": "aws:SecureTransport", "values": {"items": [{"value": "false"}]}}]
    }
    assert found["failures"] == {"items": []}
