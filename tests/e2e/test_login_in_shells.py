"""A sign-in in a real shell: what fails there leaves nothing that lets the next command reach Amazon."""

import shlex
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker_process import ACCOUNT, FEDGATE, PASSWORDS, PROGRAMS, environment
from support.servers import HANG

AWS = str(PROGRAMS / "aws")
# How each shell takes the output of a command, and how it says what the last command returned.
SHELLS = {
    "sh": ("env", 'eval "$({})"', "echo status=$?"),
    "bash": ("env", 'eval "$({})"', "echo status=$?"),
    "zsh": ("env", 'eval "$({})"', "echo status=$?"),
    "fish": ("fish", "{} | source", "echo status=$status"),
}
# Credentials that were there before, in the environment and in the files of a person who uses Amazon too.
EARLIER = {
    "AWS_ACCESS_KEY_ID": "AKIAEARLIERVARIABLES",
    "AWS_SECRET_ACCESS_KEY": "earlier-secret",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
}
PROFILE = "[default]\naws_access_key_id = AKIAEARLIERPROFILE00\naws_secret_access_key = earlier-secret\n"


class Amazon:
    """A proxy in the place of the network: it notes who is called, and connects nobody."""

    def __init__(self) -> None:
        """Listen, and note nothing yet."""
        called = self.called = list[str]()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                called.append(self.rfile.readline().decode())
                self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def amazon() -> Iterator[Amazon]:
    """All that leaves this machine goes there."""
    made = Amazon()
    with made.server:
        thread = threading.Thread(target=made.server.serve_forever, daemon=True)
        thread.start()
        yield made
        made.server.shutdown()


@pytest.fixture
def person(tmp_path: Path, amazon: Amazon) -> dict[str, str]:
    """The environment of a person with credentials of Amazon."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(PROFILE)
    network = {"HTTPS_PROXY": amazon.address, "NO_PROXY": "127.0.0.1", "AWS_MAX_ATTEMPTS": "1"}
    network |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": ""}
    return environment(tmp_path, **EARLIER, **network)


def run(shell: str, lines: list[str], environ: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    command = [shell, "-c", "\n".join(lines)]
    return subprocess.run(
        command, env=environ | more, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG, check=False
    )


def signing_in(shell: str, *arguments: str) -> str:
    form, taking, _ = SHELLS[shell]
    return taking.format(shlex.join([FEDGATE, "login", *arguments, "--format", form]))


@pytest.mark.parametrize("shell", SHELLS)
def test_after_a_failed_sign_in_no_command_reaches_amazon(served, amazon, person, shell):
    said = [signing_in(shell, "carol", "--endpoint", served.endpoint), SHELLS[shell][2]]
    commands = [f"{AWS} iam list-users", f"{AWS} sts get-caller-identity", f"{AWS} s3 ls", "env"]
    done = run(shell, said + commands, person, FEDGATE_PASSWORD="wrong")
    assert done.stdout.startswith("status=1\n"), done
    assert amazon.called == []
    assert "EARLIER" not in done.stdout
    assert f"AWS_ENDPOINT_URL_IAM={served.endpoint}\n" in done.stdout


def test_without_a_sign_in_the_same_commands_do_reach_amazon(amazon, person):
    run("sh", [f"{AWS} iam list-users"], person)
    assert [line.split()[1] for line in amazon.called] == ["iam.amazonaws.com:443"]


@pytest.mark.parametrize(
    "arguments",
    [("x", "--endpoint", "http://127.0.0.1:1"), ("x", "--no-such-option"), ("x", "--endpoint", "http://a.example"), ()],
)
def test_whatever_fails_makes_the_shell_fail(tmp_path, arguments):
    environ = environment(tmp_path, **EARLIER, FEDGATE_PASSWORD="x")
    done = run("sh", [signing_in("sh", *arguments), "echo status=$?", "env"], environ)
    assert done.stdout.startswith("status=1\n"), done
    assert "EARLIER" not in done.stdout
    assert "AWS_ENDPOINT_URL_STS=http" in done.stdout


def test_a_script_that_ends_at_a_failure_ends_there(tmp_path):
    environ = environment(tmp_path, FEDGATE_PASSWORD="x")
    done = run("bash", ["set -e", signing_in("bash", "x", "--endpoint", "http://127.0.0.1:1"), "echo on"], environ)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_after_a_sign_in_the_commands_reach_this_service_alone(served, amazon, person, shell):
    lines = [
        signing_in(shell, "dave", "--endpoint", served.endpoint),
        SHELLS[shell][2],
        f"{AWS} sts get-caller-identity --query Arn --output text",
    ]
    done = run(shell, lines, person, FEDGATE_PASSWORD=PASSWORDS["dave"])
    assert done.stdout == f"status=0\narn:aws:sts::{ACCOUNT}:assumed-role/Archive/dave\n", done.stderr
    assert amazon.called == []


def test_one_line_directs_a_shell_to_the_service(served, amazon, person):
    root = served.root
    lines = [
        f'eval "$({FEDGATE} env --config {shlex.quote(str(served.config))} --endpoint {served.endpoint})"',
        f"export AWS_ACCESS_KEY_ID={root.access_key} AWS_SECRET_ACCESS_KEY={root.secret_key}",
        f"{AWS} sts get-caller-identity --query Arn --output text",
        'echo "$FEDGATE_ENDPOINT"',
    ]
    done = run("sh", lines, person)
    assert done.stdout == f"arn:aws:iam::{ACCOUNT}:root\n{served.endpoint}\n", done.stderr
    assert amazon.called == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_profile_sends_sts_and_iam_here_and_s3_where_it_was(request, served, amazon, person, tmp_path, version):
    aws = AWS if version == "v1" else request.getfixturevalue("aws_cli_v2")
    command = [FEDGATE, "login", "bob", "--endpoint", served.endpoint, "--format", "profile", "--profile", "a b"]
    command += ["--role", f"arn:aws:iam::{ACCOUNT}:role/Reader"]
    environ = {name: value for name, value in person.items() if name not in EARLIER}
    environ |= {"FEDGATE_PASSWORD": PASSWORDS["bob"], "AWS_PROFILE": "a b"}
    section = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=HANG, check=True).stdout
    (tmp_path / ".aws" / "config").write_text(section)
    who = run("sh", [f"{aws} sts get-caller-identity --query Arn --output text", f"{aws} iam list-roles"], environ)
    assert who.stdout.startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/Reader/bob\n"), who.stderr
    assert '"Roles"' in who.stdout
    assert amazon.called == []
    run("sh", [f"{aws} s3 ls"], environ)
    (called,) = amazon.called
    assert called.split()[1].startswith("s3.")
    assert called.split()[1].endswith("amazonaws.com:443")
