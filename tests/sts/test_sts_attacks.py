"""THREATS B: what AssumeRole, its kin and their credentials refuse, through the whole application."""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from botocore.credentials import Credentials
from redis import Redis
from support.administrator import (
    Administrator,
    allow,
    assume,
    assumed,
    deny,
    deny_trust,
    refused,
    statements,
    trust,
)
from support.installation import Answer, Clock, Installation, environment, wrong_secret

from iam.credentials import totp
from iam.store.vault import Vault
from sts.store import sealing_keys
from sts.token import Sealer, SealingKey

INVALID = "The security token included in the request is invalid."
EXPIRED = "The security token included in the request is expired"
SESSION_POLICY = allow("iam:GetUser")
NOT_ALLOWED = "is not authorized to perform: sts:AssumeRole on resource: "


@dataclass(frozen=True)
class AttackSetup:
    """Two accounts and their people; the refusals of this module change nothing in it."""

    installation: Installation
    clock: Clock
    admin: Administrator
    other: Administrator
    alice: Credentials
    nobody: Credentials
    stranger: Credentials
    powerless_stranger: Credentials
    open_role: str
    second_role: str

    def assume(self, **parameters: object) -> Answer:
        stated = {"RoleArn": self.open_role, "RoleSessionName": "test", **parameters}
        given = {name: value for name, value in stated.items() if value is not None}
        return self.installation.call("AssumeRole", self.alice, **given)

    def session(self, **parameters: object) -> Credentials:
        return assumed(self.installation, self.alice, self.open_role, **parameters)

    def call(self, action: str, credentials: Credentials | None, **parameters: object) -> Answer:
        return self.installation.call(action, credentials, **parameters)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[AttackSetup]:
    folder, clock = tmp_path_factory.mktemp("world"), Clock()
    installation = Installation(folder, environment(folder, redis_url), clock)
    admin = Administrator.of_a_new_account(installation, "123456789012")
    other = Administrator.of_a_new_account(installation, "210987654321")
    anybody = trust({"AWS": "*"}, ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"])
    yield AttackSetup(
        installation,
        clock,
        admin,
        other,
        alice=admin.user("alice", allow("sts:*")),
        nobody=admin.user("nobody"),
        stranger=other.user("stranger", allow("sts:*")),
        powerless_stranger=other.user("powerless"),
        open_role=admin.role("open", anybody, allow(["iam:*", "sts:*"]), MaxSessionDuration=7200),
        second_role=admin.role("second", anybody, allow(["iam:*", "sts:*"]), MaxSessionDuration=7200),
    )
    installation.close()


def with_token(credentials: Credentials, token: str | None) -> Credentials:
    return Credentials(credentials.access_key, credentials.secret_key, token)


def changed_at(token: str, index: int) -> str:
    octets = bytearray(base64.b64decode(token))
    octets[index] ^= 1
    return base64.b64encode(bytes(octets)).decode()


# --- B01 to B04: the token and the signature ---------------------------------------------------------------------

BROKEN_TOKENS = {
    "no token": lambda _token, _other: None,
    "the token of another session": lambda _token, other: other,
    "the key id flipped": lambda token, _other: changed_at(token, 1),
    "the version changed": lambda token, _other: changed_at(token, 0),
    "the nonce flipped": lambda token, _other: changed_at(token, 6),
    "the body flipped": lambda token, _other: changed_at(token, 40),
    "the tag flipped": lambda token, _other: changed_at(token, -1),
    "cut": lambda token, _other: token[:-8],
    "cut in a base64 digit": lambda token, _other: token[:-1],
    "doubled": lambda token, _other: token + token,
    "no base64": lambda _token, _other: "%%%",
}


@pytest.mark.parametrize("fault", BROKEN_TOKENS)
@pytest.mark.parametrize("secret", ["right", "wrong"])
def test_b01_a_temporary_key_is_nothing_without_its_own_token_whatever_the_signature(world, fault, secret):
    session, other = world.session(), world.session()
    broken = with_token(session, BROKEN_TOKENS[fault](session.token, other.token))
    presented = broken if secret == "right" else wrong_secret(broken)
    refused(world.call("GetCallerIdentity", presented), 403, "InvalidClientTokenId", INVALID)


def test_b02_the_right_token_with_a_wrong_secret_is_a_wrong_signature(world):
    refused(world.call("GetCallerIdentity", wrong_secret(world.session())), 403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("kind", ["role", "user", "federated"])
def test_b03_an_expired_session_says_so_whatever_the_signature(installation, clock, kind):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    session = {
        "role": lambda: assumed(installation, alice, admin.role("r"), DurationSeconds=900),
        "user": lambda: installation.call("GetSessionToken", alice, DurationSeconds=900).credentials,
        "federated": lambda: (
            installation.call("GetFederationToken", alice, Name="fed", DurationSeconds=900).credentials
        ),
    }[kind]()
    clock.advance(seconds=895)
    assert installation.call("GetCallerIdentity", session).status == 200
    clock.advance(seconds=6)
    refused(installation.call("GetCallerIdentity", session), 403, "ExpiredToken", EXPIRED)
    refused(installation.call("GetCallerIdentity", wrong_secret(session)), 403, "ExpiredToken", EXPIRED)


def test_b03_the_answer_tells_the_very_second_at_which_the_session_ends(installation, clock):
    admin = Administrator.of_a_new_account(installation)
    answer = assume(installation, admin.user("alice", allow("sts:*")), admin.role("r"), DurationSeconds=900)
    told = answer.text("Expiration")
    before = clock().replace(microsecond=0)
    assert 895 <= (type(before).fromisoformat(told) - before).total_seconds() <= 900


def test_b04_the_first_fault_in_the_order_of_the_checks_is_the_one_that_is_told(installation, clock):
    """Each step takes one fault away; what is left must then be told, up to the authorization at the end."""
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    gone = assumed(installation, alice, admin.role("gone"), DurationSeconds=1800)
    expired = assumed(installation, alice, admin.role("kept"), DurationSeconds=900)
    clock.advance(seconds=1000)
    stays = assumed(installation, alice, admin.arn("role", "kept"))
    admin.do("DeleteRole", RoleName="gone")
    unopened = wrong_secret(with_token(expired, changed_at(expired.token, 40)))

    def told(credentials: Credentials, action: str = "ListUsers", **headers: str) -> str | None:
        return installation.call(action, credentials, headers=headers).code

    assert told(unopened, Authorization=_scoped_to("s3", unopened)) == "SignatureDoesNotMatch"  # scope
    assert told(unopened) == "InvalidClientTokenId"  # the token
    assert told(wrong_secret(expired)) == "ExpiredToken"  # the expiry
    assert told(wrong_secret(gone)) == "InvalidClientTokenId"  # the role
    assert told(wrong_secret(stays)) == "SignatureDoesNotMatch"  # the signature
    assert told(stays) == "AccessDenied"  # the policies


def _scoped_to(service: str, credentials: Credentials) -> str:
    scope = f"{credentials.access_key}/20000101/us-east-1/{service}/aws4_request"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"


@pytest.mark.parametrize("signature", ["right", "wrong"])
def test_b04_an_inactive_key_is_unknown_before_its_signature_is_looked_at(installation, signature):
    admin = Administrator.of_a_new_account(installation)
    key = admin.user("joe")
    admin.do("UpdateAccessKey", UserName="joe", AccessKeyId=key.access_key, Status="Inactive")
    presented = key if signature == "right" else wrong_secret(key)
    refused(installation.call("GetCallerIdentity", presented), 403, "InvalidClientTokenId", INVALID)


# --- B05 to B08: what changes after a session was issued -------------------------------------------------------------


def test_b05_the_session_of_a_deleted_role_stays_dead_when_the_role_is_made_anew(installation):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    session = assumed(installation, alice, admin.role("r"))
    admin.do("DeleteRole", RoleName="r")
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)
    again = admin.role("r")
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)
    assert installation.call("GetCallerIdentity", assumed(installation, alice, again)).status == 200


