"""Who is signed in with which browser: kept in a real Redis, and gone with it."""

import itertools
import json
import secrets
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from support.saml_fixtures import Still
from support.servers import eventually, free_port
from support.threads import at_once

from broker import wiring
from broker.sessions.browser import BrowserSession, BrowserSessions, Client
from broker.sessions.records import serialize_session
from iam.errors import ServiceUnavailable
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import IamIdentity, Identity, SamlIdentity, WebIdentity
from sts.store.sealed_values import SealedValues

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
ALICE = Identity("ldap-provider/corp", "0-1", "alice", NOW)
BOB = replace(ALICE, subject="0-2", name="bob")
VALUES = SealedValues(bytes(32), secrets.token_bytes)
CHROME = Client("198.51.100.7", "Mozilla/5.0")


@pytest.fixture
def clock():
    return Still()


@pytest.fixture
def redis(redis_url):
    with wiring.open_redis(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def sessions(redis, clock):
    return made(redis, clock)


def made(redis, clock, *, idle=timedelta(hours=1), lifetime=timedelta(hours=12)):
    return BrowserSessions(redis, VALUES, markers(), clock, secrets.token_bytes, idle, lifetime)


@cache
def markers():
    """Return the markers of ended sessions, in a database that all tests of this file share."""
    store = Store(f"sqlite:///{tempfile.mkdtemp()}/s.db", Vault(bytes(32)), monotonic=time.monotonic)
    store.migrate()
    return wiring.open_single_use(store)


# --- what is kept -----------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=20)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone
SEVERAL = st.lists(TEXTS, max_size=3).map(tuple)
ANYBODY = {
    "provider": TEXTS, "subject": TEXTS, "name": TEXTS, "authenticated_at": MOMENTS, "groups": SEVERAL,
    "group_names": SEVERAL, "attributes": st.dictionaries(TEXTS, SEVERAL, max_size=2), "account_id": TEXTS,
    "session_until": st.none(), "session_index": st.none() | TEXTS,
}  # fmt: skip
OF_SAML = dict.fromkeys(("provider_id", "provider_name", "issuer", "recipient", "name_format", "assertion"), TEXTS) | {
    "usable_until": MOMENTS, "map_by_trust": st.booleans()
}  # fmt: skip
OF_THE_WEB = dict.fromkeys(("provider_id", "issuer", "key_prefix", "audience"), TEXTS) | {
    "audiences": SEVERAL, "source_identity": st.none() | TEXTS, "transitive": SEVERAL, "token": st.none() | TEXTS,
    "tags": st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple), "usable_until": st.none() | MOMENTS,
}  # fmt: skip
IDENTITIES = (
    st.builds(Identity, **ANYBODY)
    | st.builds(IamIdentity, **ANYBODY)
    | st.builds(SamlIdentity, **ANYBODY, **OF_SAML)
    | st.builds(WebIdentity, **ANYBODY, **OF_THE_WEB)
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(identity=IDENTITIES, refresh_state=TEXTS, mfa_at=st.none() | MOMENTS, agent=TEXTS)
def test_whoever_signs_in_is_found_as_they_were(sessions, identity, refresh_state, mfa_at, agent):
    token, session = sessions.open(identity, refresh_state, mfa_at=mfa_at, client=Client("::1", agent))
    assert sessions.find(token) == session
    assert session in sessions.of_person(identity.person)
    assert (session.identity, session.refresh_state, session.mfa_at) == (identity, refresh_state, mfa_at)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(identity=IDENTITIES, way=TEXTS, refresh_state=TEXTS)
def test_whoever_has_one_thing_more_to_do_is_found_as_they_were(sessions, identity, way, refresh_state):
    token, waiting = sessions.start_pending_login("prove", identity, way, refresh_state)
    assert sessions.find_pending_login(token) == waiting
    assert (waiting.identity, waiting.return_to, waiting.refresh_state) == (identity, way, refresh_state)
    assert waiting.opened_at == sessions.now()


def test_no_two_sessions_have_one_token_and_none_has_its_form_token_in_its_cookie(sessions):
    opened = [sessions.open(ALICE) for _ in range(20)]
    assert len({token for token, _ in opened}) == 20
    assert len({session.form_token for _, session in opened}) == 20
    assert not any(token in repr(session) for token, session in opened)


def test_whoever_reads_redis_can_be_nobody(sessions, redis):
    token, session = sessions.open(ALICE, "sealed", client=CHROME)
    waiting, _ = sessions.start_pending_login("prove", ALICE, "/portal")
    kept = " ".join(redis.keys()) + " ".join(
        redis.get(key) for key in redis.keys("*:session:*") + redis.keys("*:waiting:*")
    )
    assert token not in kept
    assert waiting not in kept
    assert sessions.find(session.key) is None
    assert sessions.find(session.handle) is None


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_other_token_is_nobodys(sessions, token):
    sessions.open(ALICE)
    assert sessions.find(token) is None
    assert sessions.find_pending_login(token) is None


def test_a_long_name_of_a_browser_is_cut(sessions):
    _, session = sessions.open(ALICE, client=Client("::1", "x" * 10_000))
    assert session.client == Client("::1", "x" * 200)


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "null", '{"identity": {}, "kind": "Other"}'])
def test_what_another_version_wrote_is_nobodys_and_goes(sessions, redis, text):
    token, session = sessions.open(ALICE)
    whole = json.loads(VALUES.open(session.key, redis.get(session.key)))
    for changed in (text, json.dumps(whole | {"ends_at": "soon"}), json.dumps(whole | {"kind": "Martian"})):
        redis.set(session.key, VALUES.seal(session.key, changed))
        assert sessions.of_person(ALICE.person) == ()
        assert sessions.find(token) is None
        assert not redis.exists(session.key)
    waiting, memory = sessions.start_pending_login("prove", ALICE, "/portal")
    redis.set(memory.key, VALUES.seal(memory.key, text))
    assert sessions.find_pending_login(waiting) is None


