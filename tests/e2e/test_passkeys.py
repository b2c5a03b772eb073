"""Passkeys in Chromium with a virtual authenticator: set up, given, replayed and copied (THREATS H02, H08)."""

import contextlib
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, expect
from support.broker_process import ACCOUNT, DIRECTORY, PASSWORDS, Broker, document, group
from support.servers import eventually, free_port

AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@dataclass
class Somebody:
    """Somebody in front of Chromium, with a device that makes passkeys."""

    broker: Broker
    name: str
    context: BrowserContext
    page: Page
    cdp: CDPSession
    authenticator: str

    @property
    def url(self) -> str:
        return public(self.broker)

    def sign_in(self):
        self.page.goto(f"{self.url}/login?switch=1")
        self.page.get_by_label("User name").fill(self.name)
        self.page.get_by_label("Password").fill(PASSWORDS[self.name])
        self.page.get_by_role("button", name="Sign in", exact=True).click()

    def sign_out(self):
        self.page.get_by_role("button", name="Sign out").click()
        self.context.clear_cookies()

    def enrol(self):
        """Set a passkey up where the page asks for it, and keep the recovery codes."""
        self.page.get_by_label("Name of the passkey").fill("laptop")
        self.page.get_by_role("button", name="Add a passkey").click()
        expect(self.page.get_by_role("heading", name="Recovery codes")).to_be_visible()
        assert self.page.locator(".codes li").count() == 10
        self.page.get_by_role("link", name="I have saved the codes").click()

    def touch(self):
        self.page.get_by_role("button", name="Use a passkey").click()

    def signed_form(self) -> dict[str, str]:
        """Use a passkey, and return the form that the page sent."""
        with self.page.expect_request(lambda one: one.method == "POST") as sent:
            self.touch()
        return dict(urllib.parse.parse_qsl(sent.value.post_data or "", keep_blank_values=True))

    def take(self, role: str):
        self.page.locator("label", has_text=role).first.click()
        self.page.get_by_role("button", name="Get credentials").click()

    def session(self) -> str:
        return {one["name"]: one["value"] for one in self.context.cookies()}.get("fedgate-session", "")

    def passkey(self) -> dict[str, Any]:
        """Return the one passkey of the device, with its private key, as WebAuthn.addCredential takes it."""
        found = self.cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        (one,) = found["credentials"]
        return one

    def count_from(self, count: int):
        """Let the device hold a copy of its passkey whose counter stands lower or higher."""
        copy = self.passkey() | {"signCount": count}
        self.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": self.authenticator})
        self.cdp.send("WebAuthn.addCredential", {"authenticatorId": self.authenticator, "credential": copy})


def public(broker: Broker) -> str:
    return str(broker.server["public_url"])


def records(broker: Broker, event: str) -> list[dict[str, Any]]:
    lines = [line for file in (broker.data / "audit").rglob("*.jsonl") for line in file.read_text().splitlines()]
    found = [one for one in map(json.loads, lines) if one.get("eventName") == event]
    return sorted(found, key=lambda one: one["at"])


@pytest.fixture(scope="module")
def broker(tmp_path_factory, slapd):
    # A name: WebAuthn knows no addresses of numbers.
    port = free_port()
    server = {"bind": f"127.0.0.1:{port}", "public_url": f"http://localhost:{port}"}
    broker = Broker(tmp_path_factory.mktemp("passkeys"), slapd, server=server)
    try:
        broker.make().start()
        statement = {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:ldap-provider/{DIRECTORY}"},
            "Action": "sts:AssumeRoleWithLDAPIdentity",
            "Condition": {
                "ForAnyValue:StringEquals": {"ldap:groups": [group("staff")]},
                "Bool": {"aws:MultiFactorAuthPresent": "true"},
            },
        }
        broker.role("Vault", document(statement))
        yield broker
    finally:
        broker.close()


@pytest.fixture
def somebody(broker, chromium):
    """Makes people, each in a browser and with a device of their own."""
    with contextlib.ExitStack() as stack:

        def new(name: str) -> Somebody:
            context = chromium.new_context()
            stack.callback(context.close)
            page = context.new_page()
            cdp = context.new_cdp_session(page)
            cdp.send("WebAuthn.enable")
            made = cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
            return Somebody(broker, name, context, page, cdp, made["authenticatorId"])

        yield new