def test_b05_a_trust_policy_that_named_a_user_does_not_trust_the_next_user_of_that_name(installation):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice")
    role = admin.role("r", trust({"AWS": admin.arn("user", "alice")}))
    assert assume(installation, alice, role).status == 200
    admin.do("DeleteAccessKey", UserName="alice", AccessKeyId=alice.access_key)
    admin.do("DeleteUser", UserName="alice")
    refused(assume(installation, admin.user("alice"), role), 403, "AccessDenied")


def test_b06_a_trust_policy_that_changes_lets_sessions_live_and_refuses_new_ones(installation):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    role = admin.role("r", None, allow("iam:ListUsers"))
    session = assumed(installation, alice, role)
    nobody_else = trust({"AWS": admin.arn("user", "alice")}, "sts:TagSession")
    admin.do("UpdateAssumeRolePolicy", RoleName="r", PolicyDocument=nobody_else)
    assert installation.call("ListUsers", session).status == 200
    refused(assume(installation, alice, role), 403, "AccessDenied", NOT_ALLOWED + role)


def test_b07_a_deny_that_is_added_holds_from_the_next_call(installation):
    admin = Administrator.of_a_new_account(installation)
    session = assumed(installation, admin.user("alice", allow("sts:*")), admin.role("r", None, allow("iam:ListUsers")))
    assert installation.call("ListUsers", session).status == 200
    admin.do("PutRolePolicy", RoleName="r", PolicyName="stop", PolicyDocument=deny("iam:*"))
    refused(
        installation.call("ListUsers", session),
        403,
        "AccessDenied",
        "with an explicit deny in an identity-based policy",
    )


def test_b08_a_deny_on_the_issue_time_ends_all_sessions_issued_before_and_none_after(installation, clock, redis_url):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    role = admin.role("r", None, allow("iam:ListUsers"))
    old = assumed(installation, alice, role)
    clock.advance(seconds=2)
    cut_off = clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    older = deny("*", Condition={"DateLessThan": {"aws:TokenIssueTime": cut_off}})
    admin.do("PutRolePolicy", RoleName="r", PolicyName="AWSRevokeOlderSessions", PolicyDocument=older)
    clock.advance(seconds=2)
    new = assumed(installation, alice, role)
    refused(installation.call("ListUsers", old), 403, "AccessDenied", "explicit deny")
    assert installation.call("ListUsers", new).status == 200
    again = restarted_with_an_empty_redis(installation, redis_url)
    refused(again.call("ListUsers", old), 403, "AccessDenied", "explicit deny")
    assert again.call("ListUsers", new).status == 200
    again.close()


