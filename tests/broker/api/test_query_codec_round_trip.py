"""Laws: botocore reads what we write, and we read what botocore writes, for every operation of both services."""

import string
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from botocore.awsrequest import AWSRequest
from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.api import model, query
from broker.api.constraints import validate
from iam.errors import InvalidInput, ServiceError

API = model.load_models()
LOADER = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
SERVICES = {name: ServiceModel(LOADER.load_service_model(name, "service-2"), name) for name in ("sts", "iam")}
OPERATIONS = [
    service.operation_model(name) for service in SERVICES.values() for name in sorted(service.operation_names)
]
WITH_INPUT = [operation for operation in OPERATIONS if operation.input_shape]
FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=200, deadline=None)

# XML 1.0, section 2.2.
XML_TEXT = st.text(
    st.one_of(
        st.sampled_from("\t\n\r"), st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    )
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = {
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "blob": st.binary(),
    "timestamp": st.integers(0, 4102444800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
}


def values(shape, text, least):
    """Return what a member of this shape may be; ``least`` is the smallest size of what botocore cannot send empty."""
    if shape.type_name == "structure":
        return structures(shape, text, least)
    if shape.type_name == "list":
        return st.lists(values(shape.member, text, least), max_size=3)
    if shape.type_name == "map":
        return st.dictionaries(text, values(shape.value, text, least), min_size=least, max_size=3)
    return SCALARS.get(shape.type_name, text)


def structures(shape, text, least):
    members = {name: values(member, text, least) for name, member in shape.members.items()}
    return st.fixed_dictionaries({}, optional=members).filter(lambda chosen: len(chosen) >= min(least, len(members)))


def ours(operation):
    return API.find(operation.name, operation.service_model.api_version)


def sent(operation, params):
    wire = create_serializer("query", include_validation=False).serialize_to_request(params, operation)
    prepared = AWSRequest(
        method="POST", url="https://broker.example/", headers=wire["headers"], data=wire["body"]
    ).prepare()
    body = prepared.body if isinstance(prepared.body, bytes) else prepared.body.encode()
    return query.parameters("", body, wire["headers"]["Content-Type"])


def decoded(shape, value):
    """Undo the percent-encoding of policies, which botocore does outside its parser."""
    if value is None:
        return None
    if shape.type_name == "structure":
        return {name: decoded(shape.members[name], member) for name, member in value.items()}
    if shape.type_name == "list":
        return [decoded(shape.member, element) for element in value]
    return unquote(value) if shape.name == "policyDocumentType" else value


def answered(operation, body):
    response = {"body": body, "status_code": 200, "headers": {}}
    parsed = create_parser("query").parse(response, operation.output_shape)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "the-request"
    return decoded(operation.output_shape, parsed) if operation.output_shape else parsed


def test_every_operation_of_the_models_is_found_by_name_and_version():
    assert {(o.service, o.name, o.version) for o in API.operations()} == {
        (o.service_model.service_name, o.name, o.service_model.api_version) for o in OPERATIONS
    } | {("sts", "AssumeRoleWithLDAPIdentity", "2011-06-15")}


def test_an_operation_of_another_version_or_none_is_not_found():
    assert API.find("GetCallerIdentity", "2010-05-08") is None
    assert API.find("GetCallerIdentity", None) is None
    assert API.find("getcalleridentity", "2011-06-15") is None


def test_exactly_the_operations_that_bring_their_own_proof_are_unsigned():
    assert {operation.name for operation in API.operations() if operation.unsigned} == {
        "AssumeRoleWithSAML",
        "AssumeRoleWithWebIdentity",
        "AssumeRoleWithLDAPIdentity",
    }


@pytest.mark.parametrize("operation", WITH_INPUT, ids=lambda operation: operation.name)
@FEW
@given(data=st.data())
def test_what_botocore_sends_arrives_unchanged(operation, data):
    params = data.draw(structures(operation.input_shape, ANY_TEXT, 1))
    assert query.parse(ours(operation), sent(operation, params)) == params


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@FEW
@given(data=st.data())
def test_what_we_answer_botocore_reads_unchanged(operation, data):
    shape = operation.output_shape or StructureShape("Empty", {"type": "structure", "members": {}})
    result = data.draw(structures(shape, XML_TEXT, 0))
    assert answered(operation, query.render(ours(operation), result, "the-request")) == result


@MANY
@given(message=XML_TEXT.filter(bool), sender=st.booleans())
def test_what_we_refuse_botocore_reads_as_an_error(message, sender):
    body = query.render_error(InvalidInput(message), sender, "the-request", API.default_namespace)
    parsed = create_parser("query").parse({"body": body, "status_code": 400, "headers": {}}, None)
    assert parsed["Error"] == {"Type": "Sender" if sender else "Receiver", "Code": "InvalidInput", "Message": message}
    assert parsed["ResponseMetadata"]["RequestId"] == "the-request"


@MANY
@given(message=st.text(st.characters()))
@example("\x00\ud800\uffff")
def test_no_text_at_all_makes_an_answer_that_is_not_xml(message):
    body = query.render_error(InvalidInput(message), True, "the-request", API.default_namespace)  # noqa: FBT003 - its place
    create_parser("query").parse({"body": body, "status_code": 400, "headers": {}}, None)


FRAGMENTS = st.sampled_from(
    [*string.printable, "Tags", "PolicyArns", ".member.", ".entry.", "1", "Key", "arn", "DurationSeconds", "%2", "%FF"]
)
REQUESTS = st.one_of(
    st.binary(max_size=200), st.lists(FRAGMENTS, max_size=60).map(lambda parts: "".join(parts).encode())
)


@MANY
@given(body=REQUESTS, line=st.text(), operation=st.sampled_from(API.operations()))
def test_arbitrary_bytes_are_read_or_refused_and_never_crash(body, line, operation):
    try:
        validate(operation, query.parse(operation, query.parameters(line, body, query.FORM)))
    except ServiceError as error:
        query.render_error(error, True, "the-request", operation.namespace)  # noqa: FBT003 - its place


NAMES = ["Tags", "Tags.member", "Tags.member.1", "Tags.member.1.Key", "Tags.member.x.Key", "RoleArn", "Policy.member.1",
         "PolicyArns.member.0", "DurationSeconds"]  # fmt: skip
PIECES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "a", "1", "900"])), max_size=6)


@MANY
@given(pieces=PIECES)
def test_a_mixture_of_forms_is_read_or_refused_and_never_crashes(pieces):
    operation = API.find("AssumeRole", "2011-06-15")
    try:
        params = query.parse(operation, tuple(pieces))
    except ServiceError as error:
        assert error.code == "MalformedInput"  # noqa: PT017 - both outcomes are right
    else:
        assert set(params) <= {name.split(".")[0] for name, _ in pieces}
