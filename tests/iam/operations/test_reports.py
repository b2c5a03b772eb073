import base64
import csv
import io

import pytest
from sqlalchemy import update
from support.iam_account import ACCOUNT, TRUST, iam_account

from iam.credentials import login_profile, totp
from iam.credentials.root_login import record_root_sign_in, set_root_login
from iam.errors import CredentialReportExpired, CredentialReportNotPresent, ValidationError
from iam.operations import groups, reports
from iam.operations.credentials import access_keys, mfa, passwords
from iam.operations.credentials.password_policy import update_account_password_policy
from iam.operations.instance_profiles import add_role_to_instance_profile, create_instance_profile
from iam.operations.policies import attachments
from iam.operations.policies import inline as inline_policies
from iam.operations.policies.managed import create_policy, create_policy_version
from iam.operations.roles import create_role
from iam.store.schema import access_key

NOTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}'
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
POWER = "arn:aws:iam::aws:policy/PowerUserAccess"
OURS = f"arn:aws:iam::{ACCOUNT}:policy/none"
# IAM User Guide, "Generate credential reports for your account".
HEADER = (
    "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,"
    "mfa_active,access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,"
    "access_key_1_last_used_region,access_key_1_last_used_service,access_key_2_active,access_key_2_last_rotated,"
    "access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,"
    "cert_1_last_rotated,cert_2_active,cert_2_last_rotated"
)


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


@pytest.fixture
def full(iam):
    """An account with one of everything."""
    iam.user("ann", Tags=[{"Key": "Team", "Value": "x"}], PermissionsBoundary=POWER)
    iam.run(groups.create_group, GroupName="staff")
    iam.run(groups.add_user_to_group, GroupName="staff", UserName="ann")
    iam.run(create_role, RoleName="app", AssumeRolePolicyDocument=TRUST)
    iam.run(create_instance_profile, InstanceProfileName="web")
    iam.run(add_role_to_instance_profile, InstanceProfileName="web", RoleName="app")
    iam.run(create_policy, PolicyName="none", PolicyDocument=NOTHING)
    iam.run(create_policy_version, PolicyArn=OURS, PolicyDocument=NOTHING)
    iam.run(inline_policies.put_user_policy, UserName="ann", PolicyName="own", PolicyDocument=NOTHING)
    iam.run(inline_policies.put_group_policy, GroupName="staff", PolicyName="own", PolicyDocument=NOTHING)
    iam.run(inline_policies.put_role_policy, RoleName="app", PolicyName="own", PolicyDocument=NOTHING)
    iam.run(attachments.attach_group_policy, GroupName="staff", PolicyArn=READ_ONLY)
    iam.run(attachments.attach_role_policy, RoleName="app", PolicyArn=OURS)
    return iam


def details(iam, who=None, /, **p):
    return iam.run(reports.get_account_authorization_details, who, **p)


def test_the_details_show_users_with_groups_policies_boundary_and_tags(full):
    (user,) = details(full)["UserDetailList"]
    assert user["UserName"] == "ann"
    assert user["GroupList"] == ["staff"]
    assert user["UserPolicyList"] == [{"PolicyName": "own", "PolicyDocument": NOTHING}]
    assert user["AttachedManagedPolicies"] == []
    assert user["PermissionsBoundary"]["PermissionsBoundaryArn"] == POWER
    assert user["Tags"] == [{"Key": "Team", "Value": "x"}]


def test_the_details_show_groups_and_roles(full):
    found = details(full)
    (group,), (role,) = found["GroupDetailList"], found["RoleDetailList"]
    assert group["AttachedManagedPolicies"] == [{"PolicyName": "ReadOnlyAccess", "PolicyArn": READ_ONLY}]
    assert group["GroupPolicyList"] == [{"PolicyName": "own", "PolicyDocument": NOTHING}]
    assert role["AssumeRolePolicyDocument"] == TRUST
    assert role["RolePolicyList"] == [{"PolicyName": "own", "PolicyDocument": NOTHING}]
    assert role["AttachedManagedPolicies"] == [{"PolicyName": "none", "PolicyArn": OURS}]
    assert [one["InstanceProfileName"] for one in role["InstanceProfileList"]] == ["web"]


def test_the_details_show_own_policies_and_those_of_aws_that_are_in_use(full):
    found = {one["Arn"]: one for one in details(full)["Policies"]}
    assert set(found) == {OURS, READ_ONLY, POWER}
    assert [one["VersionId"] for one in found[OURS]["PolicyVersionList"]] == ["v2", "v1"]
    assert {one["Document"] for one in found[OURS]["PolicyVersionList"]} == {NOTHING}
    assert found[POWER]["PermissionsBoundaryUsageCount"] == 1
    assert found[READ_ONLY]["AttachmentCount"] == 1


FILTERS = [
    ("User", "UserDetailList", 1),
    ("Group", "GroupDetailList", 1),
    ("Role", "RoleDetailList", 1),
    ("LocalManagedPolicy", "Policies", 1),
    ("AWSManagedPolicy", "Policies", 2),
]


@pytest.mark.parametrize(("name", "member", "count"), FILTERS)
def test_a_filter_shows_its_own_list_alone(full, name, member, count):
    found = details(full, Filter=[name])
    assert {key: len(value) for key, value in found.items() if isinstance(value, list) and value} == {member: count}


def test_pages_of_every_size_add_up_to_the_whole(full):
    whole = {key: value for key, value in details(full).items() if isinstance(value, list)}
    assert sum(map(len, whole.values())) == 6
    for size in range(1, 7):
        seen = {key: [] for key in whole}
        page = details(full, MaxItems=size)
        for _ in range(10):
            for key, rows in seen.items():
                rows.extend(page[key])
            if not page["IsTruncated"]:
                break
            page = details(full, MaxItems=size, Marker=page["Marker"])
        assert seen == whole, size
    with pytest.raises(ValidationError):
        details(full, Marker="garbage")


