"""Somebody who can write to Redis tries to be an account's root, to be somebody else, and to sign in again (J07)."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from support.broker_process import ACCOUNT, PASSWORDS
from support.http_browser import Browser

TOKEN = "A" * 43
SESSION = "fedgate:web:session:"
NOW = datetime.now(UTC)


@pytest.fixture
def redis(served):
    with Redis.from_url(served.redis_url, decode_responses=True) as redis:
        yield redis


def browser(token=""):
    browser = Browser()
    if token:
        browser.opener.addheaders = [("Cookie", f"fedgate-session={token}")]
    return browser


def signed_in(served, user):
    """Return a browser in which somebody has signed in, and the value of its cookie."""
    one = browser()
    page = one.submit(one.get(f"{served.endpoint}/login"), username=user, password=PASSWORDS[user])
    assert is_in(served, one), page.body
    jar = next(handler.cookiejar for handler in one.opener.handlers if hasattr(handler, "cookiejar"))
    return one, next(cookie.value for cookie in jar if cookie.name == "fedgate-session")


def is_in(served, one):
    return one.get(f"{served.endpoint}/sessions", Accept="application/json").status == 200


def key_of(token):
    return SESSION + hashlib.sha256(token.encode()).hexdigest()


def root_session():
    """Return a session of the account's root as it was stored before it was sealed."""
    at, until = (moment.isoformat().replace("+00:00", "Z") for moment in (NOW, NOW + timedelta(hours=8)))
    identity = {
        "provider": "iam", "subject": ACCOUNT, "name": "root", "authenticated_at": at, "groups": [], "group_names": [],
        "attributes": {}, "account_id": ACCOUNT, "session_until": None, "session_index": None,
    }  # fmt: skip
    return {
        "kind": "IamIdentity", "identity": identity, "form_token": "t", "renewal": "", "client": ["", ""],
        "opened_at": at, "ends_at": until, "mfa_at": at,
    }  # fmt: skip


def test_nobody_becomes_root_with_a_session_written_to_redis(served, redis):
    redis.set(key_of(TOKEN), json.dumps(root_session()))
    redis.set(key_of(TOKEN) + ":used", NOW.isoformat())
    assert not is_in(served, browser(TOKEN))


def test_nobody_becomes_somebody_else_with_their_session_copied(served, redis):
    _, alice = signed_in(served, "alice")
    for suffix in ("", ":used"):
        redis.set(key_of(TOKEN) + suffix, redis.get(key_of(alice) + suffix))
    assert not is_in(served, browser(TOKEN))
    assert is_in(served, browser(alice))


def test_a_session_that_was_signed_out_does_not_come_back(served, redis):
    one, bob = signed_in(served, "bob")
    stored = {key_of(bob) + suffix: redis.get(key_of(bob) + suffix) for suffix in ("", ":used")}
    page = one.get(f"{served.endpoint}/sessions")
    token = page.body.partition('name="form_token" value="')[2].partition('"')[0]
    one.get(f"{served.endpoint}/sign-out", {"form_token": token})
    assert not is_in(served, one)
    redis.mset(stored)
    assert not is_in(served, browser(bob))


def test_nobody_sees_the_sessions_of_others_by_an_index_written_to_redis(served, redis):
    _, alice = signed_in(served, "alice")
    bobs, bob = signed_in(served, "bob")
    person = next(key for key in redis.scan_iter("fedgate:web:person:*") if redis.hexists(key, key_of(bob)))
    before = bobs.get(f"{served.endpoint}/sessions", Accept="application/json").body
    redis.hset(person, key_of(alice), "null")
    after = bobs.get(f"{served.endpoint}/sessions", Accept="application/json").body
    assert len(json.loads(after)["browsers"]) == len(json.loads(before)["browsers"])
