"""/password over a real domain controller: whoever must change the password does, and hears what it refused."""

import pytest
from redis import Redis
from support.active_directory import PASSWORD, active_directory, person
from support.signed_in_fixtures import hidden, house_in, is_in, send, sign_in_to_directory, told

__all__ = ["active_directory"]

NEW = "Through-the-looking-glass-1871"


@pytest.fixture
def house(tmp_path, redis_url, active_directory):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    made = house_in(tmp_path, redis_url, active_directory.config())
    yield made
    made.close()


@pytest.fixture
def name(active_directory, request):
    """Somebody who must change the password at the next sign-in, or ``lasting``: may."""
    lasting = getattr(request, "param", "") == "lasting"
    found = "lasting-page" if lasting else "renewing-page"
    active_directory.modify(person(found, *([] if lasting else ["pwdLastSet: 0"])))
    yield found
    active_directory.modify(f"dn: CN={found},CN=Users,DC=corp,DC=example,DC=test\nchangetype: delete\n")


def test_whoever_must_change_the_password_does_and_is_in(house, name):
    browser = house.browser()
    there = sign_in_to_directory(browser, name, PASSWORD, to="/sessions").headers["Location"]
    weak = send(browser, there, {"username": name, "old": PASSWORD, "new": "weak", "repeated": "weak"})
    text = (
        "The new password does not meet the directory's password policy: length, character types or password history."
    )
    assert (weak.status, told(weak)) == (400, text)
    wrong = send(browser, there, {"username": name, "old": "wrong", "new": NEW, "repeated": NEW})
    assert (wrong.status, told(wrong)) == (401, "The user name or the current password is wrong.")
    assert not is_in(browser)
    done = send(browser, there, {"username": name, "old": PASSWORD, "new": NEW, "repeated": NEW})
    assert (done.status, done.headers["Location"]) == (303, "/sessions")
    assert is_in(browser)
    kept = house.files()
    assert not any(secret.encode() in kept for secret in (PASSWORD, NEW))


@pytest.mark.parametrize("name", ["lasting"], indirect=True)
def test_whoever_is_disabled_while_signed_in_is_out_before_credentials(house, name, active_directory):
    role, browser, elsewhere = house.directory_role("r"), house.browser(), house.browser()
    for one in (browser, elsewhere):
        assert sign_in_to_directory(one, name, PASSWORD).status == 303
    page = browser.get("/portal")
    fields = {"roleIndex": role, "form_token": hidden(page)["form_token"]}
    assert browser.post("/portal", fields).status == 200
    change = "changetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n"
    active_directory.modify(f"dn: CN={name},CN=Users,DC=corp,DC=example,DC=test\n{change}")
    assert browser.post("/portal", fields).status == 401
    assert (is_in(browser), is_in(elsewhere)) == (False, False)
    assert house.records("DirectoryLookUp")[0]["additionalEventData"]["reason"].startswith("account disabled")
