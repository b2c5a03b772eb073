"""What a restore takes from a backup, and what it does not."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from broker.runtime.backup import opened_backup, write_backup
from broker.runtime.restore import restore
from iam.accounts import create_account
from iam.credentials import totp
from iam.revocation import INSTALLATION
from iam.store import schema
from iam.store.store import Store
from iam.store.vault import Vault
from sts.store import sealing_keys
from sts.store.single_use import SingleUse

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VAULT = Vault(bytes(32))
RANDOM = random.Random(7).randbytes
PERSON = "ldap-provider/corp|1"
FACTOR = {"id": "f", "person": PERSON, "kind": "totp", "name": "phone", "sealed": b"x", "created": 1}


def opened_store(path):
    store = Store(f"sqlite:///{path}", VAULT, monotonic=lambda: 0.0)
    store.migrate()
    return store


@pytest.fixture
def live(tmp_path):
    store = opened_store(tmp_path / "live.db")
    with store.write() as tx:
        account = create_account(tx, account_id="111122223333", alias="acme", now=NOW, random=RANDOM, vault=VAULT)
        sealing_keys.rotate(tx, VAULT, now=NOW, random=RANDOM)
        codes = [{"person": PERSON, "hash": code, "created": 1} for code in ("used", "kept")]
        tx.execute(insert(schema.recovery_code), codes)
        tx.execute(insert(schema.second_factor).values(**FACTOR))
    store.root_key = account.root_access_key_id
    yield store
    store.close()


@pytest.fixture
def fresh(tmp_path):
    store = opened_store(tmp_path / "fresh.db")
    yield store
    store.close()


def backed_up(live, file):
    """Back a store up, and return what restores that backup into a store."""
    write_backup(live, VAULT, file, version="1", now=NOW, random=RANDOM)

    def run(store):
        with opened_backup(file, VAULT, file.parent) as (_, source), store.write() as tx:
            return restore(source, tx, VAULT, now=NOW, random=RANDOM)

    return run


@pytest.fixture
def restored(live, tmp_path):
    """Restores a backup of the live store, made before what the test changes, into a store."""
    return backed_up(live, tmp_path / "backup")


def rows(store, column):
    with store.read() as tx:
        return set(tx.scalars(select(column)))


def test_what_was_deleted_comes_back_and_what_came_since_goes(live, restored):
    with live.write() as tx:
        tx.execute(update(schema.account).values(alias="later"))
        tx.execute(update(schema.access_key).values(active=False))
    report = restored(live)
    assert rows(live, schema.account.c.alias) == {"acme"}
    assert (report.revived_keys, report.rows["account"]) == ((live.root_key,), 1)


def test_codes_that_may_have_been_used_do_not_come_back(live, fresh, restored):
    with live.write() as tx:
        tx.execute(schema.recovery_code.delete().where(schema.recovery_code.c.hash == "used"))
    assert restored(live).removed_codes == 1
    assert rows(live, schema.recovery_code.c.hash) == {"kept"}
    assert restored(fresh).removed_codes == 2
    assert rows(fresh, schema.recovery_code.c.hash) == set()
    assert rows(fresh, schema.second_factor.c.last_step) == {totp.step_at(NOW + MINUTE / 2)}


def test_every_session_ends_and_no_older_sealing_key_opens_one(live, restored):
    keys = rows(live, schema.sealing_key.c.id)
    restored(live)
    assert len(rows(live, schema.sealing_key.c.id)) == 1
    assert not keys & rows(live, schema.sealing_key.c.id)
    first = live.current_generations((INSTALLATION,)).generations
    restored(live)
    assert first != live.current_generations((INSTALLATION,)).generations


def test_a_proof_from_before_counts_as_used_on_every_machine(live, fresh, restored):
    used = SingleUse(live, monotonic=lambda: 0.0)
    assert used.consume("saml", "seen", NOW + MINUTE, NOW, issued=NOW + MINUTE)
    for store in (live, fresh):
        restored(store)
        single_use = SingleUse(store, monotonic=lambda: 0.0)
        assert not single_use.consume("saml", "older", NOW + MINUTE, NOW, issued=NOW - MINUTE)
    assert not SingleUse(live, monotonic=lambda: 0.0).consume("saml", "seen", NOW + MINUTE, NOW, issued=NOW + MINUTE)
    assert SingleUse(fresh, monotonic=lambda: 0.0).consume("saml", "new", NOW + MINUTE, NOW, issued=NOW + MINUTE)
    assert restored(fresh).revived_keys == ()


def test_a_signing_key_that_was_removed_stays_removed_where_there_is_another(live, fresh, tmp_path):
    def add_key(store, key_id):
        with store.write() as tx:
            row = {"id": key_id, "sealed": b"x", "certificate": "pem", "created": 1, "signs_from": 1}
            tx.execute(schema.saml_service_key.delete())
            tx.execute(insert(schema.saml_service_key).values(**row))

    add_key(live, "known to others")
    run = backed_up(live, tmp_path / "with-a-key")
    add_key(live, "new")
    run(live)
    assert rows(live, schema.saml_service_key.c.id) == {"new"}
    run(fresh)
    assert rows(fresh, schema.saml_service_key.c.id) == {"known to others"}


def test_a_revocation_and_a_count_of_failures_stay(live, restored):
    with live.write() as tx:
        row = {"subject": PERSON, "source": "192.0.2.1", "failures": 5, "since": 1}
        tx.execute(insert(schema.failed_attempt).values(**row))
    restored(live)
    assert rows(live, schema.failed_attempt.c.failures) == {5}
