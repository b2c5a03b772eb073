import base64
import dataclasses
import json

import pytest

from broker.authz.resource import Audited, Backend, Resource, ResourceKind, Route
from broker.config.resources import BACKEND_SETTINGS, RESOURCE_SETTINGS, ROUTE_SETTINGS
from broker.config.settings import Settings, SettingsError
from broker.config.source import line_of

ENVIRON = {"FEDGATE_MASTER_KEY": base64.b64encode(bytes(range(32))).decode()}
ACCOUNT = "111122223333"
STORE = f"""[resource.store]
kind = "s3"
hosts = ["s3.example.com", "*.s3.example.com"]
account = "{ACCOUNT}"
"""
API = f"""[resource.api]
kind = "http"
hosts = ["api.example.com"]
account = "{ACCOUNT}"
"""
BACKEND = """[resource.store.backend]
endpoint = "http://127.0.0.1:7480"
access_key_id = "KEY"
secret_file = "secret"
"""
ROUTE = """[[resource.api.route]]
methods = ["GET"]
path = "/teams/{team}/reports/{report}"
action = "reports:GetReport"
resource = "arn:aws:reports:us-east-1:111122223333:team/{team}/{report}"
"""
POLICY = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Principal": "*", "Action": "reports:*", "Resource": "*"},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("store-secret-of-20-ch\n")
    (tmp_path / "policy.json").write_text(json.dumps(POLICY))
    return tmp_path


@pytest.fixture
def read(folder):
    def read(text="", **environ):
        config = folder / "fedgate.toml"
        config.write_text(text)
        return Settings.read(config, {**ENVIRON, **environ})

    return read


def test_a_store_is_read_with_its_backend(read):
    settings = read(STORE + 'regions = ["us-east-1"]\naudit = "writes"\npolicy_writes = true\n' + BACKEND)
    assert settings.resources["store"] == Resource(
        name="store",
        kind=ResourceKind.S3,
        hosts=("s3.example.com", "*.s3.example.com"),
        account=ACCOUNT,
        service="s3",
        regions=frozenset({"us-east-1"}),
        audit=Audited.WRITES,
        policy_writes=True,
        backend=Backend(
            endpoint="http://127.0.0.1:7480",
            region="us-east-1",
            access_key_id="KEY",
            secret_access_key="store-secret-of-20-ch",
        ),
    )
    assert "store-secret" not in repr(settings)


def test_an_api_is_read_with_its_routes_and_its_policy(read):
    conditions = 'query = { draft = "*" }\nheaders = { X-Purpose = "audit" }\nkeys = { "reports:Team" = "{team}" }\n'
    text = API + 'policy_file = "policy.json"\nanonymous = true\nstage = "prod"\n' + ROUTE + conditions
    api = read(text).resources["api"]
    assert api.routes == (
        Route(
            methods=frozenset({"GET"}),
            path="/teams/{team}/reports/{report}",
            action="reports:GetReport",
            resource=f"arn:aws:reports:us-east-1:{ACCOUNT}:team/{{team}}/{{report}}",
            query={"draft": "*"},
            headers={"x-purpose": "audit"},
            keys={"reports:team": "{team}"},
        ),
    )
    assert (api.service, api.regions, api.region, api.stage, api.anonymous) == (
        "execute-api",
        None,
        "us-east-1",
        "prod",
        True,
    )
    assert [policy.label for policy in api.policy] == ["policy.json"]
    assert not api.policy.trust


def test_a_condition_can_stand_in_a_table_of_its_own(read):
    assert read(API + ROUTE + '[resource.api.route.query]\ndraft = "1"').resources["api"].routes[0].query == {
        "draft": "1"
    }


def test_the_environment_overrides_a_resource_and_its_routes(read):
    environ = {
        "FEDGATE_RESOURCE_API_HOSTS": "a.example.com,b.example.com:8443",
        "FEDGATE_RESOURCE_API_ROUTE_1_METHODS": "PUT",
        "FEDGATE_RESOURCE_API_ROUTE_1_QUERY": "draft=1, x=*",
    }
    api = read(API + ROUTE, **environ).resources["api"]
    assert api.hosts == ("a.example.com", "b.example.com:8443")
    assert api.routes[0].methods == {"PUT"}
    assert api.routes[0].query == {"draft": "1", "x": "*"}


