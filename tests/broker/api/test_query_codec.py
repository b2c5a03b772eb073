"""Vectors: how requests are read and answers written, byte by byte."""

import json
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import pytest
from support.timing import cost

from broker.api import model, query
from iam.errors import AccessDenied, MalformedInput, MalformedQueryString

API = model.load_models()
ASSUME_ROLE = API.find("AssumeRole", "2011-06-15")
LDAP = API.find("AssumeRoleWithLDAPIdentity", "2011-06-15")
SIMULATE = API.find("SimulateCustomPolicy", "2010-05-08")


def read(form, operation=ASSUME_ROLE):
    return query.parse(operation, query.parameters("", form.encode(), query.FORM))


@pytest.mark.parametrize(
    ("form", "params"),
    [
        ("", {}),
        ("Unknown=1&Also.member.1=2", {}),
        ("RoleArn=first&RoleArn=second", {"RoleArn": "first"}),  # THREATS A25
        ("RoleArn=&RoleArn=second", {"RoleArn": ""}),
        ("&&RoleArn=a&&", {"RoleArn": "a"}),
        ("RoleArn=a=b", {"RoleArn": "a=b"}),
        ("RoleArn", {"RoleArn": ""}),
        ("RoleArn=a+b%20c%2Bd", {"RoleArn": "a b c+d"}),
        ("%52oleArn=a", {"RoleArn": "a"}),
        ("RoleArn=%C3%A9", {"RoleArn": "é"}),
        ("RoleArn=é", {"RoleArn": "é"}),
        ("Tags=", {"Tags": []}),
        ("TransitiveTagKeys.member.1=a&TransitiveTagKeys.member.2=b", {"TransitiveTagKeys": ["a", "b"]}),
        ("TransitiveTagKeys.member.10=b&TransitiveTagKeys.member.9=a", {"TransitiveTagKeys": ["a", "b"]}),
        ("Tags.member.1.Value=v&Tags.member.1.Key=k", {"Tags": [{"Key": "k", "Value": "v"}]}),
        ("Tags.member.1.Key=k&Tags.member.1.Key=l", {"Tags": [{"Key": "k"}]}),
        ("DurationSeconds=-2147483648", {"DurationSeconds": -(2**31)}),
        ("DurationSeconds=2147483647", {"DurationSeconds": 2**31 - 1}),
        ("DurationSeconds=0900", {"DurationSeconds": 900}),
    ],
)
def test_a_form_is_read(form, params):
    assert read(form) == params


# THREATS B12, and what int() would take besides.
@pytest.mark.parametrize(
    "text",
    ["900.0", "", "2147483648", "-2147483649", "9" * 5000, "1_000", "%EF%BC%99%EF%BC%90%EF%BC%90", "+900", "%2B900",
     "0x384", "900%0A", "%20900", "1e3", "--1", "true"],
)  # fmt: skip
def test_a_number_that_is_none_is_malformed(text):
    with pytest.raises(MalformedInput):
        read(f"DurationSeconds={text}")


@pytest.mark.parametrize("text", ["True", "1", "", "yes", "true%20"])
def test_a_boolean_is_true_or_false_and_nothing_else(text):
    operation = API.find("UpdateAccountPasswordPolicy", "2010-05-08")
    assert read("RequireSymbols=false&RequireNumbers=true", operation) == {
        "RequireSymbols": False,
        "RequireNumbers": True,
    }
    with pytest.raises(MalformedInput):
        read(f"RequireSymbols={text}", operation)


# Whoever asks for less must not get more because we did not understand how they asked.
@pytest.mark.parametrize(
    "form",
    [
        "PolicyArns.1.arn=arn:aws:iam::aws:policy/ReadOnlyAccess",
        "PolicyArns.members.1.arn=arn:aws:iam::aws:policy/ReadOnlyAccess",
        "PolicyArns.member.0.arn=a",
        "PolicyArns.member.01.arn=a",
        "PolicyArns.member.-1.arn=a",
        "PolicyArns.member.10000.arn=a",
        "PolicyArns.member.99999999999999999999.arn=a",
        "PolicyArns.member.%EF%BC%91.arn=a",
        "PolicyArns.member..arn=a",
        "PolicyArns.member=a",
        "PolicyArns.member.1=a",
        "PolicyArns=a",
        "PolicyArns=&PolicyArns.member.1.arn=a",
        "Policy.member.1={}",
        "Policy={}&Policy.x=1",
        "TransitiveTagKeys.member.1.Key=a",
    ],
)
def test_a_member_in_an_unknown_form_is_refused_and_not_taken_for_absent(form):
    with pytest.raises(MalformedInput):
        read(form)