def restarted_with_an_empty_redis(installation: Installation, redis_url: str) -> Installation:
    installation.close()
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return installation.another_worker()


# --- B09: nobody learns which roles exist ----------------------------------------------------------------------------


def test_b09_an_unknown_role_and_one_that_distrusts_are_refused_in_the_same_words(world):
    closed = world.admin.role("closed", trust({"Service": "ec2.amazonaws.com"}))
    unknown = world.admin.arn("role", "unknown")
    for caller in (world.alice, world.nobody, world.stranger):
        answers = [assume(world.installation, caller, role) for role in (closed, unknown)]
        for answer, role in zip(answers, (closed, unknown), strict=True):
            refused(answer, 403, "AccessDenied", NOT_ALLOWED + role)
        assert answers[0].message.replace(closed, "") == answers[1].message.replace(unknown, "")
        assert answers[0].headers.keys() == answers[1].headers.keys()


def test_b09_the_encoded_reasons_are_the_role_s_account_s_to_read_and_their_length_tells_nothing(world):
    label = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "x"}
    tagged = world.admin.role("tagged", trust({"Service": "ec2.amazonaws.com"}), **label)
    roles = (tagged, world.admin.arn("role", "tugged"), world.admin.arn("role", "/".join(["p" * 60] * 8) + "/x"))
    encoded = {}
    for role in roles:
        answer = assume(world.installation, world.stranger, role)
        refused(answer, 403, "AccessDenied", NOT_ALLOWED + role)
        encoded[role] = answer.text("EncodedAuthorizationMessage")
    assert len(set(map(len, encoded.values()))) == 1
    for one in encoded.values():
        mine = world.call("DecodeAuthorizationMessage", world.stranger, EncodedMessage=one)
        refused(mine, 400, "InvalidAuthorizationMessageException")
        nobody = world.call("DecodeAuthorizationMessage", world.nobody, EncodedMessage=one)
        refused(nobody, 403, "AccessDenied", "sts:DecodeAuthorizationMessage")
    found = decoded(world, encoded[tagged])
    assert found["context"]["action"] == "sts:AssumeRole"
    (failure,) = found["failures"]["items"]
    assert failure["layer"] == "role trust policy"
    assert failure["nearest"]["misses"] == [{"part": "principal", "wanted": ["ec2.amazonaws.com"]}]
    assert decoded(world, encoded[roles[1]])["matchedStatements"]["items"][0]["policy"] == "no such role"


def decoded(world, encoded):
    answer = world.call("DecodeAuthorizationMessage", world.alice, EncodedMessage=encoded)
    assert answer.status == 200, answer.message
    return json.loads(answer.text("DecodedMessage"))


# --- B10 to B14, B17, B21, B24, B31: values ----------------------------------------------------------------------


def tags(*pairs: tuple[str, str]) -> dict[str, str]:
    flat = {}
    for number, (key, value) in enumerate(pairs, 1):
        flat[f"Tags.member.{number}.Key"], flat[f"Tags.member.{number}.Value"] = key, value
    return flat


def arns(count: int, arn: str = "arn:aws:iam::aws:policy/ReadOnlyAccess") -> dict[str, str]:
    return {f"PolicyArns.member.{number}.arn": arn for number in range(1, count + 1)}


