"""Somebody whom policies deny a thing in the API, and who tries it on the pages."""

import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from sqlalchemy import insert
from support.broker_process import ACCOUNT, document, error_code, fetch, role_arn, trusting
from support.http_browser import Browser
from support.servers import eventually

from broker.config.settings import Settings
from broker.wiring import open_store
from iam.credentials import totp
from iam.store.schema import inline_policy

PASSWORD = "Correct horse, battery & staple 4"
DEVICES = ["iam:CreateVirtualMFADevice", "iam:EnableMFADevice", "iam:DeactivateMFADevice", "iam:DeleteVirtualMFADevice"]
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def denied(*actions, resource="*"):
    return {"Effect": "Deny", "Action": list(actions), "Resource": resource}


@pytest.fixture
def user(served, request):
    """Make a user with a password, and return what gives it policies."""
    iam, name = served.client("iam"), re.sub(r"\W", "-", request.node.name)[:40]
    iam.create_user(UserName=name)
    iam.create_login_profile(UserName=name, Password=PASSWORD)

    def given(*statements):
        iam.put_user_policy(UserName=name, PolicyName="given", PolicyDocument=document(*statements))
        return name

    return given


def signed_in(served, name):
    browser = Browser()
    page = browser.get(f"{served.endpoint}/signin/{ACCOUNT}")
    page = browser.submit(page, username=name, password=PASSWORD)
    assert page.url.endswith("/portal"), page.body
    return browser


def enrol(served, browser):
    """Scan the code of the enrolment page, and send the first number that the app shows."""
    page = browser.get(f"{served.endpoint}/mfa/enrol?to=/security")
    secret = base64.b32decode(re.search(r'<code id="key"[^>]*>([^<]+)</code>', page.body)[1].replace(" ", ""))
    form = re.search(r'<form[^>]*>(?:(?!</form>).)*value="totp"(?:(?!</form>).)*</form>', page.body, re.DOTALL)[0]
    fields = dict(re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form))
    return browser.get(
        f"{served.endpoint}/mfa/enrol",
        fields | {"use": "totp", "name": "phone", "code": totp.code_at(secret, totp.step_at(datetime.now(UTC)))},
    )


def reference(page):
    return re.search(r"<code[^>]*>([0-9a-f]{8})</code>", page.body)[1]


def test_a05_a_deny_on_mfa_devices_holds_on_the_pages(served, user):
    name = user(EVERYTHING, denied(*DEVICES))
    browser = signed_in(served, name)
    refused = enrol(served, browser)
    assert refused.status == 403, refused.body
    assert reference(refused)
    iam = served.client("iam")
    assert iam.list_mfa_devices(UserName=name)["MFADevices"] == []
    user(EVERYTHING)
    assert enrol(served, browser).status == 200
    (device,) = iam.list_mfa_devices(UserName=name)["MFADevices"]
    user(EVERYTHING, denied(*DEVICES))
    page = browser.get(f"{served.endpoint}/security?remove={quote(device['SerialNumber'], safe='')}")
    fields = {"form_token": token_of(page), "factor": device["SerialNumber"]}
    assert browser.get(f"{served.endpoint}/security/remove", fields).status == 403
    assert len(iam.list_mfa_devices(UserName=name)["MFADevices"]) == 1


def token_of(page):
    return re.search(r'name="form_token" value="([^"]+)"', page.body)[1]


def end(served, browser, kind, subject):
    page = browser.get(f"{served.endpoint}/admin/sessions")
    form = {"form_token": token_of(page), "kind": kind, "subject": subject, "sure": "1"}
    return browser.get(f"{served.endpoint}/admin/sessions", form).status


