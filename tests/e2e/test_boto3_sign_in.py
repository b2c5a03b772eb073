"""From a password of a real directory to temporary credentials, and what boto3 can do with them."""

import base64
import json
import re
import time
from datetime import UTC, datetime

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import ACCOUNT, Broker, allow, document, fetch, role_arn, trusting

from iam.credentials.totp import code_at, step_at


def refusal(call, **parameters) -> tuple[str, str, int]:
    """Return code, message and status of a call that is refused."""
    with pytest.raises(ClientError) as raised:
        call(**parameters)
    error = raised.value.response
    return error["Error"]["Code"], error["Error"]["Message"], error["ResponseMetadata"]["HTTPStatusCode"]


def chain(broker: Broker, credentials: Credentials, role: str, **more) -> Credentials:
    answer = broker.client("sts", credentials).assume_role(RoleArn=role_arn(role), RoleSessionName="chain", **more)
    made = answer["Credentials"]
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def test_a_password_of_the_directory_becomes_credentials_that_boto3_uses(served):
    answer = served.sign_in("alice", "Administrator", DurationSeconds=7200)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.text("Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/Administrator/alice"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.text("RequestId"))
    left = datetime.fromisoformat(answer.text("Expiration")) - datetime.now(UTC)
    assert 7190 < left.total_seconds() <= 7200
    who = served.client("sts", answer.credentials).get_caller_identity()
    assert (who["Account"], who["Arn"]) == (ACCOUNT, answer.text("Arn"))
    assert who["UserId"] == answer.text("AssumedRoleId")


def test_an_allowed_call_works_and_a_denied_one_says_who_may_not_do_what(served):
    iam = served.client("iam", served.credentials("bob", "Reader"))
    assert "Reader" in {role["RoleName"] for role in iam.list_roles()["Roles"]}
    code, message, status = refusal(iam.create_user, UserName="eve")
    assert (code, status) == ("AccessDenied", 403)
    assert message == (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob is not authorized to perform: iam:CreateUser"
        f" on resource: arn:aws:iam::{ACCOUNT}:user/eve"
        " because no identity-based policy allows the iam:CreateUser action"
    )


def test_without_a_role_the_only_one_that_trusts_the_person_is_taken(served):
    assert served.sign_in("dave").text("Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/Archive/dave"


def test_without_a_role_several_that_trust_the_person_are_listed(served):
    answer = served.sign_in("alice")
    assert answer.code == "ValidationError"
    assert role_arn("Administrator") in answer.message
    assert role_arn("Reader") in answer.message
    assert role_arn("Archive") not in answer.message


@pytest.mark.parametrize(
    ("user", "role"), [("bob", "Administrator"), ("frank", "Reader"), ("frank", None), ("bob", "NoSuchRole")]
)
def test_a_person_outside_the_trusted_groups_gets_nothing(served, user, role):
    answer = served.sign_in(user, role)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert answer.message == "Not authorized to perform sts:AssumeRoleWithLDAPIdentity"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(served):
    answers = [
        served.sign_in("erin", "Reader", password="not-this-one"),
        served.sign_in("nobody", "Reader", password="whatever"),
    ]
    assert {(one.status, one.code, one.message) for one in answers} == {
        (403, "IDPRejectedClaim", "The identity provider did not accept the user name or the password.")
    }


def test_a_session_shorter_than_fifteen_minutes_is_refused(served):
    answer = served.sign_in("alice", "Administrator", DurationSeconds=899)
    assert (answer.status, answer.code) == (400, "ValidationError")


def test_a_session_policy_narrows_and_never_widens(served):
    narrowed = served.credentials("alice", "Administrator", Policy=allow("iam:ListUsers"))
    iam = served.client("iam", narrowed)
    iam.list_users()
    code, message, _ = refusal(iam.list_roles)
    assert (code, message.endswith("because no session policy allows the iam:ListRoles action")) == (
        "AccessDenied",
        True,
    )
    wider = served.credentials("dave", "Archive", Policy=allow("*"))
    assert refusal(served.client("iam", wider).list_roles)[0] == "AccessDenied"


def test_a_managed_session_policy_narrows(served):
    arn = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"
    iam = served.client("iam", served.credentials("alice", "Administrator", **{"PolicyArns.member.1.arn": arn}))
    iam.list_users()
    assert refusal(iam.create_user, UserName="eve")[0] == "AccessDenied"


def test_session_tags_decide_and_reach_the_next_role_where_they_are_transitive(served):
    name = f"Tagged{time.monotonic_ns()}"
    blue_team = {"StringEquals": {"aws:PrincipalTag/team": "blue"}}
    reader = {"Principal": {"AWS": ACCOUNT}, "Action": ["sts:AssumeRole", "sts:TagSession"]}
    listing = {"Action": "iam:ListUsers", "Resource": "*"}
    served.role(
        name,
        document({"Effect": "Allow", **reader, "Condition": blue_team}),
        document({"Effect": "Allow", **listing, "Condition": blue_team}),
    )
    blue = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "blue"}
    person = json.loads(trusting("staff"))["Statement"][0]
    person |= {"Action": ["sts:AssumeRoleWithLDAPIdentity", "sts:TagSession"]}
    served.role(f"{name}First", document(person), allow("sts:*"))
    time.sleep(1)  # until every worker knows the new roles
    tagged = served.credentials("bob", f"{name}First", **blue)
    chained = chain(served, tagged, name)
    assert refusal(served.client("iam", chained).list_users)[0] == "AccessDenied"
    kept = chain(served, tagged, name, Tags=[{"Key": "team", "Value": "blue"}], TransitiveTagKeys=["team"])
    served.client("iam", kept).list_users()
    untagged = served.client("sts", served.credentials("bob", f"{name}First"))
    assert refusal(untagged.assume_role, RoleArn=role_arn(name), RoleSessionName="bare")[0] == "AccessDenied"