# --- whoever writes to Redis ------------------------------------------------------------------------------------------


def test_what_was_not_sealed_here_for_this_key_is_nobodys(sessions, redis):
    token, session = sessions.open(ALICE)
    sealed, other = redis.get(session.key), sessions.open(BOB)[1]
    elsewhere = SealedValues(bytes(31) + b"1", secrets.token_bytes)
    for forged in (serialize_session(session), elsewhere.seal(session.key, serialize_session(session)), sealed[:-4]):
        redis.set(session.key, forged)
        assert sessions.find(token) is None
    token, session = sessions.open(ALICE)
    redis.set(session.key, redis.get(other.key))
    assert sessions.find(token) is None


def test_a_session_that_ended_is_not_brought_back_with_what_redis_held(sessions, redis, clock):
    token, session = sessions.open(ALICE)
    kept = {key: redis.get(key) for key in (session.key, f"{session.key}:used")}
    sessions.end(session)
    redis.mset(kept)
    assert sessions.find(token) is None
    token, session = sessions.open(ALICE)
    kept = {key: redis.get(key) for key in (session.key, f"{session.key}:used")}
    clock.advance(hours=1)
    redis.mset(kept)
    assert sessions.find(token) is None, "nobody has used it for an hour"


def test_a_session_in_somebody_elses_index_is_not_theirs(sessions, redis):
    _, session = sessions.open(ALICE)
    redis.hset(sessions.keys.person(BOB.person), session.key, "null")
    assert sessions.of_person(BOB.person) == ()
    assert sessions.keys_of(BOB.provider, BOB.subject, ()) == ()


def test_a_request_and_a_half_signed_in_person_are_forgotten_in_time_whatever_redis_says(sessions, redis, clock):
    sessions.save_logout_request("id", "arn")
    token, _ = sessions.start_pending_login("prove", ALICE, "/portal")
    sessions.claim_form("form", 60)
    sessions.store_form_response("form", "response", anew=False)
    for key in redis.keys("*"):
        redis.persist(key)
    clock.advance(minutes=10)
    assert not sessions.consume_logout_request("id", "arn")
    assert sessions.find_form_response("form") is None
    assert sessions.find_pending_login(token) is None


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_session_that_does_nothing_ends_and_one_that_does_goes_on(redis, clock):
    sessions = made(redis, clock, idle=timedelta(hours=1))
    (busy, busy_session), (idle, idle_session) = sessions.open(ALICE), sessions.open(ALICE)
    almost_idle = 600_000  # milliseconds
    for session in (busy_session, idle_session):
        assert redis.pttl(session.key) <= 3_600_000
        redis.pexpire(session.key, almost_idle)
    assert sessions.find(busy) is not None
    assert redis.pttl(busy_session.key) > almost_idle >= redis.pttl(idle_session.key)
    redis.pexpire(idle_session.key, 1)
    eventually(lambda: not redis.exists(idle_session.key))  # find() would extend it within that millisecond
    assert sessions.find(idle) is None
    assert [one.identity for one in sessions.of_person(ALICE.person)] == [ALICE]


