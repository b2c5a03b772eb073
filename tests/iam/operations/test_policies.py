"""Managed policies, their versions, and where they are attached."""

import pytest
from support.documents import allow, trust

from iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    InvalidInput,
    LimitExceeded,
    MalformedPolicyDocument,
    NoSuchEntity,
)
from iam.operations.groups import create_group
from iam.operations.policies.attachments import (
    attach_group_policy,
    attach_role_policy,
    attach_user_policy,
    detach_group_policy,
    detach_role_policy,
    detach_user_policy,
    list_attached_group_policies,
    list_attached_role_policies,
    list_attached_user_policies,
    list_entities_for_policy,
)
from iam.operations.policies.managed import (
    create_policy,
    create_policy_version,
    delete_policy,
    delete_policy_version,
    get_policy,
    get_policy_version,
    list_policies,
    list_policy_versions,
    on_new_policy,
    on_policy,
    set_default_policy_version,
)
from iam.operations.roles import create_role
from iam.operations.users import create_user

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
VIEW_ONLY = "arn:aws:iam::aws:policy/job-function/ViewOnlyAccess"
ARN = "arn:aws:iam::111122223333:policy/eng/p"
TAGS = [{"Key": "Team", "Value": "Red"}]


@pytest.fixture
def owner(account):
    """An account with one policy, and one user, group and role of the name x."""
    account.run(create_policy, PolicyName="p", Path="/eng/", PolicyDocument=allow(), Description="d", Tags=TAGS)
    account.run(create_user, UserName="x", Path="/team/")
    account.run(create_group, GroupName="x", Path="/team/")
    account.run(create_role, RoleName="x", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    return account


def names(answer):
    return [policy["PolicyName"] for policy in answer["Policies"]]


def test_a_new_policy_is_shown_as_it_was_made(owner):
    found = owner.run(get_policy, PolicyArn=ARN)["Policy"]
    assert found["PolicyId"].startswith("ANPA")
    assert found == {
        "PolicyName": "p",
        "PolicyId": found["PolicyId"],
        "Arn": ARN,
        "Path": "/eng/",
        "DefaultVersionId": "v1",
        "AttachmentCount": 0,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "Description": "d",
        "CreateDate": owner.now,
        "UpdateDate": owner.now,
        "Tags": TAGS,
    }


def test_a_policy_of_aws_is_read_like_any_other(owner):
    found = owner.run(get_policy, PolicyArn=ADMINISTRATOR)["Policy"]
    assert (found["Path"], found["IsAttachable"]) == ("/", True)
    version = owner.run(get_policy_version, PolicyArn=ADMINISTRATOR, VersionId=found["DefaultVersionId"])
    assert '"Action": "*"' in version["PolicyVersion"]["Document"]
    assert len(owner.run(list_policy_versions, PolicyArn=ADMINISTRATOR)["Versions"]) == 1
    with pytest.raises(NoSuchEntity):
        owner.run(get_policy_version, PolicyArn=ADMINISTRATOR, VersionId="v999")


@pytest.mark.parametrize("operation", [create_policy_version, delete_policy, set_default_policy_version])
def test_a_policy_of_aws_is_not_changed(owner, operation):
    with pytest.raises(InvalidInput):
        owner.run(operation, PolicyArn=ADMINISTRATOR, PolicyDocument=allow(), VersionId="v1")


def test_a_name_is_taken_without_regard_to_case_or_path(owner):
    with pytest.raises(EntityAlreadyExists) as caught:
        owner.run(create_policy, PolicyName="P", PolicyDocument=allow())
    assert caught.value.message == "A policy called P already exists. Duplicate names are not allowed."


@pytest.mark.parametrize("document", ["{", "[]", trust({"AWS": "*"}), allow(action="nothing")])
def test_what_is_no_identity_policy_is_refused(owner, document):
    with pytest.raises(MalformedPolicyDocument):
        owner.run(create_policy, PolicyName="q", PolicyDocument=document)
    with pytest.raises(MalformedPolicyDocument):
        owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=document)


