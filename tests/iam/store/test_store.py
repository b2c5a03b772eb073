"""The laws of the store, on SQLite and on PostgreSQL."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, delete, event, insert, inspect, select, text, update
from support.documents import allow, trust
from support.saml_idp import ENTITY_ID, key_pair, metadata
from support.servers import HANG
from support.threads import at_once, ended

from iam.accounts import create_account
from iam.errors import ConcurrentModification, ServiceError, ServiceFailure, ServiceUnavailable
from iam.operations.credentials.access_keys import create_access_key, delete_access_key, update_access_key
from iam.operations.federation.saml_providers import create_saml_provider, delete_saml_provider, update_saml_provider
from iam.operations.groups import add_user_to_group, create_group
from iam.operations.policies.attachments import attach_role_policy, attach_user_policy
from iam.operations.policies.inline import put_group_policy, put_role_policy, put_user_policy
from iam.operations.policies.managed import create_policy, create_policy_version
from iam.operations.roles import create_role, delete_role, update_assume_role_policy
from iam.operations.users import create_user, delete_user, put_user_permissions_boundary, update_user
from iam.policy.policy_set import PolicySet
from iam.policy.principals import PrincipalMatch, principal_match
from iam.principal import Principal, PrincipalKind
from iam.store import schema
from iam.store.database import WAIT, is_busy
from iam.store.store import MOST_UNKNOWN, record_key_use

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
IDP = "arn:aws:iam::111122223333:saml-provider/idp"
CORP = "arn:aws:iam::111122223333:ldap-provider/corp"


def together(*works):
    """Run these at once and return what each came to: its answer, or the error."""

    def attempt(work):
        try:
            return work()
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(attempt, works))


class UnexpectedError(Exception):
    pass


def revision(store):
    with store.read() as tx:
        return tx.execute(select(schema.revision.c.number)).scalar_one()


def names(store):
    with store.read() as tx:
        return set(tx.scalars(select(schema.user.c.name)))


# --- schema -------------------------------------------------------------------------------------------------------


def test_the_migrated_schema_is_the_schema_of_the_tables(any_account):
    with any_account.store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_several_processes_may_migrate_at_once(open_store, url):
    stores = [open_store(url) for _ in range(4)]
    assert together(*(store.migrate for store in stores)) == [None] * 4
    assert [revision(store) for store in stores] == [1, 1, 1, 1]


def test_whoever_finds_a_migration_under_way_waits_for_it_longer_than_for_a_write(open_store, sqlite_url):
    slow, second = open_store(sqlite_url), open_store(sqlite_url)
    with ThreadPoolExecutor(1) as pool:
        with slow._writing_engine.begin():
            waiting = pool.submit(second.migrate)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=WAIT + 1)
        waiting.result(timeout=HANG)
    assert revision(second) == 1


def test_a_database_that_refuses_for_another_reason_is_not_waited_for(open_store, tmp_path):
    (tmp_path / "iam.db").write_bytes(b"no database" * 100)
    with pytest.raises(ServiceFailure) as refused:
        open_store(f"sqlite:///{tmp_path}/iam.db").migrate()
    assert not is_busy(refused.value)


# --- transactions -------------------------------------------------------------------------------------------------


def test_a_write_moves_the_revision_by_one(any_account):
    before = revision(any_account.store)
    any_account.run(create_user, UserName="ann")
    assert revision(any_account.store) == before + 1


def test_a_write_that_no_record_shows_leaves_the_revision(any_account):
    before = revision(any_account.store)
    with any_account.store.write(bump_revision=False) as tx:
        tx.execute(insert(schema.failed_attempt).values(subject="s", source="1", failures=1, since=1))
    assert revision(any_account.store) == before


def test_an_exception_inside_a_write_leaves_nothing(any_account):
    def half():
        with any_account.store.write() as tx:
            create_user(any_account.call(tx), {"UserName": "ann"})
            raise UnexpectedError

    before = revision(any_account.store)
    with pytest.raises(UnexpectedError):
        half()
    assert names(any_account.store) == set()
    assert revision(any_account.store) == before


def test_a_double_key_that_nobody_foresaw_is_a_concurrent_modification(any_account):
    def twice(tx):
        for _ in range(2):
            tx.execute(insert(schema.used_marker).values(kind="totp", marker="m", expires=1))

    with pytest.raises(ConcurrentModification) as caught, any_account.store.write() as tx:
        twice(tx)
    assert "used_marker" not in caught.value.message


def test_two_writers_take_turns_and_neither_loses_its_change(any_account, open_store):
    other = open_store(str(any_account.store.engine.url.render_as_string(hide_password=False)))
    arn = any_account.run(create_policy, PolicyName="p", PolicyDocument=allow())["Policy"]["Arn"]

    def add(store, bucket):
        p = {"PolicyArn": arn, "PolicyDocument": allow(resource=f"arn:aws:s3:::{bucket}"), "SetAsDefault": True}
        with store.write() as tx:
            return create_policy_version(any_account.call(tx), p)["PolicyVersion"]["VersionId"]

    work = [(any_account.store, "a"), (other, "b"), (any_account.store, "c"), (other, "d")]
    assert sorted(together(*(partial(add, *one) for one in work))) == ["v2", "v3", "v4", "v5"]
    with any_account.store.read() as tx:
        versions = select(schema.policy_version.c.version, schema.policy_version.c.document)
        documents = {version: json.loads(document) for version, document in tx.execute(versions)}
    assert sorted(documents) == [1, 2, 3, 4, 5]
    buckets = {documents[version]["Statement"]["Resource"][-1] for version in (2, 3, 4, 5)}
    assert buckets == {"a", "b", "c", "d"}


def test_of_two_who_take_one_name_at_once_one_gets_it(any_account, open_store):
    other = open_store(str(any_account.store.engine.url.render_as_string(hide_password=False)))

    def take(store):
        with store.write() as tx:
            return create_user(any_account.call(tx), {"UserName": "ann"})

    outcomes = together(*(partial(take, store) for store in (any_account.store, other) * 2))
    assert sorted(type(one).__name__ for one in outcomes) == ["EntityAlreadyExists"] * 3 + ["dict"]


# --- what is kept -------------------------------------------------------------------------------------------------


def test_a_record_is_kept_until_something_changes(any_account):
    user = any_account.run(create_user, UserName="ann")["User"]
    first = any_account.store.user(user["UserId"])
    assert any_account.store.user(user["UserId"]) is first
    any_account.run(create_user, UserName="bob")
    again = any_account.store.user(user["UserId"])
    assert again is not first
    assert again == first


def test_the_worker_that_changes_sees_it_at_once_and_the_others_within_the_poll(any_account, open_store, clock):
    other = open_store(str(any_account.store.engine.url.render_as_string(hide_password=False)))
    key = any_account.run(create_access_key)["AccessKey"]["AccessKeyId"]
    assert other.access_key(key).active
    any_account.run(update_access_key, AccessKeyId=key, Status="Inactive")
    assert not any_account.store.access_key(key).active
    assert other.access_key(key).active, "within the poll the other worker may not know"
    clock.seconds += 0.5
    assert not other.access_key(key).active


def test_processes_with_one_bell_see_each_others_changes_at_once(any_account, open_store, tmp_path):
    url = str(any_account.store.engine.url.render_as_string(hide_password=False))
    one, two = (open_store(url, signal_file=tmp_path / "bell") for _ in range(2))
    key = any_account.run(create_access_key)["AccessKey"]["AccessKeyId"]
    for writer, reader, status in ((one, two, "Inactive"), (two, one, "Active"), (one, two, "Inactive")):
        before = (one.access_key(key).active, two.access_key(key).active)
        replace(any_account, store=writer).run(update_access_key, AccessKeyId=key, Status=status)
        assert before != (status == "Active",) * 2
        assert reader.access_key(key).active is (status == "Active"), "no clock has moved"


def test_a_count_that_no_record_shows_rings_no_bell(any_account, open_store, tmp_path):
    url = str(any_account.store.engine.url.render_as_string(hide_password=False))
    one, two = (open_store(url, signal_file=tmp_path / "bell") for _ in range(2))
    account = two.account(any_account.id)
    with one.write(bump_revision=False):
        pass
    assert two.account(any_account.id) is account


def test_a_record_read_while_it_changed_is_not_kept(any_account):
    """The reader began before the change and ended after it: what it read must not outlive the reading."""
    user_id = any_account.run(create_user, UserName="ann")["User"]["UserId"]
    store = any_account.store

    def slow(reader):
        record = reader.user(user_id)
        thread = threading.Thread(target=any_account.run, args=(put_user_policy,), kwargs=change)
        thread.start()
        assert ended(thread)
        return record

    change = {"UserName": "ann", "PolicyName": "p", "PolicyDocument": allow()}
    assert store._cached_or_loaded(store._fresh_cache().users, user_id, slow).policies == PolicySet()
    assert len(store.user(user_id).policies) == 1


def test_whoever_comes_while_the_first_look_is_on_its_way_waits_for_it(any_account, open_store):
    url = any_account.store.engine.url.render_as_string(hide_password=False)
    for _ in range(5):
        fresh = open_store(url)
        answers = at_once(*[partial(fresh.account, any_account.id)] * 16)
        assert {found.id for found in answers} == {any_account.id}


def test_kept_records_are_refused_once_the_revision_is_unknown_for_too_long(any_account, open_store, clock):
    other = open_store(str(any_account.store.engine.url.render_as_string(hide_password=False)))
    user_id = any_account.run(create_user, UserName="ann")["User"]["UserId"]
    assert other.user(user_id) is not None
    with any_account.store.write() as tx:
        tx.execute(text("ALTER TABLE revision RENAME TO gone"))
    clock.seconds += 2
    assert other.user(user_id) is not None
    clock.seconds += 1
    with pytest.raises(ServiceUnavailable):
        other.user(user_id)
    with any_account.store.engine.begin() as tx:
        tx.execute(text("ALTER TABLE gone RENAME TO revision"))
    clock.seconds += 1
    assert other.user(user_id) is not None


# --- records ------------------------------------------------------------------------------------------------------


def test_an_access_key_opens_to_its_secret_and_shows_it_nowhere(any_account):
    made = any_account.run(create_access_key)["AccessKey"]
    key = any_account.store.access_key(made["AccessKeyId"])
    assert (key.secret, key.user_id, key.active) == (made["SecretAccessKey"], None, True)
    assert made["SecretAccessKey"] not in repr(key)
    assert any_account.store.access_key("AKIAAAAAAAAAAAAAAAAA") is None


def test_a_sealed_secret_of_another_row_is_a_failure_and_no_key(any_account):
    second = any_account.run(create_access_key)["AccessKey"]["AccessKeyId"]
    table = schema.access_key
    with any_account.store.write() as tx:
        stolen = tx.scalars(select(table.c.secret).where(table.c.id != second)).first()
        tx.execute(update(table).where(table.c.id == second).values(secret=stolen))
    with pytest.raises(ServiceFailure):
        any_account.store.access_key(second)


def test_a_deleted_key_is_gone(any_account):
    key = any_account.run(create_access_key)["AccessKey"]["AccessKeyId"]
    assert any_account.store.access_key(key) is not None
    any_account.run(delete_access_key, AccessKeyId=key)
    assert any_account.store.access_key(key) is None


def test_a_user_has_its_own_policies_those_attached_and_those_of_its_groups(any_account):
    run = any_account.run
    tags = [{"Key": "Team", "Value": "x"}]
    user_id = run(create_user, UserName="ann", Path="/eng/", Tags=tags)["User"]["UserId"]
    run(put_user_policy, UserName="ann", PolicyName="own", PolicyDocument=allow("s3:GetObject"))
    run(attach_user_policy, UserName="ann", PolicyArn=ADMINISTRATOR)
    run(create_group, GroupName="g")
    run(add_user_to_group, GroupName="g", UserName="ann")
    run(put_group_policy, GroupName="g", PolicyName="of the group", PolicyDocument=allow("s3:PutObject"))
    user = any_account.store.user(user_id)
    assert (user.arn, user.tags) == ("arn:aws:iam::111122223333:user/eng/ann", (("Team", "x"),))
    assert {policy.label for policy in user.policies} == {"own", ADMINISTRATOR, "of the group"}
    assert user.boundary is None


def test_the_default_version_is_the_one_in_force(any_account):
    arn = any_account.run(create_policy, PolicyName="p", PolicyDocument=allow("s3:GetObject"))["Policy"]["Arn"]
    other = allow("s3:PutObject")
    any_account.run(create_policy_version, PolicyArn=arn, PolicyDocument=other)
    assert any_account.store.managed_policy(arn).text == allow("s3:GetObject")
    any_account.run(create_policy_version, PolicyArn=arn, PolicyDocument=other, SetAsDefault=True)
    assert any_account.store.managed_policy(arn).text == other
    assert any_account.store.managed_policy(ADMINISTRATOR).label == ADMINISTRATOR
    assert any_account.store.managed_policy("arn:aws:iam::aws:policy/None") is None


def test_a_boundary_that_is_gone_allows_nothing(any_account):
    user_id = any_account.run(create_user, UserName="ann")["User"]["UserId"]
    any_account.run(put_user_permissions_boundary, UserName="ann", PermissionsBoundary=ADMINISTRATOR)
    assert any_account.store.user(user_id).boundary.policies[0].label == ADMINISTRATOR
    with any_account.store.write() as tx:
        tx.execute(update(schema.user).values(boundary="arn:aws:iam::111122223333:policy/gone"))
    assert all(statement.denies for statement in any_account.store.user(user_id).boundary.policies[0].statements)


def test_a_stored_policy_that_cannot_be_read_refuses_rather_than_lose_its_denies(any_account):
    user_id = any_account.run(create_user, UserName="ann")["User"]["UserId"]
    any_account.run(put_user_policy, UserName="ann", PolicyName="p", PolicyDocument=allow())
    with any_account.store.write() as tx:
        tx.execute(update(schema.inline_policy).values(document='{"Version":"2099-01-01"}'))
    with pytest.raises(ServiceFailure):
        any_account.store.user(user_id)


def test_a_role_is_found_by_its_exact_arn_alone(any_account):
    role = any_account.run(
        create_role,
        RoleName="Admin",
        Path="/eng/",
        AssumeRolePolicyDocument=trust({"AWS": "111122223333"}),
        MaxSessionDuration=7200,
    )["Role"]
    any_account.run(put_role_policy, RoleName="Admin", PolicyName="p", PolicyDocument=allow())
    any_account.run(attach_role_policy, RoleName="Admin", PolicyArn=ADMINISTRATOR)
    found = any_account.store.role(role["Arn"])
    assert found is any_account.store.role_by_id(role["RoleId"])
    assert (found.max_session, len(found.policies)) == (7200, 2)
    others = ["role/Admin", "role/eng/admin", "role/eng/", "user/eng/Admin", "role/eng/Admin/x", "role/Eng/Admin"]
    for resource in others:
        assert any_account.store.role(f"arn:aws:iam::111122223333:{resource}") is None
    assert any_account.store.role("Admin") is None
    assert any_account.store.role(role["Arn"].replace("1111", "2222")) is None


def test_metadata_of_a_database_from_before_is_parsed_once(any_account):
    any_account.run(create_saml_provider, Name="idp", SAMLMetadataDocument=metadata())
    any_account.run(create_saml_provider, Name="odd", SAMLMetadataDocument=metadata())
    table = schema.saml_provider
    with any_account.store.write() as tx:
        before = tx.execute(table.select().where(table.c.name == "idp")).one()
        unread = {"metadata": "<x/>"}
        tx.execute(table.update().where(table.c.name == "odd").values(unread))
        tx.execute(text("DROP INDEX ix_saml_provider_first_end"))
        tx.execute(text("DROP INDEX ix_saml_provider_sign_in_name"))
        for column in ("parsed", "entity_id", "certificates", "first_end", "metadata_size", "sign_in_name"):
            tx.execute(text(f"ALTER TABLE saml_provider DROP COLUMN {column}"))
        tx.execute(text("UPDATE alembic_version SET version_num = '0007'"))
    any_account.store.migrate()
    with any_account.store.read() as tx:
        assert tx.execute(table.select().where(table.c.name == "idp")).one() == before
        odd = tx.execute(table.select().where(table.c.name == "odd")).one()
        assert "ix_saml_provider_sign_in_name" in {index["name"] for index in inspect(tx).get_indexes(table.name)}
    assert (odd.parsed, odd.metadata_size, odd.sign_in_name) == (None, 4, None)
    assert any_account.store.saml_provider(IDP).metadata.entity_id == before.entity_id
    with pytest.raises(ServiceFailure):
        any_account.store.saml_provider(IDP.replace("idp", "odd"))


def test_a_database_from_before_saml_gets_its_tables_and_keeps_what_it_has(any_account):
    any_account.run(create_role, RoleName="r", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    with any_account.store.write() as tx:
        for table in (schema.saml_private_key, schema.saml_provider, schema.saml_service_key):
            table.drop(tx)
        tx.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    any_account.store.migrate()
    any_account.run(create_saml_provider, Name="idp", SAMLMetadataDocument=metadata())
    assert any_account.store.saml_provider(IDP).name == "idp"
    assert any_account.store.role("arn:aws:iam::111122223333:role/r") is not None


def test_a_saml_provider_is_kept_opened_until_it_changes(any_account):
    assert any_account.store.saml_provider(IDP) is None
    pem = key_pair("fedgate")[0].decode()
    any_account.run(create_saml_provider, Name="idp", SAMLMetadataDocument=metadata(), AddPrivateKey=pem)
    found = any_account.store.saml_provider(IDP)
    assert found is any_account.store.saml_provider(IDP)
    assert (found.name, found.metadata.entity_id, found.encryption_required) == ("idp", ENTITY_ID, False)
    assert [key.key_size for key in found.keys] == [2048]
    other = metadata(entity_id="https://other.example.com")
    any_account.run(update_saml_provider, SAMLProviderArn=IDP, SAMLMetadataDocument=other)
    assert any_account.store.saml_provider(IDP).metadata.entity_id == "https://other.example.com"
    for arn in (IDP.replace("idp", "IDP"), IDP.replace("aws", "aws-cn"), IDP.replace("1111", "2222"), "idp"):
        assert any_account.store.saml_provider(arn) is None
    any_account.run(delete_saml_provider, SAMLProviderArn=IDP)
    assert any_account.store.saml_provider(IDP) is None


def test_asking_again_for_nobody_reads_nothing_as_asking_again_for_somebody_does(any_account):
    made = any_account.run(create_role, RoleName="r", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))["Role"]
    gone = made["Arn"].replace("role/r", "role/gone")
    run = []

    def note(_connection, _cursor, sql, *_rest):
        run.append(sql)

    for ask in (lambda: any_account.store.role(made["Arn"]), lambda: any_account.store.role(gone),
                lambda: any_account.store.access_key("AKIAIOSFODNN7EXAMPLE")):  # fmt: skip
        first = ask()
        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert ask() is first
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    assert run == []
    born = any_account.run(create_role, RoleName="gone", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    assert any_account.store.role(gone).id == born["Role"]["RoleId"]


def test_a_flood_of_unknown_names_is_forgotten_and_does_no_harm(any_account):
    made = any_account.run(create_role, RoleName="r", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))["Role"]
    for number in range(MOST_UNKNOWN + 2):
        assert any_account.store.role(f"{made['Arn']}{number}") is None
    assert any_account.store.role(made["Arn"]).id == made["RoleId"]


def test_a_role_made_anew_is_another_role(any_account):
    p = {"RoleName": "r", "AssumeRolePolicyDocument": trust({"AWS": "111122223333"})}
    first = any_account.run(create_role, **p)["Role"]
    assert any_account.store.role(first["Arn"]).id == first["RoleId"]
    any_account.run(delete_role, RoleName="r")
    assert any_account.store.role(first["Arn"]) is None
    second = any_account.run(create_role, **p)["Role"]
    assert any_account.store.role(first["Arn"]).id == second["RoleId"] != first["RoleId"]
    assert any_account.store.role_by_id(first["RoleId"]) is None


def test_roles_are_found_by_the_provider_that_they_trust(any_account):
    action = "sts:AssumeRoleWithLDAPIdentity"
    mine = trust({"Federated": CORP}, action)
    refusing = mine.replace("Allow", "Deny")
    documents = {"a": mine, "b": trust({"AWS": "111122223333"}), "c": refusing, "d": mine}
    for name, document in documents.items():
        any_account.run(create_role, RoleName=name, AssumeRolePolicyDocument=document)
    trusting = any_account.store.roles_trusting
    assert {role.name for role in trusting("ldap-provider/corp")} == {"a", "d"}
    assert trusting(CORP) == trusting("ldap-provider/corp")
    assert trusting("ldap-provider/other") == ()
    any_account.run(update_assume_role_policy, RoleName="a", PolicyDocument=trust({"AWS": "111122223333"}))
    any_account.run(delete_role, RoleName="d")
    assert trusting("ldap-provider/corp") == ()


def test_roles_of_other_accounts_are_not_read_where_those_of_some_are_asked_for(any_account, open_store, url):
    document = trust({"Federated": CORP}, "sts:AssumeRoleWithLDAPIdentity")
    with any_account.store.write() as tx:
        create_account(
            tx, account_id="444455556666", now=any_account.now, random=any_account.random, vault=any_account.vault
        )
    tenant = replace(any_account, id="444455556666", random=os.urandom)
    any_account.run(create_role, RoleName="mine", AssumeRolePolicyDocument=document)
    for number in range(3):
        tenant.run(create_role, RoleName=f"theirs{number}", AssumeRolePolicyDocument=document)
    store, here = open_store(url), frozenset({"111122223333", "999999999999"})
    with statements(store.engine) as asked:
        assert [role.name for role in store.roles_trusting(CORP, here)] == ["mine"]
        first = len(asked)
        assert [role.name for role in store.roles_trusting(CORP, here)] == ["mine"]
        assert len(asked) == first, "it is cached"
    assert {role.account_id for role in store._cache.roles.values()} == {"111122223333"}
    assert len(store.roles_trusting(CORP, frozenset({"444455556666"}))) == 3
    assert store.roles_trusting(CORP, frozenset()) == ()
    assert len(store.roles_trusting(CORP)) == 4


@contextmanager
def statements(engine):
    """Collect what is sent to the database."""
    asked = []

    def note(_connection, _cursor, statement, *_more):
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


PARTIES = {
    "root": ({"AWS": "arn:aws:iam::444455556666:root"}, {"account/444455556666"}),
    "bare id": ({"AWS": ["444455556666", "111122223333"]}, {"account/444455556666", "account/111122223333"}),
    "everyone": ("*", {"account/*"}),
    "everyone of AWS": ({"AWS": "*"}, {"account/*"}),
    "user": ({"AWS": "arn:aws:iam::111122223333:user/x/ann"}, {"account/111122223333"}),
    "session": ({"AWS": "arn:aws:sts::111122223333:assumed-role/r/s"}, {"account/111122223333"}),
    "twice": ({"AWS": ["111122223333", "arn:aws:iam::111122223333:user/x/ann"]}, {"account/111122223333"}),
    "provider": ({"Federated": CORP, "AWS": "444455556666"}, {"ldap-provider/corp", "account/444455556666"}),
    "service": ({"Service": "ec2.amazonaws.com"}, set()),
}


def filed(any_account):
    """Return under which parties each role is filed, by the role's name."""
    role, row = schema.role.c, schema.role_federated.c
    with any_account.store.read() as tx:
        query = select(role.name, row.provider).join(schema.role_federated, row.role_id == role.id)
        found = {}
        for name, party in tx.execute(query):
            found.setdefault(name, set()).add(party)
        return found


