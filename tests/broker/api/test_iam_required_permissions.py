"""What a change of a name, a place or a device takes leave for, at the gate."""

import json


def trust(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(arn, **more):
    return {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole", **more}


def key_of(installation, root, name):
    return installation.call("CreateAccessKey", root, UserName=name).credentials


def test_a_rename_revives_no_grant_of_somebody_who_is_gone(installation, root):
    account_id, owner = root
    arn = f"arn:aws:iam::{account_id}:user/"
    for name in ("alice", "bob"):
        installation.call("CreateUser", owner, UserName=name)
    needs_id = allow(arn + "bob", Condition={"StringEquals": {"sts:ExternalId": "known-to-few"}})
    document = trust(allow(arn + "alice"), needs_id)
    role = installation.call("CreateRole", owner, RoleName="r", AssumeRolePolicyDocument=document).text("Arn")
    bob = key_of(installation, owner, "bob")
    asked = {"RoleArn": role, "RoleSessionName": "bob"}
    assert installation.call("AssumeRole", bob, **asked).code == "AccessDenied"
    installation.call("DeleteUser", owner, UserName="alice")
    assert installation.call("UpdateUser", owner, UserName="bob", NewUserName="alice").status == 200
    assert installation.call("AssumeRole", bob, **asked).code == "AccessDenied"
    # Renamed, bob is still meant by the statement that was written for him.
    assert installation.call("AssumeRole", bob, **asked, ExternalId="known-to-few").status == 200


def test_to_move_a_user_or_group_takes_leave_for_the_new_place_as_well(installation, root):
    account_id, owner = root
    installation.call("CreateUser", owner, UserName="mover")
    here = [f"arn:aws:iam::{account_id}:{kind}/dev/*" for kind in ("user", "group")]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["iam:UpdateUser", "iam:UpdateGroup"], "Resource": here}],
    }
    installation.call("PutUserPolicy", owner, UserName="mover", PolicyName="p", PolicyDocument=json.dumps(policy))
    mover = key_of(installation, owner, "mover")
    installation.call("CreateUser", owner, UserName="d1", Path="/dev/")
    installation.call("CreateGroup", owner, GroupName="g1", Path="/dev/")
    for action, name in (("UpdateUser", {"UserName": "d1"}), ("UpdateGroup", {"GroupName": "g1"})):
        refused = installation.call(action, mover, **name, NewPath="/admin/")
        assert refused.code == "AccessDenied"
        assert "/admin/" in refused.message
    assert installation.call("UpdateUser", mover, UserName="d1", NewUserName="d2").status == 200
    assert installation.call("UpdateGroup", mover, GroupName="g1", NewPath="/dev/a/").status == 200


def test_no_tag_of_another_account_shows_in_the_reasons_of_a_denial(installation, root):
    _, owner = root
    secret = {"Tags.member.1.Key": "project", "Tags.member.1.Value": "merger-with-acme"}
    stranger = installation.call("CreateUser", owner, UserName="ann", **secret).text("UserId")
    _, spy_owner = installation.account()
    installation.call("CreateUser", spy_owner, UserName="spy")
    spy = key_of(installation, spy_owner, "spy")
    denied = installation.call("DeleteVirtualMFADevice", spy, SerialNumber=stranger)
    assert denied.code == "AccessDenied"
    encoded = denied.text("EncodedAuthorizationMessage")
    read = installation.call("DecodeAuthorizationMessage", spy_owner, EncodedMessage=encoded)
    assert read.status == 200
    assert b"merger-with-acme" not in read.body
