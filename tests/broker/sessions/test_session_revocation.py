"""The revocation service without pages or commands: what a name means, what is refused, and what is recorded."""

import json
import secrets
import time
from dataclasses import replace
from datetime import timedelta
from itertools import chain

import pytest
from redis import Redis
from sqlalchemy import select
from support.saml_fixtures import Still
from support.servers import free_port

from broker import wiring
from broker.audit.log import AuditLog, AuditUnavailable
from broker.audit.operator import Actor, operator_record
from broker.sessions.browser import BrowserSessions
from broker.sessions.revocation import (
    ACCOUNT,
    INSTALLATION,
    MOST_BROWSERS,
    PERSON,
    ROLE,
    SESSION,
    RevocationTarget,
    SessionListing,
    SessionRevocation,
    people_named,
)
from iam.accounts import create_account
from iam.clock import to_milliseconds
from iam.errors import AccessDenied, NoSuchEntity, ServiceUnavailable, ValidationError
from iam.store.schema import audit_record
from iam.store.store import Store
from iam.store.vault import Vault
from sts.identity import Identity
from sts.lineage import begin, session_scopes
from sts.store.sealed_values import SealedValues
from sts.store.sessions import LiveSession, LiveSessions

HOME, AWAY = "111122223333", "444455556666"
ALICE, BOB = "ldap-provider/corp|1", "ldap-provider/corp|2"
UNKNOWN = "f" * 32
MANY = MOST_BROWSERS + 100


@pytest.fixture
def clock():
    return Still()


@pytest.fixture
def store(tmp_path, clock):
    vault = Vault(secrets.token_bytes(32))
    store = Store(
        f"sqlite:///{tmp_path}/iam.db",
        vault,
        monotonic=time.monotonic,
        signal_file=tmp_path / "signal",
    )
    store.migrate()
    with store.write() as tx:
        for account_id in (HOME, AWAY):
            create_account(tx, account_id=account_id, now=clock(), random=secrets.token_bytes, vault=vault)
    yield store
    store.close()


@pytest.fixture
def audit(tmp_path):
    audit = AuditLog(tmp_path / "audit", sync="always")
    yield audit
    audit.close()


def service(redis_url, store, audit, clock):
    redis, values = wiring.open_redis(redis_url), SealedValues(bytes(32), secrets.token_bytes)
    live = LiveSessions(redis, values, monotonic=time.monotonic, pause=lambda _: None, spawn=lambda work: work())
    return SessionRevocation(
        store=store,
        listing=SessionListing(store=store, live_sessions=live, now=clock),
        browser_sessions=BrowserSessions(
            redis,
            values,
            wiring.open_single_use(store),
            clock,
            secrets.token_bytes,
            timedelta(hours=1),
            timedelta(hours=12),
        ),
        audit=audit,
        now=clock,
        random=secrets.token_bytes,
    )


@pytest.fixture
def revocation(redis_url, store, audit, clock):
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return service(redis_url, store, audit, clock)


@pytest.fixture
def without_redis(store, audit, clock):
    return service(f"redis://127.0.0.1:{free_port()}/0", store, audit, clock)


@pytest.fixture
def add(revocation, store, clock):
    def add(
        number: int, person: str = ALICE, account_id: str = HOME, name: str = "alice", login_name: str = ""
    ) -> LiveSession:
        now = to_milliseconds(clock())
        arn = f"arn:aws:sts::{account_id}:assumed-role/R/{name}"
        scopes = session_scopes(account_id, f"AROA{account_id}", person)
        session = LiveSession(
            f"{number:032x}",
            account_id,
            arn,
            person,
            f"AROA{account_id}",
            f"ASIA{number:016}",
            now,
            now + 900_000,
            "192.0.2.1",
            lineage=begin(scopes, None, store.current_generations(scopes)).dump(),
            login_name=login_name,
        )
        revocation.listing.live_sessions.add(session)
        return session

    return add