def with_every_party(any_account):
    any_account.run(create_user, UserName="ann", Path="/x/")
    any_account.run(create_role, RoleName="r", AssumeRolePolicyDocument=trust("*").replace("Allow", "Deny"))
    actions = {"provider": "sts:TagSession"}
    for number, (name, (principal, _parties)) in enumerate(PARTIES.items()):
        document = trust(principal, actions.get(name, "sts:AssumeRole"))
        any_account.run(create_role, RoleName=f"r{number}", AssumeRolePolicyDocument=document)
    wanted = {f"r{number}": parties for number, (_principal, parties) in enumerate(PARTIES.values())}
    return {name: parties for name, parties in wanted.items() if parties}


def test_a_role_is_filed_under_each_account_that_its_trust_policy_lets_in(any_account):
    assert filed(any_account) == {}
    wanted = with_every_party(any_account)
    assert filed(any_account) == wanted
    trusting = any_account.store.roles_trusting
    for party in ("account/444455556666", "account/111122223333", "account/*", "ldap-provider/corp"):
        assert {role.name for role in trusting(party)} == {name for name, found in wanted.items() if party in found}
    assert trusting("account/999999999999") == ()
    for name in wanted:
        any_account.run(delete_role, RoleName=name)
    assert filed(any_account) == {}


