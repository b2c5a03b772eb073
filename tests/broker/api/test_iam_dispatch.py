"""What the gate lets through to IAM: by policy, on the right resource, and with one audit record for each decision."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from botocore.credentials import Credentials
from sqlalchemy import select
from support.administrator import Administrator, allow, assume, assumed, deny, refused, statements, trust
from support.installation import Answer, Clock, Installation, environment, wrong_secret
from support.servers import eventually, redis_server
from support.threads import at_once

from broker.api import model
from broker.api.shape import Shape
from broker.audit import log as audit_log
from iam.arn import access_key_id
from iam.operations import OPERATIONS
from iam.store.schema import audit_record

INVALID = "The security token included in the request is invalid."


@pytest.fixture
def admin(installation: Installation) -> Administrator:
    return Administrator.of_a_new_account(installation)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Administrator]:
    """An account in which these tests change nothing, with a user ``joe`` who may do nothing."""
    folder = tmp_path_factory.mktemp("quiet")
    installation = Installation(folder, environment(folder, redis_url), Clock())
    yield Administrator.of_a_new_account(installation, "123456789012")
    installation.close()


@pytest.fixture(scope="module")
def joe(quiet: Administrator) -> Credentials:
    return quiet.user("joe")


# --- nothing without an allow -----------------------------------------------------------------------------------------

# Values that satisfy the model; the gate asks about them before it looks whether they make sense.
VALUES = {
    "PolicyArn": "arn:aws:iam::123456789012:policy/no-such-policy",
    "PolicySourceArn": "arn:aws:iam::123456789012:user/no-such-user",
    "Arn": "arn:aws:iam::123456789012:user/no-such-user",
    "PolicyInputList": allow(),
    "ActionNames": "s3:GetObject",
    "PermissionsBoundary": "arn:aws:iam::aws:policy/ReadOnlyAccess",
    "SerialNumber": "arn:aws:iam::123456789012:mfa/no-such-device",
    "AccessKeyId": access_key_id("AKIA", "123456789012", bytes),
    "PolicyDocument": allow(),
    "AssumeRolePolicyDocument": trust({"AWS": "123456789012"}),
    "AuthenticationCode1": "123456",
    "AuthenticationCode2": "123456",
    "AccountAlias": "an-alias",
    "VersionId": "v1",
    "Status": "Inactive",
    "GlobalEndpointTokenVersion": "v2Token",
    "SAMLProviderArn": "arn:aws:iam::123456789012:saml-provider/no-such-provider",
    "SAMLMetadataDocument": "x" * 1000,
    "OpenIDConnectProviderArn": "arn:aws:iam::123456789012:oidc-provider/no-such.example.com",
    "Url": "https://no-such.example.com",
    "ThumbprintList": "a" * 40,
}


def minimal(shape: Shape | None, path: str = "") -> dict[str, str]:
    """Return the required parameters of an operation, flat, with values that the model takes."""
    flat: dict[str, str] = {}
    for name in shape.required if shape else ():
        member, here = shape.members[name], f"{path}{name}"
        if member.kind == "list":
            inner = member.members["member"]
            one = f"{here}.member.1"
            flat |= minimal(inner, f"{one}.") if inner.kind == "structure" else {one: VALUES.get(name, "abc")}
        else:
            flat[here] = VALUES.get(name, "abc")
    return flat


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_new_user_may_call_no_operation_of_iam_and_is_told_who_and_what(quiet, joe, name):
    operation = model.load_models().find(name, "2010-05-08")
    answer = quiet.installation.call(name, joe, **minimal(operation.input))
    told = f"User: {quiet.arn('user', 'joe')} is not authorized to perform: iam:{name} on resource: "
    refused(answer, 403, "AccessDenied", told)
    assert answer.message.endswith(f" because no identity-based policy allows the iam:{name} action")


@pytest.mark.parametrize("action", ["GetAccessKeyInfo", "DecodeAuthorizationMessage", "GetFederationToken"])
def test_a_new_user_may_call_no_operation_of_the_sts_that_needs_leave(quiet, joe, action):
    operation = model.load_models().find(action, "2011-06-15")
    given = minimal(operation.input) | ({"AccessKeyId": "AKIAIOSFODNN7EXAMPLE"} if "Info" in action else {})
    refused(quiet.installation.call(action, joe, **given), 403, "AccessDenied", f"sts:{action} on resource: ")


READ_OR_DENIED = {
    "GetUser": {"UserName": "no-such-user"},
    "GetRole": {"RoleName": "no-such-role"},
    "GetPolicy": {"PolicyArn": "arn:aws:iam::123456789012:policy/no-such-policy"},
    "GetGroup": {"GroupName": "no-such-group"},
    "ListAccessKeys": {"UserName": "no-such-user"},
}


@pytest.mark.parametrize("action", READ_OR_DENIED)
def test_g07_what_does_not_exist_is_told_to_those_alone_who_may_read(quiet, joe, action):
    given = READ_OR_DENIED[action]
    refused(quiet.installation.call(action, joe, **given), 403, "AccessDenied")
    refused(quiet.installation.call(action, quiet.root, **given), 404, "NoSuchEntity")


# --- G14 to G16: nobody lifts himself -----------------------------------------------------------------------------

LIFTS = {
    "a policy for oneself": (
        "PutUserPolicy",
        {"UserName": "joe", "PolicyName": "all", "PolicyDocument": allow("*")},
        "user/joe",
    ),
    "an AWS policy for oneself": (
        "AttachUserPolicy",
        {"UserName": "joe", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "user/joe",
    ),
    "a group of one's own": ("AddUserToGroup", {"UserName": "joe", "GroupName": "admins"}, "group/admins"),
    "a key for somebody else": ("CreateAccessKey", {"UserName": "ada"}, "user/ada"),
    "a password for somebody else": ("CreateLoginProfile", {"UserName": "ada", "Password": "x" * 20}, "user/ada"),
    "the trust of a stronger role": (
        "UpdateAssumeRolePolicy",
        {"RoleName": "strong", "PolicyDocument": trust({"AWS": "123456789012"})},
        "role/strong",
    ),
    "a version of a policy that one has": (
        "CreatePolicyVersion",
        {"PolicyArn": "arn:aws:iam::123456789012:policy/mine", "PolicyDocument": allow("*"), "SetAsDefault": "true"},
        "policy/mine",
    ),
    "one's boundary gone": ("DeleteUserPermissionsBoundary", {"UserName": "joe"}, "user/joe"),
}


@pytest.mark.parametrize("case", LIFTS)
def test_g15_nobody_gives_himself_more_without_an_allow_of_just_that(quiet, joe, case):
    action, given, resource = LIFTS[case]
    kind, name = resource.split("/")
    told = f"iam:{action} on resource: {quiet.arn(kind, name)} because"
    refused(quiet.installation.call(action, joe, **given), 403, "AccessDenied", told)


def test_g15_leave_for_one_action_on_one_user_is_leave_for_nothing_else(installation, admin):
    joe = admin.user("joe", allow("iam:CreateAccessKey", admin.arn("user", "${aws:username}")))
    admin.do("CreateUser", UserName="ada")
    assert installation.call("CreateAccessKey", joe, UserName="joe").status == 200
    refused(installation.call("CreateAccessKey", joe, UserName="ada"), 403, "AccessDenied", "user/ada")
    refused(installation.call("ListAccessKeys", joe, UserName="joe"), 403, "AccessDenied")


def test_an_operation_without_a_user_name_is_about_the_caller(installation, admin):
    joe = admin.user("joe", allow("iam:GetUser", admin.arn("user/team", "joe")), Path="/team/")
    assert installation.call("GetUser", joe).text("UserName") == "joe"
    ada = admin.user("ada", allow("iam:GetUser", admin.arn("user/team", "joe")))
    refused(installation.call("GetUser", ada), 403, "AccessDenied", admin.arn("user", "ada"))
    assert installation.call("GetUser", ada, UserName="joe").status == 200


@pytest.mark.parametrize("entity", ["user", "role"])
def test_g16_a_policy_above_the_boundary_gives_nothing(installation, admin, entity):
    edge = admin.policy("edge", allow(["iam:ListUsers", "sts:AssumeRole"]))
    if entity == "user":
        caller = admin.user("joe", allow("*"), PermissionsBoundary=edge)
    else:
        role = admin.role("r", None, allow("*"), PermissionsBoundary=edge)
        caller = assumed(installation, admin.user("ada", allow("sts:*")), role)
    assert installation.call("ListUsers", caller).status == 200
    refused(
        installation.call("CreateUser", caller, UserName="x"),
        403,
        "AccessDenied",
        "because no permissions boundary allows the iam:CreateUser action",
    )


def test_g16_whoever_may_make_users_only_within_a_boundary_makes_none_without_it(installation, admin):
    edge, wide = admin.policy("edge", allow("s3:*")), admin.policy("wide", allow("*"))
    within = allow("iam:CreateUser", Condition={"StringEquals": {"iam:PermissionsBoundary": edge}})
    joe = admin.user("joe", within)
    refused(installation.call("CreateUser", joe, UserName="a"), 403, "AccessDenied")
    refused(installation.call("CreateUser", joe, UserName="a", PermissionsBoundary=wide), 403, "AccessDenied")
    assert installation.call("CreateUser", joe, UserName="a", PermissionsBoundary=edge).status == 200


# --- resources and tags -----------------------------------------------------------------------------------------


def test_a_path_is_part_of_the_resource_and_a_name_alone_does_not_reach_it(installation, admin):
    admin.do("CreateUser", UserName="ada", Path="/finance/")
    admin.do("CreateUser", UserName="bob", Path="/it/")
    joe = admin.user("joe", allow("iam:GetUser", admin.arn("user/finance", "*")))
    assert installation.call("GetUser", joe, UserName="ada").status == 200
    assert installation.call("GetUser", joe, UserName="ADA").status == 200
    refused(installation.call("GetUser", joe, UserName="bob"), 403, "AccessDenied", admin.arn("user/it", "bob"))
    admin.do("UpdateUser", UserName="ada", NewPath="/it/")
    refused(installation.call("GetUser", joe, UserName="ada"), 403, "AccessDenied", admin.arn("user/it", "ada"))


def test_a_new_thing_is_asked_for_under_the_path_that_it_will_have(installation, admin):
    joe = admin.user("joe", allow("iam:Create*", [admin.arn("user/team", "*"), admin.arn("group/team", "*")]))
    assert installation.call("CreateUser", joe, UserName="a", Path="/team/").status == 200
    assert installation.call("CreateGroup", joe, GroupName="a", Path="/team/").status == 200
    refused(installation.call("CreateUser", joe, UserName="b"), 403, "AccessDenied", admin.arn("user", "b"))
    refused(installation.call("CreateUser", joe, UserName="b", Path="/team2/"), 403, "AccessDenied", "user/team2/b")


TEAM = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"}


def test_tags_of_the_resource_of_the_caller_and_of_the_request_are_condition_keys(installation, admin):
    same_team = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    as_team = {"StringEquals": {"aws:RequestTag/team": "${aws:PrincipalTag/team}"}}
    make = allow(["iam:CreateUser", "iam:TagUser"], Condition=as_team)
    policies = allow("iam:GetUser", Condition=same_team), make
    joe, blue = admin.user("joe", *policies, **TEAM), {**TEAM, "Tags.member.1.Value": "blue"}
    admin.do("CreateUser", UserName="ada", **TEAM)
    admin.do("CreateUser", UserName="bob", **blue)
    admin.do("CreateUser", UserName="eve")
    assert installation.call("GetUser", joe, UserName="ada").status == 200
    for name in ("bob", "eve"):
        refused(installation.call("GetUser", joe, UserName=name), 403, "AccessDenied")
    assert installation.call("CreateUser", joe, UserName="new", **TEAM).status == 200
    refused(installation.call("CreateUser", joe, UserName="new2", **blue), 403, "AccessDenied")
    refused(installation.call("CreateUser", joe, UserName="new3"), 403, "AccessDenied")
    admin.do("TagUser", UserName="bob", **TEAM)
    assert installation.call("GetUser", joe, UserName="bob").status == 200


TAGGED = {
    "CreateUser": ({"UserName": "new"}, "iam:TagUser"),
    "CreateRole": ({"RoleName": "new", "AssumeRolePolicyDocument": trust({"AWS": "*"})}, "iam:TagRole"),
    "CreatePolicy": ({"PolicyName": "new", "PolicyDocument": allow()}, "iam:TagPolicy"),
    "CreateVirtualMFADevice": ({"VirtualMFADeviceName": "new"}, "iam:TagMFADevice"),
    "CreateInstanceProfile": ({"InstanceProfileName": "new"}, "iam:TagInstanceProfile"),
}


@pytest.mark.parametrize("action", TAGGED)
def test_what_is_made_with_tags_needs_leave_to_tag_it(installation, admin, action):
    given, needed = TAGGED[action]
    maker = admin.user("maker", allow(f"iam:{action}"))
    refused(installation.call(action, maker, **given, **TEAM), 403, "AccessDenied", f"perform: {needed} on resource: ")
    tagger = admin.user("tagger", allow([f"iam:{action}", needed]))
    assert installation.call(action, tagger, **given, **TEAM).status == 200


GROUND = {
    "no policy": ([], "because no identity-based policy allows the iam:ListUsers action"),
    "a deny": ([allow("*"), deny("iam:ListUsers")], "with an explicit deny in an identity-based policy"),
    "another action": ([allow("iam:ListRoles")], "because no identity-based policy allows"),
    "another resource": ([allow("iam:ListUsers", "arn:aws:iam::*:user/team/*")], "because no identity-based policy"),
}


@pytest.mark.parametrize("case", GROUND)
def test_a_denial_says_which_kind_of_policy_is_the_ground_and_what_is_decoded_says_the_rest(installation, admin, case):
    policies, told = GROUND[case]
    joe = admin.user("joe", *policies)
    reader = admin.user("reader", allow("sts:DecodeAuthorizationMessage"))
    answer = installation.call("ListUsers", joe)
    refused(answer, 403, "AccessDenied", told)
    encoded = answer.text("EncodedAuthorizationMessage")
    refused(
        installation.call("DecodeAuthorizationMessage", admin.user("other"), EncodedMessage=encoded),
        403,
        "AccessDenied",
    )
    decoded = json.loads(
        installation.call("DecodeAuthorizationMessage", reader, EncodedMessage=encoded).text("DecodedMessage")
    )
    assert (decoded["allowed"], decoded["explicitDeny"]) == (False, case == "a deny")
    assert decoded["context"]["principal"]["arn"] == admin.arn("user", "joe")
    assert (decoded["context"]["action"], decoded["context"]["resource"]) == ("iam:ListUsers", admin.arn("user", ""))
    assert bool(decoded["matchedStatements"]["items"]) is (case == "a deny")


def test_a_group_s_policies_count_from_the_call_after_somebody_joined_until_he_left(installation, admin):
    joe = admin.user("joe")
    admin.do("CreateGroup", GroupName="readers")
    admin.do("AttachGroupPolicy", GroupName="readers", PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
    refused(installation.call("ListUsers", joe), 403, "AccessDenied")
    admin.do("AddUserToGroup", GroupName="readers", UserName="joe")
    assert installation.call("ListUsers", joe).status == 200
    refused(installation.call("CreateUser", joe, UserName="x"), 403, "AccessDenied")
    admin.do("RemoveUserFromGroup", GroupName="readers", UserName="joe")
    refused(installation.call("ListUsers", joe), 403, "AccessDenied")


def test_one_account_s_administrator_is_nobody_in_another(installation, admin):
    boss = admin.user("boss", allow("*"))
    other = Administrator.of_a_new_account(installation)
    other.do("CreateUser", UserName="ada")
    policy = other.policy("theirs", allow("*"))
    refused(installation.call("GetUser", boss, UserName="ada"), 404, "NoSuchEntity")
    for caller in (boss, admin.root):
        refused(installation.call("GetPolicy", caller, PolicyArn=policy), 404, "NoSuchEntity")
        refused(installation.call("DeletePolicy", caller, PolicyArn=policy), 404, "NoSuchEntity")
        given = {"UserName": "boss", "PolicyArn": policy}
        refused(installation.call("AttachUserPolicy", caller, **given), 404, "NoSuchEntity")
    assert other.do("GetPolicy", PolicyArn=policy).status == 200


# --- G04 to G06, G10, G20: what the API refuses ------------------------------------------------------------------


def test_g04_a_third_access_key_is_one_too_many(admin, installation):
    admin.user("joe")
    admin.key("joe")
    refused(installation.call("CreateAccessKey", admin.root, UserName="joe"), 409, "LimitExceeded")


def test_g05_a_name_is_taken_whatever_its_case(admin, installation):
    admin.user("joe")
    admin.role("r")
    for name in ("joe", "JOE"):
        refused(installation.call("CreateUser", admin.root, UserName=name), 409, "EntityAlreadyExists")
    answer = installation.call(
        "CreateRole", admin.root, RoleName="R", AssumeRolePolicyDocument=trust({"AWS": admin.account_id})
    )
    refused(answer, 409, "EntityAlreadyExists")


def test_g06_what_still_has_something_is_not_deleted(admin, installation):
    admin.user("joe")
    admin.role("r", None, allow())
    refused(installation.call("DeleteUser", admin.root, UserName="joe"), 409, "DeleteConflict")
    refused(installation.call("DeleteRole", admin.root, RoleName="r"), 409, "DeleteConflict")


def stop_by_status(admin: Administrator, key: Credentials) -> None:
    admin.do("UpdateAccessKey", UserName="joe", AccessKeyId=key.access_key, Status="Inactive")


def stop_by_deletion(admin: Administrator, key: Credentials) -> None:
    admin.do("DeleteAccessKey", UserName="joe", AccessKeyId=key.access_key)


def stop_with_the_user(admin: Administrator, key: Credentials) -> None:
    stop_by_deletion(admin, key)
    admin.do("DeleteUser", UserName="joe")


@pytest.mark.parametrize("redis", ["up", "down"])
@pytest.mark.parametrize("stop", [stop_by_status, stop_by_deletion, stop_with_the_user])
def test_g10_a_key_that_was_stopped_is_refused_here_at_once_and_on_every_worker_within_a_second(
    tmp_path: Path, stop, redis
):
    with redis_server() as url:
        installation = Installation(tmp_path, environment(tmp_path, url))
        worker = installation.another_worker()
        admin = Administrator.of_a_new_account(installation)
        key = admin.user("joe")
        for where in (installation, worker):
            assert where.call("GetCallerIdentity", key).status == 200
        if redis == "up":
            _stopped(installation, worker, admin, key, stop)
    if redis == "down":
        _stopped(installation, worker, admin, key, stop)
    for where in (installation, worker):
        where.close()


def _stopped(installation: Installation, worker: Installation, admin: Administrator, key: Credentials, stop) -> None:
    stop(admin, key)
    for presented in (key, wrong_secret(key)):
        refused(installation.call("GetCallerIdentity", presented), 403, "InvalidClientTokenId", INVALID)
    eventually(lambda: worker.call("GetCallerIdentity", key).status != 200)
    refused(worker.call("GetCallerIdentity", key), 403, "InvalidClientTokenId", INVALID)


PAGES = [{"MaxItems": "0"}, {"MaxItems": "1001"}, {"MaxItems": "-1"}, {"Marker": "garbage"}, {"Marker": ""}]


@pytest.mark.parametrize("given", PAGES)
def test_g20_a_page_that_cannot_be_is_a_validation_error(quiet, given):
    refused(quiet.installation.call("ListUsers", quiet.root, **given), 400, "ValidationError")


# --- G08, G19, G21, G22: nothing lost, nothing told --------------------------------------------------------------


def rows(installation: Installation) -> list[dict]:
    with installation.store.read() as tx:
        return [json.loads(text) for text in tx.scalars(select(audit_record.c.record).order_by(audit_record.c.seq))]


def lines(installation: Installation) -> list[dict]:
    return audit_log.read_last_records(installation.settings.audit_dir, 10_000)


def recorded(installation: Installation, answer: Answer) -> dict:
    """Return the one record of a request."""
    (found,) = [one for one in lines(installation) if one["requestID"] == answer.headers["x-amzn-RequestId"]]
    return found


def test_g21_each_change_leaves_one_row_and_the_same_record_in_the_worker_s_log(admin, installation):
    answers = [
        admin.do("CreateUser", UserName="joe"),
        admin.do("PutUserPolicy", UserName="joe", PolicyName="p", PolicyDocument=allow()),
        admin.do("DeleteUserPolicy", UserName="joe", PolicyName="p"),
    ]
    ids = [answer.headers["x-amzn-RequestId"] for answer in answers]
    assert [row["requestID"] for row in rows(installation)] == ids
    for answer, row in zip(answers, rows(installation), strict=True):
        line = recorded(installation, answer)
        assert {key: line[key] for key in row} == row


def test_g21_a_read_and_a_refusal_leave_a_line_and_no_row(admin, installation):
    joe = admin.user("joe")
    before = rows(installation)
    answers = [
        installation.call("ListUsers", admin.root),
        installation.call("CreateUser", joe, UserName="x"),
        installation.call("CreateUser", admin.root, UserName="joe"),
        installation.call("CreateUser", admin.root, UserName="not a name"),
        installation.call("CreateUser", wrong_secret(joe), UserName="x"),
    ]
    codes = [None, "AccessDenied", "EntityAlreadyExists", "ValidationError", "SignatureDoesNotMatch"]
    assert [recorded(installation, answer).get("errorCode") for answer in answers] == codes
    assert rows(installation) == before


def test_g21_a_record_has_what_cloudtrail_s_have(admin, installation):
    joe = admin.user("joe", allow("iam:GetUser"))
    answer = installation.call("GetUser", joe, headers={"User-Agent": "test/1"}, peer="192.0.2.9", UserName="joe")
    record = recorded(installation, answer)
    assert record["eventTime"].endswith("Z")
    expected = {
        "eventName": "GetUser",
        "eventSource": "iam.amazonaws.com",
        "sourceIPAddress": "192.0.2.9",
        "userAgent": "test/1",
        "requestParameters": {"userName": "joe"},
        "readOnly": True,
        "recipientAccountId": admin.account_id,
    }
    assert {key: record[key] for key in expected} == expected
    identity = record["userIdentity"]
    assert (identity["type"], identity["arn"], identity["userName"]) == ("IAMUser", admin.arn("user", "joe"), "joe")
    assert (identity["accessKeyId"], identity["accountId"]) == (joe.access_key, admin.account_id)


def test_g21_the_record_of_a_role_session_names_role_session_and_person(admin, installation):
    joe = admin.user("joe", allow("sts:*"))
    role = admin.role("r", None, allow("iam:ListUsers"))
    session = assumed(installation, joe, role, "deploy")
    record = recorded(installation, installation.call("ListUsers", session))
    identity = record["userIdentity"]
    assert identity["type"] == "AssumedRole"
    assert identity["arn"].endswith(":assumed-role/r/deploy")
    assert identity["sessionContext"]["sessionIssuer"]["arn"] == role
    user_id = admin.do("GetUser", UserName="joe").text("UserId")
    assert identity["sessionContext"]["person"] == f"iam|{user_id}"


def test_g21_a_denial_s_record_says_which_statement_denied(admin, installation):
    joe = admin.user("joe", statements(allow("*"), deny("iam:ListUsers")))
    record = recorded(installation, installation.call("ListUsers", joe))
    (decision,) = record["additionalEventData"]["decisions"]
    assert (decision["result"], decision["layer"]) == ("explicitDeny", "identity-based policy")
    assert [name.rpartition("#")[2] for name in decision["statements"]] == ["2"]


def test_g21_a_change_whose_record_cannot_be_kept_is_not_made(admin, installation):
    """The record is written in the transaction of the change: without its table neither happens."""
    with installation.store.write(bump_revision=False) as tx:
        tx.exec_driver_sql("ALTER TABLE audit_record RENAME TO hidden")
    answer = installation.call("CreateUser", admin.root, UserName="joe")
    refused(answer, 503, "ServiceFailure")
    with installation.store.write(bump_revision=False) as tx:
        tx.exec_driver_sql("ALTER TABLE hidden RENAME TO audit_record")
    refused(installation.call("GetUser", admin.root, UserName="joe"), 404, "NoSuchEntity")
    assert installation.call("CreateUser", admin.root, UserName="joe").status == 200


def test_g21_without_an_audit_log_nothing_is_changed_minted_or_told(admin, installation):
    joe = admin.user("joe", allow("*"))
    role = admin.role("r")
    installation.services.storage.audit.close()
    refused(installation.call("CreateUser", admin.root, UserName="new"), 503, "ServiceUnavailable")
    for answer in (assume(installation, joe, role), installation.call("GetSessionToken", joe)):
        refused(answer, 503, "ServiceUnavailable")
        assert answer.text("SecretAccessKey") is None
    refused(installation.call("ListUsers", joe), 503, "ServiceUnavailable")
    again = installation.another_worker()
    refused(again.call("GetUser", admin.root, UserName="new"), 404, "NoSuchEntity")
    again.close()


def test_g19_of_concurrent_changes_of_one_policy_each_is_whole_and_each_that_was_made_has_its_row(admin, installation):
    admin.user("joe")
    documents = [allow([f"s3:Get{number}", f"s3:Put{number}"]) for number in range(8)]

    def put(document: str) -> Answer:
        given = {"UserName": "joe", "PolicyName": "p", "PolicyDocument": document}
        return installation.call("PutUserPolicy", admin.root, **given)

    answers = at_once(*(partial(put, document) for document in documents))
    assert {(answer.status, answer.code) for answer in answers} <= {(200, None), (409, "ConcurrentModification")}
    made = [row for row in rows(installation) if row["eventName"] == "PutUserPolicy"]
    assert len(made) == sum(answer.status == 200 for answer in answers) > 0
    kept = unquote(admin.do("GetUserPolicy", UserName="joe", PolicyName="p").text("PolicyDocument"))
    assert made[-1]["requestParameters"]["policyDocument"] == kept


PASSWORD = "correct-horse-battery-9"


def test_g08_g22_no_secret_is_in_a_record_a_row_the_database_or_a_log(admin, installation, caplog):
    caplog.set_level("DEBUG")
    key = admin.user("joe", allow("*"))
    admin.do("CreateLoginProfile", UserName="joe", Password=PASSWORD)
    new_password = PASSWORD + "-new"
    changed = installation.call("ChangePassword", key, OldPassword=PASSWORD, NewPassword=new_password)
    assert changed.status == 200, changed.message
    wrong = installation.call("ChangePassword", key, OldPassword="not-the-old-one-1", NewPassword="never-used-77-x")
    assert wrong.status == 403
    seed = admin.do("CreateVirtualMFADevice", VirtualMFADeviceName="phone").text("Base32StringSeed")
    session = assumed(installation, key, admin.role("r"))
    secrets = [key.secret_key, PASSWORD, new_password, "not-the-old-one-1", "never-used-77-x", seed]
    secrets += [session.secret_key, session.token, admin.root.secret_key]
    encoded = installation.call("ListUsers", admin.user("nobody")).text("EncodedAuthorizationMessage")
    installation.call("DecodeAuthorizationMessage", key, EncodedMessage=encoded)
    places = {"log": caplog.text.encode()}
    places |= {str(path): path.read_bytes() for path in installation.folder.rglob("*") if path.is_file()}
    assert len(places) > 2
    for name, content in places.items():
        for number, secret in enumerate([*secrets, encoded]):
            assert secret.encode() not in content, (name, number)
    for action, given in (
        ("ListAccessKeys", {"UserName": "joe"}),
        ("GetAccessKeyLastUsed", {"AccessKeyId": key.access_key}),
        ("GetAccountAuthorizationDetails", {}),
        ("GetLoginProfile", {"UserName": "joe"}),
        ("ListVirtualMFADevices", {}),
    ):
        told = admin.do(action, **given).body
        assert not [secret for secret in secrets if secret.encode() in told], action


def test_g12_wrong_old_passwords_lock_the_change_though_each_of_them_is_rolled_back(admin, installation):
    joe = admin.user("joe", allow("iam:ChangePassword"))
    admin.do("CreateLoginProfile", UserName="joe", Password=PASSWORD)
    for number in range(5):
        answer = installation.call("ChangePassword", joe, OldPassword=f"wrong-{number}", NewPassword=PASSWORD + "x")
        refused(answer, 403, "AccessDenied")
    answer = installation.call("ChangePassword", joe, OldPassword=PASSWORD, NewPassword=PASSWORD + "x")
    refused(answer, 429, "Throttling", "Too many wrong passwords")
    with installation.store.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM failed_attempt").scalar() == 1