@pytest.mark.parametrize("version", ['"2008-10-17"', None])
def test_a_managed_policy_is_written_in_the_newer_language(owner, version):
    older = allow().replace('"Version": "2012-10-17", ', f'"Version": {version}, ' if version else "")
    for operation in (create_policy, create_policy_version):
        with pytest.raises(MalformedPolicyDocument, match="must be version 2012-10-17 or greater"):
            owner.run(operation, PolicyName="q", PolicyArn=ARN, PolicyDocument=older)


def test_white_space_does_not_count_toward_the_size(owner):
    length = len(allow().replace(" ", ""))
    owner.allowing(managed_policy_size=length).run(create_policy, PolicyName="q", PolicyDocument=allow() + "\n" * 99)
    with pytest.raises(LimitExceeded) as caught:
        owner.allowing(managed_policy_size=length - 1).run(create_policy, PolicyName="r", PolicyDocument=allow())
    assert caught.value.message == f"Cannot exceed quota for PolicySize: {length - 1}"


def test_the_quota_of_policies_holds(owner):
    with pytest.raises(LimitExceeded) as caught:
        owner.allowing(policies_per_account=1).run(create_policy, PolicyName="q", PolicyDocument=allow())
    assert caught.value.message == "Cannot exceed quota for PoliciesPerAccount: 1"


def test_there_are_five_versions_and_no_number_comes_twice(owner):
    numbers = []
    for _ in range(4):
        version = owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=allow())["PolicyVersion"]
        numbers.append(version["VersionId"])
        assert not version["IsDefaultVersion"]
    with pytest.raises(LimitExceeded) as caught:
        owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=allow())
    assert caught.value.message.startswith("A managed policy can have up to 5 versions.")
    owner.run(delete_policy_version, PolicyArn=ARN, VersionId="v5")
    sixth = owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=allow(), SetAsDefault=True)["PolicyVersion"]
    assert (numbers, sixth["VersionId"], sixth["IsDefaultVersion"]) == (["v2", "v3", "v4", "v5"], "v6", True)
    listed = owner.run(list_policy_versions, PolicyArn=ARN)["Versions"]
    assert [one["VersionId"] for one in listed] == ["v6", "v4", "v3", "v2", "v1"]
    assert [one["VersionId"] for one in listed if one["IsDefaultVersion"]] == ["v6"]


def test_the_default_version_is_chosen_and_cannot_be_deleted(owner):
    owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=allow("s3:PutObject"))
    owner.run(set_default_policy_version, PolicyArn=ARN, VersionId="v2")
    with pytest.raises(DeleteConflict) as caught:
        owner.run(delete_policy_version, PolicyArn=ARN, VersionId="v2")
    assert caught.value.message == "Cannot delete the default version of a policy."
    found = owner.run(get_policy_version, PolicyArn=ARN, VersionId="v2")["PolicyVersion"]
    assert (found["Document"], found["IsDefaultVersion"]) == (allow("s3:PutObject"), True)


@pytest.mark.parametrize("version", ["v9", "v0", "v1.x", "v99999999999999999999"])
def test_an_unknown_version_is_named_in_the_refusal(owner, version):
    for operation in (get_policy_version, delete_policy_version, set_default_policy_version):
        with pytest.raises(NoSuchEntity) as caught:
            owner.run(operation, PolicyArn=ARN, VersionId=version)
        assert caught.value.message == f"Policy {ARN} version {version} does not exist or is not attachable."