def record_as(clock):
    def make_record(name, account_id, parameters):
        actor = Actor("ops", "command line")
        return operator_record(name, account_id, parameters, actor=actor, now=clock(), random=secrets.token_bytes)

    return make_record


def listed(revocation):
    return {session.id for session in revocation.listing.list_live((HOME, AWAY)).sessions}


TARGETS = {
    "a session": (RevocationTarget(SESSION, f"{1:032x}", HOME), {1}),
    "a session of an unknown account": (RevocationTarget(SESSION, f"{1:032x}"), {1}),
    "a person": (RevocationTarget(PERSON, ALICE), {1, 2, 3}),
    "a role": (RevocationTarget(ROLE, f"AROA{HOME}", HOME), {1, 2, 4}),
    "an account": (RevocationTarget(ACCOUNT, AWAY, AWAY), {3}),
}


@pytest.mark.parametrize("case", TARGETS)
def test_what_a_target_covers_is_refused_and_taken_off_the_list(revocation, add, clock, case):
    target, numbers = TARGETS[case]
    sessions = {1: add(1), 2: add(2), 3: add(3, account_id=AWAY), 4: add(4, BOB)}
    result = revocation.revoke(target, record_as(clock))
    assert {session.id for session in result.removed} == {sessions[number].id for number in numbers}
    assert listed(revocation) == {session.id for number, session in sessions.items() if number not in numbers}


def test_a_session_that_begins_afterwards_is_neither_refused_nor_taken_off_the_list(revocation, add, clock):
    revocation.revoke(RevocationTarget(PERSON, ALICE), record_as(clock))
    later = add(1)
    revocation.revoke(RevocationTarget(PERSON, BOB), record_as(clock))
    assert listed(revocation) == {later.id}


def test_the_browser_sessions_of_a_person_end_and_those_of_others_do_not(revocation, clock):
    alice = Identity("ldap-provider/corp", "1", "alice", clock())
    browsers = revocation.browser_sessions
    browsers.open(alice)
    browsers.open(replace(alice, subject="2", name="bob"))
    revocation.revoke(RevocationTarget(PERSON, ALICE), record_as(clock))
    assert (browsers.of_person(ALICE), len(browsers.of_person(BOB))) == ((), 1)


def test_one_session_is_looked_up_by_its_key_however_many_its_account_has(revocation, add, clock, redis_url):
    (first, _), target = (add(1), add(2)), RevocationTarget(SESSION, f"{1:032x}", HOME)
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.config_resetstat()
        assert [one.id for one in revocation.revoke(target, record_as(clock)).removed] == [first.id]
        assert "cmdstat_zrangebyscore" not in client.info("commandstats")


def test_a_revocation_is_recorded_in_its_transaction_and_in_the_log(revocation, store, audit, clock):
    revocation.revoke(RevocationTarget(ACCOUNT, HOME, HOME), record_as(clock))
    with store.read() as tx:
        (stored,) = [json.loads(text) for text in tx.scalars(select(audit_record.c.record))]
    assert (stored["eventName"], stored["recipientAccountId"]) == ("RevokeSessions", HOME)
    assert stored["requestParameters"] == {"revoked": [{"kind": "account", "subject": HOME}]}
    assert stored["eventID"] in audit.path.read_text()


def test_without_a_record_nothing_is_revoked(revocation, store, add, audit, clock):
    session = add(1)
    audit.close()
    with pytest.raises(AuditUnavailable):
        revocation.revoke(RevocationTarget(PERSON, ALICE), record_as(clock))
    assert not store.generations([f"person|{ALICE}"])
    assert listed(revocation) == {session.id}


def test_nothing_is_revoked_where_its_permission_went_before_its_turn_came(revocation, store, add, clock):
    session = add(1)

    def denied(_tx):
        raise AccessDenied("no longer")

    with pytest.raises(AccessDenied):
        revocation.revoke(RevocationTarget(PERSON, ALICE), record_as(clock), authorize=denied)
    assert not store.generations([f"person|{ALICE}"])
    assert listed(revocation) == {session.id}