def test_another_account_is_not_in_the_details(full):
    stranger = full.another("999999999999")
    assert not any(value for value in details(full, stranger).values() if isinstance(value, list))


# --- the credential report


def report(iam) -> list[dict[str, str]]:
    iam.run(reports.generate_credential_report)
    got = iam.run(reports.get_credential_report)
    return list(csv.DictReader(io.StringIO(got["Content"].decode())))


def test_a_report_is_generated_before_it_is_read_and_good_for_four_hours(iam):
    with pytest.raises(CredentialReportNotPresent):
        iam.run(reports.get_credential_report)
    assert iam.run(reports.generate_credential_report)["State"] == "STARTED"
    assert iam.run(reports.generate_credential_report) == {"State": "COMPLETE"}
    made = iam.now
    iam.user("ann")
    iam.later(hours=3, minutes=59)
    got = iam.run(reports.get_credential_report)
    assert (got["ReportFormat"], got["GeneratedTime"]) == ("text/csv", made)
    assert iam.run(reports.generate_credential_report) == {"State": "COMPLETE"}
    assert b"ann" not in iam.run(reports.get_credential_report)["Content"]
    iam.later(minutes=1)
    with pytest.raises(CredentialReportExpired):
        iam.run(reports.get_credential_report)
    iam.run(reports.generate_credential_report)
    assert b"ann" in iam.run(reports.get_credential_report)["Content"]


def test_the_columns_are_those_of_aws_and_the_last_line_ends_the_text(iam):
    iam.run(reports.generate_credential_report)
    text = iam.run(reports.get_credential_report)["Content"].decode()
    assert text.splitlines()[0] == HEADER
    assert len(text.splitlines()) == 2
    assert not text.endswith("\n")


def passwords_in(line: dict[str, str]) -> list[str]:
    return [line[f"password_{what}"] for what in ("enabled", "last_used", "last_changed", "next_rotation")]


def test_the_line_of_a_root_that_signs_in_to_the_page(iam):
    with iam.writing() as tx:
        set_root_login(
            tx, ACCOUNT, "root@example.com", "Quill-of-41-herons", now=iam.now, random=bytes, reset_required=True
        )
    assert passwords_in(report(iam)[0]) == ["true", "no_information", "not_supported", "not_supported"]
    iam.later(hours=4)
    with iam.writing() as tx:
        record_root_sign_in(tx, ACCOUNT, iam.now)
    used = "2026-03-01T16:00:00+00:00"
    assert passwords_in(report(iam)[0]) == ["true", used, "not_supported", "not_supported"]


def test_the_line_of_root(iam):
    (line,) = report(iam)
    assert line["user"] == "<root_account>"
    assert line["arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    assert line["user_creation_time"] == "2026-03-01T12:00:00+00:00"
    assert passwords_in(line) == ["false", "N/A", "not_supported", "not_supported"]
    assert (line["mfa_active"], line["access_key_1_active"], line["access_key_2_active"]) == ("false", "true", "false")


def test_a_user_with_nothing_has_nothing(iam):
    iam.user("ann")
    line = report(iam)[1]
    assert line["arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert {line[name] for name in line if name.endswith(("_active", "_enabled"))} == {"false"}
    rest = [name for name in line if not name.endswith(("_active", "_enabled"))][3:]
    assert {line[name] for name in rest} == {"N/A"}


def test_a_user_with_everything(iam):
    ann = iam.user("ann")
    iam.run(update_account_password_policy, MaxPasswordAge=10)
    iam.run(passwords.create_login_profile, UserName="ann", Password="Quill-of-41-herons")
    assert report(iam)[1]["password_last_used"] == "no_information"
    iam.later(hours=5)
    first = iam.run(access_keys.create_access_key, UserName="ann")["AccessKey"]["AccessKeyId"]
    iam.later(hours=1)
    second = iam.run(access_keys.create_access_key, UserName="ann")["AccessKey"]["AccessKeyId"]
    iam.run(access_keys.update_access_key, UserName="ann", AccessKeyId=second, Status="Inactive")
    used = {"last_used": int(iam.now.timestamp() * 1000), "last_used_service": "sts", "last_used_region": "us-east-1"}
    with iam.writing() as tx:
        login_profile.record_sign_in(tx, ann.entity_id, iam.now)
        tx.execute(update(access_key).where(access_key.c.id == first).values(used))
    made = iam.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone")["VirtualMFADevice"]
    seed, step = base64.b32decode(made["Base32StringSeed"]), totp.step_at(iam.now)
    codes = {f"AuthenticationCode{n}": totp.code_at(seed, step - 2 + n) for n in (1, 2)}
    iam.run(mfa.enable_mfa_device, UserName="ann", SerialNumber=made["SerialNumber"], **codes)
    line = report(iam)[1]
    assert ",".join(line.values()) == (
        f"ann,arn:aws:iam::{ACCOUNT}:user/ann,2026-03-01T12:00:00+00:00,true,2026-03-01T18:00:00+00:00,"
        "2026-03-01T12:00:00+00:00,2026-03-11T12:00:00+00:00,true,"
        "true,2026-03-01T17:00:00+00:00,2026-03-01T18:00:00+00:00,us-east-1,sts,"
        "false,2026-03-01T18:00:00+00:00,N/A,N/A,N/A,false,N/A,false,N/A"
    )
    assert report(iam)[0]["mfa_active"] == "false", "the device of a user is not root's"


def test_a_name_with_a_comma_stays_in_its_column(iam):
    iam.user("a,b")
    assert report(iam)[1]["user"] == "a,b"
