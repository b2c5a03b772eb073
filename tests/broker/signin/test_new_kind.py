"""A complete new kind of identity, of one row and one provider: badges that a reader at a door has signed.

Nothing of the product knows it. It is signed in at the STS and in a browser, takes roles, is recorded, refreshed and
signed out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from flask import Blueprint, Response, request
from support.administrator import Administrator
from support.documents import trust
from support.installation import Answer, Installation, environment
from support.saml_fixtures import Browser, Still, field_of

from broker.api.request_state import RequestState
from broker.audit import log as audit_log
from broker.sessions.browser import BrowserSession
from broker.signin.kinds import BrokerIdentityKind, IdentityKind, ProviderLogout
from iam.errors import IDPRejectedClaim
from iam.params import Params
from sts.identity import Identity, Refusal
from sts.identity_kinds import StsIdentityKind
from sts.mint import Grant, SessionKind
from sts.operations.call import Outcome, PlannedSession, StsCall, StsOperation
from sts.operations.federated import roles_trusting_provider
from sts.operations.roles import mint_role_session, require_role, role_permissions, session_seconds

PROVIDER = "ldap-provider/badges"  # trust policies can name no provider of another type
LOGOUT = "https://badges.example/out"
MODEL = {
    "operations": {
        "AssumeRoleWithBadge": {
            "name": "AssumeRoleWithBadge",
            "http": {"method": "POST", "requestUri": "/"},
            "input": {"shape": "AssumeRoleWithBadgeRequest"},
            "output": {"shape": "AssumeRoleWithBadgeResponse", "resultWrapper": "AssumeRoleWithBadgeResult"},
            "authtype": "none",
        }
    },
    "shapes": {
        "AssumeRoleWithBadgeRequest": {
            "type": "structure",
            "required": ["Badge"],
            "members": {"RoleArn": {"shape": "arnType"}, "Badge": {"shape": "badgeType"}},
        },
        "AssumeRoleWithBadgeResponse": {
            "type": "structure",
            "members": {"Credentials": {"shape": "Credentials"}, "AssumedRoleUser": {"shape": "AssumedRoleUser"}},
        },
        "badgeType": {"type": "string", "min": 1, "max": 64, "sensitive": True},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BadgeIdentity(Identity):
    """A person whose badge was read at a door."""

    door: str


# --- the provider -----------------------------------------------------------------------------------------------------


@dataclass
class BadgeOffice:
    """Knows the people by their badges; each reading counts once."""

    people: dict[str, str] = field(default_factory=lambda: {"badge-1": "ann", "badge-2": "bob"})
    used: set[str] = field(default_factory=set)
    closed: bool = False

    def authenticate(self, state: RequestState, p: Params) -> tuple[BadgeIdentity, Params]:
        state.params = {name: value for name, value in p.items() if name != "Badge"}
        return self.prove(p["Badge"], state.now), state.params

    def prove(self, reading: str, now: datetime) -> BadgeIdentity:
        badge, _, nonce = reading.partition("/")
        if badge not in self.people:
            raise IDPRejectedClaim("The badge is unknown.")
        return BadgeIdentity(PROVIDER, badge, self.people[badge], now, session_index=nonce, door="north")

    def consume(self, _state: RequestState, identity: BadgeIdentity) -> None:
        if identity.session_index in self.used:
            raise IDPRejectedClaim("The badge was read before.")
        self.used.add(identity.session_index or "")

    def is_valid(self, _identity: BadgeIdentity, _now: datetime) -> bool:
        return not self.closed

    # as a SessionRefresh
    failure_event = "BadgeLookUp"

    def is_due(self, _session: BrowserSession, _now: datetime) -> bool:
        return False

    def refresh(self, session: BrowserSession, _now: datetime) -> BrowserSession | Refusal:
        name = self.people.get(session.identity.subject)
        return replace(session, identity=replace(session.identity, name=name)) if name else Refusal("badge withdrawn")

    def postpone(self, session: BrowserSession, _now: datetime) -> BrowserSession:
        return session

    def user_identity(self, identity: BadgeIdentity) -> dict[str, str]:
        return {"type": "BadgeUser", "principalId": identity.subject, "userName": identity.name}

    def logout(self, _identity: BadgeIdentity, _now: datetime) -> ProviderLogout:
        return ProviderLogout(LOGOUT)


# --- the row ----------------------------------------------------------------------------------------------------------


def required_permissions(call: StsCall, p: Params):
    identity = call.identity_of(BadgeIdentity)
    keys = {"badge:door": (identity.door,)}
    return role_permissions(call.store, p["RoleArn"], "sts:AssumeRoleWithBadge", keys, tags=False, source=None)


def plan(call: StsCall, p: Params) -> PlannedSession:
    identity, role = call.identity_of(BadgeIdentity), require_role(call, p["RoleArn"])
    grant = Grant(SessionKind.ROLE, role.account_id, role.id, identity.name, identity.provider, identity.subject)
    return PlannedSession(grant, role, session_seconds(p, role, chained=False))


def assume_role_with_badge(call: StsCall, p: Params) -> Outcome:
    return mint_role_session(call, plan(call, p))


def row(office: BadgeOffice) -> IdentityKind:
    return IdentityKind(
        StsIdentityKind(
            name="badge",
            identity_type=BadgeIdentity,
            operation="AssumeRoleWithBadge",
            run=StsOperation(assume_role_with_badge, required_permissions, hide_reasons=True, plan=plan),
            parameters=lambda _identity, role_arn: {"RoleArn": role_arn},
            candidate_roles=roles_trusting_provider,
        ),
        BrokerIdentityKind(
            name="badge",
            authenticate=office.authenticate,
            consume=office.consume,
            user_identity=office.user_identity,
            audit_details=lambda identity: {"door": identity.door},
            is_valid=office.is_valid,
            refresh=office,
            provider_logout=office.logout,
        ),
    )


# --- the installation -------------------------------------------------------------------------------------------------


@dataclass
class Building:
    """An installation that takes badges, and an account with a role for those who came in by the north door."""

    installation: Installation
    office: BadgeOffice
    role: str

    def records(self, name: str) -> list[dict]:
        found = audit_log.read_last_records(self.installation.settings.audit_dir, 1000)
        return [one for one in found if one["eventName"] == name]

    def assume(self, badge: str, **more: str) -> Answer:
        body = "&".join(f"{name}={value}" for name, value in {
            "Action": "AssumeRoleWithBadge", "Version": "2011-06-15", "Badge": badge, **more}.items())  # fmt: skip
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.installation.request("POST", "/", form, body.encode())

    def signed_in(self, badge: str = "badge-1/9") -> Browser:
        browser = Browser(self.installation)
        answer = browser.post("/badge", {"badge": badge})
        assert answer.status == 303, answer.body.decode()
        return browser


def door_page(installation: Installation, office: BadgeOffice) -> Blueprint:
    """Return a page that completes the sign-in of whoever shows a badge."""
    completion = installation.services.pages.login.login.completion
    pages = Blueprint("badge", __name__)

    @pages.post("/badge")
    def read() -> Response:
        state = completion.site.request_state
        state.identity = identity = office.prove(request.form["badge"], state.now)
        completion.site.gate.kinds.of(identity).broker.consume(state, identity)
        completion.site.audit.record("BadgeSignIn", identity.account_id, provider=identity.provider)
        return completion.complete_login(identity, "/portal")

    return pages


@pytest.fixture
def building(tmp_path, redis_url) -> Iterator[Building]:
    office = BadgeOffice()
    additions = {"additional_kinds": (row(office),), "additional_models": (json.dumps(MODEL).encode(),)}
    installation = Installation(tmp_path, environment(tmp_path, redis_url), Still(), additions)
    installation.application._pages.register_blueprint(door_page(installation, office))
    admin = Administrator.of_a_new_account(installation)
    provider = {"Federated": f"arn:aws:iam::{admin.account_id}:{PROVIDER}"}
    trusted = trust(provider, ["sts:*"], Condition={"StringEquals": {"badge:door": "north"}})
    yield Building(installation, office, admin.role("visitor", trusted))
    installation.close()


# --- at the STS -------------------------------------------------------------------------------------------------------


def test_a_badge_becomes_credentials_at_the_sts_and_is_recorded(building):
    answer = building.assume("badge-1/1", RoleArn=building.role)
    assert answer.status == 200, answer.body
    caller = building.installation.call("GetCallerIdentity", answer.credentials)
    assert caller.text("Arn").endswith(":assumed-role/visitor/ann")
    (record,) = building.records("AssumeRoleWithBadge")
    assert record["userIdentity"] == {"type": "BadgeUser", "principalId": "badge-1", "userName": "ann"}
    assert record["additionalEventData"]["door"] == "north"
    assert record["requestParameters"] == {"roleArn": building.role}
    assert "badge-1/1" not in json.dumps(record)


def test_the_one_role_that_trusts_the_badge_need_not_be_named(building):
    assert building.assume("badge-2/1").text("Arn").endswith(":assumed-role/visitor/bob")


def test_a_badge_counts_once_and_an_unknown_one_never(building):
    assert building.assume("badge-1/1").status == 200
    assert building.assume("badge-1/1").code == "IDPRejectedClaim"
    assert building.assume("badge-9/1").code == "IDPRejectedClaim"


# --- in the browser ---------------------------------------------------------------------------------------------------


def test_a_badge_signs_in_to_the_pages_and_takes_a_role_there(building):
    browser = building.signed_in()
    page = browser.get("/portal")
    assert building.role in page.body.decode()
    taken = browser.post(
        "/portal", {"form_token": field_of(page, "form_token"), "roleIndex": building.role}, Accept="application/json"
    )
    credentials = json.loads(taken.body)
    assert credentials["AccessKeyId"].startswith("ASIA")
    (signed_in,) = building.records("BadgeSignIn")
    assert signed_in["userIdentity"]["type"] == "BadgeUser"
    assert building.records("AssumeRoleWithBadge")[0]["userIdentity"]["userName"] == "ann"


def test_a_badge_is_refreshed_before_credentials_are_given(building):
    browser = building.signed_in()
    page = browser.get("/portal")
    building.office.people["badge-1"] = "ann-renamed"
    form = {"form_token": field_of(page, "form_token"), "roleIndex": building.role}
    assert browser.post("/portal", form, Accept="application/json").status == 200
    assert building.records("AssumeRoleWithBadge")[0]["userIdentity"]["userName"] == "ann-renamed"
    del building.office.people["badge-1"]
    assert browser.post("/portal", form, Accept="application/json").status == 401
    assert building.records("BadgeLookUp")[0]["errorCode"] == "IDPRejectedClaim"
    assert browser.get("/portal").status == 401


def test_a_session_ends_when_what_proved_it_stands_no_more(building):
    browser = building.signed_in()
    assert browser.get("/portal").status == 200
    building.office.closed = True
    assert browser.get("/portal").status == 401


def test_a_badge_is_signed_out_here_and_at_its_provider(building):
    browser = building.signed_in()
    token = field_of(browser.get("/portal"), "form_token")
    answer = browser.post("/sign-out", {"form_token": token})
    assert LOGOUT in answer.body.decode()
    assert browser.get("/portal").status == 401
    assert building.records("SignOut")[0]["userIdentity"]["type"] == "BadgeUser"