INVALID_VALUES = {
    "B10 no role": ({"RoleArn": None}, "ValidationError", "roleArn"),
    "B10 a short role": ({"RoleArn": "arn:aws:iam::1"}, "ValidationError", "roleArn"),
    "B10 a long role": ({"RoleArn": "arn:aws:iam::123456789012:role/" + "r" * 2048}, "ValidationError", "roleArn"),
    "B10 a role that is no ARN": ({"RoleArn": "this is no ARN at all, is it"}, "ValidationError", ""),
    "B10 no name": ({"RoleSessionName": None}, "ValidationError", "roleSessionName"),
    "B10 a name of one": ({"RoleSessionName": "x"}, "ValidationError", "roleSessionName"),
    "B10 a name of 65": ({"RoleSessionName": "x" * 65}, "ValidationError", "roleSessionName"),
    "B10 a name with a space": ({"RoleSessionName": "a b"}, "ValidationError", "roleSessionName"),
    "B10 an empty name": ({"RoleSessionName": ""}, "ValidationError", "roleSessionName"),
    "B11 899 seconds": ({"DurationSeconds": 899}, "ValidationError", "durationSeconds"),
    "B11 43201 seconds": ({"DurationSeconds": 43201}, "ValidationError", "durationSeconds"),
    "B11 negative seconds": ({"DurationSeconds": -1}, "ValidationError", "durationSeconds"),
    "B12 a fraction": ({"DurationSeconds": "900.0"}, "MalformedInput", ""),
    "B12 nothing": ({"DurationSeconds": ""}, "MalformedInput", ""),
    "B12 too large for an integer": ({"DurationSeconds": 2147483648}, "MalformedInput", ""),
    "B12 underscores": ({"DurationSeconds": "1_000"}, "MalformedInput", ""),
    "B13 more than the role's maximum": (
        {"DurationSeconds": 7201},
        "ValidationError",
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
    ),
    "B17 an external id of one": ({"ExternalId": "x"}, "ValidationError", "externalId"),
    "B17 an external id of 1225": ({"ExternalId": "x" * 1225}, "ValidationError", "externalId"),
    "B17 an external id with a space": ({"ExternalId": "a b"}, "ValidationError", "externalId"),
    "B21 51 tags": (tags(*((f"k{n}", "v") for n in range(51))), "ValidationError", "tags"),
    "B21 a key of 129": (tags(("k" * 129, "v")), "ValidationError", "tags"),
    "B21 a value of 257": (tags(("k", "v" * 257)), "ValidationError", "tags"),
    "B21 keys equal but for case": (tags(("Team", "a"), ("team", "b")), "ValidationError", "Duplicate tag keys"),
    "B21 a reserved key": (tags(("aws:team", "a")), "ValidationError", ""),
    "B21 a reserved key in capitals": (tags(("AWS:team", "a")), "ValidationError", ""),
    "B21 a transitive key without its tag": (
        {**tags(("a", "b")), "TransitiveTagKeys.member.1": "c"},
        "ValidationError",
        "",
    ),
    "B23 a policy that is no JSON": ({"Policy": "no JSON"}, "MalformedPolicyDocument", ""),
    "B23 a policy with a principal": ({"Policy": trust({"AWS": "*"})}, "MalformedPolicyDocument", ""),
    "B23 a policy without a statement": ({"Policy": '{"Version":"2012-10-17"}'}, "MalformedPolicyDocument", ""),
    "B23 an empty list of actions": ({"Policy": allow([])}, "MalformedPolicyDocument", ""),
    "B24 a policy of 2049": ({"Policy": SESSION_POLICY.ljust(2049)}, "ValidationError", "policy"),
    "B24 eleven policy ARNs": (arns(11), "ValidationError", "policyArns"),
    "B24 a policy that does not exist": (arns(1, "arn:aws:iam::aws:policy/NoSuchPolicy"), "ValidationError", ""),
    "B24 a policy of another account": (
        arns(1, "arn:aws:iam::210987654321:policy/theirs"),
        "ValidationError",
        "",
    ),
    "B31 five digits": (
        {"SerialNumber": "arn:aws:iam::123456789012:mfa/a", "TokenCode": "12345"},
        "ValidationError",
        "tokenCode",
    ),
    "B31 letters": (
        {"SerialNumber": "arn:aws:iam::123456789012:mfa/a", "TokenCode": "abcdef"},
        "ValidationError",
        "tokenCode",
    ),
}


@pytest.mark.parametrize("case", INVALID_VALUES)
def test_values_that_no_role_session_may_have_are_refused_by_name(world, case):
    parameters, code, text = INVALID_VALUES[case]
    refused(world.assume(**parameters), 400, code, text)


LARGEST_VALUES = {
    "B10 a name of two": {"RoleSessionName": "xy"},
    "B10 a name of 64": {"RoleSessionName": "x" * 64},
    "B11 900 seconds": {"DurationSeconds": 900},
    "B13 the role's maximum": {"DurationSeconds": 7200},
    "B17 an external id of two": {"ExternalId": "xy"},
    "B17 an external id of 1224": {"ExternalId": "x" * 1224},
    "B21 50 tags": tags(*((f"k{n}", "v") for n in range(50))),
    "B21 a key of 128 and a value of 256": tags(("k" * 128, "v" * 256)),
    "B21 an empty value": tags(("k", "")),
    "B24 a policy of 2048": {"Policy": SESSION_POLICY.ljust(2048)},
    "B24 ten policy ARNs": arns(10),
}


@pytest.mark.parametrize("case", LARGEST_VALUES)
def test_values_at_the_limit_are_taken(world, case):
    answer = world.assume(**LARGEST_VALUES[case])
    assert answer.status == 200, answer.message


def test_b14_a_chained_session_lasts_an_hour_at_most(world):
    session = world.session()

    def chained(seconds: int) -> Answer:
        return assume(world.installation, session, world.second_role, DurationSeconds=seconds)

    refused(
        chained(3601),
        400,
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
    )
    refused(chained(7201), 400, "ValidationError", "exceeds the MaxSessionDuration set for this role.")
    refused(chained(43201), 400, "ValidationError", "durationSeconds")
    assert chained(3600).status == 200


def test_b15_root_assumes_no_role_neither_with_its_key_nor_with_a_session(world):
    root = world.admin.root
    told = "Roles may not be assumed by root accounts."
    refused(assume(world.installation, root, world.open_role), 403, "AccessDenied", told)
    session = world.call("GetSessionToken", root).credentials
    refused(assume(world.installation, session, world.open_role), 403, "AccessDenied", told)
    refused(assume(world.installation, world.other.root, world.open_role), 403, "AccessDenied", told)


# --- B16 to B22: conditions, source identity, tags ------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"ExternalId": "other-id"}, {"ExternalId": "THE-ID"}, {"ExternalId": "the-id"}])
def test_b16_a_third_party_needs_the_very_external_id(world, given):
    name = "partner"
    if world.call("GetRole", world.admin.root, RoleName=name).status == 404:
        condition = {"StringEquals": {"sts:ExternalId": "the-id"}}
        world.admin.role(name, trust({"AWS": world.other.account_id}, Condition=condition))
    answer = assume(world.installation, world.stranger, world.admin.arn("role", name), **given)
    if given == {"ExternalId": "the-id"}:
        assert answer.status == 200, answer.message
    else:
        refused(answer, 403, "AccessDenied", NOT_ALLOWED)


