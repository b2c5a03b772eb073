"""The gate: its order, what it records, and how it fails: closed, in words that tell a stranger nothing."""

import json
import logging
import os
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from redis import Redis
from sqlalchemy import event, update
from support.directories import demo_ldif, running_demo_directory
from support.documents import allow, trust
from support.installation import Answer, Installation, environment, wrong_secret
from support.servers import eventually, redis_server
from support.wire import FORM, HOST, Signer, Wire

from broker import wiring
from broker.api import model
from broker.audit import chain
from broker.demo.people import BASE, LDIF, SERVICE, people, service_password
from iam.arn import root_arn
from iam.store.revocation import revoke
from iam.store.schema import account as account_table

ROLE_SESSION = {"RoleSessionName": "session"}
SIGNED = [operation for operation in model.load_models().operations() if not operation.unsigned]


def records(installation: Installation) -> list[dict]:
    return [json.loads(line) for line in installation.services.storage.audit.path.read_text().splitlines()]


def a_user(installation: Installation, root: tuple[str, Credentials]) -> tuple[Credentials, str]:
    """Make ann, who may do everything, and a role that lets her in; return her key and the role's ARN."""
    account_id, credentials = root
    document = allow("*")
    assert installation.call("CreateUser", credentials, UserName="ann").status == 200
    put = {"UserName": "ann", "PolicyName": "p", "PolicyDocument": document}
    assert installation.call("PutUserPolicy", credentials, **put).status == 200
    made = installation.call("CreateAccessKey", credentials, UserName="ann")
    role = {"RoleName": "open", "AssumeRolePolicyDocument": trust({"AWS": root_arn(account_id)})}
    assert installation.call("CreateRole", credentials, **role).status == 200
    key = Credentials(made.text("AccessKeyId"), made.text("SecretAccessKey"))
    return key, f"arn:aws:iam::{account_id}:role/open"


def live(installation: Installation, account_id: str) -> list:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return list(installation.services.storage.live_sessions.list_live(account_id, now_ms))


def minting(arn: str) -> list[tuple[str, dict[str, str]]]:
    return [
        ("GetSessionToken", {}),
        ("GetFederationToken", {"Name": "fed"}),
        ("AssumeRole", {"RoleArn": arn, **ROLE_SESSION}),
    ]


CHANGING = [
    ("CreateUser", {"UserName": "bob"}),
    ("CreateAccessKey", {"UserName": "ann"}),
    ("PutUserPolicy", {"UserName": "ann", "PolicyName": "q", "PolicyDocument": allow("*")}),
]


# --- the list of live sessions ----------------------------------------------------------------------------------------


def test_a_listed_session_says_which_operation_made_it_and_for_which_client(installation, root):
    key, arn = a_user(installation, root)
    agent = {"User-Agent": "\x1b[31maws-cli/2.38.5 " + "x" * 500}
    made = [installation.call(name, key, agent, **p).credentials.access_key for name, p in minting(arn)]
    listed = {one.access_key_id: one for one in live(installation, root[0])}
    assert [listed[one].made_by for one in made] == ["GetSessionToken", "GetFederationToken", "AssumeRole"]
    assert {listed[one].user_agent for one in made} == {agent["User-Agent"][:120]}


def test_every_request_that_a_session_signs_is_its_last_use_and_no_other_is(installation, root, clock):
    account_id, sessions = root[0], installation.services.storage.live_sessions
    key, arn = a_user(installation, root)
    own = installation.call("GetSessionToken", key).credentials
    taken = installation.call("AssumeRole", key, RoleArn=arn, **ROLE_SESSION).credentials
    ids = {one.access_key_id: one.id for one in live(installation, account_id)}
    assert sessions.last_used(account_id, list(ids.values())) == {}
    assert installation.call("GetCallerIdentity", wrong_secret(own)).code == "SignatureDoesNotMatch"
    assert sessions.last_used(account_id, list(ids.values())) == {}
    clock.advance(seconds=100)
    before = int(clock().timestamp() * 1000)
    assert installation.call("GetCallerIdentity", taken).status == 200
    assert installation.call("ListUsers", own).status == 403, (
        "a session without MFA may not, and it was used all the same"
    )
    used = sessions.last_used(account_id, list(ids.values()))
    assert set(used) == {ids[own.access_key], ids[taken.access_key]}
    assert all(before <= at <= int(clock().timestamp() * 1000) for at in used.values())


