"""The unmodified AWS CLI, versions 1 and 2, as people use it: variables, profiles, roles and credential_process."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from support.broker_process import ACCOUNT, FEDGATE, PASSWORDS, PROGRAMS, Broker, environment, role_arn
from support.servers import HANG


@dataclass(frozen=True)
class Cli:
    """One AWS CLI with a home and an environment of its own."""

    program: str
    home: Path
    endpoint: str

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            **more,
        }
        command = [self.program, *arguments, "--output", "json"]
        environ = environment(self.home, **{name: value for name, value in environ.items() if value or "PAGER" in name})
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG, check=False)

    def json(self, *arguments: str, **more: str):
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    def config(self, text: str) -> None:
        folder = self.home / ".aws"
        folder.mkdir(exist_ok=True)
        (folder / "config").write_text(text)


@pytest.fixture(params=["v1", "v2"])
def cli(request, served: Broker, tmp_path: Path) -> Cli:
    """Each version in turn."""
    program = str(PROGRAMS / "aws") if request.param == "v1" else request.getfixturevalue("aws_cli_v2")
    return Cli(program, tmp_path, served.endpoint)


@pytest.fixture
def variables(served: Broker) -> Callable[[str, str], dict[str, str]]:
    """The variables of somebody who has signed in."""
    return lambda user, role: as_variables(served.credentials(user, role))


def as_variables(credentials: Credentials) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_SESSION_TOKEN": credentials.token or "",
    }


def test_the_credentials_of_a_sign_in_work_in_variables(cli, variables):
    environ = variables("bob", "Reader")
    who = cli.json("sts", "get-caller-identity", **environ)
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob"
    assert "Reader" in cli.json("iam", "list-roles", "--query", "Roles[].RoleName", **environ)
    denied = cli.run("iam", "create-user", "--user-name", "eve", **environ)
    assert denied.returncode not in (0, 1)
    assert (
        f"An error occurred (AccessDenied) when calling the CreateUser operation: User:"
        f" arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob is not authorized to perform: iam:CreateUser" in denied.stderr
    )
    assumed = cli.json(
        "sts", "assume-role", "--role-arn", role_arn("Chained"), "--role-session-name", "by-hand", **environ
    )
    assert assumed["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Chained/by-hand"


def test_an_administrator_makes_lists_and_removes_users(cli, variables):
    environ = variables("alice", "Administrator")
    names = [f"cli-{time.monotonic_ns()}-{number}" for number in range(2)]
    for name in names:
        made = cli.json(
            "iam", "create-user", "--user-name", name, "--path", "/cli/", "--tags", "Key=a,Value=b", **environ
        )
        assert made["User"]["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/cli/{name}"
    listed = cli.json("iam", "list-users", "--path-prefix", "/cli/", "--page-size", "1", **environ)
    assert [user["UserName"] for user in listed["Users"] if user["UserName"] in names] == names
    for name in names:
        cli.json("iam", "delete-user", "--user-name", name, **environ)
    gone = cli.run("iam", "get-user", "--user-name", names[0], **environ)
    assert "(NoSuchEntity)" in gone.stderr


def test_a_profile_signs_in_by_itself_and_assumes_a_role(cli, tmp_path):
    # The password comes from a file of the user's, as from a keyring; nothing of it is in the environment.
    script = tmp_path / "sign-in"
    script.write_text(
        "#!/bin/sh\n"
        f"FEDGATE_PASSWORD='{PASSWORDS['bob']}' exec '{FEDGATE}' login bob --endpoint '{cli.endpoint}'"
        f" --role '{role_arn('Reader')}' --format credential-process\n"
    )
    script.chmod(0o700)
    cli.config(
        f"[profile corp]\nregion = us-east-1\nendpoint_url = {cli.endpoint}\ncredential_process = {script}\n"
        f"[profile chained]\nregion = us-east-1\nendpoint_url = {cli.endpoint}\nsource_profile = corp\n"
        f"role_arn = {role_arn('Chained')}\nrole_session_name = from-profile\n"
    )
    bare = {"AWS_ENDPOINT_URL": "", "AWS_DEFAULT_REGION": ""}
    who = cli.json("sts", "get-caller-identity", "--profile", "corp", **bare)
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob"
    who = cli.json("sts", "get-caller-identity", "--profile", "chained", **bare)
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Chained/from-profile"


def test_the_lines_that_login_prints_work_in_a_shell(cli):
    script = (
        f"eval \"$('{FEDGATE}' login dave --endpoint '{cli.endpoint}')\""
        f" && '{cli.program}' sts get-caller-identity --query Arn --output text"
    )
    environ = environment(cli.home, FEDGATE_PASSWORD=PASSWORDS["dave"], AWS_EC2_METADATA_DISABLED="true", AWS_PAGER="")
    done = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.stdout == f"arn:aws:sts::{ACCOUNT}:assumed-role/Archive/dave\n", done.stderr


def test_login_says_what_is_wrong_and_prints_no_credentials(served, tmp_path):
    for user, password, said in (
        ("frank", PASSWORDS["frank"], "AccessDenied: Not authorized to perform sts:AssumeRoleWithLDAPIdentity\n"),
        ("frank", PASSWORDS["frank"], f"Sign in at {served.endpoint}/why, which shows for each role what it asks"),
        ("erin", "no-such-password", "IDPRejectedClaim: The identity provider did not accept"),
    ):
        command = [FEDGATE, "login", user, "--endpoint", served.endpoint]
        environ = environment(tmp_path, FEDGATE_PASSWORD=password)
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG, check=False)
        assert done.returncode == 1
        assert "ASIA" not in done.stdout
        assert said in done.stderr
        assert password not in done.stderr
        (reference,) = re.findall(r"^Reference: ([0-9a-f]{8})$", done.stderr, re.MULTILINE)
        records = served.run("audit", "tail", "-n", "50").stdout.splitlines()
        assert any(json.loads(record)["requestID"].startswith(reference) for record in records)


def login(served, home, role, *more):
    command = [FEDGATE, "login", "bob", "--endpoint", served.endpoint, "--role", role, "--format", "json", *more]
    environ = environment(home, FEDGATE_PASSWORD=PASSWORDS["bob"])
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG, check=False)


def test_a_role_is_named_without_its_account(served, tmp_path):
    got = json.loads(login(served, tmp_path, "Reader", "--read-only").stdout)["credentials"]
    keys = Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])
    who = served.client("sts", keys).get_caller_identity()
    assert who["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob"
    assert served.client("iam", keys).list_roles()["Roles"]
    # Narrowed to what ReadOnlyAccess allows as well.
    with pytest.raises(ClientError, match="AccessDenied"):
        served.client("sts", keys).assume_role(RoleArn=role_arn("Chained"), RoleSessionName="chained")


def test_a_name_of_no_role_of_the_person_is_answered_with_those_that_are(served, tmp_path):
    for name in ("Administrator", "No/such role"):
        refused = login(served, tmp_path, name)
        assert refused.returncode == 1
        assert f"no role of the name {name} trusts this identity, but these do: " in refused.stderr
        assert role_arn("Reader") in refused.stderr
        assert "validation error" not in refused.stderr


def test_a_key_that_was_revoked_is_told_apart_from_a_denied_call(served, cli):
    credentials = served.credentials("erin", "Reader")
    session = served.session(credentials)
    served.fedgate("sessions", "revoke", session["id"])
    time.sleep(1)
    done = cli.run("sts", "get-caller-identity", **as_variables(credentials))
    assert "(InvalidClientTokenId)" in done.stderr
    assert "The security token included in the request is invalid." in done.stderr
