"""The roles that a person has pinned or taken."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from support.documents import trust

from iam.operations.roles import create_role, delete_role
from iam.store import pinned_roles
from iam.store.pinned_roles import RoleUsage
from iam.store.schema import role_mark

PAT, SAM = "ldap-provider/corp|pat", "ldap-provider/corp|sam"


@pytest.fixture
def do(any_account):
    return doing(any_account)


def doing(account):
    def do(action, *args, **more):
        with account.store.write(bump_revision=False) as tx:
            return action(tx, *args, **more)

    return do


def test_a_role_is_pinned_and_let_go(do):
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=True)
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=True)
    assert do(pinned_roles.role_usage_of, PAT) == {"AROAX": RoleUsage(pinned=True, taken=None)}
    assert do(pinned_roles.role_usage_of, SAM) == {}
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=False)
    assert do(pinned_roles.role_usage_of, PAT) == {}


def test_the_last_time_is_kept_whether_or_not_the_role_is_pinned(do, any_account):
    first, later = any_account.now, any_account.now + timedelta(hours=1)
    do(pinned_roles.record_role_use, PAT, "AROAX", first)
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=True)
    do(pinned_roles.record_role_use, PAT, "AROAX", later)
    taken = int(later.timestamp() * 1000)
    assert do(pinned_roles.role_usage_of, PAT) == {"AROAX": RoleUsage(pinned=True, taken=taken)}
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=False)
    assert do(pinned_roles.role_usage_of, PAT) == {"AROAX": RoleUsage(pinned=False, taken=taken)}


def test_letting_go_of_what_was_never_pinned_keeps_nothing(do):
    do(pinned_roles.set_pinned, PAT, "AROAX", pinned=False)
    assert do(pinned_roles.role_usage_of, PAT) == {}


def test_of_sixty_roles_the_fifty_newest_are_known_and_those_that_are_pinned(do, any_account):
    do(pinned_roles.set_pinned, PAT, "AROA03", pinned=True)
    do(pinned_roles.record_role_use, SAM, "AROA00", any_account.now)
    for number in range(60):
        do(pinned_roles.record_role_use, PAT, f"AROA{number:02}", any_account.now + timedelta(minutes=number))
    marks = do(pinned_roles.role_usage_of, PAT)
    assert set(marks) == {"AROA03", *(f"AROA{number}" for number in range(10, 60))}
    assert marks["AROA03"] == RoleUsage(pinned=True, taken=None)
    assert set(do(pinned_roles.role_usage_of, SAM)) == {"AROA00"}


ROLES = st.sampled_from([f"AROA{number}" for number in range(4)])


@given(steps=st.lists(st.tuples(ROLES, st.sampled_from(["pin", "let go", "take"])), max_size=20))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_kept_is_what_was_done_last(account, steps):
    do, pinned, taken = doing(account), {}, {}
    do(lambda tx: tx.execute(role_mark.delete()))
    for minutes, (role_id, step) in enumerate(steps):
        at = account.now + timedelta(minutes=minutes)
        if step == "take":
            do(pinned_roles.record_role_use, PAT, role_id, at)
            taken[role_id] = int(at.timestamp() * 1000)
        else:
            do(pinned_roles.set_pinned, PAT, role_id, pinned=step == "pin")
            pinned[role_id] = step == "pin"
    wanted = {role_id for role_id, held in pinned.items() if held} | set(taken)
    assert do(pinned_roles.role_usage_of, PAT) == {
        role_id: RoleUsage(pinned=pinned.get(role_id, False), taken=taken.get(role_id)) for role_id in wanted
    }


def test_a_role_that_is_deleted_takes_its_marks_along(any_account, do):
    roles = []
    for name in ("a", "b"):
        p = {"RoleName": name, "AssumeRolePolicyDocument": trust({"AWS": "111122223333"})}
        roles.append(any_account.run(create_role, **p)["Role"]["RoleId"])
        for person in (PAT, SAM):
            do(pinned_roles.set_pinned, person, roles[-1], pinned=True)
    any_account.run(delete_role, RoleName="a")
    assert do(lambda tx: set(tx.scalars(select(role_mark.c.role_id)))) == {roles[1]}