# --- order and coverage -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["sts", "iam"])
def test_no_operation_that_the_model_wants_signed_answers_without_a_signature(installation, service):
    asked = [operation for operation in SIGNED if operation.service == service]
    for operation in asked:
        form = f"Action={operation.name}&Version={operation.version}"
        answer = Wire("POST", "/", {"Host": HOST, "Content-Type": FORM}, form.encode()).send(installation)
        assert (answer.status, answer.code) == (403, "MissingAuthenticationToken"), operation.name
    assert [record["eventName"] for record in records(installation)] == [operation.name for operation in asked]


def test_a_signature_for_one_service_opens_no_operation_of_the_other(installation, root):
    form = "Action=ListUsers&Version=2010-05-08"
    assert Signer(root[1], service="iam").signed(form).send(installation).status == 200
    answer = Signer(root[1], service="sts").signed(form).send(installation)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert "'iam'" in answer.message


def test_who_signed_is_asked_before_the_parameters_are_looked_at(installation, root):
    stranger = Credentials(root[1].access_key, "x" * 40)
    assert installation.call("GetAccessKeyInfo", stranger, AccessKeyId="").code == "SignatureDoesNotMatch"
    assert installation.call("GetAccessKeyInfo", root[1], AccessKeyId="").code == "ValidationError"


def test_an_operation_that_is_not_built_says_so_and_is_recorded(installation, root):
    answer = installation.call("GetDelegatedAccessToken", root[1], TradeInToken="x")
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert [record["errorCode"] for record in records(installation)] == ["NotImplemented"]


def test_a_change_is_recorded_in_the_database_and_in_the_log_under_one_id(installation, root):
    answer = installation.call("CreateUser", root[1], UserName="ann")
    kept = [record for record in records(installation) if record["eventName"] == "CreateUser"]
    assert [record["requestID"] for record in kept] == [answer.headers["x-amzn-RequestId"]]
    with installation.store.read() as tx:
        rows = tx.exec_driver_sql("SELECT event_id, record FROM audit_record").all()
    assert [(row.event_id, json.loads(row.record)["requestID"]) for row in rows] == [
        (kept[0]["eventID"], kept[0]["requestID"])
    ]


def test_a_refused_change_leaves_no_row_and_one_record(installation, root):
    installation.call("CreateUser", root[1], UserName="ann")
    answer = installation.call("CreateUser", root[1], UserName="ann")
    assert (answer.status, answer.code) == (409, "EntityAlreadyExists")
    with installation.store.read() as tx:
        assert tx.exec_driver_sql("SELECT count(*) FROM audit_record").scalar() == 1
    assert [record.get("errorCode") for record in records(installation)] == [None, "EntityAlreadyExists"]


def test_the_secret_of_a_new_key_is_told_once_and_written_nowhere(installation, root, caplog):
    caplog.set_level(logging.DEBUG)
    key, arn = a_user(installation, root)
    made = installation.call("AssumeRole", key, RoleArn=arn, **ROLE_SESSION).credentials
    everything = b"".join(path.read_bytes() for path in installation.folder.rglob("*") if path.is_file())
    for secret in (root[1].secret_key, key.secret_key, made.secret_key, made.token):
        assert secret.encode() not in everything
        assert secret not in caplog.text
    assert installation.call("GetCallerIdentity", made).status == 200


# --- sign-in with a password ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the demonstration directory."""
    with running_demo_directory(demo_ldif(tmp_path_factory.mktemp("directory"))) as url:
        yield url


def with_directory(folder: Path, redis_url: str, directory: str, **more: str) -> Installation:
    config = folder / "fedgate.toml"
    config.write_text(
        f"""
[directory.corp]
type = "ldap"
urls = ["{directory}"]
bind_dn = "{SERVICE}"
bind_password = "{service_password(LDIF)}"
user_base = "ou=people,{BASE}"
""",
        encoding="utf-8",
    )
    installation = Installation(folder, environment(folder, redis_url, FEDGATE_CONFIG=str(config), **more))
    account_id, root = installation.account()
    principal = {"Federated": f"arn:aws:iam::{account_id}:ldap-provider/corp"}
    document = trust(principal, "sts:AssumeRoleWithLDAPIdentity")
    made = installation.call("CreateRole", root, RoleName="people", AssumeRolePolicyDocument=document)
    assert made.status == 200, made.message
    return installation