def test_who_is_spared_by_an_allow_leaves_everyone_else_in(any_account):
    document = trust("*").replace("Principal", "NotPrincipal").replace('"*"', '{"AWS": "444455556666"}')
    any_account.run(create_role, RoleName="r", AssumeRolePolicyDocument=document)
    assert filed(any_account) == {"r": {"account/*"}}
    from_before_pages(any_account)
    any_account.store.migrate()
    assert filed(any_account) == {"r": {"account/*"}}


def from_before_pages(any_account):
    """Leave the database as the sixth step had made it."""
    row = schema.role_federated
    with any_account.store.write() as tx:
        for table in (schema.root_login, schema.second_factor, schema.recovery_code, schema.role_mark):
            table.drop(tx)
        tx.execute(delete(row).where(row.c.provider.startswith("account/")))
        tx.execute(text("UPDATE alembic_version SET version_num = '0006'"))


def test_a_database_from_before_the_pages_files_its_roles_as_they_would_be_filed_today(any_account, open_store, url):
    wanted = with_every_party(any_account)
    from_before_pages(any_account)
    assert filed(any_account) == {"r7": {"ldap-provider/corp"}}
    any_account.store.migrate()
    assert filed(any_account) == wanted
    with any_account.store.read() as tx:
        for table in (schema.root_login, schema.second_factor, schema.recovery_code, schema.role_mark):
            assert tx.execute(select(table)).all() == []
    assert {role.name for role in open_store(url).roles_trusting("account/444455556666")} == {"r0", "r1", "r7"}


