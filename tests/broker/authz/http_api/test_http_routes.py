import json
import posixpath
import re
from itertools import permutations
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.api.http import HttpRequest
from broker.authz.http_api.paths import read_segments
from broker.authz.http_api.requests import read_http_request
from broker.authz.http_api.routes import ambiguous, route_problems
from broker.authz.resource import Resource, ResourceKind, Route
from iam.errors import AccessDenied, ValidationError
from iam.policy.decide import Layers, RequestContext, decide
from iam.policy.document import Policy, PolicyKind
from iam.policy.policy_set import PolicySet
from iam.principal import Principal, PrincipalKind

ACCOUNT = "111122223333"
SIGNED = "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/execute-api/aws4_request, SignedHeaders={}, Signature=0"
ANN = Principal(PrincipalKind.USER, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAANN", "")


def api(*routes):
    return Resource(
        name="api",
        kind=ResourceKind.HTTP,
        hosts=("api.example.com",),
        account=ACCOUNT,
        service="execute-api",
        stage="prod",
        routes=routes,
    )


def request(method, target, *headers):
    path, _, query = target.partition("?")
    return HttpRequest(method, path, query, (("host", "api.example.com"), *headers), b"", "192.0.2.1")


def route(path, action="x:Get", resource="arn:aws:x:::all", methods=("GET",), **more):
    made = Route(methods=frozenset(methods), path=path, action=action, resource=resource, **more)
    assert not list(route_problems(made, ACCOUNT))
    return made


def needed(resource, sent):
    (permission,) = read_http_request(resource, sent).permissions
    return permission


# --- API Gateway's convention -----------------------------------------------------------------------------------------

API_ARN = f"arn:aws:execute-api:us-east-1:{ACCOUNT}:api/prod"


@pytest.mark.parametrize(
    ("method", "path", "arn"),
    [
        ("GET", "/", "GET/"),
        ("GET", "/pets", "GET/pets"),
        ("DELETE", "/pets/1", "DELETE/pets/1"),
        ("GET", "/caf%C3%A9/a%20b", "GET/café/a b"),
        ("GET", "/a:b/*/$x", "GET/a%3Ab/%2A/%24x"),
        ("GET", "/a%3ab/%2a/%24%7Bx%7D%3f", "GET/a%3Ab/%2A/%24%7Bx%7D%3F"),
        ("GET", "/100%25", "GET/100%25"),
    ],
)
def test_without_routes_a_request_invokes_the_api_as_at_api_gateway(method, path, arn):
    permission = needed(api(), request(method, path))
    assert (permission.action, permission.resource) == ("execute-api:Invoke", f"{API_ARN}/{arn}")


def test_a_deny_of_a_path_holds_for_the_path_with_a_slash_at_its_end():
    assert needed(api(), request("GET", "/admin/")).spellings == (f"{API_ARN}/GET/admin",)
    assert needed(api(), request("GET", "/admin")).spellings == ()


def test_the_record_says_what_was_asked_for():
    asked = read_http_request(api(route("/pets/{pet}")), request("GET", "/pets/1?x=1"))
    assert (asked.operation, asked.writes) == ("Get", False)
    assert asked.parameters == {"httpMethod": "GET", "path": "/pets/1", "route": "/pets/{pet}"}
    assert read_http_request(api(), request("POST", "/pets")).writes


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("//", "has an empty segment"),
        ("/a//b", "has an empty segment"),
        ("//evil.example/a", "has an empty segment"),
        ("/a/./b", "has a . or .. segment"),
        ("/a/../b", "has a . or .. segment"),
        ("/..", "has a . or .. segment"),
        ("/a/%2e%2e/b", "has a . or .. segment"),
        ("/a/.%2E/b", "has a . or .. segment"),
        ("/a%2Fb", "has an encoded slash or backslash"),
        ("/a%5cb", "has an encoded slash or backslash"),
        ("/a\\b", "has characters that must be percent-encoded"),
        ("/a;b", "has characters that must be percent-encoded"),
        ("/public/..;/admin", "has characters that must be percent-encoded"),
        ("/a%00", "has an encoded control character"),
        ("/a%0d%0aX: y", "has characters that must be percent-encoded"),
        ("/a%0d%0aX", "has an encoded control character"),
        ("/a%7F", "has an encoded control character"),
        ("/a%C2%85", "has an encoded control character"),
        ("/%ff", "is not UTF-8"),
        ("/%c0%af", "is not UTF-8"),  # an overlong slash
        ("/%ed%a0%80", "is not UTF-8"),  # half of a surrogate pair
        ("/a%252fb", "is percent-encoded twice"),
        ("/%25%32%65", "is percent-encoded twice"),
        ("/a%", "a wrong escape"),
        ("/a%4", "a wrong escape"),
        ("/a%zz", "a wrong escape"),
        ("/a b", "has characters that must be percent-encoded"),
        ("/é", "has characters that must be percent-encoded"),
        ("/a#b", "has characters that must be percent-encoded"),
        ("/a{b}", "has characters that must be percent-encoded"),
        ("a", "has characters that must be percent-encoded"),
        ("", "has characters that must be percent-encoded"),
        ("http://api.example.com/a", "has characters that must be percent-encoded"),
        ("*", "has characters that must be percent-encoded"),
    ],
)
@pytest.mark.parametrize("resource", [api(), api(route("/{rest+}"))])
def test_a_path_that_servers_read_in_different_ways_is_refused(resource, path, what):
    with pytest.raises(ValidationError, match=re.escape(what)):
        read_http_request(resource, request("GET", path))