@pytest.mark.parametrize("arn", ["arn:aws:iam::111122223333:policy/none", "arn:aws:iam::999999999999:policy/eng/p"])
def test_an_unknown_policy_or_one_of_another_account_is_not_found(owner, arn):
    with pytest.raises(NoSuchEntity) as caught:
        owner.run(get_policy, PolicyArn=arn)
    assert caught.value.message == f"Policy {arn} was not found."
    with pytest.raises(NoSuchEntity) as caught:
        owner.run(attach_user_policy, UserName="x", PolicyArn=arn)
    assert caught.value.message == f"Policy {arn} does not exist or is not attachable."
    with pytest.raises(InvalidInput):
        owner.run(get_policy, PolicyArn="this is not an arn at all")


def test_a_policy_in_use_or_with_further_versions_is_not_deleted(owner):
    owner.run(attach_user_policy, UserName="x", PolicyArn=ARN)
    with pytest.raises(DeleteConflict) as caught:
        owner.run(delete_policy, PolicyArn=ARN)
    assert caught.value.message == "Cannot delete a policy attached to entities."
    owner.run(detach_user_policy, UserName="x", PolicyArn=ARN)
    owner.run(create_user, UserName="y", PermissionsBoundary=ARN)
    with pytest.raises(DeleteConflict):
        owner.run(delete_policy, PolicyArn=ARN)


def test_a_policy_is_deleted_with_its_default_version_alone(owner):
    owner.run(create_policy_version, PolicyArn=ARN, PolicyDocument=allow())
    with pytest.raises(DeleteConflict) as caught:
        owner.run(delete_policy, PolicyArn=ARN)
    assert caught.value.message.startswith("This policy has more than one version.")
    owner.run(delete_policy_version, PolicyArn=ARN, VersionId="v2")
    owner.run(delete_policy, PolicyArn=ARN)
    with pytest.raises(NoSuchEntity):
        owner.run(get_policy, PolicyArn=ARN)
    owner.run(create_policy, PolicyName="p", Path="/eng/", PolicyDocument=allow())
    assert owner.run(get_policy, PolicyArn=ARN)["Policy"]["Tags"] == []


def test_policies_are_listed_by_scope_path_and_use(owner):
    everything = names(owner.run(list_policies, MaxItems=1000))
    assert everything[-1] == "p"
    assert names(owner.run(list_policies, Scope="Local")) == ["p"]
    assert names(owner.run(list_policies, Scope="AWS", MaxItems=1000)) == everything[:-1]
    functions = names(owner.run(list_policies, PathPrefix="/job-function/"))
    assert {"Billing", "ViewOnlyAccess"} <= set(functions) < set(everything)
    assert names(owner.run(list_policies, OnlyAttached=True)) == []
    owner.run(attach_role_policy, RoleName="x", PolicyArn=VIEW_ONLY)
    owner.run(create_user, UserName="y", PermissionsBoundary=ARN)
    assert names(owner.run(list_policies, OnlyAttached=True)) == ["ViewOnlyAccess"]
    assert names(owner.run(list_policies, PolicyUsageFilter="PermissionsPolicy")) == ["ViewOnlyAccess"]
    assert names(owner.run(list_policies, PolicyUsageFilter="PermissionsBoundary")) == ["p"]
    listed = owner.run(list_policies, Scope="Local")["Policies"][0]
    assert (listed["AttachmentCount"], listed["PermissionsBoundaryUsageCount"]) == (0, 1)
    assert not {"Description", "Tags"} & listed.keys()


def test_policies_come_in_pages(owner):
    seen, marker = [], {}
    while True:
        answer = owner.run(list_policies, MaxItems=5, **marker)
        seen += names(answer)
        if not answer["IsTruncated"]:
            break
        marker = {"Marker": answer["Marker"]}
    assert seen == names(owner.run(list_policies, MaxItems=1000))


KINDS = [
    ("User", attach_user_policy, detach_user_policy, list_attached_user_policies),
    ("Group", attach_group_policy, detach_group_policy, list_attached_group_policies),
    ("Role", attach_role_policy, detach_role_policy, list_attached_role_policies),
]