def test_a_session_ends_at_its_limit_whatever_it_does(redis, clock):
    sessions = made(redis, clock, idle=timedelta(hours=12))
    token, session = sessions.open(ALICE)
    assert session.ends_at == clock() + timedelta(hours=12)
    clock.advance(hours=12, seconds=-1)
    assert sessions.find(token) == session
    clock.advance(seconds=1)
    assert sessions.of_person(ALICE.person) == ()
    assert sessions.newest(10) == ()
    assert sessions.find(token) is None


@pytest.mark.parametrize(("minutes", "lived"), [(20, 20), (60 * 24, 60 * 12), (-5, 0)])
def test_a_session_ends_when_the_provider_says_where_that_is_sooner(sessions, clock, minutes, lived):
    until = clock() + timedelta(minutes=minutes)
    token, session = sessions.open(replace(ALICE, session_until=until))
    assert session.ends_at == min(until, clock() + timedelta(minutes=lived))
    assert (sessions.find(token) is None) is (minutes < 0)


def test_a_session_that_was_ended_stays_ended(sessions):
    token, session = sessions.open(ALICE)
    sessions.end(session)
    sessions.update(replace(session, refresh_state="more"))
    assert sessions.find(token) is None
    assert sessions.of_person(ALICE.person) == ()
    assert sessions.newest(10) == ()


def test_what_a_provider_now_says_of_somebody_is_kept(sessions):
    token, session = sessions.open(ALICE)
    sessions.update(replace(session, refresh_state="more"))
    assert sessions.find(token) == replace(session, refresh_state="more")


def test_a_second_factor_begins_the_session_anew_and_makes_it_no_longer(sessions, clock):
    token, session = sessions.open(ALICE, client=CHROME)
    clock.advance(hours=1)
    newer, stepped = sessions.step_up(session, clock())
    assert sessions.find(token) is None
    assert sessions.find(newer) == stepped
    assert newer != token
    assert stepped.form_token != session.form_token
    assert (stepped.ends_at, stepped.opened_at, stepped.client) == (session.ends_at, session.opened_at, CHROME)
    assert stepped.mfa_at == clock()


def test_a_session_that_was_ended_meanwhile_is_not_begun_anew_by_a_second_factor(sessions, clock):
    _, session = sessions.open(ALICE)
    sessions.end(session)
    assert sessions.step_up(session, clock()) is None
    assert sessions.of_person(ALICE.person) == ()


@pytest.mark.parametrize("moment", range(8))
def test_no_session_begins_anew_past_the_end_of_all_sessions_of_its_person(sessions, clock, moment):
    _, session = sessions.open(ALICE)
    asked = itertools.count()

    def end_everything_at_its_moment():
        # Before each step of the other one, the time or a random number is asked for.
        if next(asked) == moment:
            sessions.end_of_person(ALICE.provider, ALICE.subject)

    def now():
        end_everything_at_its_moment()
        return clock()

    def random(octets):
        end_everything_at_its_moment()
        return secrets.token_bytes(octets)

    at = clock()
    replace(sessions, now=now, random=random).step_up(session, at)
    if next(asked) <= moment:  # it was over before
        sessions.end_of_person(ALICE.provider, ALICE.subject)
    assert sessions.of_person(ALICE.person) == ()


def test_of_many_second_factors_of_one_session_one_begins_it_anew(sessions, clock):
    _, session = sessions.open(ALICE)
    stepped = at_once(*[lambda: sessions.step_up(session, clock())] * 8)
    assert [one is not None for one in stepped].count(True) == 1
    assert len(sessions.of_person(ALICE.person)) == 1


def test_who_waits_is_forgotten_with_all_who_wait_as_the_same_person(sessions, redis):
    tokens = [sessions.start_pending_login("prove", ALICE, "/portal")[0] for _ in range(2)]
    others, _ = sessions.start_pending_login("prove", BOB, "/portal")
    stored = {key: redis.get(key) for key in redis.keys("fedgate:web:waiting:*")}
    assert sessions.end_of_person(ALICE.provider, ALICE.subject) == 2
    assert [sessions.find_pending_login(one) for one in tokens] == [None, None]
    assert sessions.find_pending_login(others).identity == BOB
    assert 0 < redis.ttl(redis.keys("*:waiting-of:*")[0]) <= 600
    assert sessions.end_of_person(ALICE.provider, ALICE.subject) == 0
    redis.mset(stored)
    assert [sessions.find_pending_login(one) for one in tokens] == [None, None], "whoever writes to Redis revived one"