@pytest.mark.parametrize("method", ["get", "Get", "G-T", "", "GET ", "\uff27\uff25\uff34", "A" * 33])
def test_a_method_in_other_letters_is_refused(method):
    with pytest.raises(ValidationError, match="in capitals"):
        read_http_request(api(), request(method, "/"))


@pytest.mark.parametrize(
    "name",
    [
        "x-http-method-override",
        "x-http-method",
        "x_http_method_override",
        "x-original-url",
        "x-rewrite-url",
        "x-script-name",
        "script_name",
        "path_info",
    ],
)
def test_a_header_that_makes_it_another_request_is_refused(name):
    with pytest.raises(ValidationError, match=f"The header {name} could make"):
        read_http_request(api(), request("GET", "/", (name, "DELETE")))


@pytest.mark.parametrize(
    "query",
    [
        "_method=DELETE",
        "a=b&_Method=put",
        "%5fmethod",
        "a=1;_method=DELETE",
        "+_method=DELETE",
        ".method=DELETE",
        "%2Emethod=DELETE",
        "_method%00x=DELETE",
        "_method[]=DELETE",
    ],
)
def test_a_parameter_that_makes_it_another_request_is_refused(query):
    with pytest.raises(ValidationError, match="The parameter _method could make"):
        read_http_request(api(), request("POST", f"/?{query}"))


@pytest.mark.parametrize("query", ["x=_method", "method=x", "_methods", "x._method=1"])
def test_other_parameters_that_look_like_it_pass(query):
    assert needed(api(), request("POST", f"/?{query}"))


# --- routes -----------------------------------------------------------------------------------------------------------

REPORTS = api(
    route(
        "/teams/{team}/reports/{report}",
        "reports:GetReport",
        f"arn:aws:reports:us-east-1:{ACCOUNT}:team/{{team}}/{{report}}",
        keys={"reports:team": "{team}", "reports:kind": "report"},
        methods=("GET", "HEAD"),
    ),
    route("/teams/{team}/reports/latest", "reports:GetLatest", "arn:aws:reports:::team/{team}"),
    route("/teams/{team}/{rest+}", "reports:Browse", "arn:aws:reports:::team/{team}/{rest}"),
    route("/teams/{team}/{rest+}", "reports:Purge", "arn:aws:reports:::team/{team}", query={"purge": "*"}),
    route("/teams/{team}/{rest+}", "reports:PurgeAll", "arn:aws:reports:::team/{team}", query={"purge": "all"}),
    route("/", "reports:Index"),
    route("/drafts", "reports:Drafts", headers={"x-purpose": "audit"}),
)


@pytest.mark.parametrize(
    ("target", "action", "resource"),
    [
        ("/teams/a/reports/1", "GetReport", f"arn:aws:reports:us-east-1:{ACCOUNT}:team/a/1"),
        ("/teams/a/reports/latest", "GetLatest", "arn:aws:reports:::team/a"),
        ("/teams/a/reports/1/pages/2", "Browse", "arn:aws:reports:::team/a/reports/1/pages/2"),
        ("/teams/a/reports/", "Browse", "arn:aws:reports:::team/a/reports/"),
        ("/teams/a/b?purge", "Purge", "arn:aws:reports:::team/a"),
        ("/teams/a/b?x=1&purge=some", "Purge", "arn:aws:reports:::team/a"),
        ("/teams/a/b?%70urge=%61ll", "PurgeAll", "arn:aws:reports:::team/a"),
        ("/teams/a:b/reports/*", "GetReport", f"arn:aws:reports:us-east-1:{ACCOUNT}:team/a%3Ab/%2A"),
        ("/", "Index", "arn:aws:x:::all"),
    ],
)
def test_the_most_specific_route_says_what_is_needed(target, action, resource):
    permission = needed(REPORTS, request("GET", target))
    assert (permission.action, permission.resource) == (f"reports:{action}", resource)


