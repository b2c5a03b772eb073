"""The form of /login: whose it is, how long it is good, and what comes of sending it twice."""

from functools import partial

import pytest
from redis import Redis
from support.directories import SLOW_PASSWORD
from support.login_fixtures import (
    ALICE,
    SESSION,
    alert,
    browser_of,
    failures,
    hidden_fields,
    login_setup,
    records,
    send,
    sign_in,
    twin,
    value_of,
)
from support.servers import free_port
from support.threads import at_once

OLD = "This page was open too long, please sign in again."
NO_COOKIE = "Your browser did not send a cookie with the form. Allow cookies for this site, then sign in again."
SENT_BEFORE = "This form was already submitted. Sign in again."
NOT_OURS = "This form has expired or is not from this site. Go back, reload the page and try again."
WRONG = "The user name or the password is wrong."


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis_url, slapd):
    with login_setup(tmp_path_factory.mktemp("forms"), redis_url, slapd.config()) as made:
        yield made


@pytest.fixture
def world(shared):
    shared.clock.advance(minutes=16)  # nobody's failures of another test count any more
    return shared


@pytest.fixture
def browser(world):
    return browser_of(world)


@pytest.fixture
def since(world):
    return len(records(world))


# --- no dead ends -----------------------------------------------------------------------------------------------------


def test_a_form_that_was_open_for_an_hour_is_shown_anew_with_the_name(world, browser, since):
    page = browser.get("/login?to=/security")
    world.clock.advance(hours=1)
    world.clock.advance(seconds=1)
    page = send(browser, page)
    assert (page.status, alert(page), value_of(page, "username")) == (400, OLD, "alice")
    assert failures(world, since) == [("SignIn", "ValidationError")]
    assert send(browser, page).headers["Location"] == "/security"


def test_a_form_is_good_for_an_hour(world, browser):
    page = browser.get("/login")
    world.clock.advance(hours=1)
    assert send(browser, page).status == 303


def test_a_browser_that_keeps_no_cookies_is_told_so_and_may_try_again(world, browser, since):
    page = browser.get("/login?to=/security")
    browser.cookies.clear()
    page = send(browser, page)
    assert (page.status, alert(page), value_of(page, "username")) == (403, NO_COOKIE, "alice")
    assert failures(world, since) == [("SignIn", "AccessDenied")]
    assert send(browser, page).headers["Location"] == "/security"


def test_two_tabs_of_one_browser_have_two_good_forms(browser):
    first, second = browser.get("/login"), browser.get("/login")
    assert send(browser, first, password="wrong").status == 401
    assert send(browser, second).status == 303


# --- sent twice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", [ALICE, "wrong"])
def test_a_form_that_is_sent_twice_has_one_answer(world, browser, since, password):
    page = browser.get("/login")
    again = twin(browser)
    first, second = send(browser, page, password=password), send(again, page, password=password)
    assert (first.status, first.all_headers, first.body) == (second.status, second.all_headers, second.body)
    assert first.status in (303, 401)
    assert [one["eventName"] for one in records(world, since)] == ["DirectorySignIn"]
    assert again.cookies == browser.cookies
    assert browser.get("/portal").status == again.get("/portal").status


def test_two_clicks_at_the_same_time_are_one_sign_in(world, browser, since):
    page = browser.get("/login")
    sent = [twin(browser) for _ in range(4)]
    answers = at_once(*(partial(send, one, page, "slow", SLOW_PASSWORD) for one in sent))
    assert [one.status for one in answers] == [303] * 4
    assert len({one.all_headers["Set-Cookie"] for one in answers}) == 1
    assert [one["eventName"] for one in records(world, since)] == ["DirectorySignIn"]
    assert len({one.cookies[SESSION] for one in sent}) == 1
    assert sent[0].get("/portal").status == 200


def test_whoever_goes_back_and_types_another_password_is_heard(browser):
    page = browser.get("/login")
    assert send(browser, page, password="wrong").status == 401
    assert send(browser, page).status == 303


