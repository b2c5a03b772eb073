"""Generations: raised in the transaction of a revocation, looked up by key, and deleted without reviving anything."""

import random as chance
from datetime import timedelta

import pytest
from sqlalchemy import event, func, select

from iam.clock import HOUR
from iam.revocation import ANY, FLOOR, INSTALLATION, ScopeKind, scope
from iam.store import schema
from iam.store.revocation import KEPT, delete_expired, read_generations, revoke

NOW = 1_800_000_000_000
SUBJECTS = {"person": "ldap-provider/corp|u1", "role": "AROAX", "account": "111122223333", "installation": ""}
random = chance.Random(1).randbytes


def revoked(store, kind, subject, now_ms=NOW):
    with store.write() as tx:
        revoke(tx, kind, subject, now_ms=now_ms, random=random)


def rows(store):
    with store.read() as tx:
        return tx.execute(select(func.count()).select_from(schema.revocation_generation)).scalar_one()


@pytest.mark.parametrize("kind", SUBJECTS)
def test_each_revocation_raises_the_generation_of_its_scope_to_another_number(any_account, kind):
    store, asked = any_account.store, scope(ScopeKind(kind), SUBJECTS[kind])
    seen = []
    for _ in range(3):
        revoked(store, kind, SUBJECTS[kind])
        seen.append(store.generations([asked, "role|AROAOTHER"])[asked])
    assert len({0, *seen}) == 4
    assert store.generations(["role|AROAOTHER"]) == {}


def test_a_session_has_a_row_of_its_own_and_its_chain_a_generation(any_account):
    store, session_id = any_account.store, "0123456789abcdef" * 2
    revoked(store, "session", session_id)
    assert store.generations([f"session|{session_id}"]) == {f"session|{session_id}": 1}
    assert store.generations(["chain|0123456789abcdef"])


def test_numbers_are_looked_up_by_key_however_many_there_are(any_account):
    store = any_account.store
    with store.write() as tx:
        for number in range(1200):
            revoke(tx, "role", f"AROA{number}", now_ms=NOW, random=random)
    asked = [f"role|AROA{number}" for number in range(1000)]
    assert len(store.current_generations(asked).generations) == 1000
    assert store.generations(asked[:2]) == {
        name: store.current_generations([name]).generations[name] for name in asked[:2]
    }


def test_no_lookup_and_no_deletion_reads_the_whole_table(account):
    """A plan of SQLite says SEARCH where an index leads to the rows, and SCAN where all are read."""
    plans = []

    def explain(connection, _cursor, statement, parameters, *_):
        if "revocation_generation" in statement and not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            plans.extend(row[-1] for row in rows if "revocation_generation" in row[-1])

    with account.store.write() as tx:
        event.listen(tx, "before_cursor_execute", explain)
        for at in (NOW, NOW + KEPT):
            revoke(tx, "session", "s1", now_ms=at, random=random)
            revoke(tx, "role", "AROAX", now_ms=at, random=random)
        read_generations(tx, ["role|AROAX", "session|s1"])
    assert plans
    assert all(plan.startswith("SEARCH") for plan in plans), plans


def test_a_snapshot_has_the_revision_of_its_transaction(any_account):
    store = any_account.store
    before = store.current_generations([]).revision
    with store.write() as tx:
        revoke(tx, "role", "AROAX", now_ms=NOW, random=random)
        assert read_generations(tx, []).revision == before + 1
    assert store.current_generations(["role|AROAX"]).revision == before + 1
    assert store.generation == before + 1


def test_rows_that_every_session_from_before_outlived_are_deleted_and_raise_the_floor(any_account):
    store = any_account.store
    for number in range(5):
        revoked(store, "role", f"AROA{number}", NOW + number)
    last = store.current_generations([]).revision
    assert rows(store) == 6  # and ANY
    revoked(store, "person", "ldap-provider/corp|u1", NOW + 3 + KEPT)
    assert rows(store) == 4  # AROA4, the person, ANY and FLOOR
    assert store.generations(["role|AROA3", "role|AROA4", FLOOR]) == {
        FLOOR: last - 1,
        "role|AROA4": store.generations(["role|AROA4"])["role|AROA4"],
    }


def test_a_floor_never_sinks_and_the_installation_s_number_stays(any_account):
    store = any_account.store
    revoked(store, "installation", "")
    revoked(store, "role", "AROAEARLY", NOW - 10 * HOUR)
    revoked(store, "role", "AROALATE", NOW)
    floors = []
    for at in (NOW + KEPT, NOW + KEPT, NOW + 10 * KEPT):
        with store.write() as tx:
            delete_expired(tx, at)
        floors.append(store.generations([FLOOR]).get(FLOOR, 0))
    assert floors == sorted(floors)
    assert store.generations([INSTALLATION, ANY]).keys() == {INSTALLATION, ANY}


def test_revoking_again_keeps_the_row_longer(any_account):
    store = any_account.store
    revoked(store, "role", "AROAX", NOW)
    revoked(store, "role", "AROAX", NOW + HOUR)
    with store.write() as tx:
        delete_expired(tx, NOW + KEPT)
    assert store.generations(["role|AROAX"])


def test_a_server_s_clock_is_its_own_and_a_file_has_none(any_account):
    told = any_account.store.clock()
    assert (told is None) == (any_account.store.engine.dialect.name == "sqlite")
    assert told is None or told.utcoffset() == timedelta(0)


def test_a_number_of_zeros_is_not_the_generation_of_a_scope_without_a_row(account):
    with account.store.write() as tx:
        revoke(tx, "role", "AROAX", now_ms=NOW, random=bytes)
    assert account.store.generations(["role|AROAX"]) == {"role|AROAX": 1}


def test_a_revocation_survives_a_restart(any_account, open_store):
    revoked(any_account.store, "session", "s1")
    again = open_store(str(any_account.store.engine.url.render_as_string(hide_password=False)))
    assert again.generations(["session|s1"]) == {"session|s1": 1}


def test_a_transaction_sees_what_another_process_has_just_revoked(any_account, open_store):
    """That the process has not heard of it, and has cached the generation from before, must not matter."""
    ours, theirs = any_account.store, open_store(any_account.store.engine.url.render_as_string(hide_password=False))
    assert ours.generations(["role|AROAX"]) == {}
    before = ours.generation
    revoked(theirs, "role", "AROAX")
    with ours.write() as tx, ours.reading_from(tx):
        assert ours.generation == theirs.generation
        assert ours.generations(["role|AROAX"]) == theirs.generations(["role|AROAX"])
        assert ours.generations(["role|AROAX"], minted_at=theirs.generation)
    assert ours.generation == theirs.generation + 1 > before


def test_the_revision_that_a_transaction_writes_is_kept_by_nobody_before_its_commit(any_account):
    store = any_account.store
    before = store.generation

    def revoke_in_vain():
        with store.write() as tx, store.reading_from(tx):
            store.refresh()
            assert store.generations(["role|AROAX"], minted_at=before + 1) == {}
            raise LookupError

    with pytest.raises(LookupError):
        revoke_in_vain()
    assert store.generation == before
