"""Somebody who has stolen a password, or a browser that is signed in, and tries to do without the second factor."""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from datetime import UTC, datetime

import pytest
from support.broker_process import FEDGATE, PASSWORDS, environment, fetch, role_arn
from support.installation import FORM
from support.pages import PARTNER, PARTNER_ROLES, ServedPages, open_door, partners_answer
from support.servers import HANG, free_port

from broker import wiring
from broker.config.settings import Settings
from broker.providers.ldap.provider import LdapProvider
from iam.credentials import factors, totp
from iam.store.vault import Vault

SEED = b"12345678901234567890"
DEMANDED = f'[pages]\nsecond_factor = ["corp", "{PARTNER}"]\n'
EXEMPT = DEMANDED + f'second_factor_exempt = ["corp", "{PARTNER}"]\n'
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
PASSWORD_TYPE = "urn:fedgate:params:oauth:token-type:password"
PORTAL_ROLE = role_arn(PARTNER_ROLES[0])


def known_by_port(new_broker, settings):
    """Return a broker whose address is in its settings: assertions name it."""
    return new_broker(server={"bind": f"127.0.0.1:{free_port()}"}, more=settings)


@pytest.fixture
def demanding(new_broker):
    return known_by_port(new_broker, DEMANDED)


def identity_of(broker, name):
    with contextlib.closing(LdapProvider(broker.directory.config(name="corp"), now=wiring.now)) as provider:
        return provider.authenticate(name, PASSWORDS[name])


def enrol(broker, name):
    """Give a person of the directory an authenticator app, as the pages do; its next code is unused."""
    settings, now = Settings.read(broker.config, {}), datetime.now(UTC)
    with contextlib.closing(wiring.open_store(settings)) as store, store.write(bump_revision=False) as tx:
        person = identity_of(broker, name).person
        code = totp.code_at(SEED, totp.step_at(now) - 1)
        vault = Vault(settings.master_key)
        assert factors.add_totp(tx, person, "phone", SEED, code, now, vault, wiring.random)


def code():
    return totp.code_at(SEED, totp.step_at(datetime.now(UTC)))


def exchange(broker, **form):
    fields = {"grant_type": GRANT, "audience": role_arn("Reader"), **form}
    body = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(f"{broker.endpoint}/oauth2/token", body, {"Content-Type": FORM})
    answer = fetch(request)
    return answer.status, json.loads(answer.body)


def password_for_token(broker, **more):
    password = {"subject_token": PASSWORDS["carol"], "subject_token_type": PASSWORD_TYPE, "username": "carol"}
    return exchange(broker, **password, **more)


def idp_initiated(house):
    """Send an unsolicited response together with the role, as an identity provider's own page does."""
    form = partners_answer(house)
    fields = {"SAMLResponse": form["response"], "roleIndex": PORTAL_ROLE}
    request = urllib.request.Request(
        form["address"], urllib.parse.urlencode(fields).encode(), {"Content-Type": FORM, "Accept": "application/json"}
    )
    return fetch(request)


def assume_with_saml(broker, house):
    fields = {"Action": "AssumeRoleWithSAML", "Version": "2011-06-15", "RoleArn": PORTAL_ROLE, "PrincipalArn": PARTNER}
    fields["SAMLAssertion"] = partners_answer(house)["response"]
    body = urllib.parse.urlencode(fields).encode()
    return fetch(urllib.request.Request(f"{broker.endpoint}/", body, {"Content-Type": FORM}))


def login(broker, *arguments):
    command = [FEDGATE, "login", "carol", "--endpoint", broker.endpoint, "--role", role_arn("Reader"), *arguments]
    environ = environment(broker.folder, FEDGATE_PASSWORD=PASSWORDS["carol"])
    return subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False
    )


def test_a07_no_way_in_gives_a_role_for_the_password_alone_where_the_pages_demand_more(demanding):
    house = ServedPages(demanding, demanding.directory, {})
    house.door = open_door(demanding, demanding.client("iam"))
    for known in (False, True):  # whether a second factor is enrolled
        if known:
            enrol(demanding, "carol")
        for role in ("Reader", None):
            assert demanding.sign_in("carol", role).code == "AccessDenied"
        status, told = password_for_token(demanding)
        assert (status, told["error"]) == (400, "invalid_target")
        assert "MultiFactorAuthentication" in told["error_description"]
        assert ("no authenticator app" in login(demanding).stderr) == (not known)
    assert idp_initiated(house).status == 403
    assert assume_with_saml(demanding, house).code == "AccessDenied"
    assert "--token-code" in login(demanding).stderr
    assert demanding.sign_in("carol", "Reader", TokenCode="000000").code == "AccessDenied"
    given = code()
    assert "AWS_SESSION_TOKEN" in login(demanding, "--token-code", given).stdout
    assert demanding.sign_in("carol", "Reader", TokenCode=given).code == "AccessDenied"


def test_a07_what_the_operator_exempts_is_open_and_check_config_says_so(new_broker):
    broker = known_by_port(new_broker, EXEMPT)
    house = ServedPages(broker, broker.directory, {})
    house.door = open_door(broker, broker.client("iam"))
    enrol(broker, "carol")
    assert broker.sign_in("carol", "Reader").status == 200
    assert "corp" in broker.fedgate("check-config")["second_factor_exempt"]
    assert assume_with_saml(broker, house).status == 200
