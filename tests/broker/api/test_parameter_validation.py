"""Vectors: the constraints of the service model, told in AWS's words; and the table of error statuses."""

import inspect
import sys
import unicodedata

import pytest

from broker.api import errors, model
from broker.api.constraints import validate
from iam import errors as classes
from iam.errors import AccessDenied, InternalFailure, ServiceError, ServiceUnavailable, ValidationError

API = model.load_models()
ARN = "arn:aws:iam::123456789012:role/demo"
PATTERN = "Member must satisfy regular expression pattern: "
NAME_PATTERN = PATTERN + r"[\w+=,.@-]*"
TAG_LIST = [{"Key": f"k{number}", "Value": "v"} for number in range(51)]
TAG_KEY = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+"


def operation(name):
    return API.find(name, "2011-06-15") or API.find(name, "2010-05-08")


def refusal(name, params):
    with pytest.raises(ValidationError) as caught:
        validate(operation(name), params)
    return caught.value.message


def at_most(limit, noun="length"):
    return f"Member must have {noun} less than or equal to {limit}"


def at_least(limit, noun="length"):
    return f"Member must have {noun} greater than or equal to {limit}"


EACH_TAG_KEY = f"Member must satisfy constraint: [{at_most(128)}, {at_least(1)}, {PATTERN}{TAG_KEY}]"


# THREATS B10, B11, B17, B21, B31: one broken constraint each.
@pytest.mark.parametrize(
    ("member", "value", "told", "path", "constraint"),
    [
        ("RoleArn", "x" * 19, "x" * 19, "roleArn", at_least(20)),
        ("RoleArn", "x" * 2049, "x" * 200 + "...", "roleArn", at_most(2048)),
        ("RoleSessionName", "a", "a", "roleSessionName", at_least(2)),
        ("RoleSessionName", "s" * 65, "s" * 65, "roleSessionName", at_most(64)),
        ("RoleSessionName", "a b", "a b", "roleSessionName", NAME_PATTERN),
        ("RoleSessionName", "ann\n", "ann\n", "roleSessionName", NAME_PATTERN),
        ("RoleSessionName", "é9", "é9", "roleSessionName", NAME_PATTERN),
        ("RoleSessionName", "\uff19\uff19", "\uff19\uff19", "roleSessionName", NAME_PATTERN),
        ("DurationSeconds", 899, "899", "durationSeconds", at_least(900, "value")),
        ("DurationSeconds", 43201, "43201", "durationSeconds", at_most(43200, "value")),
        ("DurationSeconds", -1, "-1", "durationSeconds", at_least(900, "value")),
        ("ExternalId", "1", "1", "externalId", at_least(2)),
        ("ExternalId", "1" * 1225, "1" * 200 + "...", "externalId", at_most(1224)),
        ("ExternalId", "a b", "a b", "externalId", PATTERN + r"[\w+=,.@:\/-]*"),
        ("TokenCode", "12345", "12345", "tokenCode", at_least(6)),
        ("TokenCode", "12345x", "12345x", "tokenCode", PATTERN + r"[\d]*"),
        ("Policy", "{\u2028}", "{\u2028}", "policy", PATTERN + r"[\u0009\u000A\u000D\u0020-\u00FF]+"),
        ("PolicyArns", [{"arn": "short"}], "short", "policyArns.1.member.arn", at_least(20)),
        ("Tags", TAG_LIST, "[51 members]", "tags", at_most(50)),
        ("Tags", [*TAG_LIST[:1], {"Key": "k" * 129, "Value": "v"}], "k" * 129, "tags.2.member.key", at_most(128)),
        ("Tags", [{"Key": "k", "Value": "v" * 257}], "v" * 200 + "...", "tags.1.member.value", at_most(256)),
        ("Tags", [{"Key": "a*b", "Value": ""}], "a*b", "tags.1.member.key", PATTERN + TAG_KEY),
        ("TransitiveTagKeys", ["a", "*"], "[a, *]", "transitiveTagKeys", EACH_TAG_KEY),
    ],
)
def test_one_broken_constraint_is_told_as_aws_tells_it(member, value, told, path, constraint):
    params = {"RoleArn": ARN, "RoleSessionName": "ann"} | {member: value}
    expected = f"1 validation error detected: Value '{told}' at '{path}' failed to satisfy constraint: {constraint}"
    assert refusal("AssumeRole", params) == expected


def test_an_absent_member_inside_a_list_is_told_with_its_place():
    assert refusal("AssumeRole", {"RoleArn": ARN, "RoleSessionName": "ann", "Tags": [{"Key": "k"}]}) == (
        "1 validation error detected: "
        "Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null"
    )


def test_several_broken_constraints_are_told_in_one_message():
    assert refusal("AssumeRole", {"RoleSessionName": "*"}) == (
        "3 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null; "
        f"Value '*' at 'roleSessionName' failed to satisfy constraint: {at_least(2)}; "
        f"Value '*' at 'roleSessionName' failed to satisfy constraint: {NAME_PATTERN}"
    )