def enrolled(one: Somebody) -> Somebody:
    """Let somebody without a factor choose a role that asks for one, and come back to it with a passkey."""
    one.sign_in()
    one.page.wait_for_url(f"{one.url}/portal")
    before = one.session()
    one.take("Vault")
    expect(one.page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
    one.enrol()
    one.page.wait_for_url(re.compile(r"/portal\?role="))
    assert one.session() != before
    return one


def test_a_passkey_opens_a_role_and_then_every_sign_in(broker, somebody):
    alice = enrolled(somebody("alice"))
    expect(alice.page.get_by_label("Vault", exact=True)).to_be_checked()
    alice.take("Vault")
    assert "AWS_SESSION_TOKEN=" in alice.page.locator("#text-bash").input_value()
    alice.page.goto(f"{alice.url}/portal")
    alice.sign_out()
    alice.sign_in()
    alice.page.wait_for_url(f"{alice.url}/mfa")
    assert alice.session() == ""
    alice.touch()
    alice.page.wait_for_url(f"{alice.url}/portal")
    before = alice.session()
    alice.page.goto(f"{alice.url}/mfa?to=/security")
    alice.touch()
    alice.page.wait_for_url(f"{alice.url}/security")
    assert alice.session() not in ("", before)
    expect(alice.page.get_by_role("cell", name="laptop").first).to_be_visible()
    given = records(broker, "SecondFactor")
    assert [one["requestParameters"]["purpose"] for one in given] == ["sign-in", "step-up"]
    assert all(one["requestParameters"]["userVerified"] for one in given)


def test_an_answer_that_was_used_opens_nothing_again(somebody):
    bob = enrolled(somebody("bob"))
    bob.page.goto(f"{bob.url}/portal")
    bob.sign_out()
    bob.sign_in()
    bob.page.wait_for_url(f"{bob.url}/mfa")
    used = bob.signed_form()
    bob.page.wait_for_url(f"{bob.url}/portal")
    bob.sign_out()
    bob.sign_in()
    bob.page.wait_for_url(f"{bob.url}/mfa")
    page = bob.page.content()
    ours = {name: re.search(rf'name="{name}" value="([^"]+)"', page)[1] for name in ("form_token", "transaction")}
    origin = {"Origin": bob.url}
    for replayed in (used | ours, used | ours | {"challenge": re.search(r'name="challenge" value="([^"]+)"', page)[1]}):
        answer = bob.context.request.post(f"{bob.url}/mfa", form=replayed, headers=origin)
        assert answer.status == 401
        assert "The passkey was not accepted." in answer.text()
    assert bob.session() == ""
    bob.touch()
    bob.page.wait_for_url(f"{bob.url}/portal")


def test_a_copy_whose_counter_goes_back_is_refused_and_recorded(broker, somebody):
    carol = enrolled(somebody("carol"))
    carol.page.goto(f"{carol.url}/portal")
    carol.sign_out()
    carol.sign_in()
    carol.touch()
    carol.page.wait_for_url(f"{carol.url}/portal")
    kept = carol.passkey()["signCount"]
    assert kept >= 2
    carol.sign_out()
    carol.count_from(0)
    carol.sign_in()
    carol.touch()
    expect(carol.page.get_by_role("alert")).to_contain_text("The passkey was not accepted.")
    assert carol.session() == ""
    reason = eventually(
        lambda: [one for one in records(broker, "SecondFactor") if "errorCode" in one][-1]["additionalEventData"][
            "reason"
        ]
    )
    assert "the signature counter went back" in reason
    carol.count_from(kept)
    carol.touch()
    carol.page.wait_for_url(f"{carol.url}/portal")


def test_who_cancels_is_told_so_and_may_try_again(somebody):
    erin = enrolled(somebody("erin"))
    erin.page.goto(f"{erin.url}/mfa?to=/portal")
    erin.cdp.send("WebAuthn.setUserVerified", {"authenticatorId": erin.authenticator, "isUserVerified": False})
    erin.cdp.send("WebAuthn.clearCredentials", {"authenticatorId": erin.authenticator})
    erin.touch()
    expect(erin.page.get_by_text("The passkey was not used.")).to_be_visible()
    expect(erin.page.get_by_role("button", name="Use a passkey")).to_be_enabled()


def test_a_device_is_added_once(somebody):
    dave = somebody("dave")
    dave.sign_in()
    dave.page.goto(f"{dave.url}/mfa/enrol?to=/security")
    dave.enrol()
    dave.page.wait_for_url(f"{dave.url}/security")
    dave.page.get_by_role("link", name="Add a second factor").click()
    dave.page.get_by_role("button", name="Add a passkey").click()
    expect(dave.page.get_by_text("This device is already added.")).to_be_visible()