def test_condition_keys_come_from_the_path_as_it_reads():
    permission = needed(REPORTS, request("HEAD", "/teams/a%3Ab/reports/1"))
    assert permission.keys == {"reports:team": ("a:b",), "reports:kind": ("report",)}


def test_the_value_of_a_name_is_not_searched_for_names():
    permission = needed(REPORTS, request("GET", "/teams/%7Breport%7D/reports/1"))
    assert permission.resource == f"arn:aws:reports:us-east-1:{ACCOUNT}:team/%7Breport%7D/1"
    assert permission.keys["reports:team"] == ("{report}",)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/other"),
        ("GET", "/teams"),
        ("GET", "/teams/a"),
        ("GET", "/teams/a/"),
        ("GET", "/teams/"),
        ("PUT", "/teams/a/reports/1"),
        ("HEAD", "/teams/a/reports/latest/x"),
        ("GET", "/drafts"),
        ("GET", "/drafts/"),
    ],
)
def test_a_request_that_fits_no_route_is_denied(method, target):
    with pytest.raises(AccessDenied, match=f"No route of this resource takes {method} {target}"):
        read_http_request(REPORTS, request(method, target))


@pytest.mark.parametrize(
    "query",
    [
        "purge=all&purge=some",
        "purge=some&purge=all",
        "purge&%70urge=all",
        "Purge=all",
        "purge[]=all",
        "+purge=all",
        "purge%00=all",
        "purge%5B0%5D=all",
        "PURGE[x]=1",
    ],
)
def test_a_parameter_that_services_read_in_different_ways_is_refused(query):
    with pytest.raises(ValidationError, match="could be read in two ways"):
        read_http_request(REPORTS, request("GET", f"/teams/a/b?{query}"))


@pytest.mark.parametrize("query", ["x=1;purge=all", "x=%", "x=%zz", "x=%ff"])
def test_a_query_that_cannot_be_read_is_refused_where_it_matters(query):
    with pytest.raises(ValidationError, match="The query of the request"):
        read_http_request(REPORTS, request("GET", f"/teams/a/b?{query}"))
    assert needed(api(), request("GET", f"/a?{query}"))


@pytest.mark.parametrize(
    "signature", [("authorization", SIGNED.format("host;x-purpose")), ("x-other", "an unsigned request")]
)
def test_a_header_can_choose_a_route(signature):
    sent = request("GET", "/drafts", ("x-purpose", " audit "), signature)
    assert needed(REPORTS, sent).action == "reports:Drafts"
    presigned = request("GET", "/drafts?X-Amz-SignedHeaders=host%3Bx-purpose", ("x-purpose", "audit"))
    assert needed(REPORTS, presigned).action == "reports:Drafts"


@pytest.mark.parametrize(
    ("target", "headers", "what"),
    [
        ("/drafts", [("x-purpose", "audit"), ("authorization", SIGNED.format("host"))], "x-purpose must be signed"),
        ("/drafts", [("x-purpose", "audit"), ("authorization", "AWS4-HMAC-SHA256")], "x-purpose must be signed"),
        ("/drafts?X-Amz-SignedHeaders=host", [("x-purpose", "audit")], "x-purpose must be signed"),
        ("/drafts?X%2DAmz-SignedHeaders=host", [("x-purpose", "audit")], "x-purpose must be signed"),
        ("/drafts?a=1&%58-Amz%2dSignedHeaders=host", [("x-purpose", "audit")], "x-purpose must be signed"),
        ("/drafts", [("x-purpose", "audit"), ("x-purpose", "none")], "x-purpose could be read in two ways"),
        ("/drafts", [("x_purpose", "audit")], "x_purpose could be read in two ways"),
        ("/drafts", [("x-purpose", "audit"), ("connection", "close, X-Purpose")], "x-purpose is listed in Connection"),
    ],
)
def test_a_header_that_could_be_added_or_read_in_two_ways_is_refused(target, headers, what):
    with pytest.raises(ValidationError, match=f"The header {what}"):
        read_http_request(REPORTS, request("GET", target, *headers))