def test_a_chained_role_works_for_an_hour_at_most(served):
    reader = served.credentials("carol", "Reader")
    first = chain(served, reader, "Chained")
    who = served.client("sts", first).get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Chained/chain"
    served.client("iam").update_role(RoleName="Chained", MaxSessionDuration=7200)
    time.sleep(1)  # until every worker knows the new limit
    sts = served.client("sts", reader)
    asked = {"RoleArn": role_arn("Chained"), "RoleSessionName": "chain", "DurationSeconds": 3601}
    code, message, _ = refusal(sts.assume_role, **asked)
    assert (code, "1 hour session limit" in message) == ("ValidationError", True)


def test_the_owner_of_the_account_assumes_no_role(served):
    sts = served.client("sts")
    code, message, _ = refusal(sts.assume_role, RoleArn=role_arn("Reader"), RoleSessionName="root")
    assert (code, message) == ("AccessDenied", "Roles may not be assumed by root accounts.")


def test_a_presigned_get_caller_identity_proves_who_signed_it(served):
    credentials = served.credentials("bob", "Reader")
    url = served.client("sts", credentials).generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert fetch(url).text("Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob"


def test_a_session_with_mfa_opens_what_asks_for_it(served):
    name = f"mfa-{time.monotonic_ns()}"
    iam = served.client("iam")
    iam.create_user(UserName=name)
    only_with_mfa = (
        '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*",'
        '"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}}'
    )
    iam.put_user_policy(UserName=name, PolicyName="mfa", PolicyDocument=only_with_mfa)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    time.sleep(1)  # until every worker knows user and policy
    user = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
    assert refusal(served.client("iam", user).list_users)[0] == "AccessDenied"
    serial, seed, step = enable_mfa(iam, name)
    sts = served.client("sts", user)
    # Codes of the last two steps were spent by enabling; the next one is within the window already.
    code = code_at(seed, step + 1)
    made = sts.get_session_token(SerialNumber=serial, TokenCode=code)["Credentials"]
    session = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    served.client("iam", session).list_users()
    code, message, _ = refusal(sts.get_session_token, SerialNumber=serial, TokenCode=code)
    assert message == "MultiFactorAuthentication failed with invalid MFA one time pass code."
    plain = sts.get_session_token()["Credentials"]
    without = Credentials(plain["AccessKeyId"], plain["SecretAccessKey"], plain["SessionToken"])
    assert refusal(served.client("iam", without).list_users)[0] == "InvalidClientTokenId"


def enable_mfa(iam, name: str) -> tuple[str, bytes, int]:
    """Give a user a virtual device; return its serial, its seed and the last step that enabling spent."""
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]
    seed = base64.b32decode(device["Base32StringSeed"])
    step = step_at(datetime.now(UTC))
    iam.enable_mfa_device(
        UserName=name,
        SerialNumber=device["SerialNumber"],
        AuthenticationCode1=code_at(seed, step - 1),
        AuthenticationCode2=code_at(seed, step),
    )
    return device["SerialNumber"], seed, step
