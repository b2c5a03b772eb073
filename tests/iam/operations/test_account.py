import base64

import botocore.loaders
import pytest
from support.iam_account import ACCOUNT, TRUST, iam_account

from iam.credentials import totp
from iam.errors import EntityAlreadyExists, NoSuchEntity, ValidationError
from iam.operations import account
from iam.operations.credentials import mfa
from iam.operations.groups import create_group
from iam.operations.instance_profiles import create_instance_profile
from iam.operations.policies.managed import create_policy, create_policy_version
from iam.operations.roles import create_role

NOTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}'


@pytest.fixture
def iam(tmp_path):
    return iam_account(tmp_path)


def aliases(iam, who=None):
    return iam.run(account.list_account_aliases, who)["AccountAliases"]


def summary(iam, who=None):
    return iam.run(account.get_account_summary, who)["SummaryMap"]


def test_a_new_alias_replaces_the_old_one(iam):
    assert aliases(iam) == ["example-corp"]
    iam.run(account.create_account_alias, AccountAlias="acme")
    assert aliases(iam) == ["acme"]
    with pytest.raises(NoSuchEntity):
        iam.run(account.delete_account_alias, AccountAlias="example-corp")
    iam.run(account.delete_account_alias, AccountAlias="acme")
    assert iam.run(account.list_account_aliases) == {"AccountAliases": [], "IsTruncated": False}


def test_an_alias_belongs_to_one_account(iam):
    stranger = iam.another("999999999999")
    with pytest.raises(EntityAlreadyExists, match=r"The account alias example-corp already exists\."):
        iam.run(account.create_account_alias, stranger, AccountAlias="example-corp")
    assert aliases(iam, stranger) == []
    with pytest.raises(NoSuchEntity):
        iam.run(account.delete_account_alias, stranger, AccountAlias="example-corp")


@pytest.mark.parametrize(
    "alias", ["ab", "-abc", "abc-", "a--b", "ABC", "a_b", "a" * 64, "999999999999", "9999-9999-9999", "9-99999999999"]
)
def test_what_is_no_alias_or_poses_as_an_account_id_is_refused(iam, alias):
    with pytest.raises(ValidationError):
        iam.run(account.create_account_alias, AccountAlias=alias)
    assert aliases(iam) == ["example-corp"]


def test_the_summary_has_every_key_of_the_service_model(iam):
    model = botocore.loaders.Loader().load_service_model("iam", "service-2")
    assert set(summary(iam)) == set(model["shapes"]["summaryKeyType"]["enum"])


def test_the_summary_counts_what_is_there_in_this_account_alone(iam):
    stranger = iam.another("999999999999")
    before = summary(iam)
    for name in ("ann", "bob"):
        iam.user(name)
    iam.run(create_group, GroupName="staff")
    iam.run(create_role, RoleName="app", AssumeRolePolicyDocument=TRUST)
    iam.run(create_instance_profile, InstanceProfileName="web")
    arn = iam.run(create_policy, PolicyName="none", PolicyDocument=NOTHING)["Policy"]["Arn"]
    iam.run(create_policy_version, PolicyArn=arn, PolicyDocument=NOTHING)
    iam.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone")
    after = summary(iam)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {
        "Users": 2,
        "Groups": 1,
        "Roles": 1,
        "InstanceProfiles": 1,
        "Policies": 1,
        "PolicyVersionsInUse": 2,
        "MFADevices": 1,
    }
    assert summary(iam, stranger)["Users"] == 0


def test_the_summary_tells_whether_root_has_mfa_and_keys(iam):
    before = summary(iam)
    assert (before["AccountMFAEnabled"], before["AccountAccessKeysPresent"]) == (0, 1)
    made = iam.run(mfa.create_virtual_mfa_device, VirtualMFADeviceName="phone")["VirtualMFADevice"]
    seed, step = base64.b32decode(made["Base32StringSeed"]), totp.step_at(iam.now)
    iam.run(
        mfa.enable_mfa_device,
        UserName=ACCOUNT,
        SerialNumber=made["SerialNumber"],
        AuthenticationCode1=totp.code_at(seed, step - 1),
        AuthenticationCode2=totp.code_at(seed, step),
    )
    after = summary(iam)
    assert (after["AccountMFAEnabled"], after["MFADevicesInUse"]) == (1, 1)


def test_the_summary_shows_the_quotas_in_force(iam):
    iam.limit(roles_per_account=250, managed_policy_size=1, mfa_devices_per_user=3)
    found = summary(iam)
    assert (found["RolesQuota"], found["PolicySizeQuota"], found["UsersQuota"]) == (250, 1, 5000)


@pytest.mark.parametrize(("name", "version"), [("v1Token", 1), ("v2Token", 2)])
def test_the_token_version_is_kept(iam, name, version):
    assert summary(iam)["GlobalEndpointTokenVersion"] == 2
    iam.run(account.set_security_token_service_preferences, GlobalEndpointTokenVersion=name)
    assert summary(iam)["GlobalEndpointTokenVersion"] == version
