"""Decisions on requests to resources: who signed, what the policies say, what is recorded."""

import json
from dataclasses import replace
from hashlib import sha256
from urllib.parse import parse_qs

import pytest
from botocore.credentials import Credentials
from sqlalchemy import Engine, event
from support.authz import (
    ADDRESS,
    API_HOST,
    STORE_HOST,
    document,
    envoy,
    forward,
    haproxy,
    nginx,
    presigned,
    resource_policy,
    signed,
    signed_api,
    unsigned,
)
from support.installation import wrong_secret

from broker.authz.resource import Audited, Backend
from iam.errors import ServiceUnavailable
from iam.limits import Limits
from iam.resource_policies import ResourcePolicy, put

READ_BUCKET = document(Effect="Allow", Action="s3:GetObject", Resource="arn:aws:s3:::bucket/*")
EVERYBODY = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}
DIRECT = [forward, envoy, haproxy]


@pytest.mark.parametrize("convention", [nginx, *DIRECT])
def test_a_signed_request_passes_with_the_facts_about_who_sent_it(authorized, convention):
    reader = authorized.role("Reader", READ_BUCKET, **{"Tags.member.1.Key": "a b", "Tags.member.1.Value": "ü=1"})
    verdict = authorized.ask(signed(reader), convention)
    assert verdict.status == 200
    assert verdict["X-Fedgate-Principal"] == f"arn:aws:sts::{authorized.account}:assumed-role/Reader/test"
    assert verdict["X-Fedgate-Account"] == authorized.account
    assert len(verdict["X-Fedgate-Session"]) > 10
    assert parse_qs(verdict["X-Fedgate-Tags"]) == {"a b": ["ü=1"]}
    assert verdict["X-Fedgate-Source-Identity"] == verdict["X-Fedgate-Content-Sha256"] == ""


def test_a_long_term_key_passes_as_its_user(authorized):
    ann = authorized.user("ann", READ_BUCKET)
    verdict = authorized.ask(signed(ann))
    assert verdict["X-Fedgate-Principal"] == f"arn:aws:iam::{authorized.account}:user/ann"
    assert verdict["X-Fedgate-Session"] == ""


@pytest.mark.parametrize("convention", DIRECT)
def test_a_denial_says_why_as_s3_does(authorized, convention):
    reader = authorized.role("Reader", READ_BUCKET)
    verdict = authorized.ask(signed(reader, method="PUT"), convention)
    assert verdict.status == 403
    assert (
        f"User: arn:aws:sts::{authorized.account}:assumed-role/Reader/test is not authorized to perform: s3:PutObject"
        ' on resource: "arn:aws:s3:::bucket/key" because no identity-based policy allows the s3:PutObject action'
    ) in verdict.body.decode()
    assert b"<Code>AccessDenied</Code>" in verdict.body
    assert verdict["X-Fedgate-Error"] == "AccessDenied"


def test_nginx_gets_a_ticket_with_which_it_fetches_what_the_client_is_told(authorized):
    reader = authorized.role("Reader", READ_BUCKET)
    direct = authorized.ask(signed(reader, method="PUT"), haproxy)
    refused = authorized.ask(signed(reader, method="PUT"))
    before = len(authorized.records())
    assert (refused.status, refused.body, refused["X-Fedgate-Error"]) == (403, b"", "AccessDenied")
    told = authorized.denied(refused["X-Fedgate-Denied"])
    assert told.status == 403
    assert told["Content-Type"] == "application/xml"
    assert b"no identity-based policy allows" in told.body
    assert told.body.split(b"<RequestId>")[0] == direct.body.split(b"<RequestId>")[0]
    assert len(authorized.records()) == before


def test_a_ticket_is_authenticated_and_short_lived(authorized, clock):
    ticket = authorized.ask(signed(authorized.root, region="x_y"))["X-Fedgate-Denied"]
    assert authorized.denied(ticket).status == 400
    for other in ("", ticket[:-4], ticket[:-5] + "AAAA=", "A" * 9_000, "\x80", ticket + ticket):
        told = authorized.denied(other)
        assert (told.status, b"Access Denied" in told.body) == (403, True)
    clock.advance(seconds=61)
    assert authorized.denied(ticket).status == 403


