"""The doors of SDKs for web identity tokens, unmodified, and a session that becomes credentials of another STS."""

import json
import subprocess
import urllib.request
from dataclasses import dataclass

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from minio.credentials import WebIdentityProvider
from support.broker_process import ACCOUNT, FEDGATE, NO_PROXY, Broker, environment
from support.oidc_issuer import Issuer
from support.saml_servers import NODE_MODULES
from support.servers import HANG, program
from support.web_server import WebServer, web_server

from broker import wiring


@dataclass
class Site:
    """A served installation behind a TLS server, which also is an issuer, Login with Amazon and Facebook."""

    broker: Broker
    server: WebServer
    issuer: Issuer
    role: str

    @property
    def public(self):
        return self.server.url("/fed")

    @property
    def endpoint(self):
        return self.broker.endpoint

    def iam(self):
        return self.broker.client("iam")

    def make_role(self, name, principal, policy=None, **condition):
        statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRoleWithWebIdentity"}
        statement |= {"Condition": {"StringEquals": condition}} if condition else {}
        document = json.dumps({"Version": "2012-10-17", "Statement": statement})
        made = self.iam().create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        if policy:
            allowed = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": policy, "Resource": "*"}}
            self.iam().put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(allowed))
        return made


class Forwarding(dict):
    """Answers under /fed come from the installation."""

    endpoint = ""

    def get(self, path, default=None):
        if not path.startswith("/fed/"):
            return super().get(path, default)

        def answer(handler):
            with NO_PROXY.open(urllib.request.Request(self.endpoint + path.removeprefix("/fed")), timeout=HANG) as told:
                body = told.read()
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        return answer


SETTINGS = """
[outbound]
allowed_networks = ["127.0.0.0/8", "::1/128"]
ca_file = "{ca_file}"
[web_identity]
amazon_url = "{amazon}"
facebook_url = "{facebook}"
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory, slapd):
    with web_server(tmp_path_factory.mktemp("tls")) as server:
        server.answers = Forwarding()
        more = SETTINGS.format(ca_file=server.ca_file, amazon=server.url("/amazon"), facebook=server.url("/facebook"))
        broker = Broker(tmp_path_factory.mktemp("web"), slapd, server={"public_url": server.url("/fed")}, more=more)
        try:
            broker.make().start()
            server.answers.endpoint = broker.endpoint
            issuer = Issuer(server, wiring.now, "/issuer")
            made = Site(broker, server, issuer, "")
            made.iam().create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app-1"])
            provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer.arn_part}"
            made.role = made.make_role("App", {"Federated": provider}, ["sts:GetWebIdentityToken", "iam:ListRoles"],
                                       **{f"{issuer.arn_part}:sub": "user-1"})  # fmt: skip
            yield made
        finally:
            broker.close()


def test_boto3_reads_the_token_from_a_file_and_renews_by_itself(site, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(site.issuer.token())
    for name, value in {"AWS_ROLE_ARN": site.role, "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
                        "AWS_ROLE_SESSION_NAME": "pod", "AWS_ENDPOINT_URL_STS": site.endpoint,
                        "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    who = boto3.Session().client("sts").get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/App/pod"


def test_the_aws_cli_reads_the_token_from_a_file(site, tmp_path, aws_cli_v2):
    file = tmp_path / "token"
    file.write_text(site.issuer.token())
    environ = environment(tmp_path, AWS_ROLE_ARN=site.role, AWS_WEB_IDENTITY_TOKEN_FILE=str(file),
                          AWS_ROLE_SESSION_NAME="cli", AWS_ENDPOINT_URL_STS=site.endpoint,
                          AWS_REGION="us-east-1")  # fmt: skip
    done = subprocess.run([aws_cli_v2, "sts", "get-caller-identity"], env=environ, capture_output=True, text=True,
                          check=True, timeout=HANG)  # fmt: skip
    assert json.loads(done.stdout)["Arn"].endswith("assumed-role/App/cli")


def test_minios_web_identity_provider_gets_credentials(site):
    provider = WebIdentityProvider(
        jwt_provider_func=lambda: {"access_token": site.issuer.token(), "expires_in": "900"},
        sts_endpoint=site.endpoint,
        role_arn=site.role,
        role_session_name="minio",
    )
    found = provider.retrieve()
    keys = {"aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key}
    sts = boto3.client("sts", endpoint_url=site.endpoint, region_name="us-east-1",
                       aws_session_token=found.session_token, **keys)  # fmt: skip
    assert sts.get_caller_identity()["Arn"].endswith("assumed-role/App/minio")


FROM_WEB_TOKEN = """
const {fromWebToken} = require('@aws-sdk/credential-providers');
const [endpoint, roleArn, webIdentityToken, providerId] = process.argv.slice(2);
fromWebToken({roleArn, webIdentityToken, roleSessionName: 'js', ...(providerId ? {providerId} : {}),
              clientConfig: {endpoint, region: 'us-east-1'}})()
  .then(found => console.log(JSON.stringify(found)), error => { console.error(error.name); process.exit(1); });
