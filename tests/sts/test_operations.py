"""The operations of the STS as their callers see them: kinds of sessions, what narrows them, and what ends them."""

import base64
import os
import time
from collections.abc import Callable

import pytest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from support.administrator import Administrator, allow, assume, assumed, deny, refused, statements, trust
from support.installation import Clock, Installation, environment
from support.servers import eventually, redis_server

from iam.arn import account_of_access_key
from iam.store.revocation import revoke
from iam.store.vault import Vault
from sts.store import sealing_keys

INVALID = "The security token included in the request is invalid."


@pytest.fixture
def admin(installation: Installation) -> Administrator:
    return Administrator.of_a_new_account(installation)


@pytest.fixture
def alice(admin: Administrator) -> Credentials:
    return admin.user("alice", allow("sts:*"), allow("iam:List*"))


def works(installation: Installation, credentials: Credentials) -> bool:
    return installation.call("GetCallerIdentity", credentials).status == 200


# --- who a session is --------------------------------------------------------------------------------------------


def test_a_role_session_says_role_and_session_name_wherever_it_says_who_it_is(installation, admin, alice):
    admin.role("r", None, Path="/team/")
    role_id = admin.do("GetRole", RoleName="r").text("RoleId")
    arn = f"arn:aws:sts::{admin.account_id}:assumed-role/r/alice@corp"
    refused(assume(installation, alice, admin.arn("role", "r")), 403, "AccessDenied")  # the path is part of the name
    made = assume(installation, alice, admin.arn("role/team", "r"), "alice@corp")
    assert (made.text("Arn"), made.text("AssumedRoleId")) == (arn, f"{role_id}:alice@corp")
    told = installation.call("GetCallerIdentity", made.credentials)
    assert (told.text("Arn"), told.text("UserId"), told.text("Account")) == (
        arn,
        f"{role_id}:alice@corp",
        admin.account_id,
    )
    assert made.credentials.access_key.startswith("ASIA")
    assert account_of_access_key(made.credentials.access_key) == admin.account_id


def test_a_user_s_session_is_the_user_and_an_account_s_session_is_the_account(installation, admin, alice):
    for caller, arn in ((alice, admin.arn("user", "alice")), (admin.root, f"arn:aws:iam::{admin.account_id}:root")):
        session = installation.call("GetSessionToken", caller).credentials
        assert installation.call("GetCallerIdentity", session).text("Arn") == arn


def test_a_federated_user_s_session_has_a_name_of_its_own(installation, admin, alice):
    made = installation.call("GetFederationToken", alice, Name="jane.doe")
    arn = f"arn:aws:sts::{admin.account_id}:federated-user/jane.doe"
    assert (made.text("Arn"), made.text("FederatedUserId")) == (arn, f"{admin.account_id}:jane.doe")
    told = installation.call("GetCallerIdentity", made.credentials)
    assert (told.text("Arn"), told.text("UserId")) == (arn, f"{admin.account_id}:jane.doe")


TERMS = [
    ("GetSessionToken", "alice", {}, 43_200),
    ("GetSessionToken", "alice", {"DurationSeconds": 129_600}, 129_600),
    ("GetSessionToken", "root", {}, 3600),
    ("GetSessionToken", "root", {"DurationSeconds": 43_200}, 3600),
    ("GetSessionToken", "root", {"DurationSeconds": 900}, 900),
    ("GetFederationToken", "alice", {"Name": "fed"}, 43_200),
    ("GetFederationToken", "alice", {"Name": "fed", "DurationSeconds": 129_600}, 129_600),
    ("GetFederationToken", "root", {"Name": "fed"}, 3600),
]


@pytest.mark.parametrize("case", TERMS)
def test_a_session_lasts_as_long_as_the_api_reference_says(installation, admin, alice, clock, case):
    action, who, asked, seconds = case
    caller = alice if who == "alice" else admin.root
    answer = installation.call(action, caller, **asked)
    clock.advance(seconds=seconds - 10)
    assert works(installation, answer.credentials)
    clock.advance(seconds=11)
    refused(installation.call("GetCallerIdentity", answer.credentials), 403, "ExpiredToken")


def test_a_role_session_lasts_an_hour_unless_asked_otherwise(installation, admin, alice, clock):
    role = admin.role("r", MaxSessionDuration=43200)
    default, long = assumed(installation, alice, role), assumed(installation, alice, role, DurationSeconds=43200)
    clock.advance(seconds=3590)
    assert works(installation, default)
    clock.advance(seconds=11)
    assert not works(installation, default)
    clock.advance(seconds=43200 - 3600 - 20)
    assert works(installation, long)


