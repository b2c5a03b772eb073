"""Sign-in through real SAML identity providers: a person, a browser, credentials, and out again."""

import html
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import boto3
import pytest
from support.broker_process import FEDGATE, environment, running_demo
from support.http_browser import Browser, Page
from support.saml_servers import PASSWORD, samlp, simplesamlphp, told
from support.servers import free_port

ACCOUNT = "111122223333"


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    port = free_port()
    with running_demo(tmp_path_factory.mktemp("saml"), "--bind", f"127.0.0.1:{port}") as running:
        yield running


@pytest.fixture(scope="module")
def php(tmp_path_factory):
    with simplesamlphp(tmp_path_factory.mktemp("php")) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with samlp(tmp_path_factory.mktemp("node")) as running:
        yield running


def pages(broker):
    """Return the address of the trial's pages, which passkeys need by name."""
    return broker.endpoint.replace("127.0.0.1", "localhost")


def fedgate(broker, *arguments):
    command = [FEDGATE, *arguments, "--data", str(broker.folder / "data"), "--json"]
    done = subprocess.run(command, env=environment(broker.folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def set_up(broker, name, metadata, *flags):
    """Add the provider and a role that trusts it; return its facts."""
    file = broker.folder / f"{name}.xml"
    file.write_text(metadata)
    facts = fedgate(broker, "saml", "add", name, "--metadata", str(file), *flags)
    fedgate(broker, "saml", "sign-in", name)
    keys = {"aws_access_key_id": broker.admin.access_key, "aws_secret_access_key": broker.admin.secret_key}
    iam = boto3.client("iam", endpoint_url=broker.endpoint, region_name="us-east-1", **keys)
    document = {"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Principal": {"Federated": facts["provider"]}, "Action": "sts:AssumeRoleWithSAML",
        "Condition": {"StringEquals": {"saml:aud": facts["our_acs"], "saml:sub": "ann"}}}}  # fmt: skip
    iam.create_role(RoleName=f"From{name}", AssumeRolePolicyDocument=json.dumps(document))
    return facts | {"role": f"arn:aws:iam::{ACCOUNT}:role/From{name}"}


@pytest.fixture(scope="module")
def corp(broker, php):
    return set_up(broker, "Corp", php.metadata("saml2/idp/metadata.php"), "--idp-initiated")


@pytest.fixture(scope="module")
def other(broker, node):
    return set_up(broker, "Other", node.metadata("/metadata"))


def our_metadata(facts):
    return Browser().get(facts["our_entity_id"]).body


def to_the_portal(browser, facts) -> Page:
    """Sign in at SimpleSAMLphp, as a person does."""
    page = browser.get(facts["sign_in_at"])
    assert "username" in page.body, page
    address, fields = page.form()
    page = browser.get(
        urllib.parse.urljoin(page.url, address or page.url), fields | {"username": "ann", "password": PASSWORD}
    )
    assert "SAMLResponse" in page.body, page.body
    return browser.submit(page)


def caller(broker, browser, page, role):
    """Take a role, and return whom the STS knows by its credentials."""
    address, fields = page.form()
    if "/sign-out" in address:  # the form in the header comes first
        address, fields = Page(page.url, page.body.partition("</header>")[2]).form()
    answer = browser.get(address, fields | {"roleIndex": role}, Accept="application/json")
    got = json.loads(answer.body)
    sts = boto3.client("sts", endpoint_url=broker.endpoint, region_name="us-east-1",
                       aws_access_key_id=got["AccessKeyId"], aws_secret_access_key=got["SecretAccessKey"],
                       aws_session_token=got["SessionToken"])  # fmt: skip
    return sts.get_caller_identity()["Arn"]


def test_a_person_signs_in_through_simplesamlphp_and_gets_credentials(broker, php, corp):
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]))
    browser = Browser()
    page = to_the_portal(browser, corp)
    assert page.url == f"{pages(broker)}/portal", page.body
    assert corp["role"] in page.body
    assert caller(broker, browser, page, corp["role"]) == f"arn:aws:sts::{ACCOUNT}:assumed-role/FromCorp/ann"


def test_what_is_encrypted_without_integrity_is_refused_and_the_operator_reads_why(broker, php, corp):
    """SimpleSAMLphp 1.19 encrypts for a public key with AES-128-CBC alone (THREATS D26)."""
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]), **{"assertion.encryption": True})
    page = to_the_portal(Browser(), corp)
    assert "Response has an assertion that cannot be decrypted" in page.body
    reference = re.search(r"Reference: <code>(\w{8})</code>", page.body)[1]
    texts = [file.read_text() for file in broker.folder.glob("data/audit/*.jsonl")]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    (record,) = [one for one in lines if one["requestID"].startswith(reference)]
    assert "aes128-cbc is not accepted: AES-GCM is" in record["additionalEventData"]["reason"]


