"""Copies of all rows between databases of either kind, and digests that show a difference."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, update
from support.documents import allow, trust

from iam.limits import Limits
from iam.operations.roles import create_role
from iam.operations.users import create_user
from iam.resource_policies import ResourcePolicy, put
from iam.store import schema
from iam.store.transfer import TABLES, add_rows, copy_revision, copy_rows, differences, digests


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def stores(request, account, open_store, postgres_url, tmp_path):
    """A store with an account, and an empty one of the other kind."""
    other = open_store(postgres_url)
    other.migrate()
    if request.param == "sqlite to postgresql":
        return account.store, other
    with account.store.read() as source, other.write() as target:
        copy_rows(source, target)
    empty = open_store(f"sqlite:///{tmp_path}/copy.db")
    empty.migrate()
    return other, empty


pytestmark = pytest.mark.server


def test_a_copy_holds_every_row_as_it_was(account, stores):
    account.run(create_user, UserName="Zoë", Tags=[{"Key": "k", "Value": "é"}])
    account.run(create_role, RoleName="r", AssumeRolePolicyDocument=trust("*"))
    source, target = stores
    with source.write() as original, target.write() as copy:
        put(original, ResourcePolicy("store", "", allow(Principal="*"), 1), Limits())
        original.execute(insert(schema.audit_record).values(seq=41, event_id="a", at=1, account_id="1", record="{}"))
        copy_rows(original, copy)
        assert differences(digests(original), digests(copy)) == []
        assert digests(copy)["account"].rows == digests(copy)["resource_policy"].rows == 1
        assert digests(copy)["account"].checksum != digests(copy)["iam_user"].checksum
    with target.write() as copy:
        copy.execute(insert(schema.audit_record).values(event_id="b", at=2, account_id="1", record="{}"))
        assert copy.execute(select(func.max(schema.audit_record.c.seq))).scalar() == 42


def test_a_changed_row_and_a_missing_table_are_differences(account):
    with account.store.write() as tx:
        before = digests(tx)
        tx.execute(update(schema.account).values(alias="other"))
        after = digests(tx)
    assert differences(before, after) == ["account"]
    assert differences({}, {"account": after["account"]}) == ["account"]


def test_rows_that_are_there_already_are_not_added_again(stores):
    source, target = stores
    row = {"kind": "saml", "marker": "m", "expires": 5}
    with source.write() as original, target.write() as copy:
        original.execute(insert(schema.used_marker).values([row, {**row, "marker": "new"}]))
        copy.execute(insert(schema.used_marker).values({**row, "expires": 7}))
        add_rows(original, copy, schema.used_marker, unique=("kind", "marker"))
        table = schema.used_marker.c
        assert set(copy.execute(select(table.marker, table.expires))) == {("m", 7), ("new", 5)}


def test_a_row_that_gets_a_new_number_does_not_displace_another(stores):
    source, target = stores
    row = {"at": 1, "account_id": "1", "record": "{}"}
    with source.write() as original, target.write() as copy:
        original.execute(insert(schema.audit_record).values(seq=1, event_id="theirs", **row))
        copy.execute(insert(schema.audit_record).values(event_id="ours", **row))
        add_rows(original, copy, schema.audit_record, unique=("event_id",), leave_out=("seq",))
        assert set(copy.scalars(select(schema.audit_record.c.event_id))) == {"ours", "theirs"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(order=st.permutations(list("abcdef")))
def test_a_digest_does_not_depend_on_the_order_of_rows(account, order):
    rows = [{"kind": "saml", "marker": marker, "expires": 1} for marker in order]
    with account.store.write(bump_revision=False) as tx:
        tx.execute(schema.used_marker.delete())
        tx.execute(insert(schema.used_marker), rows)
        digest = digests(tx, [schema.used_marker])["used_marker"]
        tx.execute(schema.used_marker.delete())
        tx.execute(insert(schema.used_marker), sorted(rows, key=lambda row: row["marker"]))
        assert digests(tx, [schema.used_marker])["used_marker"] == digest


def test_every_table_is_copied_but_what_belongs_to_one_database():
    left_out = {table.name for table in schema.metadata.sorted_tables} - {table.name for table in TABLES}
    assert left_out == {"revision", "running_attempt"}


def test_changes_are_counted_on(stores):
    source, target = stores
    with source.write() as original, target.write() as copy:
        original.execute(update(schema.revision).values(number=5000))
        copy_revision(original, copy)
        assert copy.execute(select(schema.revision.c.number)).scalar() == 5001