@pytest.mark.parametrize(
    "unreadable",
    ["", "{", "[]", "null", '"x"', '{"Statement": 1}', '{"Statement": [[], null, {"Effect": "Allow"}]}',
     '{"Statement": {"Effect": "Allow", "Principal": {"AWS": [1, null, "x", "arn:aws:iam::1:root", "١٢٣٤٥٦٧٨٩٠١٢"]}}}'],
)  # fmt: skip
def test_a_trust_policy_that_cannot_be_read_is_filed_nowhere_and_stops_no_migration(account, unreadable):
    account.run(create_role, RoleName="good", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))
    bad = account.run(create_role, RoleName="bad", AssumeRolePolicyDocument=trust({"AWS": "111122223333"}))["Role"]
    from_before_pages(account)
    with account.store.write() as tx:
        tx.execute(update(schema.role).where(schema.role.c.id == bad["RoleId"]).values(trust=unreadable))
    account.store.migrate()
    assert filed(account) == {"good": {"account/111122223333"}}


def test_a_role_has_its_description_and_the_moment_it_was_made(any_account):
    p = {"AssumeRolePolicyDocument": trust({"AWS": "111122223333"})}
    for name, more in (("told", {"Description": "For the night shift"}), ("silent", {})):
        any_account.run(create_role, RoleName=name, **p, **more)
    told, silent = (any_account.store.role_by_name("111122223333", name) for name in ("told", "silent"))
    assert (told.description, silent.description) == ("For the night shift", "")
    assert told.created == silent.created == int(any_account.now.timestamp() * 1000)