def test_who_signs_out_here_is_signed_out_there(php, corp):
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]))
    browser = Browser()
    page = to_the_portal(browser, corp)
    page = browser.submit(page)  # the first form is that to sign out
    assert "You are signed out here" in page.body
    page = browser.get(html.unescape(re.search(r'id="leave" href="([^"]*)"', page.body)[1]))
    assert "You are signed out" in page.body, page.body
    assert "could not sign you out" not in page.body
    assert "username" in browser.get(corp["sign_in_at"]).body  # it asks for the password again


def test_who_signs_out_there_is_signed_out_here(broker, php, corp):
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]))
    browser = Browser()
    to_the_portal(browser, corp)
    assert "Sign out" in browser.get(f"{pages(broker)}/portal").body
    back = urllib.parse.quote(f"{php.url}saml2/idp/metadata.php", safe="")
    page = browser.get(f"{php.url}saml2/idp/SingleLogoutService.php?ReturnTo={back}")
    assert page.url.startswith(php.url), page.body
    assert "Continue with Corp" in browser.get(f"{pages(broker)}/portal").body


def test_a_sign_in_may_begin_at_the_identity_provider(broker, php, corp):
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]))
    browser = Browser()
    place = urllib.parse.urlencode({"spentityid": corp["our_entity_id"]})
    page = browser.get(f"{php.url}saml2/idp/SSOService.php?{place}")
    _, fields = page.form()
    page = browser.get(page.url, fields | {"username": "ann", "password": PASSWORD})
    page = browser.submit(page)
    assert f'for="{corp["role"]}"' in page.body, page.body
    assert caller(broker, browser, page, corp["role"]).endswith("/FromCorp/ann")


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_person_signs_in_through_samlp(broker, node, other, encrypt):
    node.trust(our_metadata(other), told([other["role"]], other["provider"]), encrypt=encrypt)
    browser = Browser()
    page = browser.submit(browser.get(other["sign_in_at"]))
    assert page.url == f"{pages(broker)}/portal", page.body
    assert caller(broker, browser, page, other["role"]) == f"arn:aws:sts::{ACCOUNT}:assumed-role/FromOther/ann"


def test_the_assertion_of_a_real_provider_gets_credentials_at_the_sts_once(broker, node, other):
    node.trust(our_metadata(other), told([other["role"]], other["provider"]))
    _, fields = Browser().get(other["sign_in_at"]).form()
    sts = boto3.client("sts", endpoint_url=broker.endpoint, region_name="us-east-1", aws_access_key_id="x",
                       aws_secret_access_key="x")  # fmt: skip
    given = {"RoleArn": other["role"], "PrincipalArn": other["provider"], "SAMLAssertion": fields["SAMLResponse"]}
    answer = sts.assume_role_with_saml(**given)
    assert (answer["Subject"], answer["SubjectType"], answer["Audience"]) == ("ann", "persistent", other["our_acs"])
    with pytest.raises(sts.exceptions.InvalidIdentityTokenException, match="has been used before"):
        sts.assume_role_with_saml(**given)


# --- in Chromium ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_in_a_browser_signs_in_takes_credentials_and_signs_out(broker, php, corp, chromium, scripts):
    php.trust(our_metadata(corp), told([corp["role"]], corp["provider"]))
    context = chromium.new_context(java_script_enabled=scripts)
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{pages(broker)}/portal")
    page.get_by_role("link", name="Continue with Corp").click()
    page.get_by_label("Username").or_(page.locator("#username")).first.fill("ann")
    page.locator("#password").fill(PASSWORD)
    page.locator("#password").press("Enter")
    if not scripts:
        page.get_by_role("button").first.click()
    page.wait_for_url(f"{pages(broker)}/portal")
    page.locator("label", has_text="FromCorp").first.click()
    page.get_by_role("button", name="Get credentials").click()
    assert "AWS_SESSION_TOKEN=" in page.locator("#text-bash").input_value()
    page.goto(f"{pages(broker)}/portal")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile(r"/slo\?"))
    assert page.get_by_role("heading").inner_text() == "You are signed out"
    page.goto(f"{pages(broker)}/portal")
    assert page.get_by_role("link", name="Continue with Corp").is_visible()
    ours = [text for text in complaints if "Content Security Policy" in text]
    assert not ours
    context.close()