def test_of_the_pending_sign_ins_those_of_one_session_of_the_provider_end(sessions):
    kept, ended = (
        sessions.start_pending_login("prove", replace(ALICE, session_index=index), "/portal")[0]
        for index in ("_one", "_two")
    )
    unknown, _ = sessions.start_pending_login("prove", ALICE, "/portal")
    assert sessions.end_of_person(ALICE.provider, ALICE.subject, ("_two",)) == 2
    assert [sessions.find_pending_login(one) is None for one in (kept, ended, unknown)] == [False, True, True]


def test_a_sign_in_that_is_being_completed_while_its_person_is_signed_out_does_not_count(sessions):
    """Either the session that it left is found, or it finds that it has ended."""
    _, pending = sessions.start_pending_login("prove", ALICE, "/portal")
    assert sessions.consume_pending_login(pending)
    sessions.end_of_person(ALICE.provider, ALICE.subject)
    assert sessions.has_ended(pending)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_a_persons_sessions_are_theirs_alone_and_the_newest_stands_first(sessions, clock):
    for number in range(3):
        sessions.open(ALICE, str(number))
        sessions.open(BOB)
        clock.advance(seconds=1)
    assert [one.refresh_state for one in sessions.of_person(ALICE.person)] == ["2", "1", "0"]
    assert sessions.of_person("ldap-provider/corp|nobody") == ()
    assert len(sessions.newest(10)) == 6
    assert {one.refresh_state for one in sessions.newest(2)} == {"2", ""}


def test_an_account_s_own_people_are_found_however_many_others_are_newer(sessions, redis):
    ann = IamIdentity("iam", "AIDAANN", "ann", NOW, account_id="111122223333")
    (_, first), (_, second) = sessions.open(ann), sessions.open(ann)
    for _ in range(3):
        sessions.open(BOB)
    other = sessions.open(replace(ann, account_id="444455556666"))[1]
    redis.zadd("fedgate:web:all:111122223333", {other.key: NOW.timestamp() * 2})
    assert {one.key for one in sessions.newest(2, "111122223333")} == {first.key, second.key}
    sessions.end(first)
    assert sessions.newest(2, "111122223333") == (second,)


def test_sessions_of_several_people_end_in_one_commit(redis, clock):
    commits, sessions, store = [], made(redis, clock), markers()._store

    def count(connection):
        commits.append(connection)

    opened = [sessions.open(one)[1] for one in (ALICE, BOB, ALICE)]
    event.listen(store.engine, "commit", count)
    try:
        assert sessions.end_several(opened) == 3
    finally:
        event.remove(store.engine, "commit", count)
    assert sessions.newest(5) == sessions.of_person(ALICE.person) == ()
    assert redis.hkeys(sessions.keys.person(BOB.person)) == []
    assert len(commits) == 1
    assert sessions.end_several(()) == 0


def test_the_newest_of_all_are_shown_even_where_others_ended_by_themselves(redis, clock):
    lasting, passing = made(redis, clock), made(redis, clock, idle=timedelta(milliseconds=1))
    lasting.open(ALICE)
    clock.advance(seconds=1)
    for _ in range(30):
        passing.open(BOB)
    time.sleep(0.01)
    assert [one.identity for one in lasting.newest(5)] == [ALICE]


def test_a_program_that_signs_in_every_minute_fills_no_memory(redis, clock):
    sessions = made(redis, clock, idle=timedelta(milliseconds=1))
    for _ in range(200):
        sessions.open(ALICE)
        time.sleep(0.001)
    assert redis.hlen(sessions.keys.person(ALICE.person)) < 60


def test_sessions_are_ended_by_the_index_that_the_provider_knows(sessions):
    tokens = {index: sessions.open(replace(ALICE, session_index=index))[0] for index in ("a", "b", None)}
    keys = sessions.keys_of(ALICE.provider, ALICE.subject, ("a",))
    assert sessions.end_all(ALICE.provider, ALICE.subject, keys) == 2, "one without an index may be meant as well"
    assert {index: sessions.find(token) is not None for index, token in tokens.items()} == {
        "a": False, "b": True, None: False
    }  # fmt: skip
    assert sessions.end_all(ALICE.provider, ALICE.subject, sessions.keys_of(ALICE.provider, ALICE.subject, ())) == 1
    assert sessions.end_all(ALICE.provider, ALICE.subject, ()) == 0


# --- once -------------------------------------------------------------------------------------------------------------


