"""Users, and what users, groups and roles share: names, pages, paths."""

import base64
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.documents import allow

from iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity, ValidationError
from iam.operations.credentials.access_keys import create_access_key
from iam.operations.groups import add_user_to_group, create_group
from iam.operations.named_entities import USER, permission_on_all, permission_on_new, permission_on_policies_of
from iam.operations.policies.attachments import attach_user_policy
from iam.operations.policies.inline import put_user_policy
from iam.operations.users import (
    create_user,
    delete_user,
    delete_user_permissions_boundary,
    get_user,
    list_users,
    on_user,
    on_user_or_caller,
    put_user_permissions_boundary,
    update_user,
)

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
TAGS = [{"Key": "Team", "Value": "Red"}]


def names(answer):
    return [user["UserName"] for user in answer["Users"]]


def test_a_new_user_is_shown_as_it_was_made(account):
    made = account.run(create_user, UserName="ann", Path="/eng/", Tags=TAGS, PermissionsBoundary=ADMINISTRATOR)["User"]
    assert made["UserId"].startswith("AIDA")
    assert made == {
        "Path": "/eng/",
        "UserName": "ann",
        "UserId": made["UserId"],
        "Arn": "arn:aws:iam::111122223333:user/eng/ann",
        "CreateDate": account.now,
        "PermissionsBoundary": {
            "PermissionsBoundaryType": "PermissionsBoundaryPolicy",
            "PermissionsBoundaryArn": ADMINISTRATOR,
        },
        "Tags": TAGS,
    }
    assert account.run(get_user, UserName="ANN")["User"] == made
    listed = account.run(list_users)["Users"]
    assert listed == [{key: value for key, value in made.items() if key not in ("PermissionsBoundary", "Tags")}]


@pytest.mark.parametrize("name", ["ann", "ANN", "Ann"])
def test_a_name_is_taken_without_regard_to_case(account, name):
    account.run(create_user, UserName="ann")
    with pytest.raises(EntityAlreadyExists) as caught:
        account.run(create_user, UserName=name, Path="/other/")
    assert caught.value.message == f"User with name {name} already exists."


def test_an_unknown_user_is_named_in_the_refusal(account):
    for operation in (get_user, delete_user, update_user):
        with pytest.raises(NoSuchEntity) as caught:
            account.run(operation, UserName="nobody")
        assert caught.value.message == "The user with name nobody cannot be found."


def test_without_a_name_a_user_gets_itself_and_root_the_account(account):
    ann = account.run(create_user, UserName="ann")["User"]
    assert account.as_user(ann).run(get_user)["User"] == ann
    root = account.run(get_user)["User"]
    assert (root["UserId"], root["Arn"]) == ("111122223333", "arn:aws:iam::111122223333:root")
    with pytest.raises(ValidationError) as caught:
        account.as_role_session().run(get_user)
    assert caught.value.message == "Must specify userName when calling with non-User credentials"


def test_a_caller_who_was_deleted_a_moment_ago_is_nobody(account):
    ann = account.as_user(account.run(create_user, UserName="ann")["User"])
    account.run(delete_user, UserName="ann")
    with pytest.raises(NoSuchEntity):
        ann.run(get_user)


def test_the_quota_of_users_holds(account):
    narrow = account.allowing(users_per_account=1)
    narrow.run(create_user, UserName="ann")
    with pytest.raises(LimitExceeded) as caught:
        narrow.run(create_user, UserName="bob")
    assert caught.value.message == "Cannot exceed quota for UsersPerAccount: 1"


def test_a_renamed_user_keeps_its_id(account):
    ann = account.run(create_user, UserName="ann")["User"]
    account.run(update_user, UserName="ann", NewUserName="Ann", NewPath="/x/")
    found = account.run(get_user, UserName="ann")["User"]
    assert (found["UserId"], found["Arn"]) == (ann["UserId"], "arn:aws:iam::111122223333:user/x/Ann")


def test_a_user_cannot_be_renamed_to_another_s_name(account):
    account.run(create_user, UserName="ann")
    account.run(create_user, UserName="bob")
    with pytest.raises(EntityAlreadyExists) as caught:
        account.run(update_user, UserName="bob", NewUserName="ANN")
    assert caught.value.message == "User with name ANN already exists."


def in_a_group(account):
    account.run(create_group, GroupName="g")
    account.run(add_user_to_group, GroupName="g", UserName="ann")


HANGING = {
    "must detach all policies first.": lambda a: a.run(attach_user_policy, UserName="ann", PolicyArn=ADMINISTRATOR),
    "must delete policies first.": lambda a: a.run(
        put_user_policy, UserName="ann", PolicyName="p", PolicyDocument=allow()
    ),
    "must remove users from group first.": in_a_group,
    "must delete access keys first.": lambda a: a.run(create_access_key, UserName="ann"),
}


@pytest.mark.parametrize("what", HANGING)
def test_a_user_on_whom_something_hangs_is_not_deleted(account, what):
    account.run(create_user, UserName="ann", Tags=TAGS)
    HANGING[what](account)
    with pytest.raises(DeleteConflict) as caught:
        account.run(delete_user, UserName="ann")
    assert caught.value.message == f"Cannot delete entity, {what}"
    assert account.run(get_user, UserName="ann")["User"]["Tags"] == TAGS


def test_a_user_made_anew_has_neither_the_id_nor_the_tags_of_the_old_one(account):
    old = account.run(create_user, UserName="ann", Tags=TAGS)["User"]
    account.run(delete_user, UserName="ann")
    new = account.run(create_user, UserName="ann")["User"]
    assert new["UserId"] != old["UserId"]
    assert "Tags" not in new