@pytest.fixture
def corp(tmp_path: Path, redis_url: str, directory: str) -> Iterator[Installation]:
    """An installation with the demonstration directory and one role that trusts it."""
    installation = with_directory(tmp_path, redis_url, directory)
    yield installation
    installation.close()


@pytest.fixture(scope="module")
def person():
    """Somebody in the demonstration directory."""
    return people(LDIF)[0]


def sign_in(installation: Installation, username: str, password: str) -> Answer:
    return installation.call("AssumeRoleWithLDAPIdentity", None, LDAPUsername=username, LDAPPassword=password)


def test_a_sign_in_leaves_two_records_of_one_request_and_no_password(corp, person, caplog):
    caplog.set_level(logging.DEBUG)
    before = len(records(corp))
    answer = sign_in(corp, person.name, person.password)
    assert answer.status == 200, answer.message
    new = records(corp)[before:]
    assert [record["eventName"] for record in new] == ["DirectorySignIn", "AssumeRoleWithLDAPIdentity"]
    assert {record["requestID"] for record in new} == {answer.headers["x-amzn-RequestId"]}
    assert new[1]["responseElements"]["credentials"]["accessKeyId"] == answer.credentials.access_key
    written = json.dumps(new) + caplog.text
    for secret in (person.password, answer.credentials.secret_key, answer.credentials.token):
        assert secret not in written
    assert corp.call("GetCallerIdentity", answer.credentials).status == 200


def test_a_wrong_password_and_an_unknown_name_are_refused_in_the_same_words(corp, person, caplog):
    caplog.set_level(logging.DEBUG)
    before = len(records(corp))
    told = [sign_in(corp, name, "wrong-all-the-same") for name in (person.name, "nobody-of-that-name")]
    assert {(answer.status, answer.code, answer.message) for answer in told} == {
        (403, "IDPRejectedClaim", told[0].message)
    }
    new = records(corp)[before:]
    assert [record["eventName"] for record in new] == ["DirectorySignIn", "AssumeRoleWithLDAPIdentity"] * 2
    assert "wrong-all-the-same" not in json.dumps(new) + caplog.text


LDAP_FORM = "Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15"


@pytest.mark.parametrize("allowed", ["false", "true"])
def test_a_password_in_the_query_of_a_get_is_always_refused(tmp_path, redis_url, directory, person, allowed, caplog):
    caplog.set_level(logging.DEBUG)
    installation = with_directory(tmp_path, redis_url, directory, FEDGATE_ALLOW_PASSWORD_IN_QUERY=allowed)
    before = len(records(installation))
    query = f"{LDAP_FORM}&LDAPUsername={person.name}&LDAPPassword={person.password}"
    answer = Wire("GET", f"/?{query}", {"Host": HOST}).send(installation)
    written = json.dumps(records(installation)[before:]) + caplog.text + answer.body.decode()
    installation.close()
    assert (answer.status, answer.code) == (400, "InvalidInput")
    assert person.password not in written


@pytest.mark.parametrize(("allowed", "status"), [("false", 400), ("true", 200)])
def test_a_password_in_the_query_of_a_post_needs_the_operators_leave(
    tmp_path, redis_url, directory, person, allowed, status
):
    installation = with_directory(tmp_path, redis_url, directory, FEDGATE_ALLOW_PASSWORD_IN_QUERY=allowed)
    query = f"{LDAP_FORM}&LDAPUsername={person.name}&LDAPPassword={person.password}"
    answer = Wire("POST", f"/?{query}", {"Host": HOST}).send(installation)
    written = installation.services.storage.audit.path.read_text()
    installation.close()
    assert answer.status == status
    assert person.password not in written