def lines(text, *more):
    return text + "\n".join(more)


SECOND = ROUTE.replace("{team}", "{t}").replace("{report}", "{r}")
REFUSED = [
    ("no kind", STORE.replace("s3", "nfs", 1), 'line 2: resource.store.kind: must be "s3" or "http"'),
    ("no host", STORE.replace('"s3.example.com", "*.s3.example.com"', ""), "line 3: resource.store.hosts: is missing"),
    ("a host as a URL", STORE.replace("s3.ex", "https://s3.ex", 1), "https://s3.example.com is no host name"),
    ("capitals", STORE.replace("s3.ex", "S3.ex", 1), "S3.example.com: write it in small letters"),
    ("the default port", STORE.replace("com", "com:443", 1), "s3.example.com:443: leave out the port"),
    ("a star inside", STORE.replace("*.s3", "a.*.s3"), "a.*.s3.example.com is no host name"),
    ("a star alone", STORE.replace("*.s3.example.com", "*"), "* is no host name"),
    ("no account", STORE.replace(ACCOUNT, "1"), "line 4: resource.store.account: must be the twelve digits"),
    ("a host twice", STORE + API.replace("api.", "s3."), "line 7: resource.api.hosts: s3.example.com is named by"),
    (
        "a wildcard twice",
        STORE + STORE.replace("store", "two").replace('"s3.example.com", ', ""),
        "resource.two.hosts: *.s3.example.com is named by",
    ),
    ("a wildcard of an API", API.replace("api.e", "*.e"), "resource.api.hosts: *. is for the buckets of kind"),
    ("a name with a blank", API.replace("[resource.api]", '[resource."a b"]'), "a name has up to 64 letters"),
    ("no table", "resource = 1", "line 1: resource: write [resource.NAME]"),
    ("a region in capitals", STORE + "regions = ['US']", "line 5: resource.store.regions: must be names such as"),
    ("a service", STORE + "service = 'S 3'", "line 5: resource.store.service: must be small letters"),
    ("a stage", API + "stage = 'a/b'", "line 5: resource.api.stage: must be letters"),
    ("a user as browser", API + f"browser = 'arn:aws:iam::{ACCOUNT}:user/x'", "browser: must be the ARN of a role"),
    ("a wildcard as browser", API + f"browser = 'arn:aws:iam::{ACCOUNT}:role/*'", "browser: must be the ARN of a role"),
    ("an audit", STORE + "audit = 'reads'", 'line 5: resource.store.audit: must be "all", "writes" or "denials"'),
    ("an unknown key", STORE + "host = ['x']", "line 5: resource.store.host: unknown setting."),
    ("a stage of a store", STORE + "stage = 'x'", 'line 5: resource.store.stage: is for kind = "http" only'),
    ("policy writes of an API", API + "policy_writes = true", 'policy_writes: is for kind = "s3" only'),
    ("a route of a store", STORE + ROUTE.replace("api", "store"), 'resource.store.route: is for kind = "http" only'),
    ("a backend of an API", API + BACKEND.replace("store", "api"), 'resource.api.backend: is for kind = "s3" only'),
    ("no policy file", API + "policy_file = 'none'", "line 5: resource.api.policy_file:"),
    ("a policy that is none", API + "policy_file = 'secret'", "resource.api.policy_file:"),
    ("a backend's path", STORE + BACKEND.replace("7480", "7480/x"), "line 6: resource.store.backend.endpoint: must be"),
    ("a backend's port", STORE + BACKEND.replace("7480", "99999"), "resource.store.backend.endpoint: must be http"),
    ("a backend's user", STORE + BACKEND.replace("127", "u@127"), "resource.store.backend.endpoint: must be http"),
    ("no key", STORE + BACKEND.replace('"KEY"', '""'), "line 7: resource.store.backend.access_key_id: must be"),
    ("no secret", STORE + BACKEND.replace("secret_file", "region"), "line 5: resource.store.backend.secret_file: is m"),
    ("no such secret", STORE + BACKEND.replace('"secret"', '"x"'), "line 8: resource.store.backend.secret_file:"),
    ("routes as a table", API + ROUTE.replace("[[", "[").replace("]]", "]"), "write [[resource.api.route]]"),
    ("no methods", API + ROUTE.replace('["GET"]', "[]"), "line 6: resource.api.route.1.methods: must be a list of met"),
    ("small methods", API + ROUTE.replace("GET", "get"), "line 6: resource.api.route.1.methods: must be a list of met"),
    ("a relative path", API + ROUTE.replace('"/teams', '"teams'), 'route.1.path: must begin with "/"'),
    ("an empty segment", API + ROUTE.replace("/teams/", "/teams//"), "route.1.path: must have no empty segment"),
    ("half a segment", API + ROUTE.replace("{report}", "{report}.json", 1), "a name takes a whole segment"),
    ("a name twice", API + ROUTE.replace("{report}", "{team}"), "route.1.path: {team} stands there twice"),
    ("the rest in the middle", API + ROUTE.replace("{team}", "{team+}"), "route.1.path: {name+} takes the rest"),
    ("an action of two", API + ROUTE.replace("GetReport", "Get*"), "line 8: resource.api.route.1.action: must be serv"),
    ("an action of the STS", API + ROUTE.replace("reports:", "sts:", 1), "route.1.action: sts: is Fedgate's own API"),
    ("an ARN with a star", API + ROUTE.replace("team/{team}", "*"), "line 9: resource.api.route.1.resource: must be o"),
    ("an account by the path", API + ROUTE.replace(f"{ACCOUNT}:", "{team}:"), "route.1.resource: must be one ARN"),
    ("an ARN elsewhere", API + ROUTE.replace(ACCOUNT, "9" * 12), "is in account 999999999999, but the resource"),
    ("an unknown name", API + ROUTE.replace("team/{team}", "team/{tema}"), "route.1.resource: {tema} is no name of"),
    ("a name with a plus", API + ROUTE.replace("team/{team}", "team/{team+}"), "resource: has braces that are no name"),
    ("a global key", API + ROUTE + "keys = { 'aws:userid' = '{team}' }", "line 10: resource.api.route.1.keys: aws:us"),
    ("a condition on the host", API + ROUTE + "headers = { Host = 'x' }", "route.1.headers: host cannot be a condi"),
    (
        "a condition on a proxy's header",
        API + ROUTE + "headers = { X-Forwarded-For = 'x' }",
        "x-forwarded-for cannot be",
    ),
    (
        "two names in a part",
        API + ROUTE.replace('{team}/{report}"\n', '{team}-{report}"\n'),
        "must have / or : between",
    ),
    ("two names in a key", API + ROUTE + "keys = { 'reports:x' = '{team}:{report}' }", "reports:x must have / between"),
    (
        "the rest in the middle of an ARN",
        API + ROUTE.replace("{report}", "{report+}", 1).replace("team/{team}/{report}", "{report}/{team}"),
        "route.1.resource: {report}, the rest of the path, must stand at the end",
    ),
    ("a nameless parameter", API + ROUTE + "query = { '' = 'x' }", "route.1.query: a parameter has a name"),
    ("a condition of numbers", API + ROUTE + "query = { x = 1 }", "route.1.query: must be a table of texts"),
    ("an unknown key of a route", API + ROUTE + "method = 'GET'", "line 10: resource.api.route.1.method: unknown set"),
    ("two equal routes", API + ROUTE + SECOND, "line 10: resource.api.route.2: takes requests that route 1 takes too"),
    (
        "two conditions",
        lines(API, ROUTE + "query = { a = '1' }", SECOND + "query = { b = '1' }"),
        "line 11: resource.api.route.2: takes requests that route 1 takes too",
    ),
    ("an address", "[authz]\nbind = '8081'", 'line 2: authz.bind: must be "HOST:PORT"'),
    ("a relative socket", "[authz]\nbind = 'unix:authz.sock'", "line 2: authz.bind: must be unix:/PATH"),
    ("a long socket", f"[authz]\nbind = 'unix:/{'x' * 107}'", "line 2: authz.bind: must be unix:/PATH"),
    ("everybody may ask", "[authz]\nbind = '0.0.0.0:8081'", "authz.secret_file: is missing: others could ask with"),
    ("a short secret", "[authz]\nsecret_file = 'short'", "line 2: authz.secret_file:"),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_wrong_value_is_refused_with_line_key_and_remedy(read, folder, text, expected):
    (folder / "short").touch(mode=0o600)
    (folder / "short").write_text("s3cret")
    with pytest.raises(SettingsError) as caught:
        read(text)
    found = [str(problem) for problem in caught.value.problems]
    assert any(expected in problem for problem in found), found
    assert len(found) == 1


@pytest.mark.parametrize(
    "more",
    [
        [ROUTE + "query = { a = '1' }", SECOND],  # a condition more
        [ROUTE + "query = { a = '1' }", SECOND + "query = { a = '2' }"],  # never both
        [ROUTE + "query = { a = '1' }", SECOND + "query = { a = '*' }"],  # one value of all
        [ROUTE, SECOND.replace("GET", "PUT")],
        [ROUTE, SECOND.replace("{t}", "own", 1).replace("{t}", "own")],
    ],
)
def test_routes_of_which_one_is_more_specific_are_accepted(read, more):
    assert len(read(lines(API, *more)).resources["api"].routes) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604])
