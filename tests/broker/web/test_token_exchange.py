"""Token exchange (RFC 8693): each kind of proof becomes credentials, and what OAuth calls each refusal."""

import json
from base64 import b64encode
from hashlib import sha256
from urllib.parse import quote_plus

import pytest
from botocore.credentials import Credentials
from joserfc import jwt
from joserfc.jwk import KeySet
from support.administrator import allow, deny
from support.saml_fixtures import Browser, open_setup
from support.saml_idp import encoded, signed
from support.web_identity_fixtures import open_setup as web_world_in
from support.web_server import web_server

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE = "urn:ietf:params:oauth:token-type:"
CREDENTIALS = "urn:fedgate:params:oauth:token-type:aws-credentials"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture(scope="module")
def web(tmp_path_factory, redis_url, server):
    made = web_world_in(tmp_path_factory.mktemp("web"), redis_url, server)
    yield made
    made.installation.close()


@pytest.fixture(scope="module")
def saml(tmp_path_factory, redis_url):
    made = open_setup(tmp_path_factory.mktemp("saml"), redis_url)
    yield made
    made.installation.close()


def exchange(world, token, kind="id_token", headers=None, **more):
    form = {"grant_type": GRANT, "subject_token": token, "subject_token_type": f"{TYPE}{kind}", "audience": world.role}
    form = {name: value for name, value in (form | more).items() if value is not None}
    answer = Browser(world.installation).post("/oauth2/token", form, **(headers or {}))
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(answer.body)


def caller(world, told):
    found = told["aws_credentials"]
    credentials = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    return world.installation.call("GetCallerIdentity", credentials).text("Arn")


@pytest.mark.parametrize("kind", ["id_token", "jwt"])
def test_a_web_identity_token_becomes_credentials(web, kind):
    status, told = exchange(web, web.issuer.token(), kind, session_name="phone", duration_seconds="900")
    assert status == 200, told
    assert (told["issued_token_type"], told["token_type"], told["expires_in"]) == (CREDENTIALS, "N_A", 900)
    assert told["access_token"] == told["aws_credentials"]["SessionToken"]
    assert told["assumed_role"] == caller(web, told) == "arn:aws:sts::111122223333:assumed-role/app/phone"


def test_without_a_session_name_each_subject_gets_one_of_its_own(web):
    arns = [exchange(web, web.issuer.token(sub=subject))[1]["assumed_role"] for subject in ("repo:a", "repo/a", "pod")]
    assert len(set(arns)) == 3
    assert arns[0].rpartition("/")[2].startswith("repo-a-")
    assert arns[2].endswith(":assumed-role/app/pod")


def test_a_saml_assertion_becomes_credentials_once(saml):
    token = encoded(signed(saml.response()))
    status, told = exchange(saml, token, "saml2", provider=saml.provider)
    assert status == 200, told
    assert caller(saml, told) == "arn:aws:sts::111122223333:assumed-role/developer/ann"
    status, told = exchange(saml, token, "saml2", provider=saml.provider)
    assert (status, told["error"]) == (400, "invalid_grant")
    assert told["error_description"] == "The assertion has been used before"


def test_it_is_recorded_as_the_call_that_it_is(web):
    exchange(web, web.issuer.token(), headers={"User-Agent": "phone/1.0"})
    record = json.loads(web.installation.services.storage.audit.path.read_text().splitlines()[-1])
    assert (record["eventName"], record["userAgent"]) == ("AssumeRoleWithWebIdentity", "phone/1.0")
    assert record["userIdentity"]["userName"] == "user-1"


def test_a_client_that_names_itself_must_be_that_of_the_token(web):
    assert exchange(web, web.issuer.token(), client_id="app-1")[0] == 200
    assert exchange(web, web.issuer.token(aud=["app-1", "x"]), client_id="app-1")[0] == 200
    status, told = exchange(web, web.issuer.token(), client_id="other")
    assert (status, told["error"]) == (400, "invalid_client")
    assert exchange(web, web.issuer.token(azp="app-1", aud="x"), client_id="x")[1]["error"] == "invalid_client"
    assert exchange(web, "x.y.z", client_id="app-1")[1]["error"] == "invalid_grant"