def test_a_map_is_read_and_its_first_of_equal_keys_counts():
    put = API.find("PutAccountProperties", "2010-05-08")
    one, two = "Properties.entry.1", "Properties.entry.2"
    form = f"{two}.key=k&{two}.value=late&{one}.key=k&{one}.value=early"
    assert read(form, put) == {"Properties": {"k": "early"}}
    for half in (f"{one}.key=k", f"{one}.value=v", "Properties.1.key=k&Properties.1.value=v"):
        with pytest.raises(MalformedInput):
            read(half, put)


def test_lists_inside_lists_are_read():
    form = (
        "ContextEntries.member.1.ContextKeyName=aws:SourceIp&ContextEntries.member.1.ContextKeyValues.member.1=a"
        "&ContextEntries.member.1.ContextKeyValues.member.2=b"
    )
    entry = {"ContextKeyName": "aws:SourceIp", "ContextKeyValues": ["a", "b"]}
    assert read(form, SIMULATE) == {"ContextEntries": [entry]}


# THREATS A24.
@pytest.mark.parametrize(
    "text", ["%GG", "%", "%4", "%%41", "a%2", "%+1", "%FF", "%ED%A0%80", "%C0%AF", "%C3", "%F5%80%80%80"]
)
def test_what_cannot_be_decoded_is_a_malformed_query_string(text):
    for form in (f"RoleArn={text}", f"{text}=x"):
        for line, body in ((form, b""), ("", form.encode())):
            with pytest.raises(MalformedQueryString):
                query.parameters(line, body, query.FORM)


def test_bytes_that_are_not_utf_8_are_a_malformed_query_string():
    for line, body in (("A=\xff", b""), ("A=\u0101", b""), ("", b"A=\xff")):
        with pytest.raises(MalformedQueryString):
            query.parameters(line, body, query.FORM)


def test_the_request_line_holds_raw_utf_8_as_a_wsgi_server_hands_it_over():
    assert query.parameters("A=é".encode().decode("latin-1"), b"", "") == (("A", "é"),)


def test_the_query_comes_before_the_body():
    given = query.parameters("A=1", b"A=2", query.FORM)
    assert given == (("A", "1"), ("A", "2"))
    assert query.first(given, "A") == "1"
    assert query.first(given, "B") is None


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-amz-json-1.1", "text/plain", "multipart/form-data; boundary=x"]
)
def test_a_body_that_is_no_form_is_refused_with_the_type_that_is_wanted(kind):
    with pytest.raises(MalformedInput, match="application/x-www-form-urlencoded"):
        query.parameters("", b'{"Action":"GetCallerIdentity"}', kind)
    assert query.parameters("A=1", b"", kind) == (("A", "1"),)


@pytest.mark.parametrize("kind", ["", query.FORM, "Application/X-WWW-Form-URLEncoded ; charset=utf-8"])
def test_a_form_may_say_so_in_any_spelling_or_not_at_all(kind):
    assert query.parameters("", b"A=1", kind) == (("A", "1"),)


def test_the_number_of_parameters_is_bounded():
    assert len(query.parameters("", b"&".join([b"A=1"] * 5000), query.FORM)) == 5000
    for many in (b"&".join([b"A=1"] * 5001), b"&" * 10_000_000):
        with pytest.raises(MalformedQueryString):
            query.parameters("", many, query.FORM)


def test_a_name_of_many_dots_is_ignored_and_takes_no_memory():
    given = query.parameters("", b"." * 200_000 + b"=1", query.FORM)
    tracemalloc.start()
    try:
        assert query.parse(ASSUME_ROLE, given) == {}
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_answer_is_what_the_api_reference_shows():
    result = {
        "Credentials": {"AccessKeyId": "ASIA1", "Expiration": datetime(2011, 7, 15, 23, 28, 33, 359000, tzinfo=UTC)},
        "AssumedRoleUser": {"AssumedRoleId": "AROA1:John", "Arn": "arn:aws:sts::123456789012:assumed-role/demo/John"},
        "PackedPolicySize": 8,
    }
    assert query.render(ASSUME_ROLE, result, "c6104cbe") == (
        b'<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
        b"<AccessKeyId>ASIA1</AccessKeyId><Expiration>2011-07-15T23:28:33Z</Expiration></Credentials><AssumedRoleUser>"
        b"<AssumedRoleId>AROA1:John</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/demo/John</Arn>"
        b"</AssumedRoleUser><PackedPolicySize>8</PackedPolicySize></AssumeRoleResult><ResponseMetadata>"
        b"<RequestId>c6104cbe</RequestId></ResponseMetadata></AssumeRoleResponse>"
    )
    assert json.loads(query.render(ASSUME_ROLE, result, "c6104cbe", as_json=True)) == {
        "AssumeRoleResponse": {
            "AssumeRoleResult": {**result, "Credentials": {"AccessKeyId": "ASIA1", "Expiration": 1310772513}},
            "ResponseMetadata": {"RequestId": "c6104cbe"},
        }
    }