@pytest.mark.parametrize(
    "params",
    [
        {"RoleArn": "a" * 20, "RoleSessionName": "ab"},
        {"RoleArn": "a" * 2048, "RoleSessionName": "Az09_+=,.@-".ljust(64, "x"), "DurationSeconds": 43200},
        {"RoleArn": ARN, "RoleSessionName": "ann", "DurationSeconds": 900, "ExternalId": "x" * 1224, "Tags": []},
        {"RoleArn": ARN, "RoleSessionName": "ann", "Tags": TAG_LIST[:50], "TransitiveTagKeys": ["é ü", "k" * 128]},
        {"RoleArn": ARN, "RoleSessionName": "ann", "Tags": [{"Key": "Ж/=+-@.:_٣", "Value": ""}], "TokenCode": "123456"},
    ],
)
def test_values_at_the_very_limits_are_valid(params):
    validate(operation("AssumeRole"), params)


def test_an_enumeration_tells_its_values():
    told = refusal("UpdateAccessKey", {"AccessKeyId": "A" * 20, "Status": "active"})
    assert told.startswith(
        "1 validation error detected: Value 'active' at 'status' failed to satisfy constraint: Member must"
    )
    assert "Member must satisfy enum value set: [" in told
    assert "Inactive" in told


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        (
            "AssumeRoleWithSAML",
            {"RoleArn": ARN, "PrincipalArn": ARN, "SAMLAssertion": "sec"},
            f"Value at 'sAMLAssertion' failed to satisfy constraint: {at_least(4)}",
        ),
        (
            "AssumeRoleWithLDAPIdentity",
            {"LDAPUsername": "ann", "LDAPPassword": "sec" * 400},
            f"Value at 'lDAPPassword' failed to satisfy constraint: {at_most(1024)}",
        ),
        (
            "AssumeRoleWithLDAPIdentity",
            {"LDAPUsername": "ann", "LDAPPassword": ""},
            f"Value at 'lDAPPassword' failed to satisfy constraint: {at_least(1)}",
        ),
    ],
)
def test_a_secret_is_never_in_the_message(name, params, told):
    assert refusal(name, params) == "1 validation error detected: " + told


def test_a_message_stays_short_however_wrong_the_request_is():
    params = {"RoleArn": ARN, "RoleSessionName": "ann", "Tags": [{"Key": "*" * 9999, "Value": "*" * 9999}] * 2000}
    told = refusal("AssumeRole", params)
    assert told.startswith("1000 validation errors detected: ")
    assert len(told) < 10_000


def test_a_map_is_checked_by_key_and_by_value():
    key = f"{at_most(50)}, {at_least(1)}, {PATTERN}^[A-Za-z][A-Za-z0-9/_-]*$"
    assert refusal("PutAccountProperties", {"Properties": {"9": ""}}) == (
        "2 validation errors detected: "
        f"Value '[9]' at 'properties' failed to satisfy constraint: Map keys must satisfy constraint: [{key}]; "
        "Value '[9]' at 'properties' failed to satisfy constraint: "
        f"Map value must satisfy constraint: [{at_most(1024)}, {at_least(1)}]"
    )
    validate(operation("PutAccountProperties"), {"Properties": {"a": "b"}})


def test_a_structure_inside_a_map_is_checked_under_its_key():
    told = refusal("AcquireRole", {"TemplateArn": ARN, "ReplacementValues": {"a": {}}})
    assert "Value null at 'replacementValues.a.member.values' failed" in told


def test_an_operation_without_input_has_nothing_to_check():
    bare = next(found for found in API.operations() if found.input is None)
    validate(bare, {})


def test_letters_separators_and_numbers_are_those_of_unicode():
    tag_key = model.translate_pattern(TAG_KEY)
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        expected = unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-@"
        assert (tag_key.fullmatch(character) is not None) == expected, hex(number)


@pytest.mark.parametrize("pattern", [r"\p{Lu}+", r"[\p{L}]*", r"[\p{L}\p{N}]+"])
def test_a_java_class_that_we_cannot_translate_stops_the_start(pattern):
    with pytest.raises(Exception, match="bad escape"):
        model.translate_pattern(pattern)


CLASSES = [
    found
    for _, found in inspect.getmembers(classes, inspect.isclass)
    if issubclass(found, ServiceError) and found is not ServiceError
]
# Where we mean to differ from the model; the table says why.
DEVIATIONS = {"ServiceFailure": (503, 500)}


def test_every_error_class_has_a_row_and_every_row_a_class():
    assert {found.code for found in CLASSES} == set(errors.STATUS)


def test_every_row_agrees_with_the_model_or_is_a_known_deviation():
    differing = {
        code: (ours, API.statuses[code]) for code, ours in errors.STATUS.items() if ours != API.statuses.get(code, ours)
    }
    assert differing == DEVIATIONS
    assert len(errors.STATUS.keys() & API.statuses.keys()) > 15


def test_only_what_we_are_to_blame_for_is_a_receivers_fault():
    assert errors.status(AccessDenied("no")) == 403
    assert errors.is_sender_fault(AccessDenied("no"))
    for error in (InternalFailure("?"), ServiceUnavailable("away"), ServiceError("bare")):
        assert errors.status(error) >= 500
        assert not errors.is_sender_fault(error)


def test_an_error_without_a_row_is_our_own_fault():
    class UnlistedError(ServiceError):
        code = "Unlisted"

    assert errors.status(UnlistedError("?")) == 500