"""


def from_web_token(site, tmp_path, role, token, *provider):
    script = tmp_path / "from_web_token.js"
    script.write_text(FROM_WEB_TOKEN)
    command = [program("node", "nodejs"), str(script), site.endpoint, role, token, *provider]
    done = subprocess.run(command, env=environment(tmp_path, NODE_PATH=str(NODE_MODULES)), capture_output=True,
                          text=True, check=False, timeout=HANG)  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def test_the_sdk_for_javascript_trades_tokens_of_every_kind(site, tmp_path):
    assert from_web_token(site, tmp_path, site.role, site.issuer.token())["sessionToken"]
    site.server.serve("/facebook/app", json.dumps({"id": "4711"}).encode())
    site.server.serve("/facebook/me", json.dumps({"id": "815"}).encode())
    facebook = site.make_role("Facebook", {"Federated": "graph.facebook.com"}, **{"graph.facebook.com:app_id": "4711"})
    assert from_web_token(site, tmp_path, facebook, "EAAC", "graph.facebook.com")["accessKeyId"]
    told = {"user_id": "amzn1.account.A", "aud": "client", "app_id": "amzn1.application.1", "exp": 600}
    site.server.serve("/amazon/auth/o2/tokeninfo", json.dumps(told).encode())
    amazon = site.make_role("Amazon", {"Federated": "www.amazon.com"}, **{"www.amazon.com:app_id": told["app_id"]})
    assert from_web_token(site, tmp_path, amazon, "Atza|x", "www.amazon.com")["accessKeyId"]
    assert from_web_token(site, tmp_path, amazon, "EAAC", "graph.facebook.com").endswith("AccessDenied")
    assert from_web_token(site, tmp_path, site.role, "x.y.z").endswith("InvalidIdentityTokenException")


def test_a_session_becomes_credentials_of_another_sts(site, tmp_path):
    """`fedgate aws-credentials`: here the other STS is the same installation, which verifies everything anew."""
    issuer = site.iam().enable_outbound_web_identity_federation()["IssuerIdentifier"]
    assert issuer.startswith(site.public)
    site.iam().create_open_id_connect_provider(Url=issuer, ClientIDList=["sts.amazonaws.com"])
    part = issuer.removeprefix("https://")
    cloud = site.make_role("Cloud", {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{part}"},
                           **{f"{part}:sub": site.role})  # fmt: skip
    sts = boto3.client("sts", endpoint_url=site.endpoint, region_name="us-east-1",
                       config=Config(signature_version=UNSIGNED))  # fmt: skip
    session = sts.assume_role_with_web_identity(RoleArn=site.role, RoleSessionName="onprem",
                                                WebIdentityToken=site.issuer.token())["Credentials"]  # fmt: skip
    environ = environment(tmp_path, AWS_ACCESS_KEY_ID=session["AccessKeyId"],
                          AWS_SECRET_ACCESS_KEY=session["SecretAccessKey"],
                          AWS_SESSION_TOKEN=session["SessionToken"])  # fmt: skip
    command = [FEDGATE, "aws-credentials", "--role", cloud, "--endpoint", site.endpoint, "--upstream",
               site.endpoint]  # fmt: skip
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    there = boto3.client("sts", endpoint_url=site.endpoint, region_name="us-east-1",
                         aws_access_key_id=found["AccessKeyId"], aws_secret_access_key=found["SecretAccessKey"],
                         aws_session_token=found["SessionToken"])  # fmt: skip
    assert there.get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Cloud/fedgate"
    denied = subprocess.run([*command[:3], "arn:aws:iam::123456789012:role/None", *command[4:]], env=environ,
                            capture_output=True, text=True, check=False, timeout=HANG)  # fmt: skip
    assert denied.returncode == 1
    assert "Not authorized to perform sts:AssumeRoleWithWebIdentity" in denied.stderr


def fedgate(site, *arguments, status=0):
    done = site.broker.run(*arguments)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


def test_an_operator_checks_issuers_and_says_whether_tokens_count_once(site):
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{site.issuer.arn_part}"
    assert {"provider": provider, "use_once": False} in fedgate(site, "oidc", "list")
    assert fedgate(site, "oidc", "check", site.issuer.url) == [{"kid": "k1", "algorithms": ["RS256"]}]
    assert "status 404" in fedgate(site, "oidc", "check", site.server.url("/nobody"), status=1)
    for flag, once in (("--use-once", True), ("--no-use-once", False)):
        assert fedgate(site, "oidc", "set", provider, flag) == {"provider": provider, "use_once": once}
    assert "There is no OpenID Connect provider" in fedgate(site, "oidc", "set", f"{provider}x", "--use-once", status=1)


def test_an_operator_rotates_the_keys_of_the_issuer(site):
    if not fedgate(site, "issuer", "keys"):  # the first token makes the first keys
        fedgate(site, "issuer", "rotate-key", "--algorithm", "ES384")
    first = fedgate(site, "issuer", "rotate-key", "--algorithm", "ES384")["id"]
    assert {one["id"]: one["signs"] for one in fedgate(site, "issuer", "keys")}[first] is False
    assert fedgate(site, "issuer", "remove-key", first) == {"removed": first}
    assert "There is no key" in fedgate(site, "issuer", "remove-key", first, status=1)