NEEDS_ITS_OWN_ALLOW = {
    "B18 a source identity, on the trust side": ("SourceIdentity", "sts:SetSourceIdentity"),
    "B20 tags, on the trust side": ("Tags.member.1.Key", "sts:TagSession"),
}


@pytest.mark.parametrize("case", NEEDS_ITS_OWN_ALLOW)
@pytest.mark.parametrize("side", ["trust policy", "caller's policy"])
def test_b18_b20_source_identity_and_tags_need_an_allow_of_their_own_on_both_sides(installation, case, side):
    parameter, action = NEEDS_ITS_OWN_ALLOW[case]
    given = {parameter: "alice"} | ({"Tags.member.1.Value": "x"} if parameter.startswith("Tags") else {})
    admin = Administrator.of_a_new_account(installation)
    both = ["sts:AssumeRole", action]
    trusted, own = ("sts:AssumeRole", both) if side == "trust policy" else (both, "sts:AssumeRole")
    role = admin.role("r", trust({"AWS": admin.account_id}, trusted))
    alice = admin.user("alice", allow(own))
    assert assume(installation, alice, role).status == 200
    refused(assume(installation, alice, role, **given), 403, "AccessDenied", action)
    # Once both sides allow it, the same request passes.
    admin.do("UpdateAssumeRolePolicy", RoleName="r", PolicyDocument=trust({"AWS": admin.account_id}, both))
    admin.do("PutUserPolicy", UserName="alice", PolicyName="more", PolicyDocument=allow(action))
    assert assume(installation, alice, role, **given).status == 200


def test_b19_the_source_identity_stays_over_every_hop_and_cannot_be_changed(world):
    first = assume(world.installation, world.alice, world.open_role, SourceIdentity="alice")
    assert first.text("SourceIdentity") == "alice"
    changed = assume(world.installation, first.credentials, world.second_role, SourceIdentity="bob")
    refused(changed, 400, "ValidationError", "The source identity is already set for this assume role session")
    for given in ({}, {"SourceIdentity": "alice"}):
        hop = assume(world.installation, first.credentials, world.second_role, **given)
        assert (hop.status, hop.text("SourceIdentity")) == (200, "alice")


def test_b19_a_chained_session_with_a_source_identity_needs_leave_to_set_it_on_the_next_role(world):
    deaf = world.admin.role("deaf", trust({"AWS": "*"}, "sts:AssumeRole"))
    first = assumed(world.installation, world.alice, world.open_role, SourceIdentity="alice")
    refused(assume(world.installation, first, deaf), 403, "AccessDenied", "sts:SetSourceIdentity")
    assert assume(world.installation, world.session(), deaf).status == 200


def test_b22_a_transitive_tag_travels_and_cannot_be_overridden(world):
    given = {**tags(("Team", "red"), ("Mood", "blue")), "TransitiveTagKeys.member.1": "Team"}
    first = assumed(world.installation, world.alice, world.open_role, **given)
    for key in ("Team", "team"):
        refused(
            assume(world.installation, first, world.second_role, **tags((key, "green"))),
            403,
            "AccessDenied",
            "transitive tag key",
        )
    assert assume(world.installation, first, world.second_role, **tags(("Mood", "green"))).status == 200


def test_b22_transitive_tags_are_the_tags_of_every_later_hop_and_other_tags_end_with_theirs(world):
    reds = allow("iam:ListUsers", Condition={"StringEquals": {"aws:PrincipalTag/Team": "red"}})
    blues = allow("iam:ListRoles", Condition={"StringEquals": {"aws:PrincipalTag/Mood": "blue"}})
    hop = trust({"AWS": "*"}, ["sts:AssumeRole", "sts:TagSession"])
    target = world.admin.role("tag-reader", hop, statements(reds, blues, allow("sts:*")))
    given = {**tags(("Team", "red"), ("Mood", "blue")), "TransitiveTagKeys.member.1": "Team"}
    first = assumed(world.installation, world.alice, world.second_role, **given)
    second = assumed(world.installation, first, target)
    third = assumed(world.installation, second, target)
    for session in (second, third):
        assert world.call("ListUsers", session).status == 200
        refused(world.call("ListRoles", session), 403, "AccessDenied")


# --- B25, B26: session policies ---------------------------------------------------------------------------------


