"""The ceiling of an account at the gate: THREATS B32 for a fifth kind of policy."""

import pytest
from support.administrator import Administrator, allow, assume, assumed, deny, refused, statements, trust

from iam import guardrails
from iam.guardrails import Guardrail
from iam.limits import Limits

NO_NEW_KEYS = statements(allow("*"), deny("iam:CreateAccessKey"))


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation)


def set_guardrail(admin, document, name="g"):
    with admin.installation.store.write() as tx:
        guardrails.put(tx, Guardrail(admin.account_id, name, document, 0), Limits())


def clear_guardrail(admin, name="g"):
    with admin.installation.store.write() as tx:
        guardrails.remove(tx, admin.account_id, name)


def test_a_guardrail_binds_users_roles_and_root_from_the_next_call_until_it_is_removed(installation, admin):
    boss = admin.user("boss", allow("*"))
    role = admin.role("ops", None, allow("*"))
    session = assumed(installation, boss, role)
    set_guardrail(admin, NO_NEW_KEYS)
    for credentials in (boss, session, admin.root):
        answer = installation.call("CreateAccessKey", credentials, UserName="boss")
        refused(answer, 403, "AccessDenied", "with an explicit deny in a service control policy")
        assert installation.call("ListUsers", credentials).status == 200
    clear_guardrail(admin)
    assert installation.call("CreateAccessKey", boss, UserName="boss").status == 200


def test_what_no_guardrail_allows_is_denied_and_several_allow_together(installation, admin):
    boss = admin.user("boss", allow("*"))
    set_guardrail(admin, allow("sts:*"))
    refused(
        installation.call("ListUsers", boss), 403, "AccessDenied", "because no service control policy allows the iam:L"
    )
    refused(installation.call("ListUsers", admin.root), 403, "AccessDenied")
    set_guardrail(admin, allow("iam:ListUsers"), "second")
    assert installation.call("ListUsers", boss).status == 200


def test_a_guardrail_grants_nothing(installation, admin):
    nobody = admin.user("nobody")
    set_guardrail(admin, allow("*"))
    refused(installation.call("ListUsers", nobody), 403, "AccessDenied", "because no identity-based policy allows")


def test_a_guardrail_binds_its_own_account_s_principals_alone(installation, admin):
    other = Administrator.of_a_new_account(installation)
    guest = other.user("guest", allow("sts:AssumeRole"))
    role = admin.role("shared", trust({"AWS": other.account_id}), allow("*"))
    set_guardrail(admin, statements(allow("*"), deny(["sts:AssumeRole", "iam:DeleteUser"])))
    assert installation.call("ListUsers", other.root).status == 200
    # Let in by its own account's leave; as a session of this account's role it is bound like all others.
    session = assumed(installation, guest, role)
    refused(installation.call("DeleteUser", session, UserName="x"), 403, "AccessDenied", "service control policy")
    set_guardrail(other, statements(allow("*"), deny("sts:AssumeRole")))
    refused(assume(installation, guest, role), 403, "AccessDenied")


def test_a_guardrail_counts_in_a_session_of_get_session_token(installation, admin):
    token = installation.call("GetSessionToken", admin.user("boss", allow("*"))).credentials
    role = admin.role("ops")
    assert assume(installation, token, role).status == 200
    set_guardrail(admin, allow("iam:*"))
    refused(assume(installation, token, role), 403, "AccessDenied")