@pytest.mark.parametrize(("title", "attach", "detach", "listed"), KINDS)
def test_a_policy_is_attached_once_listed_and_detached(owner, title, attach, detach, listed):
    who = {f"{title}Name": "x"}
    for arn in (ARN, ARN, VIEW_ONLY):
        owner.run(attach, **who, PolicyArn=arn)
    both = [{"PolicyName": "p", "PolicyArn": ARN}, {"PolicyName": "ViewOnlyAccess", "PolicyArn": VIEW_ONLY}]
    assert owner.run(listed, **who)["AttachedPolicies"] == both
    assert owner.run(listed, **who, PathPrefix="/eng/")["AttachedPolicies"] == both[:1]
    assert owner.run(get_policy, PolicyArn=ARN)["Policy"]["AttachmentCount"] == 1
    owner.run(detach, **who, PolicyArn=ARN)
    with pytest.raises(NoSuchEntity) as caught:
        owner.run(detach, **who, PolicyArn=ARN)
    assert caught.value.message == f"Policy {ARN} was not found."


@pytest.mark.parametrize(("title", "attach", "_detach", "_listed"), KINDS)
def test_the_quota_of_attached_policies_holds(owner, title, attach, _detach, _listed):
    narrow = owner.allowing(**{f"attached_policies_per_{title.lower()}": 1})
    who = {f"{title}Name": "x"}
    for _ in range(2):
        narrow.run(attach, **who, PolicyArn=ARN)
    with pytest.raises(LimitExceeded) as caught:
        narrow.run(attach, **who, PolicyArn=VIEW_ONLY)
    assert caught.value.message == f"Cannot exceed quota for PoliciesPer{title}: 1"


def test_the_users_of_a_policy_are_listed_by_kind_path_and_use(owner):
    for title, attach, _, _ in KINDS:
        owner.run(attach, **{f"{title}Name": "x"}, PolicyArn=ARN)
    owner.run(create_user, UserName="bounded", PermissionsBoundary=ARN)

    def found(**p):
        answer = owner.run(list_entities_for_policy, PolicyArn=ARN, **p)
        return {
            title: [one[f"{title}Name"] for one in answer[f"Policy{title}s"]]
            for title in ("Group", "User", "Role")
            if answer[f"Policy{title}s"]
        }

    assert found() == {"Group": ["x"], "User": ["bounded", "x"], "Role": ["x"]}
    assert found(EntityFilter="User") == {"User": ["bounded", "x"]}
    assert found(EntityFilter="LocalManagedPolicy") == {}
    assert found(PathPrefix="/team/") == {"Group": ["x"], "User": ["x"]}
    assert found(PolicyUsageFilter="PermissionsBoundary") == {"User": ["bounded"]}
    assert found(PolicyUsageFilter="PermissionsPolicy", EntityFilter="User") == {"User": ["x"]}
    first = owner.run(list_entities_for_policy, PolicyArn=ARN, MaxItems=2)
    second = owner.run(list_entities_for_policy, PolicyArn=ARN, MaxItems=2, Marker=first["Marker"])
    counts = [len(answer[f"Policy{title}s"]) for answer in (first, second) for title in ("Group", "User", "Role")]
    assert sum(counts) == 4
    with pytest.raises(NoSuchEntity):
        owner.run(list_entities_for_policy, PolicyArn="arn:aws:iam::111122223333:policy/none")


def test_a_policy_is_asked_about_with_its_tags(owner):
    ask = owner.ask(on_policy, PolicyArn=ARN)
    assert (ask.resource, ask.keys["iam:resourcetag/team"]) == (ARN, ("Red",))
    assert owner.ask(on_policy, PolicyArn=ADMINISTRATOR).resource == ADMINISTRATOR
    new = owner.ask(on_new_policy, PolicyName="q", Path="/a/", Tags=TAGS)
    assert (new.resource, new.keys["aws:tagkeys"]) == ("arn:aws:iam::111122223333:policy/a/q", ("Team",))
