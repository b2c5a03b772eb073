"""What audit records leave out."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.api import model, query
from broker.api.http import HttpRequest
from broker.api.request_state import RequestState
from broker.audit import record as audit_record
from broker.audit.abridge import MAX_RECORD, abridge, abridge_stranger
from broker.audit.strangers import is_refusal_of_stranger
from iam.errors import AccessDenied, ValidationError
from sts.identity import Refusal

API = model.load_models()
REFUSED = AccessDenied("no")


def new_state(operation: str, version: str, **params: object) -> RequestState:
    request = HttpRequest("POST", "/", "", (), b"", "127.0.0.1", False)  # noqa: FBT003 - as the edge makes it
    made = RequestState(request, datetime(2026, 1, 1, tzinfo=UTC), lambda: "id")
    made.model = API.find(operation, version)
    made.params = params
    return made


def test_of_a_stranger_little_is_kept():
    short = new_state("AssumeRoleWithLDAPIdentity", "2011-06-15", Policy="A" * 100)
    assert abridge_stranger(audit_record.request_record(short, REFUSED))["requestParameters"] == {"policy": "A" * 100}
    long = new_state("AssumeRoleWithLDAPIdentity", "2011-06-15", Policy="A" * 3000)
    long.request = replace(long.request, headers=(("user-agent", "B" * 3000),), unread_address="C" * 3000)
    record = audit_record.request_record(long, AccessDenied("D" * 3000, log="E" * 3000))
    assert is_refusal_of_stranger(record)
    assert abridge_stranger(record)["requestParameters"] == {"omitted": True, "originalSize": 3013}
    assert len(json.dumps(abridge_stranger(record))) < 1500


def test_a_large_record_is_abridged_until_it_has_the_size_of_a_record():
    record = {"eventName": "CreateSAMLProvider", "requestParameters": {"name": "Corp", "document": "x" * 10_000_000}}
    kept = abridge(record)["requestParameters"]
    assert kept["name"] == "Corp"
    assert kept["document"].startswith("x" * 1024 + "... (10000000 characters, SHA-256 ")
    groups = abridge({"additionalEventData": {"groups": [f"group-{number}" for number in range(100_000)]}})
    assert groups["additionalEventData"]["groups"][-1] == "and 99950 more"
    many = {"requestParameters": {f"p{number}": "x" * 1000 for number in range(1000)}}
    assert abridge(many)["requestParameters"]["omitted"] is True
    assert len(json.dumps(abridge({"a": "x" * 10_000_000}))) < MAX_RECORD
    small = {"requestParameters": {"document": "x" * 5000}}
    assert abridge(small) is small


def test_codes_and_assertions_are_in_no_record():
    codes = {"AuthenticationCode1": "123456", "AuthenticationCode2": "654321"}
    enabled = audit_record.request_record(new_state("EnableMFADevice", "2010-05-08", UserName="ann", **codes))
    assert enabled["requestParameters"] == {"userName": "ann"}
    contexts = [{"ProviderArn": "arn:aws:x", "ContextAssertion": "SECRET"}]
    assumed = audit_record.request_record(new_state("AssumeRole", "2011-06-15", ProvidedContexts=contexts))
    assert "SECRET" not in json.dumps(assumed)


@pytest.mark.parametrize("name", ["AuthenticationCode1", "AuthenticationCode2"])
def test_a_code_that_is_none_is_not_repeated_in_the_error(name):
    with pytest.raises(ValidationError) as told:
        query.validate(API.find("EnableMFADevice", "2010-05-08"), {name: "12345x"})
    assert "12345x" not in told.value.message


@pytest.mark.parametrize(
    ("reason", "shown"), [("unknown user", "HIDDEN_DUE_TO_SECURITY_REASONS"), ("wrong password", "ann")]
)
def test_a_name_that_the_directory_does_not_know_may_be_a_password(reason, shown):
    made = new_state("AssumeRoleWithLDAPIdentity", "2011-06-15")
    entry = audit_record.directory_sign_in_record(made, "corp", "ann", refusal=Refusal(reason, ""))
    assert entry["userIdentity"]["userName"] == shown
