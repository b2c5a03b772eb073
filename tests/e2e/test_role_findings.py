"""What is said of roles that name what does not exist: by the API, by check-config and by lint."""

import json
import subprocess

import pytest
from support.broker_process import ACCOUNT, FEDGATE, Broker, environment, group, role_arn
from support.servers import HANG

from broker.commands.role_checks import role_findings
from broker.config.settings import Settings


def trust(provider: str, *groups: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:{provider}"},
        "Action": "sts:AssumeRoleWithLDAPIdentity",
        "Condition": {"ForAnyValue:StringEquals": {"ldap:groups": list(groups)}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


MISSPELLED = "CN=Staff, OU=groups,DC=corp,DC=example"
ROLES = {
    "Crop": trust("ldap-provider/crop", group("staff")),
    "Spelled": trust("ldap-provider/corp", MISSPELLED),
    "Nobody": trust("ldap-provider/corp", group("nobody")),
    "NobodyElse": trust("ldap-provider/corp", group("staff"), group("nobody")),
    "Fine": trust("ldap-provider/corp", group("staff")),
}


@pytest.fixture
def told(served: Broker):
    """Make the roles, yield what the API told of each, and remove them."""
    iam = served.client("iam")
    answers = {name: iam.create_role(RoleName=name, AssumeRolePolicyDocument=text) for name, text in ROLES.items()}
    headers = {name: answer["ResponseMetadata"]["HTTPHeaders"] for name, answer in answers.items()}
    yield {name: header.get("x-fedgate-policy-findings", "") for name, header in headers.items()}
    for name in ROLES:
        iam.delete_role(RoleName=name)


def test_roles_that_nobody_can_have_are_told_when_they_are_made_and_by_check_config(served, told):
    assert told["Crop"] == "ERROR UNKNOWN_PROVIDER Statement[0].Principal"
    assert told["Spelled"].startswith("ERROR GROUP_NEVER_MATCHES Statement[0].Condition.")
    assert told["Fine"] == told["Nobody"] == ""

    found = "\n".join(served.fedgate("check-config")["findings"])
    assert f"{role_arn('Crop')}: nobody can assume it" in found
    assert f"{role_arn('Spelled')}: ERROR GROUP_NEVER_MATCHES" in found
    assert "write cn=Staff,ou=groups,dc=corp,dc=example." in found
    for name in ("Nobody", "NobodyElse"):
        assert f"{role_arn(name)}: the directory corp has no group {group('nobody')}" in found
    assert role_arn("Fine") not in found


@pytest.mark.usefixtures("told")
def test_an_update_tells_the_same_and_a_role_with_one_good_provider_too(served):
    iam = served.client("iam")
    two = json.loads(ROLES["Fine"])
    two["Statement"]["Principal"]["Federated"] = [
        f"arn:aws:iam::{ACCOUNT}:{name}" for name in ("ldap-provider/corp", "ldap-provider/crop", "saml-provider/None")
    ]
    answer = iam.update_assume_role_policy(RoleName="Fine", PolicyDocument=json.dumps(two))
    header = answer["ResponseMetadata"]["HTTPHeaders"]["x-fedgate-policy-findings"]
    assert header.count("UNKNOWN_PROVIDER") == 2
    found = [line for line in served.fedgate("check-config")["findings"] if line.startswith(f"{role_arn('Fine')}:")]
    assert sorted("crop" in line for line in found) == [False, True]


def test_lint_knows_the_directories_of_an_installation(served, tmp_path):
    file = tmp_path / "trust.json"
    file.write_text(ROLES["Crop"])
    environ = environment(tmp_path)
    command = [FEDGATE, "lint", str(file), "--json"]
    asked = [*command, "--config", str(served.config)]
    alone, here = (
        subprocess.run(line, cwd=tmp_path, env=environ, timeout=HANG, capture_output=True, text=True, check=False)
        for line in (command, asked)
    )
    assert (alone.returncode, json.loads(alone.stdout)) == (0, [])
    assert "ldap-provider/crop was not checked" in alone.stderr
    assert here.returncode == 1
    assert [one["code"] for one in json.loads(here.stdout)] == ["UNKNOWN_PROVIDER"]


def test_a_directory_that_does_not_answer_is_told_once(served, tmp_path):
    settings = served.config.read_text().replace(served.directory.url, "ldap://127.0.0.1:1")
    other = tmp_path / "fedgate.toml"
    other.write_text(settings)
    (tmp_path / "ldap-password").write_text("x")
    (tmp_path / "ldap-password").chmod(0o600)
    lines = role_findings(Settings.read(other, environment(tmp_path)))
    assert [line for line in lines if line.startswith("the groups of the directory corp were not checked")]
    assert not any("has no group" in line for line in lines)