def test_who_one_is_and_a_session_of_one_s_own_need_no_permission_and_survive_a_deny(installation, admin):
    joe = admin.user("joe", deny("*"))
    assert works(installation, joe)
    assert installation.call("GetSessionToken", joe).status == 200
    refused(installation.call("GetFederationToken", joe, Name="fed"), 403, "AccessDenied", "with an explicit deny")


def test_a_federation_token_needs_an_allow_and_tags_need_another(installation, admin):
    arn = f"arn:aws:sts::{admin.account_id}:federated-user/fed"
    joe = admin.user("joe", allow("sts:GetFederationToken", arn))
    assert installation.call("GetFederationToken", joe, Name="fed").status == 200
    refused(installation.call("GetFederationToken", joe, Name="other"), 403, "AccessDenied", "sts:GetFederationToken")
    label = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"}
    refused(installation.call("GetFederationToken", joe, Name="fed", **label), 403, "AccessDenied", "sts:TagSession")
    admin.do("PutUserPolicy", UserName="joe", PolicyName="t", PolicyDocument=allow("sts:TagSession", arn))
    answer = installation.call("GetFederationToken", joe, Name="fed", **label)
    assert answer.status == 200
    assert int(answer.text("PackedPolicySize")) > 0


def test_an_access_key_id_tells_its_account_whether_or_not_the_key_exists(installation, admin, alice):
    session = installation.call("GetSessionToken", alice).credentials
    for key_id in (alice.access_key, session.access_key):
        told = installation.call("GetAccessKeyInfo", alice, AccessKeyId=key_id)
        assert told.text("Account") == admin.account_id
    refused(installation.call("GetAccessKeyInfo", alice, AccessKeyId="A" * 16), 400, "ValidationError")
    powerless = admin.user("joe")
    refused(
        installation.call("GetAccessKeyInfo", powerless, AccessKeyId=alice.access_key),
        403,
        "AccessDenied",
        "sts:GetAccessKeyInfo on resource: *",
    )


# --- what narrows a session -----------------------------------------------------------------------------------------

NARROWING = {
    "an inline policy": {"Policy": allow("iam:ListUsers")},
    "a managed policy of AWS": {"PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/SecurityAudit"},
    "inline and managed together": {
        "Policy": allow("iam:ListUsers"),
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
    },
}


@pytest.mark.parametrize("case", NARROWING)
def test_a_role_session_may_do_what_role_and_session_policies_both_allow(installation, admin, alice, case):
    role = admin.role("r", None, allow("iam:*"))
    session = assumed(installation, alice, role, **NARROWING[case])
    assert installation.call("ListUsers", session).status == 200
    answer = installation.call("CreateUser", session, UserName="x")
    refused(answer, 403, "AccessDenied", "because no session policy allows the iam:CreateUser action")


def test_the_policies_of_one_session_grant_together(installation, admin, alice):
    role = admin.role("r", None, allow("iam:*"))
    mine = admin.policy("roles", allow("iam:ListRoles"))
    session = assumed(installation, alice, role, Policy=allow("iam:ListUsers"), **{"PolicyArns.member.1.arn": mine})
    assert installation.call("ListUsers", session).status == 200
    assert installation.call("ListRoles", session).status == 200
    refused(installation.call("ListGroups", session), 403, "AccessDenied", "session policy")


def test_a_managed_session_policy_is_read_live_and_grants_nothing_once_it_is_deleted(installation, admin, alice):
    role = admin.role("r", None, allow("iam:*"))
    mine = admin.policy("mine", allow("iam:ListRoles"))
    session = assumed(installation, alice, role, **{"PolicyArns.member.1.arn": mine})
    assert installation.call("ListRoles", session).status == 200
    admin.do("CreatePolicyVersion", PolicyArn=mine, PolicyDocument=allow("iam:ListUsers"), SetAsDefault="true")
    refused(installation.call("ListRoles", session), 403, "AccessDenied", "session policy")
    assert installation.call("ListUsers", session).status == 200
    admin.do("DeletePolicyVersion", PolicyArn=mine, VersionId="v1")
    admin.do("DeletePolicy", PolicyArn=mine)
    refused(installation.call("ListUsers", session), 403, "AccessDenied", "session policy")


def test_a_role_s_boundary_limits_its_sessions(installation, admin, alice):
    edge = admin.policy("edge", allow("iam:ListRoles"))
    role = admin.role("r", None, allow("iam:*"), PermissionsBoundary=edge)
    session = assumed(installation, alice, role)
    assert installation.call("ListRoles", session).status == 200
    refused(installation.call("ListUsers", session), 403, "AccessDenied", "because no permissions boundary allows")


