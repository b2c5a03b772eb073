"""Roles and their trust policies."""

import json

import pytest
from support.documents import allow, trust

from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, MalformedPolicyDocument, NoSuchEntity
from iam.operations.groups import create_group
from iam.operations.named_entities import ROLE, permission_on, permission_on_new, permission_on_policies_of
from iam.operations.policies.attachments import attach_role_policy
from iam.operations.policies.inline import put_role_policy
from iam.operations.roles import (
    create_role,
    delete_role,
    delete_role_permissions_boundary,
    get_role,
    list_roles,
    put_role_permissions_boundary,
    update_assume_role_policy,
    update_role,
    update_role_description,
)
from iam.operations.users import create_user, delete_user, update_user

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
HERE = trust({"AWS": "111122223333"})
TAGS = [{"Key": "Team", "Value": "Red"}]


def with_role(account, document=HERE, name="r", **more):
    return account.run(create_role, RoleName=name, AssumeRolePolicyDocument=document, **more)["Role"]


def shown(account, name="r"):
    return account.run(get_role, RoleName=name)["Role"]["AssumeRolePolicyDocument"]


def test_a_new_role_is_shown_as_it_was_made(account):
    made = with_role(account, name="Admin", Path="/eng/", Description="d", MaxSessionDuration=7200, Tags=TAGS)
    assert made["RoleId"].startswith("AROA")
    assert made == {
        "Path": "/eng/",
        "RoleName": "Admin",
        "RoleId": made["RoleId"],
        "Arn": "arn:aws:iam::111122223333:role/eng/Admin",
        "CreateDate": account.now,
        "AssumeRolePolicyDocument": HERE,
        "MaxSessionDuration": 7200,
        "Description": "d",
        "Tags": TAGS,
    }
    assert account.run(get_role, RoleName="admin")["Role"] == made | {"RoleLastUsed": {}}
    listed = account.run(list_roles)["Roles"]
    assert listed == [{key: value for key, value in made.items() if key != "Tags"}]


def test_a_session_lasts_an_hour_unless_the_role_says_otherwise(account):
    assert with_role(account)["MaxSessionDuration"] == 3600


def test_a_trust_policy_is_kept_byte_for_byte(account):
    odd = HERE.replace(",", " ,\n\t")
    with_role(account, odd)
    assert shown(account) == odd


def test_a_name_is_taken_without_regard_to_case(account):
    with_role(account)
    with pytest.raises(EntityAlreadyExists) as caught:
        with_role(account, name="R")
    assert caught.value.message == "Role with name R already exists."


@pytest.mark.parametrize(
    "principal",
    [
        "arn:aws:iam::111122223333:user/none",
        "arn:aws:iam::111122223333:role/none",
        "arn:aws:sts::111122223333:assumed-role/none/session",
        "arn:aws:iam::111122223333:user/other/ann",
        "arn:aws:iam::111122223333:user/ANN",
        "arn:aws:iam::999999999999:user/ann",
    ],
)
def test_a_trust_policy_that_names_nobody_is_refused(account, principal):
    account.run(create_user, UserName="ann")
    document = trust({"AWS": principal})
    with pytest.raises(MalformedPolicyDocument) as caught:
        with_role(account, document)
    assert caught.value.message == f'Invalid principal in policy: "AWS":"{principal}"'
    with_role(account)
    with pytest.raises(MalformedPolicyDocument):
        account.run(update_assume_role_policy, RoleName="r", PolicyDocument=document)
    assert shown(account) == HERE


@pytest.mark.parametrize("principal", ["arn:aws:iam::111122223333:user/*", "arn:aws:iam::111122223333:group/g", "x"])
def test_a_trust_policy_with_wildcards_or_groups_is_refused(account, principal):
    account.run(create_group, GroupName="g")
    with pytest.raises(MalformedPolicyDocument):
        with_role(account, trust({"AWS": principal}))


def test_users_roles_and_sessions_that_exist_may_be_named(account):
    account.run(create_user, UserName="ann", Path="/eng/")
    with_role(account, name="source", Path="/x/")
    named = [
        "arn:aws:iam::111122223333:user/eng/ann",
        "arn:aws:iam::111122223333:role/x/source",
        "arn:aws:sts::111122223333:assumed-role/source/session",
    ]
    document = trust({"AWS": named})
    with_role(account, document)
    assert shown(account) == document