def noise(length: int, seed: str) -> str:
    digests = (hashlib.sha256(f"{seed}{n}".encode()).hexdigest() for n in range(length // 64 + 1))
    return "".join(digests)[:length]


def test_b25_policies_and_tags_that_cannot_be_packed_are_too_large_and_the_percentage_says_how_much(world):
    policy = allow([f"s3:{noise(90, str(n))}" for n in range(18)])
    assert len(policy) <= 2048
    many = tags(*((noise(100, f"k{n}"), noise(256, f"v{n}")) for n in range(50)))
    answer = world.assume(Policy=policy, **many)
    refused(answer, 400, "PackedPolicyTooLarge", "Packed size of session tags and policies consumes ")
    percent = int(answer.message.partition("consumes ")[2].partition("%")[0])
    assert percent > 100


def test_b25_the_packed_size_is_told_where_something_was_packed_and_only_there(world):
    assert world.assume().text("PackedPolicySize") is None
    small = int(world.assume(Policy=SESSION_POLICY).text("PackedPolicySize"))
    larger = int(world.assume(Policy=SESSION_POLICY, **tags(("a", noise(250, "a")))).text("PackedPolicySize"))
    assert 0 < small < larger <= 100


NARROWED = {
    "inline": {"Policy": allow("*")},
    "managed": arns(1, "arn:aws:iam::aws:policy/AdministratorAccess"),
    "both": {"Policy": allow("*"), **arns(1, "arn:aws:iam::aws:policy/AdministratorAccess")},
}


@pytest.mark.parametrize("case", NARROWED)
def test_b26_a_session_policy_wider_than_the_role_gives_nothing_that_the_role_does_not(world, case):
    if world.call("GetRole", world.admin.root, RoleName="narrow").status == 404:
        world.admin.role("narrow", None, allow("iam:ListUsers"))
    session = assumed(world.installation, world.alice, world.admin.arn("role", "narrow"), **NARROWED[case])
    assert world.call("ListUsers", session).status == 200
    refused(
        world.call("ListRoles", session),
        403,
        "AccessDenied",
        "because no identity-based policy allows the iam:ListRoles",
    )


# --- B27, B28: what each kind of session may call ----------------------------------------------------------------


@pytest.mark.parametrize("action", ["GetSessionToken", "GetFederationToken"])
def test_b27_a_role_session_begins_no_other_kind_of_session(world, action):
    given = {"Name": "fed"} if action == "GetFederationToken" else {}
    refused(world.call(action, world.session(), **given), 403, "AccessDenied")


USER_SESSION = {
    "GetCallerIdentity": ({}, 200, None),
    "AssumeRole": ({"RoleArn": "arn:aws:iam::123456789012:role/open", "RoleSessionName": "xy"}, 200, None),
    "GetSessionToken": ({}, 403, "AccessDenied"),
    "GetFederationToken": ({"Name": "fed"}, 403, "AccessDenied"),
    "GetAccessKeyInfo": ({"AccessKeyId": "AKIAIOSFODNN7EXAMPLE"}, 403, "AccessDenied"),
    "DecodeAuthorizationMessage": ({"EncodedMessage": "x"}, 403, "AccessDenied"),
    "ListUsers": ({}, 403, "InvalidClientTokenId"),
}
FEDERATED_SESSION = {
    "GetCallerIdentity": ({}, 200, None),
    "AssumeRole": ({"RoleArn": "arn:aws:iam::123456789012:role/open", "RoleSessionName": "xy"}, 403, "AccessDenied"),
    "GetSessionToken": ({}, 403, "AccessDenied"),
    "GetFederationToken": ({"Name": "fed"}, 403, "AccessDenied"),
    "GetAccessKeyInfo": ({"AccessKeyId": "AKIAIOSFODNN7EXAMPLE"}, 403, "AccessDenied"),
    "DecodeAuthorizationMessage": ({"EncodedMessage": "x"}, 403, "AccessDenied"),
    "ListUsers": ({}, 403, "InvalidClientTokenId"),
}


@pytest.mark.parametrize("action", USER_SESSION)
def test_b28_a_user_s_session_without_mfa_calls_only_what_it_may(world, action):
    given, status, code = USER_SESSION[action]
    session = world.call("GetSessionToken", world.alice).credentials
    answer = world.call(action, session, **given)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("action", FEDERATED_SESSION)
def test_b28_a_federated_user_s_session_calls_only_who_it_is(world, action):
    given, status, code = FEDERATED_SESSION[action]
    session = world.call("GetFederationToken", world.alice, Name="fed", Policy=allow("*")).credentials
    answer = world.call(action, session, **given)
    assert (answer.status, answer.code) == (status, code)


# --- B29 to B31: MFA -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """A phone with one account in it."""

    serial: str
    seed: bytes
    clock: Clock

    def code(self, steps: int = 0) -> str:
        return totp.code_at(self.seed, totp.step_at(self.clock()) + steps)

    def proof(self, steps: int = 0) -> dict[str, str]:
        return {"SerialNumber": self.serial, "TokenCode": self.code(steps)}


def enabled_device(admin: Administrator, user: str, clock: Clock) -> Device:
    made = admin.do("CreateVirtualMFADevice", VirtualMFADeviceName=user)
    # The blob of the answer is base64 of the base32 text of the seed.
    seed = base64.b32decode(base64.b64decode(made.text("Base32StringSeed")))
    device = Device(made.text("SerialNumber"), seed, clock)
    codes = {"AuthenticationCode1": device.code(-1), "AuthenticationCode2": device.code()}
    admin.do("EnableMFADevice", UserName=user, SerialNumber=device.serial, **codes)
    clock.advance(seconds=60)
    return device


WRONG_CODE = "MultiFactorAuthentication failed with invalid MFA one time pass code."
WITH_MFA = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}


def test_b29_a_trust_policy_that_asks_for_mfa_refuses_without_and_takes_a_code_or_a_session_with_mfa(
    installation, clock
):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    role = admin.role("r", trust({"AWS": admin.account_id}, Condition=WITH_MFA))
    device = enabled_device(admin, "alice", clock)
    plain = installation.call("GetSessionToken", alice).credentials
    for caller in (alice, plain):
        refused(assume(installation, caller, role), 403, "AccessDenied", NOT_ALLOWED + role)
    assert assume(installation, alice, role, **device.proof()).status == 200
    clock.advance(seconds=30)
    with_mfa = installation.call("GetSessionToken", alice, **device.proof()).credentials
    assert assume(installation, with_mfa, role).status == 200


def test_b29_mfa_older_than_the_trust_policy_s_age_is_refused(installation, clock):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("sts:*"))
    recent = {"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}
    role = admin.role("r", trust({"AWS": admin.account_id}, Condition=recent))
    device = enabled_device(admin, "alice", clock)
    session = installation.call("GetSessionToken", alice, **device.proof()).credentials
    clock.advance(seconds=290)
    assert assume(installation, session, role).status == 200
    clock.advance(seconds=20)
    refused(assume(installation, session, role), 403, "AccessDenied")
    refused(assume(installation, alice, role), 403, "AccessDenied")


def test_b29_a_user_s_session_with_mfa_may_call_iam(installation, clock):
    admin = Administrator.of_a_new_account(installation)
    alice = admin.user("alice", allow("iam:ListUsers", Condition=WITH_MFA))
    device = enabled_device(admin, "alice", clock)
    refused(installation.call("ListUsers", alice), 403, "AccessDenied")
    session = installation.call("GetSessionToken", alice, **device.proof()).credentials
    assert installation.call("ListUsers", session).status == 200
    refused(installation.call("ListRoles", session), 403, "AccessDenied")


def test_b30_a_wrong_a_spent_and_somebody_else_s_code_are_refused_alike(installation, clock):
    admin = Administrator.of_a_new_account(installation)
    alice, _bob = admin.user("alice", allow("sts:*")), admin.user("bob", allow("sts:*"))
    role = admin.role("r")
    mine, other = enabled_device(admin, "alice", clock), enabled_device(admin, "bob", clock)
    wrong = {**mine.proof(), "TokenCode": f"{(int(mine.code()) + 1) % 10**6:06}"}
    refused(assume(installation, alice, role, **wrong), 403, "AccessDenied", WRONG_CODE)
    refused(assume(installation, alice, role, **other.proof()), 403, "AccessDenied", WRONG_CODE)
    unknown = {**mine.proof(), "SerialNumber": admin.arn("mfa", "nobody")}
    refused(assume(installation, alice, role, **unknown), 403, "AccessDenied", WRONG_CODE)
    proof = mine.proof()
    assert assume(installation, alice, role, **proof).status == 200
    for _ in range(2):
        refused(assume(installation, alice, role, **proof), 403, "AccessDenied", WRONG_CODE)
    refused(installation.call("GetSessionToken", alice, **proof), 403, "AccessDenied", WRONG_CODE)
    worker = installation.another_worker()
    refused(assume(worker, alice, role, **proof), 403, "AccessDenied", WRONG_CODE)
    worker.close()


def test_b30_a_code_without_its_device_or_a_device_without_a_code_is_refused(world):
    told = "must provide both MFA serial number and one time pass code"
    refused(world.assume(TokenCode="123456"), 403, "AccessDenied", told)
    refused(world.assume(SerialNumber="arn:aws:iam::123456789012:mfa/a"), 403, "AccessDenied", told)


# --- B32, B33, B34: denies, accounts, addresses -----------------------------------------------------------------

ONLY_HERE = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}