def test_a_federated_user_without_a_session_policy_may_do_nothing(installation, admin, alice):
    """IAM itself is closed to federated users, so trust policies are what shows it: nobody is let in."""
    role = admin.role("r", trust({"AWS": admin.account_id}))
    for policy in ({}, {"Policy": allow("*")}):
        session = installation.call("GetFederationToken", alice, Name="fed", **policy).credentials
        refused(assume(installation, session, role), 403, "AccessDenied")
        refused(installation.call("ListUsers", session), 403, "InvalidClientTokenId")


def test_a_chained_session_is_limited_by_its_own_role_alone(installation, admin, alice):
    """The session policy of the first hop decides whether the second may be assumed, and then ends."""
    second = admin.role("second", None, allow("iam:ListUsers"))
    first = admin.role("first", None, allow(["sts:*", "iam:*"]))
    narrowed = assumed(installation, alice, first, Policy=allow("iam:ListRoles"))
    refused(assume(installation, narrowed, second), 403, "AccessDenied")
    hop = assumed(installation, alice, first, Policy=allow("sts:AssumeRole", second))
    refused(installation.call("ListRoles", hop), 403, "AccessDenied")
    chained = assumed(installation, hop, second)
    assert installation.call("ListUsers", chained).status == 200
    refused(installation.call("ListRoles", chained), 403, "AccessDenied")


