"""`fedgate resource test`, called in this process: what it says is what the policy engine decides."""

import json

import pytest
from support.administrator import Administrator, allow, deny, statements, trust

OTHER = "444455556666"
OWN_PREFIX = "arn:aws:s3:::photos/${aws:PrincipalTag/department}/*"


@pytest.fixture
def readers(admin):
    admin.role("readers", None, statements(
        allow(["s3:GetObject", "s3:PutObject"], OWN_PREFIX),
        allow("s3:ListBucket", "arn:aws:s3:::photos", Condition={"StringLike": {"s3:prefix": "home/*"}}),
        allow("reports:GetReport", f"arn:aws:reports:us-east-1:{admin.account_id}:team/*/*"),
        allow("execute-api:Invoke"),
        deny("execute-api:Invoke", "arn:aws:execute-api:*:*:plain/prod/GET/admin"),
    ))  # fmt: skip
    return "readers"


@pytest.fixture
def tested(fedgate, readers):
    def tested(name, *words, who=readers, options=(), status=0):
        out = fedgate("resource", "test", name, "--as", who, "--json", *options, status=status, request=words)
        return json.loads(out)

    return tested


def test_a_request_to_a_store_needs_what_its_operation_needs(tested):
    found = tested("store", "GET", "/photos/eng/a%20b.jpg", options=("--session-tag", "department=eng"))
    assert (found["passes"], found["operation"], found["writes"]) == (True, "GetObject", False)
    (decision,) = found["decisions"]
    assert (decision["action"], decision["resource"]) == ("s3:GetObject", "arn:aws:s3:::photos/eng/a b.jpg")
    assert (decision["allowed"], decision["layer"]) == (True, "identity-based policy")


def test_without_the_tag_nothing_matches_and_the_closest_statement_is_told(tested, fedgate):
    found = tested("store", "GET", "/photos/eng/cat.jpg", options=("--session-tag", "department=ops"), status=3)
    (decision,) = found["decisions"]
    assert decision["needed"][0]["nearest"]["misses"] == [{"part": "resource", "wanted": [OWN_PREFIX]}]
    told = fedgate("resource", "test", "store", "--as", "readers", status=3, request=("GET", "/photos/eng/cat.jpg"))
    assert told.startswith("REFUSED  GET /photos/eng/cat.jpg at store: GetObject\n")
    assert "DENIED  by the identity-based policy" in told


def test_condition_keys_come_from_the_request(tested, fedgate):
    assert tested("store", "GET", "/photos?list-type=2&prefix=home/ann")["passes"]
    found = tested("store", "GET", "/photos?list-type=2&prefix=away/", status=3)
    assert found["decisions"][0]["keys"]["s3:prefix"] == ["away/"]
    told = fedgate("resource", "test", "store", "--as", "readers", request=("GET", "/photos?list-type=2&prefix=home/a"))
    assert "Condition keys of the request:\n" in told
    assert "  s3:prefix = home/a\n" in told


def test_the_host_header_names_a_bucket_and_other_headers_count(tested):
    words = ("PUT", "/eng/x", "--header", "Host: photos.s3.example.com", "-H", "x-amz-tagging: a=b")
    found = tested("store", *words, options=("--session-tag", "department=eng"), status=3)
    assert [(one["action"], one["allowed"]) for one in found["decisions"]] == [
        ("s3:PutObject", True),
        ("s3:PutObjectTagging", False),
    ]


def test_a_route_names_action_resource_and_keys(tested, admin):
    found = tested("api", "GET", "/teams/a:b/reports/1")
    (decision,) = found["decisions"]
    assert decision["resource"] == f"arn:aws:reports:us-east-1:{admin.account_id}:team/a%3Ab/1"
    assert decision["keys"] == {"reports:team": ["a:b"]}


def test_what_never_reaches_a_policy_is_told(tested, fedgate):
    found = tested("api", "GET", "/teams//reports/1", status=3)
    assert found["error"]["code"] == "ValidationError"
    told = fedgate("resource", "test", "api", "--as", "readers", status=3, request=("PUT", "/other"))
    assert told == (
        "REFUSED  PUT /other at api\n  before any policy, AccessDenied: No route of this resource takes PUT /other.\n"
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("GET", "/photos/x", "-H", "Host: s3.example.org"), "AccessDenied"),
        (("GET", "/photos/x?AWSAccessKeyId=A&Signature=B"), "IncompleteSignature"),
        (("PATCH", "/photos/x"), "NotImplemented"),
        (("GET", "/photos/ü"), "InvalidURI"),
    ],
)
def test_what_the_authorizer_refuses_is_refused(tested, words, code):
    assert tested("store", *words, status=3)["error"]["code"] == code


def test_a_path_that_is_denied_is_denied_with_a_slash_at_its_end(tested):
    assert tested("plain", "GET", "/other/")["passes"]
    found = tested("plain", "GET", "/admin/", status=3)
    assert [one["decision"] for one in found["decisions"]] == ["allowed", "explicitDeny"]