# --- laws -------------------------------------------------------------------------------------------------------------

SEGMENTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/\\"), max_size=6),
    min_size=1,
    max_size=4,
)
RAW_PATHS = st.lists(
    st.sampled_from(["/", ".", "..", "a", "%2e", "%2F", "%5c", "%25", "2e", ";", "%00", "é", "%c3%a9", "*", ":", "%"])
).map("".join)


def canonical(segments):
    """Assume that a path of these segments is accepted, and return it as a client sends it."""
    assume(not any(one in {".", ".."} or re.search("%[0-9A-Fa-f]{2}", one) for one in segments))
    assume("" not in segments[:-1])
    return "/" + "/".join(quote(one, safe="") for one in segments)


@given(RAW_PATHS)
def test_what_lenient_servers_make_of_an_accepted_path_is_that_path(raw):
    path = f"/{raw}"
    try:
        segments = read_segments(path)
    except ValidationError:
        return
    once = unquote(path, errors="strict").replace("\\", "/").partition(";")[0]
    slash = "/" if once.endswith("/") and once != "/" else ""
    assert posixpath.normpath(once).replace("//", "/") + slash == "/" + "/".join(segments)
    assert unquote(once) == once


@given(SEGMENTS)
def test_a_segment_is_read_as_it_was_before_it_was_encoded(segments):
    assert list(read_segments(canonical(segments))) == segments


@given(SEGMENTS, SEGMENTS)
def test_two_paths_have_two_resources(one, other):
    assume(one != other)
    found = {needed(api(), request("GET", canonical(segments))).resource for segments in (one, other)}
    assert len(found) == 2


@given(
    st.lists(st.sampled_from(["api", "prod", "GET", "a:api", ":", "*", "?", "${aws:username}", "pets"]), min_size=1),
    st.sampled_from(["arn:aws:execute-api:*:*:api/prod/GET/*", "arn:aws:execute-api:*:api/prod/GET/*"]),
)
def test_no_path_makes_one_method_look_like_another(segments, pattern):
    permission = needed(api(), request("DELETE", canonical(segments)))
    assert not is_allowed(pattern, permission)


def test_an_account_of_any_kind_in_a_pattern_matches_this_account_alone():
    permission = needed(api(), request("GET", "/a:api/prod/GET/pets"))
    assert not is_allowed("arn:aws:execute-api:*:*:api/prod/GET/pets", permission)
    assert is_allowed("arn:aws:execute-api:*:*:api/prod/GET/a%3Aapi/*", permission)


def is_allowed(pattern, permission):
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": pattern}
    text = json.dumps({"Version": "2012-10-17", "Statement": statement})
    identity = PolicySet((Policy.parse(text, PolicyKind.IDENTITY),))
    context = RequestContext(permission.action, permission.resource, ANN, {"aws:username": ("ann",)})
    return decide(context, Layers(identity=identity)).allowed


TEMPLATES = ["/a/{x}", "/{x}/b", "/{x+}", "/a/{x+}", "/a/b", "/{x}/{y}", "/{x}/{y+}", "/a/"]
CONDITIONS = [{}, {"q": "*"}, {"q": "1"}]
ROUTES = st.tuples(st.sampled_from(TEMPLATES), st.sampled_from(CONDITIONS))


@given(
    st.lists(ROUTES, min_size=1, max_size=5, unique_by=str),
    st.sampled_from(["/a/b", "/a/c", "/c/b", "/a/", "/a/b/c", "/c", "/"]),
    st.sampled_from(["", "?q=1", "?q=2", "?r=1"]),
)
def test_the_order_of_the_routes_changes_nothing(made, path, query):
    routes = [route(template, f"x:R{number}", query=conditions) for number, (template, conditions) in enumerate(made)]
    assert not list(ambiguous(routes))
    outcomes = {outcome(order, f"{path}{query}") for order in permutations(routes)}
    assert len(outcomes) == 1


def outcome(routes, target):
    try:
        return needed(api(*routes), request("GET", target)).action
    except AccessDenied:
        return "denied"


@given(st.tuples(SEGMENTS, SEGMENTS))
def test_names_fill_one_part_of_an_arn_each(values):
    team, report = values[0][0], values[1][0]
    assume(team and report and report != "latest")
    arn = needed(REPORTS, request("GET", canonical(["teams", team, "reports", report]))).resource
    assert len(arn.split("/")) == 3
    assert arn.count(":") == 5
    assert set(arn).isdisjoint("*?${}")
