"""Sign-in through GitHub, which has no OpenID Connect for people: over a real server that answers as GitHub does."""

import json
import urllib.parse

import pytest
from click.testing import CliRunner
from redis import Redis
from support.administrator import trust
from support.saml_fixtures import Browser
from support.web_identity_fixtures import ACCOUNT, open_setup
from support.web_server import web_server

from broker.cli import main

ARN = f"arn:aws:iam::{ACCOUNT}:oidc-provider/github.com"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with web_server(tmp_path_factory.mktemp("tls")) as running:
        yield running


@pytest.fixture
def world(tmp_path, redis_url, server):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = open_setup(tmp_path, redis_url, server)
    made.admin.do("CreateOpenIDConnectProvider", Url="https://github.com")
    secret = tmp_path / "secret"
    secret.write_text("github-secret")
    command = ["oidc", "sign-in", ARN, "--preset", "github", "--client-id", "Iv1.x", "--client-secret-file",
               str(secret), "--json"]  # fmt: skip
    done = CliRunner().invoke(main, command, env=made.installation.environ)
    assert done.exit_code == 0, done.output
    made.facts = json.loads(done.output)
    made.path = urllib.parse.urlsplit(made.facts["sign_in_at"]).path.removesuffix("/login")
    condition = {"StringEquals": {"github.com:aud": "Iv1.x"},
                 "ForAnyValue:StringEquals": {"github.com:teams": "octo-org/deployers"}}  # fmt: skip
    made.role = made.admin.role(
        "deployers", trust({"Federated": ARN}, "sts:AssumeRoleWithWebIdentity", Condition=condition)
    )
    answers(server)
    yield made
    made.installation.close()


def answers(server, **changed):
    told = {
        "/github/login/oauth/access_token": {"access_token": "gho_x", "scope": "read:org", "token_type": "bearer"},
        "/api/user": {"id": 583231, "login": "octocat", "name": "The Octocat", "email": None},
        "/api/user/orgs": [{"login": "octo-org", "id": 1}],
        "/api/user/teams": [{"slug": "deployers", "organization": {"login": "octo-org"}}],
    }
    for path, value in told.items():
        given = changed.get(path.rpartition("/")[2], value)
        server.serve(path, given if isinstance(given, bytes) else json.dumps(given).encode())


def sign_in(world, browser):
    answer = browser.get(f"{world.path}/login")
    address, _, query = answer.headers["Location"].partition("?")
    asked = dict(urllib.parse.parse_qsl(query))
    assert address.endswith("/github/login/oauth/authorize")
    assert (asked["client_id"], asked["scope"]) == ("Iv1.x", "read:org")
    back = urllib.parse.urlencode({"code": "abc", "state": asked["state"]})
    return browser.get(f"{world.path}/callback?{back}")


def test_a_person_signs_in_by_their_team(world):
    browser = Browser(world.installation)
    assert sign_in(world, browser).headers["Location"] == "/portal"
    page = browser.get("/portal").body.decode()
    assert "Signed in as <strong>octocat</strong>" in page
    assert f'for="{world.role}"' in page
    told = json.loads(browser.get("/portal", Accept="application/json").body)
    assert told["subject"] == "583231"


def test_who_is_in_no_such_team_has_no_role(world, server):
    answers(server, teams=[{"slug": "readers", "organization": {"login": "octo-org"}}])
    browser = Browser(world.installation)
    sign_in(world, browser)
    assert "no role trusts you yet" in browser.get("/portal").body.decode()


def test_many_organisations_are_read_page_by_page(world, server):
    answers(server, orgs=[{"login": f"org{number}"} for number in range(100)])
    browser = Browser(world.installation)
    answer = sign_in(world, browser)  # every page is full: there is no end
    assert (answer.status, "more than can be read" in answer.body.decode()) == (400, True)


BAD = {
    "a bad code": {"access_token": {"error": "bad_verification_code"}},
    "no token": {"access_token": {}},
    "a token that is a number": {"access_token": {"access_token": 5}},
    "a token that is not for its bearer": {"access_token": {"access_token": "gho_x", "token_type": "mac"}},
    "no JSON": {"access_token": b"access_token=gho_x&scope=read%3Aorg"},
    "a person without an id": {"user": {"login": "octocat"}},
    "an id that is a text": {"user": {"id": "583231"}},
    "a list for a person": {"user": []},
    "teams that are none": {"teams": [{"slug": "x"}]},
    "teams that are no list": {"teams": {"message": "x"}},
    "orgs of texts": {"orgs": ["octo-org"]},
}


@pytest.mark.parametrize("how", BAD)
def test_an_answer_that_is_none_is_refused(world, server, how):
    answers(server, **BAD[how])
    browser = Browser(world.installation)
    answer = sign_in(world, browser)
    assert answer.status == 400, answer.body
    assert "Traceback" not in answer.body.decode()
    assert "Signed in" not in browser.get("/portal").body.decode()