def test_of_many_that_do_what_was_missing_one_gets_in(sessions):
    token, _ = sessions.start_pending_login("prove", ALICE, "/portal")
    waiting = sessions.find_pending_login(token)
    assert sorted(at_once(*[lambda: sessions.consume_pending_login(waiting)] * 8)) == [False] * 7 + [True]
    assert sessions.find_pending_login(token) is None


def test_of_many_answers_to_one_request_one_counts(sessions):
    sessions.save_logout_request("id", "arn")
    assert sorted(at_once(*[lambda: sessions.consume_logout_request("id", "arn")] * 8)) == [False] * 7 + [True]


def test_an_answer_of_another_provider_does_not_count(sessions):
    sessions.save_logout_request("id", "arn")
    assert not sessions.consume_logout_request("id", "other")


def test_of_many_that_send_one_form_one_answers_it(sessions):
    assert sorted(at_once(*[lambda: sessions.claim_form("form", 60)] * 8)) == [False] * 7 + [True]
    assert sessions.find_form_response("form") == "", "the answer is under way"
    sessions.store_form_response("form", "sealed", anew=False)
    assert sessions.find_form_response("form") == "sealed"
    assert not sessions.claim_form("form", 60)


def test_a_form_whose_answer_broke_off_can_be_sent_anew(sessions):
    assert sessions.claim_form("form", 60)
    sessions.release_form("form")
    assert sessions.find_form_response("form") is None
    assert sessions.claim_form("form", 60)


def test_an_answer_is_kept_for_a_while_and_the_mark_as_long_as_it_was_asked_for(sessions, redis):
    for form, anew, least in (("lasting", False, 3590), ("passing", True, 20)):
        sessions.claim_form(form, 3600)
        sessions.store_form_response(form, "sealed", anew=anew)
        assert least < redis.ttl(sessions.keys.form(form)) <= (30 if anew else 3600)
        assert 20 < redis.ttl(sessions.keys.form_response(form)) <= 30
    redis.delete(sessions.keys.form_response("lasting"))
    assert sessions.find_form_response("lasting") is None


# --- without Redis ----------------------------------------------------------------------------------------------------

GONE = BrowserSession("fedgate:web:session:x", ALICE, "", NOW, NOW + timedelta(hours=1))
ASKED = {
    "open": lambda sessions: sessions.open(ALICE),
    "find": lambda sessions: sessions.find("A" * 43),
    "find_stored": lambda sessions: sessions.find_stored("fedgate:web:session:0"),
    "step_up": lambda sessions: sessions.step_up(GONE, NOW),
    "update": lambda sessions: sessions.update(GONE),
    "end": lambda sessions: sessions.end(GONE),
    "identify": lambda sessions: sessions.identify("A" * 43),
    "keys_of": lambda sessions: sessions.keys_of("p", "s", ()),
    "of_person": lambda sessions: sessions.of_person("p|s"),
    "newest": lambda sessions: sessions.newest(1),
    "batches": lambda sessions: list(sessions.batches()),
    "start_pending_login": lambda sessions: sessions.start_pending_login("prove", ALICE, "/portal"),
    "find_pending_login": lambda sessions: sessions.find_pending_login("A" * 43),
    "end_of_person": lambda sessions: sessions.end_of_person("p", "s"),
    "save_logout_request": lambda sessions: sessions.save_logout_request("id", "p"),
    "consume_logout_request": lambda sessions: sessions.consume_logout_request("id", "p"),
    "claim_form": lambda sessions: sessions.claim_form("form", 60),
    "store_form_response": lambda sessions: sessions.store_form_response("form", "x", anew=False),
    "find_form_response": lambda sessions: sessions.find_form_response("form"),
    "release_form": lambda sessions: sessions.release_form("form"),
}


@pytest.mark.parametrize("name", ASKED)
def test_without_redis_nobody_is_signed_in_and_nothing_counts_as_done(clock, name):
    with wiring.open_redis(f"redis://127.0.0.1:{free_port()}") as away, pytest.raises(ServiceUnavailable) as caught:
        ASKED[name](made(away, clock))
    assert "refused" not in caught.value.message
    assert "refused" in caught.value.log


def test_no_method_is_forgotten_here():
    asking = {
        name for name in vars(BrowserSessions) if not name.startswith("_") and callable(vars(BrowserSessions)[name])
    }
    assert asking - {"new_token", "end_all", "end_several", "consume_pending_login", "has_ended", "was_ended"} == set(
        ASKED
    )


def test_after_redis_lost_everything_everybody_signs_in_again(sessions, redis):
    token, _ = sessions.open(ALICE)
    redis.flushall()
    assert sessions.find(token) is None
