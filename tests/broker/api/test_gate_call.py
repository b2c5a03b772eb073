"""Calls of the gate by other endpoints of the server: the checks, errors and records of a request over HTTP."""

import json
import os
from dataclasses import replace

import pytest
from botocore.credentials import Credentials as Signer
from redis import Redis
from support.administrator import Administrator, allow, assumed
from support.installation import Installation, environment
from support.saml_fixtures import Still

from broker.api.http import HttpRequest
from iam.clock import to_milliseconds
from iam.errors import (
    ExpiredToken,
    InvalidAction,
    InvalidClientTokenId,
    MalformedInput,
    MissingAuthenticationToken,
    ServiceError,
)
from iam.store.revocation import revoke
from sts.mint import Credentials

ACCOUNT = "111122223333"
REQUEST = HttpRequest("POST", "/", "", (("user-agent", "phone/1.0"),), b"", "127.0.0.1")
TOKEN = {"Audience.member.1": "https://api.example.com", "SigningAlgorithm": "RS256", "DurationSeconds": "60"}
# What is of one record alone: its ids, its time, and its place in the chain of records.
OF_ONE_RECORD = {"requestID", "eventID", "at", "eventTime", "seq", "prev"}


@pytest.fixture
def installation(tmp_path, redis_url):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = Installation(tmp_path, environment(tmp_path, redis_url), Still())
    yield made
    made.close()


@pytest.fixture
def gate(installation):
    return installation.services.api.gate


@pytest.fixture
def admin(installation):
    made = Administrator.of_a_new_account(installation, ACCOUNT)
    made.do("EnableOutboundWebIdentityFederation")
    return made


@pytest.fixture
def session(installation, admin) -> Signer:
    role = admin.role("app", None, allow(["sts:*", "iam:*"]))
    return assumed(installation, admin.user("ann", allow("*")), role)


def credentials(signer: Signer, **changes: str) -> Credentials:
    """What the STS gave, as the result of a call has it."""
    made = Credentials(signer.access_key, signer.secret_key, signer.token, None)
    return replace(made, **changes)


def last_record(installation: Installation) -> dict:
    return json.loads(installation.services.storage.audit.path.read_text().splitlines()[-1])


def same(record: dict) -> dict:
    """The record without what is of one request alone."""
    return {name: value for name, value in record.items() if name not in OF_ONE_RECORD}


def test_a_call_leaves_the_record_of_a_signed_request(installation, gate, session):
    over_http = installation.call("GetWebIdentityToken", session, {"User-Agent": "phone/1.0"}, **TOKEN)
    assert over_http.status == 200, over_http.message
    signed = last_record(installation)
    result = gate.call(REQUEST, "GetWebIdentityToken", TOKEN, credentials=credentials(session), region="us-east-1")
    assert result["WebIdentityToken"].count(".") == 2
    assert same(last_record(installation)) == same(signed)


REFUSED = {
    "a number that is none": {"DurationSeconds": "many"},
    "a value out of range": {"DurationSeconds": "3601"},
    "an algorithm that does not exist": {"SigningAlgorithm": "none"},
    "a structure for a list": {"Audience": "x"},
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_call_is_refused_in_the_words_and_with_the_record_of_a_signed_request(installation, gate, session, how):
    parameters = TOKEN | REFUSED[how]
    over_http = installation.call("GetWebIdentityToken", session, {"User-Agent": "phone/1.0"}, **parameters)
    signed = last_record(installation)
    with pytest.raises(ServiceError) as error:
        gate.call(REQUEST, "GetWebIdentityToken", parameters, credentials=credentials(session), region="us-east-1")
    assert (error.value.code, error.value.message) == (over_http.code, over_http.message)
    assert same(last_record(installation)) == same(signed)


def test_a_session_that_policies_narrow_is_refused_like_a_signed_request(installation, gate, admin):
    role = admin.role("reader", None, allow("iam:List*"))
    session = assumed(installation, admin.user("bob", allow("*")), role)
    over_http = installation.call("GetWebIdentityToken", session, **TOKEN)
    with pytest.raises(ServiceError) as error:
        gate.call(REQUEST, "GetWebIdentityToken", TOKEN, credentials=credentials(session), region="us-east-1")
    assert (error.value.code, error.value.message) == ("AccessDenied", over_http.message)


def call(gate, given: Credentials | None, operation: str = "GetCallerIdentity"):
    return gate.call(REQUEST, operation, {}, credentials=given, region="us-east-1")


@pytest.mark.parametrize("subject", ["session", "person", "role", "account"])
def test_a_session_that_was_revoked_since_is_refused_and_the_record_names_its_key(installation, gate, session, subject):
    call(gate, credentials(session))
    told = last_record(installation)["userIdentity"]
    context = told["sessionContext"]
    subjects = {"session": context["sessionId"], "person": context["person"], "account": ACCOUNT,
                "role": context["sessionIssuer"]["principalId"]}  # fmt: skip
    now = to_milliseconds(installation.now())
    with installation.store.write() as tx:
        revoke(tx, subject, subjects[subject], now_ms=now, random=os.urandom)
    with pytest.raises(InvalidClientTokenId):
        call(gate, credentials(session))
    assert last_record(installation)["userIdentity"] == {"type": "Unknown", "accessKeyId": session.access_key}


def test_a_session_whose_role_is_gone_is_refused(gate, admin, session):
    admin.do("DeleteRolePolicy", RoleName="app", PolicyName="p0")
    admin.do("DeleteRole", RoleName="app")
    with pytest.raises(InvalidClientTokenId):
        call(gate, credentials(session))


def test_an_expired_session_is_refused(installation, gate, session):
    installation.now.advance(hours=1)
    with pytest.raises(ExpiredToken):
        call(gate, credentials(session))


def test_the_token_alone_is_nobody(installation, gate, admin, session):
    other = assumed(installation, admin.key("ann"), admin.arn("role", "app"), "other")
    for changes in ({"secret_access_key": "x" * 40}, {"secret_access_key": other.secret_key},
                    {"access_key_id": other.access_key}, {"session_token": "x"}, {"session_token": ""}):  # fmt: skip
        with pytest.raises(InvalidClientTokenId):
            call(gate, credentials(session, **changes))
    assert call(gate, credentials(session))["Account"] == ACCOUNT


def test_an_operation_that_must_be_signed_needs_credentials(gate):
    with pytest.raises(MissingAuthenticationToken):
        call(gate, None)


def test_a_session_may_call_what_its_kind_may(gate, session):
    with pytest.raises(ServiceError, match="Cannot call GetSessionToken"):
        call(gate, credentials(session), "GetSessionToken")


def test_operations_of_iam_are_not_called_so(gate, session):
    with pytest.raises(InvalidAction):
        call(gate, credentials(session), "ListUsers")


def test_an_operation_without_signature_needs_no_credentials(installation, gate):
    with pytest.raises(MalformedInput):
        gate.call(REQUEST, "AssumeRoleWithWebIdentity", {"RoleArn.x": "a"})
    assert last_record(installation)["eventName"] == "AssumeRoleWithWebIdentity"
