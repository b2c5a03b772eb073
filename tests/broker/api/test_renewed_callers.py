"""J08: a write that waited its turn is decided for the caller as the transaction finds it, and for no earlier one."""

import secrets
from datetime import timedelta

import pytest
from support.administrator import Administrator, allow, assumed, deny

from broker.api.http import HttpRequest
from iam import guardrails
from iam.clock import to_milliseconds
from iam.errors import ExpiredToken, InvalidClientTokenId
from iam.guardrails import Guardrail
from iam.limits import Limits
from iam.store.revocation import revoke
from sts import callers
from sts.callers import PermissionLimits
from sts.mint import Credentials

REQUEST = HttpRequest("POST", "/", "", (), b"", "127.0.0.1")


@pytest.fixture
def gate(installation):
    return installation.services.api.gate


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation)


@pytest.fixture
def begun(admin, gate):
    """Return the state of a request that a user has begun."""
    key = admin.user("ann", allow("iam:*"))
    user = gate.store.user(admin.do("GetUser", UserName="ann").text("UserId"))
    state = gate.new_request_state(REQUEST)
    state.caller = callers.user(user, key.access_key, None, PermissionLimits())
    return state


def renewed(gate, state):
    with gate.store.write(bump_revision=False) as tx:
        gate.renew_caller(tx, state)
    return state.caller


def policies(caller):
    return {policy.label for policy in caller.layers.identity}


def test_where_nothing_changed_the_caller_is_the_one_that_was_authenticated(gate, begun):
    before = begun.caller
    assert renewed(gate, begun) is before
    with gate.store.write() as tx:
        gate.renew_caller(tx, begun)
    assert begun.caller is before


def test_policies_and_guardrails_are_those_that_the_transaction_finds(gate, admin, begun):
    before = policies(begun.caller)
    admin.do("PutUserPolicy", UserName="ann", PolicyName="stop", PolicyDocument=deny())
    with gate.store.write() as tx:
        guardrails.put(tx, Guardrail(admin.account_id, "g", allow("iam:*"), 0), Limits())
    caller = renewed(gate, begun)
    assert policies(caller) > before
    assert caller.layers.guardrails is not None


@pytest.mark.parametrize("how", ["deactivated", "deleted", "gone"])
def test_whose_key_or_user_is_no_more_is_refused(gate, admin, begun, how):
    key_id = begun.caller.access_key_id
    if how == "deactivated":
        admin.do("UpdateAccessKey", UserName="ann", AccessKeyId=key_id, Status="Inactive")
    else:
        admin.do("DeleteAccessKey", UserName="ann", AccessKeyId=key_id)
    if how == "gone":
        admin.do("DeleteUserPolicy", UserName="ann", PolicyName="p0")
        admin.do("DeleteUser", UserName="ann")
    with pytest.raises(InvalidClientTokenId):
        renewed(gate, begun)


def test_root_s_key_is_looked_up_again(gate, admin, begun):
    begun.caller = callers.root(admin.account_id, admin.root.access_key, None, PermissionLimits())
    admin.do("CreateGroup", GroupName="g")
    assert renewed(gate, begun).principal == begun.caller.principal


def test_a_session_that_was_revoked_or_has_expired_is_refused(gate, admin, begun, installation):
    role = admin.role("r", None, allow("*"))
    made = assumed(installation, admin.user("boss", allow("*")), role)
    credentials = Credentials(made.access_key, made.secret_key, made.token, None)
    caller = begun.caller = gate.authenticate.session(credentials, begun.now)
    admin.do("CreateGroup", GroupName="g")
    assert renewed(gate, begun).session == caller.session
    with gate.store.write() as tx:
        revoke(tx, "account", admin.account_id, now_ms=to_milliseconds(begun.now), random=secrets.token_bytes)
    with pytest.raises(InvalidClientTokenId, match="invalid"):
        renewed(gate, begun)
    begun.now += timedelta(days=2)
    with pytest.raises(ExpiredToken):
        renewed(gate, begun)
