"""A tenant lets its own roles trust everybody, under names that the administrators of other accounts know."""

import re

from botocore.credentials import Credentials
from support.broker_process import ACCOUNT, allow, client, document, error_code
from support.http_browser import Browser
from support.servers import eventually

TENANT = "000000000007"  # sorts before every other account
PASSWORD = "Correct horse, battery & staple 4"
EVERYBODY = document({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
BAIT = f"arn:aws:iam::{TENANT}:role/Administrator"


def offered(browser, broker):
    page = browser.get(f"{broker.endpoint}/portal")
    return set(re.findall(r'name="roleIndex" value="([^"]*:role/[^"]*)"', page.body))


def test_a_tenant_puts_no_role_on_the_pages_of_another_account_s_users(new_broker):
    broker = new_broker()
    root = broker.fedgate("account", "create", "--id", TENANT, "--alias", "tenant")["root"]
    tenant = client("iam", broker.endpoint, Credentials(root["access_key_id"], root["secret_access_key"]))
    tenant.create_role(RoleName="Administrator", AssumeRolePolicyDocument=EVERYBODY)
    iam = broker.client("iam")
    iam.create_user(UserName="ann")
    iam.create_login_profile(UserName="ann", Password=PASSWORD)
    iam.put_user_policy(UserName="ann", PolicyName="all", PolicyDocument=allow("*"))
    mine = broker.role("Mine", EVERYBODY)
    browser = Browser()
    page = browser.get(f"{broker.endpoint}/signin/{ACCOUNT}")
    browser.submit(page, username="ann", password=PASSWORD)
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    sts = broker.client("sts", Credentials(key["AccessKeyId"], key["SecretAccessKey"]))

    eventually(lambda: not error_code(sts.assume_role, RoleArn=BAIT, RoleSessionName="ann"))
    assert offered(browser, broker) == {mine}

    iam.put_user_policy(UserName="ann", PolicyName="there", PolicyDocument=allow("sts:AssumeRole", resource=BAIT))
    eventually(lambda: offered(browser, broker) == {mine, BAIT})