def test_a_principal_of_another_account_needs_the_policy_of_the_bucket(tested, fedgate, admin):
    other = Administrator.of_a_new_account(admin.installation, OTHER)
    other.user("bob", allow("s3:*"))
    bob = other.arn("user", "bob")
    found = tested("store", "GET", "/photos/x", who=bob, status=3)
    assert found["decisions"][0]["layer"] == "resource-based policy"
    shared = allow("s3:GetObject", "arn:aws:s3:::photos/*", Principal={"AWS": bob})
    fedgate("resource", "policy", "put", "store", "-", "--bucket", "photos", told=shared)
    assert tested("store", "GET", "/photos/x", who=bob)["passes"]
    assert not tested("store", "GET", "/other/x", who=bob, status=3)["passes"]
    assert not tested("store", "PUT", "/photos/x", who=bob, status=3)["passes"]


def test_a_request_whose_body_names_the_objects_needs_all_of_them(tested, admin):
    policy = {"RoleName": "readers", "PolicyName": "delete"}
    admin.do("PutRolePolicy", **policy, PolicyDocument=allow("s3:Delete*", "arn:aws:s3:::photos/a*"))
    found = tested("store", "POST", "/photos?delete", status=3)
    assert {one["decision"] for one in found["decisions"]} == {"implicitDeny"}
    admin.do("PutRolePolicy", **policy, PolicyDocument=allow("s3:Delete*", "arn:aws:s3:::photos/*"))
    assert tested("store", "POST", "/photos?delete")["passes"]


def test_the_source_of_a_copy_is_decided_by_the_policy_of_its_own_bucket(tested, fedgate, admin):
    admin.do("PutRolePolicy", RoleName="readers", PolicyName="all", PolicyDocument=allow("s3:*"))
    words = ("PUT", "/photos/x", "-H", "x-amz-copy-source: /secret/x")
    assert tested("store", *words)["passes"]
    secret = deny("s3:GetObject", "arn:aws:s3:::secret/*", Principal="*")
    fedgate("resource", "policy", "put", "store", "-", "--bucket", "secret", told=secret)
    found = tested("store", *words, status=3)
    assert {one["action"]: one["decision"] for one in found["decisions"]} == {
        "s3:PutObject": "allowed",
        "s3:GetObject": "explicitDeny",
    }


def test_a_request_without_a_signature_needs_a_policy_for_everybody(tested, fedgate):
    found = tested("store", "GET", "/photos/x", who="anonymous", status=3)
    assert found["error"]["code"] == "MissingAuthenticationToken"
    found = tested("api", "GET", "/teams/a/reports/1", who="anonymous", status=3)
    assert found["decisions"][0]["layer"] == "resource-based policy"
    fedgate("resource", "policy", "put", "api", "-", told=allow("reports:GetReport", Principal="*"))
    assert tested("api", "GET", "/teams/a/reports/1", who="anonymous")["passes"]


def test_a_session_policy_and_the_context_count(tested, tmp_path):
    narrow = tmp_path / "session.json"
    narrow.write_text(allow("reports:*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
    options = ("--session-policy", narrow)
    found = tested("api", "GET", "/teams/a/reports/1", options=options, status=3)
    assert (found["decisions"][0]["layer"], found["decisions"][0]["unknownKeys"]) == (
        "session policy",
        ["aws:SourceIp"],
    )
    inside = (*options, "--context", "aws:SourceIp=10.0.0.1")
    assert tested("api", "GET", "/teams/a/reports/1", options=inside)["passes"]


def test_a_session_and_a_role_with_a_path_can_ask(tested, admin):
    admin.do("CreateRole", RoleName="deep", Path="/a/", AssumeRolePolicyDocument=trust("*"))
    for who in ("deep", "/a/deep", f"arn:aws:iam::{admin.account_id}:role/a/deep"):
        found = tested("api", "GET", "/teams/a/reports/1", who=who, status=3)
        assert "/deep/" in found["decisions"][0]["principal"]["arn"]
    session = f"arn:aws:sts::{admin.account_id}:assumed-role/readers/ann"
    assert tested("api", "GET", "/teams/a/reports/1", who=session)["passes"]


@pytest.mark.parametrize(
    ("arguments", "words", "status", "told"),
    [
        (("api", "--as", "nobody"), ("GET", "/teams/a/reports/1"), 1, "role/nobody does not exist"),
        (("api", "--as", "readers"), ("GET",), 2, "Write the request as in"),
        (("api", "--as", "readers"), ("GET", "/x", "--header"), 2, "Write the request as in"),
        (("api", "--as", "readers"), ("GET", "/x", "more", "words"), 2, "Write the request as in"),
        (("api", "--as", "readers"), ("GET", "/x", "-H", "no colon"), 2, "--header no colon: write NAME: VALUE"),
        (("api", "--as", "readers", "--session-tag", "x"), ("GET", "/x"), 2, "--session-tag x: write KEY=VALUE"),
        (("api", "--as", "readers", "--context", "x"), ("GET", "/x"), 2, "--context x: write KEY=VALUE"),
        (("ap", "--as", "readers"), ("GET", "/x"), 1, "Did you mean api?"),
    ],
)
def test_what_cannot_be_tested_is_told(fedgate, arguments, words, status, told):
    assert told in fedgate("resource", "test", *arguments, status=status, request=words)