@pytest.mark.parametrize(
    "name", ["ann\x1b[2jforged", "ann\n2026-11-23 critical forged", "ann\x85forged", "ann\x00forged"]
)
def test_a_name_with_control_characters_forges_no_line_of_the_log(corp, caplog, name):
    caplog.set_level(logging.INFO)
    subject = "corp|" + " ".join(name.split())
    for _ in range(5):
        corp.services.sign_ins.ldap.throttle.record_failure(subject, "127.0.0.1", wiring.now())
    answer = sign_in(corp, name, "x")
    assert (answer.status, answer.code) == (429, "Throttling")
    assert int(answer.headers["Retry-After"]) > 0
    assert "forged" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_without_redis_credentials_are_minted_and_verified_as_ever(tmp_path):
    nowhere = f"unix://{tmp_path}/none.sock"
    installation = Installation(tmp_path, environment(tmp_path, nowhere))
    root = installation.account()
    key, arn = a_user(installation, root)
    answer = installation.call("AssumeRole", key, RoleArn=arn, **ROLE_SESSION)
    assert answer.status == 200
    identity = installation.call("GetCallerIdentity", answer.credentials)
    installation.close()
    assert identity.text("Arn").endswith(":assumed-role/open/session")


def test_a_deleted_key_and_a_deleted_role_are_refused_after_redis_was_lost(tmp_path):
    with redis_server() as url:
        installation = Installation(tmp_path, environment(tmp_path, url))
        root = installation.account()
        key, arn = a_user(installation, root)
        session = installation.call("AssumeRole", key, RoleArn=arn, **ROLE_SESSION).credentials
        with Redis.from_url(url) as client:
            client.flushall()
        assert installation.call("GetCallerIdentity", session).status == 200
    assert installation.call("GetCallerIdentity", session).status == 200
    gone = [
        installation.call("DeleteAccessKey", root[1], UserName="ann", AccessKeyId=key.access_key),
        installation.call("DeleteRole", root[1], RoleName="open"),
    ]
    after = [installation.call("GetCallerIdentity", one) for one in (key, session)]
    installation.close()
    assert [answer.status for answer in gone] == [200, 200]
    assert {(answer.status, answer.code) for answer in after} == {(403, "InvalidClientTokenId")}


def test_a_revocation_made_while_redis_is_away_holds_at_once_and_for_every_worker(tmp_path):
    installation = Installation(tmp_path, environment(tmp_path, f"unix://{tmp_path}/none.sock"))
    account_id, root = installation.account()
    session = installation.call("GetSessionToken", root).credentials
    other = installation.another_worker()
    assert other.call("GetCallerIdentity", session).status == 200
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    with installation.store.write() as tx:
        revoke(tx, "account", account_id, now_ms=now_ms, random=os.urandom)
    assert installation.call("GetCallerIdentity", session).code == "InvalidClientTokenId"
    eventually(lambda: other.call("GetCallerIdentity", session).code == "InvalidClientTokenId")
    other.close()
    installation.close()


def test_a_session_minted_without_redis_is_listed_when_redis_is_back(tmp_path):
    socket = tmp_path / "moved.sock"
    installation = Installation(tmp_path, environment(tmp_path, f"unix://{socket}"))
    account_id, root = installation.account()
    first = installation.call("GetSessionToken", root).credentials.access_key
    with redis_server() as url:
        socket.symlink_to(url.removeprefix("unix://"))
        time.sleep(1.1)  # after a failure Redis is left alone for a second
        second = installation.call("GetSessionToken", root).credentials.access_key
        listed = {session.access_key_id for session in live(installation, account_id)}
    installation.close()
    assert listed == {first, second}


def read_only(installation: Installation) -> None:
    """Let every connection from now on read and not write."""
    event.listen(installation.store.engine, "connect", lambda one, _record: one.execute("PRAGMA query_only = ON"))
    installation.store.engine.dispose()


def test_a_read_only_store_answers_and_mints_for_existing_roles_and_refuses_changes(installation, root):
    key, arn = a_user(installation, root)
    read_only(installation)
    for action, parameters in (*minting(arn), ("GetCallerIdentity", {}), ("ListUsers", {})):
        assert installation.call(action, key, **parameters).status == 200, action
    before = len(records(installation))
    for action, parameters in CHANGING:
        answer = installation.call(action, key, **parameters)
        assert (answer.status, answer.code) == (503, "ServiceFailure"), action
        assert "readonly" not in answer.message.lower()
        assert b"<SecretAccessKey>" not in answer.body
    assert [record["errorCode"] for record in records(installation)[before:]] == ["ServiceFailure"] * 3
    assert installation.call("ListUsers", key).body.count(b"<UserName>") == 1