def test_a_boundary_is_put_and_taken_away(account):
    account.run(create_user, UserName="ann")
    account.run(put_user_permissions_boundary, UserName="ann", PermissionsBoundary=ADMINISTRATOR)
    shown = account.run(get_user, UserName="ann")["User"]["PermissionsBoundary"]
    assert shown["PermissionsBoundaryArn"] == ADMINISTRATOR
    account.run(delete_user_permissions_boundary, UserName="ann")
    assert "PermissionsBoundary" not in account.run(get_user, UserName="ann")["User"]
    with pytest.raises(NoSuchEntity):
        account.run(delete_user_permissions_boundary, UserName="ann")


def test_a_boundary_must_exist(account):
    missing = "arn:aws:iam::111122223333:policy/none"
    with pytest.raises(NoSuchEntity) as caught:
        account.run(create_user, UserName="ann", PermissionsBoundary=missing)
    assert caught.value.message == f"Scope ARN: {missing} does not exist or is not attachable."
    account.run(create_user, UserName="ann")
    with pytest.raises(NoSuchEntity):
        account.run(put_user_permissions_boundary, UserName="ann", PermissionsBoundary=missing)


# --- asks ---------------------------------------------------------------------------------------------------------


def test_a_user_is_asked_about_with_path_and_tags(account):
    account.run(create_user, UserName="Ann", Path="/eng/", Tags=TAGS)
    ask = account.ask(on_user, UserName="ann", Tags=[{"Key": "Cost", "Value": "1"}])
    assert ask.resource == "arn:aws:iam::111122223333:user/eng/Ann"
    assert ask.keys == {
        "aws:resourcetag/team": ("Red",),
        "iam:resourcetag/team": ("Red",),
        "aws:requesttag/cost": ("1",),
        "aws:tagkeys": ("Cost",),
    }
    assert account.ask(on_user, UserName="nobody").resource == "arn:aws:iam::111122223333:user/nobody"


def test_a_new_user_is_asked_about_with_its_boundary(account):
    ask = account.ask(permission_on_new(USER), UserName="ann", Path="/eng/", PermissionsBoundary=ADMINISTRATOR)
    assert ask.resource == "arn:aws:iam::111122223333:user/eng/ann"
    assert ask.keys == {"iam:permissionsboundary": (ADMINISTRATOR,)}


def test_changed_permissions_are_asked_about_with_the_boundary_that_is_or_shall_be(account):
    account.run(create_user, UserName="ann", PermissionsBoundary=ADMINISTRATOR)
    ask = account.ask(permission_on_policies_of(USER), UserName="ann", PolicyArn=READ_ONLY)
    assert ask.keys == {"iam:permissionsboundary": (ADMINISTRATOR,), "iam:policyarn": (READ_ONLY,)}
    ask = account.ask(permission_on_policies_of(USER), UserName="ann", PermissionsBoundary=READ_ONLY)
    assert ask.keys == {"iam:permissionsboundary": (READ_ONLY,)}


def test_without_a_name_the_caller_is_asked_about(account):
    ann = account.run(create_user, UserName="ann", Path="/eng/")["User"]
    assert account.as_user(ann).ask(on_user_or_caller).resource == ann["Arn"]
    account.run(update_user, UserName="ann", NewUserName="anna")
    account.run(create_user, UserName="ann")
    assert account.as_user(ann).ask(on_user_or_caller).resource == "arn:aws:iam::111122223333:user/eng/anna"
    assert account.as_user(ann).ask(on_user_or_caller, UserName="bob").resource.endswith("user/bob")
    assert account.ask(on_user_or_caller).resource == "arn:aws:iam::111122223333:root"


def test_a_list_is_asked_about_by_its_path(account):
    assert account.ask(permission_on_all(USER)).resource == "arn:aws:iam::111122223333:user/"
    assert account.ask(permission_on_all(USER), PathPrefix="/eng/").resource == "arn:aws:iam::111122223333:user/eng/"


# --- pages --------------------------------------------------------------------------------------------------------

NAMES = st.text(string.ascii_letters + string.digits + "+=,.@_-", min_size=1, max_size=12)


@given(wanted=st.lists(NAMES, unique_by=str.lower, max_size=9), size=st.integers(1, 4))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pages_of_any_size_show_everybody_once_in_order(account, wanted, size):
    for name in names(account.run(list_users)):
        account.run(delete_user, UserName=name)
    for name in wanted:
        account.run(create_user, UserName=name)
    seen, marker = [], {}
    while True:
        answer = account.run(list_users, MaxItems=size, **marker)
        assert len(answer["Users"]) <= size
        seen += names(answer)
        if not answer["IsTruncated"]:
            break
        marker = {"Marker": answer["Marker"]}
    assert seen == sorted(wanted, key=str.lower)


@pytest.mark.parametrize(
    "marker", ["x", "é", "=", "AAAA", "bm9wZQ==", base64.b64encode(b"\x01\xff").decode(), "A" * 320]
)
def test_a_marker_that_we_did_not_make_is_refused(account, marker):
    with pytest.raises(ValidationError):
        account.run(list_users, Marker=marker)


def test_a_path_prefix_is_taken_letter_by_letter(account):
    for name, path in {"a": "/eng/", "b": "/ENG/", "c": "/e_g/", "d": "/", "e": "/eng/x/"}.items():
        account.run(create_user, UserName=name, Path=path)
    assert names(account.run(list_users, PathPrefix="/eng/")) == ["a", "e"]
    assert names(account.run(list_users, PathPrefix="/e_g/")) == ["c"]
    assert names(account.run(list_users, PathPrefix="/e")) == ["a", "c", "e"]