CASES = {
    "unknown key": (lambda _: signed(Credentials("AKIA" + "A" * 16, "x" * 40)), 403, "InvalidAccessKeyId"),
    "wrong secret": (lambda who: signed(wrong_secret(who)), 403, "SignatureDoesNotMatch"),
    "changed path": (lambda who: signed(who).at("/bucket/other"), 403, "SignatureDoesNotMatch"),
    "changed token": (lambda who: signed(Credentials(who.access_key, "x", "AAAA")), 400, "InvalidToken"),
    "no token": (lambda who: signed(Credentials(who.access_key, who.secret_key)), 403, "InvalidAccessKeyId"),
    "wrong service": (lambda who: signed_api(who).having("host", STORE_HOST), 400, "AuthorizationHeaderMalformed"),
    "half a header": (
        lambda who: signed(who).having("authorization", "AWS4-HMAC-SHA256 Credential=a"),
        400,
        "AuthorizationHeaderMalformed",
    ),
    "no signature": (lambda _: unsigned(), 403, "AccessDenied"),
    "SigV2 in the header": (lambda who: signed(who).having("authorization", "AWS AKIA:c2ln"), 400, "InvalidRequest"),
    "SigV2 in the query": (
        lambda _: unsigned("/bucket/key?AWSAccessKeyId=AKIA&Signature=c2ln&Expires=1"),
        400,
        "InvalidRequest",
    ),
    "SigV4A": (
        lambda who: signed(who).having("authorization", "AWS4-ECDSA-P256-SHA256 Credential=a"),
        400,
        "InvalidRequest",
    ),
    "unsigned x-amz-acl": (lambda who: signed(who).adding("x-amz-acl", "public-read"), 403, "AccessDenied"),
    "two x-amz-acl": (
        lambda who: signed(who, **{"x-amz-acl": "private"}).adding("x-amz-acl", "public-read"),
        400,
        "InvalidRequest",
    ),
    "two Authorization headers": (lambda who: signed(who).adding("authorization", "Basic QTpC"), 400, "InvalidRequest"),
    "raw space": (lambda who: signed(who).at("/bucket/a b"), 400, "InvalidURI"),
    "fragment": (lambda who: signed(who).at("/bucket/key#x"), 400, "InvalidURI"),
    "beyond ASCII": (lambda who: signed(who).at("/bucket/\xe9"), 400, "InvalidURI"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_has_the_code_and_the_status_of_s3(authorized, case):
    make, status, code = CASES[case]
    sent = make(authorized.role("Reader", READ_BUCKET))
    verdict = authorized.ask(sent, haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"]) == (status, code), verdict.body
    assert f"<Code>{code}</Code>".encode() in verdict.body
    by_ticket = authorized.ask(sent)
    assert by_ticket.status == (403 if status == 403 else 401)
    assert by_ticket["X-Fedgate-Status"] == str(status)
    assert authorized.denied(by_ticket["X-Fedgate-Denied"]).status == status


def test_the_way_out_of_sigv2_is_named(authorized):
    body = authorized.ask(unsigned("/b/k?AWSAccessKeyId=A&Signature=b&Expires=1"), haproxy).body
    assert b"AWS4-HMAC-SHA256" in body
    assert b"signature_version='s3v4'" in body


def test_times_are_checked_as_s3_does(authorized, clock):
    reader = authorized.role("Reader", READ_BUCKET, DurationSeconds="3600")
    sent, link, short = signed(reader), presigned(reader, expires=3000), presigned(reader, expires=60)
    clock.advance(minutes=16)
    assert authorized.ask(sent, haproxy)["X-Fedgate-Error"] == "RequestTimeTooSkewed"
    assert authorized.ask(link, haproxy).status == 200
    expired = authorized.ask(short, haproxy)
    assert (expired.status, b"Request has expired" in expired.body) == (403, True)
    clock.advance(minutes=50)
    assert authorized.ask(link, haproxy)["X-Fedgate-Error"] == "AccessDenied"


def test_an_expired_session_says_so(authorized, clock):
    reader = authorized.role("Reader", READ_BUCKET, DurationSeconds="900")
    link = presigned(reader, expires=3600)
    clock.advance(minutes=16)
    verdict = authorized.ask(link, haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"]) == (400, "ExpiredToken")


def test_a_host_that_is_no_resource_is_refused(authorized):
    verdict = authorized.ask(signed(authorized.root, host="other.corp"), haproxy)
    assert verdict.status == 403
    assert "No resource has the host" in json.loads(verdict.body)["message"]


def test_a_region_that_the_resource_does_not_accept_is_refused(authorized):
    authorized.change(regions=frozenset({"eu-central-1"}))
    assert authorized.ask(signed(authorized.root))["X-Fedgate-Error"] == "AuthorizationHeaderMalformed"
    assert authorized.ask(signed(authorized.root, region="eu-central-1")).status == 200


# --- policies ---------------------------------------------------------------------------------------------------------


def test_session_policy_boundary_and_guardrail_limit_a_session(authorized):
    everything = document(Effect="Allow", Action="*", Resource="*")
    narrow = authorized.role("Wide", everything, Policy=READ_BUCKET)
    assert authorized.ask(signed(narrow)).status == 200
    assert b"no session policy allows" in authorized.ask(signed(narrow, method="PUT"), haproxy).body
    assert authorized.ask(signed(narrow, "/other/key")).status == 403


def test_variables_and_global_keys_are_filled(authorized):
    policy = document(
        Effect="Allow",
        Action="s3:GetObject",
        Resource="arn:aws:s3:::home/${aws:PrincipalTag/team}/*",
        Condition={
            "IpAddress": {"aws:SourceIp": f"{ADDRESS}/32"},
            "Bool": {"aws:SecureTransport": "true"},
            "StringEquals": {"aws:ResourceAccount": authorized.account, "s3:signatureversion": "AWS4-HMAC-SHA256"},
            "NumericLessThan": {"s3:signatureAge": "600000"},
        },
    )
    member = authorized.role("Member", policy, **{"Tags.member.1.Key": "team", "Tags.member.1.Value": "red"})
    assert authorized.ask(signed(member, "/home/red/key")).status == 200
    assert authorized.ask(signed(member, "/home/blue/key")).status == 403


@pytest.mark.parametrize(("make", "passes"), [(signed, 200), (presigned, 403)])
def test_the_way_of_signing_is_a_condition_key(authorized, make, passes):
    only_headers = document(
        Effect="Allow", Action="s3:*", Resource="*", Condition={"StringEquals": {"s3:authType": "REST-HEADER"}}
    )
    assert authorized.ask(make(authorized.user("ann", only_headers))).status == passes


def test_another_account_needs_the_policy_of_the_resource_and_its_own(authorized):
    stranger_account, stranger_root = authorized.installation.account()
    stranger = authorized.another(stranger_account, stranger_root).user("eve", READ_BUCKET)
    assert b"no resource-based policy allows" in authorized.ask(signed(stranger), haproxy).body
    grant = {**EVERYBODY, "Principal": {"AWS": f"arn:aws:iam::{stranger_account}:root"}}
    authorized.change(policy=resource_policy(grant))
    assert authorized.ask(signed(stranger)).status == 200
    assert authorized.ask(signed(stranger, "/other/key")).status == 403


def test_a_deny_of_the_resource_policy_overrides(authorized):
    ann = authorized.user("ann", READ_BUCKET)
    authorized.change(policy=resource_policy({**EVERYBODY, "Effect": "Deny"}))
    assert b"explicit deny in a resource-based policy" in authorized.ask(signed(ann), haproxy).body


def test_everybody_is_admitted_unsigned_only_where_the_resource_is_anonymous(authorized):
    authorized.change(policy=resource_policy(EVERYBODY))
    assert authorized.ask(unsigned()).status == 403
    authorized.change(anonymous=True)
    verdict = authorized.ask(unsigned())
    assert (verdict.status, verdict["X-Fedgate-Principal"], verdict["X-Fedgate-Account"]) == (200, "", "")
    assert authorized.ask(unsigned(method="PUT")).status == 403
    assert authorized.ask(unsigned("/other/key")).status == 403
    assert authorized.records()[1]["userIdentity"]["accountId"] == "anonymous"
    assert authorized.records()[2]["userIdentity"] == {"type": "Unknown"}


def test_the_version_of_tls_is_a_condition_key_where_the_proxy_tells_it(authorized):
    recent = {"NumericGreaterThanEquals": {"s3:TlsVersion": "1.2"}}
    ann = authorized.user("ann", document(Effect="Allow", Action="s3:GetObject", Resource="*", Condition=recent))
    for version, status in (("TLSv1.3", 200), ("TLSv1.1", 403)):
        assert authorized.ask(signed(ann), haproxy, ("x-fedgate-tls-version", version)).status == status
    assert authorized.ask(signed(ann), haproxy).status == 403


def test_who_signs_nothing_chooses_no_header_of_the_answer(authorized):
    uri = "/bucket/key?response-content-type=text%2Fhtml"
    authorized.change(policy=resource_policy(EVERYBODY), anonymous=True)
    assert authorized.ask(unsigned(uri), haproxy)["X-Fedgate-Error"] == "InvalidRequest"
    assert authorized.ask(signed(authorized.role("Reader", READ_BUCKET), uri)).status == 200


@pytest.mark.parametrize(
    "statement",
    [
        {**EVERYBODY, "Principal": {"AWS": "123456789012"}},
        {"Effect": "Allow", "NotPrincipal": {"AWS": "123456789012"}, "Action": "*", "Resource": "*"},
        {**EVERYBODY, "Condition": {"StringLike": {"aws:PrincipalArn": "*"}}},
    ],
)
def test_nobody_in_particular_is_named_by_the_asterisk_alone(authorized, statement):
    authorized.change(policy=resource_policy(statement), anonymous=True)
    assert authorized.ask(unsigned()).status == 403


@pytest.mark.parametrize(
    "uri", ["/bucket/key?X-Amz-Signature=a", "/bucket/key?x%2Damz-signature=a", "/bucket/key?X-Amz-Credential=a"]
)
def test_half_a_signature_is_not_a_request_without_one(authorized, uri):
    authorized.change(policy=resource_policy(EVERYBODY), anonymous=True)
    assert authorized.ask(unsigned(uri)).status == 403
    assert authorized.ask(unsigned().adding("authorization", "Bearer abc")).status == 403


def delete_many(credentials):
    return signed(credentials, "/bucket/?delete", method="POST", body=b"<Delete/>")


@pytest.mark.parametrize(
    ("resource", "passes"),
    [("arn:aws:s3:::bucket/*", True), ("*", True), ("arn:aws:s3:::bucket/a*", False), ("arn:aws:s3:::bucket/", False)],
)
def test_deleting_what_the_body_names_needs_every_key(authorized, resource, passes):
    actions = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    ann = authorized.user("ann", document(Effect="Allow", Action=actions, Resource=resource))
    verdict = authorized.ask(delete_many(ann), haproxy)
    assert (verdict.status == 200) is passes
    assert passes or b"Requests for one key each" in verdict.body


def test_a_deny_of_any_key_holds_for_deleting_what_the_body_names(authorized):
    ann = authorized.user("ann", document(Effect="Allow", Action="s3:*", Resource="*"))
    assert authorized.ask(delete_many(ann)).status == 200
    deny = {**EVERYBODY, "Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::bucket/kept/*"}
    authorized.change(policy=resource_policy(deny))
    assert b"explicit deny in a resource-based policy" in authorized.ask(delete_many(ann), haproxy).body
    assert authorized.records()[-1]["eventName"] == "DeleteObjects"


def test_a_condition_that_only_the_store_could_check_is_decided_closed(authorized):
    tagged = {"StringEquals": {"s3:ExistingObjectTag/public": "yes"}}
    ann = authorized.user("ann", document(Effect="Allow", Action="s3:GetObject", Resource="*", Condition=tagged))
    assert authorized.ask(signed(ann)).status == 403
    bob = authorized.user("bob", READ_BUCKET)
    authorized.change(policy=resource_policy({**EVERYBODY, "Effect": "Deny", "Condition": tagged}))
    assert authorized.ask(signed(bob)).status == 403


# --- HTTP services ----------------------------------------------------------------------------------------------------


@pytest.fixture
def invoker(authorized):
    return authorized.user("ann", document(Effect="Allow", Action="execute-api:Invoke", Resource="*"))


def test_an_http_request_passes_and_its_service_learns_the_hash_that_was_signed(authorized, invoker):
    assert authorized.ask(signed_api(invoker))["X-Fedgate-Content-Sha256"] == sha256(b"").hexdigest()
    declared = {"X-Amz-Content-Sha256": sha256(b"{}").hexdigest()}
    posted = signed_api(invoker, method="POST", body=b"{}", headers=declared)
    assert authorized.ask(posted)["X-Fedgate-Content-Sha256"] == declared["X-Amz-Content-Sha256"]


def test_an_undeclared_body_is_refused_with_the_remedy(authorized, invoker):
    for sent in (
        signed_api(invoker, method="POST", body=b"{}"),
        signed_api(invoker, method="POST").adding("x-original-content-length", "2"),
        signed_api(invoker, method="POST").adding("x-original-transfer-encoding", "chunked"),
    ):
        verdict = authorized.ask(sent, haproxy)
        assert (verdict.status, verdict["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
        assert "x-amz-content-sha256" in json.loads(verdict.body)["message"]


def test_an_asker_that_read_the_body_says_its_hash(authorized, invoker):
    posted = signed_api(invoker, method="POST", body=b"{}")
    for body, status in ((b"{}", 200), (b"", 403), (b"[]", 403)):
        said = ("x-fedgate-body-sha256", sha256(body).hexdigest())
        assert authorized.ask(posted, nginx, "middleware", said).status == status
    assert authorized.ask(posted, nginx, "middleware").status == 400
    assert authorized.ask(posted, nginx, "middleware", ("x-fedgate-body-sha256", "e3b0")).status == 400


@pytest.mark.parametrize(
    "uri",
    [
        "//items",
        "/a//b",
        "/a/../items",
        "/./items",
        "/a/..",
        "/%2e%2e/items",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/%",
    ],
)
def test_an_http_path_that_is_not_canonical_is_refused(authorized, invoker, uri):
    verdict = authorized.ask(signed_api(invoker, uri), haproxy)
    assert (verdict.status, verdict["x-amzn-ErrorType"]) == (400, "BadRequestException")


def test_http_refusals_are_told_as_api_gateway_does(authorized):
    denied = authorized.ask(signed_api(authorized.user("bob", READ_BUCKET)), haproxy)
    assert (denied.status, denied["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
    assert "is not authorized to perform: execute-api:Invoke" in json.loads(denied.body)["message"]
    missing = authorized.ask(unsigned("/items", host=API_HOST), haproxy)
    assert (missing.status, json.loads(missing.body)) == (403, {"message": "Missing Authentication Token"})
    assert missing["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"


# --- stores -----------------------------------------------------------------------------------------------------------

BACKEND = Backend(endpoint="http://10.0.0.5:7480", region="default", access_key_id="STORE", secret_access_key="s" * 20)


@pytest.mark.parametrize("convention", [nginx, *DIRECT])
def test_what_passes_to_a_store_is_signed_with_the_key_of_the_store(authorized, convention):
    authorized.change(backend=BACKEND)
    reader = authorized.role("Reader", READ_BUCKET)
    verdict = authorized.ask(presigned(reader, "/bucket/key?response-content-type=text%2Fplain"), convention)
    assert verdict.status == 200, verdict
    assert verdict["X-Fedgate-Uri"] == "/bucket/key?response-content-type=text%2Fplain"
    assert verdict["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=STORE/")
    assert verdict["X-Amz-Content-Sha256"] == "UNSIGNED-PAYLOAD"
    assert "X-Amz-Security-Token" in verdict["x-envoy-auth-headers-to-remove"]
    refused = authorized.ask(signed(reader, "/other/key"), convention)
    assert "Authorization" not in refused.headers


def test_a_body_that_the_store_cannot_check_is_refused_with_the_setting_of_the_client(authorized):
    authorized.change(backend=BACKEND)
    writer = authorized.user("ann", document(Effect="Allow", Action="s3:*", Resource="*"))
    sent = signed(writer, method="PUT", form="STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    verdict = authorized.ask(sent, haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"]) == (400, "InvalidRequest"), verdict.body
    assert b"request_checksum_calculation" in verdict.body
    assert authorized.records()[-1]["errorCode"] == "InvalidRequest"


def test_a_policy_of_a_bucket_in_the_database_counts_at_the_next_request(authorized):
    ann = authorized.user("ann", document(Effect="Allow", Action="s3:*", Resource="*"))
    assert authorized.ask(signed(ann)).status == 200
    deny = document(**{**EVERYBODY, "Effect": "Deny"})
    with authorized.installation.store.write() as tx:
        put(tx, ResourcePolicy("store", "bucket", deny, 0), Limits())
    assert b"explicit deny in a resource-based policy" in authorized.ask(signed(ann), haproxy).body
    assert authorized.ask(signed(ann, "/other/key")).status == 200


# --- audit and use ----------------------------------------------------------------------------------------------------


def test_every_decision_is_one_data_event(authorized):
    reader = authorized.role("Reader", READ_BUCKET)
    authorized.ask(signed(reader))
    authorized.ask(signed(reader, method="PUT"))
    passed, denied = authorized.records()
    assert (passed["eventSource"], passed["eventName"], passed["readOnly"]) == ("s3.amazonaws.com", "GetObject", True)
    assert passed["requestParameters"] == {"bucketName": "bucket", "key": "key"}
    assert passed["resources"] == [{"ARN": "arn:aws:s3:::bucket/key", "accountId": authorized.account}]
    assert passed["sourceIPAddress"] == ADDRESS
    assert passed["additionalEventData"]["AuthenticationMethod"] == "AuthHeader"
    assert (passed["managementEvent"], "errorCode" in passed) == (False, False)
    assert (denied["eventName"], denied["errorCode"], denied["readOnly"]) == ("PutObject", "AccessDenied", False)
    assert denied["userIdentity"]["arn"].endswith("assumed-role/Reader/test")
    assert denied["additionalEventData"]["missing"]


@pytest.mark.parametrize(
    ("audit", "recorded"),
    [(Audited.ALL, ["GetObject", "PutObject"]), (Audited.WRITES, ["PutObject"]), (Audited.DENIALS, [])],
)
def test_what_passes_may_be_left_out_and_denials_never(authorized, audit, recorded):
    authorized.change(audit=audit)
    ann = authorized.user("ann", document(Effect="Allow", Action="s3:*", Resource="arn:aws:s3:::bucket/*"))
    for sent in (signed(ann), signed(ann, method="PUT")):
        assert authorized.ask(sent).status == 200
    assert [record["eventName"] for record in authorized.records()] == recorded
    authorized.ask(signed(ann, "/other/key"))
    authorized.ask(signed(wrong_secret(ann)))
    assert [record["errorCode"] for record in authorized.records()[len(recorded) :]] == [
        "AccessDenied",
        "SignatureDoesNotMatch",
    ]


def test_no_secret_of_a_request_is_recorded(authorized):
    reader = authorized.role("Reader", READ_BUCKET)
    link = presigned(reader)
    authorized.ask(link)
    authorized.ask(link.at(link.uri.replace("Expires=3600", "Expires=3601")))
    authorized.ask(link.having("host", "other.corp"))
    text = json.dumps(authorized.records())
    assert reader.token not in text
    assert link.uri.partition("X-Amz-Signature=")[2][:64] not in text


def test_a_request_that_cannot_be_recorded_does_not_pass(authorized):
    authorized.installation.services.storage.audit.close()
    verdict = authorized.ask(signed(authorized.root), haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"]) == (503, "ServiceUnavailable")


def test_a_database_that_is_away_is_told_as_such_and_nothing_passes(authorized):
    def away():
        raise ServiceUnavailable("The database does not answer.")

    authorizer = replace(authorized.endpoints.authorizer, sealer=away)
    authorized.endpoints = replace(authorized.endpoints, authorizer=authorizer)
    verdict = authorized.ask(signed(authorized.root), haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"], verdict["Retry-After"]) == (503, "ServiceUnavailable", "5")
    by_ticket = authorized.ask(signed(authorized.root))
    assert (by_ticket.status, by_ticket["X-Fedgate-Status"]) == (401, "503")
    assert authorized.denied(by_ticket["X-Fedgate-Denied"])["Retry-After"] == "5"
    assert authorized.ask(signed_api(authorized.root), haproxy).status == 503


def test_a_warm_decision_asks_no_database(authorized):
    reader = authorized.role("Reader", READ_BUCKET)
    requests = [signed(reader), signed(reader, method="PUT"), presigned(reader)]
    first = [authorized.ask(request).status for request in requests]
    asked: list[str] = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert [authorized.ask(request).status for request in requests for _ in range(5)] == [
            status for status in first for _ in range(5)
        ]
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    # Twice a second a worker looks whether anything changed on another machine.
    assert [statement for statement in asked if "revision" not in statement] == []


def test_a_session_that_is_revoked_is_refused_at_once(authorized):
    reader = authorized.role("Reader", READ_BUCKET)
    assert authorized.ask(signed(reader)).status == 200
    deleted = authorized.installation.call("DeleteRolePolicy", authorized.root, RoleName="Reader", PolicyName="inline")
    assert deleted.status == 200
    assert authorized.ask(signed(reader)).status == 403


def test_a_fault_in_a_reader_is_an_internal_error_that_does_not_pass(authorized):
    authorized.endpoints.authorizer.readers.clear()
    verdict = authorized.ask(signed(authorized.root), haproxy)
    assert (verdict.status, verdict["X-Fedgate-Error"]) == (500, "InternalError")