def test_a_policy_narrows_the_role(web):
    policy = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}})
    status, told = exchange(web, web.issuer.token(), policy=policy)
    found = told["aws_credentials"]
    credentials = Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    assert (status, web.installation.call("ListRoles", credentials).status) == (200, 403)


REFUSED = {
    "no grant": ({"grant_type": None}, "unsupported_grant_type"),
    "another grant": ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
    "no token": ({"subject_token": None}, "invalid_request"),
    "no kind": ({"subject_token_type": None}, "invalid_request"),
    "another kind": ({"subject_token_type": f"{TYPE}refresh_token"}, "invalid_request"),
    "no audience": ({"audience": None}, "invalid_request"),
    "credentials for a resource": ({"resource": "urn:x"}, "invalid_target"),
    "a token for nobody": ({"requested_token_type": f"{TYPE}jwt"}, "invalid_target"),
    "a token that the account has not enabled": (
        {"requested_token_type": f"{TYPE}jwt", "resource": "https://api.example.com"},
        "invalid_target",
    ),
    "a role of nobody": ({"audience": "arn:aws:iam::111122223333:role/none"}, "invalid_target"),
    "a role that is no ARN": ({"audience": "https://api.example.com"}, "invalid_request"),
    "seconds that are none": (
        {"requested_token_type": f"{TYPE}jwt", "resource": "urn:x", "token_seconds": "many"},
        "invalid_request",
    ),
    "too many seconds": (
        {"requested_token_type": f"{TYPE}jwt", "resource": "urn:x", "token_seconds": "3601"},
        "invalid_request",
    ),
    "a token that outlives": (
        {"requested_token_type": f"{TYPE}jwt", "resource": "urn:x", "token_seconds": "901", "duration_seconds": "900"},
        "invalid_request",
    ),
    "a scope twice": ({"requested_token_type": f"{TYPE}jwt", "resource": "urn:x", "scope": "a a"}, "invalid_scope"),
    "a scope of nothing": (
        {"requested_token_type": f"{TYPE}jwt", "resource": "urn:x", "scope": "a  b"},
        "invalid_scope",
    ),
    "another token of ours": ({"requested_token_type": f"{TYPE}access_token"}, "invalid_request"),
    "a scope": ({"scope": "read"}, "invalid_scope"),
    "an actor": ({"actor_token": "x"}, "invalid_request"),
    "an unknown parameter": ({"colour": "red"}, "invalid_request"),
    "a wrong token": ({"subject_token": "x.y.z"}, "invalid_grant"),
    "a duration that is too long": ({"duration_seconds": "43201"}, "invalid_request"),
    "a policy that is none": ({"policy": "{"}, "invalid_request"),
    "an assertion without a provider": ({"subject_token_type": f"{TYPE}saml2"}, "invalid_request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exchanged_is_refused_in_oauths_words(web, name):
    change, error = REFUSED[name]
    status, told = exchange(web, web.issuer.token(), **change)
    assert (status, told["error"]) == (400, error), told
    assert told["error_description"]


def test_a_proof_becomes_a_token_of_ours_that_others_verify(tmp_path, redis_url, server):
    world = web_world_in(tmp_path, redis_url, server)
    issuer = world.admin.do("EnableOutboundWebIdentityFederation").text("IssuerIdentifier")
    asked = {"requested_token_type": f"{TYPE}jwt", "resource": "https://api.example.com", "scope": "read"}
    status, told = exchange(world, world.issuer.token(), **asked, token_seconds="60")
    assert status == 200, told
    assert (told["issued_token_type"], told["token_type"], told["scope"]) == (f"{TYPE}jwt", "Bearer", "read")
    assert told["expires_in"] == 60
    path = f"/issuer/{issuer.rpartition('/')[2]}/.well-known/jwks.json"
    keys = KeySet.import_key_set(json.loads(Browser(world.installation).get(path).body))
    claims = jwt.decode(told["access_token"], keys, algorithms=["RS256"]).claims
    assert (claims["iss"], claims["aud"], claims["sub"]) == (issuer, "https://api.example.com", world.role)
    assert claims["https://sts.amazonaws.com/"]["federated_provider"] == world.provider()
    narrowed = json.dumps({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}})  # fmt: skip
    status, told = exchange(world, world.issuer.token(), **asked, policy=narrowed)
    assert (status, told["error"]) == (400, "invalid_target")
    names = [
        json.loads(line)["eventName"]
        for line in world.installation.services.storage.audit.path.read_text().splitlines()
    ]
    assert names[-3:] == ["AssumeRoleWithWebIdentity", "GetWebIdentityToken", "AssumeRoleWithWebIdentity"]
    world.installation.close()


def test_a_deny_on_the_referer_holds_for_the_second_half_of_an_exchange(tmp_path, redis_url, server):
    world = web_world_in(tmp_path, redis_url, server)
    world.admin.do("EnableOutboundWebIdentityFederation")
    elsewhere = deny("sts:GetWebIdentityToken", Condition={"StringLike": {"aws:Referer": "https://evil.example/*"}})
    world.admin.do("PutRolePolicy", RoleName="app", PolicyName="referer", PolicyDocument=elsewhere)
    asked = {"requested_token_type": f"{TYPE}jwt", "resource": "https://api.example.com"}
    assert exchange(world, world.issuer.token(), **asked)[0] == 200
    status, told = exchange(world, world.issuer.token(), headers={"Referer": "https://evil.example/page"}, **asked)
    assert (status, told["error"]) == (400, "invalid_target"), told
    world.installation.close()


def test_both_halves_of_an_exchange_are_in_one_region(web):
    here = {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}
    role = web.trusts("here", None, allow("sts:*", Condition=here), Condition=here)
    web.admin.do("EnableOutboundWebIdentityFederation")
    asked = {"requested_token_type": f"{TYPE}jwt", "resource": "https://api.example.com", "audience": role}
    status, told = exchange(web, web.issuer.token(), **asked)
    assert status == 200, told


TOO_LONG = {
    "resource": {"resource": "https://api.example.com/" + "x" * 1000},
    "scope": {"resource": "urn:x", "scope": "x" * 9000},
    "not enabled": {"resource": "urn:x"},
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_proof_is_not_used_up_by_a_request_for_a_token_that_must_fail(saml, name):
    if name != "not enabled":
        saml.admin.do("EnableOutboundWebIdentityFederation")
    token = encoded(signed(saml.response()))
    wanted = {"requested_token_type": f"{TYPE}jwt", **TOO_LONG[name]}
    status, told = exchange(saml, token, "saml2", provider=saml.provider, **wanted)
    assert (status, told["error"]) == (400, "invalid_target" if name == "not enabled" else "invalid_request"), told
    assert exchange(saml, token, "saml2", provider=saml.provider)[0] == 200
    if name != "not enabled":
        saml.admin.do("DisableOutboundWebIdentityFederation")


def test_wrong_secrets_of_a_client_are_limited_for_their_source(web):
    for _ in range(5):
        assert exchange(web, "x", client_id="guessed", client_secret="x")[0] == 401
    status, told = exchange(web, "x", client_id="guessed", client_secret="x")
    assert (status, told["error"]) == (429, "temporarily_unavailable")


def test_a_secret_is_refused_where_no_client_is_registered(web):
    for given in ({"headers": {"Authorization": "Basic eDp5"}}, {"client_id": "app-1", "client_secret": "x"},
                  {"client_secret": "x"}):  # fmt: skip
        status, told = exchange(web, web.issuer.token(), **given)
        assert (status, told["error"]) == (401, "invalid_client")
        assert told["error_description"] == "No client has this name and this secret."


OLD, NEW = "old: %+/ secret", "new: secret"
CLIENTS = ",".join(f"{name}:{sha256(secret.encode()).hexdigest()}" for name, secret in (
    ("orders.app", OLD), ("orders.app", NEW), ("other", "another secret")))  # fmt: skip


@pytest.fixture(scope="module", params=[False, True], ids=["open to all", "registered only"])
def registered(request, tmp_path_factory, redis_url, server):
    more = {"FEDGATE_TOKEN_EXCHANGE_CLIENTS": CLIENTS}
    if request.param:
        more["FEDGATE_TOKEN_EXCHANGE_REGISTERED_ONLY"] = "true"
    made = web_world_in(tmp_path_factory.mktemp("registered"), redis_url, server, **more)
    made.closed = request.param
    yield made
    made.installation.close()


def basic(name, secret):
    pair = f"{quote_plus(name)}:{quote_plus(secret)}"
    return {"headers": {"Authorization": "Basic " + b64encode(pair.encode()).decode()}}


@pytest.mark.parametrize("secret", [OLD, NEW])
@pytest.mark.parametrize("way", ["header", "form"])
def test_a_registered_client_proves_itself(registered, way, secret):
    shown = {"client_id": "orders.app", "client_secret": secret} if way == "form" else basic("orders.app", secret)
    status, told = exchange(registered, registered.issuer.token(), **shown)
    assert status == 200, told
    record = json.loads(registered.installation.services.storage.audit.path.read_text().splitlines()[-1])
    assert record["additionalEventData"]["client"] == "orders.app"
    assert secret not in json.dumps(record)


@pytest.mark.parametrize(
    "shown",
    [
        {"client_id": "orders.app"},
        {"client_id": "orders.app", "client_secret": OLD.upper()},
        {"client_id": "orders.app", "client_secret": "another secret"},
        {"client_id": "nobody", "client_secret": OLD},
        {"client_secret": OLD},
        basic("orders.app", ""),
        basic("other", OLD),
        basic("orders.app", OLD) | {"client_secret": OLD},
        basic("orders.app", OLD) | {"client_id": "other"},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"Authorization": "Basic !"}},
        {"headers": {"Authorization": "Basic \u00e9"}},
        {"headers": {"Authorization": "Basic " + b64encode(b"orders.app").decode()}},
        {"headers": {"Authorization": "Basic " + b64encode(b"\xff:x").decode()}},
    ],
)
def test_a_client_that_does_not_prove_itself_is_refused(registered, shown):
    log = registered.installation.services.storage.audit.path
    before = log.read_text()
    status, told = exchange(registered, registered.issuer.token(), **shown)
    assert (status, told["error"]) == (401, "invalid_client")
    record = json.loads(log.read_text().removeprefix(before))
    assert (record["eventName"], record["errorCode"]) == ("TokenExchange", "AccessDenied")
    assert record["additionalEventData"]["reason"] == "invalid_client"
    assert OLD not in json.dumps(record)


