"""``fedgate second-factor``: who has which, and a new start for who has lost them."""

import json
import os
import subprocess
import sys

import pytest
from support.administrator import Administrator
from support.servers import HANG

from broker import wiring
from broker.audit import log as audit_log
from iam.arn import root_arn
from iam.credentials import factors, totp

SEED = b"12345678901234567890"
PAT = "ldap-provider/corp|5c1f7a"


@pytest.fixture
def admin(installation):
    return Administrator.of_a_new_account(installation)


def run(installation, *arguments, status=0):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEDGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", "broker.cli", "second-factor", *arguments],
        capture_output=True, text=True, env=kept | installation.environ, timeout=HANG, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done


def facts(installation, *arguments):
    return json.loads(run(installation, *arguments, "--json").stdout)


def app(installation, person, name="phone"):
    now, vault = wiring.now(), installation.services.api.gate.vault
    with installation.store.write() as tx:
        code = totp.code_at(SEED, totp.step_at(now))
        made = factors.add_totp(tx, person, name, SEED, code, now, vault, wiring.random)
        factors.replace_recovery_codes(tx, person, now, wiring.random)
    return made


def test_the_list_names_person_kind_and_use(installation):
    made = app(installation, PAT)
    assert facts(installation, "list") == [
        {"id": made.id, "person": PAT, "kind": "totp", "name": "phone", "created": made.created, "last_used": None}
    ]
    assert facts(installation, "list", "--person", "ldap-provider/corp|other") == []
    shown = run(installation, "list").stdout
    assert PAT in shown
    assert "never" in shown


def test_a_reset_leaves_nothing_and_is_on_record(installation):
    made = app(installation, PAT)
    done = facts(installation, "reset", "--person", PAT)
    assert (done["person"], [one["id"] for one in done["removed"]]) == (PAT, [made.id])
    assert facts(installation, "list") == []
    with installation.store.read() as tx:
        assert factors.recovery_codes_left(tx, PAT) == 0
    (record,) = [
        one
        for one in audit_log.read_last_records(installation.settings.audit_dir, 100)
        if one["eventName"] == "ResetSecondFactors"
    ]
    assert record["requestParameters"] == {"person": PAT, "factors": [made.id]}


def test_users_and_roots_go_by_their_arns(installation, admin):
    admin.user("eve")
    user = installation.store.user_by_arn(admin.arn("user", "eve"))
    for person, arn in ((f"iam|{user.id}", user.arn), (f"iam|{admin.account_id}", root_arn(admin.account_id))):
        app(installation, person)
        assert [one["person"] for one in facts(installation, "list", "--person", arn)] == [person]
        assert facts(installation, "reset", "--person", arn)["person"] == person
    records = audit_log.read_last_records(installation.settings.audit_dir, 100)
    accounts = {one["recipientAccountId"] for one in records if one["eventName"] == "ResetSecondFactors"}
    assert accounts == {admin.account_id}


def test_who_is_not_there_is_named_in_the_error(installation, admin):
    for named in ("alice", admin.arn("user", "nobody"), "arn:aws:iam::999999999999:root"):
        assert named in run(installation, "reset", "--person", named, status=1).stderr