def test_a_form_that_was_answered_is_not_answered_anew_when_the_answer_is_gone(world, browser, since, redis_url):
    page = browser.get("/login")
    again = twin(browser)
    assert send(browser, page).status == 303
    forget_answers(redis_url)
    told = send(again, page)
    assert (told.status, alert(told), value_of(told, "username")) == (409, SENT_BEFORE, "alice")
    assert SESSION not in again.cookies
    assert [one["eventName"] for one in records(world, since)] == ["DirectorySignIn", "SignIn"]
    assert send(again, told).status == 303


def test_the_mark_of_a_form_outlives_the_form_and_its_answer_does_not(browser, redis_url):
    assert sign_in(browser).status == 303
    with Redis.from_url(redis_url) as client:
        (mark,), (answer,) = (client.keys(f"fedgate:web:{kind}:*") for kind in ("sent", "answer"))
        assert 3590 < client.ttl(mark) <= 3600
        assert 20 < client.ttl(answer) <= 30


def test_what_the_outage_answered_can_be_asked_again_soon(tmp_path, redis_url, slapd):
    config = slapd.config(urls=(f"ldap://127.0.0.1:{free_port()}",))
    with login_setup(tmp_path, redis_url, config) as world:
        browser = browser_of(world)
        with Redis.from_url(redis_url) as client:
            client.flushall()
            assert sign_in(browser).status == 503
            (mark,) = client.keys("fedgate:web:sent:*")
            assert 20 < client.ttl(mark) <= 30


def test_of_forms_that_proved_nobody_nothing_is_kept_for_long(browser, redis_url):
    page = browser.get("/login")
    for number, (name, status) in enumerate((("", 400), ("nobody", 401), ("alice", 401))):
        assert send(browser, page, username=name, password=f"guess {number}").status == status
    with Redis.from_url(redis_url) as client:
        marks = client.keys("fedgate:web:sent:*")
        assert len(marks) == 3
        assert all(client.ttl(one) <= 30 for one in marks)


def test_no_password_and_no_session_lie_in_redis_in_clear(browser, redis_url):
    sign_in(browser)
    with Redis.from_url(redis_url) as client:
        stored = b"".join(
            part for key in client.scan_iter() if client.type(key) == b"string" for part in (key, client.get(key))
        )
    assert ALICE.encode() not in stored
    assert browser.cookies[SESSION].encode() not in stored


def forget_answers(redis_url):
    with Redis.from_url(redis_url) as client:
        client.delete(*client.keys("fedgate:web:answer:*"))


@pytest.fixture(autouse=True)
def _empty(redis_url):
    with Redis.from_url(redis_url) as client:
        client.flushall()


# --- whose it is (H01) ------------------------------------------------------------------------------------------------


def test_a_form_of_another_browser_is_nobodys(world, browser, since):
    page = browser_of(world).get("/login")
    browser.get("/login")
    refused = send(browser, page)
    assert (refused.status, alert(refused)) == (403, NOT_OURS)
    assert failures(world, since) == [("SignIn", "AccessDenied")]


@pytest.mark.parametrize("transaction", ["", "x", "AAAA", "é", "A" * 1000, None, "changed"])
def test_a_form_without_its_seal_is_nobodys(browser, transaction):
    page = browser.get("/login")
    sealed = hidden_fields(page)["transaction"]
    last = "A" if sealed[-6] != "A" else "B"
    refused = send(
        browser, page, transaction=sealed[:-6] + last + sealed[-5:] if transaction == "changed" else transaction
    )
    assert (refused.status, alert(refused)) == (403, NOT_OURS)
    assert SESSION not in browser.cookies


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1:8081"},
        {"Origin": "https://127.0.0.1:8080"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_before_the_directory_hears_of_it(world, browser, since, headers):
    refused = sign_in(browser, headers=headers)
    assert (refused.status, alert(refused)) == (403, NOT_OURS)
    assert failures(world, since) == [("SignIn", "AccessDenied")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},  # B9: a proxy added Referrer-Policy: no-referrer
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
def test_a_form_of_ours_is_taken(browser, headers):
    assert sign_in(browser, headers=headers).status == 303