def test_without_an_audit_log_nothing_is_minted_changed_or_told(installation, root):
    key, arn = a_user(installation, root)
    installation.services.storage.audit.close()
    for action, parameters in (*CHANGING, *minting(arn), ("GetCallerIdentity", {}), ("ListUsers", {})):
        answer = installation.call(action, key, **parameters)
        assert (answer.status, answer.code) == (503, "ServiceUnavailable"), action
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.text("Type") == "Receiver"
        for word in (b"<SecretAccessKey>", b"<SessionToken>", root[0].encode(), b"descriptor"):
            assert word not in answer.body
    assert live(installation, root[0]) == []
    other = installation.another_worker()
    assert other.call("ListUsers", key).body.count(b"<UserName>") == 1
    assert other.call("ListAccessKeys", key).body.count(b"<AccessKeyId>") == 1
    assert other.call("ListUserPolicies", key, UserName="ann").body.count(b"<member>") == 1
    other.close()


def test_a_full_disk_refuses_everything_until_there_is_room_and_the_log_stays_whole(installation, root):
    key, arn = a_user(installation, root)
    path = installation.services.storage.audit.path
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files is a disk that is full, for this process.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        told = [installation.call(action, key, **parameters) for action, parameters in (*minting(arn), *CHANGING)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {(answer.status, answer.code) for answer in told} == {(503, "ServiceUnavailable")}
    assert live(installation, root[0]) == []
    assert installation.call("ListUsers", key).body.count(b"<UserName>") == 1
    for action, parameters in (*minting(arn), *CHANGING):
        assert installation.call(action, key, **parameters).status == 200, action
    assert chain.verify(path).fault == ""


def test_a_fault_that_nobody_foresaw_tells_the_caller_an_id_and_the_operator_the_rest(installation, root, caplog):
    with installation.store.write() as tx:
        tx.execute(update(account_table).values(password_policy="garbage, no JSON"))
    answer = installation.call("GetAccountPasswordPolicy", root[1])
    assert (answer.status, answer.code) == (500, "InternalFailure")
    assert answer.text("Type") == "Receiver"
    assert answer.message == "An internal error occurred."
    told = answer.headers["x-amzn-RequestId"]
    assert answer.text("RequestId") == told
    for word in (b"garbage", b"JSON", b"Traceback", b"Error:", b".py"):
        assert word not in answer.body
    assert f"request {told} failed" in caplog.text
    assert "JSONDecodeError" in caplog.text
    assert [(record["errorCode"], record["requestID"]) for record in records(installation)] == [
        ("InternalFailure", told)
    ]
    assert installation.call("GetCallerIdentity", root[1]).status == 200


def test_a_fault_inside_a_change_takes_the_change_back(installation, root):
    a_user(installation, root)
    with installation.store.write() as tx:
        tx.exec_driver_sql("UPDATE iam_role SET trust_ids = 'garbage'")
    answer = installation.call("UpdateRoleDescription", root[1], RoleName="open", Description="changed")
    assert (answer.status, answer.code) == (500, "InternalFailure")
    with installation.store.write() as tx:
        tx.exec_driver_sql("UPDATE iam_role SET trust_ids = '{}'")
    assert installation.call("GetRole", root[1], RoleName="open").text("Description") is None


def test_a_database_that_is_none_any_more_answers_503_and_lets_nobody_in(installation, root):
    assert installation.call("GetCallerIdentity", root[1]).status == 200
    installation.store.engine.dispose()
    database = Path(installation.store.engine.url.database)
    for path in database.parent.glob(f"{database.name}*"):
        path.write_bytes(b"garbage" * 1000)
    stranger = Credentials("AKIAQAAAAAAAAAAAAAAA", "x" * 40)
    told = [
        installation.call("ListUsers", root[1]),
        installation.call("CreateUser", root[1], UserName="ann"),
        installation.call("GetCallerIdentity", stranger),
    ]
    assert {answer.status for answer in told} == {503}
    assert not any(b"database" in answer.body for answer in told)
