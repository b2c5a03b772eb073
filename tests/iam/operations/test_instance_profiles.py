import pytest
from support.iam_account import ACCOUNT, TRUST, iam_account
from support.threads import at_once

from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity, ValidationError
from iam.operations import instance_profiles as profiles
from iam.operations.roles import create_role, delete_role


@pytest.fixture
def iam(tmp_path):
    made = iam_account(tmp_path)
    for name in ("app", "other"):
        made.run(create_role, RoleName=name, AssumeRolePolicyDocument=TRUST)
    return made


def create(iam, name="web", **p):
    return iam.run(profiles.create_instance_profile, InstanceProfileName=name, **p)["InstanceProfile"]


def add(iam, name="web", role="app"):
    iam.run(profiles.add_role_to_instance_profile, InstanceProfileName=name, RoleName=role)


def get(iam, name="web"):
    return iam.run(profiles.get_instance_profile, InstanceProfileName=name)["InstanceProfile"]


def test_a_new_instance_profile_has_a_name_an_id_and_no_role(iam):
    tags = [{"Key": "Team", "Value": "x"}]
    made = create(iam, Path="/eng/", Tags=tags)
    assert made["InstanceProfileId"].startswith("AIPA")
    assert made == {
        "Path": "/eng/",
        "InstanceProfileName": "web",
        "InstanceProfileId": made["InstanceProfileId"],
        "Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/eng/web",
        "CreateDate": iam.now,
        "Roles": [],
        "Tags": tags,
    }
    assert get(iam, "WEB") == made


def test_a_name_is_taken_once_whatever_its_case_in_an_account(iam):
    create(iam)
    with pytest.raises(EntityAlreadyExists, match=r"Instance Profile WEB already exists\."):
        create(iam, "WEB")
    stranger = iam.another("999999999999")
    iam.run(profiles.create_instance_profile, stranger, InstanceProfileName="web")
    assert len(iam.run(profiles.list_instance_profiles, stranger)["InstanceProfiles"]) == 1


def test_the_quota_holds(iam):
    iam.limit(instance_profiles_per_account=1)
    create(iam)
    with pytest.raises(LimitExceeded, match="Cannot exceed quota for InstanceProfilesPerAccount: 1"):
        create(iam, "second")


def test_an_instance_profile_holds_one_role(iam):
    create(iam)
    add(iam)
    (role,) = get(iam)["Roles"]
    assert (role["RoleName"], role["AssumeRolePolicyDocument"]) == ("app", TRUST)
    for name in ("app", "other"):
        with pytest.raises(LimitExceeded, match="Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1"):
            add(iam, role=name)
    with pytest.raises(NoSuchEntity):
        iam.run(profiles.remove_role_from_instance_profile, InstanceProfileName="web", RoleName="other")
    iam.run(profiles.remove_role_from_instance_profile, InstanceProfileName="web", RoleName="app")
    assert get(iam)["Roles"] == []


def test_of_two_roles_at_once_one_gets_in(iam):
    create(iam)

    def is_refused(name):
        try:
            add(iam, role=name)
        except LimitExceeded:
            return True
        return False

    assert sorted(at_once(lambda: is_refused("app"), lambda: is_refused("other"))) == [False, True]
    assert len(get(iam)["Roles"]) == 1


def test_what_hangs_together_is_not_deleted(iam):
    create(iam)
    add(iam)
    with pytest.raises(DeleteConflict, match="must remove roles from instance profile first"):
        iam.run(profiles.delete_instance_profile, InstanceProfileName="web")
    with pytest.raises(DeleteConflict, match="must remove roles from instance profile first"):
        iam.run(delete_role, RoleName="app")
    iam.run(profiles.remove_role_from_instance_profile, InstanceProfileName="web", RoleName="app")
    iam.run(profiles.delete_instance_profile, InstanceProfileName="web")
    with pytest.raises(NoSuchEntity, match=r"Instance Profile web cannot be found\."):
        get(iam)


def test_unknown_roles_and_profiles_are_named(iam):
    with pytest.raises(NoSuchEntity, match=r"Instance Profile web cannot be found\."):
        add(iam)
    create(iam)
    with pytest.raises(NoSuchEntity, match=r"The role with name nobody cannot be found\."):
        add(iam, role="nobody")


def test_lists_go_by_path_and_page_and_leave_out_tags(iam):
    for name in ("c", "A", "b"):
        create(iam, name, Path="/x/", Tags=[{"Key": "k", "Value": "v"}])
    create(iam, "d")
    first = iam.run(profiles.list_instance_profiles, PathPrefix="/x/", MaxItems=2)
    assert [one["InstanceProfileName"] for one in first["InstanceProfiles"]] == ["A", "b"]
    assert all("Tags" not in one for one in first["InstanceProfiles"])
    rest = iam.run(profiles.list_instance_profiles, PathPrefix="/x/", MaxItems=2, Marker=first["Marker"])
    assert [one["InstanceProfileName"] for one in rest["InstanceProfiles"]] == ["c"]
    assert rest["IsTruncated"] is False
    for marker in ("garbage", "", "AWI=x"):
        with pytest.raises(ValidationError):
            iam.run(profiles.list_instance_profiles, Marker=marker)


def test_the_profiles_of_a_role_are_listed(iam):
    for name in ("web", "batch", "idle"):
        create(iam, name)
    add(iam, "web")
    add(iam, "batch")
    listed = iam.run(profiles.list_instance_profiles_for_role, RoleName="APP")["InstanceProfiles"]
    assert [one["InstanceProfileName"] for one in listed] == ["batch", "web"]


def test_tags_come_and_go(iam):
    create(iam)
    iam.run(profiles.tag_instance_profile, InstanceProfileName="web", Tags=[{"Key": "A", "Value": "1"}])
    iam.run(profiles.untag_instance_profile, InstanceProfileName="web", TagKeys=["zzz"])
    listed = iam.run(profiles.list_instance_profile_tags, InstanceProfileName="web")
    assert listed == {"Tags": [{"Key": "A", "Value": "1"}], "IsTruncated": False}
    iam.run(profiles.untag_instance_profile, InstanceProfileName="web", TagKeys=["a"])
    assert iam.run(profiles.list_instance_profile_tags, InstanceProfileName="web")["Tags"] == []


def test_what_is_asked_names_profile_and_role(iam):
    arn = f"arn:aws:iam::{ACCOUNT}:instance-profile/"
    missing = iam.required_permissions(profiles.on_instance_profile, InstanceProfileName="web")
    assert missing.resource == f"{arn}web"
    assert (
        iam.required_permissions(profiles.on_new_instance_profile, InstanceProfileName="web", Path="/x/").resource
        == f"{arn}x/web"
    )
    create(iam, Path="/x/", Tags=[{"Key": "Team", "Value": "x"}])
    found = iam.required_permissions(profiles.on_instance_profile, InstanceProfileName="WEB")
    assert (found.resource, found.keys["aws:resourcetag/team"]) == (f"{arn}x/web", ("x",))
    passed = iam.required_permissions(profiles.on_passed_role, InstanceProfileName="web", RoleName="app")
    assert (passed.action, passed.resource) == ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/app")
    assert passed.keys["iam:passedtoservice"] == ("ec2.amazonaws.com",)
