"""The how-to guides that begin in an empty folder, command by command, over a real OpenLDAP server."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.broker_process import PASSWORDS, PROGRAMS, environment
from support.servers import HANG, free_port

from broker.demo.people import BASE

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"Write\s`([a-z.]+)`:\s*$")
# Installing takes minutes and the network, and the tests run what is installed.
SKIPPED = re.compile(r"^(python3 -m venv|venv/bin/pip).*\n", re.MULTILINE)
# A reader has noted the key that was shown once.
NOTED = "ROOT_KEY=$AWS_ACCESS_KEY_ID ROOT_SECRET=$AWS_SECRET_ACCESS_KEY\n"


def steps(page: str) -> Iterator[str]:
    """Yield what a reader types: the files that the page has them write, and the commands."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        file = FILE.search(text[: block.start()])
        if file:
            yield f"cat > {file[1]} <<'END'\n{block[2]}END\n"
        elif block[1] == "sh":
            yield SKIPPED.sub("", block[2])


def test_from_an_empty_folder_to_roles_that_trust_groups(slapd, tmp_path):
    port = free_port()
    script = "\n".join([*steps("connect-openldap.md"), *steps("trust-a-directory-group.md")])
    assert script.count("aws iam create-role") == 2
    here = {
        "dc=example,dc=com": BASE,
        "127.0.0.1:8080": f"127.0.0.1:{port}",
        "'PASSWORD'": f"'{slapd.bind_password}'",
        '--alias acme --env)"\n': f'--alias acme --env)"\n{NOTED}',
        "AKIA... AWS_SECRET_ACCESS_KEY=...": '"$ROOT_KEY" AWS_SECRET_ACCESS_KEY="$ROOT_SECRET"',
    }
    for documented, instead in here.items():
        assert documented in script
        script = script.replace(documented, instead)
    script = re.sub(r"^urls = .*$", f'urls = ["{slapd.url}"]', script, flags=re.MULTILINE)
    script = re.sub(r"^ca_file = .*\n", "", script, flags=re.MULTILINE)
    environ = environment(
        tmp_path,
        FEDGATE_PASSWORD=PASSWORDS["alice"],
        FEDGATE_BIND=f"127.0.0.1:{port}",
        AWS_EC2_METADATA_DISABLED="true",
    )
    environ["PATH"] = f"{PROGRAMS}{os.pathsep}{environ['PATH']}"
    command = ["bash", "-e", "-c", f"trap 'kill $(jobs -p)' EXIT\n{script}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=2 * HANG, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r'"directory corp": ?"ok"', done.stdout)
    assert "assumed-role/Engineer/alice" in done.stdout
    assert "assumed-role/Developer/alice" in done.stdout
