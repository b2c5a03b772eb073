"""`fedgate demo`: one line that says everything, credentials that work, and nothing left behind."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from support.broker_process import (
    FEDGATE,
    alive,
    client,
    command_line,
    descendants,
    environment,
    fetch,
    running_demo,
    sign_in,
)
from support.servers import HANG, eventually

from broker.demo.reports import signed_requests
from iam.distinguished_names import normalize_dn


def stopped(demo) -> int:
    """End a demonstration as a supervisor does; return its exit status."""
    demo.process.send_signal(signal.SIGTERM)
    return demo.process.wait(HANG)


def test_the_line_has_the_members_that_others_rely_on(demo):
    assert demo.line.endswith(b"\n")
    assert demo.line.isascii()
    facts = demo.facts
    assert list(facts) == [
        "endpoint",
        "sign_in_url",
        "account_id",
        "root",
        "admin",
        "directory",
        "roles",
        "reports_url",
    ]
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d+", facts["endpoint"])
    assert re.fullmatch(r"\d{12}", facts["account_id"])
    for owner in ("root", "admin"):
        more = {"root": ["email", "password"], "admin": ["password"]}[owner]
        assert list(facts[owner]) == ["access_key_id", "secret_access_key", *more]
        assert len(facts[owner]["password"]) == 24
        assert re.fullmatch(r"AKIA[A-Z2-7]{16}", facts[owner]["access_key_id"])
        assert len(facts[owner]["secret_access_key"]) == 40
    assert list(facts["directory"]) == ["url", "users"]
    assert facts["directory"]["url"].startswith("ldap://127.0.0.1:")
    assert all(list(user) == ["name", "password", "groups"] for user in facts["directory"]["users"])
    assert all(list(role) == ["arn", "trusted_groups"] for role in facts["roles"])


def test_the_groups_of_people_and_of_roles_are_the_same_names(demo):
    of_people = {dn for user in demo.facts["directory"]["users"] for dn in user["groups"]}
    of_roles = {dn for role in demo.facts["roles"] for dn in role["trusted_groups"]}
    assert of_roles
    assert of_roles <= of_people
    assert all(dn == normalize_dn(dn) and dn.count(",") >= 2 for dn in of_people | of_roles)


def test_everybody_gets_exactly_the_roles_that_the_line_promises(demo):
    for user in demo.facts["directory"]["users"]:
        for role in demo.facts["roles"]:
            promised = set(user["groups"]) & set(role["trusted_groups"])
            answer = sign_in(demo.endpoint, user["name"], role=role["arn"], password=user["password"])
            assert answer.status == (200 if promised else 403), (user["name"], role["arn"])


def test_both_keys_of_the_line_work(demo):
    root = client("sts", demo.endpoint, demo.root).get_caller_identity()
    assert root["Arn"] == f"arn:aws:iam::{demo.facts['account_id']}:root"
    admin = client("sts", demo.endpoint, demo.admin).get_caller_identity()
    assert admin["Arn"] == f"arn:aws:iam::{demo.facts['account_id']}:user/admin"
    client("iam", demo.endpoint, demo.admin).list_users()


def test_the_printed_requests_open_the_api_of_the_demo_and_show_a_denial(demo):
    passwords = {user["name"]: user["password"] for user in demo.facts["directory"]["users"]}
    role = f"arn:aws:iam::{demo.facts['account_id']}:role/ReadOnly"
    carol = sign_in(demo.endpoint, "carol", role=role, password=passwords["carol"]).credentials
    exported = {
        "AWS_ACCESS_KEY_ID": carol.access_key,
        "AWS_SECRET_ACCESS_KEY": carol.secret_key,
        "AWS_SESSION_TOKEN": carol.token,
    }
    answers = []
    for command in signed_requests(demo.facts["reports_url"]):
        ran = subprocess.run(
            ["bash", "-c", f'PATH="$(dirname {sys.executable}):$PATH"\n{command}'],
            env=environment(demo.folder, **exported),
            capture_output=True,
            text=True,
            timeout=HANG,
            check=True,
        )
        answers.append(json.loads(ran.stdout))
    read, deletion, read_by_boto3 = answers
    arn = f"arn:aws:sts::{demo.facts['account_id']}:assumed-role/ReadOnly/carol"
    assert read == read_by_boto3 == {"report": "finance", "method": "GET", "sent by": arn}
    assert deletion["message"].endswith("because no identity-based policy allows the execute-api:Invoke action")


def test_people_add_to_the_file_of_people_and_sign_in(demo):
    ldif = demo.folder / "data" / "people.ldif"
    person = (
        "\ndn: uid=grace,ou=people,dc=corp,dc=example\nobjectClass: inetOrgPerson\nobjectClass: person\nuid: grace\n"
        "cn: Grace\nsn: Hopper\nuserPassword: nanoseconds-of-wire\nentryUUID: 3d1f6d0c-6a0e-4a9b-8c55-0f6b7f1b0a77\n"
        "\ndn: cn=navy,ou=groups,dc=corp,dc=example\nobjectClass: groupOfNames\ncn: navy\n"
        "member: uid=grace,ou=people,dc=corp,dc=example\n"
    )
    ldif.write_text(ldif.read_text() + person)
    answer = eventually(
        lambda: (got := sign_in(demo.endpoint, "grace", password="nanoseconds-of-wire")).code == "AccessDenied" and got
    )
    assert answer.status == 403  # the directory knows her, and no role trusts her


def test_a_second_demo_in_the_same_folder_says_why_it_does_not_start(demo):
    data = demo.folder / "data"
    command = [FEDGATE, "demo", "--data", str(data), "--bind", "127.0.0.1:0", "--json"]
    done = subprocess.run(
        command, env=environment(demo.folder), capture_output=True, text=True, timeout=HANG, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert str(data) in done.stderr
    assert "Traceback" not in done.stderr
    assert fetch(f"{demo.endpoint}/readyz").status == 200


def test_a_port_that_is_taken_is_said_in_one_line(demo, tmp_path):
    bind = demo.endpoint.removeprefix("http://")
    command = [FEDGATE, "demo", "--data", str(tmp_path / "data"), "--bind", bind, "--json"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Cannot listen on {bind}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_it_ends_with_status_0_leaves_nothing_and_finds_its_data_again(tmp_path: Path, ending):
    with running_demo(tmp_path) as first:
        iam = client("iam", first.endpoint, first.admin)
        iam.create_user(UserName="kept")
        family = descendants(first.process.pid)
        lines = [command_line(pid) for pid in family]
        assert any("redis-server" in line for line in lines)
        assert any("broker.demo.directory" in line for line in lines)
        assert sum("gunicorn" in line for line in lines) >= 3
        first.process.send_signal(ending)
        assert first.process.wait(HANG) == 0
        assert first.rest() == b""
        eventually(lambda: not any(map(alive, family)))
    assert b"Traceback" not in (tmp_path / "demo.log").read_bytes()
    new_keys = ["--new-keys"] if ending == signal.SIGINT else []
    with running_demo(tmp_path, *new_keys) as second:
        for owner in ("root", "admin"):
            same = second.facts[owner]["access_key_id"] == first.facts[owner]["access_key_id"]
            assert (same, second.facts[owner]["secret_access_key"] is None) == (
                (False, False) if new_keys else (True, True)
            )
        assert second.facts["roles"] == first.facts["roles"]
        admin = second.admin if new_keys else first.admin
        users = client("iam", second.endpoint, admin).list_users()["Users"]
        assert {user["UserName"] for user in users} == {"admin", "kept"}
        if new_keys:
            for old in (first.admin, first.root):
                sts = client("sts", second.endpoint, old)
                with pytest.raises(sts.exceptions.ClientError, match="InvalidClientTokenId"):
                    sts.get_caller_identity()
        assert stopped(second) == 0


def test_killed_without_warning_it_leaves_no_children_and_its_data_whole(tmp_path: Path):
    with running_demo(tmp_path) as first:
        client("iam", first.endpoint, first.admin).create_user(UserName="kept")
        family = descendants(first.process.pid)
        first.process.kill()
        first.process.wait()
        eventually(lambda: not any(map(alive, family)))
    with running_demo(tmp_path) as second:
        users = client("iam", second.endpoint, first.admin).list_users()["Users"]
        assert "kept" in {user["UserName"] for user in users}


def test_two_demos_in_two_folders_know_nothing_of_each_other(demo, tmp_path: Path):
    with running_demo(tmp_path) as other:
        assert other.endpoint != demo.endpoint
        assert other.facts["admin"] != demo.facts["admin"]
        sts = client("sts", demo.endpoint, other.admin)
        with pytest.raises(sts.exceptions.ClientError, match="InvalidClientTokenId"):
            sts.get_caller_identity()


def test_what_lies_in_the_folder_is_for_its_owner_alone_and_holds_no_secret_in_clear(demo):
    data = demo.folder / "data"
    assert data.stat().st_mode & 0o077 == 0
    kinds = ("secret_access_key", "password")
    secrets = [demo.facts[owner][kind].encode() for owner in ("root", "admin") for kind in kinds]
    for file in data.rglob("*"):
        if file.is_file() and file.name != "people.ldif":
            octets = file.read_bytes()
            assert not any(secret in octets for secret in secrets), file


def test_for_people_it_prints_what_to_copy(tmp_path: Path):
    command = [FEDGATE, "demo", "--data", str(tmp_path / "data"), "--bind", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        said = ""
        while "aws iam list-roles" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        endpoint = re.search(r"Fedgate serves (http://\S+)", said)[1]
        key = re.search(r"AWS_ACCESS_KEY_ID=(\w+)", said)[1]
        secret = re.search(r"AWS_SECRET_ACCESS_KEY=(\S+)", said)[1]
        for name in (
            "alice",
            "frank",
            "wonderland-1865",
            "role/Administrator",
            f"{endpoint}/login",
            f"IAM user admin: {endpoint}/signin/demo",
        ):
            assert name in said
        sign_on = re.search(r'eval "\$\((.*)\)"', said)[1]
        printed = subprocess.run(
            ["sh", "-c", sign_on], env=environment(tmp_path), capture_output=True, text=True, timeout=HANG, check=True
        )
        assert "export AWS_SESSION_TOKEN=" in printed.stdout
        assert fetch(f"{endpoint}/readyz").status == 200
        client("iam", endpoint, Credentials(key, secret)).list_roles()
    finally:
        process.terminate()
        assert process.wait(HANG) == 0
        process.stdout.close()


def test_settings_of_another_installation_in_the_environment_do_not_reach_it(tmp_path: Path):
    """Its passwords are known to all: it serves where it was told to, and touches no other data."""
    strangers = {
        "FEDGATE_BIND": "0.0.0.0:0",
        "FEDGATE_DATABASE_URL": f"sqlite:///{tmp_path / 'other.db'}",
        "FEDGATE_AUDIT_DIR": str(tmp_path / "other-audit"),
        "FEDGATE_PUBLIC_URL": "https://other.example.com",
    }
    with running_demo(tmp_path / "demo", environ=strangers) as demo:
        assert demo.facts["endpoint"].startswith("http://127.0.0.1:")
    assert not (tmp_path / "other.db").exists()
    assert not (tmp_path / "other-audit").exists()
