"""What audit records leave out."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from broker.api import model, query
from broker.api.http import HttpRequest
from broker.api.request_state import RequestState
from broker.api.shape import OperationModel, Shape
from broker.audit import record as audit_record
from broker.audit.abridge import MAX_RECORD, MAX_STRANGERS, MAX_UNCHANGED, abridge
from broker.audit.log import AuditLog
from broker.audit.strangers import is_refusal_of_stranger
from iam.errors import MAX_MESSAGE, AccessDenied, ValidationError
from iam.policy.lint.findings import Finding, Level
from sts.identity import Refusal

API = model.load_models()
STS, IAM = "2011-06-15", "2010-05-08"
REFUSED = AccessDenied("no")


def test_no_error_repeats_more_than_a_message_holds():
    error = ValidationError("x" * 10_000, log="y" * 10_000)
    assert len(error.message) <= MAX_MESSAGE + 3
    assert len(error.log) <= MAX_MESSAGE + 3


def new_state(operation: str, version: str, **params: object) -> RequestState:
    request = HttpRequest("POST", "/", "", (), b"", "127.0.0.1", False)  # noqa: FBT003 - as the edge makes it
    made = RequestState(request, datetime(2026, 1, 1, tzinfo=UTC), lambda: "id")
    made.model = API.find(operation, version)
    made.params = params
    return made


def test_of_a_stranger_little_is_kept():
    short = audit_record.request_record(new_state("AssumeRoleWithLDAPIdentity", STS, Policy="A" * 100), REFUSED)
    assert abridge(short) is short
    long = new_state("AssumeRoleWithLDAPIdentity", STS, Policy="A" * 3000)
    long.request = replace(long.request, headers=(("user-agent", "B" * 3000),), unread_address="C" * 3000)
    record = audit_record.request_record(long, AccessDenied("D" * 3000, log="E" * 3000))
    assert is_refusal_of_stranger(record)
    assert len(json.dumps(abridge(record))) < MAX_STRANGERS
    assert abridge(record)["requestParameters"]["policy"].startswith("A" * 64 + "... (3000 characters, SHA-256 ")


def test_a_large_record_of_a_change_is_abridged_until_it_has_the_size_of_a_record():
    document = "x" * 10_000_000
    record = {"eventName": "CreateSAMLProvider", "requestParameters": {"name": "Corp", "document": document}}
    kept = abridge(record)["requestParameters"]
    assert kept["name"] == "Corp"
    digest = sha256(document.encode()).hexdigest()
    assert kept["document"] == "x" * 1024 + f"... (10000000 characters, SHA-256 {digest})"
    groups = abridge({"additionalEventData": {"groups": [f"group-{number}" for number in range(100_000)]}})
    assert groups["additionalEventData"]["groups"][-1] == "and 99950 more"
    many = {"requestParameters": {f"p{number}": "x" * 1000 for number in range(1000)}}
    assert abridge(many)["requestParameters"].keys() == {"omitted", "originalSize", "sha256"}
    assert len(json.dumps(abridge({"a": "x" * 10_000_000}))) < MAX_RECORD
    small = {"requestParameters": {"document": "x" * 5000}}
    assert abridge(small) is small


# In JSON a character has up to twelve bytes.
TEXTS = ("x" * 4000, "\u00e9" * 1000, "\U0001f511" * 1000, '"' * 4000, "\x00" * 1000, "\ud800" * 1000)
WORST_IDENTITY = {
    "type": "AssumedRole",
    "principalId": "A" * 2048,
    "arn": "A" * 2048,
    "accountId": "1" * 12,
    "accessKeyId": "A" * 2048,
    "sessionContext": {"person": "\u00e9" * 5000, "sourceIdentity": "A" * 64, "sessionIssuer": {"arn": "A" * 2048}},
}


def largest(shape: Shape, text: str, items: int = 12):
    """Return a value of a shape, as large as any request makes it."""
    if shape.kind == "structure":
        return {name: largest(member, text, 4) for name, member in shape.members.items()}
    if shape.kind == "list":
        return [largest(shape.members["member"], text, 4)] * items
    if shape.kind == "map":
        return {text: largest(shape.members["value"], text, 4)}
    return {"integer": 2**31 - 1, "boolean": True}.get(shape.kind, text)


@pytest.mark.parametrize("text", TEXTS, ids=["letters", "accents", "astral", "quotes", "controls", "surrogates"])
def test_the_record_of_the_largest_refusal_is_small(text, tmp_path):
    written = closing(AuditLog(tmp_path))
    with written as log:
        for operation in API.operations():
            for identity in (WORST_IDENTITY, {"type": "Unknown", "accessKeyId": text}):
                log.append(refusal_of(operation, text) | {"userIdentity": identity})
    lines = tmp_path.joinpath("001.jsonl").read_bytes().splitlines()
    sizes = {json.loads(line)["userIdentity"]["type"]: len(line) for line in sorted(lines, key=len)}
    assert len(lines) == 2 * len(API.operations())
    assert sizes["AssumedRole"] <= MAX_UNCHANGED
    assert sizes["Unknown"] <= MAX_STRANGERS


def refusal_of(operation: OperationModel, text: str) -> dict:
    state = new_state(operation.name, operation.version)
    state.request = replace(state.request, headers=(("user-agent", text),), unread_address=text[:100], client=text)
    state.params = largest(operation.input, text) if operation.input else {}
    state.findings = tuple(Finding("CODE", Level.ERROR, 0, text, text) for _ in range(100))
    return audit_record.request_record(state, AccessDenied(text, log=text + text))


def test_a_granted_read_has_the_size_of_a_refusal_and_a_change_may_have_more():
    policies = ["x" * 30_000] * 3
    read = audit_record.request_record(new_state("SimulateCustomPolicy", IAM, PolicyInputList=policies))
    assert len(json.dumps(abridge(read))) < MAX_UNCHANGED
    change = audit_record.request_record(new_state("PutUserPolicy", IAM, PolicyDocument="x" * 30_000))
    assert abridge(change) is change


def test_a_small_part_of_a_refusal_stays_whole_where_only_another_is_long():
    named = new_state("CreateRole", IAM, RoleName="Developer", Path="/eng/", AssumeRolePolicyDocument="x" * 100_000)
    kept = abridge(audit_record.request_record(named, REFUSED) | {"userIdentity": WORST_IDENTITY})
    assert (kept["errorMessage"], kept["requestParameters"]["roleName"]) == ("no", "Developer")
    assert kept["requestParameters"]["assumeRolePolicyDocument"].startswith("x" * 64)


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
