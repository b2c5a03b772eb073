"""Attack: a session that was minted while a clock was ahead outlives its length, and used to outlive its revocation."""

import json
import os
from datetime import timedelta

import pytest
from support.administrator import Administrator, allow, assumed, refused
from support.installation import Clock, Installation
from support.servers import eventually

from iam.clock import to_milliseconds
from iam.store.revocation import KEPT, delete_expired, revoke

INVALID = "The security token included in the request is invalid."
HOST = "127.0.0.1:8080"


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation)


@pytest.fixture
def ahead(installation):
    """Another machine, whose clock is two hours ahead."""
    machine = Installation(installation.folder, installation.environ, Clock(timedelta(hours=2)))
    yield machine
    machine.close()


def stolen_from(ahead, admin):
    return assumed(ahead, admin.user("alice", allow("sts:*")), admin.role("r"))


def test_a_session_from_the_future_is_refused(installation, ahead, admin):
    session = stolen_from(ahead, admin)
    assert ahead.call("GetCallerIdentity", session).status == 200
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)


def test_a_session_within_the_skew_works(installation, ahead, admin):
    ahead.now.offset = timedelta(seconds=50)
    assert installation.call("GetCallerIdentity", stolen_from(ahead, admin)).status == 200


@pytest.mark.parametrize("kind", ["session", "person", "role", "account", "installation"])
def test_a_session_from_the_future_stays_revoked_when_its_time_comes(installation, ahead, admin, clock, kind):
    session = stolen_from(ahead, admin)
    (listed,) = ahead.services.storage.live_sessions.list_live(admin.account_id, 0)
    subject = {
        "session": listed.id,
        "person": f"iam|{admin.do('GetUser', UserName='alice').text('UserId')}",
        "role": admin.do("GetRole", RoleName="r").text("RoleId"),
        "account": admin.account_id,
        "installation": "",
    }[kind]
    with installation.store.write() as tx:
        revoke(tx, kind, subject, now_ms=to_milliseconds(clock()), random=os.urandom)
    clock.advance(hours=2)
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)
    # Nor does it live again when a clock that was far ahead has the row deleted.
    with installation.store.write() as tx:
        delete_expired(tx, to_milliseconds(clock()) + 2 * KEPT)
    refused(installation.call("GetCallerIdentity", session), 403, "InvalidClientTokenId", INVALID)


def test_a_machine_whose_clock_jumps_says_that_it_is_not_ready(installation, clock):
    assert installation.request("GET", "/readyz", {"Host": HOST}).status == 200
    clock.advance(hours=1)
    eventually(lambda: installation.request("GET", "/readyz", {"Host": HOST}).status == 503)
    ready = installation.request("GET", "/readyz", {"Host": HOST})
    assert (ready.status, json.loads(ready.body)["checks"]["clock"]) == (503, "failed: ClockJumped")


def test_a_machine_that_started_with_another_time_than_redis_says_that_it_is_not_ready(ahead):
    ready = ahead.request("GET", "/readyz", {"Host": HOST})
    assert (ready.status, json.loads(ready.body)["checks"]["clock"]) == (503, "failed: ClockDiffers")