@pytest.mark.parametrize("text", [STORE + BACKEND, "[authz]\nsecret_file = 'secret'"])
def test_a_secret_that_others_can_read_is_refused(read, folder, mode, text):
    (folder / "secret").chmod(mode)
    with pytest.raises(SettingsError, match=r"can be read by others: chmod 600"):
        read(text)


@pytest.mark.parametrize("text", [STORE + BACKEND, "[authz]\nsecret_file = 'secret'"])
def test_an_empty_secret_is_refused(read, folder, text):
    (folder / "secret").write_text("\n")
    with pytest.raises(SettingsError, match="secret is empty"):
        read(text)


@pytest.mark.parametrize("bind", ["", "127.0.0.1:8081", "[::1]:8081", "localhost:0", "unix:/run/fedgate/authz.sock"])
def test_nobody_else_can_reach_a_loopback_or_a_socket(read, bind):
    settings = read(f"[authz]\nbind = '{bind}'")
    assert (settings.authz_bind, settings.authz_secret) == (bind, "")


def test_with_a_secret_any_address_may_be_asked(read):
    settings = read("[authz]\nbind = '0.0.0.0:8081'\nsecret_file = 'secret'")
    assert settings.authz_secret == "store-secret-of-20-ch"
    assert "store-secret" not in repr(settings)


def test_every_field_of_a_resource_is_described():
    made = {"name": set(), "policy": {"policy_file"}, "routes": set(), "backend": set()}
    fields = {one.name for one in dataclasses.fields(Resource)}
    assert fields - made.keys() == set(RESOURCE_SETTINGS) - {"policy_file"}
    assert {one.name for one in dataclasses.fields(Route)} == set(ROUTE_SETTINGS)
    assert {one.name for one in dataclasses.fields(Backend)} - {"secret_access_key"} == set(BACKEND_SETTINGS) - {
        "secret_file"
    }


def test_the_line_of_a_table_in_a_list_is_found():
    text = "[a]\n[[a.r]]\nx = 1\n[a.r.q]\ny = 1\n[[a.r]]\nx = 2\n[a.r.q]\ny = 2\n[b]\nx = 3\n"
    assert [line_of(text, ("a", "r", number, "x")) for number in "12"] == [3, 7]
    assert [line_of(text, ("a", "r", number, "q", "y")) for number in "12"] == [5, 9]
    assert line_of(text, ("b", "x")) == 11