def bound_ids(role):
    return {one.value: one.bound_id for statement in role.trust.policies[0].statements for one in statement.principals}


def test_a_trust_policy_means_who_bore_the_name_when_it_was_written(any_account):
    run, store = any_account.run, any_account.store
    ann = run(create_user, UserName="ann")["User"]
    document = trust({"AWS": [ann["Arn"], "111122223333"]})
    role = run(create_role, RoleName="r", AssumeRolePolicyDocument=document)["Role"]
    account = {"111122223333": ""}
    assert bound_ids(store.role(role["Arn"])) == {ann["Arn"]: ann["UserId"], **account}
    run(update_user, UserName="ann", NewUserName="anna", NewPath="/x/")
    namesake = run(create_user, UserName="ann")["User"]
    named = store.role(role["Arn"]).trust.policies[0].statements[0].principals[0]
    assert principal_match(named, as_principal(store, ann["UserId"])) is PrincipalMatch.CALLER
    assert principal_match(named, as_principal(store, namesake["UserId"])) is PrincipalMatch.NOBODY
    run(delete_user, UserName="anna")
    assert bound_ids(store.role(role["Arn"])) == {ann["Arn"]: ann["UserId"], **account}
    assert principal_match(named, as_principal(store, namesake["UserId"])) is PrincipalMatch.NOBODY


def as_principal(store, user_id):
    user = store.user(user_id)
    return Principal(PrincipalKind.USER, user.account_id, user.arn, user.id, user.arn, user.id, user.name)


def test_accounts_are_found_by_id_and_alias(any_account):
    store = any_account.store
    assert store.account("111122223333") == store.account_by_alias("acme")
    assert store.account("999999999999") is None
    assert store.account_by_alias("none") is None


def test_a_later_use_of_a_key_is_written_down_and_an_earlier_one_is_not(any_account):
    key = any_account.run(create_access_key)["AccessKey"]["AccessKeyId"]
    for at, service in ((2000, "sts"), (1000, "iam")):
        with any_account.store.write(bump_revision=False) as tx:
            record_key_use(tx, key, at, service, "us-east-1")
    columns = schema.access_key.c
    with any_account.store.read() as tx:
        query = select(columns.last_used, columns.last_used_service).where(columns.id == key)
        assert tx.execute(query).one() == (2000, "sts")
