"""/login over a real domain controller: what a right password is told, and a wrong one is not."""

import pytest
from support.active_directory import PASSWORD, active_directory
from support.login_fixtures import (
    CONTINUE,
    SESSION,
    alert,
    browser_of,
    failures,
    links,
    login_setup,
    records,
    sign_in,
    value_of,
)

__all__ = ["active_directory"]

WRONG = "The user name or the password is wrong."
TOLD = {
    "leaver": "Your account is disabled. Contact your help desk.",
    "temp": "Your account has expired. Contact your help desk.",
    "night": "You are not allowed to sign in at this time of day.",
    "desk": "You are not allowed to sign in from this location.",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, redis_url, active_directory):
    with login_setup(tmp_path_factory.mktemp("ad"), redis_url, active_directory.config()) as made:
        yield made


@pytest.mark.parametrize("name", TOLD)
def test_only_a_right_password_hears_why_it_opens_nothing(world, name):
    world.clock.advance(minutes=16)
    since, browser = len(records(world)), browser_of(world)
    told = sign_in(browser, name, PASSWORD)
    assert (told.status, alert(told), value_of(told, "username")) == (403, TOLD[name], name)
    assert CONTINUE in links(told)
    wrong = sign_in(browser, name, f"not-{PASSWORD}")
    assert (wrong.status, alert(wrong)) == (401, WRONG)
    assert failures(world, since) == [("DirectorySignIn", "IDPRejectedClaim")] * 2
    assert SESSION not in browser.cookies


@pytest.mark.parametrize("name", ["fresh", "old"])
def test_whoever_must_change_the_password_is_led_to_where_that_is_done(world, name):
    world.clock.advance(minutes=16)
    answer = sign_in(browser_of(world), f"CORP\\{name}", PASSWORD)
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/password?directory=")


def test_a_right_password_that_opens_nothing_is_no_guess(world):
    world.clock.advance(minutes=16)
    for _ in range(7):
        assert sign_in(browser_of(world), "leaver", PASSWORD).status == 403


@pytest.mark.parametrize("name", ["alice", "CORP\\alice", "alice@corp.example.test"])
def test_a_person_of_the_domain_gets_in(world, name):
    assert sign_in(browser_of(world), name, PASSWORD).headers["Location"] == "/portal"
