"""Groups and who is in them."""

import pytest
from support.documents import allow

from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity
from iam.operations.groups import (
    add_user_to_group,
    create_group,
    delete_group,
    get_group,
    list_groups,
    list_groups_for_user,
    remove_user_from_group,
    update_group,
)
from iam.operations.named_entities import GROUP, permission_on
from iam.operations.policies.attachments import attach_group_policy
from iam.operations.policies.inline import put_group_policy
from iam.operations.users import create_user

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"


def names(groups):
    return [group["GroupName"] for group in groups]


@pytest.fixture
def team(account):
    """An account with the group g and ann in it."""
    account.run(create_user, UserName="ann")
    account.run(create_group, GroupName="g")
    account.run(add_user_to_group, GroupName="g", UserName="ann")
    return account


def test_a_new_group_is_shown_as_it_was_made(account):
    made = account.run(create_group, GroupName="Devs", Path="/eng/")["Group"]
    assert made == {
        "Path": "/eng/",
        "GroupName": "Devs",
        "GroupId": made["GroupId"],
        "Arn": "arn:aws:iam::111122223333:group/eng/Devs",
        "CreateDate": account.now,
    }
    assert made["GroupId"].startswith("AGPA")
    assert account.run(get_group, GroupName="devs") == {"Group": made, "Users": [], "IsTruncated": False}
    assert account.run(list_groups)["Groups"] == [made]


def test_a_name_is_taken_without_regard_to_case(team):
    with pytest.raises(EntityAlreadyExists) as caught:
        team.run(create_group, GroupName="G")
    assert caught.value.message == "Group with name G already exists."


def test_an_unknown_group_is_named_in_the_refusal(account):
    for operation in (get_group, delete_group, update_group):
        with pytest.raises(NoSuchEntity) as caught:
            account.run(operation, GroupName="none")
        assert caught.value.message == "The group with name none cannot be found."


def test_a_user_is_in_a_group_once_however_often_it_is_added(team):
    team.run(add_user_to_group, GroupName="G", UserName="ANN")
    assert [user["UserName"] for user in team.run(get_group, GroupName="g")["Users"]] == ["ann"]
    assert names(team.run(list_groups_for_user, UserName="ann")["Groups"]) == ["g"]


def test_a_user_that_left_is_out(team):
    team.run(remove_user_from_group, GroupName="g", UserName="ann")
    assert team.run(get_group, GroupName="g")["Users"] == []
    with pytest.raises(NoSuchEntity):
        team.run(remove_user_from_group, GroupName="g", UserName="ann")


def test_the_quota_of_groups_of_a_user_holds_but_for_one_it_is_in_already(team):
    narrow = team.allowing(groups_per_user=1)
    narrow.run(create_group, GroupName="h")
    narrow.run(add_user_to_group, GroupName="g", UserName="ann")
    with pytest.raises(LimitExceeded) as caught:
        narrow.run(add_user_to_group, GroupName="h", UserName="ann")
    assert caught.value.message == "Cannot exceed quota for GroupsPerUser: 1"


def test_a_renamed_group_keeps_its_users(team):
    team.run(update_group, GroupName="g", NewGroupName="h", NewPath="/x/")
    answer = team.run(get_group, GroupName="h")
    assert answer["Group"]["Arn"] == "arn:aws:iam::111122223333:group/x/h"
    assert len(answer["Users"]) == 1


def test_the_users_of_a_group_come_in_pages(team):
    for name in ("bob", "carol"):
        team.run(create_user, UserName=name)
        team.run(add_user_to_group, GroupName="g", UserName=name)
    first = team.run(get_group, GroupName="g", MaxItems=2)
    assert [user["UserName"] for user in first["Users"]] == ["ann", "bob"]
    second = team.run(get_group, GroupName="g", MaxItems=2, Marker=first["Marker"])
    assert [user["UserName"] for user in second["Users"]] == ["carol"]


HANGING = {
    "must remove users from group first.": lambda a: a.run(add_user_to_group, GroupName="h", UserName="ann"),
    "must detach all policies first.": lambda a: a.run(attach_group_policy, GroupName="h", PolicyArn=ADMINISTRATOR),
    "must delete policies first.": lambda a: a.run(
        put_group_policy, GroupName="h", PolicyName="p", PolicyDocument=allow()
    ),
}


@pytest.mark.parametrize("what", HANGING)
def test_a_group_on_which_something_hangs_is_not_deleted(team, what):
    team.run(create_group, GroupName="h")
    HANGING[what](team)
    with pytest.raises(DeleteConflict) as caught:
        team.run(delete_group, GroupName="h")
    assert caught.value.message == f"Cannot delete entity, {what}"


def test_an_empty_group_is_deleted(account):
    account.run(create_group, GroupName="g")
    account.run(delete_group, GroupName="g")
    assert account.run(list_groups)["Groups"] == []


def test_a_group_is_asked_about_with_its_path(account):
    account.run(create_group, GroupName="g", Path="/eng/")
    assert account.ask(permission_on(GROUP), GroupName="g").resource == "arn:aws:iam::111122223333:group/eng/g"