def test_without_redis_a_revocation_holds_and_says_that_the_list_is_old(without_redis, store, clock):
    result = without_redis.revoke(RevocationTarget(PERSON, ALICE), record_as(clock))
    assert (result.removed, bool(result.redis_error)) == ((), True)
    assert store.generations([f"person|{ALICE}", f"person|{BOB}"]).keys() == {f"person|{ALICE}"}
    assert without_redis.listing.list_live((HOME,)).unavailable


def test_a_name_is_resolved_to_its_subject_and_account(revocation, add):
    session = add(1, account_id=AWAY)
    provider = f"arn:aws:iam::{AWAY}:saml-provider/idp|nid"
    assert revocation.resolve(SESSION, session.id) == (SESSION, session.id, AWAY)
    assert revocation.resolve(SESSION, UNKNOWN) == (SESSION, UNKNOWN, "")
    assert revocation.resolve(ACCOUNT, HOME) == (ACCOUNT, HOME, HOME)
    assert revocation.resolve(PERSON, ALICE) == (PERSON, ALICE, "")
    assert revocation.resolve(PERSON, provider) == (PERSON, provider, AWAY)
    assert revocation.resolve(PERSON, f"iam|{HOME}") == (PERSON, f"iam|{HOME}", HOME)


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        (ROLE, f"arn:aws:iam::{HOME}:role/none", NoSuchEntity),
        (ACCOUNT, "999999999999", NoSuchEntity),
        (SESSION, "ASIAEXAMPLE", ValidationError),
        (SESSION, "", ValidationError),
        (PERSON, "alice", ValidationError),
        (PERSON, "ldap-provider/corp|", ValidationError),
        ("everything", "x", ValidationError),
    ],
)
def test_a_name_that_means_nothing_is_refused(revocation, kind, name, error):
    with pytest.raises(error):
        revocation.resolve(kind, name)


def test_without_redis_a_session_id_still_resolves_and_a_search_says_why_not(without_redis):
    assert without_redis.resolve(SESSION, UNKNOWN) == (SESSION, UNKNOWN, "")
    with pytest.raises(ServiceUnavailable):
        without_redis.listing.find("x", (HOME,))


def test_people_are_found_by_the_name_that_they_signed_in_with(add):
    sessions = [
        add(1, login_name="Alice Smith"),
        add(2, BOB, login_name="bob"),
        add(3, "ldap-provider/other|9", login_name="bob"),
    ]
    assert people_named("alice smith", sessions) == [ALICE]
    assert people_named("bob", sessions) == [BOB, "ldap-provider/other|9"]
    assert people_named("carol", sessions) == []


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity", "GetFederationToken"])
def test_a_session_name_that_a_caller_chose_finds_nobody(add, operation):
    chosen = add(1, "iam|AIDAMALLORY", name="dave", login_name="mallory")._replace(made_by=operation)
    assert people_named("dave", [chosen]) == []
    assert people_named("dave", [chosen, add(2, BOB, login_name="dave")]) == [BOB]


def test_every_browser_session_of_an_account_and_of_everybody_ends(revocation, clock):
    browsers, alice = revocation.browser_sessions, Identity("ldap-provider/corp", "1", "alice", clock())
    for number in range(MANY):
        browsers.open(replace(alice, subject=str(number), name=f"n{number}", account_id=HOME if number % 2 else ""))
    oldest = people_named("N0", (), chain.from_iterable(browsers.batches()))
    assert oldest == ["ldap-provider/corp|0"]
    assert revocation.revoke(RevocationTarget(ACCOUNT, HOME, HOME), record_as(clock)).browsers == MANY // 2
    assert revocation.revoke(RevocationTarget(INSTALLATION, ""), record_as(clock)).browsers == MANY // 2
    assert list(chain.from_iterable(browsers.batches())) == []
