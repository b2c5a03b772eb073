"""J02: a session lives as long as the very password and factors that began it, on a clock that stands still."""

import itertools
from dataclasses import replace

import pytest
from redis import Redis
from support.directories import running_slapd
from support.servers import eventually
from support.signed_in_fixtures import (
    EMAIL,
    HOME,
    NEW,
    PASSWORD,
    house_in,
    is_in,
    send,
    sign_in,
    sign_in_as_owner,
    sign_in_to_directory,
)

from broker.api.http import HttpRequest
from broker.demo.people import BASE
from iam.credentials import factors
from iam.credentials.factors import factor_versions, reset_factors
from iam.credentials.person_id import iam_person_id

PEOPLE = f"ou=people,{BASE}"
OLD, NEXT = "here-for-the-time-being", "another-long-one-42"
NUMBERS = itertools.count()
EVERY = 300  # seconds: pages.recheck


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    with running_slapd(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture
def house(tmp_path, redis_url, slapd):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, slapd.config())
    made.user("Ann")
    yield made
    made.close()


@pytest.fixture
def ann(house):
    browser = house.browser()
    assert sign_in(browser, "Ann").status == 303
    return browser


@pytest.fixture
def person(slapd):
    """The name of somebody of the directory."""
    name = f"keeper{next(NUMBERS)}"
    lines = [f"dn: uid={name},{PEOPLE}", "changetype: add", "objectClass: inetOrgPerson"]
    lines += [f"uid: {name}", f"cn: {name}", f"sn: {name}", f"userPassword: {OLD}", "\n"]
    slapd.modify("\n".join(lines))
    return name


def session_of(house, identity, **more):
    """Return a browser in which an identity begins its session only now."""
    token, _ = house.installation.services.pages.site.sessions.open(identity, **more)
    browser = house.browser()
    browser.cookies["fedgate-session"] = token
    return browser


def verified(house, password=PASSWORD, account=HOME, name="Ann"):
    """Return the identity of somebody whose password was judged just now."""
    services = house.installation.services
    state = services.api.gate.new_request_state(HttpRequest("POST", "/", "", (), b"", "127.0.0.1"))
    return services.sign_ins.iam_password.verify_password(state, account, name, password).proved.identity


# --- users and roots --------------------------------------------------------------------------------------------------


def test_a_password_set_in_the_same_millisecond_ends_the_session(house, ann):
    assert is_in(ann)
    house.admin.do("UpdateLoginProfile", UserName="Ann", Password=NEW)
    assert not is_in(ann)


def test_the_same_password_set_again_ends_the_session_too(house, ann):
    house.admin.do("DeleteLoginProfile", UserName="Ann")
    assert not is_in(ann)
    house.admin.do("CreateLoginProfile", UserName="Ann", Password=PASSWORD)
    assert not is_in(ann)


def test_a_session_that_begins_after_the_change_with_the_old_password_is_none(house):
    judged = verified(house)
    assert is_in(session_of(house, judged))
    house.clock.advance(seconds=5)
    house.admin.do("UpdateLoginProfile", UserName="Ann", Password=NEW)
    assert not is_in(session_of(house, judged))
    assert not is_in(session_of(house, replace(judged, authenticated_at=house.clock())))
    assert is_in(session_of(house, verified(house, NEW)))


def test_an_owner_s_session_ends_with_the_password(house):
    house.owner()
    house.enrol(iam_person_id(HOME, None))
    browser = house.browser()
    assert sign_in_as_owner(house, browser, EMAIL).status == 303
    assert is_in(browser)
    house.owner()
    assert not is_in(browser)


# --- people of directories --------------------------------------------------------------------------------------------


def test_a_password_changed_in_the_directory_ends_the_sessions_that_began_before(house, slapd, person):
    before, after = house.browser(), house.browser()
    assert sign_in_to_directory(before, person, OLD).status == 303
    provider = house.installation.services.sign_ins.ldap.providers["corp"]
    version = provider.authenticate(person, OLD).password_version

    def changed():  # pwdChangedTime is in seconds
        change = f"changetype: modify\nreplace: userPassword\nuserPassword: {NEXT}"
        slapd.modify(f"dn: uid={person},{PEOPLE}\n{change}\n")
        return provider.authenticate(person, NEXT).password_version != version

    eventually(changed)
    assert sign_in_to_directory(after, person, NEXT).status == 303
    house.clock.advance(seconds=EVERY)
    assert not is_in(before)
    assert is_in(after), "no other session ends with it"


def test_a_password_changed_here_ends_those_that_begin_after_it_with_the_old_one(house, person):
    provider = house.installation.services.sign_ins.ldap.providers["corp"]
    judged = provider.authenticate(person, OLD)
    assert is_in(session_of(house, judged))
    fields = {"username": person, "old": OLD, "new": NEXT, "repeated": NEXT}
    changed = house.browser()
    answer = eventually(lambda: _changed(changed, person, fields))
    assert answer.status == 303, answer.body.decode()
    assert is_in(changed)
    assert not is_in(session_of(house, judged))


def _changed(browser, person, fields):
    return send(browser, f"/password?username={person}&directory=corp", fields)


# --- second factors ---------------------------------------------------------------------------------------------------


def test_a_session_ends_with_the_factors_that_its_owner_had_when_one_was_given(house):
    identity = verified(house)
    house.enrol(identity.person)
    with house.installation.store.read() as tx:
        held = factor_versions(tx, identity.person)
    assert len(held) == 1
    browser = session_of(house, identity, mfa_at=house.clock(), mfa_factors=held)
    assert is_in(browser)
    with house.installation.store.write() as tx:
        reset_factors(tx, identity.person)
    assert not is_in(browser)
    house.enrol(identity.person)  # an app of the same name and serial number
    again = session_of(house, identity, mfa_at=house.clock(), mfa_factors=held)
    with house.installation.store.read() as tx:
        assert [one.id for one in factors.factors_of(tx, identity.person)] == [held[0].partition("|")[0]]
    assert not is_in(again)