@pytest.mark.parametrize("first", ["allow", "deny"])
@pytest.mark.parametrize("layer", ["trust policy", "identity policy", "boundary", "session policy", "role policy"])
def test_b32_an_explicit_deny_holds_in_every_layer_and_in_any_order(installation, layer, first):
    admin = Administrator.of_a_new_account(installation)

    def both(allowed: str, denied: str) -> str:
        return statements(allowed, denied) if first == "allow" else statements(denied, allowed)

    me = {"AWS": admin.account_id}
    trusted = both(trust(me), deny_trust(me)) if layer == "trust policy" else trust(me)
    own = both(allow("*"), deny("sts:AssumeRole")) if layer == "identity policy" else allow("*")
    of_role = both(allow("*"), deny("iam:ListUsers")) if layer == "role policy" else allow("*")
    more = {}
    if layer == "boundary":
        more["PermissionsBoundary"] = admin.policy("edge", both(allow("*"), deny("iam:ListUsers")))
    role = admin.role("r", trusted, of_role, **more)
    alice = admin.user("alice", own)
    if layer in ("trust policy", "identity policy"):
        refused(assume(installation, alice, role), 403, "AccessDenied", NOT_ALLOWED + role)
        return
    given = {"Policy": both(allow("*"), deny("iam:ListUsers"))} if layer == "session policy" else {}
    session = assumed(installation, alice, role, **given)
    refused(installation.call("ListUsers", session), 403, "AccessDenied", "with an explicit deny in a")
    assert installation.call("ListRoles", session).status == 200


def test_b33_a_caller_of_another_account_needs_an_allow_of_its_own_even_where_everybody_is_trusted(world):
    assert assume(world.installation, world.stranger, world.open_role).status == 200
    refused(assume(world.installation, world.powerless_stranger, world.open_role), 403, "AccessDenied", NOT_ALLOWED)