CONDITIONS = {
    "the session name": (
        {"StringEquals": {"sts:RoleSessionName": "${aws:username}"}},
        {"name": "alice"},
        {"name": "mallory"},
    ),
    "a tag of the request": (
        {"StringEquals": {"aws:RequestTag/team": "red"}},
        {"Tags.member.1.Key": "Team", "Tags.member.1.Value": "red"},
        {"Tags.member.1.Key": "Team", "Tags.member.1.Value": "blue"},
    ),
    "which tags may come": (
        {"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}},
        {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"},
        {"Tags.member.1.Key": "other", "Tags.member.1.Value": "red"},
    ),
    "which tags are transitive": (
        {"ForAnyValue:StringEquals": {"sts:TransitiveTagKeys": ["team"]}},
        {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red", "TransitiveTagKeys.member.1": "team"},
        {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"},
    ),
    "the source identity": (
        {"StringEquals": {"sts:SourceIdentity": "alice"}},
        {"SourceIdentity": "alice"},
        {"SourceIdentity": "mallory"},
    ),
    "who asks": (
        {"StringEquals": {"aws:PrincipalTag/team": "red"}},
        {},
        None,
    ),
}


@pytest.mark.parametrize("case", CONDITIONS)
def test_a_trust_policy_sees_what_the_request_says(installation, admin, case):
    condition, fits, misfits = CONDITIONS[case]
    label = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"}
    red, plain = admin.user("alice", allow("sts:*"), **label), admin.user("bob", allow("sts:*"))
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    role = admin.role("r", trust({"AWS": admin.account_id}, actions, Condition=condition))
    assert assume(installation, red, role, **fits).status == 200
    answer = assume(installation, plain, role) if misfits is None else assume(installation, red, role, **misfits)
    refused(answer, 403, "AccessDenied")


def test_a_session_tag_wins_over_the_role_s_tag_of_the_same_key_in_another_case(installation, admin, alice):
    reds = allow("iam:ListUsers", Condition={"StringEquals": {"aws:PrincipalTag/team": "red"}})
    label = {"Tags.member.1.Key": "Team", "Tags.member.1.Value": "blue"}
    role = admin.role("r", trust({"AWS": admin.account_id}, ["sts:AssumeRole", "sts:TagSession"]), reds, **label)
    refused(installation.call("ListUsers", assumed(installation, alice, role)), 403, "AccessDenied")
    session_tag = {"Tags.member.1.Key": "tEAM", "Tags.member.1.Value": "red"}
    assert installation.call("ListUsers", assumed(installation, alice, role, **session_tag)).status == 200


def test_the_source_identity_is_a_condition_key_of_every_later_call(installation, admin, alice):
    mine = allow("iam:ListUsers", Condition={"StringEquals": {"aws:SourceIdentity": "alice"}})
    role = admin.role("r", trust({"AWS": admin.account_id}, ["sts:AssumeRole", "sts:SetSourceIdentity"]), mine)
    assert installation.call("ListUsers", assumed(installation, alice, role, SourceIdentity="alice")).status == 200
    for session in (assumed(installation, alice, role), assumed(installation, alice, role, SourceIdentity="bob")):
        refused(installation.call("ListUsers", session), 403, "AccessDenied")


# --- what ends a session ----------------------------------------------------------------------------------------------


def session_id(installation: Installation, admin: Administrator, credentials: Credentials, clock: Clock) -> str:
    """Return the id under which a session is listed, which is a moment after it was minted."""

    def listed() -> str | None:
        live = installation.services.storage.live_sessions.list_live(admin.account_id, int(clock().timestamp() * 1000))
        return next((one.id for one in live if one.access_key_id == credentials.access_key), None)

    return eventually(listed)


Subject = Callable[[Installation, Administrator, Credentials, Clock], str]
SUBJECTS: dict[str, Subject] = {
    "session": session_id,
    "person": lambda _i, admin, _c, _t: f"iam|{admin.do('GetUser', UserName='alice').text('UserId')}",
    "role": lambda _i, admin, _c, _t: admin.do("GetRole", RoleName="r").text("RoleId"),
    "account": lambda _i, admin, _c, _t: admin.account_id,
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_revocation_holds_at_once_here_within_a_second_elsewhere_and_for_ever(
    installation, admin, alice, clock, redis_url, kind
):
    worker = installation.another_worker()
    role = admin.role("r", None, allow("iam:List*"))
    session = assumed(installation, alice, role)
    for where in (installation, worker):
        assert works(where, session)
    now_ms = int(clock().timestamp() * 1000)
    with installation.store.write() as tx:
        revoke(tx, kind, SUBJECTS[kind](installation, admin, session, clock), now_ms=now_ms, random=os.urandom)
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)
    eventually(lambda: not works(worker, session))
    with Redis.from_url(redis_url) as client:
        client.flushall()
    assert not works(installation, session)
    again = installation.another_worker()
    refused(again.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)
    assert works(again, assumed(again, alice, role))
    for one in (worker, again):
        one.close()


@pytest.mark.parametrize("kind", ["session", "person", "role"])
def test_a_revocation_spares_everybody_else(installation, admin, alice, clock, kind):
    bob = admin.user("bob", allow("sts:*"))
    role, other = admin.role("r"), admin.role("other")
    session = assumed(installation, alice, role)
    spared = {
        "session": [assumed(installation, alice, role), assumed(installation, bob, role)],
        "person": [assumed(installation, bob, role)],
        "role": [assumed(installation, alice, other)],
    }[kind]
    now_ms = int(clock().timestamp() * 1000)
    with installation.store.write() as tx:
        revoke(tx, kind, SUBJECTS[kind](installation, admin, session, clock), now_ms=now_ms, random=os.urandom)
    assert not works(installation, session)
    assert all(works(installation, one) for one in spared)
    assert works(installation, alice)


def test_a_person_s_revocation_reaches_every_hop_of_a_chain_and_every_kind_of_session(
    installation, admin, alice, clock
):
    first, second = admin.role("first", None, allow("sts:*")), admin.role("second")
    hop = assumed(installation, alice, first)
    sessions = [
        hop,
        assumed(installation, hop, second),
        installation.call("GetSessionToken", alice).credentials,
        installation.call("GetFederationToken", alice, Name="fed").credentials,
    ]
    assert all(works(installation, one) for one in sessions)
    user_id = admin.do("GetUser", UserName="alice").text("UserId")
    now_ms = int(clock().timestamp() * 1000)
    with installation.store.write() as tx:
        revoke(tx, "person", f"iam|{user_id}", now_ms=now_ms, random=os.urandom)
    assert not any(works(installation, one) for one in sessions)


def test_the_sessions_of_a_deleted_user_end_with_it(installation, admin, alice):
    sessions = [
        installation.call("GetSessionToken", alice).credentials,
        installation.call("GetFederationToken", alice, Name="fed").credentials,
    ]
    assert all(works(installation, one) for one in sessions)
    admin.do("DeleteAccessKey", UserName="alice", AccessKeyId=alice.access_key)
    assert all(works(installation, one) for one in sessions)  # a session does not hang on the key that began it
    for name in ("p0", "p1"):
        admin.do("DeleteUserPolicy", UserName="alice", PolicyName=name)
    admin.do("DeleteUser", UserName="alice")
    admin.user("alice", allow("sts:*"))
    for one in sessions:
        refused(installation.call("GetCallerIdentity", one), 403, "InvalidClientTokenId", INVALID)


def test_i01_sessions_are_verified_and_minted_while_redis_is_away_and_a_revocation_still_holds(tmp_path, clock):
    with redis_server() as url:
        installation = Installation(tmp_path, environment(tmp_path, url), clock)
        admin = Administrator.of_a_new_account(installation)
        alice, role = admin.user("alice", allow("sts:*")), admin.role("r", None, allow("iam:ListUsers"))
        kept, ended = assumed(installation, alice, role), assumed(installation, alice, role)
        now_ms = int(clock().timestamp() * 1000)
        with installation.store.write() as tx:
            revoke(tx, "session", session_id(installation, admin, ended, clock), now_ms=now_ms, random=os.urandom)
    worker = installation.another_worker()
    for where in (installation, worker):
        assert where.call("ListUsers", kept).status == 200
        refused(where.call("ListUsers", ended), 403, "InvalidClientTokenId", INVALID)
        assert works(where, assumed(where, alice, role))
        where.close()


def test_what_redis_forgets_does_not_matter_to_a_session(installation, admin, alice, redis_url):
    session = assumed(installation, alice, admin.role("r"))
    with Redis.from_url(redis_url) as client:
        client.flushall()
    worker = installation.another_worker()
    assert works(installation, session)
    assert works(worker, session)
    worker.close()


# --- I11: sealing keys ----------------------------------------------------------------------------------------------


def key_ids(installation: Installation) -> list[str]:
    with installation.store.read() as tx:
        return [key.id for key in sealing_keys.load(tx, Vault(installation.settings.master_key))]


def rotate(installation: Installation) -> None:
    vault = Vault(installation.settings.master_key)
    with installation.store.write() as tx:
        sealing_keys.rotate(tx, vault, now=installation.now(), random=os.urandom)


def remove(installation: Installation, key_id: str) -> None:
    with installation.store.write() as tx:
        sealing_keys.remove(tx, key_id)


def sealed_with(credentials: Credentials) -> str:
    return base64.b64decode(credentials.token)[1:5].hex()


def test_i11_a_new_sealing_key_seals_once_every_worker_has_it_and_no_worker_ever_refuses_what_another_seals(
    installation, admin, alice, clock
):
    clock.advance(seconds=60)
    role = admin.role("r")
    worker = installation.another_worker()
    assert works(worker, alice)
    (first,) = key_ids(installation)
    rotate(installation)
    (new,) = set(key_ids(installation)) - {first}
    at_once = assumed(installation, alice, role)
    assert sealed_with(at_once) == first
    assert works(worker, at_once)
    time.sleep(0.6)  # a worker looks at the revision twice a second
    clock.advance(seconds=2)
    later = assumed(installation, alice, role)
    assert sealed_with(later) == new
    assert works(worker, later)
    worker.close()


def test_i11_sessions_live_as_long_as_the_key_that_sealed_them(installation, admin, alice, clock):
    role = admin.role("r")
    worker = installation.another_worker()
    old = assumed(worker, alice, role)
    (first,) = key_ids(installation)
    rotate(installation)
    clock.advance(seconds=3)
    new = assumed(installation, alice, role)
    assert works(installation, old)
    remove(installation, first)
    refused(installation.call("GetCallerIdentity", old), 403, "InvalidClientTokenId", INVALID)
    assert works(installation, new)
    eventually(lambda: not works(worker, old))
    assert works(worker, new)
    worker.close()


def test_i11_a_denial_encoded_under_a_removed_key_no_longer_decodes(installation, alice, clock):
    encoded = installation.call("CreateUser", alice, UserName="x").text("EncodedAuthorizationMessage")
    (first,) = key_ids(installation)
    clock.advance(seconds=3)
    rotate(installation)
    assert installation.call("DecodeAuthorizationMessage", alice, EncodedMessage=encoded).status == 200
    remove(installation, first)
    answer = installation.call("DecodeAuthorizationMessage", alice, EncodedMessage=encoded)
    refused(answer, 400, "InvalidAuthorizationMessageException")


# --- laws -----------------------------------------------------------------------------------------------------------

ACTIONS = ("iam:ListUsers", "iam:ListRoles", "iam:ListGroups", "iam:ListPolicies")
some = st.sets(st.sampled_from(ACTIONS), min_size=1)


def test_a_session_does_exactly_what_its_role_and_its_session_policy_both_allow_and_no_deny_forbids(
    installation, admin, alice
):
    admin.role("r")
    role = admin.arn("role", "r")

    @settings(max_examples=20, deadline=None)
    @given(some, some, some)
    def law(of_role: set[str], of_session: set[str], denied: set[str]) -> None:
        document = statements(allow(sorted(of_role)), deny(sorted(denied)))
        admin.do("PutRolePolicy", RoleName="r", PolicyName="p", PolicyDocument=document)
        session = assumed(installation, alice, role, Policy=allow(sorted(of_session)))
        done = {name for name in ACTIONS if installation.call(name.partition(":")[2], session).status == 200}
        assert done == (of_role & of_session) - denied

    law()