def test_a11_a_deny_on_one_role_holds_when_its_sessions_are_to_be_ended(served, user):
    served.role("AttackedBreakGlass", trusting("staff"), "AdministratorAccess")
    name = user(EVERYTHING, denied("iam:PutRolePolicy", resource=role_arn("AttackedBreakGlass")))
    browser, credentials = signed_in(served, name), served.credentials("carol", "AttackedBreakGlass")
    assert end(served, browser, "role", role_arn("AttackedBreakGlass")) == 403
    assert end(served, browser, "session", served.session(credentials)["id"]) == 404
    assert served.code(credentials) == ""
    user(EVERYTHING)
    assert end(served, browser, "role", role_arn("AttackedBreakGlass")) == 200
    assert served.codes(credentials) == {"InvalidClientTokenId"}


def test_a11_a_revocation_that_waits_its_turn_is_refused_once_its_administrator_may_no_more(served, user):
    served.role("AttackedWaiting", trusting("staff"), "AdministratorAccess")
    name = user(EVERYTHING)
    user_id = served.client("iam").get_user(UserName=name)["User"]["UserId"]
    browser, credentials = signed_in(served, name), served.credentials("carol", "AttackedWaiting")
    token = token_of(browser.get(f"{served.endpoint}/admin/sessions"))
    form = {"form_token": token, "kind": "role", "subject": role_arn("AttackedWaiting"), "sure": "1"}
    with closing(open_store(Settings.read(served.config, {}))) as store, ThreadPoolExecutor(1) as pool:
        with store.write() as tx:  # the writer's turn is ours: the revocation waits
            answer = pool.submit(browser.get, f"{served.endpoint}/admin/sessions", form)
            for _ in range(20):  # by then a worker has taken the form, which was sent before
                fetch(f"{served.endpoint}/healthz")
            tx.execute(insert(inline_policy).values(entity_id=user_id, name="deny", document=document(denied("*"))))
        assert answer.result().status == 403
    assert served.code(credentials) == ""


def test_a11_whoever_may_write_the_policies_of_roles_ends_no_session_of_root_or_of_users(served, user):
    name = user({"Effect": "Allow", "Action": ["iam:Get*", "iam:PutRolePolicy"], "Resource": "*"})
    browser = signed_in(served, name)
    root = served.client("sts").get_session_token()["Credentials"]
    root_credentials = Credentials(root["AccessKeyId"], root["SecretAccessKey"], root["SessionToken"])
    session = served.session(root_credentials)
    other = served.client("iam").get_user(UserName=name)["User"]["UserId"]
    for kind, subject in (("person", f"iam|{ACCOUNT}"), ("account", ACCOUNT), ("person", f"iam|{other}")):
        assert end(served, browser, kind, subject) == 403, kind
    assert end(served, browser, "session", session["id"]) == 404
    assert served.code(root_credentials) == ""


def test_a16_both_accounts_find_who_took_a_role_across_them(served):
    made = served.fedgate("account", "create", "--id", "555566667777")["root"]
    other = served.client("iam", Credentials(made["access_key_id"], made["secret_access_key"]))
    trusted = document({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"})
    role = other.create_role(RoleName="Across", AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
    reader = served.credentials("carol", "Reader")
    eventually(lambda: not error_code(served.client("sts", reader).assume_role, RoleArn=role, RoleSessionName="over"))
    files = (served.data / "audit").glob("*.jsonl")
    records = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    found = {
        one["recipientAccountId"]: one
        for one in records
        if one["eventName"] == "AssumeRole" and one["requestParameters"] and one["requestParameters"]["roleArn"] == role
        if "errorCode" not in one
    }
    assert found.keys() == {ACCOUNT, "555566667777"}
    mine, theirs = found[ACCOUNT], found["555566667777"]
    assert mine["sharedEventID"] == theirs["sharedEventID"]
    assert mine["eventID"] != theirs["eventID"]
    assert theirs["userIdentity"] == {
        "type": "AWSAccount",
        "principalId": mine["userIdentity"]["principalId"],
        "accountId": ACCOUNT,
    }
    assert "additionalEventData" not in theirs