def test_b33_a_role_that_trusts_an_account_leaves_it_to_that_account_s_own_policies(world):
    role = world.admin.role("for-them", trust({"AWS": f"arn:aws:iam::{world.other.account_id}:root"}))
    assert assume(world.installation, world.stranger, role).status == 200
    refused(assume(world.installation, world.powerless_stranger, role), 403, "AccessDenied")
    refused(assume(world.installation, world.alice, role), 403, "AccessDenied")


@pytest.mark.parametrize("side", ["trust policy", "caller's policy"])
def test_b34_a_stranger_s_word_about_its_address_is_not_believed(installation, side):
    admin = Administrator.of_a_new_account(installation)
    near = {"Condition": ONLY_HERE}
    role = admin.role("r", trust({"AWS": admin.account_id}, **(near if side == "trust policy" else {})))
    alice = admin.user("alice", allow("sts:*", **({} if side == "trust policy" else near)))
    for told in ("192.0.2.7", "192.0.2.7, 198.51.100.1", "198.51.100.1, 192.0.2.7"):
        lying = {"X-Forwarded-For": told, "X-Real-IP": told, "Forwarded": f"for={told}"}
        answer = installation.call(
            "AssumeRole", alice, headers=lying, peer="198.51.100.1", RoleArn=role, RoleSessionName="test"
        )
        refused(answer, 403, "AccessDenied", NOT_ALLOWED)
    answer = installation.call("AssumeRole", alice, peer="192.0.2.7", RoleArn=role, RoleSessionName="test")
    assert answer.status == 200


# --- B35, B36: what is sealed ------------------------------------------------------------------------------------


def keys_of(installation: Installation) -> tuple[SealingKey, ...]:
    with installation.store.read() as tx:
        return sealing_keys.load(tx, Vault(installation.settings.master_key))


def test_b35_a_session_sealed_with_a_key_of_somebody_s_own_under_our_key_id_does_not_open(world):
    session = world.session()
    (known, *_) = keys_of(world.installation)
    plain = Sealer((known,)).open(session.token, session.access_key)
    forged = Sealer((replace(known, key=os.urandom(32)),)).seal(plain, session.access_key, os.urandom)
    refused(world.call("GetCallerIdentity", with_token(session, forged)), 403, "InvalidClientTokenId", INVALID)
    unknown = Sealer((SealingKey("ffffffff", os.urandom(32)),)).seal(plain, session.access_key, os.urandom)
    refused(world.call("GetCallerIdentity", with_token(session, unknown)), 403, "InvalidClientTokenId", INVALID)


def test_b35_the_token_of_one_account_does_not_open_beside_a_key_of_another(world):
    theirs = world.call("GetSessionToken", world.stranger).credentials
    mine = world.call("GetSessionToken", world.alice).credentials
    refused(world.call("GetCallerIdentity", with_token(mine, theirs.token)), 403, "InvalidClientTokenId", INVALID)
    crossed = Credentials(theirs.access_key, mine.secret_key, mine.token)
    refused(world.call("GetCallerIdentity", crossed), 403, "InvalidClientTokenId", INVALID)


def test_b35_no_nonce_is_used_twice(world):
    nonces = {base64.b64decode(world.session().token)[5:17] for _ in range(50)}
    assert len(nonces) == 50


def test_b35_an_authorization_message_is_no_session_token_and_a_session_token_is_no_message(world):
    encoded = world.call("ListUsers", world.nobody).text("EncodedAuthorizationMessage")
    session = world.session()
    for key in (session.access_key, "authorization-message"):
        posed = Credentials(key, session.secret_key, encoded)
        refused(world.call("GetCallerIdentity", posed), 403, "InvalidClientTokenId", INVALID)
    answer = world.call("DecodeAuthorizationMessage", world.alice, EncodedMessage=session.token)
    refused(answer, 400, "InvalidAuthorizationMessageException")


TAMPERED = {
    "cut": lambda text: text[:-4],
    "a bit of the body": lambda text: changed_at(text, 60),
    "a bit of the key id": lambda text: changed_at(text, 2),
    "no base64": lambda _text: "not a message",
    "other script": lambda _text: "\uff41\uff42\uff43",
    "one letter": lambda _text: "x",
}


@pytest.mark.parametrize("case", TAMPERED)
def test_b36_a_changed_authorization_message_is_invalid(world, case):
    encoded = world.call("ListUsers", world.nobody).text("EncodedAuthorizationMessage")
    assert world.call("DecodeAuthorizationMessage", world.alice, EncodedMessage=encoded).status == 200
    answer = world.call("DecodeAuthorizationMessage", world.alice, EncodedMessage=TAMPERED[case](encoded))
    refused(answer, 400, "InvalidAuthorizationMessageException")


def test_b36_the_message_of_another_account_is_as_invalid_as_a_changed_one(world):
    encoded = world.call("ListUsers", world.powerless_stranger).text("EncodedAuthorizationMessage")
    answer = world.call("DecodeAuthorizationMessage", world.alice, EncodedMessage=encoded)
    refused(answer, 400, "InvalidAuthorizationMessageException")
    assert world.call("DecodeAuthorizationMessage", world.stranger, EncodedMessage=encoded).status == 200