def test_who_is_not_registered_may_go_on_or_not(registered):
    status, told = exchange(registered, registered.issuer.token(), client_id="app-1")
    assert (status, told.get("error")) == ((401, "invalid_client") if registered.closed else (200, None))
    methods = json.loads(Browser(registered.installation).get("/.well-known/oauth-authorization-server").body)
    known = methods["token_endpoint_auth_methods_supported"]
    assert known == ["client_secret_basic", "client_secret_post"] + ([] if registered.closed else ["none"])


def test_a_parameter_that_comes_twice_is_refused(web):
    browser = Browser(web.installation)
    form = [("grant_type", GRANT), ("subject_token", web.issuer.token()), ("subject_token_type", f"{TYPE}id_token"),
            ("audience", web.role), ("audience", web.role)]  # fmt: skip
    answer = browser.post("/oauth2/token", form)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "invalid_request")
    assert browser.get("/oauth2/token").status == 405


def test_what_can_be_exchanged_is_told(web):
    told = json.loads(Browser(web.installation).get("/.well-known/oauth-authorization-server").body)
    assert told["token_endpoint"] == f"{told['issuer']}/oauth2/token"
    assert told["grant_types_supported"] == [GRANT]
    assert f"{TYPE}saml2" in told["subject_token_types_supported"]