def test_an_operation_without_output_answers_with_its_request_id():
    delete = API.find("DeleteUser", "2010-05-08")
    assert query.render(delete, {}, "r") == (
        b'<DeleteUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        b"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></DeleteUserResponse>"
    )
    assert json.loads(query.render(delete, {}, "r", as_json=True)) == {
        "DeleteUserResponse": {"ResponseMetadata": {"RequestId": "r"}}
    }


def test_times_of_another_zone_are_told_in_utc():
    result = {"Credentials": {"Expiration": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))}}
    assert b"<Expiration>2025-12-31T23:00:00Z</Expiration>" in query.render(ASSUME_ROLE, result, "r")


@pytest.mark.parametrize("as_json", [False, True])
def test_policies_are_percent_encoded_in_answers_and_only_they(as_json):
    get = API.find("GetRolePolicy", "2010-05-08")
    result = {"RoleName": "a+b@c", "PolicyName": "p", "PolicyDocument": '{"Action": "s3:*", "~-._": "é"}'}
    body = query.render(get, result, "r", as_json=as_json)
    assert b"%7B%22Action%22%3A%20%22s3%3A%2A%22%2C%20%22~-._%22%3A%20%22%C3%A9%22%7D" in body
    assert b"a+b@c" in body


def test_booleans_blobs_maps_and_empty_lists_are_written():
    cases = {
        "ListUsers": ({"Users": [], "IsTruncated": False}, b"<Users></Users><IsTruncated>false</IsTruncated>"),
        "GetCredentialReport": ({"Content": b"user,arn"}, b"<Content>dXNlcixhcm4=</Content>"),
        "GetAccountSummary": (
            {"SummaryMap": {"Users": 3}},
            b"<SummaryMap><entry><key>Users</key><value>3</value></entry></SummaryMap>",
        ),
    }
    for name, (result, expected) in cases.items():
        assert expected in query.render(API.find(name, "2010-05-08"), result, "r")
    report = query.render(API.find("GetCredentialReport", "2010-05-08"), {"Content": b"user,arn"}, "r", as_json=True)
    assert json.loads(report)["GetCredentialReportResponse"]["GetCredentialReportResult"] == {"Content": "dXNlcixhcm4="}
    summary = query.render(API.find("GetAccountSummary", "2010-05-08"), {"SummaryMap": {"Users": 3}}, "r", as_json=True)
    assert json.loads(summary)["GetAccountSummaryResponse"]["GetAccountSummaryResult"] == {"SummaryMap": {"Users": 3}}


def test_text_is_escaped_and_what_xml_cannot_carry_is_replaced():
    body = query.render(ASSUME_ROLE, {"SourceIdentity": "<a>&\"'\r\n\t\x00\x0b\ud800\uffff"}, "<&>")
    assert b"<SourceIdentity>&lt;a&gt;&amp;\"'&#13;\n\t" + "\ufffd".encode() * 4 + b"</SourceIdentity>" in body
    assert b"<RequestId>&lt;&amp;&gt;</RequestId>" in body


def test_a_result_that_the_model_lacks_is_a_mistake_of_ours_and_not_left_out():
    with pytest.raises(KeyError):
        query.render(ASSUME_ROLE, {"Creds": {}}, "r")


def test_an_error_tells_code_and_message_and_not_the_operators_text():
    error = AccessDenied("No <b>", log="the secret reason")
    assert query.render_error(error, True, "r", ASSUME_ROLE.namespace) == (  # noqa: FBT003 - its place
        b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code>'
        b"<Message>No &lt;b&gt;</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
    told = json.loads(query.render_error(error, False, "r", "", as_json=True))  # noqa: FBT003 - its place
    assert told == {"Error": {"Code": "AccessDenied", "Message": "No <b>", "Type": "Receiver"}, "RequestId": "r"}


def test_the_directory_operation_reads_what_its_clients_send():
    form = (
        "Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15&LDAPUsername=ann&LDAPPassword=p%26w&DurationSeconds=3600"
    )
    params = read(form, LDAP)
    assert params == {"LDAPUsername": "ann", "LDAPPassword": "p&w", "DurationSeconds": 3600}
    query.validate(LDAP, params)
    result = {"Credentials": {"AccessKeyId": "ASIA1"}, "Provider": "corp", "Subject": "ann", "PackedPolicySize": 0}
    assert b"<AssumeRoleWithLDAPIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>" in query.render(
        LDAP, result, "r"
    )


@pytest.mark.parametrize("body", [b"a=" + b"%41" * 3_333_332, b"&".join([b"%41" * 650] * 4999)])
def test_a_body_full_of_escapes_is_refused_before_it_is_decoded(body):
    def refuse():
        with pytest.raises(MalformedQueryString):
            query.parameters("", body, query.FORM)

    # To count is cheap; to decode all of it would cost thousands.
    assert cost(refuse, tries=3) < 150


def test_the_most_escapes_that_are_taken_are_read():
    assert query.parameters("", b"a=" + b"%41" * query.MAX_ESCAPES, "") == (("a", "A" * query.MAX_ESCAPES),)
