"""Sign-in through a certified OpenID Connect provider, by HTTP and in Chromium; another one whose keys change."""

import html
import json
import re

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import ACCOUNT, Broker
from support.http_browser import Page, trusting
from support.oidc_servers import oauth2_mock_server, oidc_provider, place
from support.servers import eventually, free_port

SETTINGS = """
[outbound]
allowed_networks = ["127.0.0.0/8", "::1/128"]
ca_file = "{ca_file}"
"""


def trust(provider, **condition):
    statement = {"Effect": "Allow", "Principal": {"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity",
                 "Condition": {"StringEquals": condition}}  # fmt: skip
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


@pytest.fixture(scope="module")
def idp(tmp_path_factory):
    return place(tmp_path_factory.mktemp("idp"))


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    return place(tmp_path_factory.mktemp("mock"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory, slapd, idp, mock):
    folder = tmp_path_factory.mktemp("oidc")
    authorities = folder / "authorities.pem"
    authorities.write_text(idp.ca_file.read_text() + mock.ca_file.read_text())
    # A fixed address: the provider compares redirect addresses letter by letter.
    server = {"bind": f"127.0.0.1:{free_port()}"}
    broker = Broker(folder, slapd, server=server, more=SETTINGS.format(ca_file=authorities))
    try:
        yield broker.make().start()
    finally:
        broker.close()


@pytest.fixture(scope="module")
def site(broker, idp):
    """The provider knows the broker, the broker the provider, and a role trusts it."""
    iam = broker.client("iam")
    arn = iam.create_open_id_connect_provider(Url=idp.url, ClientIDList=["mobile"])["OpenIDConnectProviderArn"]
    secret = broker.folder / "secret"
    secret.write_text("a secret of the tests, which is long enough")
    facts = broker.fedgate("oidc", "sign-in", arn, "--client-id", "fedgate", "--client-secret-file", str(secret),
                           "--name", "Corporate ID")  # fmt: skip
    part = idp.url.removeprefix("https://")
    document = trust(arn, **{f"{part}:aud": "fedgate", f"{part}:department": "sales"})
    iam.create_role(RoleName="Sales", AssumeRolePolicyDocument=document)
    client = {
        "client_id": "fedgate", "client_secret": secret.read_text(), "redirect_uris": [facts["redirect_uri"]],
        "post_logout_redirect_uris": [facts["post_logout_redirect_uri"]],
    }  # fmt: skip
    with oidc_provider(idp, [client]):
        yield facts


def test_a_person_signs_in_through_a_certified_provider_and_out_again(broker, idp, site):
    browser = trusting(idp.ca_file)
    page = browser.get(site["sign_in_at"])
    page = browser.submit(page, prompt="login", login="ann", password="any")
    page = browser.submit(page, prompt="consent")
    assert page.url == f"{broker.endpoint}/portal", page.body
    assert "Signed in as <strong>ann</strong>" in page.body
    address, fields = Page(page.url, page.body.partition("</header>")[2]).form()
    got = json.loads(browser.get(address, fields, Accept="application/json").body)
    credentials = Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
    who = broker.client("sts", credentials).get_caller_identity()["Arn"]
    assert who == f"arn:aws:sts::{ACCOUNT}:assumed-role/Sales/ann"
    page = browser.submit(page)  # the form in the header: to sign out
    page = browser.get(html.unescape(re.search(r'id="leave" href="([^"]*)"', page.body)[1]))
    page = browser.submit(page, logout="yes")  # the provider asks whether to sign out there as well
    assert page.url.startswith(site["post_logout_redirect_uri"]), page.body
    assert "You are signed out" in page.body
    assert "Continue with Corporate ID" in browser.get(f"{broker.endpoint}/portal").body
    assert 'name="login"' in browser.get(site["sign_in_at"]).body


def test_a_person_in_chromium_signs_in(broker, site, chromium):
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{broker.endpoint}/portal")
    page.get_by_role("link", name="Continue with Corporate ID").click()
    page.locator("input[name=login]").fill("ben")
    page.locator("input[name=password]").fill("any")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"{broker.endpoint}/portal")
    page.locator("label", has_text="Sales").click()
    page.get_by_role("button", name="Get credentials").click()
    assert "AWS_SESSION_TOKEN=" in page.locator("#text-bash").input_value()
    context.close()
    del site


def test_tokens_of_a_provider_are_believed_while_its_keys_change(broker, mock):
    with oauth2_mock_server(mock):
        iam = broker.client("iam")
        arn = iam.create_open_id_connect_provider(Url=mock.url, ClientIDList=["app-1"])["OpenIDConnectProviderArn"]
        part = mock.url.removeprefix("https://")
        iam.create_role(RoleName="Job", AssumeRolePolicyDocument=trust(arn, **{f"{part}:sub": "job-1"}))
        sts = boto3.client("sts", endpoint_url=broker.endpoint, region_name="us-east-1",
                           config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}))  # fmt: skip

        def taken():
            given = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Job", "RoleSessionName": "job"}
            return sts.assume_role_with_web_identity(WebIdentityToken=mock.get("/sign"), **given)

        assert taken()["SubjectFromWebIdentityToken"] == "job-1"
        mock.get("/rotate")
        with pytest.raises(ClientError, match="retrieve verification key"):
            taken()  # the keys were fetched a moment ago
        eventually(lambda: succeeds(taken), every=2)


def succeeds(call):
    try:
        return call()
    except ClientError:
        return None
