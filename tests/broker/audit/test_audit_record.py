"""What audit records leave out."""

import json
from datetime import UTC, datetime

import pytest

from broker.api import model, query
from broker.api.http import HttpRequest
from broker.api.request_state import RequestState
from broker.audit import record as audit_record
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


def test_of_a_stranger_no_more_than_two_kilobytes_of_parameters_are_kept():
    short = new_state("AssumeRoleWithLDAPIdentity", "2011-06-15", Policy="A" * 1000)
    assert audit_record.request_record(short, REFUSED)["requestParameters"] == {"policy": "A" * 1000}
    long = new_state("AssumeRoleWithLDAPIdentity", "2011-06-15", Policy="A" * 3000)
    assert audit_record.request_record(long, REFUSED)["requestParameters"] == {"omitted": True, "originalSize": 3014}


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