def test_a_deleted_principal_is_shown_by_its_id_and_a_renamed_one_by_its_new_name(account):
    ids = {name: account.run(create_user, UserName=name)["User"]["UserId"] for name in ("ann", "bob")}
    arn = "arn:aws:iam::111122223333:user/"
    # The condition holds the same text, and is not touched.
    condition = {"ArnNotEquals": {"aws:PrincipalArn": f"{arn}ann"}}
    with_role(account, trust({"AWS": [f"{arn}ann", f"{arn}bob", "111122223333"]}, Condition=condition))
    account.run(delete_user, UserName="ann")
    account.run(create_user, UserName="ann")
    account.run(update_user, UserName="bob", NewUserName="rob")
    statement = json.loads(shown(account))["Statement"]
    assert statement["Principal"] == {"AWS": [ids["ann"], f"{arn}rob", "111122223333"]}
    assert statement["Condition"] == condition
    assert account.run(list_roles)["Roles"][0]["AssumeRolePolicyDocument"] == shown(account)


def test_a_trust_policy_longer_than_its_quota_is_refused(account):
    narrow = account.allowing(trust_policy_size=len(HERE.replace(" ", "")) - 1)
    with pytest.raises(LimitExceeded) as caught:
        with_role(narrow)
    assert caught.value.message.startswith("Cannot exceed quota for ACLSizePerRole: ")
    exact = account.allowing(trust_policy_size=len(HERE.replace(" ", "")))
    with_role(exact, HERE.replace(" ", "  \n\t"))


def test_the_quota_of_roles_holds(account):
    narrow = account.allowing(roles_per_account=1)
    with_role(narrow)
    with pytest.raises(LimitExceeded) as caught:
        with_role(narrow, name="s")
    assert caught.value.message == "Cannot exceed quota for RolesPerAccount: 1"


def test_a_role_is_changed_in_what_the_request_names_alone(account):
    with_role(account, Description="d", MaxSessionDuration=7200)
    assert account.run(update_role, RoleName="r") == {}
    account.run(update_role, RoleName="r", MaxSessionDuration=3600)
    role = account.run(get_role, RoleName="r")["Role"]
    assert (role["Description"], role["MaxSessionDuration"]) == ("d", 3600)
    changed = account.run(update_role_description, RoleName="r", Description="e")["Role"]
    assert (changed["Description"], changed["MaxSessionDuration"]) == ("e", 3600)


def test_an_unknown_role_is_named_in_the_refusal(account):
    for operation in (get_role, delete_role, update_role):
        with pytest.raises(NoSuchEntity) as caught:
            account.run(operation, RoleName="none")
        assert caught.value.message == "The role with name none cannot be found."


HANGING = {
    "must detach all policies first.": lambda a: a.run(attach_role_policy, RoleName="r", PolicyArn=ADMINISTRATOR),
    "must delete policies first.": lambda a: a.run(
        put_role_policy, RoleName="r", PolicyName="p", PolicyDocument=allow()
    ),
}


@pytest.mark.parametrize("what", HANGING)
def test_a_role_on_which_something_hangs_is_not_deleted_and_loses_nothing(account, what):
    provider = "arn:aws:iam::111122223333:ldap-provider/corp"
    with_role(account, trust({"Federated": provider}, "sts:AssumeRoleWithLDAPIdentity"))
    HANGING[what](account)
    with pytest.raises(DeleteConflict) as caught:
        account.run(delete_role, RoleName="r")
    assert caught.value.message == f"Cannot delete entity, {what}"
    assert [role.name for role in account.store.roles_trusting(provider)] == ["r"]


def test_a_boundary_is_put_and_taken_away(account):
    with_role(account)
    account.run(put_role_permissions_boundary, RoleName="r", PermissionsBoundary=ADMINISTRATOR)
    boundary = account.run(get_role, RoleName="r")["Role"]["PermissionsBoundary"]
    assert boundary["PermissionsBoundaryArn"] == ADMINISTRATOR
    account.run(delete_role_permissions_boundary, RoleName="r")
    with pytest.raises(NoSuchEntity):
        account.run(delete_role_permissions_boundary, RoleName="r")


def test_a_role_is_asked_about_with_path_tags_and_boundary(account):
    new = account.ask(permission_on_new(ROLE), RoleName="r", Path="/eng/", PermissionsBoundary=ADMINISTRATOR, Tags=TAGS)
    assert new.resource == "arn:aws:iam::111122223333:role/eng/r"
    assert new.keys["iam:permissionsboundary"] == (ADMINISTRATOR,)
    assert new.keys["aws:requesttag/team"] == ("Red",)
    with_role(account, Path="/eng/", Tags=TAGS, PermissionsBoundary=ADMINISTRATOR)
    ask = account.ask(permission_on(ROLE), RoleName="r")
    assert (ask.resource, ask.keys["iam:resourcetag/team"]) == (new.resource, ("Red",))
    assert "iam:permissionsboundary" not in ask.keys
    assert account.ask(permission_on_policies_of(ROLE), RoleName="r").keys["iam:permissionsboundary"] == (
        ADMINISTRATOR,
    )
